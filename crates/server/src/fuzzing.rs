//! What this library does with bytes of clients and operators, for fuzzers that feed it made-up ones (`docs/fuzzing.md`). No
//! part of the interface.

use bytes::Bytes;

pub use crate::auth::fuzzing::TokenIssuer;
use crate::config::{self, Config, Url};
use crate::{audit, auth, edge, members};

/// The body of a gRPC call, compressed or not.
///
/// # Panics
/// Here and below: if something does not hold that must.
pub fn grpc_messages(bytes: &[u8]) {
    edge::fuzzing::grpc_messages(bytes);
}

/// The body of a call of the JSON gateway.
pub fn json_requests(bytes: &[u8]) {
    edge::fuzzing::json_requests(bytes);
}

/// The bytes of a reply on its way to JSON.
pub fn json_replies(bytes: &[u8]) {
    edge::fuzzing::json_replies(bytes);
}

/// Texts of headers, paths, URLs and durations.
pub fn texts(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    edge::fuzzing::headers(&text);
    config::read_texts(&text);
    if let Ok(urls) = Url::parse_list(&text) {
        let shown = Url::texts(&urls).join(",");
        assert_eq!(Url::parse_list(&shown).as_ref(), Ok(&urls), "{shown}");
    }
}

/// Flags, one a line, and variables of the environment, which have a `=` and no dash in front.
pub fn flags(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (arguments, variables): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with('-'));
    let variables = variables.into_iter().filter_map(|line| line.split_once('='));
    let read = Config::read(
        arguments.into_iter().map(str::to_owned),
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    match read {
        // An operator reads one line.
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(config) => assert!(config.election_timeout >= config.heartbeat),
    }
}

/// A configuration file of a server.
pub fn config_file(bytes: &[u8]) {
    config::read_as_file(bytes);
}

/// A request of any RPC, as the audit tells of it: no more than is bounded, and no value.
pub fn audit(bytes: &[u8]) {
    let Some((&number, request)) = bytes.split_first() else { return };
    let told = audit::told_of_any(number, &Bytes::copy_from_slice(request));
    assert!(told.len() < 2 << 20, "{} bytes", told.len());
    assert!(!["value", "password"].iter().any(|name| told.contains(&format!("\"{name}\":"))), "{told}");
}

/// A simple token, as a client shows it.
pub fn simple_tokens(bytes: &[u8]) {
    auth::fuzzing::simple_tokens(bytes);
}

/// A JSON web token, as a client shows it to a member that has given one.
pub fn signed_tokens(issuer: &TokenIssuer, bytes: &[u8]) {
    issuer.run(bytes);
}

/// One of the headers in which tokens stand, and its value.
pub fn token_headers(which: u8, value: &[u8]) {
    edge::fuzzing::token_headers(which, value);
}

/// The files of keys that `--auth-token` names.
pub fn key_files(method: u8, public: Option<&[u8]>, private: Option<&[u8]>) {
    auth::fuzzing::key_files(method, public, private);
}

/// The first bytes of a client, some at a time.
pub async fn opening(sent: &[u8], at_a_time: usize) {
    edge::fuzzing::opening(sent, at_a_time).await;
}

/// What comes back from a peer URL.
pub fn member_answers(bytes: &[u8]) {
    members::fuzzing::member_answers(bytes);
}
