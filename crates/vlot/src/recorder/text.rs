//! A dump as text: one event a line, to be read by people and by `vlot explain`.
//!
//! Owns the layout, to the byte, and what is refused:
//!
//! ```text
//! vlot-flight 1
//! # anything
//! node id=HEX cluster=HEX boot=HEX label="TEXT"
//! dumped at=SECONDS wall=UNIX-SECONDS why=WORD dropped=N
//! SEQUENCE SECONDS UNIX-SECONDS GROUP|- WORD KEY=VALUE...
//! end events=N
//! ```
//!
//! A kind that another version has written is kept as it stands; anything else that is not as it should be makes the dump a
//! broken one. Without its last line a dump is cut short. Must not know what the kinds mean.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use vlot_raft::id::{GroupId, NodeId};

use super::event::{FlightEvent, Kind, Value};

/// The first word of a dump, and the version of its layout.
const MAGIC: &str = "vlot-flight";
const VERSION: u64 = 1;

/// What explains the format in the file itself.
const PREFACE: &str = "\
# The flight record of one process of a Vlot node, the oldest event first. `vlot explain` reads those of all nodes.
# A line: SEQUENCE, SECONDS since the process began, SECONDS of the wall's clock since 1970 (UTC), GROUP or -, WORD, KEY=VALUE...
# Nodes and disks are hexadecimal; an entry of a log is INDEX@TERM.
";

/// What a node had on record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Dump {
    /// Which process of which node.
    pub origin: Origin,
    /// Why it was written.
    pub why: Why,
    /// When, since the start of the process.
    pub at: Duration,
    /// When, by the clock on the wall, since the beginning of 1970 in UTC.
    pub wall: Duration,
    /// How many events were forgotten before: there were too many, or they were too old.
    pub dropped: u64,
    /// The events, the oldest first.
    pub events: Vec<FlightEvent>,
}

/// Which process of which node has written a dump.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Origin {
    /// The node.
    pub node: NodeId,
    /// The cluster that it belongs to.
    pub cluster: u64,
    /// A number that no other process of the node has.
    pub boot: u64,
    /// What the node is called; empty if it is not.
    pub label: String,
}

/// Why a dump was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Why {
    /// A group has another leader.
    LeaderChange,
    /// A state machine has stopped.
    Fenced,
    /// The node ends.
    Ended,
    /// A program has asked for it.
    Asked,
}

impl Why {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::LeaderChange => "leader-change",
            Self::Fenced => "fenced",
            Self::Ended => "ended",
            Self::Asked => "asked",
        }
    }
}

impl Value for Why {
    fn written(&self) -> String {
        self.word().to_owned()
    }

    fn read(written: &str) -> Option<Self> {
        [Self::LeaderChange, Self::Fenced, Self::Ended, Self::Asked].into_iter().find(|why| why.word() == written)
    }
}

/// Why a text is no dump.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BadDump {
    /// It does not begin as a dump does.
    NotADump,
    /// Its layout is that of another version.
    OtherVersion {
        /// The version, as it says.
        version: String,
    },
    /// It ends too early: the process, or its disk, had no time to write the rest.
    CutShort {
        /// How many lines there are.
        lines: usize,
    },
    /// A line is not as it should be.
    Line {
        /// Its number, from 1.
        number: usize,
        /// What is wrong with it.
        why: BadLine,
    },
}

