//! JSON web tokens: who a user is, at which revision of the users and until when, signed by a key that operators hand out.
//!
//! Owns a token's form (RFC 7515, 7519) and its claims, which are etcd's: `username`, `revision`, `exp`. Must not know of calls.
//! One method signs and verifies, and a token that names another one is refused: it says nothing of which key is meant.

mod der;
pub(super) mod fuzzing;
mod key_files;
mod keys;
mod method;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use serde_json::{Value, json};

use super::recent::Recent;
use crate::config::SignMethod;
pub(crate) use key_files::KeyFiles;
pub(crate) use keys::BadKeys;
use keys::Keys;

/// Tokens that were verified and are remembered, twice: to verify takes much longer than to remember.
const VERIFIED_MAX: usize = 8 * 1024;

/// What a token says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Claims {
    pub(super) user: String,
    /// The revision of users and roles when it was given.
    pub(super) revision: u64,
}

/// Why a token is not given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unsigned {
    /// There is no private key.
    VerifyOnly,
    /// The key does not sign.
    Failed,
}

/// Gives tokens, and reads those that were given.
pub(super) struct Jwt {
    method: SignMethod,
    ttl: Duration,
    /// Exchanged as a whole when the files change.
    keys: Mutex<Arc<Keys>>,
    verified: Mutex<Recent<[u8; 32], Verified>>,
}

/// A token whose signature is right.
#[derive(Clone)]
struct Verified {
    claims: Claims,
    times: Times,
}

/// From when and until when a token is good, in seconds since 1970, as far as it says so.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Times {
    expires: Option<f64>,
    not_before: Option<f64>,
    issued: Option<f64>,
}

impl Times {
    fn of(claims: &Value) -> Option<Times> {
        let time = |name: &str| match claims.get(name) {
            None => Some(None),
            // A time that is no number is none at all, and the token no good.
            Some(value) => value.as_f64().map(Some),
        };
        Some(Times { expires: time("exp")?, not_before: time("nbf")?, issued: time("iat")? })
    }

    fn include(self, now: f64) -> bool {
        self.expires.is_none_or(|expires| now < expires)
            && self.not_before.is_none_or(|begin| begin <= now)
            && self.issued.is_none_or(|issued| issued <= now)
    }
}

impl Jwt {
    fn new(method: SignMethod, ttl: Duration, keys: Keys) -> Jwt {
        let (keys, verified) = (Mutex::new(Arc::new(keys)), Mutex::new(Recent::new(VERIFIED_MAX)));
        Jwt { method, ttl, keys, verified }
    }

    /// Takes other keys. What the former ones have signed is good only if it is by these.
    fn replace(&self, keys: Keys) {
        // Only moves of whole values happen under these locks.
        *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        self.verified.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives a token.
    pub(super) fn sign(&self, Claims { user, revision }: &Claims, now: SystemTime) -> Result<String, Unsigned> {
        let keys = self.keys();
        if !keys.can_sign() {
            return Err(Unsigned::VerifyOnly);
        }
        let header = json!({ "alg": self.method.name(), "typ": "JWT" }).to_string();
        let expires = (seconds(now) + self.ttl.as_secs_f64()) as u64;
        let claims = json!({ "exp": expires, "revision": revision, "username": user }).to_string();
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = keys.sign(signed.as_bytes()).ok_or(Unsigned::Failed)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// Reads a token. `None` if it is not to be believed, or not at this time.
    pub(super) fn read(&self, token: &str, now: SystemTime) -> Option<Claims> {
        let name: [u8; 32] = digest::digest(&digest::SHA256, token.as_bytes()).as_ref().try_into().ok()?;
        let known = self.verified.lock().unwrap_or_else(PoisonError::into_inner).get(&name);
        let Verified { claims, times } = match known {
            Some(verified) => verified,
            None => {
                let keys = self.keys();
                let verified = verified(&keys, self.method, token)?;
                let mut all = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
                // Not by keys that were exchanged meanwhile.
                if Arc::ptr_eq(&keys, &self.keys()) {
                    all.insert(name, verified.clone());
                }
                verified
            }
        };
        times.include(seconds(now)).then_some(claims)
    }
}

/// Checks the signature, and reads what was signed.
fn verified(keys: &Keys, method: SignMethod, token: &str) -> Option<Verified> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let header = json_of(header)?;
    // The header is the sender's word. What is verified by is the operator's.
    if header.get("alg")?.as_str()? != method.name() {
        return None;
    }
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    if !keys.verify(signed.as_bytes(), &signature) {
        return None;
    }
    let claims = json_of(claims)?;
    let user = claims.get("username")?.as_str()?.to_owned();
    let revision = claims.get("revision")?;
    let revision = revision.as_u64().or_else(|| revision.as_f64().map(|revision| revision as u64))?;
    Some(Verified { claims: Claims { user, revision }, times: Times::of(&claims)? })
}

fn json_of(part: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests;
