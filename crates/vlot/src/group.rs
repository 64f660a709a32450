//! The handle to one replicated state machine: propose, read, and see where it stands.
//!
//! Owns time limits and the bound on what waits. Must not know how agreement is reached.

mod proposing;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, oneshot, watch};
use tokio::time::timeout;
use vlot_node::act::{Answer, ClosedLog, GroupEvent, Status};
use vlot_node::input::Input;
use vlot_node::members::{MemberChange, Members, address_in_use, is_too_large};
use vlot_node::report::Report;
use vlot_node::state_machine::{Class, Command, StateMachine, Viewed};
use vlot_raft::configuration::ChangeRefused;
use vlot_raft::effect::{RoleState, TransferRefused};
use vlot_raft::id::{GroupId, NodeId};

use crate::callers::Callers;
use crate::errors::{ChangeError, ProposeError, ReadError, SnapshotError, TransferError};
use crate::events::{Closed, Event, Events};
use crate::routed::{Place, Routed};
use crate::shown::Shown;
use crate::state_lock::StateLock;
use crate::typed::Calling;
use crate::waiters::{NoAnswer, Waiters};

/// One replicated state machine, as this node sees it. Cheap to clone.
///
/// Every node of the group may propose and read: what must be decided by the leader finds its way there. How long a call may
/// take is [`Limits::timeout`], or what [`Group::within`] says.
pub struct Group<S: StateMachine>(pub(crate) Arc<Shared<S>>, pub(crate) Duration, Option<Arc<Callers<S>>>);

/// What all clones of a handle share with the driver.
pub(crate) struct Shared<S: StateMachine> {
    pub(crate) id: GroupId,
    pub(crate) origin: u64,
    pub(crate) next: AtomicU64,
    pub(crate) state: Arc<StateLock<S>>,
    pub(crate) calls: Arc<Calls<S>>,
    pub(crate) proposed_bytes: AtomicUsize,
    pub(crate) limits: Limits,
    pub(crate) events: Arc<Events>,
    pub(crate) shown: Arc<Shown>,
    pub(crate) calling: Calling,
}

/// What waits for an answer.
pub(crate) struct Calls<S: StateMachine> {
    pub(crate) proposals: Routed<Result<S::Reply, ProposeError>>,
    pub(crate) reads: Routed<Result<(), ReadError>>,
    pub(crate) changes: Waiters<Result<(), ChangeRefused>>,
    pub(crate) transfers: Waiters<Result<(), TransferRefused>>,
    pub(crate) shown: Arc<Shown>,
}

/// A group that was closed, as its log is.
pub(crate) struct ClosedGroup {
    /// None if it was removed from the log.
    pub(crate) log: Option<ClosedLog>,
}

/// The bounds of a handle.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How long a proposal or a read may take.
    pub timeout: Duration,
    /// The longest command, in bytes.
    pub command_bytes_max: usize,
    /// Bytes of all commands that wait on this node. Seven eighths of it are for those of [`Class::Bulk`].
    pub waiting_bytes_max: usize,
    /// Reads that wait on this node; by each handle that is for a runtime, so many again.
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

impl Limits {
    /// Up to how many waiting bytes another command of this class is taken.
    fn waiting_bytes_max_of(&self, class: Class) -> usize {
        match class {
            Class::Bulk => self.waiting_bytes_max - self.waiting_bytes_max / 8,
            Class::Urgent => self.waiting_bytes_max,
        }
    }
}

impl<S: StateMachine> Shared<S> {
    /// The number of another call, which waits there.
    pub(crate) fn next_number(&self, place: Place) -> u64 {
        place.number(self.next.fetch_add(1, Relaxed))
    }
}

impl<S: StateMachine> Calls<S> {
    /// No call waits yet. Their time is looked after on this runtime.
    pub(crate) fn new(shown: Arc<Shown>, tasks: &Handle) -> Self {
        Self {
            proposals: Routed::new(tasks.clone()),
            reads: Routed::new(tasks.clone()),
            changes: Waiters::new(tasks.clone()),
            transfers: Waiters::new(tasks.clone()),
            shown,
        }
    }