/// What is wrong with a line of a dump.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BadLine {
    /// Something is missing.
    Missing(&'static str),
    /// Something cannot be read as what it should be.
    Malformed(&'static str),
    /// There is something that does not belong there.
    Unexpected(String),
    /// An event is not later than the one before it.
    OutOfOrder,
}

impl Dump {
    /// As text.
    #[must_use]
    pub fn encode(&self) -> String {
        let Self { origin: Origin { node, cluster, boot, label }, why, at, wall, dropped, events } = self;
        let mut lines = format!("{MAGIC} {VERSION}\n{PREFACE}");
        let node = [("id", node.written()), ("cluster", cluster.written()), ("boot", boot.written())];
        let node = Vec::from_iter(node.into_iter().chain([("label", label.clone())]));
        put_line(&mut lines, "node", &node);
        let dumped = [("at", at.written()), ("wall", wall.written()), ("why", why.written())];
        put_line(&mut lines, "dumped", &Vec::from_iter(dumped.into_iter().chain([("dropped", dropped.to_string())])));
        for FlightEvent { sequence, at, wall, group, kind } in events {
            let group = group.map_or_else(|| "-".to_owned(), |group| group.to_string());
            lines.push_str(&format!("{sequence} {} {} {group} ", at.written(), wall.written()));
            match kind {
                Kind::Unknown { word, rest } => {
                    lines.push_str(word);
                    lines.extend((!rest.is_empty()).then_some(" "));
                    lines.push_str(rest);
                    lines.push('\n');
                }
                kind => {
                    let (word, fields) = kind.written();
                    put_line(&mut lines, word, &fields);
                }
            }
        }
        put_line(&mut lines, "end", &[("events", events.len().to_string())]);
        lines
    }

    /// Reads a text that [`Dump::encode`] has made.
    ///
    /// # Errors
    /// See [`BadDump`]. No part of a broken dump is given back.
    pub fn decode(text: &str) -> Result<Self, BadDump> {
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#'));
        let (_, first) = lines.next().ok_or(BadDump::NotADump)?;
        let version = first.strip_prefix(MAGIC).and_then(|rest| rest.strip_prefix(' ')).ok_or(BadDump::NotADump)?;
        if version != VERSION.to_string() {
            return Err(BadDump::OtherVersion { version: version.to_owned() });
        }
        let cut_short = || BadDump::CutShort { lines: text.lines().count() };
        let mut next = || lines.next().ok_or_else(cut_short);
        let at_line = |number: usize| move |why| BadDump::Line { number: number + 1, why };

        let (number, line) = next()?;
        let origin = read_origin(line).map_err(at_line(number))?;
        let (number, line) = next()?;
        let mut dump = read_dumped(origin, line).map_err(at_line(number))?;
        loop {
            let (number, line) = next()?;
            if line.starts_with("end ") {
                dump.check_end(line).map_err(at_line(number))?;
                break;
            }
            let event = read_event(line).map_err(at_line(number))?;
            if dump.events.last().is_some_and(|last| last.sequence >= event.sequence || last.at > event.at) {
                return Err(at_line(number)(BadLine::OutOfOrder));
            }
            dump.events.push(event);
        }
        // The last line is whole only with its end.
        if !text.ends_with('\n') {
            return Err(cut_short());
        }
        match lines.next() {
            Some((number, line)) => Err(at_line(number)(BadLine::Unexpected(line.to_owned()))),
            None => Ok(dump),
        }
    }

    fn check_end(&self, line: &str) -> Result<(), BadLine> {
        let mut fields = fields_of("end", line)?;
        let events: Decimal = fields.take("events")?;
        fields.end()?;
        if events.0 == self.events.len() as u64 { Ok(()) } else { Err(BadLine::Missing("events")) }
    }
}

fn read_origin(line: &str) -> Result<Origin, BadLine> {
    let mut fields = fields_of("node", line)?;
    let (node, cluster) = (fields.take("id")?, fields.take("cluster")?);
    let origin = Origin { node, cluster, boot: fields.take("boot")?, label: fields.take("label")? };
    fields.end()?;
    Ok(origin)
}

fn read_dumped(origin: Origin, line: &str) -> Result<Dump, BadLine> {
    let mut fields = fields_of("dumped", line)?;
    let (at, wall, why) = (fields.take("at")?, fields.take("wall")?, fields.take("why")?);
    let Decimal(dropped) = fields.take("dropped")?;
    fields.end()?;
    Ok(Dump { origin, why, at, wall, dropped, events: Vec::new() })
}

fn read_event(line: &str) -> Result<FlightEvent, BadLine> {
    let mut parts = line.splitn(6, ' ');
    let mut part = |what| parts.next().filter(|part| !part.is_empty()).ok_or(BadLine::Missing(what));
    let (sequence, at, wall) = (part("sequence")?, part("seconds")?, part("unix seconds")?);
    let (group, word) = (part("group")?, part("word")?);
    let rest = parts.next().unwrap_or("");
    let Decimal(sequence) = value("sequence", sequence)?;
    let group = match group {
        "-" => None,
        group => Some(GroupId(value::<Decimal>("group", group)?.0)),
    };
    let (at, wall) = (value("seconds", at)?, value("unix seconds", wall)?);
    Ok(FlightEvent { sequence, at, wall, group, kind: Kind::read(word, rest)? })
}

fn value<T: Value>(what: &'static str, written: &str) -> Result<T, BadLine> {
    T::read(written).ok_or(BadLine::Malformed(what))
}

/// A number as people write it.
struct Decimal(u64);

impl Value for Decimal {
    fn written(&self) -> String {
        self.0.to_string()
    }

    fn read(written: &str) -> Option<Self> {
        written.parse().ok().map(Self)
    }
}

fn put_line(lines: &mut String, word: &str, fields: &[(&'static str, String)]) {
    lines.push_str(word);
    for (key, value) in fields {
        let is_plain = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
        let value = if is_plain { value.clone() } else { format!("\"{}\"", value.escape_default()) };
        lines.push_str(&format!(" {key}={value}"));
    }
    lines.push('\n');
}

fn fields_of(word: &'static str, line: &str) -> Result<Fields, BadLine> {
    let rest = line.strip_prefix(word).ok_or(BadLine::Missing(word))?;
    Fields::read(rest.strip_prefix(' ').unwrap_or(rest))
}

/// What a line tells by keys, in their order.
pub(super) struct Fields(VecDeque<(String, String)>);

impl Fields {
    pub(super) fn read(text: &str) -> Result<Self, BadLine> {
        let mut fields = VecDeque::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (key, value) = rest.split_once('=').ok_or_else(|| BadLine::Unexpected(rest.to_owned()))?;
            let (value, behind) = match value.strip_prefix('"') {
                Some(quoted) => unquoted(quoted)?,
                None => {
                    let (value, behind) = value.split_at(value.find(' ').unwrap_or(value.len()));
                    (value.to_owned(), behind)
                }
            };
            fields.push_back((key.to_owned(), value));
            rest = match behind.strip_prefix(' ') {
                Some("") => return Err(BadLine::Unexpected(" ".to_owned())),
                Some(behind) => behind,
                None if behind.is_empty() => behind,
                None => return Err(BadLine::Unexpected(behind.to_owned())),
            };
        }
        Ok(Self(fields))
    }

    /// The value of the next key, which must be this one.
    pub(super) fn take<T: Value>(&mut self, key: &'static str) -> Result<T, BadLine> {
        match self.0.pop_front() {
            Some((found, written)) if found == key => value(key, &written),
            _ => Err(BadLine::Missing(key)),
        }
    }

    pub(super) fn end(&mut self) -> Result<(), BadLine> {
        self.0.pop_front().map_or(Ok(()), |(key, _)| Err(BadLine::Unexpected(key)))
    }
}

/// A quoted text without its escapes, up to the quote, and what comes behind it.
fn unquoted(text: &str) -> Result<(String, &str), BadLine> {
    const MALFORMED: BadLine = BadLine::Malformed("quoted text");
    let mut plain = String::new();
    let mut rest = text.chars();
    loop {
        match rest.next().ok_or(MALFORMED)? {
            '"' => return Ok((plain, rest.as_str())),
            '\\' => plain.push(match rest.next().ok_or(MALFORMED)? {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => {
                    let code =
                        rest.as_str().strip_prefix('{').and_then(|code| code.split_once('}')).ok_or(MALFORMED)?;
                    rest = code.1.chars();
                    u32::from_str_radix(code.0, 16).ok().and_then(char::from_u32).ok_or(MALFORMED)?
                }
                mark @ ('"' | '\'' | '\\') => mark,
                _ => return Err(MALFORMED),
            }),
            plain_one => plain.push(plain_one),
        }
    }
}

impl fmt::Display for BadDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotADump => write!(f, "no flight record: it does not begin with '{MAGIC}'"),
            Self::OtherVersion { version } => {
                write!(f, "a flight record of version {version}; this program reads version {VERSION}")
            }
            Self::CutShort { lines } => {
                write!(f, "the flight record is cut short after line {lines}: its last line, 'end', is missing")
            }
            Self::Line { number, why } => write!(f, "the flight record is broken at line {number}: {why}"),
        }
    }
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(what) => write!(f, "'{what}' is missing"),
            Self::Malformed(what) => write!(f, "'{what}' cannot be read"),
            Self::Unexpected(what) => write!(f, "'{}' does not belong there", what.escape_default()),
            Self::OutOfOrder => f.write_str("it is not later than the line before"),
        }
    }
}

