//! What a client says of itself, for fuzzers (`docs/fuzzing.md`). No part of the interface.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

pub use super::jwt::fuzzing::TokenIssuer;
pub(crate) use super::jwt::fuzzing::key_files;
use super::simple::{Claims, Lifetimes};

const KEY: &[u8] = &[7; 32];
const OTHER_KEY: &[u8] = &[8; 32];

/// A simple token: it is what was given, or none.
pub(crate) fn simple_tokens(bytes: &[u8]) {
    let Some((how, rest)) = bytes.split_first() else { return };
    let anna = Claims { user: "anna".into(), generation: 300, issued: 1_000_000 };
    let (given, _) = anna.seal(KEY);
    match how % 3 {
        0 => takes_what_was_given(&given, &anna, &String::from_utf8_lossy(rest)),
        1 => takes_what_was_given(&given, &anna, &changed(&given, rest)),
        _ => opens_what_is_sealed(rest),
    }
}

fn takes_what_was_given(given: &str, claims: &Claims, token: &str) {
    let opened = Claims::open(KEY, token).map(|(opened, _)| opened);
    assert_eq!(opened.as_ref(), (token == given).then_some(claims), "{token}");
    assert!(Claims::open(OTHER_KEY, token).is_none(), "{token}");
}

/// A holder of the key may seal anything.
fn opens_what_is_sealed(sealed: &[u8]) {
    let seal = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, KEY), sealed);
    let token = URL_SAFE_NO_PAD.encode([seal.as_ref(), sealed].concat());
    assert!(Claims::open(OTHER_KEY, &token).is_none());
    let Some((claims, seal)) = Claims::open(KEY, &token) else { return };
    let again = Claims::open(KEY, &claims.seal(KEY).0).map(|(again, _)| again);
    assert_eq!(again.as_ref(), Some(&claims));
    let lifetimes = Lifetimes::new(Duration::from_secs(300));
    let is_fresh = claims.issued.saturating_add(300_000) > 1_000_000;
    assert_eq!(lifetimes.use_once(claims.issued, seal, 1_000_000, Instant::now()), is_fresh);
}

/// A token after some changes, each of four bytes: which, where, and by what.
pub(super) fn changed(token: &str, changes: &[u8]) -> String {
    let mut token = token.as_bytes().to_vec();
    for &[which, high, low, byte] in changes.as_chunks().0.iter().take(8) {
        let place = usize::from(u16::from_be_bytes([high, low])) % (token.len() + 1);
        match (which % 5, token.get_mut(place)) {
            (0, Some(old)) => *old = byte,
            (1, Some(old)) => *old ^= 1 << (byte % 8),
            (2, Some(_)) => drop(token.remove(place)),
            (3, _) => token.insert(place, byte),
            _ => token.truncate(place),
        }
    }
    String::from_utf8_lossy(&token).into_owned()
}
