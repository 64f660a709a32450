//! Everything a node decides, as a value.

pub mod act;
mod applying;
mod entries;
pub mod group;
pub mod input;
mod lane;
pub mod log_writer;
pub mod machine;
pub mod members;
mod members_log;
pub mod node;
pub mod payload;
mod peers;
pub mod proposal_id;
pub mod proposals;
mod reads;
pub mod replica;
pub mod retention;
pub mod snapshot;
pub mod state_machine;
pub mod transfer;
mod turn;
pub mod wire;

pub use lane::Lane;
