//! Whether the certificate of the other end is good.
//!
//! Owns what is asked of it beyond what rustls asks: that it is not revoked and has a name that is allowed. Must not know
//! where CAs and lists come from.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};

use crate::certificate::{Certificate, End};
use crate::names::NameRule;
use crate::revocation::Revoked;
use crate::roots::Trusted;

/// What both ends ask of the certificate of the other.
#[derive(Debug)]
struct Rules {
    authorities: Vec<CertificateDer<'static>>,
    revoked: Revoked,
    names: NameRule,
}

impl Rules {
    /// Verifies a chain; `by_authorities` is how rustls does it.
    fn verify(
        &self,
        end: End,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
        by_authorities: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let read = Certificate::read(own).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
        if self.authorities.iter().any(|authority| authority.as_ref() == own.as_ref()) {
            // It is trusted by itself, as in Go. Who makes a certificate for one server has no other.
            verify_alone(&read, end, now)?;
        } else if read.is_version_one() {
            return Err(other(VersionOne));
        } else {
            by_authorities()?;
        }
        if self.revoked.has_one_of(std::iter::once(own).chain(others)) {
            return Err(CertificateError::Revoked.into());
        }
        self.names.check(&read).map_err(other)
    }
}

/// What holds for a certificate that is itself trusted.
fn verify_alone(certificate: &Certificate, end: End, now: UnixTime) -> Result<(), Error> {
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let at = |seconds: i64| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds.max(0).unsigned_abs()));
    if seconds > certificate.not_after {
        let not_after = at(certificate.not_after);
        return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
    }
    if seconds < certificate.not_before {
        let not_before = at(certificate.not_before);
        return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
    }
    if certificate.serves_as(end) { Ok(()) } else { Err(CertificateError::InvalidPurpose.into()) }
}

/// What a server asks of its clients.
#[derive(Debug)]
pub(crate) struct Clients {
    rules: Rules,
    inner: Arc<dyn ClientCertVerifier>,
}

impl Clients {
    pub(crate) fn new(
        trusted: Trusted,
        revoked: Revoked,
        names: NameRule,
        provider: Arc<CryptoProvider>,
    ) -> Result<Clients, VerifierBuilderError> {
        let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(trusted.store), provider).build()?;
        Ok(Clients { rules: Rules { authorities: trusted.certificates, revoked, names }, inner })
    }
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let by_authorities = || self.inner.verify_client_cert(own, others, now).map(drop);
        self.rules.verify(End::Client, own, others, now, by_authorities)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// What a client asks of the server that it has dialled.
#[derive(Debug)]
pub(crate) struct Servers {
    rules: Rules,
    inner: Arc<WebPkiServerVerifier>,
}

impl Servers {
    pub(crate) fn new(
        trusted: Trusted,
        revoked: Revoked,
        names: NameRule,
        provider: Arc<CryptoProvider>,
    ) -> Result<Servers, VerifierBuilderError> {
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(trusted.store), provider).build()?;
        Ok(Servers { rules: Rules { authorities: trusted.certificates, revoked, names }, inner })
    }
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        stapled: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let by_authorities = || self.inner.verify_server_cert(own, others, name, stapled, now).map(drop);
        self.rules.verify(End::Server, own, others, now, by_authorities)?;
        // Said once more for a certificate that is trusted by itself.
        let parsed = rustls::server::ParsedCertificate::try_from(own)?;
        rustls::client::verify_server_name(&parsed, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// A client that takes any server, as long as it has the key of the certificate that it shows.
#[derive(Debug)]
pub(crate) struct AnyServer {
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyServer {
    pub(crate) fn new(provider: &CryptoProvider) -> AnyServer {
        AnyServer { algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// A certificate of X.509 version 1, in which nothing says for what it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct VersionOne;

impl fmt::Display for VersionOne {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the certificate is of X.509 version 1; make one of version 3 (with extensions)")
    }
}

impl std::error::Error for VersionOne {}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    CertificateError::Other(OtherError(Arc::new(error))).into()
}
