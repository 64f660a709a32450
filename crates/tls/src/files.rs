//! What is read from files: certificates, keys, and why they cannot be used.
//!
//! Owns the forms of these files and what is said of them. Must not know what they are used for.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};

use crate::certificate::{Certificate, DisplayTime, now};

/// Bytes of one file. A list of revoked certificates can have some; the others are short.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Why a file cannot be used.
#[derive(Debug)]
pub struct FileError {
    /// Which file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub flaw: FileFlaw,
}

/// What is wrong with a file. Displays as the second half of a line about it.
#[derive(Debug)]
pub enum FileFlaw {
    /// It cannot be read.
    Unreadable(io::Error),
    /// It is larger than any file of its kind.
    TooLarge,
    /// It is no PEM.
    BadPem(String),
    /// It has no certificate in it.
    NoCertificate,
    /// A certificate in it cannot be read.
    BadCertificate,
    /// Its certificate is of the first version of X.509, which has no room for names.
    VersionOne,
    /// It has no key in it.
    NoKey,
    /// Its key needs a passphrase.
    Encrypted,
    /// Its key is of no kind that can be used.
    BadKey,
    /// It is the key of another certificate.
    OtherKey {
        /// The file with the certificate.
        cert: PathBuf,
    },
    /// Its certificate is good no more.
    Expired {
        /// Since then, in seconds from 1970.
        not_after: i64,
    },
    /// Its certificate is not good yet.
    NotYetValid {
        /// From then on, in seconds from 1970.
        not_before: i64,
    },
    /// It has no list of revoked certificates in it.
    NoRevocationList,
    /// The CA that its list names has not signed it.
    ForgedRevocationList {
        /// Whom the list names.
        issuer: String,
    },
    /// The machine has no CAs of its own.
    NoSystemRoots,
    /// What it says cannot be used together.
    Unusable(String),
}

impl fmt::Display for FileError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.path.display(), self.flaw)
    }
}

impl fmt::Display for FileFlaw {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) if error.kind() == io::ErrorKind::NotFound => {
                out.write_str("there is no such file; check the path")
            }
            Self::Unreadable(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                out.write_str("permission denied; the user that runs this must be able to read it")
            }
            Self::Unreadable(error) => write!(out, "cannot be read: {error}"),
            Self::TooLarge => write!(out, "has more than {FILE_BYTES_MAX} bytes; is it the right file?"),
            Self::BadPem(why) => write!(out, "is no valid PEM: {why}"),
            Self::NoCertificate => {
                out.write_str("no certificate in it; PEM with \"-----BEGIN CERTIFICATE-----\" is expected")
            }
            Self::BadCertificate => out.write_str("a certificate in it cannot be read; it is damaged, or no X.509"),
            Self::VersionOne => out.write_str(
                "its certificate is of X.509 version 1, which has no alternative names; make one of version 3 (with \
                 extensions)",
            ),
            Self::NoKey => out.write_str("no private key in it; PEM with \"-----BEGIN PRIVATE KEY-----\" is expected"),
            Self::Encrypted => {
                out.write_str("its key needs a passphrase; decrypt it first (openssl pkey -in KEY -out NEW)")
            }
            Self::BadKey => out.write_str(
                "its key is of no kind that is supported: RSA of 2048 to 4096 bits, ECDSA on P-256 or P-384, or Ed25519",
            ),
            Self::OtherKey { cert } => {
                write!(out, "is not the key of the certificate in {}; give the two that belong together", cert.display())
            }
            Self::Expired { not_after } => {
                write!(out, "its certificate has expired: it was good until {}; renew it", DisplayTime(*not_after))
            }
            Self::NotYetValid { not_before } => write!(
                out,
                "its certificate is not valid yet: it is good from {} on; check the clock of this machine",
                DisplayTime(*not_before)
            ),
            Self::NoRevocationList => out.write_str(
                "no list of revoked certificates in it; PEM with \"-----BEGIN X509 CRL-----\", or DER, is expected",
            ),
            Self::ForgedRevocationList { issuer } => {
                write!(out, "the list of revoked certificates is not signed by the CA that it names, {issuer}")
            }
            Self::NoSystemRoots => {
                out.write_str("this machine has no CA certificates of its own; name a file with the CA to trust")
            }
            Self::Unusable(why) => write!(out, "cannot be used: {why}"),
        }
    }
}

impl std::error::Error for FileError {}

/// A file, and what was in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Content {
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
}

impl Content {
    /// Reads a file whole.
    pub(crate) fn read(path: &Path) -> Result<Content, FileError> {
        let read = || {
            let mut bytes = Vec::new();
            File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let fail = |flaw| FileError { path: path.to_owned(), flaw };
        let bytes = read().map_err(|error| fail(FileFlaw::Unreadable(error)))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(fail(FileFlaw::TooLarge));
        }
        Ok(Content { path: path.to_owned(), bytes })
    }

    pub(crate) fn fail(&self, flaw: FileFlaw) -> FileError {
        FileError { path: self.path.clone(), flaw }
    }

    /// All certificates in it; at least one.
    pub(crate) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, FileError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        let found = found.map_err(|error| self.fail(FileFlaw::BadPem(error.to_string())))?;
        if found.is_empty() {
            return Err(self.fail(FileFlaw::NoCertificate));
        }
        Ok(found)
    }

    /// The first of the certificates, which is the file's own; those behind it lead to its CA.
    pub(crate) fn own_certificate(&self) -> Result<Certificate, FileError> {
        let all = self.certificates()?;
        let own = Certificate::read(&all[0]).ok_or_else(|| self.fail(FileFlaw::BadCertificate))?;
        if own.is_version_one() { Err(self.fail(FileFlaw::VersionOne)) } else { Ok(own) }
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, FileError> {
        if self.has("-----BEGIN ENCRYPTED PRIVATE KEY-----") || self.has("Proc-Type: 4,ENCRYPTED") {
            return Err(self.fail(FileFlaw::Encrypted));
        }
        // Parameters of a curve may stand before the key.
        let sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(&self.bytes);
        for section in sections {
            let (kind, der) = section.map_err(|error| self.fail(FileFlaw::BadPem(error.to_string())))?;
            if let Some(key) = PrivateKeyDer::from_pem(kind, der) {
                return Ok(key);
            }
        }
        Err(self.fail(FileFlaw::NoKey))
    }

    fn has(&self, text: &str) -> bool {
        self.bytes.windows(text.len()).any(|part| part == text.as_bytes())
    }
}

/// A certificate and its key, which belong together.
pub(crate) fn key_pair(
    cert: &Content,
    key: &Content,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, FileError> {
    cert.own_certificate()?;
    let chain = cert.certificates()?;
    let signing_key = provider.key_provider.load_private_key(key.private_key()?);
    let signing_key = signing_key.map_err(|_| key.fail(FileFlaw::BadKey))?;
    let pair = CertifiedKey::new(chain, signing_key);
    match pair.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(Arc::new(pair)),
        Err(Error::InconsistentKeys(_)) => Err(key.fail(FileFlaw::OtherKey { cert: cert.path.clone() })),
        Err(_) => Err(cert.fail(FileFlaw::BadCertificate)),
    }
}

/// What is wrong with a certificate at this time.
pub(crate) fn flaw_of_dates(certificate: &Certificate) -> Option<FileFlaw> {
    let now = now();
    let (not_before, not_after) = (certificate.not_before, certificate.not_after);
    if now > not_after {
        return Some(FileFlaw::Expired { not_after });
    }
    (now < not_before).then_some(FileFlaw::NotYetValid { not_before })
}
