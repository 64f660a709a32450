//! Why a configuration is refused.
//!
//! Owns what the operator reads about it: one line, in etcd's words where etcd has some.

use std::fmt;

use super::auth::BadAuthToken;
use super::file::FileError;
use super::rate_limit::BadRule;
use super::values::{Url, UrlError};

/// Why the configuration is refused. Its text is the one line an operator sees.
#[derive(Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the fields are what the variants name")]
pub enum ConfigError {
    /// An argument without a dash where a flag is expected.
    NotAFlag { argument: String },
    /// No flag has this name.
    Unknown { flag: String },
    /// The command line ends where the flag's value should be.
    Incomplete { flag: String },
    /// The value cannot be read.
    Invalid { flag: &'static str, value: String, expected: Expected },
    /// The flag asks for what this server does not do.
    Refused { flag: &'static str, why: &'static str },
    /// The election timeout has room for too few heartbeats. Both are in milliseconds.
    ElectionTimeoutTooShort { election: u64, heartbeat: u64, heartbeats_min: u64 },
    /// The election timeout is too long. Both are in milliseconds.
    ElectionTimeoutTooLong { election: u64, election_max: u64 },
    /// `--auth-token` cannot be read.
    AuthToken(BadAuthToken),
    /// The flag means nothing without the other.
    Missing { flag: &'static str, needs: &'static str },
    /// The flag needs at least one address.
    NoAddress { flag: &'static str },
    /// The node is told where to listen for clients, and not where they reach it.
    NotAdvertised,
    /// The members that are named do not include this node.
    NotAMember { name: String },
    /// The member with this node's name has other peer URLs than this node.
    OtherPeerUrls { name: String, listed: Vec<Url>, own: Vec<Url> },
    /// An URL is https, and there is no certificate to show.
    NoCertificate { url: Url },
    /// A peer URL is https, and there is no certificate to show to peers.
    NoPeerCertificate { url: Url },
    /// Certificates are to have a common name and a host.
    TwoNameRules { cn_flag: &'static str, cn: String, hostname: String },
    /// Of a certificate and its key only one is given.
    HalfOfPair { given: &'static str, missing: &'static str },
    /// TLS cannot be spoken so.
    Protocols { flag: &'static str, error: vlot_tls::ProtocolError },
    /// Two members have the same peer URL.
    SharedUrl { url: Url, holder: String, other: String },
    /// The configuration file cannot be read.
    File(FileError),
    /// What the configuration file says is refused. The line and the key are those of the flag, the latter if it is not its name.
    InFile { path: String, line: Option<usize>, key: Option<String>, error: Box<ConfigError> },
}

/// What a flag's value should have been.
#[derive(Debug, Eq, PartialEq)]
pub enum Expected {
    /// Something of this form, or one of these words.
    Form(&'static str),
    /// A number that is not smaller.
    AtLeast(u64),
    /// URLs, of which this is none.
    Urls(UrlError),
    /// Members' URLs, of which this is none.
    MemberUrl(UrlError),
    /// Rules, of which one is none.
    Rule(BadRule),
}

impl ConfigError {
    /// The flag that has to be changed, as far as it is one.
    pub(super) fn flag(&self) -> Option<&str> {
        match self {
            Self::Unknown { flag } | Self::Incomplete { flag } => Some(flag),
            Self::Invalid { flag, .. }
            | Self::Refused { flag, .. }
            | Self::Missing { flag, .. }
            | Self::NoAddress { flag }
            | Self::Protocols { flag, .. }
            | Self::HalfOfPair { given: flag, .. } => Some(flag),
            Self::ElectionTimeoutTooShort { .. } | Self::ElectionTimeoutTooLong { .. } => Some("election-timeout"),
            Self::AuthToken(_) => Some("auth-token"),
            Self::NotAdvertised => Some("listen-client-urls"),
            Self::NotAMember { .. } | Self::OtherPeerUrls { .. } | Self::SharedUrl { .. } => Some("initial-cluster"),
            Self::TwoNameRules { cn_flag, .. } => Some(cn_flag),
            Self::NotAFlag { .. }
            | Self::NoCertificate { .. }
            | Self::NoPeerCertificate { .. }
            | Self::File(_)
            | Self::InFile { .. } => None,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAFlag { argument } => write!(out, "'{argument}' is not a valid flag"),
            Self::Unknown { flag } => write!(out, "unknown flag --{flag}; 'vlot server --help' lists all"),
            Self::Incomplete { flag } => write!(out, "--{flag} needs a value"),
            Self::Invalid { flag, value, expected } => write!(out, "--{flag}={value}: expected {expected}"),
            Self::Refused { flag, why } => write!(out, "--{flag} is not supported: {why}"),
            Self::ElectionTimeoutTooShort { election, heartbeat, heartbeats_min } => write!(
                out,
                "--election-timeout[{election}ms] should be at least as {heartbeats_min} times as \
                 --heartbeat-interval[{heartbeat}ms]"
            ),
            Self::ElectionTimeoutTooLong { election, election_max } => write!(
                out,
                "--election-timeout[{election}ms] is too long, and should be set less than {election_max}ms"
            ),
            Self::AuthToken(bad) => bad.fmt(out),
            Self::Missing { flag, needs } => write!(out, "--{flag} has no effect without --{needs}"),
            Self::NoAddress { flag } => write!(out, "--{flag} names no address"),
            Self::NotAdvertised => {
                out.write_str("--advertise-client-urls is required when --listen-client-urls is set explicitly")
            }
            Self::NotAMember { name } => {
                write!(out, "couldn't find local name \"{name}\" in the initial cluster configuration")
            }
            Self::OtherPeerUrls { name, listed, own } => write!(
                out,
                "--initial-cluster has {name}={} but --initial-advertise-peer-urls={}",
                Url::texts(listed).join(","),
                Url::texts(own).join(",")
            ),
            Self::NoCertificate { url } => write!(
                out,
                "{url} needs TLS, and there is no certificate: give --cert-file and --key-file, or --auto-tls"
            ),
            Self::NoPeerCertificate { url } => write!(
                out,
                "{url} needs TLS, and there is no certificate: give --peer-cert-file and --peer-key-file, or \
                 --peer-auto-tls"
            ),
            Self::TwoNameRules { cn, hostname, .. } => {
                write!(out, "AllowedCN and AllowedHostname are mutually exclusive (cn={cn:?}, hostname={hostname:?})")
            }
            Self::HalfOfPair { given, missing } => {
                write!(
                    out,
                    "--{given} is given without --{missing}; a certificate needs its key, and a key its certificate"
                )
            }
            Self::Protocols { flag, error } => write!(out, "--{flag}: {error}"),
            Self::SharedUrl { url, holder, other } => {
                write!(out, "--initial-cluster gives {url} to both \"{holder}\" and \"{other}\"")
            }
            Self::File(error) => error.fmt(out),
            Self::InFile { path, line, key, error } => {
                out.write_str(path)?;
                if let Some(line) = line {
                    write!(out, ":{line}")?;
                }
                if let Some(key) = key {
                    write!(out, ": {key}")?;
                }
                // A text in a file may have many lines.
                write!(out, ": {}", error.to_string().replace(['\n', '\r'], " "))
            }
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form(form) => out.write_str(form),
            Self::AtLeast(smallest) => write!(out, "a number of at least {smallest}"),
            Self::Urls(error) => write!(out, "a list of URLs; {error}"),
            Self::Rule(bad) => bad.fmt(out),
            Self::MemberUrl(error) => write!(out, "an URL; {error}"),
        }
    }
}

impl std::error::Error for ConfigError {}
