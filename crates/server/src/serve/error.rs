//! Why a node does not start, or does not go on: what `vlot server` says in one line before it exits.

use std::fmt;
use std::path::PathBuf;

use crate::config::{ConfigError, Url};
use crate::data_dir::DataDirError;
use crate::edge::ListenError;
use crate::identity::Identity;
use crate::join::JoinError;
use crate::store_group::StoreFailure;

/// Why `vlot server` fails.
#[derive(Debug)]
pub(super) enum ServeError {
    Config(ConfigError),
    Runtime(std::io::Error),
    Listen(ListenError),
    /// The peer URL has no IP address to bind.
    PeerAddress(Url),
    /// The node listens for peers on one URL, and this many are given.
    PeerUrls(usize),
    DataDir(DataDirError),
    Join(JoinError),
    Store {
        data_dir: PathBuf,
        error: vlot_store::store::OpenError,
    },
    Node(vlot::OpenError),
    Group {
        data_dir: PathBuf,
        error: vlot::GroupError,
    },
    /// The store can write nothing more.
    StoreFailed(StoreFailure),
    /// The node cannot go on.
    NodeFailed(vlot::Ended),
    /// The cluster has removed this member.
    Removed {
        identity: Identity,
        data_dir: PathBuf,
    },
}

impl fmt::Display for ServeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(out),
            Self::Runtime(error) => write!(out, "cannot start: {error}"),
            Self::Listen(error) => error.fmt(out),
            Self::PeerAddress(url) => write!(out, "--listen-peer-urls: cannot bind {url}: no such address"),
            Self::PeerUrls(given) => write!(out, "--listen-peer-urls: one URL is needed, and {given} are given"),
            Self::DataDir(error) => error.fmt(out),
            Self::Join(error) => error.fmt(out),
            Self::Store { data_dir, error } => write!(out, "{}: {error}", data_dir.display()),
            Self::Node(error) => error.fmt(out),
            Self::Group { data_dir, error } => write!(out, "{}: {error}", data_dir.display()),
            Self::StoreFailed(failure) => failure.fmt(out),
            Self::NodeFailed(ended) => ended.fmt(out),
            Self::Removed { identity: Identity { cluster, member }, data_dir } => write!(
                out,
                "member {member:x} was removed from cluster {cluster:x} for ever; to come back, add it again and start it \
                 with an empty data directory in the place of {}",
                data_dir.display()
            ),
        }
    }
}

impl std::error::Error for ServeError {}

impl From<ConfigError> for ServeError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<ListenError> for ServeError {
    fn from(error: ListenError) -> Self {
        Self::Listen(error)
    }
}

impl From<DataDirError> for ServeError {
    fn from(error: DataDirError) -> Self {
        Self::DataDir(error)
    }
}

impl From<JoinError> for ServeError {
    fn from(error: JoinError) -> Self {
        Self::Join(error)
    }
}