impl std::error::Error for BadDump {}

#[cfg(test)]
mod tests {
    use super::*;
    use vlot_raft::effect::RoleName;
    use vlot_raft::election::{Cause, LeftOffice, Loss, Poll, TransferCause, Unfit, VoteRefused};
    use vlot_raft::id::{LogId, LogIndex, Term};

    /// One of each kind.
    fn kinds() -> Vec<Kind> {
        let (peer, at, of) = (NodeId(0x8e9e_05c5), LogIndex(7), LogId::new(3, 12));
        let (silence, term) = (Duration::from_micros(1_234_567), Term(4));
        let why = "it said \"no\"\nand \\ ü = {stop}".to_owned();
        let refusals = [
            None,
            Some(VoteRefused::Leads),
            Some(VoteRefused::StaleTerm { term }),
            Some(VoteRefused::LeaderInOffice { leader: None }),
            Some(VoteRefused::LeaderInOffice { leader: Some(peer) }),
            Some(VoteRefused::Voted { candidate: peer }),
            Some(VoteRefused::LaterLog { own: of, theirs: LogId::ZERO }),
        ];
        let was_asked = |refused| Kind::WasAsked { poll: Poll::PreVote, candidate: peer, term, refused };
        let mut kinds: Vec<Kind> = refusals.into_iter().map(was_asked).collect();
        kinds.extend([
            Kind::Start { version: "0.1.0".into(), heartbeat: silence, election_timeout: silence },
            Kind::Stop { why: why.clone() },
            Kind::Opened {},
            Kind::Closed {},
            Kind::Became { term, role: RoleName::PreCandidate, leader: None },
            Kind::Became { term, role: RoleName::Leader, leader: Some(peer) },
            Kind::Asks { poll: Poll::Vote, cause: Cause::LostLeader, silence },
            Kind::Answered { poll: Poll::Vote, voter: peer, granted: true },
            Kind::LeaderLost { leader: peer, how: Loss::Silence },
            Kind::LaterTerm { term, from: peer },
            Kind::LeftOffice { why: LeftOffice::NoQuorum },
            Kind::LeftOffice { why: LeftOffice::Unfit(Unfit::DiskStalled) },
            Kind::Transfers { to: peer, why: TransferCause::Unfit(Unfit::StateMachine) },
            Kind::TransferAborted { to: peer },
            Kind::ConfigurationChanged { at },
            Kind::ConfigurationCommitted { at },
            Kind::Members { all: "1:voter@a:1 2:learner@b:2".into() },
            Kind::Removed { at },
            Kind::PeerNeedsSnapshot { peer },
            Kind::SnapshotSent { to: peer, of },
            Kind::SnapshotNotSent { to: peer, why: String::new() },
            Kind::SnapshotNotReceived { from: peer, why: why.clone() },
            Kind::SnapshotRestored { of },
            Kind::SnapshotNotSaved { why: why.clone() },
            Kind::DiskStalled {},
            Kind::DiskRecovered {},
            Kind::DiskFull {},
            Kind::DiskHasRoom {},
            Kind::Mended {},
            Kind::HeardLate { silence },
            Kind::Fenced { why },
            Kind::Connected { peer, disk: u64::MAX },
            Kind::Lost { peer },
            Kind::LateTurn { late: silence },
        ]);
        kinds
    }

