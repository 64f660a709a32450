//! Why `vlot dev` ends without being asked to: what it says in one line before it exits.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitStatus;

use vlot_server::DataDirError;
use vlot_server::config::ConfigError;

/// Why `vlot dev` fails.
#[derive(Debug)]
pub(super) enum DevError {
    Runtime(std::io::Error),
    /// The directory for data and logs cannot be written.
    Directory {
        dir: PathBuf,
        error: std::io::Error,
    },
    /// Something else listens where a node would.
    PortTaken {
        port: u16,
        node: String,
        error: std::io::Error,
    },
    Config(ConfigError),
    DataDir(DataDirError),
    /// The process of a node cannot be started.
    Start {
        node: String,
        error: std::io::Error,
    },
    /// A node has ended before all of them served.
    Ended(Ended),
    /// The nodes run and do not serve.
    NoLeader {
        log: PathBuf,
    },
    AllEnded,
}

/// A node that has ended by itself.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) node: String,
    pub(super) status: ExitStatus,
    pub(super) log: PathBuf,
    /// The last line of its log.
    pub(super) last: String,
}

impl fmt::Display for DevError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime(error) => write!(out, "cannot start: {error}"),
            Self::Directory { dir, error } => {
                write!(out, "cannot write to {}: {error}; choose another directory with --dir", dir.display())
            }
            Self::PortTaken { port, node, error } => write!(
                out,
                "port {port} of node {node} is not free ({error}); stop what uses it (another 'vlot dev', an etcd?), or \
                 choose other ports with --port"
            ),
            Self::Config(error) => error.fmt(out),
            Self::DataDir(error) => error.fmt(out),
            Self::Start { node, error } => write!(out, "cannot start node {node}: {error}"),
            Self::Ended(ended) => ended.fmt(out),
            Self::NoLeader { log } => write!(out, "the nodes do not agree on a leader; see {}", log.display()),
            Self::AllEnded => out.write_str("all nodes have ended"),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ended { node, status, log, last } = self;
        write!(out, "node {node} has ended ({status}); its log ends with: {last} (see {})", log.display())
    }
}

impl std::error::Error for DevError {}
