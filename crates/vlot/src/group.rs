//! The handle to one replicated state machine: propose, read, and see where it stands.
//!
//! Owns time limits and the bound on what waits. Must not know how agreement is reached.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{broadcast, oneshot, watch};
use tokio::time::timeout;
use vlot_raft::configuration::ChangeRefused;
use vlot_raft::effect::{RoleState, TransferRefused};
use vlot_raft::id::{GroupId, LogIndex, NodeId};

use crate::events::Events;
use crate::machine::{NoSpace, Waiters};
use crate::members::{MemberChange, Members, is_too_large};
use crate::node::Input;
use crate::payload;
use crate::proposal_id::ProposalId;
use crate::state_machine::{Command, StateMachine};
use crate::view::{GroupEvent, View};

/// One replicated state machine, as this node sees it. Cheap to clone.
///
/// Every node of the group may propose and read: what must be decided by the leader finds its way there.
pub struct Group<S: StateMachine>(pub(crate) Arc<Shared<S>>);

/// What all clones of a handle share with the driver.
pub(crate) struct Shared<S: StateMachine> {
    pub(crate) id: GroupId,
    pub(crate) origin: u64,
    pub(crate) next: AtomicU64,
    pub(crate) state: Arc<RwLock<S>>,
    pub(crate) proposals: Arc<Waiters<Result<S::Reply, NoSpace>>>,
    pub(crate) reads: Arc<Waiters<()>>,
    pub(crate) changes: Arc<Waiters<Result<(), ChangeRefused>>>,
    pub(crate) transfers: Arc<Waiters<Result<(), TransferRefused>>>,
    pub(crate) proposed_bytes: AtomicUsize,
    pub(crate) limits: Limits,
    pub(crate) events: Arc<Events>,
    pub(crate) view: Arc<View>,
}

/// The bounds of a handle.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How long a proposal or a read may take.
    pub timeout: Duration,
    /// The longest command, in bytes.
    pub command_bytes_max: usize,
    /// Bytes of all commands that wait on this node.
    pub waiting_bytes_max: usize,
    /// Reads that wait on this node.
    pub waiting_reads_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: usize = 1 << 20;
        Self {
            timeout: Duration::from_secs(7),
            command_bytes_max: 16 * MIB,
            waiting_bytes_max: 128 * MIB,
            waiting_reads_max: 1 << 20,
        }
    }
}

/// Where a group stands on this node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Status {
    /// Its term, role and leader.
    pub role_state: RoleState,
    /// The end of its log.
    pub last: LogIndex,
    /// What is decided, as far as it knows.
    pub commit: LogIndex,
    /// What its state machine has applied.
    pub applied: LogIndex,
    /// How the disk of this node's log does.
    pub disk: DiskState,
}

/// How the disk of a node's log does.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DiskState {
    /// It has no room for entries: none are taken here.
    pub is_full: bool,
    /// A write has waited for it for longer than an election timeout.
    pub has_stalled: bool,
}

/// Why a proposal has no reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProposeError {
    /// Nothing was heard in time. It may have been applied, or may be yet.
    Unknown,
    /// Too much waits on this node. It was not proposed.
    Busy,
    /// The disks of a quorum have no room for it, or this node's has none, so that it would not learn the outcome. It was
    /// not proposed.
    NoSpace,
    /// The command is longer than `command_bytes_max`. It was not proposed.
    TooLarge {
        /// How long it may be.
        bytes_max: usize,
    },
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
    /// The node has stopped.
    Stopped,
}

/// Why the members have not changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ChangeError {
    /// The leader does not begin it.
    Refused(ChangeRefused),
    /// An address is longer than [`ADDRESS_BYTES_MAX`](crate::members::ADDRESS_BYTES_MAX), or the context than
    /// [`CONTEXT_BYTES_MAX`](crate::members::CONTEXT_BYTES_MAX). It was not asked for.
    TooLarge,
    /// Nothing was heard in time. It may have been done, or may be yet: look at the members.
    Unknown,
    /// The node has stopped.
    Stopped,
}

/// Why the leadership was not handed over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TransferError {
    /// The leader does not begin it.
    Refused(TransferRefused),
    /// The other did not take over in time.
    TimedOut,
    /// The node has stopped.
    Stopped,
}

