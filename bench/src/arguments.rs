//! The words after a measurement's name, and what may be wrong with them.

use std::fmt;
use std::str::FromStr;

/// The value of a flag.
pub(crate) fn value<T: FromStr>(flag: &str, arguments: &mut impl Iterator<Item = String>) -> Result<T, ArgumentError> {
    let value = arguments.next().ok_or_else(|| ArgumentError::NoValue { flag: flag.to_owned() })?;
    value.parse().map_err(|_| ArgumentError::BadValue { flag: flag.to_owned(), value })
}

/// What is wrong with the words after a measurement's name.
#[derive(Debug)]
pub(crate) enum ArgumentError {
    /// The measurement has no such flag.
    UnknownFlag { flag: String, measurement: &'static str },
    /// The words end where the flag's value should be.
    NoValue { flag: String },
    /// The flag's value cannot be this.
    BadValue { flag: String, value: String },
}

impl fmt::Display for ArgumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownFlag { flag, measurement } => write!(f, "{flag} is no flag of {measurement}"),
            Self::NoValue { flag } => write!(f, "{flag} needs a value"),
            Self::BadValue { flag, value } => write!(f, "{flag} cannot be {value}"),
        }
    }
}

impl std::error::Error for ArgumentError {}
