//! `v3lockpb.Lock` and `v3electionpb.Election`: places in a queue of keys.

mod changes;
mod election;
mod lock;
mod queue;

pub(super) use queue::unknown;
