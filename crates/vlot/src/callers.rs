//! Callers on another thread than the driver's: what they ask in one turn of their runtime goes to the driver together, and what is
//! answered together reaches them by one wake-up.
//!
//! By itself each call would wake the driver's thread, and each answer the caller's: more than all else that is done for a call on the
//! way. Owns what is gathered on both ways. Reads that are gathered are one read to the driver. Bounded by what a handle lets wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::Instant;
use vlot_node::input::{Input, Proposal};
use vlot_node::state_machine::StateMachine;

use crate::errors::{ProposeError, ReadError};
use crate::events::Event;
use crate::group::Shared;
use crate::routed::{Elsewhere, Place};
use crate::waiters::{NoAnswer, Waiter, Waiters};

/// The callers on one runtime.
pub(crate) struct Callers<S: StateMachine> {
    shared: Arc<Shared<S>>,
    runtime: Handle,
    /// Rung when something is asked or answered where nothing was.
    bell: Arc<Notify>,
    asked: Mutex<Asked>,
    /// Those that wait for replies.
    proposals: Arc<Elsewhere<Result<S::Reply, ProposeError>>>,
    /// Of what was asked for all reads of a turn.
    reads_together: Arc<Elsewhere<Result<(), ReadError>>>,
    reads: Arc<Waiters<Result<(), ReadError>>>,
}

/// How many answers may be handed out to callers on a worker of a multi-threaded runtime before they have asked for something else. Its
/// queue holds 256 tasks; of what is beyond them it would make some wait behind others that come later, again and again.
const QUEUE_MAX: usize = 192;
/// Such a worker comes back to a task that lets others go first after 61 of them. If so many of those have asked for something, more
/// may.
const ROUND_MIN: usize = 32;
/// How often it is let come back, at most, before what was asked goes to the driver.
const ROUNDS_MAX: usize = 4;

/// The time of calls that may take less than this begins with each of them. For the others the clock is not read each time.
const TIMED_APART: Duration = Duration::from_secs(1);

/// What is to go to the driver.
struct Asked {
    proposals: Vec<Proposal>,
    /// When the first of them came, or a later one. It counts for those that come after it in this turn of the runtime.
    proposed_from: Instant,
    /// What comes after them.
    events: Vec<Event>,
    reads: Vec<u64>,
    reads_begun: u64,
    /// How long the most patient of the reads waits.
    patience: Duration,
}

impl<S: StateMachine> Callers<S> {
    /// None if there are too many that are not those.
    pub(crate) fn new(shared: &Arc<Shared<S>>, runtime: &Handle) -> Option<Arc<Self>> {
        let bell = Arc::new(Notify::new());
        let proposals = shared.calls.proposals.elsewhere(runtime, &bell)?;
        let reads_together = shared.calls.reads.elsewhere(runtime, &bell)?;
        let callers = Arc::new(Self {
            shared: Arc::clone(shared),
            runtime: runtime.clone(),
            asked: Mutex::new(Asked {
                proposals: Vec::new(),
                proposed_from: Instant::now(),
                events: Vec::new(),
                reads: Vec::new(),
                reads_begun: 0,
                patience: Duration::ZERO,
            }),
            proposals,
            reads_together,
            reads: Arc::new(Waiters::new(runtime.clone())),
            bell: Arc::clone(&bell),
        });
        let goes_first = runtime.runtime_flavor() != RuntimeFlavor::CurrentThread;
        runtime.spawn(turns(Arc::downgrade(&callers), bell, goes_first));
        Some(callers)
    }

    /// Proposes a command, and waits for the reply, for so long at most. It comes to the driver before what else was asked in this
    /// turn: nothing of that is about a proposal that came later.
    pub(crate) fn propose(&self, proposal: Proposal, limit: Duration) -> Waiter<Result<S::Reply, ProposeError>> {
        let mut asked = self.asked();
        let was_empty = asked.is_empty();
        if asked.proposals.is_empty() || limit < TIMED_APART {
            asked.proposed_from = Instant::now();
        }
        let now = asked.proposed_from;
        let waiter = self.proposals.calls.wait_from(proposal.sequence, now, limit);
        asked.proposals.push(proposal);
        drop(asked);
        self.ring_if(was_empty);
        waiter
    }

    /// Waits for another answer to a proposal, for so long at most.
    pub(crate) fn wait_again(&self, sequence: u64, limit: Duration) -> Waiter<Result<S::Reply, ProposeError>> {
        self.proposals.calls.wait(sequence, limit)
    }

    /// Asks something of the driver, after all that was asked here before. What waits for the answer is told if the driver has
    /// ended.
    pub(crate) fn ask(&self, input: Input) {
        let mut asked = self.asked();
        let was_empty = asked.is_empty();
        asked.events.push(input.into());
        drop(asked);
        self.ring_if(was_empty);
    }

