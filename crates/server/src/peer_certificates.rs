//! What this node shows to its peers, and how it asks them over TLS.
//!
//! Owns the certificate that a node makes for its peers. Must not know what peers say to each other.

use std::path::Path;

use tracing::{info, warn};
use vlot::Tls;
use vlot_tls::make::{self, Ends, Order};
use vlot_tls::{KeyPairFiles, Server, ServerOptions};

use crate::config::{Config, OwnCertificate, PeerTls};
use crate::members::ask::PageClient;
use crate::serve::ServeError;

/// Where a node keeps the certificate that it makes for its peers, in its data directory; as in etcd.
const PEER_FIXTURES: &str = "fixtures/peer";

/// How this node and its peers speak TLS.
#[derive(Debug)]
pub(crate) struct Peers {
    /// As the transport is told.
    pub(crate) tls: Option<Tls>,
    pub(crate) page_client: PageClient,
    /// What is shown, to be watched.
    pub(crate) shown: Option<Server>,
}

impl Peers {
    /// Loads what this node shows to its peers, if it speaks TLS to them.
    ///
    /// # Errors
    /// A file cannot be used.
    pub(crate) fn load(config: &Config, data_dir: &Path) -> Result<Peers, ServeError> {
        let Some(peer_tls) = &config.peer_tls else {
            return Ok(Peers { tls: None, page_client: PageClient::default(), shown: None });
        };
        let PeerTls { own, own_to_dial, callers, callers_by_address, dialled, speaks } = peer_tls.clone();
        let own = match own {
            OwnCertificate::Files(files) => files,
            OwnCertificate::SelfSigned => self_signed(config, &data_dir.join(PEER_FIXTURES))?,
        };
        let protocols = config.protocols.clone();
        let shown = ServerOptions { protocols: protocols.clone(), ..ServerOptions::new(own.clone()) };
        let shown = Server::load(shown).map_err(ServeError::PeerTlsFile)?;
        if let Some(warning) = shown.warning() {
            warn!("{warning}");
        }
        let tls = Tls { own, own_to_dial, callers, callers_by_address, dialled, protocols, speaks };
        let page_client = PageClient::with_tls(tls.client().map_err(ServeError::PeerTlsFile)?);
        Ok(Peers { tls: Some(tls), page_client, shown: Some(shown) })
    }
}

/// A certificate for all hosts at which peers may find this node.
fn self_signed(config: &Config, directory: &Path) -> Result<KeyPairFiles, ServeError> {
    let own = config.cluster.members.iter().filter(|(name, _)| *name == config.name).flat_map(|(_, urls)| urls);
    let mut hosts: Vec<String> = config.listen.peer.iter().chain(own).map(|url| url.host.clone()).collect();
    hosts.sort();
    hosts.dedup();
    let order = Order { common_name: String::new(), hosts, ends: Ends::Both, days: config.self_signed_days };
    let files = make::kept_in(directory, &order).map_err(ServeError::SelfSigned)?;
    info!(cert = %files.cert.display(), "peers are shown a self-signed certificate");
    Ok(files)
}
