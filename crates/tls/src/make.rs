//! Certificates that are made here: a CA, and what it signs.
//!
//! Owns their contents, and how they are written down: a key only for its owner's eyes, and never over a file that is
//! there. Must not know who is to trust them.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use time::{Duration, OffsetDateTime};

use crate::KeyPairFiles;
use crate::files::{Content, FileError, FileFlaw, key_pair};

/// How long before it is made a certificate is good: the clocks of machines differ.
const BEFORE: Duration = Duration::hours(1);
/// Whose a certificate is that has no common name.
const ORGANIZATION: &str = "vlot";
/// A date that fits in every certificate is before the year 10000.
const DAYS_MAX: u32 = 365 * 1000;

/// A certificate that is to be made, besides that of a CA.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Order {
    /// Its common name; to a server that knows users by certificates, the user. Empty for none.
    pub common_name: String,
    /// The names and addresses of the hosts for which it is good.
    pub hosts: Vec<String>,
    /// For which ends of a connection it is.
    pub ends: Ends,
    /// How long it is good.
    pub days: u32,
}

/// For which ends of a connection a certificate is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ends {
    /// The end that is dialled.
    Server,
    /// The end that dials.
    Client,
    /// Both: a node that dials others, and is dialled by them.
    Both,
}

/// A certificate and its key, in PEM.
#[derive(Clone, Eq, PartialEq)]
pub struct Made {
    /// The certificate.
    pub cert: String,
    /// Its key.
    pub key: String,
}

impl fmt::Debug for Made {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A key is not for logs.
        out.debug_struct("Made").field("cert", &self.cert).finish_non_exhaustive()
    }
}

/// Makes a CA that signs for so many days.
///
/// # Errors
/// The name or the number of days cannot stand in a certificate.
pub fn authority(common_name: &str, days: u32) -> Result<Made, MakeError> {
    let mut params = params(common_name, &[], days)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    alone(&params)
}

/// Makes a certificate that is signed by the CA in two files.
///
/// # Errors
/// The CA cannot be used, or what is ordered cannot stand in a certificate.
pub fn signed(authority: &KeyPairFiles, order: &Order) -> Result<Made, MakeError> {
    let read = |path: &Path| Content::read(path).map_err(MakeError::File);
    let (cert, key) = (read(&authority.cert)?, read(&authority.key)?);
    let provider = rustls::crypto::ring::default_provider();
    key_pair(&cert, &key, &provider).map_err(MakeError::File)?;
    let text = |content: &Content, flaw| {
        String::from_utf8(content.bytes.clone()).map_err(|_| MakeError::File(content.fail(flaw)))
    };
    let signer = KeyPair::from_pem(&text(&key, FileFlaw::NoKey)?);
    let signer = signer.map_err(|_| MakeError::File(key.fail(FileFlaw::BadKey)))?;
    if !cert.own_certificate().map_err(MakeError::File)?.is_authority() {
        return Err(MakeError::NoAuthority { cert: authority.cert.clone() });
    }
    let issuer = Issuer::from_ca_cert_pem(&text(&cert, FileFlaw::NoCertificate)?, signer)
        .map_err(|_| MakeError::NoAuthority { cert: authority.cert.clone() })?;
    let key = new_key()?;
    let cert = ordered(order)?.signed_by(&key, &issuer).map_err(|error| MakeError::Refused(error.to_string()))?;
    Ok(Made { cert: cert.pem(), key: key.serialize_pem() })
}

/// Makes a certificate that nobody else has signed.
///
/// # Errors
/// What is ordered cannot stand in a certificate.
pub fn self_signed(order: &Order) -> Result<Made, MakeError> {
    alone(&ordered(order)?)
}

/// The certificate of a node that was told to make one for itself, in a directory of its own. It is made if it is not
/// there.
///
/// # Errors
/// It cannot be made, or not be written.
pub fn kept_in(directory: &Path, order: &Order) -> Result<KeyPairFiles, MakeError> {
    let files = KeyPairFiles { cert: directory.join("cert.pem"), key: directory.join("key.pem") };
    match (files.cert.exists(), files.key.exists()) {
        (true, true) => return Ok(files),
        (false, false) => {}
        // A crash between the two, or somebody who took one away. Neither is of use without the other.
        (cert, _) => {
            let left = if cert { &files.cert } else { &files.key };
            fs::remove_file(left).map_err(|error| MakeError::Write { path: left.clone(), error })?;
        }
    }
    fs::create_dir_all(directory).map_err(|error| MakeError::Write { path: directory.to_owned(), error })?;
    self_signed(order)?.write(&files)?;
    Ok(files)
}

