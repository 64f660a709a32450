//! Why a call of a group has no answer: one type for each kind of call, one variant for each thing a caller can do.

use std::fmt;

use vlot_node::proposals::NotProposed;
use vlot_node::reads::NotRead;
use vlot_node::state_machine::BadCommand;
use vlot_raft::configuration::ChangeRefused;
use vlot_raft::effect::TransferRefused;
use vlot_raft::id::NodeId;

/// Why a proposal has no reply. All but [`Unknown`](Self::Unknown) and [`Stopped`](Self::Stopped) say that the command was
/// not proposed: it is in no log, and never will be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ProposeError {
    /// It is not known what became of it. It may have been applied, or may be yet.
    Unknown,
    /// No leader was found in time.
    NoLeader,
    /// This node does not lead, and [`Options::forward`](crate::Options::forward) is off.
    NotLeader {
        /// The leader, if this node knows one.
        leader: Option<NodeId>,
    },
    /// This node is no member of the group any more.
    NotAMember,
    /// Too much waits on this node, or its state machine lags too far behind.
    Busy,
    /// The disks of a quorum have no room for it, or this node's has none, so that it would not learn the outcome.
    NoSpace,
    /// The command is longer than `command_bytes_max`.
    TooLarge {
        /// How long it may be.
        bytes_max: usize,
    },
    /// The command's own bytes cannot be read back.
    Invalid(BadCommand),
    /// The state machine of this node has stopped: see [`Status::fenced`](crate::Status::fenced).
    Fenced,
    /// The group was closed on this node.
    Closed,
    /// The node has stopped. It may have been applied.
    Stopped,
}

/// Why a read was not confirmed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReadError {
    /// No leader has confirmed it in time.
    TimedOut,
    /// Too many reads wait on this node.
    Busy,
    /// This node is no member of the group any more.
    NotAMember,
    /// The state machine of this node has stopped: see [`Status::fenced`](crate::Status::fenced).
    Fenced,
    /// The group was closed on this node.
    Closed,
    /// The node has stopped.
    Stopped,
}

/// Why the members have not changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ChangeError {
    /// The leader does not begin it.
    Refused(ChangeRefused),
    /// An address is longer than [`ADDRESS_BYTES_MAX`](vlot_node::members::ADDRESS_BYTES_MAX), or the context than
    /// [`CONTEXT_BYTES_MAX`](vlot_node::members::CONTEXT_BYTES_MAX). It was not asked for.
    TooLarge,
    /// A member that stays has the address that is given to another node. It was not asked for.
    AddressInUse {
        /// The member.
        by: NodeId,
    },
    /// Nothing was heard in time. It may have been done, or may be yet: look at the members.
    Unknown,
    /// The node has stopped, or the group was closed on it.
    Stopped,
}

/// Why no snapshot was saved.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SnapshotError {
    /// The state machine makes none, or the disk does not take it.
    NotSaved {
        /// Which of it.
        why: String,
    },
    /// It was not saved in time, and may be yet.
    TimedOut,
    /// The node has stopped, or the group was closed on it.
    Stopped,
}

/// Why the leadership was not transferred.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TransferError {
    /// The leader does not begin it.
    Refused(TransferRefused),
    /// The other did not take over in time.
    TimedOut,
    /// The node has stopped, or the group was closed on it.
    Stopped,
}

impl From<NotProposed> for ProposeError {
    fn from(why: NotProposed) -> Self {
        match why {
            NotProposed::NoSpace => Self::NoSpace,
            NotProposed::Busy => Self::Busy,
            NotProposed::Fenced => Self::Fenced,
            NotProposed::NotAMember => Self::NotAMember,
            NotProposed::NoLeader => Self::NoLeader,
            NotProposed::NotLeader { leader } => Self::NotLeader { leader },
            NotProposed::Closed => Self::Closed,
        }
    }
}

impl From<NotRead> for ReadError {
    fn from(why: NotRead) -> Self {
        match why {
            NotRead::Fenced => Self::Fenced,
            NotRead::NotAMember => Self::NotAMember,
            NotRead::Closed => Self::Closed,
        }
    }
}

/// What cannot be read first is not proposed.
impl From<ReadError> for ProposeError {
    fn from(why: ReadError) -> Self {
        match why {
            ReadError::TimedOut => Self::NoLeader,
            ReadError::Busy => Self::Busy,
            ReadError::NotAMember => Self::NotAMember,
            ReadError::Fenced => Self::Fenced,
            ReadError::Closed | ReadError::Stopped => Self::Closed,
        }
    }
}