    /// Begins a read, for so long at most. None if too many wait.
    pub(crate) fn read(&self, limit: Duration) -> Option<(u64, Waiter<Result<(), ReadError>>)> {
        if self.reads.len() >= self.shared.limits.waiting_reads_max {
            return None;
        }
        let mut asked = self.asked();
        let was_empty = asked.is_empty();
        asked.reads_begun += 1;
        let read = asked.reads_begun;
        asked.reads.push(read);
        asked.patience = asked.patience.max(limit);
        let waiter = self.reads.wait(read, limit);
        drop(asked);
        self.ring_if(was_empty);
        Some((read, waiter))
    }

    /// Where proposals of these callers wait.
    pub(crate) fn place(&self) -> Place {
        self.proposals.place
    }

    /// A proposal is waited for no more.
    pub(crate) fn forget_proposal(&self, sequence: u64) {
        self.proposals.calls.forget(sequence);
    }

    /// A read is waited for no more.
    pub(crate) fn forget(&self, read: u64) {
        self.reads.forget(read);
    }

    /// Sends what was asked, and hands out what was answered, so many answers of a kind at most. Returns how much was asked, and how
    /// many answers were handed out.
    fn turn(&self, answers_max: usize) -> (usize, usize) {
        let mut asked = self.asked();
        let asked_for = asked.len();
        if !asked.reads.is_empty() {
            let (reads, patience) = (std::mem::take(&mut asked.reads), std::mem::take(&mut asked.patience));
            let together = self.read_together(reads, patience);
            asked.events.push(together.into());
        }
        let mut events = std::mem::take(&mut asked.events);
        if !asked.proposals.is_empty() {
            // As many may come again.
            let room = Vec::with_capacity(asked.proposals.len());
            let proposals = std::mem::replace(&mut asked.proposals, room);
            events.insert(0, Input::Propose { group: self.shared.id, proposals }.into());
        }
        drop(asked);
        self.shared.events.push_all(events);
        let (replies, are_more_replies) = self.proposals.hand_out(answers_max);
        let (reads, are_more_reads) = self.reads_together.hand_out(answers_max);
        if are_more_replies || are_more_reads {
            self.bell.notify_one();
        }
        (asked_for, replies + reads)
    }

    /// One read for all of these: the driver takes it after the last of them was begun.
    fn read_together(&self, reads: Vec<u64>, patience: Duration) -> Input {
        let read = self.shared.next_number(self.reads_together.place);
        let answer = self.reads_together.calls.wait(read, patience);
        let waiters = Arc::clone(&self.reads);
        self.runtime.spawn(async move {
            let outcome = answer.answer().await.unwrap_or_else(|why| {
                Err(match why {
                    NoAnswer::TimedOut => ReadError::TimedOut,
                    NoAnswer::Stopped => ReadError::Stopped,
                })
            });
            waiters.answer_all(reads.into_iter().map(|read| (read, outcome)));
        });
        Input::Read { group: self.shared.id, read }
    }

    fn ring_if(&self, was_empty: bool) {
        if was_empty {
            self.bell.notify_one();
        }
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        // Only moves of whole values happen under the lock.
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asked {
    fn len(&self) -> usize {
        self.proposals.len() + self.events.len() + self.reads.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<S: StateMachine> Drop for Callers<S> {
    fn drop(&mut self) {
        // Withdrawals are the last that there can be.
        self.turn(usize::MAX);
        self.bell.notify_one();
    }
}

/// Lets others of this worker go first, until few of them have asked for something in one round of the worker.
async fn let_others_go<S: StateMachine>(callers: &Weak<Callers<S>>) {
    for _ in 0..ROUNDS_MAX {
        let Some(before) = callers.upgrade().map(|callers| callers.asked().len()) else { return };
        yield_now().await;
        let Some(after) = callers.upgrade().map(|callers| callers.asked().len()) else { return };
        if after < before + ROUND_MIN {
            return;
        }
    }
}

/// Gives these callers their turns for as long as there are any. On a current-thread runtime a task that is woken there comes behind
/// all that are ready: what they ask is gathered by then. A worker of a multi-threaded one runs the task that was woken last before
/// all others, with one call in hand: there this one `goes_first`, and lets the others go before it if there are any.
async fn turns<S: StateMachine>(callers: Weak<Callers<S>>, bell: Arc<Notify>, goes_first: bool) {
    // A lone caller would wait for nothing.
    let mut are_many = false;
    // Callers that were answered and have not asked for anything since; some never will.
    let mut answered = 0;
    loop {
        bell.notified().await;
        if goes_first && are_many {
            let_others_go(&callers).await;
        }
        // What keeps them alive are their handles.
        match callers.upgrade() {
            Some(callers) => {
                let answers_max = if goes_first { QUEUE_MAX.saturating_sub(answered) } else { usize::MAX };
                let (asked, handed_out) = callers.turn(answers_max);
                are_many = asked + handed_out > 1;
                answered = if asked == 0 { handed_out } else { answered.saturating_sub(asked) + handed_out };
            }
            None => return,
        }
    }
}
