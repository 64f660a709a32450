//! What is fed to Vlot by `cargo fuzz`, and by the ordinary tests of the crates concerned (`docs/fuzzing.md`).
//!
//! Each target is a function from bytes to nothing that panics when something does not hold.

#![forbid(unsafe_code)]

pub mod audit;
pub mod backup;
pub mod cli_answers;
pub mod config_file;
pub mod flags;
pub mod grpc_messages;
pub mod handshake;
pub mod http2_connection;
pub mod json_replies;
pub mod json_requests;
pub mod key_files;
pub mod log_recovery;
pub mod member_answers;
pub mod message;
#[path = "../../crates/log/tests/model/mod.rs"]
mod model;
pub mod peer_frames;
pub mod peer_port;
pub mod reader;
pub mod replica;
pub mod store_commands;
pub mod store_records;
pub mod store_snapshot;
pub mod texts;
pub mod tls_opening;
pub mod tokens;
pub mod txn;
pub mod typed;
