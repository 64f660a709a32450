//! What a client shows as a token, of any kind and in any header: only what was given is taken.

use std::sync::LazyLock;

use vlot_server::fuzzing::{self, TokenIssuer};

/// A key of the tests.
macro_rules! pem {
    ($name:literal) => {
        include_bytes!(concat!("../../crates/server/src/auth/jwt/testdata/", $name, ".pem"))
    };
}

/// Each method, what it signs with, and what somebody may take for a secret.
const METHODS: [(&str, &[u8], &[u8]); 13] = [
    ("HS256", pem!("rsa"), pem!("rsa_pub")),
    ("HS384", pem!("rsa"), pem!("rsa_pub")),
    ("HS512", b"secret", b"Secret"),
    ("RS256", pem!("rsa"), pem!("rsa_pub")),
    ("RS384", pem!("rsa"), pem!("rsa_cert")),
    ("RS512", pem!("rsa_pkcs1"), pem!("rsa_pub")),
    ("PS256", pem!("rsa"), pem!("rsa_pub")),
    ("PS384", pem!("rsa_pkcs1"), pem!("rsa_cert")),
    ("PS512", pem!("rsa"), pem!("rsa_pub")),
    ("ES256", pem!("p256"), pem!("p256_pub")),
    ("ES256", pem!("p256_sec1"), pem!("p256_pub")),
    ("ES384", pem!("p384"), pem!("p256_pub")),
    ("EdDSA", pem!("ed25519"), pem!("ed25519_pub")),
];

static ISSUERS: LazyLock<Vec<TokenIssuer>> = LazyLock::new(|| {
    let issuer = |(method, key, known): (&str, &[u8], &[u8])| TokenIssuer::new(method, key, known).expect(method);
    METHODS.into_iter().map(issuer).collect()
});

/// Runs one input.
///
/// # Panics
/// If something does not hold that must.
pub fn run(bytes: &[u8]) {
    let Some((&[kind, which], rest)) = bytes.split_first_chunk() else { return };
    match kind % 4 {
        0 => fuzzing::simple_tokens(rest),
        1 => fuzzing::token_headers(which, rest),
        _ => fuzzing::signed_tokens(&ISSUERS[usize::from(which) % ISSUERS.len()], rest),
    }
}
