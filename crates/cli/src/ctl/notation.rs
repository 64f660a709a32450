//! The text forms etcdctl inherits from Go: quoted strings, durations, sizes, the words of an input line, and more below.

pub mod number;
pub mod process;

use std::time::Duration;

/// A string between double quotes, with escapes for what cannot be printed; bytes that are no UTF-8 become `\xNN`.
pub fn quoted(bytes: &[u8]) -> String {
    let mut quoted = String::with_capacity(bytes.len() + 2);
    quoted.push('"');
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            push_escaped(&mut quoted, letter);
        }
        for byte in chunk.invalid() {
            quoted.push_str(&format!("\\x{byte:02x}"));
        }
    }
    quoted.push('"');
    quoted
}

fn push_escaped(quoted: &mut String, letter: char) {
    match letter {
        '"' => quoted.push_str("\\\""),
        '\\' => quoted.push_str("\\\\"),
        '\x07' => quoted.push_str("\\a"),
        '\x08' => quoted.push_str("\\b"),
        '\x0c' => quoted.push_str("\\f"),
        '\n' => quoted.push_str("\\n"),
        '\r' => quoted.push_str("\\r"),
        '\t' => quoted.push_str("\\t"),
        '\x0b' => quoted.push_str("\\v"),
        _ if is_printable(letter) => quoted.push(letter),
        _ => match u32::from(letter) {
            code @ ..0x80 => quoted.push_str(&format!("\\x{code:02x}")),
            code @ ..0x1_0000 => quoted.push_str(&format!("\\u{code:04x}")),
            code => quoted.push_str(&format!("\\U{code:08x}")),
        },
    }
}

fn is_printable(letter: char) -> bool {
    // The standard library knows the printable characters, but shows it only by escaping the others. In second place,
    // so that a combining mark has something to combine with.
    letter == '\'' || format!("a{letter}").escape_debug().nth(1) == Some(letter)
}

/// Reads a quoted string at the beginning of `text`: in double quotes with escapes, or in back quotes as it is.
/// Returns it and what follows.
pub fn unquoted(text: &str) -> Option<(Vec<u8>, &str)> {
    if let Some(raw) = text.strip_prefix('`') {
        let (inside, rest) = raw.split_once('`')?;
        return Some((inside.as_bytes().to_vec(), rest));
    }
    let mut rest = text.strip_prefix('"')?;
    let mut bytes = Vec::new();
    loop {
        let letter = rest.chars().next()?;
        rest = &rest[letter.len_utf8()..];
        match letter {
            '"' => return Some((bytes, rest)),
            '\n' => return None,
            '\\' => rest = unescape(rest, &mut bytes)?,
            _ => bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Reads one escape after its backslash; returns what follows.
fn unescape<'a>(text: &'a str, bytes: &mut Vec<u8>) -> Option<&'a str> {
    let kind = text.chars().next()?;
    let digits = match kind {
        '0'..='7' => {
            let code = u8::from_str_radix(text.get(..3)?, 8).ok()?;
            bytes.push(code);
            return Some(&text[3..]);
        }
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => {
            let simple = "abfnrtv\\\"".find(kind)?;
            bytes.push(b"\x07\x08\x0c\n\r\t\x0b\\\""[simple]);
            return Some(&text[1..]);
        }
    };
    let number = text.get(1..=digits)?;
    if !number.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let code = u32::from_str_radix(number, 16).ok()?;
    match kind {
        // Two hexadecimal digits fit a byte.
        'x' => bytes.push(code as u8),
        _ => bytes.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes()),
    }
    Some(&text[1 + digits..])
}

/// Splits an input line into words, which may be quoted with `'` or `"`. `None` if an escape is broken.
pub fn words(line: &str) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let after = &rest[first.len_utf8()..];
        let closing = match first {
            '\'' => after.find('\''),
            '"' => closing_quote(after),
            _ => None,
        };
        match (first, closing) {
            ('\'', Some(length)) => {
                words.push(after.as_bytes()[..length].to_vec());
                rest = &after[length + 1..];
            }
            (_, Some(length)) => {
                words.push(unquoted(rest)?.0);
                rest = &after[length + 1..];
            }
            // A quote that is never closed is passed over.
            ('\'' | '"', None) => rest = after,
            _ if first.is_whitespace() => rest = after,
            _ => {
                let length = rest.find(char::is_whitespace).unwrap_or(rest.len());
                words.push(rest.as_bytes()[..length].to_vec());
                rest = &rest[length..];
            }
        }
    }
    Some(words)
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

/// A duration as Go prints it: `2.991491ms`, `5.000990149s`, `1m30s`.
pub fn duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let (unit, name) = match nanos {
        0 => return "0s".to_owned(),
        1..1_000 => (1, "ns"),
        1_000..1_000_000 => (1_000, "µs"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    if nanos < 60_000_000_000 {
        return format!("{}{name}", decimal(nanos, unit));
    }
    let seconds = decimal(nanos % 60_000_000_000, 1_000_000_000);
    let minutes = nanos / 60_000_000_000;
    match minutes / 60 {
        0 => format!("{minutes}m{seconds}s"),
        hours => format!("{hours}h{}m{seconds}s", minutes % 60),
    }
}

/// `value / unit` with as many decimals as it has and no more; `unit` is a power of ten.
fn decimal(value: u128, unit: u128) -> String {
    let (whole, fraction) = (value / unit, value % unit);
    if fraction == 0 {
        return whole.to_string();
    }
    let places = unit.ilog10() as usize;
    format!("{whole}.{fraction:0places$}").trim_end_matches('0').to_owned()
}

/// Reads a duration as Go writes it: `5s`, `1m30s`, `1.5h`, `200ms`, `0`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let value: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_end = rest.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(rest.len());
        total += value
            * match &rest[..unit_end] {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &rest[unit_end..];
    }
    if text.is_empty() { None } else { Duration::try_from_secs_f64(total).ok() }
}

