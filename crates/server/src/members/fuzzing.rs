//! What comes back from a peer URL, for fuzzers (`docs/fuzzing.md`). No part of the interface.

use serde_json::Value;

use super::ask::Answer;
use super::peer_pages::{read_hash, read_members, shown};

/// Answers, made of bytes: what is read as members is shown so that it is read as the same.
pub(crate) fn member_answers(bytes: &[u8]) {
    let Some(mut answer) = Answer::read(bytes) else { return };
    assert!(answer.body.len() < bytes.len());
    let hash = read_hash(&answer);
    assert!(hash.is_none() || answer.status == 200);
    let Some((_, members)) = read_members(&answer) else { return };
    answer.body = Value::from_iter(members.iter().map(shown)).to_string();
    assert_eq!(read_members(&answer).map(|(_, again)| again), Some(members));
}
