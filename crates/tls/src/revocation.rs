//! Certificates that are good no more, though they have not expired.
//!
//! Owns the lists that CAs make of them. Must not know how a certificate is verified otherwise.

use std::collections::HashSet;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;
use tracing::warn;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::certificate::{DisplayTime, now};
use crate::files::{Content, FileError, FileFlaw};

/// What some CAs have revoked.
#[derive(Debug, Default)]
pub(crate) struct Revoked {
    /// Who has issued a certificate, as it is encoded, and its number.
    certificates: HashSet<(Vec<u8>, Vec<u8>)>,
}

impl Revoked {
    /// Reads all lists in a file, in PEM or DER. A list of a CA that is known must be signed by it.
    pub(crate) fn read(content: &Content, authorities: &[CertificateDer<'_>]) -> Result<Revoked, FileError> {
        let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&content.bytes).collect();
        let mut lists = lists.map_err(|error| content.fail(FileFlaw::BadPem(error.to_string())))?;
        if lists.is_empty() {
            lists.push(content.bytes.clone().into());
        }
        let mut revoked = Revoked::default();
        for list in &lists {
            let (_, list) = CertificateRevocationList::from_der(list.as_ref())
                .map_err(|_| content.fail(FileFlaw::NoRevocationList))?;
            if !may_be_signed_by_one(&list, authorities) {
                return Err(content.fail(FileFlaw::ForgedRevocationList { issuer: list.issuer().to_string() }));
            }
            if let Some(next) = list.next_update().map(|next| next.timestamp()).filter(|next| *next < now()) {
                let (file, next) = (content.path.display(), DisplayTime(next));
                warn!(%file, due = %next, "a newer list of revoked certificates was due; this one is used on");
            }
            let issuer = list.issuer().as_raw();
            let numbers = list.iter_revoked_certificates().map(|revoked| revoked.user_certificate.to_bytes_be());
            revoked.certificates.extend(numbers.map(|number| (issuer.to_vec(), number)));
        }
        Ok(revoked)
    }

    /// Whether one of these certificates is revoked by its issuer, or cannot be read.
    pub(crate) fn has_one_of<'a>(&self, mut certificates: impl Iterator<Item = &'a CertificateDer<'a>>) -> bool {
        !self.certificates.is_empty()
            && certificates.any(|certificate| {
                X509Certificate::from_der(certificate).map_or(true, |(_, read)| {
                    let name = (read.issuer().as_raw().to_vec(), read.serial.to_bytes_be());
                    self.certificates.contains(&name)
                })
            })
    }
}

/// Whether a list has the signature of a CA of its issuer's name, or there is none of that name to ask.
fn may_be_signed_by_one(list: &CertificateRevocationList<'_>, authorities: &[CertificateDer<'_>]) -> bool {
    let mut has_candidate = false;
    for authority in authorities {
        let Ok((_, authority)) = X509Certificate::from_der(authority) else { continue };
        if authority.subject().as_raw() != list.issuer().as_raw() {
            continue;
        }
        has_candidate = true;
        if list.verify_signature(authority.public_key()).is_ok() {
            return true;
        }
    }
    !has_candidate
}
