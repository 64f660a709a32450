//! Whom an end trusts.
//!
//! Owns where CAs are found. Must not know how a certificate is verified.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use crate::files::{Content, FileError, FileFlaw};

/// Where machines keep the CAs that all their programs trust; the first that is there counts, as in Go.
const SYSTEM_FILES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// The variable that names another file.
const SYSTEM_FILE_VARIABLE: &str = "SSL_CERT_FILE";

/// The CAs that must have signed the certificates of the other end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Roots {
    /// Those in a file.
    File(PathBuf),
    /// Those that the machine trusts.
    System,
}

impl Roots {
    /// The file in which they are.
    pub(crate) fn path(&self) -> Result<PathBuf, FileError> {
        match self {
            Self::File(path) => Ok(path.clone()),
            Self::System => {
                if let Some(named) = std::env::var_os(SYSTEM_FILE_VARIABLE).filter(|named| !named.is_empty()) {
                    return Ok(named.into());
                }
                let found = SYSTEM_FILES.iter().map(Path::new).find(|path| path.exists());
                found
                    .map(Path::to_owned)
                    .ok_or_else(|| FileError { path: SYSTEM_FILES[0].into(), flaw: FileFlaw::NoSystemRoots })
            }
        }
    }

    /// The CAs in what was read. In a file that is named for it each must be readable; a machine may have others.
    pub(crate) fn read(&self, content: &Content) -> Result<Trusted, FileError> {
        let certificates = content.certificates()?;
        let mut store = RootCertStore::empty();
        let mut readable = Vec::new();
        for certificate in certificates {
            match store.add(certificate.clone()) {
                Ok(()) => readable.push(certificate),
                Err(_) if *self == Self::System => {}
                Err(_) => return Err(content.fail(FileFlaw::BadCertificate)),
            }
        }
        if readable.is_empty() {
            return Err(content.fail(FileFlaw::NoCertificate));
        }
        Ok(Trusted { store, certificates: readable })
    }
}

/// The CAs an end trusts.
#[derive(Clone, Debug)]
pub(crate) struct Trusted {
    pub(crate) store: RootCertStore,
    pub(crate) certificates: Vec<CertificateDer<'static>>,
}