impl<S: StateMachine> Group<S> {
    /// Has a command applied on every replica, and gives the reply of this node's.
    ///
    /// Survives a change of leader: a proposal that is certainly lost is sent again, and never applied twice. When the
    /// future is dropped nobody waits any more; the command may be applied all the same.
    ///
    /// # Errors
    /// [`ProposeError::Unknown`] leaves open whether it was applied.
    pub async fn propose(&self, command: S::Command) -> Result<S::Reply, ProposeError> {
        let shared = &*self.0;
        let sequence = shared.next.fetch_add(1, Relaxed);
        let id = ProposalId { origin: shared.origin, sequence };
        let payload = payload::command(id, command.size_hint(), |buffer| command.encode(buffer));
        drop(command);
        let (bytes, bytes_max) = (payload.len(), shared.limits.command_bytes_max);
        if bytes > bytes_max {
            return Err(ProposeError::TooLarge { bytes_max });
        }
        let reply = shared.proposals.wait(sequence);
        let waiting = WaitingProposal { shared, sequence, bytes };
        if shared.proposed_bytes.fetch_add(bytes, Relaxed) + bytes > shared.limits.waiting_bytes_max {
            return Err(ProposeError::Busy);
        }
        shared.events.push(Input::Propose { group: shared.id, sequence, payload });
        let outcome = wait(reply, shared.limits.timeout).await;
        if outcome.is_ok() {
            waiting.settle();
        }
        match outcome {
            Ok(reply) => reply.map_err(|NoSpace| ProposeError::NoSpace),
            Err(NoAnswer::TimedOut) => Err(ProposeError::Unknown),
            Err(NoAnswer::Stopped) => Err(ProposeError::Stopped),
        }
    }

    /// Reads the state as it is after everything that was decided before the call (linearizable). Costs no log entry.
    ///
    /// # Errors
    /// If no leader confirms the read.
    pub async fn read<T>(&self, look: impl FnOnce(&S) -> T) -> Result<T, ReadError> {
        self.barrier().await?;
        Ok(look(&self.state()))
    }

    /// Waits until this node's state is at least as new as the group's was at the call.
    ///
    /// # Errors
    /// If no leader confirms it.
    pub async fn barrier(&self) -> Result<(), ReadError> {
        let shared = &*self.0;
        if shared.reads.len() >= shared.limits.waiting_reads_max {
            return Err(ReadError::Busy);
        }
        let read = shared.next.fetch_add(1, Relaxed);
        let answer = shared.reads.wait(read);
        let waiting = WaitingRead { shared, read };
        shared.events.push(Input::Read { group: shared.id, read });
        let outcome = wait(answer, shared.limits.timeout).await;
        drop(waiting);
        outcome.map_err(|error| match error {
            NoAnswer::TimedOut => ReadError::TimedOut,
            NoAnswer::Stopped => ReadError::Stopped,
        })
    }

    /// Changes who belongs to the group, all of it in one step; `context` goes to the state machine with the new members.
    ///
    /// # Errors
    /// If the leader refuses it, or nothing is heard in time.
    pub async fn change_members(&self, changes: Vec<MemberChange>, context: Bytes) -> Result<(), ChangeError> {
        if is_too_large(&changes, &context) {
            return Err(ChangeError::TooLarge);
        }
        let shared = &*self.0;
        let sequence = shared.next.fetch_add(1, Relaxed);
        let answer = shared.changes.wait(sequence);
        shared.events.push(Input::ChangeMembers { group: shared.id, sequence, changes, context });
        let outcome = wait(answer, shared.limits.timeout).await;
        shared.changes.forget(sequence);
        match outcome {
            Ok(done) => done.map_err(ChangeError::Refused),
            Err(NoAnswer::TimedOut) => Err(ChangeError::Unknown),
            Err(NoAnswer::Stopped) => Err(ChangeError::Stopped),
        }
    }

