//! Which versions and cipher suites are spoken, by the names that Go and etcd have for them.
//!
//! Owns the names. Must not know of certificates.

use std::fmt;
use std::str::FromStr;

use rustls::crypto::{CryptoProvider, ring};
use rustls::{CipherSuite, SupportedCipherSuite, SupportedProtocolVersion, version};

/// A version of TLS. Older ones than these are not spoken: they are broken.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Version {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl FromStr for Version {
    type Err = ProtocolError;

    fn from_str(text: &str) -> Result<Version, ProtocolError> {
        match text {
            "TLS1.2" => Ok(Version::Tls12),
            "TLS1.3" => Ok(Version::Tls13),
            "TLS1.0" | "TLS1.1" | "SSL3.0" => Err(ProtocolError::BrokenVersion(text.to_owned())),
            _ => Err(ProtocolError::UnknownVersion(text.to_owned())),
        }
    }
}

/// Which versions and cipher suites an end speaks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Protocols {
    min: Version,
    max: Version,
    /// For TLS 1.2, in this order of preference; empty for all.
    suites: Vec<CipherSuite>,
}

impl Default for Protocols {
    fn default() -> Self {
        Protocols { min: Version::Tls12, max: Version::Tls13, suites: Vec::new() }
    }
}

impl Protocols {
    /// The versions between two, and cipher suites by Go's names. Those are chosen for TLS 1.2 alone, as in Go; none
    /// named are all.
    ///
    /// # Errors
    /// No version is between the two, or a suite is not known, or not offered.
    pub fn new<S: AsRef<str>>(
        min: Option<Version>,
        max: Option<Version>,
        suites: &[S],
    ) -> Result<Protocols, ProtocolError> {
        let (min, max) = (min.unwrap_or(Version::Tls12), max.unwrap_or(Version::Tls13));
        if min > max {
            return Err(ProtocolError::NoVersion);
        }
        if min == Version::Tls13 && !suites.is_empty() {
            return Err(ProtocolError::SuitesOfTls13);
        }
        let mut chosen = Vec::new();
        for name in suites {
            chosen.extend(suite(name.as_ref())?);
        }
        if chosen.is_empty() && !suites.is_empty() && max == Version::Tls12 {
            return Err(ProtocolError::NoSuite);
        }
        Ok(Protocols { min, max, suites: chosen })
    }

    pub(crate) fn versions(&self) -> &'static [&'static SupportedProtocolVersion] {
        static BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
        match (self.min, self.max) {
            (Version::Tls12, Version::Tls13) => &BOTH,
            (Version::Tls13, _) => &BOTH[..1],
            (_, Version::Tls12) => &BOTH[1..],
        }
    }

    pub(crate) fn provider(&self) -> CryptoProvider {
        let all = ring::default_provider();
        if self.suites.is_empty() {
            return all;
        }
        let newest = all.cipher_suites.iter().filter(|suite| matches!(suite, SupportedCipherSuite::Tls13(_)));
        let older =
            self.suites.iter().filter_map(|wanted| all.cipher_suites.iter().find(|suite| suite.suite() == *wanted));
        let cipher_suites = newest.chain(older).copied().collect();
        CryptoProvider { cipher_suites, ..all }
    }
}

/// The suites of TLS 1.2 that are spoken: all that encrypt with a key that is new for each connection, and authenticate.
const OFFERED: [(&str, CipherSuite); 8] = [
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    // The names that older versions of Go have for two of them.
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];
/// Those of TLS 1.3, which are always spoken with it.
const OF_TLS13: [&str; 3] = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];
/// Those that Go has besides: without forward secrecy, or with ciphers that are broken.
const WEAK: [&str; 15] = [
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
];

/// The suite of TLS 1.2 of this name; `None` for one of TLS 1.3.
fn suite(name: &str) -> Result<Option<CipherSuite>, ProtocolError> {
    if let Some((_, suite)) = OFFERED.iter().find(|(known, _)| *known == name) {
        return Ok(Some(*suite));
    }
    if OF_TLS13.contains(&name) {
        return Ok(None);
    }
    let is_weak = WEAK.contains(&name) || name == "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256";
    Err(if is_weak { ProtocolError::WeakSuite(name.to_owned()) } else { ProtocolError::UnknownSuite(name.to_owned()) })
}

