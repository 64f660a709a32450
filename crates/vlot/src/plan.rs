//! What a change of members would do, and one made of several: to replace a member.
//!
//! Owns how a change that takes several steps is asked for until it is done. What the steps are, and what a change does, is
//! the node's: `vlot_node::members_replace` and `vlot_node::plan`.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};
use vlot_node::members::{MemberChange, Members};
use vlot_node::members_replace::{Replacement, Replacing};
use vlot_node::plan::{Observed, Plan};
use vlot_node::state_machine::StateMachine;
use vlot_raft::configuration::ChangeRefused;
use vlot_raft::id::NodeId;

use crate::errors::ChangeError;
use crate::group::Group;

/// How long to wait before a step is asked for again.
const PAUSE: Duration = Duration::from_millis(50);

/// Why a member was not replaced. It stands where it is said to: [`Group::replace_member`] goes on from there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReplaceError {
    /// How far it has come.
    pub stands: Replacing,
    /// What is in the way.
    pub why: ChangeError,
}

impl<S: StateMachine> Group<S> {
    /// What a change of members would do to the group's quorums and to the failures that it survives, without doing it. On
    /// the node that leads, with what it sees of the other members; elsewhere as if all of them were there.
    #[must_use]
    pub fn plan_members(&self, changes: &[MemberChange]) -> Plan {
        let seen = self.0.shown.health();
        let nodes = |holds: fn(bool, bool) -> bool| {
            seen.iter().filter(|it| holds(it.reached, it.in_step)).map(|it| it.node).collect()
        };
        let observed = Observed {
            leader: self.role_states().borrow().leader,
            down: nodes(|reached, _| !reached),
            behind: nodes(|_, in_step| !in_step),
        };
        Plan::new(&self.0.shown.members.borrow(), changes, &observed)
    }

    /// Puts one member in another's place, and the group never has fewer voters meanwhile: the new node comes in as a
    /// learner, catches up, and takes the seat in one step. It must have the group open, as one that joins. A witness is
    /// replaced by a witness, a learner by a learner.
    ///
    /// Takes as long as the new node takes to catch up. A future that is dropped leaves the group as it stands, and so does
    /// an error; a call with the same nodes, on any node of the group, goes on from there. Where it stands is said by
    /// [`Group::replacing`].
    ///
    /// # Errors
    /// If neither node is a member, a step is refused for good, or nothing is heard for as long as
    /// [`Limits::timeout`](crate::group::Limits::timeout).
    pub async fn replace_member(&self, old: NodeId, new: NodeId, address: String) -> Result<(), ReplaceError> {
        let replacement = Replacement { old, new, address };
        let mut members = self.members();
        let mut heard = Instant::now();
        loop {
            let (stands, next) = {
                let now = members.borrow_and_update();
                (replacement.stands(&now), replacement.next(&now))
            };
            let failed = |why| ReplaceError { stands, why };
            let done = match (stands, next) {
                (Replacing::Done, _) => return Ok(()),
                (Replacing::Neither, _) => {
                    return Err(failed(ChangeError::Refused(ChangeRefused::NotAMember { node: old })));
                }
                (_, Some(changes)) => self.change_members(changes, Bytes::new()).await,
                (_, None) => Err(ChangeError::Refused(ChangeRefused::InProgress)),
            };
            match done {
                Ok(()) => heard = Instant::now(),
                // The leader is there, and the learner on its way.
                Err(ChangeError::Refused(ChangeRefused::NotCaughtUp { .. })) => heard = Instant::now(),
                Err(why) if !passes(why) || heard.elapsed() > self.0.limits.timeout => return Err(failed(why)),
                Err(_) => {}
            }
            if done.is_err() {
                // Another change of members may be what it waits for.
                let _ = timeout(PAUSE, members.changed()).await;
                sleep(PAUSE / 5).await;
            }
        }
    }

    /// How far the replacement of a member has come, as far as this node knows.
    #[must_use]
    pub fn replacing(&self, old: NodeId, new: NodeId) -> Replacing {
        let members: Members = self.members().borrow().clone();
        Replacement { old, new, address: String::new() }.stands(&members)
    }
}

/// Whether the same may be asked for again, and succeed.
fn passes(why: ChangeError) -> bool {
    match why {
        ChangeError::Refused(why) => matches!(
            why,
            ChangeRefused::NotLeader { .. }
                | ChangeRefused::TooSoon
                | ChangeRefused::InProgress
                | ChangeRefused::Transferring { .. }
                | ChangeRefused::NoSpace
                // The members that this node knows may be older than the leader's.
                | ChangeRefused::NothingToDo
                | ChangeRefused::NotAMember { .. }
        ),
        ChangeError::Unknown => true,
        ChangeError::TooLarge | ChangeError::AddressInUse { .. } | ChangeError::Stopped => false,
    }
}

impl fmt::Display for ReplaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stands, why } = self;
        write!(f, "the member is not replaced, {stands}: {why}; ask for the same again to go on")
    }
}

impl std::error::Error for ReplaceError {}
