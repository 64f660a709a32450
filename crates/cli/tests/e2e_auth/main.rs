//! Who calls, on real nodes: logins, tokens and their ends, JSON web tokens with openssl's keys, and what is not to be found in
//! any file afterwards.
//!
//! What users may do is tested elsewhere; what etcdctl shows is in the sessions.

mod callers;
mod jwt;
mod secrets;
#[path = "../support/mod.rs"]
mod support;
mod tokens;
