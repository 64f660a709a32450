//! Keys of JSON web tokens: from the files that openssl writes to what signs and verifies.
//!
//! Owns what each method takes for a key. Must not know what is signed, nor when files are read.

use std::fmt;
use std::io;
use std::path::PathBuf;

use ring::rand::SystemRandom;
use ring::rsa;
use ring::signature::{self, KeyPair};
use ring::{error, hmac};
use rustls_pki_types::pem::{PemObject, SectionKind};

use super::der::{self, PublicKey};
use super::method::Family;
use crate::config::SignMethod;

/// What signs and what verifies, by one method.
pub(super) struct Keys {
    /// `None` on a member that can only verify.
    signer: Option<Signer>,
    /// Any of them may have signed a token.
    verifiers: Vec<Verifier>,
}

enum Signer {
    Hmac(hmac::Key),
    Rsa(rsa::KeyPair, &'static dyn signature::RsaEncoding),
    Ecdsa(signature::EcdsaKeyPair),
    EdDsa(signature::Ed25519KeyPair),
}

enum Verifier {
    Hmac(hmac::Key),
    Public { key: Vec<u8>, algorithm: &'static dyn signature::VerificationAlgorithm },
}

/// Why what files hold are no keys.
#[derive(Debug)]
pub enum BadKeys {
    /// Neither a public nor a private key is named, or for HS* no secret.
    Missing { method: SignMethod },
    /// A file cannot be read.
    Io { file: PathBuf, error: io::Error },
    /// A file is not in PEM.
    NotPem { which: Which },
    /// A file in PEM has no key of the kind that the method takes.
    NoKey { which: Which, method: SignMethod },
    /// A private key is refused: it is too short, say, or not consistent with itself.
    Refused { which: Which, why: &'static str },
    /// The private key's public half is not among the public keys.
    Mismatch,
}

/// Which file of the two.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Which {
    Public,
    Private,
}

impl fmt::Display for BadKeys {
    /// Begins as etcd says it, where etcd says something.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { method } => {
                let needed = if method.is_symmetric() { "priv-key" } else { "priv-key or pub-key" };
                write!(out, "auth: missing key data: {} needs {needed}", method.name())
            }
            Self::Io { file, error } => write!(out, "cannot read the key file {}: {error}", file.display()),
            Self::NotPem { which } => write!(out, "{which} is not in PEM: expected -----BEGIN ...-----"),
            Self::NoKey { which, method } => {
                write!(out, "{which} has no key for {}: expected {}", method.name(), method.key_kind())
            }
            Self::Refused { which, why } => write!(out, "the key in {which} is refused: {why}"),
            Self::Mismatch => {
                out.write_str("auth: public and private keys don't match: pub-key has not the public half of priv-key")
            }
        }
    }
}

impl std::error::Error for BadKeys {}

impl fmt::Display for Which {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if *self == Self::Public { "pub-key" } else { "priv-key" })
    }
}

impl Keys {
    /// Makes keys of the content of files. A file of public keys may have several.
    pub(super) fn read(method: SignMethod, public: Option<&[u8]>, private: Option<&[u8]>) -> Result<Keys, BadKeys> {
        if let Family::Hmac(algorithm) = method.family() {
            let secret = private.filter(|secret| !secret.is_empty()).ok_or(BadKeys::Missing { method })?;
            // The file as it is, its last line end included, as in etcd.
            let key = hmac::Key::new(algorithm, secret);
            return Ok(Keys { signer: Some(Signer::Hmac(key.clone())), verifiers: vec![Verifier::Hmac(key)] });
        }
        let signer = private.map(|pem| Signer::read(method, pem)).transpose()?;
        let given = public.map(|pem| public_keys(method, pem)).transpose()?;
        let own = signer.as_ref().and_then(Signer::public_key);
        let keys = match (given, own) {
            (Some(given), Some(own)) if !given.contains(&own) => return Err(BadKeys::Mismatch),
            (Some(given), _) => given,
            (None, Some(own)) => vec![own],
            (None, None) => return Err(BadKeys::Missing { method }),
        };
        let verifiers = keys.into_iter().filter_map(|key| Verifier::public(method, key)).collect();
        Keys { signer, verifiers }.tried()
    }

