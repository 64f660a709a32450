//! Everything a node decides, as a value.
#![allow(missing_docs)]

mod entries;
mod lane;
pub mod log_writer;
pub mod members;
mod members_log;
pub mod node;
pub mod payload;
pub mod proposal_id;
mod proposals;
mod reads;
pub mod replica;
pub mod retention;
pub mod snapshot;
pub mod state_machine;
pub mod transfer;
pub mod wire;

pub use lane::Lane;
