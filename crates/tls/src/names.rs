//! Which names the certificate of the other end may have.
//!
//! Owns the rule. Must not know how a certificate is verified otherwise.

use std::fmt;

use rustls::pki_types::ServerName;

use crate::certificate::Certificate;

/// Which names a certificate may have that is good otherwise.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum NameRule {
    /// Any.
    #[default]
    Any,
    /// Its common name is one of these.
    CommonNames(Vec<String>),
    /// It is good for one of these hosts, by its alternative names.
    Hosts(Vec<String>),
}

impl NameRule {
    /// Whether a certificate may be taken.
    ///
    /// # Errors
    /// It has none of the names that are allowed.
    pub fn check(&self, certificate: &Certificate) -> Result<(), NotAllowed> {
        let is_allowed = match self {
            Self::Any => true,
            Self::CommonNames(allowed) => {
                certificate.common_name.as_deref().is_some_and(|name| allowed.iter().any(|allowed| allowed == name))
            }
            Self::Hosts(allowed) => {
                let mut hosts = allowed.iter().filter_map(|host| ServerName::try_from(host.as_str()).ok());
                hosts.any(|host| certificate.is_for(&host))
            }
        };
        if is_allowed {
            return Ok(());
        }
        Err(NotAllowed {
            common_name: certificate.common_name.as_deref().unwrap_or_default().to_owned(),
            rule: self.clone(),
        })
    }
}

/// A certificate has none of the names that are allowed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NotAllowed {
    /// The common name that it has.
    pub common_name: String,
    /// What is allowed.
    pub rule: NameRule,
}

impl fmt::Display for NotAllowed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "the certificate of CN {:?} ", self.common_name)?;
        match &self.rule {
            NameRule::Any => out.write_str("is not allowed"),
            NameRule::CommonNames(allowed) => {
                write!(out, "has none of the allowed common names: {}", allowed.join(", "))
            }
            NameRule::Hosts(allowed) => write!(out, "is for none of the allowed hosts: {}", allowed.join(", ")),
        }
    }
}

impl std::error::Error for NotAllowed {}