    /// The keys, if what they sign is what they verify: a private key may be in good form and still not fit together, which shows
    /// when it signs for the first time.
    fn tried(self) -> Result<Keys, BadKeys> {
        const MESSAGE: &[u8] = b"vlot";
        let fits =
            self.signer.is_none() || self.sign(MESSAGE).is_some_and(|signature| self.verify(MESSAGE, &signature));
        if fits { Ok(self) } else { Err(BadKeys::Refused { which: Which::Private, why: DO_NOT_FIT }) }
    }

    /// Whether there is a key to sign with.
    pub(super) fn can_sign(&self) -> bool {
        self.signer.is_some()
    }

    /// How many keys may have signed a token.
    pub(super) fn verifiers(&self) -> usize {
        self.verifiers.len()
    }

    /// A signature; `None` without a key to sign with.
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        match self.signer.as_ref()? {
            Signer::Hmac(key) => Some(hmac::sign(key, message).as_ref().to_vec()),
            Signer::Rsa(key, encoding) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(*encoding, &SystemRandom::new(), message, &mut signature).ok()?;
                Some(signature)
            }
            Signer::Ecdsa(key) => Some(key.sign(&SystemRandom::new(), message).ok()?.as_ref().to_vec()),
            Signer::EdDsa(key) => Some(key.sign(message).as_ref().to_vec()),
        }
    }

    /// Whether one of the keys has signed this.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.verifiers.iter().any(|verifier| match verifier {
            Verifier::Hmac(key) => hmac::verify(key, message, signature).is_ok(),
            Verifier::Public { key, algorithm } => {
                signature::UnparsedPublicKey::new(*algorithm, key).verify(message, signature).is_ok()
            }
        })
    }
}

impl Signer {
    fn read(method: SignMethod, pem: &[u8]) -> Result<Signer, BadKeys> {
        let which = Which::Private;
        for (kind, der) in sections(which, pem)? {
            return match (method.family(), kind) {
                (Family::Rsa { sign, .. }, SectionKind::PrivateKey) => {
                    Ok(Signer::Rsa(rsa::KeyPair::from_pkcs8(&der).map_err(refused)?, sign))
                }
                (Family::Rsa { sign, .. }, SectionKind::RsaPrivateKey) => {
                    Ok(Signer::Rsa(rsa::KeyPair::from_der(&der).map_err(refused)?, sign))
                }
                (Family::Ecdsa { sign, .. }, SectionKind::PrivateKey) => {
                    let key = signature::EcdsaKeyPair::from_pkcs8(sign, &der, &SystemRandom::new());
                    Ok(Signer::Ecdsa(key.map_err(refused)?))
                }
                (Family::Ecdsa { sign, .. }, SectionKind::EcPrivateKey) => {
                    let (private, public) = der::ec_private_key(&der).ok_or(BadKeys::NoKey { which, method })?;
                    let random = SystemRandom::new();
                    let key = signature::EcdsaKeyPair::from_private_key_and_public_key(sign, private, public, &random);
                    Ok(Signer::Ecdsa(key.map_err(refused)?))
                }
                (Family::EdDsa, SectionKind::PrivateKey) => {
                    let key = signature::Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der);
                    Ok(Signer::EdDsa(key.map_err(refused)?))
                }
                // The parameters of a curve that stand before a key, say.
                _ => continue,
            };
        }
        Err(BadKeys::NoKey { which, method })
    }

    /// The public half, in the form in which public keys are kept. A secret has none.
    fn public_key(&self) -> Option<Vec<u8>> {
        match self {
            Signer::Hmac(_) => None,
            Signer::Rsa(key, _) => Some(key.public_key().as_ref().to_vec()),
            Signer::Ecdsa(key) => Some(key.public_key().as_ref().to_vec()),
            Signer::EdDsa(key) => Some(key.public_key().as_ref().to_vec()),
        }
    }
}

