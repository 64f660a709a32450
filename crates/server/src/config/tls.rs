//! How this node speaks TLS to its clients: etcd's flags for it, and how they go together with the schemes of URLs.
//!
//! Owns the rules between these flags. Must not read the files that they name (`crates/tls` does).

use std::path::PathBuf;

use vlot_tls::{KeyPairFiles, NameRule, Protocols, Roots, Verify, Version};

use super::arguments::Settings;
use super::error::ConfigError;
use super::{Listen, at_least, invalid, is_on, text};

/// How this node speaks TLS to its clients.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ClientTls {
    pub(crate) own: OwnCertificate,
    /// Which certificates clients must show; `None` asks for none.
    pub(crate) clients: Option<Verify>,
}

/// What a node shows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum OwnCertificate {
    /// What its operator gives it.
    Files(KeyPairFiles),
    /// What it makes for itself.
    SelfSigned,
}

/// How long a certificate is good that a node makes for itself, in days.
pub(super) fn self_signed_days(settings: &Settings) -> Result<u32, ConfigError> {
    let years = at_least(settings, "self-signed-cert-validity", 1)?;
    let days = u32::try_from(years).ok().and_then(|years| years.checked_mul(365));
    days.filter(|days| *days <= 365 * 1000).ok_or_else(|| {
        invalid("self-signed-cert-validity", text(settings, "self-signed-cert-validity"), "1 to 1000 years")
    })
}

/// Which versions and cipher suites are spoken, to clients and peers.
pub(super) fn protocols(settings: &Settings) -> Result<Protocols, ConfigError> {
    let version = |flag: &'static str| match text(settings, flag) {
        "" => Ok(None),
        given => given.parse::<Version>().map(Some).map_err(|error| ConfigError::Protocols { flag, error }),
    };
    let suites = list(settings, "cipher-suites");
    let (min, max) = (version("tls-min-version")?, version("tls-max-version")?);
    let flag = if suites.is_empty() { "tls-max-version" } else { "cipher-suites" };
    Protocols::new(min, max, &suites).map_err(|error| ConfigError::Protocols { flag, error })
}

/// How clients are spoken to. What has no effect is warned about.
pub(super) fn client_tls(settings: &mut Settings, listen: &Listen) -> Result<Option<ClientTls>, ConfigError> {
    let own = own_certificate(settings)?;
    let listeners = [&listen.client, &listen.client_http, &listen.metrics];
    let mut urls = listeners.into_iter().flatten();
    if own.is_none()
        && let Some(url) = urls.clone().find(|url| url.is_tls)
    {
        return Err(ConfigError::NoCertificate { url: url.clone() });
    }
    let mut warnings = Vec::new();
    let asks_clients =
        is_on(settings, "client-cert-auth") || settings.given("trusted-ca-file").is_some_and(|ca| !ca.is_empty());
    for url in urls.clone().filter(|url| !url.is_tls) {
        if own.is_some() {
            warnings.push(format!("{url} is served in the clear, though there is a certificate: its scheme is http"));
        }
        if asks_clients {
            warnings.push(format!("{url} asks clients for no certificate: its scheme is http"));
        }
    }
    if own.is_some() && !urls.any(|url| url.is_tls) {
        warnings.push("--cert-file, --key-file and --auto-tls have no effect: no URL to listen on is https".into());
    }
    let names = names(settings, "client-cert-allowed-cn", "client-cert-allowed-hostname")?;
    let crl = path(settings, "client-crl-file");
    if !asks_clients {
        let of_names = match names {
            NameRule::CommonNames(_) => "client-cert-allowed-cn",
            _ => "client-cert-allowed-hostname",
        };
        let without_effect = [("client-crl-file", crl.is_some()), (of_names, names != NameRule::Any)];
        for (flag, _) in without_effect.into_iter().filter(|(_, is_given)| *is_given) {
            warnings
                .push(format!("--{flag} has no effect: no client is asked for a certificate; give --trusted-ca-file"));
        }
    }
    let clients = asks_clients.then(|| Verify {
        roots: path(settings, "trusted-ca-file").map_or(Roots::System, Roots::File),
        crl,
        names,
    });
    if clients.as_ref().is_some_and(|clients| clients.roots == Roots::System) {
        warnings.push(
            "--client-cert-auth without --trusted-ca-file takes clients of all CAs that this machine trusts".into(),
        );
    }
    settings.warnings.extend(warnings);
    Ok(own.map(|own| ClientTls { own, clients }))
}

fn own_certificate(settings: &mut Settings) -> Result<Option<OwnCertificate>, ConfigError> {
    let is_self_signed = is_on(settings, "auto-tls");
    match (path(settings, "cert-file"), path(settings, "key-file")) {
        (Some(cert), Some(key)) => {
            if is_self_signed {
                settings.warnings.push("--auto-tls has no effect: --cert-file and --key-file are given".into());
            }
            Ok(Some(OwnCertificate::Files(KeyPairFiles { cert, key })))
        }
        (None, None) if is_self_signed => Ok(Some(OwnCertificate::SelfSigned)),
        (None, None) => Ok(None),
        (Some(_), None) => Err(ConfigError::HalfOfPair { given: "cert-file", missing: "key-file" }),
        (None, Some(_)) => Err(ConfigError::HalfOfPair { given: "key-file", missing: "cert-file" }),
    }
}

/// Which names certificates must have, by two flags of which one may be given.
pub(super) fn names(
    settings: &Settings,
    cn_flag: &'static str,
    host_flag: &'static str,
) -> Result<NameRule, ConfigError> {
    let (names, hosts) = (list(settings, cn_flag), list(settings, host_flag));
    match (names.is_empty(), hosts.is_empty()) {
        (true, true) => Ok(NameRule::Any),
        (false, true) => Ok(NameRule::CommonNames(names)),
        (true, false) => Ok(NameRule::Hosts(hosts)),
        (false, false) => {
            let given = |flag| text(settings, flag).to_owned();
            Err(ConfigError::TwoNameRules { cn_flag, cn: given(cn_flag), hostname: given(host_flag) })
        }
    }
}

pub(super) fn path(settings: &Settings, name: &str) -> Option<PathBuf> {
    Some(text(settings, name)).filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn list(settings: &Settings, name: &str) -> Vec<String> {
    text(settings, name).split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}