    pub(crate) fn answer(&self, answer: Answer) {
        match answer {
            Answer::NotProposed(sequence, why) => self.proposals.answer(sequence, Err(why.into())),
            Answer::Unknown(sequence) => self.proposals.answer(sequence, Err(ProposeError::Unknown)),
            Answer::Changed(sequence, done) => self.changes.answer(sequence, done),
            Answer::Transfer(sequence, begun) => self.transfers.answer(sequence, begun),
            Answer::Ready(reads) => self.reads.answer_all(reads.into_iter().map(|read| (read, Ok(()))).collect()),
            Answer::NotRead(read, why) => self.reads.answer(read, Err(why.into())),
        }
    }

    pub(crate) fn close(&self) {
        self.proposals.close();
        self.reads.close();
        self.changes.close();
        self.transfers.close();
    }
}

impl<S: StateMachine> Group<S> {
    /// The same group by a handle whose calls may take this long.
    ///
    /// ```
    /// # use vlot::*;
    /// # async fn example<S: StateMachine<Command = u64, Reply = u64>>(group: Group<S>) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    ///
    /// let hasty = group.within(Duration::from_millis(200));
    /// if hasty.barrier().await.is_err() {
    ///     println!("no majority answers at this moment");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn within(&self, timeout: Duration) -> Self {
        Self(Arc::clone(&self.0), timeout, self.2.clone())
    }

    /// The same group by a handle for the tasks of a runtime of one thread that is not the node's: a current-thread runtime, or one
    /// with a single worker. What they ask in one turn of that runtime goes to the node together, and what is answered together
    /// wakes the runtime once: with many calls at a time that is most of what another thread costs. Made once for a runtime, and
    /// cloned; its calls get no answer once that runtime has ended. Of 4,095 such handles of a group at once; the one after them is as
    /// any other.
    ///
    /// ```
    /// # use vlot::*;
    /// # fn example<S: StateMachine>(group: Group<S>) -> std::io::Result<()> {
    /// let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    /// let group = group.for_runtime(runtime.handle());
    /// std::thread::spawn(move || {
    ///     runtime.block_on(async {
    ///         // Serves some of the clients, by this handle.
    ///         drop(group.barrier().await);
    ///     })
    /// });
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn for_runtime(&self, runtime: &Handle) -> Self {
        Self(Arc::clone(&self.0), self.1, Callers::new(&self.0, runtime))
    }

    pub(crate) fn new(shared: Shared<S>) -> Self {
        let timeout = shared.limits.timeout;
        Self(Arc::new(shared), timeout, None)
    }

    /// Asks something of the driver.
    fn ask(&self, input: Input) -> Result<(), Closed> {
        match &self.2 {
            None => self.0.events.push(input),
            Some(callers) => {
                callers.ask(input);
                Ok(())
            }
        }
    }

    /// How long a call of this handle may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.1
    }

    /// Whether the node has stopped, or the group was closed on it.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.calls.proposals.is_closed()
    }

    /// Has a command applied on every replica, and gives the reply of this node's.
    ///
    /// Survives a change of leader: a proposal that is certainly lost is sent again, and never applied twice. When the
    /// future is dropped no caller waits any more; the command may be applied all the same.
    ///
    /// # Errors
    /// [`ProposeError::Unknown`] and [`ProposeError::Stopped`] leave open whether it was applied.
    ///
    /// # Example
    /// ```
    /// # use vlot::*;
    /// # async fn example<S: StateMachine<Command = u64, Reply = u64>>(group: Group<S>) -> Result<(), Box<dyn std::error::Error>> {
    /// match group.propose(5).await {
    ///     Ok(total) => println!("{total}"),
    ///     Err(ProposeError::Unknown | ProposeError::Stopped) => println!("perhaps"),
    ///     Err(why) => println!("certainly not: {why}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn propose(&self, command: S::Command) -> Result<S::Reply, ProposeError> {
        let goes = (command.class(), command.shares_entry());
        let encoded = self.encode(goes, command.size_hint(), |buffer| command.encode(buffer))?;
        drop(command);
        self.propose_encoded(encoded, self.timeout()).await
    }

    /// Reads the state as it is after everything that was decided before the call (linearizable). Costs no log entry.
    /// Nothing is applied to this group on this node meanwhile: for what takes long, see [`Group::view`].
    ///
    /// # Errors
    /// If no leader confirms the read.
    ///
    /// # Example
    /// ```
    /// # use vlot::{Group, LogId, ReadError, StateMachine};
    /// # struct Sum(u64);
    /// # impl StateMachine for Sum {
    /// #     type Command = u64;
    /// #     type Reply = u64;
    /// #     fn apply(&mut self, _: LogId, more: u64) -> u64 { self.0 += more; self.0 }
    /// # }
    /// async fn total(sum: &Group<Sum>) -> Result<u64, ReadError> {
    ///     sum.read(|sum| sum.0).await
    /// }
    /// ```
    pub async fn read<T>(&self, look: impl FnOnce(&S) -> T) -> Result<T, ReadError> {
        self.barrier().await?;
        self.look(look).await
    }

    /// Reads the state as it is on this node, which may lag behind the group's. Nothing is applied to this group on this
    /// node meanwhile.
    ///
    /// # Errors
    /// [`ReadError::Fenced`] if the state machine has stopped: its state may be half of a command's.
    ///
    /// # Example
    /// ```
    /// # use vlot::{Group, LogId, ReadError, StateMachine};
    /// # struct Sum(u64);
    /// # impl StateMachine for Sum {
    /// #     type Command = u64;
    /// #     type Reply = u64;
    /// #     fn apply(&mut self, _: LogId, more: u64) -> u64 { self.0 += more; self.0 }
    /// # }
    /// /// Good enough for a dashboard, and it answers without a majority too.
    /// async fn about(sum: &Group<Sum>) -> Result<u64, ReadError> {
    ///     sum.look(|sum| sum.0).await
    /// }
    /// ```
    pub async fn look<T>(&self, look: impl FnOnce(&S) -> T) -> Result<T, ReadError> {
        let state = self.0.state.read().await;
        if self.0.shown.has_failed() {
            return Err(ReadError::Fenced);
        }
        Ok(look(&*state))
    }

    /// Waits until this node's state is at least as new as the group's was at the call.
    ///
    /// # Errors
    /// If no leader confirms it.
    ///
    /// # Example
    /// ```
    /// # use vlot::*;
    /// # async fn example<S: StateMachine<Command = u64, Reply = u64>>(group: Group<S>) -> Result<(), Box<dyn std::error::Error>> {
    /// // This node has caught up with all that was decided before: it is ready to serve.
    /// group.barrier().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn barrier(&self) -> Result<(), ReadError> {
        let shared = &*self.0;
        let (read, answer) = match &self.2 {
            None => {
                if shared.calls.reads.len() >= shared.limits.waiting_reads_max {
                    return Err(ReadError::Busy);
                }
                let read = shared.next_number(Place::HERE);
                (read, shared.calls.reads.here().wait(read, self.timeout()))
            }
            Some(callers) => callers.read(self.timeout()).ok_or(ReadError::Busy)?,
        };
        let waiting = WaitingRead { group: self, read };
        if self.2.is_none() {
            shared.events.push(Input::Read { group: shared.id, read }).map_err(|_| ReadError::Stopped)?;
        }
        let outcome = answer.answer().await;
        drop(waiting);
        outcome.unwrap_or_else(|error| {
            Err(match error {
                NoAnswer::TimedOut => ReadError::TimedOut,
                NoAnswer::Stopped => ReadError::Stopped,
            })
        })
    }

    /// Changes the members of the group, all of it in one step; `context` goes to the state machine with the new
    /// members.
    ///
    /// # Errors
    /// If the leader refuses it, or nothing is heard in time.
    ///
    /// # Example
    /// ```
    /// # use vlot::*;
    /// # async fn example<S: StateMachine<Command = u64, Reply = u64>>(group: Group<S>) -> Result<(), Box<dyn std::error::Error>> {
    /// // A machine comes in. It gets the whole log first, and votes once it has it.
    /// let learner = MemberChange::AddLearner { node: NodeId(4), address: "n4.example:7001".into() };
    /// group.change_members(vec![learner], Default::default()).await?;
    ///
    /// // Refused as `ChangeRefused::NotCaughtUp` until it has caught up. Both at once: never a voter less.
    /// let replaced = vec![MemberChange::Promote(NodeId(4)), MemberChange::Remove(NodeId(2))];
    /// group.change_members(replaced, Default::default()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn change_members(&self, changes: Vec<MemberChange>, context: Bytes) -> Result<(), ChangeError> {
        if is_too_large(&changes, &context) {
            return Err(ChangeError::TooLarge);
        }
        let shared = &*self.0;
        if let Some(by) = address_in_use(&shared.shown.members.borrow(), &changes) {
            return Err(ChangeError::AddressInUse { by });
        }
        let sequence = shared.next_number(Place::HERE);
        let answer = shared.calls.changes.wait(sequence, self.timeout());
        let asked = Input::ChangeMembers { group: shared.id, sequence, changes, context };
        shared.events.push(asked).map_err(|_| ChangeError::Stopped)?;
        let outcome = answer.answer().await;
        shared.calls.changes.forget(sequence);
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
    ///
    /// # Example
    /// ```
    /// # use vlot::*;
    /// # async fn example<S: StateMachine<Command = u64, Reply = u64>>(group: Group<S>) -> Result<(), Box<dyn std::error::Error>> {
    /// // Before this machine is taken down.
    /// if group.status().role_state.role == RoleName::Leader {
    ///     group.transfer_leadership(None).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn transfer_leadership(&self, to: Option<NodeId>) -> Result<(), TransferError> {
        let shared = &*self.0;
        let mut role_states = self.role_states();
        // The status is shown first: by the role, the leader that was found there might seem to be the next one.
        let term = self.status().role_state.term;
        let sequence = shared.next_number(Place::HERE);
        let answer = shared.calls.transfers.wait(sequence, self.timeout());
        let asked = Input::Transfer { group: shared.id, sequence, to };
        shared.events.push(asked).map_err(|_| TransferError::Stopped)?;
        let begun = answer.answer().await;
        shared.calls.transfers.forget(sequence);
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
        match timeout(self.timeout(), taken_over).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(TransferError::Stopped),
            Err(_) => Err(TransferError::TimedOut),
        }
    }

    /// Saves a snapshot of this node's state that has everything which this node had applied at the call, whether its log is
    /// long or not.
    ///
    /// # Errors
    /// If it cannot be saved, or is not in time.
    ///
    /// # Example
    /// ```
    /// # use vlot::*;
    /// # async fn example<S: StateMachine<Command = u64, Reply = u64>>(group: Group<S>) -> Result<(), Box<dyn std::error::Error>> {
    /// group.barrier().await?;
    /// group.save_snapshot().await?; // it has all that was decided before the barrier
    /// # Ok(())
    /// # }
    /// ```
    pub async fn save_snapshot(&self) -> Result<(), SnapshotError> {
        let (applied, mut events) = (self.status().applied, self.events());
        let saved = async {
            loop {
                let asked = Input::SaveSnapshot { group: self.0.id };
                self.0.events.push(asked).map_err(|_| SnapshotError::Stopped)?;
                // One that was begun before may be of an earlier entry.
                loop {
                    match events.recv().await {
                        Ok(GroupEvent::SnapshotSaved { of }) if of.index >= applied => return Ok(()),
                        Ok(GroupEvent::SnapshotSaved { .. }) | Err(broadcast::error::RecvError::Lagged(_)) => break,
                        Ok(GroupEvent::SnapshotNotSaved { why }) => return Err(SnapshotError::NotSaved { why }),
                        Ok(_) => {}
                        Err(broadcast::error::RecvError::Closed) => return Err(SnapshotError::Stopped),
                    }
                }
            }
        };
        timeout(self.timeout(), saved).await.unwrap_or(Err(SnapshotError::TimedOut))
    }

    /// The members of the group, as this node's log says; and each change, the newest one for a receiver that looks late. A
    /// change that is not committed yet counts, and may be undone.
    ///
    /// ```
    /// # use vlot::*;
    /// # async fn example<S: StateMachine<Command = u64, Reply = u64>>(group: Group<S>) -> Result<(), Box<dyn std::error::Error>> {
    /// for (member, address) in group.members().borrow().iter() {
    ///     println!("node {} at {address}: {:?}", member.node, member.seat);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn members(&self) -> watch::Receiver<Members> {
        self.0.shown.members.subscribe()
    }

    /// What happens to the group on this node from now on. A receiver that lags far behind is told how much was dropped.
    ///
    /// ```
    /// # use vlot::*;
    /// # async fn example<S: StateMachine<Command = u64, Reply = u64>>(group: Group<S>) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut events = group.events();
    /// while let Ok(event) = events.recv().await {
    ///     if let GroupEvent::Fenced(why) = event {
    ///         println!("the state machine has stopped: {why}");
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<GroupEvent> {
        self.0.shown.subscribe()
    }

    /// Where the group stands on this node.
    ///
    /// ```
    /// # use vlot::*;
    /// # async fn example<S: StateMachine<Command = u64, Reply = u64>>(group: Group<S>) -> Result<(), Box<dyn std::error::Error>> {
    /// let status = group.status();
    /// println!("term {}, leader {:?}", status.role_state.term, status.role_state.leader);
    /// println!("{} entries are decided and not applied here", status.commit.since(status.applied));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn status(&self) -> Status {
        self.0.shown.status()
    }

    /// Where the group stands on this node, in full: both ends of the log, each peer and how far it lags, and what is wrong,
    /// in sentences. It is made when it is asked for and costs a look at each member; [`Group::status`] costs less. None if
    /// the group is closed on this node, or the node has stopped.
    pub async fn report(&self) -> Option<Report> {
        let (report, made) = oneshot::channel();
        self.0.events.push(Event::Report { group: self.0.id, report }).ok()?;
        made.await.ok()
    }

    /// Each change of term, role or leader; the newest one for a receiver that looks late.
    ///
    /// ```
    /// # use vlot::*;
    /// # async fn example<S: StateMachine<Command = u64, Reply = u64>>(group: Group<S>) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut role_states = group.role_states();
    /// // Waits until there is a leader.
    /// let led = role_states.wait_for(|role_state| role_state.leader.is_some()).await?;
    /// println!("node {:?} leads", led.leader);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn role_states(&self) -> watch::Receiver<RoleState> {
        self.0.shown.role_state.subscribe()
    }

    /// How many proposals wait on this node.
    #[must_use]
    pub fn proposals_waiting(&self) -> usize {
        self.0.calls.proposals.len()
    }

    /// How many bytes those proposals are, encoded.
    #[must_use]
    pub fn proposed_bytes(&self) -> usize {
        self.0.proposed_bytes.load(Relaxed)
    }
}

