//! How this node speaks TLS to its peers: etcd's flags for it, one of ours for a move, and how they go together with the
//! schemes of URLs.
//!
//! Owns the rules between these flags. Must not read the files that they name (`crates/tls` does).

use vlot::tls::{KeyPairFiles, NameRule, Roots, ServerCheck, Speaks, Verify};

use super::arguments::Settings;
use super::error::ConfigError;
use super::tls::{OwnCertificate, names, path};
use super::{InitialCluster, Listen, Url, is_on};

/// How this node speaks TLS to its peers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct PeerTls {
    pub(crate) own: OwnCertificate,
    /// What it shows where it dials, if that is another one.
    pub(crate) own_to_dial: Option<KeyPairFiles>,
    /// What is asked of peers that call; `None` takes whoever calls.
    pub(crate) callers: Option<Verify>,
    /// Whether a caller's certificate must be that of the member which it claims to be.
    pub(crate) callers_by_address: bool,
    pub(crate) dialled: ServerCheck,
    pub(crate) speaks: Speaks,
}

/// The flag by which plain connections are taken beside TLS, for the time of a move.
const PLAIN_TOO: &str = "experimental-peer-allow-plaintext";

/// How peers are spoken to. What has no effect, or takes away what TLS is for, is warned about.
pub(super) fn peer_tls(
    settings: &mut Settings,
    listen: &Listen,
    cluster: &InitialCluster,
) -> Result<Option<PeerTls>, ConfigError> {
    let own = own_certificate(settings)?;
    let Some(own) = own else {
        let members = cluster.members.iter().flat_map(|(_, urls)| urls);
        return match listen.peer.iter().chain(members).find(|url| url.is_tls) {
            Some(url) => Err(ConfigError::NoPeerCertificate { url: url.clone() }),
            None => Ok(None),
        };
    };
    let names = names(settings, "peer-cert-allowed-cn", "peer-cert-allowed-hostname")?;
    let speaks = speaks(settings, &listen.peer);
    let by = Verify {
        roots: path(settings, "peer-trusted-ca-file").map_or(Roots::System, Roots::File),
        crl: path(settings, "peer-crl-file"),
        names,
    };
    let asks = is_on(settings, "peer-client-cert-auth") || by.roots != Roots::System;
    if !asks {
        warn_of_anyone(settings, &by);
    }
    let dialled = match own {
        // Nobody knows who has signed it, so that nobody can be asked for it.
        OwnCertificate::SelfSigned if !asks => ServerCheck::Any,
        _ => ServerCheck::Verified { by: by.clone(), name: None },
    };
    Ok(Some(PeerTls {
        own,
        own_to_dial: pair(settings, "peer-client-cert-file", "peer-client-key-file")?,
        callers: asks.then_some(by),
        callers_by_address: !is_on(settings, "peer-skip-client-san-verification"),
        dialled,
        speaks,
    }))
}

fn own_certificate(settings: &mut Settings) -> Result<Option<OwnCertificate>, ConfigError> {
    let is_self_signed = is_on(settings, "peer-auto-tls");
    match pair(settings, "peer-cert-file", "peer-key-file")? {
        Some(files) => {
            if is_self_signed {
                let line = "--peer-auto-tls has no effect: --peer-cert-file and --peer-key-file are given";
                settings.warnings.push(line.into());
            }
            Ok(Some(OwnCertificate::Files(files)))
        }
        None if is_self_signed => Ok(Some(OwnCertificate::SelfSigned)),
        None => Ok(None),
    }
}

fn pair(settings: &Settings, cert: &'static str, key: &'static str) -> Result<Option<KeyPairFiles>, ConfigError> {
    match (path(settings, cert), path(settings, key)) {
        (Some(cert), Some(key)) => Ok(Some(KeyPairFiles { cert, key })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(ConfigError::HalfOfPair { given: cert, missing: key }),
        (None, Some(_)) => Err(ConfigError::HalfOfPair { given: key, missing: cert }),
    }
}

fn speaks(settings: &mut Settings, listen: &[Url]) -> Speaks {
    let plain_too = is_on(settings, PLAIN_TOO);
    let speaks = match listen.iter().all(|url| url.is_tls) {
        true if plain_too => Speaks::Both,
        true => Speaks::Tls,
        false => Speaks::PlainWhereItListens,
    };
    match speaks {
        Speaks::Both => settings.warnings.push(format!(
            "--{PLAIN_TOO}: whoever reaches this node may call it in the clear; take the flag away as soon as all members \
             speak TLS"
        )),
        Speaks::PlainWhereItListens => {
            if plain_too {
                settings.warnings.push(format!("--{PLAIN_TOO} has no effect: --listen-peer-urls is http"));
            }
            for url in listen.iter().filter(|url| !url.is_tls) {
                settings.warnings.push(format!(
                    "{url} takes peers in the clear and asks them for no certificate, though there is one: its scheme is http"
                ));
            }
        }
        Speaks::Tls => {}
    }
    speaks
}

/// Says that peers are not asked who they are, and what that leaves without effect.
fn warn_of_anyone(settings: &mut Settings, by: &Verify) {
    settings.warnings.push(
        "whoever reaches this node may call it as a peer: no certificate is asked for; give --peer-trusted-ca-file"
            .into(),
    );
    let without_effect = [("peer-crl-file", by.crl.is_some()), ("peer-cert-allowed-cn", by.names != NameRule::Any)];
    for (flag, _) in without_effect.into_iter().filter(|(_, is_given)| *is_given) {
        settings.warnings.push(format!("--{flag} has no effect on peers that call"));
    }
}