impl Made {
    /// Writes both down: the key so that only its owner may read it.
    ///
    /// # Errors
    /// One of the files is there already, or cannot be written. Nothing is left behind then.
    pub fn write(&self, files: &KeyPairFiles) -> Result<(), MakeError> {
        for path in [&files.cert, &files.key] {
            if path.symlink_metadata().is_ok() {
                return Err(MakeError::Exists { path: path.clone() });
            }
        }
        write_new(&files.key, &self.key, 0o600)?;
        write_new(&files.cert, &self.cert, 0o644).inspect_err(|_| {
            // The key of no certificate; the first error is the one to tell.
            let _ = fs::remove_file(&files.key);
        })
    }
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), MakeError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let written = options.open(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => MakeError::Exists { path: path.to_owned() },
        _ => MakeError::Write { path: path.to_owned(), error },
    })
}

fn new_key() -> Result<KeyPair, MakeError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| MakeError::Refused(error.to_string()))
}

fn alone(params: &CertificateParams) -> Result<Made, MakeError> {
    let key = new_key()?;
    let cert = params.self_signed(&key).map_err(|error| MakeError::Refused(error.to_string()))?;
    Ok(Made { cert: cert.pem(), key: key.serialize_pem() })
}

fn ordered(order: &Order) -> Result<CertificateParams, MakeError> {
    let mut params = params(&order.common_name, &order.hosts, order.days)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match order.ends {
        Ends::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
        Ends::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Ends::Both => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
    };
    Ok(params)
}

fn params(common_name: &str, hosts: &[String], days: u32) -> Result<CertificateParams, MakeError> {
    if days == 0 || days > DAYS_MAX {
        return Err(MakeError::Days(days));
    }
    if let Some(bad) =
        hosts.iter().find(|host| rustls::pki_types::ServerName::try_from(host.trim_start_matches("*.")).is_err())
    {
        return Err(MakeError::Host(bad.clone()));
    }
    let mut params = CertificateParams::new(hosts.to_vec()).map_err(|error| MakeError::Refused(error.to_string()))?;
    params.distinguished_name = DistinguishedName::new();
    match common_name {
        // A certificate of no user: who is known by common names is not known by it.
        "" => params.distinguished_name.push(DnType::OrganizationName, ORGANIZATION),
        name => params.distinguished_name.push(DnType::CommonName, name),
    }
    let now = OffsetDateTime::now_utc();
    params.not_before = now - BEFORE;
    params.not_after = now + Duration::days(days.into());
    Ok(params)
}

/// Why a certificate is not made.
#[derive(Debug)]
pub enum MakeError {
    /// The CA's files cannot be used.
    File(FileError),
    /// What is to sign is no CA.
    NoAuthority {
        /// The file with its certificate.
        cert: PathBuf,
    },
    /// A host that is neither a name nor an address.
    Host(String),
    /// So many days are none, or too many.
    Days(u32),
    /// A file is there already. It is not overwritten.
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// A file cannot be written.
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What is ordered cannot stand in a certificate.
    Refused(String),
}

impl fmt::Display for MakeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(out),
            Self::NoAuthority { cert } => {
                write!(out, "{}: its certificate is that of no CA, and cannot sign others", cert.display())
            }
            Self::Host(host) => write!(out, "{host:?} is neither the name of a host nor an IP address"),
            Self::Days(days) => {
                write!(out, "a certificate cannot be good for {days} days; 1 to {DAYS_MAX} are possible")
            }
            Self::Exists { path } => {
                write!(
                    out,
                    "{}: is there already, and is not overwritten; move it away, or choose another name",
                    path.display()
                )
            }
            Self::Write { path, error } => write!(out, "{}: cannot be written: {error}", path.display()),
            Self::Refused(why) => write!(out, "the certificate cannot be made: {why}"),
        }
    }
}

impl std::error::Error for MakeError {}
