//! What a certificate says: whose it is, and for how long.
//!
//! Owns how names and dates are read. Must not know whether a certificate is to be trusted.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

/// A certificate as far as others need to read it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Certificate {
    /// The common name of its subject; the last, if there are several, as in Go.
    pub common_name: Option<Arc<str>>,
    /// The host names for which it is good.
    pub dns_names: Vec<String>,
    /// The addresses for which it is good.
    pub addresses: Vec<IpAddr>,
    /// It is good from this second on, counted from 1970.
    pub not_before: i64,
    /// It is good up to this second, counted from 1970.
    pub not_after: i64,
    /// Its number among those of its issuer, in hexadecimal.
    pub serial: String,
    /// All that servers and clients must have been certified for, if it says so.
    usages: Option<Usages>,
    version_one: bool,
    authority: bool,
    der: CertificateDer<'static>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Usages {
    server: bool,
    client: bool,
}

/// Which end shows a certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    Server,
    Client,
}

impl Certificate {
    /// Reads one; `None` if it is none.
    #[must_use]
    pub fn read(der: &CertificateDer<'_>) -> Option<Certificate> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let common_names = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        let mut dns_names = Vec::new();
        let mut addresses = Vec::new();
        if let Ok(Some(names)) = parsed.subject_alternative_name() {
            for name in &names.value.general_names {
                match name {
                    GeneralName::DNSName(name) => dns_names.push((*name).to_owned()),
                    GeneralName::IPAddress(bytes) => addresses.extend(address(bytes)),
                    _ => {}
                }
            }
        }
        let usages = parsed.extended_key_usage().ok()?.map(|usages| Usages {
            server: usages.value.server_auth || usages.value.any,
            client: usages.value.client_auth || usages.value.any,
        });
        Some(Certificate {
            common_name: common_names.last().map(Arc::from),
            dns_names,
            addresses,
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            serial: parsed.serial.to_str_radix(16),
            usages,
            authority: parsed.is_ca() && parsed.key_usage().ok()?.is_none_or(|usage| usage.value.key_cert_sign()),
            version_one: parsed.version() != X509Version::V3,
            der: der.clone().into_owned(),
        })
    }

    /// Whether it is good for a host by its alternative names, wildcards included. Its common name does not count.
    #[must_use]
    pub fn is_for(&self, host: &ServerName<'_>) -> bool {
        let parsed = ParsedCertificate::try_from(&self.der);
        parsed.and_then(|parsed| verify_server_name(&parsed, host)).is_ok()
    }

    /// The certificate itself.
    #[must_use]
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// How many seconds it is good for, from now on; negative if it has expired.
    #[must_use]
    pub fn seconds_left(&self) -> i64 {
        self.not_after - now()
    }

    /// Whether it is of a version that has no alternative names.
    pub(crate) fn is_version_one(&self) -> bool {
        self.version_one
    }

    /// Whether it may sign others.
    pub(crate) fn is_authority(&self) -> bool {
        self.authority
    }

    /// Whether it may be shown by such an end. One that says nothing may.
    pub(crate) fn serves_as(&self, end: End) -> bool {
        self.usages.is_none_or(|usages| match end {
            End::Server => usages.server,
            End::Client => usages.client,
        })
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    }
}

/// The time, in seconds from 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// A second from 1970 on, as a date.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DisplayTime(pub i64);

impl fmt::Display for DisplayTime {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(at) = OffsetDateTime::from_unix_timestamp(self.0) else {
            return write!(out, "second {}", self.0);
        };
        let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
        write!(out, "{year}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", at.hour(), at.minute(), at.second())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_as_dates() {
        let rows = [
            (0, "1970-01-01 00:00:00 UTC"),
            (1_700_000_000, "2023-11-14 22:13:20 UTC"),
            (i64::MAX, "second 9223372036854775807"),
        ];
        for (second, shown) in rows {
            assert_eq!(DisplayTime(second).to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_certificate_is_not_read() {
        for bad in [&b""[..], b"\x30", b"\x30\x80", &[0xff; 100]] {
            assert_eq!(Certificate::read(&CertificateDer::from(bad)), None);
        }
    }
}
