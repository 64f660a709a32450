//! A question for SRV records and the answer to it, in the DNS's own form (RFC 1035, RFC 2782).
//!
//! Must not know whom the question goes to. What an answer says is not trusted: it is read, or refused, in bounded time.

use std::fmt;

const CLASS_INTERNET: u16 = 1;
const TYPE_SRV: u16 = 33;
const HEADER_BYTES: usize = 12;
const LABEL_BYTES_MAX: usize = 63;
const NAME_BYTES_MAX: usize = 255;
/// A name may refer to another place of the answer. Who refers more often than this goes round in circles.
const JUMPS_MAX: usize = 16;

/// Where a service listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Service {
    /// The lower, the more important.
    pub priority: u16,
    pub weight: u16,
    pub port: u16,
    /// A host, with the dot at its end.
    pub target: String,
}

/// What a resolver says.
#[derive(Debug, Eq, PartialEq)]
pub enum Answer {
    Services(Vec<Service>),
    /// There is more than fits; it is to be asked for over TCP.
    Truncated,
}

/// Why an answer is none.
#[derive(Debug, Eq, PartialEq)]
pub enum BadAnswer {
    NoSuchHost,
    /// The resolver says that it cannot.
    Refused,
    /// It cannot be read, or is to another question.
    Malformed,
}

impl fmt::Display for BadAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchHost => "no such host",
            Self::Refused => "server misbehaving",
            Self::Malformed => "cannot unmarshal DNS message",
        })
    }
}

/// The question, which the resolver is to answer by asking others. `None` if the name is none of the DNS.
pub fn question(id: u16, name: &str) -> Option<Vec<u8>> {
    let mut question = Vec::with_capacity(HEADER_BYTES + name.len() + 6);
    // A plain question, recursion desired, and one of it.
    for field in [id, 0x0100, 1, 0, 0, 0] {
        question.extend(field.to_be_bytes());
    }
    for label in name.strip_suffix('.').unwrap_or(name).split('.') {
        if label.is_empty() || label.len() > LABEL_BYTES_MAX {
            return None;
        }
        question.push(label.len() as u8);
        question.extend(label.as_bytes());
    }
    question.push(0);
    if question.len() - HEADER_BYTES > NAME_BYTES_MAX {
        return None;
    }
    question.extend(TYPE_SRV.to_be_bytes());
    question.extend(CLASS_INTERNET.to_be_bytes());
    Some(question)
}

/// Reads what came for the question of this id.
///
/// # Errors
/// [`BadAnswer`].
pub fn answer(message: &[u8], id: u16) -> Result<Answer, BadAnswer> {
    let mut reader = Reader { message, at: 0 };
    let (answered, flags) = (reader.number()?, reader.number()?);
    let (questions, answers) = (reader.number()?, reader.number()?);
    reader.skip(4)?;
    if answered != id || flags & 0x8000 == 0 {
        return Err(BadAnswer::Malformed);
    }
    match flags & 0xf {
        0 => {}
        3 => return Err(BadAnswer::NoSuchHost),
        _ => return Err(BadAnswer::Refused),
    }
    if flags & 0x0200 != 0 {
        return Ok(Answer::Truncated);
    }
    for _ in 0..questions {
        reader.name()?;
        reader.skip(4)?;
    }
    let mut services = Vec::new();
    for _ in 0..answers {
        reader.name()?;
        let (kind, class) = (reader.number()?, reader.number()?);
        // How long it may be kept: it is used at once.
        reader.skip(4)?;
        let length = reader.number()?.into();
        let end = reader.at.checked_add(length).filter(|end| *end <= message.len()).ok_or(BadAnswer::Malformed)?;
        if (kind, class) == (TYPE_SRV, CLASS_INTERNET) {
            let (priority, weight, port) = (reader.number()?, reader.number()?, reader.number()?);
            services.push(Service { priority, weight, port, target: reader.name()? });
        }
        // Other records lead to the ones that were asked for.
        reader.at = end;
    }
    if services.is_empty() { Err(BadAnswer::NoSuchHost) } else { Ok(Answer::Services(services)) }
}

/// A place in a message.
struct Reader<'m> {
    message: &'m [u8],
    at: usize,
}

