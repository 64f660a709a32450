//! JSON web tokens that somebody makes up, and key files that hold anything, for fuzzers (`docs/fuzzing.md`). No part of the
//! interface.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};

use super::keys::Keys;
use super::{Claims, Jwt};
use crate::auth::fuzzing::changed;
use crate::config::SignMethod;

/// What a header may name: our methods, and what others have been fooled by.
const ALGORITHMS: [&str; 18] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "none",
    "None", "NONE", "", "ES512", "hs256",
];
const METHODS: usize = 12;

/// A member that gives tokens by one method, and a token that it has given.
pub struct TokenIssuer {
    jwt: Jwt,
    given: String,
    /// What all may know of its keys. Somebody may take it for a secret.
    known: Vec<u8>,
}

impl TokenIssuer {
    /// One that signs by this method with this key; `None` if they do not go together.
    #[must_use]
    pub fn new(method: &str, private_key: &[u8], known: &[u8]) -> Option<TokenIssuer> {
        let method = SignMethod::named(method)?;
        let keys = Keys::read(method, None, Some(private_key)).ok()?;
        let jwt = Jwt::new(method, Duration::from_secs(60), keys);
        let given = jwt.sign(&anna(), now()).ok()?;
        Some(TokenIssuer { jwt, given, known: known.to_vec() })
    }

    /// Reads what the bytes make of a token.
    pub(crate) fn run(&self, bytes: &[u8]) {
        let Some((how, rest)) = bytes.split_first() else { return };
        match how % 4 {
            0 => self.takes_what_was_given(&String::from_utf8_lossy(rest)),
            1 => self.takes_what_was_given(&changed(&self.given, rest)),
            2 => self.refuses_forged(rest),
            _ => self.reads_what_it_signs(rest),
        }
    }

    fn takes_what_was_given(&self, token: &str) {
        let expected = (token == self.given).then(anna);
        assert_eq!(self.read(token), expected, "{}: {token}", self.jwt.method.name());
    }

    /// A token that is signed with another key, or not at all.
    fn refuses_forged(&self, bytes: &[u8]) {
        let Some((&[algorithm, seal, length], rest)) = bytes.split_first_chunk() else { return };
        let (free, claims) = rest.split_at(usize::from(length).min(rest.len()));
        let header = match ALGORITHMS.get(usize::from(algorithm) % (ALGORITHMS.len() + 1)) {
            Some(name) => json!({ "alg": name, "typ": "JWT" }).to_string().into_bytes(),
            None => free.to_vec(),
        };
        let roots = br#"{"username":"root","revision":7}"#;
        let signed = signed_part(&header, if claims.is_empty() { roots } else { claims });
        let by_known =
            |algorithm| hmac::sign(&hmac::Key::new(algorithm, &self.known), signed.as_bytes()).as_ref().to_vec();
        let (given_part, given_signature) = self.given.rsplit_once('.').expect("a token has three parts");
        let signature = match seal % 6 {
            0 => String::new(),
            1 => URL_SAFE_NO_PAD.encode(by_known(hmac::HMAC_SHA256)),
            2 => URL_SAFE_NO_PAD.encode(by_known(hmac::HMAC_SHA384)),
            3 => URL_SAFE_NO_PAD.encode(by_known(hmac::HMAC_SHA512)),
            4 => URL_SAFE_NO_PAD.encode(free),
            _ => given_signature.to_owned(),
        };
        // Somebody may well say once more what was given.
        if signed != given_part {
            assert_eq!(self.read(&format!("{signed}.{signature}")), None, "{}: {signed}", self.jwt.method.name());
        }
    }

    /// A holder of the key may sign anything.
    fn reads_what_it_signs(&self, bytes: &[u8]) {
        let Some((&[algorithm, length], rest)) = bytes.split_first_chunk() else { return };
        let (free, claims) = rest.split_at(usize::from(length).min(rest.len()));
        let own = json!({ "alg": self.jwt.method.name() }).to_string();
        let header = if algorithm % 4 == 0 { free } else { own.as_bytes() };
        let signed = signed_part(header, claims);
        let signature = self.jwt.keys().sign(signed.as_bytes()).expect("a key that was read signs");
        let Some(read) = self.read(&format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))) else { return };
        let said = |text: &[u8], name: &str| {
            let value: Value = serde_json::from_slice(text).expect("what was read is JSON");
            value[name].as_str().map(str::to_owned)
        };
        assert_eq!(said(header, "alg").as_deref(), Some(self.jwt.method.name()));
        assert_eq!(said(claims, "username"), Some(read.user));
    }

    fn read(&self, token: &str) -> Option<Claims> {
        let read = self.jwt.read(token, now());
        // The second time it may be answered from memory.
        assert_eq!(self.jwt.read(token, now()), read);
        read
    }
}

/// Key files of any content: keys that sign what they verify, or one line that says why there are none.
pub(crate) fn key_files(method: u8, public: Option<&[u8]>, private: Option<&[u8]>) {
    let method = ALGORITHMS[..METHODS].get(usize::from(method) % METHODS).and_then(|name| SignMethod::named(name));
    let method = method.expect("the first of the names are those of methods");
    match Keys::read(method, public, private) {
        Ok(keys) => {
            assert!(keys.verifiers() > 0);
            if keys.can_sign() {
                let signature = keys.sign(b"this").expect("a key that was read signs");
                assert!(keys.verify(b"this", &signature) && !keys.verify(b"that", &signature));
            }
            // A public key may be anything of the right form.
            for length in [0, 64, 96, 128, 256] {
                assert!(!keys.verify(b"this", &vec![1; length]));
            }
        }
        Err(bad) => {
            let told = bad.to_string();
            assert!(!told.is_empty() && told.len() < 200 && !told.contains(char::is_control), "{told:?}");
        }
    }
}

fn signed_part(header: &[u8], claims: &[u8]) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
}

fn anna() -> Claims {
    Claims { user: "anna".into(), revision: 7 }
}

/// When tokens are given and read here.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1000)
}