impl<S: Viewed> Group<S> {
    /// A view of the state as it is after everything that was decided before the call (linearizable). It may be read for as
    /// long as need be, from any thread, and holds nothing up.
    ///
    /// # Errors
    /// If no leader confirms it.
    ///
    /// # Example
    /// ```
    /// # use vlot::*;
    /// # async fn example<T: State + Clone + serde::Serialize>(group: Group<Typed<T>>) -> Result<(), Box<dyn std::error::Error>> {
    /// // A backup: one moment of the state, which is written while commands go on.
    /// let state = group.view().await?;
    /// std::fs::write("backup", postcard::to_stdvec(&state)?)?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn view(&self) -> Result<S::View, ReadError> {
        self.read(S::view).await
    }

    /// A view of the state as it is on this node, which may lag behind the group's.
    ///
    /// # Errors
    /// As [`Group::look`].
    pub async fn local_view(&self) -> Result<S::View, ReadError> {
        self.look(S::view).await
    }
}

impl<S: StateMachine> Clone for Group<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0), self.1, self.2.clone())
    }
}

impl<S: StateMachine> fmt::Debug for Group<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("id", &self.0.id).field("status", &self.status()).finish()
    }
}

struct WaitingRead<'a, S: StateMachine> {
    group: &'a Group<S>,
    read: u64,
}

impl<S: StateMachine> Drop for WaitingRead<'_, S> {
    fn drop(&mut self) {
        match &self.group.2 {
            None => self.group.0.calls.reads.here().forget(self.read),
            Some(callers) => callers.forget(self.read),
        }
    }
}