    /// Hands the leadership to a member, or to the fittest, and waits until another leads. Only the leader can.
    ///
    /// # Errors
    /// If this node does not lead, the other cannot, or it does not take over in time.
    pub async fn transfer_leadership(&self, to: Option<NodeId>) -> Result<(), TransferError> {
        let shared = &*self.0;
        let mut role_states = self.role_states();
        let term = role_states.borrow_and_update().term;
        let sequence = shared.next.fetch_add(1, Relaxed);
        let answer = shared.transfers.wait(sequence);
        shared.events.push(Input::Transfer { group: shared.id, sequence, to });
        let begun = wait(answer, shared.limits.timeout).await;
        shared.transfers.forget(sequence);
        match begun {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return Err(TransferError::Refused(why)),
            Err(NoAnswer::TimedOut) => return Err(TransferError::TimedOut),
            Err(NoAnswer::Stopped) => return Err(TransferError::Stopped),
        }
        // A leader that is to be followed by itself leads already.
        let own = role_states.borrow().leader;
        if to.is_some() && to == own {
            return Ok(());
        }
        let taken_over = role_states.wait_for(|role_state| role_state.term > term && role_state.leader.is_some());
        match timeout(shared.limits.timeout, taken_over).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(TransferError::Stopped),
            Err(_) => Err(TransferError::TimedOut),
        }
    }

    /// Who belongs to the group, as this node's log says; and each change, the newest one for those who look late. A
    /// change that is not committed yet counts, and may be undone.
    #[must_use]
    pub fn members(&self) -> watch::Receiver<Members> {
        self.0.view.members.subscribe()
    }

    /// What happens to the group on this node from now on. Who lags far behind is told how much was dropped.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<GroupEvent> {
        self.0.view.events.subscribe()
    }

    /// The state as it is on this node, which may lag behind the group's. To be dropped soon: nothing is applied while
    /// it is held.
    pub fn state(&self) -> RwLockReadGuard<'_, S> {
        // A panic while the lock was held for writing has ended the driver; nothing is applied after it.
        self.0.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lock around the state, for what an owner does to it beside commands: never a change that commands can see.
    #[must_use]
    pub fn state_lock(&self) -> &RwLock<S> {
        &self.0.state
    }

    /// Where the group stands on this node.
    #[must_use]
    pub fn status(&self) -> Status {
        let view = &self.0.view;
        Status {
            role_state: *view.role_state.borrow(),
            last: LogIndex(view.last.load(Relaxed)),
            commit: LogIndex(view.commit.load(Relaxed)),
            applied: LogIndex(view.applied.load(Relaxed)),
            disk: DiskState {
                is_full: view.disk_is_full.load(Relaxed),
                has_stalled: view.disk_has_stalled.load(Relaxed),
            },
        }
    }

    /// Each change of term, role or leader; the newest one for those who look late.
    #[must_use]
    pub fn role_states(&self) -> watch::Receiver<RoleState> {
        self.0.view.role_state.subscribe()
    }

    /// How many proposals wait on this node.
    #[must_use]
    pub fn proposals_waiting(&self) -> usize {
        self.0.proposals.len()
    }
}

impl<S: StateMachine> Clone for Group<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: StateMachine> fmt::Debug for Group<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("id", &self.0.id).field("status", &self.status()).finish()
    }
}

enum NoAnswer {
    TimedOut,
    Stopped,
}

async fn wait<T>(answer: oneshot::Receiver<T>, limit: Duration) -> Result<T, NoAnswer> {
    match timeout(limit, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(NoAnswer::Stopped),
        Err(_) => Err(NoAnswer::TimedOut),
    }
}

/// Withdraws a proposal for which nobody waits any more.
struct WaitingProposal<'a, S: StateMachine> {
    shared: &'a Shared<S>,
    sequence: u64,
    bytes: usize,
}

impl<S: StateMachine> WaitingProposal<'_, S> {
    fn settle(mut self) {
        self.shared.proposed_bytes.fetch_sub(std::mem::take(&mut self.bytes), Relaxed);
        std::mem::forget(self);
    }
}

impl<S: StateMachine> Drop for WaitingProposal<'_, S> {
    fn drop(&mut self) {
        let Self { shared, sequence, bytes } = *self;
        shared.proposed_bytes.fetch_sub(bytes, Relaxed);
        shared.proposals.forget(sequence);
        shared.events.push(Input::Withdraw { group: shared.id, sequence });
    }
}

struct WaitingRead<'a, S: StateMachine> {
    shared: &'a Shared<S>,
    read: u64,
}

impl<S: StateMachine> Drop for WaitingRead<'_, S> {
    fn drop(&mut self) {
        self.shared.reads.forget(self.read);
    }
}

impl fmt::Display for ProposeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("no answer in time; the command may have been applied, or may be yet"),
            Self::Busy => f.write_str("too much waits to be agreed on; the command was not proposed"),
            Self::NoSpace => f.write_str("the disks have no room; the command was not proposed"),
            Self::TooLarge { bytes_max } => write!(f, "the command is longer than {bytes_max} bytes"),
            Self::Stopped => f.write_str("the node has stopped"),
        }
    }
}

impl std::error::Error for ProposeError {}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("no leader has confirmed the read in time"),
            Self::Busy => f.write_str("too many reads wait"),
            Self::Stopped => f.write_str("the node has stopped"),
        }
    }
}

impl std::error::Error for ReadError {}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "the members are not changed: {}", explain(*why)),
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
        ChangeRefused::NothingToDo => "it is so already".into(),
        ChangeRefused::NoSpace => "the disks have no room".into(),
    }
}

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
