//! Why a node does not start, or does not go on: what an operator reads in one line.

use std::fmt;
use std::path::PathBuf;

use crate::auth::BadKeys;
use crate::config::Url;
use crate::edge::ListenError;
use crate::files::data_dir::DataDirError;
use crate::members::identity::Identity;
use crate::members::join::JoinError;
use crate::store_group::StoreFailure;
use crate::upkeep::corruption::Corrupt;

/// Why a node does not start, or does not go on.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are what the variants name")]
pub enum ServeError {
    /// It cannot listen where it is told to.
    Listen(ListenError),
    /// The peer URL has no IP address to bind.
    PeerAddress(Url),
    /// The node listens for peers on one URL, and this many are given.
    PeerUrls(usize),
    /// The keys of `--auth-token` cannot be used.
    AuthToken(BadKeys),
    /// The audit log cannot be written.
    Audit { path: PathBuf, error: std::io::Error },
    /// The data directory is not used.
    DataDir(DataDirError),
    /// It finds no place in the cluster that it should join.
    Join(JoinError),
    /// The store cannot be opened.
    Store { data_dir: PathBuf, error: vlot_store::store::OpenError },
    /// The log cannot be opened.
    Node(vlot::OpenError),
    /// The store's group is not taken up.
    Group { data_dir: PathBuf, error: vlot::GroupError },
    /// The system gives no thread for connections.
    EdgeThread(std::io::Error),
    /// The store can write nothing more.
    StoreFailed(StoreFailure),
    /// The node cannot go on.
    NodeFailed(vlot::Ended),
    /// Its data is that of no other member.
    Corrupt(Corrupt),
    /// A file of TLS cannot be used.
    TlsFile(vlot_tls::FileError),
    /// A file of TLS between peers cannot be used.
    PeerTlsFile(vlot_tls::FileError),
    /// This node cannot make a certificate for itself.
    SelfSigned(vlot_tls::make::MakeError),
    /// The cluster has removed this member.
    Removed { identity: Identity, data_dir: PathBuf },
}

impl fmt::Display for ServeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(error) => error.fmt(out),
            Self::PeerAddress(url) => write!(out, "--listen-peer-urls: cannot bind {url}: no such address"),
            Self::PeerUrls(given) => write!(out, "--listen-peer-urls: one URL is needed, and {given} are given"),
            Self::AuthToken(bad) => write!(out, "--auth-token: {bad}"),
            Self::Audit { path, error } => {
                write!(out, "--audit-log: cannot write {}: {error}; choose another file", path.display())
            }
            Self::DataDir(error) => error.fmt(out),
            Self::Join(error) => error.fmt(out),
            Self::Store { data_dir, error } => write!(out, "{}: {error}", data_dir.display()),
            Self::Node(error) => error.fmt(out),
            Self::Group { data_dir, error } => write!(out, "{}: {error}", data_dir.display()),
            Self::EdgeThread(error) => write!(out, "--edge-threads: cannot start a thread: {error}"),
            Self::StoreFailed(failure) => failure.fmt(out),
            Self::NodeFailed(ended) => ended.fmt(out),
            Self::Corrupt(corrupt) => corrupt.fmt(out),
            Self::TlsFile(error) => write!(out, "cannot serve TLS: {error}"),
            Self::PeerTlsFile(error) => write!(out, "cannot speak TLS to peers: {error}"),
            Self::SelfSigned(error) => write!(out, "cannot make a certificate: {error}"),
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
