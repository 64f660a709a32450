//! Numbers as Go reads them, and as etcdctl prints those of leases.

use std::fmt;
use std::num::{IntErrorKind, ParseIntError};

use super::quoted;

/// Reads a member's id as Go reads hexadecimal numbers.
///
/// # Errors
/// In Go's words.
pub fn parse_id(text: &str) -> Result<u64, NumberError> {
    let refused = |flaw| NumberError { function: "ParseUint", text: text.to_owned(), flaw };
    if text.starts_with('+') {
        return Err(refused(NumberFlaw::Syntax));
    }
    u64::from_str_radix(text, 16).map_err(|error| refused(NumberFlaw::of(&error)))
}

/// Reads a lease's number, which is written in hexadecimal.
///
/// # Errors
/// In Go's words.
pub fn parse_lease(text: &str) -> Result<i64, NumberError> {
    parse_int(text, 16)
}

/// Reads a number as Go does.
///
/// # Errors
/// In Go's words.
pub fn parse_int(text: &str, radix: u32) -> Result<i64, NumberError> {
    let refused = |error| NumberError { function: "ParseInt", text: text.to_owned(), flaw: NumberFlaw::of(&error) };
    i64::from_str_radix(text, radix).map_err(refused)
}

/// Why a text is no number.
#[derive(Debug)]
pub struct NumberError {
    /// Go's name of what refused it.
    function: &'static str,
    text: String,
    flaw: NumberFlaw,
}

impl fmt::Display for NumberError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "strconv.{}: parsing {}: {}", self.function, quoted(self.text.as_bytes()), self.flaw)
    }
}

impl std::error::Error for NumberError {}

/// A lease's number as etcdctl prints it: hexadecimal, with zeros in front, and signed.
pub fn lease(id: i64) -> String {
    if id < 0 { format!("-{:015x}", id.unsigned_abs()) } else { format!("{id:016x}") }
}

/// What Go finds wrong with a text that should be a number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum NumberFlaw {
    Syntax,
    Range,
}

impl NumberFlaw {
    fn of(error: &ParseIntError) -> NumberFlaw {
        match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => NumberFlaw::Range,
            _ => NumberFlaw::Syntax,
        }
    }
}

impl fmt::Display for NumberFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NumberFlaw::Syntax => "invalid syntax",
            NumberFlaw::Range => "value out of range",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_and_refused_as_in_go() {
        assert_eq!(parse_lease("1f").unwrap(), 31);
        assert_eq!(parse_lease("-1f").unwrap(), -31);
        assert_eq!(parse_id("ffffffffffffffff").unwrap(), u64::MAX);
        for (error, told) in [
            (parse_int("x", 10).unwrap_err(), "strconv.ParseInt: parsing \"x\": invalid syntax"),
            (parse_lease("8000000000000000").unwrap_err(), {
                "strconv.ParseInt: parsing \"8000000000000000\": value out of range"
            }),
            (parse_id("+1").unwrap_err(), "strconv.ParseUint: parsing \"+1\": invalid syntax"),
            (parse_id("").unwrap_err(), "strconv.ParseUint: parsing \"\": invalid syntax"),
        ] {
            assert_eq!(error.to_string(), told);
        }
        assert_eq!((lease(31), lease(-31)), ("000000000000001f".to_owned(), "-00000000000001f".to_owned()));
    }
}