impl Verifier {
    fn public(method: SignMethod, key: Vec<u8>) -> Option<Verifier> {
        match method.family() {
            Family::Hmac(_) => None,
            Family::Rsa { verify, .. } | Family::Ecdsa { verify, .. } => {
                Some(Verifier::Public { key, algorithm: verify })
            }
            Family::EdDsa => Some(Verifier::Public { key, algorithm: &signature::ED25519 }),
        }
    }
}

/// All public keys of a file, in the form of their kind. Each must be of the kind that the method takes.
fn public_keys(method: SignMethod, pem: &[u8]) -> Result<Vec<Vec<u8>>, BadKeys> {
    let which = Which::Public;
    let mut keys = Vec::new();
    for (kind, der) in sections(which, pem)? {
        let key = match kind {
            SectionKind::PublicKey => PublicKey::read(&der),
            SectionKind::Certificate => PublicKey::of_certificate(&der),
            _ => continue,
        };
        let fits = |key: &PublicKey<'_>| match method.family() {
            Family::Hmac(_) => false,
            Family::Rsa { .. } => key.algorithm == der::RSA,
            Family::Ecdsa { curve, .. } => key.algorithm == der::EC && key.curve == Some(curve),
            Family::EdDsa => key.algorithm == der::ED25519,
        };
        let key = key.filter(fits).ok_or(BadKeys::NoKey { which, method })?;
        // One that is too short would verify nothing, and no token be good.
        if key.algorithm == der::RSA {
            let modulus_bytes = der::modulus_bytes(key.key).ok_or(BadKeys::NoKey { which, method })?;
            if modulus_bytes < RSA_BYTES_MIN {
                return Err(BadKeys::Refused { which, why: TOO_SHORT });
            }
        }
        keys.push(key.key.to_vec());
    }
    if keys.is_empty() { Err(BadKeys::NoKey { which, method }) } else { Ok(keys) }
}

/// What a file in PEM has, as far as its kind is known.
fn sections(which: Which, pem: &[u8]) -> Result<Vec<(SectionKind, Vec<u8>)>, BadKeys> {
    let sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    sections.ok().filter(|sections| !sections.is_empty()).ok_or(BadKeys::NotPem { which })
}

/// A shorter key of RSA neither signs nor verifies.
const RSA_BYTES_MIN: usize = 2048 / 8;
const TOO_SHORT: &str = "it is too short; RSA keys need 2048 bits";
const DO_NOT_FIT: &str = "its parts do not fit together";

/// What is wrong with a private key. It displays as one of a few words, and gives nothing away otherwise.
fn refused(error: error::KeyRejected) -> BadKeys {
    let why = match error.to_string().as_str() {
        "TooSmall" => TOO_SHORT,
        "TooLarge" => "it is too long; RSA keys have 4096 bits at most",
        "WrongAlgorithm" | "InvalidEncoding" => "it is of another kind than the method takes",
        "InconsistentComponents" => DO_NOT_FIT,
        "PublicKeyIsMissing" => "its public half is missing",
        _ => "it is malformed",
    };
    BadKeys::Refused { which: Which::Private, why }
}

impl SignMethod {
    fn is_symmetric(self) -> bool {
        matches!(self.family(), Family::Hmac(_))
    }

    /// What a file must have.
    fn key_kind(self) -> &'static str {
        match self {
            Self::Hs256 | Self::Hs384 | Self::Hs512 => "a secret",
            Self::Es256 => "a key on the curve P-256",
            Self::Es384 => "a key on the curve P-384",
            Self::EdDsa => "an Ed25519 key",
            _ => "an RSA key",
        }
    }
}
