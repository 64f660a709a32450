//! Why a handshake fails, in words for whoever must mend it.
//!
//! Owns what an error of TLS means. Must not know which flag of which program mends it.

use std::fmt;
use std::io;

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error};

use crate::certificate::DisplayTime;

/// Why two ends have not come to speak TLS.
#[derive(Debug)]
pub enum HandshakeError {
    /// The client speaks HTTP in the clear. It was told so.
    PlainHttp,
    /// The other end speaks no TLS.
    NotTls,
    /// The other end has closed the connection.
    Closed,
    /// The connection broke.
    Io(io::Error),
    /// One of both does not take what the other offers or shows.
    Tls(Error),
}

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Reason {
    /// HTTP in the clear.
    PlainHttp,
    /// Nothing that is TLS.
    NotTls,
    /// The other end has closed the connection, or it broke.
    Closed,
    /// A client has shown no certificate.
    NoCertificate,
    /// The certificate of the other end has expired.
    Expired,
    /// The certificate of the other end is not good yet.
    NotYetValid,
    /// The certificate of the other end is signed by no CA that is trusted.
    UnknownAuthority,
    /// The certificate of the other end is revoked.
    Revoked,
    /// The certificate of the other end is for another name.
    WrongName,
    /// The certificate of the other end is not good for another reason.
    BadCertificate,
    /// The two have no version in common.
    Version,
    /// The two have no cipher suite, curve or kind of signature in common.
    Suite,
    /// The other end has refused.
    Refused,
    /// What came does not follow the protocol.
    Protocol,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 14] = [
        Reason::PlainHttp,
        Reason::NotTls,
        Reason::Closed,
        Reason::NoCertificate,
        Reason::Expired,
        Reason::NotYetValid,
        Reason::UnknownAuthority,
        Reason::Revoked,
        Reason::WrongName,
        Reason::BadCertificate,
        Reason::Version,
        Reason::Suite,
        Reason::Refused,
        Reason::Protocol,
    ];

    /// One word for it, as counters name it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::PlainHttp => "plain_http",
            Self::NotTls => "not_tls",
            Self::Closed => "closed",
            Self::NoCertificate => "no_certificate",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::UnknownAuthority => "unknown_ca",
            Self::Revoked => "revoked",
            Self::WrongName => "wrong_name",
            Self::BadCertificate => "bad_certificate",
            Self::Version => "version",
            Self::Suite => "suite",
            Self::Refused => "refused",
            Self::Protocol => "protocol",
        }
    }
}

impl HandshakeError {
    /// What an error of a TLS stream means: `None` if TLS has nothing to do with it.
    ///
    /// A server that refuses a client's certificate says so only when the client takes its handshake to be done, so that
    /// the error is that of the first read.
    #[must_use]
    pub fn within(error: &io::Error) -> Option<HandshakeError> {
        let inner = error.get_ref()?.downcast_ref::<Error>()?;
        Some(HandshakeError::Tls(inner.clone()))
    }

    pub(crate) fn of(error: io::Error) -> HandshakeError {
        if let Some(Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) =
            error.get_ref().and_then(|inner| inner.downcast_ref::<Error>())
        {
            return HandshakeError::NotTls;
        }
        match HandshakeError::within(&error) {
            Some(tls) => tls,
            None if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
                Self::Closed
            }
            None => Self::Io(error),
        }
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::PlainHttp => Reason::PlainHttp,
            Self::NotTls => Reason::NotTls,
            Self::Closed | Self::Io(_) => Reason::Closed,
            Self::Tls(Error::NoCertificatesPresented) => Reason::NoCertificate,
            Self::Tls(Error::InvalidCertificate(error)) => of_certificate(error),
            Self::Tls(Error::PeerIncompatible(why)) => of_offer(why),
            Self::Tls(Error::AlertReceived(_)) => Reason::Refused,
            Self::Tls(_) => Reason::Protocol,
        }
    }
}

fn of_certificate(error: &CertificateError) -> Reason {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Reason::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Reason::NotYetValid,
        // An authority of the same name and another key is another one.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Reason::UnknownAuthority,
        CertificateError::Revoked => Reason::Revoked,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Reason::WrongName,
        CertificateError::Other(other) if other.0.is::<crate::names::NotAllowed>() => Reason::WrongName,
        _ => Reason::BadCertificate,
    }
}