impl Reader<'_> {
    fn number(&mut self) -> Result<u16, BadAnswer> {
        let [high, low] =
            self.message.get(self.at..).and_then(|rest| rest.first_chunk()).ok_or(BadAnswer::Malformed)?;
        self.at += 2;
        Ok(u16::from_be_bytes([*high, *low]))
    }

    fn skip(&mut self, bytes: usize) -> Result<(), BadAnswer> {
        self.at += bytes;
        if self.at > self.message.len() { Err(BadAnswer::Malformed) } else { Ok(()) }
    }

    /// Labels up to the root, or up to a reference to more of them elsewhere.
    fn name(&mut self) -> Result<String, BadAnswer> {
        let mut name = String::new();
        let (mut at, mut jumps, mut behind) = (self.at, 0, None);
        loop {
            let length = usize::from(*self.message.get(at).ok_or(BadAnswer::Malformed)?);
            match length {
                0 => {
                    self.at = behind.unwrap_or(at + 1);
                    return Ok(if name.is_empty() { ".".to_owned() } else { name });
                }
                1..=LABEL_BYTES_MAX => {
                    let label = self.message.get(at + 1..at + 1 + length).ok_or(BadAnswer::Malformed)?;
                    // A host that cannot be written in an address is none.
                    let label = std::str::from_utf8(label).map_err(|_| BadAnswer::Malformed)?;
                    name.push_str(label);
                    name.push('.');
                    at += 1 + length;
                }
                0xc0.. => {
                    let low = usize::from(*self.message.get(at + 1).ok_or(BadAnswer::Malformed)?);
                    behind.get_or_insert(at + 2);
                    at = (length & 0x3f) << 8 | low;
                    jumps += 1;
                }
                _ => return Err(BadAnswer::Malformed),
            }
            if jumps > JUMPS_MAX || name.len() > NAME_BYTES_MAX {
                return Err(BadAnswer::Malformed);
            }
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A record of an answer that is made up.
    #[derive(Clone)]
    pub struct Record {
        kind: u16,
        data: Vec<u8>,
    }

    impl Record {
        /// Where a service listens.
        pub fn srv(priority: u16, weight: u16, port: u16, target: &str) -> Record {
            let mut data: Vec<u8> = [priority, weight, port].iter().flat_map(|number| number.to_be_bytes()).collect();
            for label in target.split_terminator('.') {
                data.push(label.len() as u8);
                data.extend(label.bytes());
            }
            data.push(0);
            Record { kind: TYPE_SRV, data }
        }
    }

    /// The answer to a question.
    pub fn reply(question: &[u8], code: u8, truncated: bool, records: &[Record]) -> Vec<u8> {
        let mut reply = question.to_vec();
        reply[2..4].copy_from_slice(&(0x8180 | u16::from(truncated) << 9 | u16::from(code)).to_be_bytes());
        reply[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
        for Record { kind, data } in records {
            // The name is the question's.
            reply.extend([0xc0, 12]);
            reply
                .extend([*kind, CLASS_INTERNET, 0, 60, data.len() as u16].iter().flat_map(|field| field.to_be_bytes()));
            reply.extend(data);
        }
        reply
    }

    #[test]
    fn a_question_is_written_as_the_standard_has_it() {
        let asked = question(0x1234, "_a._tcp.x").unwrap();
        assert_eq!(asked, b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x02_a\x04_tcp\x01x\0\0\x21\0\x01");
        assert_eq!(question(1, "a.").unwrap(), question(1, "a").unwrap());
        for no_name in ["", "a..b", &"x".repeat(64), &"ab.".repeat(90)] {
            assert_eq!(question(1, no_name), None, "{no_name}");
        }
    }

    #[test]
    fn an_answer_is_read_past_what_was_not_asked_for() {
        let asked = question(7, "_a._tcp.x").unwrap();
        let alias = Record { kind: 5, data: b"\x01y\0".to_vec() };
        let records = [alias, Record::srv(1, 2, 3, "n1.x.")];
        let found = Service { priority: 1, weight: 2, port: 3, target: "n1.x.".to_owned() };
        assert_eq!(answer(&reply(&asked, 0, false, &records), 7), Ok(Answer::Services(vec![found])));
        assert_eq!(answer(&reply(&asked, 0, true, &[]), 7), Ok(Answer::Truncated));
        for (message, id, bad) in [
            (reply(&asked, 0, false, &records), 8, BadAnswer::Malformed),
            (asked.clone(), 7, BadAnswer::Malformed),
            (reply(&asked, 3, false, &[]), 7, BadAnswer::NoSuchHost),
            (reply(&asked, 0, false, &records[..1]), 7, BadAnswer::NoSuchHost),
            (reply(&asked, 2, false, &[]), 7, BadAnswer::Refused),
        ] {
            assert_eq!(answer(&message, id), Err(bad));
        }
    }

    #[test]
    fn whatever_comes_is_refused_or_read() {
        let asked = question(7, "_a._tcp.x").unwrap();
        let whole = reply(&asked, 0, false, &[Record::srv(1, 2, 3, "n1.x."), Record::srv(1, 2, 4, "n2.x.")]);
        for bytes in 0..whole.len() {
            assert!(answer(&whole[..bytes], 7).is_err(), "{bytes} bytes");
            for value in [0, 1, 0x3f, 0x40, 0xc0, 0xff] {
                let mut damaged = whole.clone();
                damaged[bytes] = value;
                let _ = answer(&damaged, 7);
            }
        }
        // A name that refers to itself.
        let mut circle = whole.clone();
        circle[12..14].copy_from_slice(&[0xc0, 12]);
        assert_eq!(answer(&circle, 7), Err(BadAnswer::Malformed));
    }
}
