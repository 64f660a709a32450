//! Why a node ends.
//!
//! Owns what a program is told about it. Must not know how a node runs.

use std::fmt;

use vlot_log::error::{ReadError, WriteError};
pub use vlot_node::act::Stop;

/// Why a node has ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ended {
    /// It was asked to stop.
    Stopped,
    /// Its log can be used no more.
    Log(LogFailed),
    /// It must not go on.
    MustStop(Stop),
    /// Its driver panicked; the panic has a message of its own.
    Panicked,
}

/// Why a log can be used no more.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LogFailed {
    /// Something is not written, or not made durable.
    Write(WriteError),
    /// Entries that are in it cannot be read.
    Read(ReadError),
}

impl From<WriteError> for LogFailed {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

impl From<ReadError> for LogFailed {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("the node was stopped"),
            Self::Log(failed) => failed.fmt(f),
            Self::MustStop(why) => why.fmt(f),
            Self::Panicked => f.write_str("the node's driver panicked; see its message"),
        }
    }
}

impl fmt::Display for LogFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(error) => error.fmt(f),
            Self::Read(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Ended {}

impl std::error::Error for LogFailed {}