/// Why versions or cipher suites cannot be chosen so.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ProtocolError {
    /// A version that is no version.
    UnknownVersion(String),
    /// A version that is not spoken.
    BrokenVersion(String),
    /// The lowest version is above the highest.
    NoVersion,
    /// Suites are chosen, and the only version has no choice.
    SuitesOfTls13,
    /// A name that no suite has.
    UnknownSuite(String),
    /// A suite that is not spoken.
    WeakSuite(String),
    /// TLS 1.2 alone, with suites of TLS 1.3 alone.
    NoSuite,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = || {
            let offered = OFFERED.iter().map(|(name, _)| *name).take(6);
            offered.chain(OF_TLS13).collect::<Vec<_>>().join(", ")
        };
        match self {
            Self::UnknownVersion(text) => {
                write!(out, "unexpected TLS version {text:?} (must be one of: TLS1.2, TLS1.3)")
            }
            Self::BrokenVersion(text) => {
                write!(out, "TLS version {text:?} is broken and not supported (must be one of: TLS1.2, TLS1.3)")
            }
            Self::NoVersion => out.write_str("the lowest TLS version is above the highest"),
            Self::SuitesOfTls13 => out.write_str(
                "cipher suites cannot be chosen for TLS1.3; leave them out, or allow TLS1.2 as the lowest version",
            ),
            Self::UnknownSuite(name) => write!(out, "unexpected TLS cipher suite {name:?} (known are: {})", known()),
            Self::WeakSuite(name) => {
                write!(out, "TLS cipher suite {name:?} is weak and not supported (known are: {})", known())
            }
            Self::NoSuite => write!(out, "no cipher suite of TLS1.2 is given (known are: {})", known()),
        }
    }
}

impl std::error::Error for ProtocolError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(protocols: &Protocols) -> Vec<CipherSuite> {
        protocols.provider().cipher_suites.iter().map(SupportedCipherSuite::suite).collect()
    }

    #[test]
    fn suites_of_tls12_are_chosen_and_those_of_tls13_stay() {
        let one = Protocols::new(None, None, &["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"]).unwrap();
        let chosen = names(&one);
        assert_eq!(chosen.len(), 4, "{chosen:?}");
        assert_eq!(chosen[3], CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256);
        assert_eq!(names(&Protocols::default()).len(), 9);
        assert_eq!(names(&Protocols::new::<&str>(None, Some(Version::Tls12), &[]).unwrap()).len(), 9);
    }

    #[test]
    fn every_suite_that_is_offered_is_there() {
        for (name, _) in OFFERED {
            let protocols = Protocols::new(None, Some(Version::Tls12), &[name]).unwrap();
            assert_eq!(names(&protocols).len(), 4, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_spoken_is_refused_with_what_can() {
        let of = |min: Option<&str>, max: Option<&str>, suites: &[&str]| {
            let version = |text: Option<&str>| text.map(str::parse::<Version>).transpose();
            let made = version(min).and_then(|min| Protocols::new(min, version(max)?, suites));
            made.map(drop).map_err(|error| error.to_string())
        };
        let rows: [(_, _, &[&str], &str); 7] = [
            (Some("TLS1.1"), None, &[], "TLS version \"TLS1.1\" is broken and not supported"),
            (Some("1.2"), None, &[], "unexpected TLS version \"1.2\" (must be one of: TLS1.2, TLS1.3)"),
            (Some("TLS1.3"), Some("TLS1.2"), &[], "the lowest TLS version is above the highest"),
            (Some("TLS1.3"), None, &["TLS_AES_128_GCM_SHA256"], "cipher suites cannot be chosen for TLS1.3"),
            (None, None, &["TLS_NULL"], "unexpected TLS cipher suite \"TLS_NULL\" (known are: TLS_ECDHE_ECDSA"),
            (
                None,
                None,
                &["TLS_RSA_WITH_AES_128_CBC_SHA"],
                "TLS cipher suite \"TLS_RSA_WITH_AES_128_CBC_SHA\" is weak",
            ),
            (None, Some("TLS1.2"), &["TLS_AES_128_GCM_SHA256"], "no cipher suite of TLS1.2 is given"),
        ];
        for (min, max, suites, expected) in rows {
            let error = of(min, max, suites).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        assert_eq!(of(Some("TLS1.2"), Some("TLS1.2"), &["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]), Ok(()));
    }
}
