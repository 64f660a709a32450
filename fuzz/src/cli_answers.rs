//! What the command line is answered: by a resolver, and by whatever listens where it takes a server to be.

#[path = "../../crates/cli/src/ctl/discovery/dns.rs"]
#[allow(dead_code, reason = "what reads is used, and what asks is not")]
mod dns;
#[path = "../../crates/cli/src/client/frames.rs"]
#[allow(dead_code, reason = "what reads is used, and what asks is not")]
mod frames;
#[path = "../../crates/cli/src/client/status.rs"]
#[allow(dead_code, reason = "what reads is used, and what shows is not")]
mod status;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

/// A name in the DNS, written down, with what may stand between its labels.
const TARGET_BYTES_MAX: usize = 2 * 255;

/// Runs one input.
///
/// # Panics
/// If something does not hold that must.
pub fn run(bytes: &[u8]) {
    let Some((&[kind, at_a_time], answer)) = bytes.split_first_chunk() else { return };
    match kind % 3 {
        0 => services(answer),
        1 => {
            let whole = messages(answer, usize::MAX);
            assert_eq!(whole, messages(answer, 1 + usize::from(at_a_time)));
            assert!(whole.0.iter().map(|message| 5 + message.len()).sum::<usize>() <= answer.len());
        }
        _ => outcome(answer),
    }
}

/// Of a resolver's answer no more is kept than came.
fn services(answer: &[u8]) {
    let id = answer.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
    assert_eq!(dns::answer(answer, id.wrapping_add(1)), Err(dns::BadAnswer::Malformed));
    if let Ok(dns::Answer::Services(services)) = dns::answer(answer, id) {
        // Each has a record of eighteen bytes at least.
        assert!(services.len() * 18 <= answer.len());
        assert!(services.iter().all(|service| service.target.len() <= TARGET_BYTES_MAX));
    }
}

fn messages(answer: &[u8], at_a_time: usize) -> (Vec<Bytes>, Option<frames::BadFrame>) {
    let mut frames = frames::Frames::default();
    let mut messages = Vec::new();
    for piece in answer.chunks(at_a_time.min(answer.len()).max(1)) {
        frames.push(Bytes::copy_from_slice(piece));
        loop {
            match frames.pop() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(bad) => return (messages, Some(bad)),
            }
        }
    }
    (messages, None)
}

/// The code and the text of a call that has ended, a line each.
fn outcome(answer: &[u8]) {
    let mut headers = HeaderMap::new();
    for (name, line) in ["grpc-status", "grpc-message"].into_iter().zip(answer.splitn(2, |byte| *byte == b'\n')) {
        let Ok(value) = HeaderValue::from_bytes(line) else { return };
        headers.insert(name, value);
    }
    match status::Status::read(&headers) {
        None | Some(Ok(())) => {}
        Some(Err(status)) => {
            assert!(!status.code_name().is_empty());
            assert!(status.to_string().ends_with(&status.message));
        }
    }
}