/// A size in powers of a thousand with two or three digits: `20 kB`, `1.5 MB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let power = bytes.ilog(1000).min(6);
    let scaled = (bytes as f64 / 1000_f64.powi(power as i32) * 10.0 + 0.5).floor() / 10.0;
    let unit = UNITS[power as usize];
    if scaled < 10.0 { format!("{scaled:.1} {unit}") } else { format!("{} {unit}", scaled.round_ties_even()) }
}

/// Reads a number of bytes, in units of a thousand or of 1024 if one is named: `4096`, `20kB`, `10MiB`.
pub fn parse_size(text: &str) -> Option<u64> {
    const UNITS: [(&str, u32, u32); 11] = [
        ("", 1000, 0),
        ("B", 1000, 0),
        ("kB", 1000, 1),
        ("KB", 1000, 1),
        ("MB", 1000, 2),
        ("GB", 1000, 3),
        ("TB", 1000, 4),
        ("KiB", 1024, 1),
        ("MiB", 1024, 2),
        ("GiB", 1024, 3),
        ("TiB", 1024, 4),
    ];
    let ends = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(ends);
    let (_, base, power) = UNITS.into_iter().find(|(name, ..)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(u64::from(base).pow(power))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("4096", Some(4096)),
            ("7B", Some(7)),
            ("20kB", Some(20_000)),
            ("10MiB", Some(10 << 20)),
            ("2GB", Some(2_000_000_000)),
            ("1TiB", Some(1 << 40)),
            ("", None),
            ("MiB", None),
            ("-1", None),
            ("1.5MB", None),
            ("10 MB", None),
            ("10mb", None),
            ("18446744073709551615KiB", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
    }

    #[test]
    fn quoting_shows_bytes_and_controls_and_is_undone() {
        for (bytes, text) in [
            (&b"plain"[..], r#""plain""#),
            (b"x\x01\xff<&>", r#""x\x01\xff<&>""#),
            (b"a\"b\\c'", r#""a\"b\\c'""#),
            (b"\x07\x08\x0c\n\r\t\x0b\0\x7f", r#""\a\b\f\n\r\t\v\x00\x7f""#),
            ("é€\u{a0}\u{ad}\u{301}".as_bytes(), "\"é€\\u00a0\\u00ad\u{301}\""),
            ("\u{e0001}".as_bytes(), r#""\U000e0001""#),
        ] {
            assert_eq!(quoted(bytes), text);
            assert_eq!(unquoted(text), Some((bytes.to_vec(), "")));
        }
        assert_eq!(unquoted("`a\\n`) = 1"), Some((b"a\\n".to_vec(), ") = 1")));
        assert_eq!(unquoted(r#""\101\u20ac" x"#), Some(("A€".as_bytes().to_vec(), " x")));
        for broken in ["", "a", "\"a", r#""\q""#, r#""\x1""#, r#""\x+1""#, r#""\777""#] {
            assert_eq!(unquoted(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_line_is_split_at_spaces_outside_quotes() {
        let words = |line| words(line).map(|words| words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "));
        assert_eq!(words("put a 1").as_deref(), Some(r#""put" "a" "1""#));
        assert_eq!(words(r#"put "x y" 'a  b'"#).as_deref(), Some(r#""put" "x y" "a  b""#));
        assert_eq!(words(r#" put "a\"\n" it's "" "#).as_deref(), Some(r#""put" "a\"\n" "it's" """#));
        assert_eq!(words(r#"put "a"#).as_deref(), Some(r#""put" "a""#));
        assert_eq!(words(r#"put "\q""#), None);
        assert_eq!(words("").as_deref(), Some(""));
    }

    #[test]
    fn durations_read_and_print_as_in_go() {
        for (text, nanos) in [
            ("0s", 0),
            ("17ns", 17),
            ("1.5µs", 1_500),
            ("2.991491ms", 2_991_491),
            ("5.000990149s", 5_000_990_149),
            ("1m30s", 90_000_000_000),
            ("2h0m0.5s", 7_200_500_000_000),
        ] {
            assert_eq!(duration(Duration::from_nanos(nanos)), text);
            let read = parse_duration(text).unwrap().as_nanos() as i128;
            assert!((read - i128::from(nanos)).abs() <= 1, "{text}");
        }
        assert_eq!(parse_duration("1.5h"), Some(Duration::from_secs(5400)));
        for broken in ["", "5", "s", "-1s", "5x", "1s5"] {
            assert_eq!(parse_duration(broken), None, "{broken}");
        }
    }

    #[test]
    fn sizes_have_two_or_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (9, "9 B"),
            (10, "10 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (16_384, "16 kB"),
            (20_480, "20 kB"),
            (1_550_000, "1.6 MB"),
            (25_153_536, "25 MB"),
            (999_960, "1000 kB"),
            (2_147_483_648, "2.1 GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
