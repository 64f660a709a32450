//! Bytes as text in base64.
//!
//! Owns both alphabets. What is written has the common one and padding; what is read may be of either, with padding or
//! without, as in protobuf's JSON notation.

const COMMON: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Adds the text of these bytes.
pub(super) fn encode(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len().div_ceil(3) * 4);
    let digit = |bits: u32, place: u32| COMMON[(bits >> (18 - 6 * place)) as usize & 63];
    let mut groups = bytes.chunks_exact(3);
    for group in &mut groups {
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        out.extend_from_slice(&[digit(bits, 0), digit(bits, 1), digit(bits, 2), digit(bits, 3)]);
    }
    match *groups.remainder() {
        [a] => {
            let bits = u32::from_be_bytes([0, a, 0, 0]);
            out.extend_from_slice(&[digit(bits, 0), digit(bits, 1), b'=', b'=']);
        }
        [a, b] => {
            let bits = u32::from_be_bytes([0, a, b, 0]);
            out.extend_from_slice(&[digit(bits, 0), digit(bits, 1), digit(bits, 2), b'=']);
        }
        _ => {}
    }
}

/// Adds the bytes of this text. `None` if it is no base64; what was added counts for nothing then. Line ends in it are passed
/// over, and what the last digit says beyond the last byte counts for nothing, as in Go.
pub(super) fn decode(out: &mut Vec<u8>, text: &str) -> Option<()> {
    // To the end in any case, which is faster than to look whether it is found.
    let is_for_urls = text.bytes().fold(false, |found, byte| found | (byte == b'-') | (byte == b'_'));
    let values = if is_for_urls { &URL_VALUES } else { &COMMON_VALUES };
    // Padding is for all or for none: a text that is not as long as it would be with padding has none.
    let has_padding = text.len().is_multiple_of(4);
    let (groups, _) = text.as_bytes().as_chunks();
    let start = out.len();
    out.resize(start + 3 * groups.len(), 0);
    let (places, _) = out[start..].as_chunks_mut();
    let mut whole = 0;
    while let (Some(group), Some(place)) = (groups.get(whole), places.get_mut(whole))
        && let Some(bytes) = whole_group(group, values)
    {
        *place = bytes;
        whole += 1;
    }
    out.truncate(start + 3 * whole);
    let rest = &text.as_bytes()[4 * whole..];
    // What is left has padding, or a line end, or is not as it should be: seldom more than a group.
    let mut digits = rest.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).peekable();
    while digits.peek().is_some() {
        let (mut bits, mut count) = (0, 0);
        while count < 4
            && let Some(digit) = digits.next_if(|byte| *byte != b'=')
        {
            bits = bits << 6 | value(digit, values)?;
            count += 1;
        }
        let [_, a, b, c] = (bits << (6 * (4 - count))).to_be_bytes();
        match count {
            4 => out.extend_from_slice(&[a, b, c]),
            3 => out.extend_from_slice(&[a, b]),
            2 => out.push(a),
            _ => return None,
        }
        if count < 4 {
            let missing = if has_padding { 4 - count } else { 0 };
            let ends = (0..missing).all(|_| digits.next() == Some(b'=')) && digits.next().is_none();
            return ends.then_some(());
        }
    }
    Some(())
}

/// The value of each byte as a digit.
type Values = [u8; 256];

/// What is no digit.
const NONE: u8 = 0xff;
const COMMON_VALUES: Values = values(b'+', b'/');
const URL_VALUES: Values = values(b'-', b'_');

const fn values(last_but_one: u8, last: u8) -> Values {
    let mut values = [NONE; 256];
    let mut value = 0;
    while value < 62 {
        values[COMMON[value as usize] as usize] = value;
        value += 1;
    }
    values[last_but_one as usize] = 62;
    values[last as usize] = 63;
    values
}

/// The bytes of four digits; `None` if there is anything else among them.
fn whole_group(group: &[u8; 4], values: &Values) -> Option<[u8; 3]> {
    let digits = group.map(|digit| values[usize::from(digit)]);
    // No digit has the upper bit, which `NONE` has.
    if digits.iter().fold(0, |all, digit| all | digit) & 0x80 != 0 {
        return None;
    }
    let bits = digits.iter().fold(0, |bits: u32, digit| bits << 6 | u32::from(*digit));
    let [_, a, b, c] = bits.to_be_bytes();
    Some([a, b, c])
}

fn value(digit: u8, values: &Values) -> Option<u32> {
    match values[usize::from(digit)] {
        NONE => None,
        value => Some(value.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        decode(&mut out, text).map(|()| out)
    }

    #[test]
    fn what_is_written_is_read_again() {
        for length in 0..70 {
            let bytes: Vec<u8> = (0..length).map(|n: u8| n.wrapping_mul(151).wrapping_add(length)).collect();
            let mut text = Vec::new();
            encode(&mut text, &bytes);
            let text = String::from_utf8(text).unwrap();
            assert_eq!(decoded(&text), Some(bytes.clone()));
            assert_eq!(decoded(text.trim_end_matches('=')), Some(bytes.clone()));
            assert_eq!(decoded(&text.replace('+', "-").replace('/', "_")), Some(bytes));
        }
    }

    /// What etcd took, and what it refused.
    #[test]
    fn what_is_base64_is_decided_as_by_etcd() {
        let rows: [(&str, Option<&[u8]>); 16] = [
            ("", Some(b"")),
            ("Zm9v", Some(b"foo")),
            ("Zg==", Some(b"f")),
            ("Zh==", Some(b"f")),
            ("Zg", Some(b"f")),
            ("Zm8=", Some(b"fo")),
            ("Zm8", Some(b"fo")),
            ("_-8=", Some(b"\xff\xef")),
            ("+/8=", Some(b"\xfb\xff")),
            ("Zm\r\n9v", Some(b"foo")),
            ("Zm9-+/", None),
            ("Zg=", None),
            ("Z", None),
            ("====", None),
            ("Zg==Zg==", None),
            ("!!", None),
        ];
        for (text, expected) in rows {
            assert_eq!(decoded(text).as_deref(), expected, "{text:?}");
        }
    }
}