fn of_offer(why: &rustls::PeerIncompatible) -> Reason {
    use rustls::PeerIncompatible as Why;
    match why {
        Why::ServerDoesNotSupportTls12Or13
        | Why::ServerTlsVersionIsDisabledByOurConfig
        | Why::SupportedVersionsExtensionRequired
        | Why::Tls12NotOffered
        | Why::Tls12NotOfferedOrEnabled => Reason::Version,
        _ => Reason::Suite,
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PlainHttp => out.write_str("an HTTP request in the clear was sent to a TLS port; use https"),
            Self::NotTls => out.write_str("the other end does not speak TLS"),
            Self::Closed => out.write_str("the other end closed the connection during the TLS handshake"),
            Self::Io(error) => write!(out, "the connection broke during the TLS handshake: {error}"),
            Self::Tls(Error::NoCertificatesPresented) => out.write_str("the client shows no certificate"),
            Self::Tls(Error::InvalidCertificate(error)) => write_certificate_error(error, out),
            Self::Tls(Error::AlertReceived(alert)) => write_alert(*alert, out),
            Self::Tls(Error::PeerIncompatible(_)) if self.reason() == Reason::Version => {
                out.write_str("the two ends have no TLS version in common")
            }
            Self::Tls(Error::PeerIncompatible(why)) => {
                write!(out, "the two ends have no cipher suite or signature in common: {why:?}")
            }
            Self::Tls(error) => write!(out, "TLS: {error}"),
        }
    }
}

fn write_certificate_error(error: &CertificateError, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    let date = |time: &UnixTime| DisplayTime(i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
    match error {
        CertificateError::ExpiredContext { not_after, .. } => {
            write!(out, "the certificate of the other end has expired: it was good until {}", date(not_after))
        }
        CertificateError::NotValidYetContext { not_before, .. } => write!(
            out,
            "the certificate of the other end is not valid yet: it is good from {} on; check the clocks of both",
            date(not_before)
        ),
        CertificateError::UnknownIssuer => out.write_str(
            "the certificate of the other end is signed by an unknown authority, none of the trusted CAs: have one of \
                 them sign it, or trust its CA too",
        ),
        CertificateError::BadSignature => out.write_str(
            "the certificate of the other end is signed by an unknown authority: another one than the trusted CA of \
             that name",
        ),
        CertificateError::Revoked => out.write_str("the certificate of the other end is revoked"),
        CertificateError::NotValidForNameContext { expected, presented } if presented.is_empty() => write!(
            out,
            "the certificate of the other end is not for {}: it has no alternative names",
            expected.to_str()
        ),
        CertificateError::NotValidForNameContext { expected, presented } => write!(
            out,
            "the certificate of the other end is not for {}: it is for {}",
            expected.to_str(),
            presented.join(", ")
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            out.write_str("the certificate of the other end is made for another purpose (see its extended key usage)")
        }
        CertificateError::Other(other) => write!(out, "the certificate of the other end is not good: {}", other.0),
        error => write!(out, "the certificate of the other end is not good: {error}"),
    }
}

fn write_alert(alert: AlertDescription, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    match alert {
        AlertDescription::CertificateRequired => {
            out.write_str("the other end wants a client certificate, and none is given")
        }
        AlertDescription::CertificateExpired => out.write_str("the other end says: our certificate has expired"),
        AlertDescription::CertificateRevoked => out.write_str("the other end says: our certificate is revoked"),
        AlertDescription::UnknownCA => {
            out.write_str("the other end says: our certificate is signed by a CA that it does not trust; have one that it trusts sign it")
        }
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::AccessDenied => {
            write!(out, "the other end does not take our certificate, or wants one: {alert:?}")
        }
        AlertDescription::ProtocolVersion => out.write_str("the other end speaks no TLS version that we do"),
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => {
            write!(out, "the other end has no cipher suite or signature in common with us: {alert:?}")
        }
        alert => write!(out, "the other end refuses: {alert:?}"),
    }
}

impl std::error::Error for HandshakeError {}

impl From<HandshakeError> for io::Error {
    fn from(error: HandshakeError) -> Self {
        match error {
            HandshakeError::Io(error) => error,
            other => io::Error::new(io::ErrorKind::InvalidData, other),
        }
    }
}
