//! The commands on members and on what each of them stores.

pub mod endpoint;
pub mod member;
pub mod move_leader;
