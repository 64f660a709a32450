//! What an operator is told of a refusal: what differs between the two ends, and what to do about it.
//!
//! Owns the sentences. Must not know when they are said.

use std::fmt;

use vlot_raft::id::NodeId;

use super::options::Identity;
use super::refusal::Refusal;
use super::wire::{Answer, Hello, VERSION_MAX, VERSION_MIN};

/// A refusal, with what differs as far as the two ends have said it. Displays as a whole sentence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mismatch {
    pub reason: Refusal,
    differs: Option<Differs>,
}

#[derive(Clone, Copy, Debug)]
enum Differs {
    Cluster { own: u64, other: u64 },
    Node { meant: NodeId, found: NodeId },
    Versions { min: u16, max: u16 },
}

impl Mismatch {
    /// Why this node refuses a caller that has said so much.
    pub fn of_caller(reason: Refusal, own: Identity, hello: Option<&Hello>) -> Self {
        let differs = hello.and_then(|hello| match reason {
            Refusal::WrongCluster => Some(Differs::Cluster { own: own.cluster, other: hello.cluster }),
            Refusal::WrongNode => Some(Differs::Node { meant: hello.to, found: own.node }),
            Refusal::NoCommonVersion => Some(Differs::Versions { min: hello.version_min, max: hello.version_max }),
            _ => None,
        });
        Self { reason, differs }
    }

    /// Why this node and the one that was meant to be reached do not talk, after its answer.
    pub fn of_answer(reason: Refusal, own: Identity, meant: NodeId, answer: &Answer) -> Self {
        let differs = match reason {
            Refusal::WrongCluster => Some(Differs::Cluster { own: own.cluster, other: answer.cluster }),
            Refusal::WrongNode => Some(Differs::Node { meant, found: answer.node }),
            _ => None,
        };
        Self { reason, differs }
    }
}

impl From<Refusal> for Mismatch {
    fn from(reason: Refusal) -> Self {
        Self { reason, differs: None }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.differs {
            Some(Differs::Cluster { own, other }) => {
                write!(f, "it is of cluster {other}, this node of cluster {own}: ")?
            }
            Some(Differs::Node { meant, found }) => {
                write!(f, "this is the address of node {found}, not of node {meant}: ")?
            }
            Some(Differs::Versions { min, max }) => {
                write!(f, "it speaks versions {min} to {max}, this node {VERSION_MIN} to {VERSION_MAX}: ")?;
            }
            None => {}
        }
        self.reason.fmt(f)
    }
}