impl fmt::Display for ProposeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("no answer in time; the command may have been applied, or may be yet"),
            Self::NoLeader => f.write_str("no leader was found in time; the command was not proposed"),
            Self::NotLeader { leader: None } => {
                f.write_str("this node does not lead, and knows no leader; the command was not proposed")
            }
            Self::NotLeader { leader: Some(leader) } => {
                write!(f, "this node does not lead, node {leader} does; the command was not proposed")
            }
            Self::NotAMember => f.write_str("this node is no member of the group; the command was not proposed"),
            Self::Busy => f.write_str("too much waits on this node; the command was not proposed, try again later"),
            Self::NoSpace => f.write_str("the disks have no room; the command was not proposed"),
            Self::TooLarge { bytes_max } => write!(f, "the command is longer than {bytes_max} bytes"),
            Self::Invalid(bad) => write!(f, "the command's own bytes cannot be read back: {}", bad.0),
            Self::Fenced => f.write_str("the state machine of this node has stopped; the command was not proposed"),
            Self::Closed => f.write_str("the group is closed on this node; the command was not proposed"),
            Self::Stopped => f.write_str("the node has stopped; the command may have been applied"),
        }
    }
}

impl std::error::Error for ProposeError {}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TimedOut => "no leader has confirmed the read in time",
            Self::Busy => "too many reads wait",
            Self::NotAMember => "this node is no member of the group",
            Self::Fenced => "the state machine of this node has stopped",
            Self::Closed => "the group is closed on this node",
            Self::Stopped => "the node has stopped",
        })
    }
}

impl std::error::Error for ReadError {}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "the members are not changed: {}", explain(*why)),
            Self::AddressInUse { by } => {
                write!(f, "node {by} has this address; give each node an address of its own, or remove node {by} first")
            }
            Self::TooLarge => f.write_str("an address, or what comes with the change, is longer than it may be"),
            Self::Unknown => f.write_str("no answer in time; the members may have changed, or may yet"),
            Self::Stopped => f.write_str("the node has stopped"),
        }
    }
}

impl std::error::Error for ChangeError {}

fn explain(why: ChangeRefused) -> String {
    match why {
        ChangeRefused::NotLeader { leader: None } => "there is no leader at this moment; try again".into(),
        ChangeRefused::NotLeader { leader: Some(leader) } => format!("node {leader} has come to lead; try again"),
        ChangeRefused::TooSoon => "the leader has only just taken office; try again".into(),
        ChangeRefused::InProgress => "another change is not finished; try again".into(),
        ChangeRefused::Transferring { to } => format!("the leadership is being handed to node {to}; try again"),
        ChangeRefused::NotCaughtUp { node } => format!("node {node} has not caught up with the log; wait for it"),
        ChangeRefused::NoVoters => "there would be no voter left".into(),
        ChangeRefused::TooManyWitnesses => "witnesses would be a majority".into(),
        ChangeRefused::NotAMember { node } => format!("node {node} is no member"),
        ChangeRefused::KeepsItsKind { node } => {
            format!("node {node} must be removed before it comes back as another kind")
        }
        ChangeRefused::Barred { node } => format!(
            "node {node} was a member before the quorum was lost; give the node a new number and an empty directory"
        ),
        ChangeRefused::NothingToDo => "it is so already".into(),
        ChangeRefused::NoSpace => "the disks have no room".into(),
    }
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSaved { why } => write!(f, "no snapshot was saved: {why}"),
            Self::TimedOut => f.write_str("the snapshot was not saved in time, and may be yet"),
            Self::Stopped => f.write_str("the node has stopped"),
        }
    }
}

impl std::error::Error for SnapshotError {}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(TransferRefused::NotLeader { .. }) => f.write_str("this node does not lead"),
            Self::Refused(TransferRefused::InProgress { to }) => {
                write!(f, "the leadership is being handed to node {to} already")
            }
            Self::Refused(TransferRefused::CannotLead { node }) => {
                write!(f, "node {node} cannot lead: it does not vote, or is a witness")
            }
            Self::Refused(TransferRefused::Nobody) => f.write_str("no other node is fit to lead"),
            Self::TimedOut => f.write_str("the other node did not take over in time"),
            Self::Stopped => f.write_str("the node has stopped"),
        }
    }
}

impl std::error::Error for TransferError {}
