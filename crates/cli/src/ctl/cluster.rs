//! The commands on members and on what each of them stores.

pub mod alarm;
pub mod defrag;
pub mod downgrade;
pub mod endpoint;
pub mod member;
pub mod move_leader;
pub mod quota;
pub mod snapshot;
