//! The commands on leases, and on what is held by one: locks and elections.

pub mod elect;
pub mod lease;
pub mod lock;
mod queue;
mod renewal;
mod session;