    fn dump() -> Dump {
        let event = |(n, kind)| FlightEvent {
            sequence: 10 + n,
            at: Duration::from_micros(1000 * n),
            wall: Duration::from_micros(1_796_033_533_000_000 + n),
            group: (n % 2 == 0).then_some(GroupId(n)),
            kind,
        };
        Dump {
            origin: Origin { node: NodeId(2), cluster: 1, boot: 0xfeed, label: "n 2".into() },
            why: Why::LeaderChange,
            at: Duration::from_secs(5),
            wall: Duration::from_secs(1_796_033_540),
            dropped: 9,
            events: (0..).zip(kinds()).map(event).collect(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let dump = dump();
        let text = dump.encode();
        assert_eq!(Dump::decode(&text), Ok(dump));
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        assert_eq!(lines.count(), 4 + kinds().len(), "one event a line");
    }

    #[test]
    fn a_kind_of_another_version_is_kept_as_it_stands() {
        let text = dump().encode().replace(" disk-full\n", " disk-melted at=7 \"and so on\n");
        let read = Dump::decode(&text).expect("the rest is known");
        let unknown = Kind::Unknown { word: "disk-melted".into(), rest: "at=7 \"and so on".into() };
        assert!(read.events.iter().any(|event| event.kind == unknown));
        assert_eq!(read.encode(), text);
    }

    #[test]
    fn a_dump_that_is_cut_short_anywhere_is_refused() {
        let text = dump().encode();
        for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
            assert!(Dump::decode(&text[..end]).is_err(), "cut after {end} bytes");
        }
        let lines = text.lines().count();
        let without_end = text.rsplit_once("end ").expect("the last line").0;
        let refused = Dump::decode(without_end).expect_err("it is not whole");
        assert_eq!(refused, BadDump::CutShort { lines: lines - 1 });
        assert!(refused.to_string().contains("cut short after line"), "{refused}");
    }

    #[test]
    fn what_is_not_as_it_should_be_is_refused_with_its_line() {
        let good = dump().encode();
        let rows = [
            ("vlot-flight 1", "vlot-flight 2", "version 2"),
            ("vlot-flight 1", "something else", "no flight record"),
            ("cluster=1", "cluster=one", "line 5: 'cluster' cannot be read"),
            ("dropped=9", "dropped=9 more=1", "line 6: 'more' does not belong there"),
            (" opened", " opened at=1", "'at' does not belong there"),
            ("poll=vote cause=", "poll=veto cause=", "'poll' cannot be read"),
            ("disk=ffffffffffffffff", "disk=fffffffffffffffff", "'disk' cannot be read"),
            ("late=1.234567", "", "'late' is missing"),
            ("late=1.234567", "late=1.2", "'late' cannot be read"),
            ("\n11 ", "\n10 ", "not later than the line before"),
            ("why=\"it said", "why=it said", "does not belong there"),
            ("end events=", "end events=1", "'events' is missing"),
        ];
        for (from, to, expected) in rows {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{from}");
            let refused = Dump::decode(&bad).expect_err(expected).to_string();
            assert!(refused.contains(expected), "{from} => {to}: {refused}");
        }
        let longer = format!("{good}more\n");
        assert!(matches!(Dump::decode(&longer), Err(BadDump::Line { why: BadLine::Unexpected(_), .. })));
    }

    /// Whatever bytes a file has, it is refused or read, and what is read is written again as it was read.
    #[test]
    fn damage_is_refused_or_read() {
        let good = dump().encode();
        for at in 0..good.len() {
            for byte in [b' ', b'=', b'"', b'9', b'\n'] {
                let mut bytes = good.clone().into_bytes();
                bytes[at] = byte;
                let Ok(text) = String::from_utf8(bytes) else { continue };
                if let Ok(dump) = Dump::decode(&text) {
                    assert_eq!(Dump::decode(&dump.encode()), Ok(dump), "byte {at} is {byte}");
                }
            }
        }
    }
}
