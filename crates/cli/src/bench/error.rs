//! Why a run cannot be begun or measured.

use std::fmt;
use std::num::{ParseFloatError, ParseIntError};
use std::path::PathBuf;
use std::time::{Duration, TryFromFloatSecsError};

use crate::client::Failure;
use crate::client::security::SecurityError;

/// Why `vlot bench` has no result.
#[derive(Debug)]
pub enum BenchError {
    Flags(clap::Error),
    Runtime(std::io::Error),
    /// Keys of this length cannot all be different.
    KeySpace {
        keys_max: u64,
        key_size: usize,
    },
    NegativeRate,
    NothingToMeasure,
    /// Nobody is asked for a password while servers are measured.
    NoPassword {
        user: String,
    },
    /// TLS cannot be spoken so.
    Security(SecurityError),
    /// An endpoint does not answer at the start.
    Connect(Failure),
    /// The users that are to log in cannot be created.
    Users(Failure),
    /// The servers have not created all watches.
    WatchesLate {
        within: Duration,
    },
    /// The CPU time of a process cannot be read.
    Process {
        process: String,
        error: std::io::Error,
    },
    /// The report cannot be written.
    Output(std::io::Error),
    /// The page cannot be written.
    Page {
        path: PathBuf,
        error: std::io::Error,
    },
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flags(error) => error.fmt(f),
            Self::Runtime(error) => write!(f, "cannot start: {error}"),
            Self::KeySpace { keys_max, key_size } => {
                write!(f, "--key-space must be between 1 and {keys_max} with --key-size={key_size}")
            }
            Self::NegativeRate => f.write_str("--rate must not be negative"),
            Self::NothingToMeasure => f.write_str("there is nothing to measure"),
            Self::NoPassword { user } => {
                write!(f, "--user={user} has no password: give --user={user}:PASSWORD, or --password")
            }
            Self::Security(error) => error.fmt(f),
            Self::Connect(failure) => failure.fmt(f),
            Self::Users(failure) => write!(f, "cannot create the users that are to log in: {failure}"),
            Self::WatchesLate { within } => write!(f, "the watches were not created within {} s", within.as_secs()),
            Self::Process { process, error } => write!(f, "process {process}: {error}"),
            Self::Output(error) => error.fmt(f),
            Self::Page { path, error } => write!(f, "--html: cannot write {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for BenchError {}

/// Why a flag's value is refused.
#[derive(Debug)]
pub enum ValueError {
    Zero,
    Integer(ParseIntError),
    Number(ParseFloatError),
    Seconds(TryFromFloatSecsError),
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero => f.write_str("at least 1 is needed"),
            Self::Integer(error) => error.fmt(f),
            Self::Number(error) => error.fmt(f),
            Self::Seconds(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ValueError {}
