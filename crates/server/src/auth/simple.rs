//! Simple tokens: who a user is and since when, sealed by a key that all members share.
//!
//! Owns a token's bytes, and how long one is good. A token stands for itself: no member keeps a list of those that were given.
//! Must not know where the key and the users come from.
//!
//! A token is base64 for URLs without padding of: an HMAC-SHA256 (32 bytes) over the rest, the user's generation and the time of
//! issue as varints, the user's name.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{decode_varint, encode_varint};
use ring::hmac;

use super::recent::Recent;

/// Bytes of a seal.
const SEAL_BYTES: usize = 32;
/// Tokens whose last use is remembered, twice. Those beyond end their time to live after they were given.
const USED_MAX: usize = 32 * 1024;

/// What a token says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Claims {
    pub(super) user: String,
    /// The user's generation when it was given: a user that has another one has a new password, or is another user.
    pub(super) generation: u64,
    /// When it was given, in cluster time.
    pub(super) issued: u64,
}

impl Claims {
    /// Writes a token.
    pub(super) fn seal(&self, key: &[u8]) -> (String, Seal) {
        let mut claims = Vec::with_capacity(2 * 10 + self.user.len());
        encode_varint(self.generation, &mut claims);
        encode_varint(self.issued, &mut claims);
        claims.put_slice(self.user.as_bytes());
        let seal = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &claims);
        let seal: Seal = seal.as_ref().try_into().expect("SHA-256 has 32 bytes");
        (URL_SAFE_NO_PAD.encode([&seal, &claims[..]].concat()), seal)
    }

    /// Reads a token. `None` if it was not sealed by this key, whatever else may be wrong with it.
    pub(super) fn open(key: &[u8], token: &str) -> Option<(Claims, Seal)> {
        let bytes = Bytes::from(URL_SAFE_NO_PAD.decode(token).ok()?);
        let (seal, _) = bytes.split_first_chunk::<SEAL_BYTES>()?;
        let seal = *seal;
        let mut claims = bytes.slice(SEAL_BYTES..);
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key), &claims, &seal).ok()?;
        let [generation, issued] = [decode_varint(&mut claims).ok()?, decode_varint(&mut claims).ok()?];
        let user = String::from_utf8(claims.copy_to_bytes(claims.remaining()).into()).ok()?;
        Some((Claims { user, generation, issued }, seal))
    }
}

/// Tells one token from another.
pub(super) type Seal = [u8; SEAL_BYTES];

/// How long tokens are good: their time to live after they were given, and after each use on this member.
pub(super) struct Lifetimes {
    ttl: Duration,
    /// When each was used last.
    used: Mutex<Recent<Seal, Instant>>,
}

impl Lifetimes {
    pub(super) fn new(ttl: Duration) -> Lifetimes {
        Lifetimes { ttl, used: Mutex::new(Recent::new(USED_MAX)) }
    }

    /// Whether a token may be used once more at this cluster time, and counts that as a use.
    pub(super) fn use_once(&self, issued: u64, seal: Seal, now: u64, clock: Instant) -> bool {
        // Members reckon cluster time alike but for moments, and a token from the future is as fresh as can be.
        let is_fresh = Duration::from_millis(now.saturating_sub(issued)) < self.ttl;
        // Only moves of whole entries happen under the lock.
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let last = if is_fresh { None } else { used.get(&seal) };
        let is_good = is_fresh || last.is_some_and(|last| clock.saturating_duration_since(last) < self.ttl);
        if is_good {
            used.insert(seal, clock);
        }
        is_good
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = &[7; 32];

    fn claims() -> Claims {
        Claims { user: "anna".into(), generation: 300, issued: 1_000_000 }
    }

    #[test]
    fn a_token_says_what_was_sealed_and_nothing_else() {
        let token = claims().seal(KEY).0;
        assert_eq!(Claims::open(KEY, &token).unwrap().0, claims());
        assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')));
        assert!(Claims::open(&[8; 32], &token).is_none(), "another key");
        for place in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(Claims::open(KEY, &changed).is_none(), "{changed}");
        }
        for other in ["", "A", "abcdefghijklmnop.12", &token[1..], &token[..token.len() - 4], &format!("{token}=")] {
            assert!(Claims::open(KEY, other).is_none(), "{other:?}");
        }
    }

    #[test]
    fn users_of_any_name_have_tokens() {
        for user in ["", "ä ö\n", &"x".repeat(1000)] {
            let claims = Claims { user: user.into(), ..claims() };
            assert_eq!(Claims::open(KEY, &claims.seal(KEY).0).unwrap().0, claims);
        }
    }

    #[test]
    fn a_token_is_good_for_its_time_to_live_after_its_last_use_here() {
        let lifetimes = Lifetimes::new(Duration::from_secs(300));
        let begun = Instant::now();
        let used_after = |seconds: u64| {
            lifetimes.use_once(1_000, [1; 32], 1_000 + seconds * 1000, begun + Duration::from_secs(seconds))
        };
        assert!([0, 299, 598, 897].map(used_after).into_iter().all(|is_good| is_good));
        assert!(!used_after(1197));
        let never_used_here = |now| lifetimes.use_once(1_000, [2; 32], now, begun);
        assert!(!never_used_here(301_000));
        // Given by a member whose reckoning is ahead.
        assert!(never_used_here(900));
    }
}
