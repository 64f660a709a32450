//! What is left of a replica once it forgets when things happened, how its chance stands and how many writes it has
//! asked for.
//!
//! None of that decides what may be committed or who may lead, as long as leases are not in use. A search over all states
//! of a group would yet take two replicas for different that differ in nothing else, and never come to an end. Owns what
//! such a search calls between two steps; a host never does.

use crate::raft::Raft;
use crate::time::Time;

/// Makes replicas equal that differ in time, chance and the numbers of their writes alone.
///
/// Afterwards every deadline is `now`, but for those that never come; no leader has been heard since the origin of
/// time; a leader has just heard its peers, and gives up a hand-over with its next heartbeat. The `n`th write that is
/// not durable has number `n`, by which [`Input::Persisted`](crate::effect::Input::Persisted) must call it. With `now`
/// later than an election timeout any node may be made to stand, at once, and none refuses its vote for a leader in
/// office; a leader loses its office to a tick that is an election timeout later.
pub fn forget_time(raft: &mut Raft, now: Time) {
    raft.forget_time(now);
}
