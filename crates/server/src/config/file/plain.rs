//! What a scalar without quotes is to etcd, whose YAML is that of version 1.1: `yes` is a switch and `010` is eight.
//!
//! Owns how such a scalar is told from a text. Must not know for which flag.

/// What a scalar without quotes is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Plain {
    Null,
    Switch(bool),
    /// A whole number; also one with a point or an exponent.
    Number(i128),
    Text,
}

/// Tells what a scalar is.
pub(super) fn read(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Plain::Switch(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Plain::Switch(false);
        }
        _ => {}
    }
    if !text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) {
        return Plain::Text;
    }
    let digits = text.replace('_', "");
    integer(&digits).or_else(|| whole(&digits)).map_or(Plain::Text, Plain::Number)
}

/// An integer of at most 64 bits in Go's notation: `12`, `-0x1f`, `0o17`, `017`, `0b101`.
fn integer(text: &str) -> Option<i128> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let prefixed = |prefixes: [&str; 2]| prefixes.iter().find_map(|prefix| digits.strip_prefix(prefix));
    let (radix, digits) = if let Some(digits) = prefixed(["0x", "0X"]) {
        (16, digits)
    } else if let Some(digits) = prefixed(["0b", "0B"]) {
        (2, digits)
    } else if let Some(digits) = prefixed(["0o", "0O"]) {
        (8, digits)
    } else if digits.len() > 1 && digits.starts_with('0') {
        (8, digits)
    } else {
        (10, digits)
    };
    // The standard library takes a sign in front of the digits, too.
    if !digits.bytes().all(|digit| digit.is_ascii_alphanumeric()) {
        return None;
    }
    let number = sign * i128::from(u64::from_str_radix(digits, radix).ok()?);
    (number >= i128::from(i64::MIN)).then_some(number)
}

/// A number that etcd takes for an integer because nothing is behind its point.
fn whole(text: &str) -> Option<i128> {
    let has_form = text.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    let number: f64 = text.parse().ok().filter(|_| has_form)?;
    (number.fract() == 0.0 && number.abs() < 1e18).then_some(number as i128)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_quotes_is_what_it_looks_like() {
        let rows = [
            ("", Plain::Null),
            ("~", Plain::Null),
            ("null", Plain::Null),
            ("nil", Plain::Text),
            ("yes", Plain::Switch(true)),
            ("On", Plain::Switch(true)),
            ("n", Plain::Switch(false)),
            ("oN", Plain::Text),
            ("12", Plain::Number(12)),
            ("+12", Plain::Number(12)),
            ("-1_000", Plain::Number(-1000)),
            ("010", Plain::Number(8)),
            ("0o10", Plain::Number(8)),
            ("0x1F", Plain::Number(31)),
            ("0b101", Plain::Number(5)),
            ("0", Plain::Number(0)),
            ("18446744073709551615", Plain::Number(u64::MAX.into())),
            ("-9223372036854775809", Plain::Text),
            ("08", Plain::Number(8)),
            ("1e3", Plain::Number(1000)),
            (".5", Plain::Text),
            ("1.", Plain::Number(1)),
            ("--5", Plain::Text),
            ("+-5", Plain::Text),
            ("0x+5", Plain::Text),
            ("1e999", Plain::Text),
            (".", Plain::Text),
            ("-", Plain::Text),
            ("5s", Plain::Text),
            ("127.0.0.1", Plain::Text),
            ("2026-01-01", Plain::Text),
            ("infinity", Plain::Text),
            ("é", Plain::Text),
        ];
        for (text, expected) in rows {
            assert_eq!(read(text), expected, "{text:?}");
        }
    }
}
