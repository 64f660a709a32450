//! How a command is proposed by a handle: encoded under a name, counted while it waits, and withdrawn when nobody waits for it.

use std::cell::RefCell;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::BytesMut;
use vlot_node::input::{Input, Proposal};
use vlot_node::payload;
use vlot_node::proposal_id::ProposalId;
use vlot_node::state_machine::{Class, Command, StateMachine};

use super::Group;
use crate::errors::ProposeError;
use crate::routed::Place;
use crate::waiters::{NoAnswer, Waiter};

/// Commands about as long as this, and shorter ones, share blocks of memory: one to be had and given back, by two threads, for
/// many calls. A block lives as long as any command in it.
const IN_BLOCK_BYTES_MAX: usize = 512;
const BLOCK_BYTES: usize = 4 << 10;

thread_local! {
    /// What is left of the block that this thread writes commands to.
    static BLOCK: RefCell<BytesMut> = RefCell::new(BytesMut::with_capacity(BLOCK_BYTES));
}

/// How long a proposal that was withdrawn waits for what is known of it.
const LAST_WORD: Duration = Duration::from_secs(1);

impl<S: StateMachine> Group<S> {
    /// A command that `write` adds to a buffer, its class, and whether it may share an entry with others.
    pub(crate) fn encode(
        &self,
        (class, shares_entry): (Class, bool),
        size_hint: usize,
        write: impl FnOnce(&mut BytesMut),
    ) -> Result<Proposal, ProposeError> {
        let shared = &*self.0;
        let place = self.2.as_ref().map_or(Place::HERE, |callers| callers.place());
        let sequence = shared.next_number(place);
        let id = ProposalId { origin: shared.origin, sequence };
        let payload = match size_hint {
            ..=IN_BLOCK_BYTES_MAX => BLOCK.with(|block| match block.try_borrow_mut() {
                Ok(mut block) => {
                    // Of one whose encoding has panicked.
                    block.clear();
                    payload::command_in(&mut block, id, size_hint, write)
                }
                // What encodes proposes something else.
                Err(_) => payload::command(id, size_hint, write),
            }),
            _ => payload::command(id, size_hint, write),
        };
        let (bytes, bytes_max) = (payload.len(), shared.limits.command_bytes_max);
        if bytes > bytes_max {
            return Err(ProposeError::TooLarge { bytes_max });
        }
        // What is in the log has to be applied, on every replica.
        S::Command::check(&payload.slice(payload::HEADER_BYTES..)).map_err(ProposeError::Invalid)?;
        Ok(Proposal { sequence, payload, class, shares_entry })
    }

    /// As [`Group::propose`], but at once, and not when the future is first looked at.
    pub(crate) fn propose_encoded(
        &self,
        proposal: Proposal,
        limit: Duration,
    ) -> impl Future<Output = Result<S::Reply, ProposeError>> {
        let begun = self.begin_proposal(proposal, limit);
        async move {
            let (waiting, reply) = begun?;
            let outcome = match reply.answer().await {
                // What is known of it now is answered at once.
                Err(NoAnswer::TimedOut) => {
                    let last_word = waiting.withdraw()?;
                    last_word.answer().await
                }
                answered => answered,
            };
            let outcome = outcome.unwrap_or_else(|why| match why {
                NoAnswer::TimedOut => Err(ProposeError::Unknown),
                NoAnswer::Stopped => Err(ProposeError::Stopped),
            });
            waiting.settle();
            outcome
        }
    }

    fn begin_proposal(
        &self,
        proposal: Proposal,
        limit: Duration,
    ) -> Result<(WaitingProposal<'_, S>, WaiterOf<S>), ProposeError> {
        let (shared, sequence, bytes) = (&*self.0, proposal.sequence, proposal.payload.len());
        let bytes_max = shared.limits.waiting_bytes_max_of(proposal.class);
        if shared.proposed_bytes.fetch_add(bytes, Relaxed) + bytes > bytes_max {
            shared.proposed_bytes.fetch_sub(bytes, Relaxed);
            return Err(ProposeError::Busy);
        }
        let waiting = WaitingProposal { group: self, sequence, bytes };
        let reply = match &self.2 {
            None => {
                let reply = shared.calls.proposals.here().wait(sequence, limit);
                let proposed = Input::Propose { group: shared.id, proposals: vec![proposal] };
                shared.events.push(proposed).map_err(|_| ProposeError::Stopped)?;
                reply
            }
            Some(callers) => callers.propose(proposal, limit),
        };
        Ok((waiting, reply))
    }
}

/// Withdraws a proposal for which no caller waits any more.
struct WaitingProposal<'a, S: StateMachine> {
    group: &'a Group<S>,
    sequence: u64,
    bytes: usize,
}

/// Waits for the reply to a proposal.
type WaiterOf<S> = Waiter<Result<<S as StateMachine>::Reply, ProposeError>>;

impl<S: StateMachine> WaitingProposal<'_, S> {
    /// Its time is up. What is known of it is told soon.
    fn withdraw(&self) -> Result<WaiterOf<S>, ProposeError> {
        let Self { group, sequence, .. } = *self;
        let shared = &*group.0;
        let last_word = match &group.2 {
            None => shared.calls.proposals.here().wait(sequence, LAST_WORD),
            Some(callers) => callers.wait_again(sequence, LAST_WORD),
        };
        let withdrawn = group.ask(Input::Withdraw { group: shared.id, sequence });
        withdrawn.map_err(|_| ProposeError::Stopped)?;
        Ok(last_word)
    }

    fn settle(mut self) {
        self.group.0.proposed_bytes.fetch_sub(std::mem::take(&mut self.bytes), Relaxed);
        std::mem::forget(self);
    }
}

impl<S: StateMachine> Drop for WaitingProposal<'_, S> {
    fn drop(&mut self) {
        let Self { group, sequence, bytes } = *self;
        let shared = &*group.0;
        shared.proposed_bytes.fetch_sub(bytes, Relaxed);
        match &group.2 {
            None => shared.calls.proposals.here().forget(sequence),
            Some(callers) => callers.forget_proposal(sequence),
        }
        // A driver that has ended has forgotten it.
        let _ = group.ask(Input::Withdraw { group: shared.id, sequence });
    }
}
