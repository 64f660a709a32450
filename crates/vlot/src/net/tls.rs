//! TLS between nodes: what the owner decides of it, and the two ends it is loaded into.
//!
//! Owns which connections are TLS and whom a certificate makes of the node that shows it. Must not know how certificates
//! are verified (`vlot-tls`), or what is said inside.

use std::path::PathBuf;

use vlot_raft::id::NodeId;
use vlot_tls::{
    Certificate, Client, ClientOptions, FileError, HandshakeError, KeyPairFiles, NameRule, Protocols, Reason, Roots,
    Server, ServerCheck, ServerName, ServerOptions, Verify,
};

use super::refusal::Refusal;
use super::unauthenticated::host_of;

/// How nodes speak TLS to each other. [`Tls::new`] is mutual: both ends show a certificate, and both verify the other's.
///
/// The files are looked at when a connection is made, and read again if they have changed: certificates, CAs and lists are
/// replaced while the node runs, and connections that stand are left alone.
///
/// ```
/// use vlot::tls::NameRule;
/// use vlot::{Options, Tls};
///
/// let tls = Tls::new("n1.crt", "n1.key", "ca.crt").with_names(NameRule::CommonNames(vec!["my-cluster".into()]));
/// let options = Options { tls: Some(tls), ..Options::new("data") };
/// # let _ = options;
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tls {
    /// What this node shows to others.
    pub own: KeyPairFiles,
    /// What it shows where it dials, if that is another one.
    pub own_to_dial: Option<KeyPairFiles>,
    /// What is asked of the certificates of nodes that call. `None` asks for none, so that **whoever reaches this node may
    /// call it**.
    pub callers: Option<Verify>,
    /// Whether the certificate of a node that calls must be good for the host at which that node is listed, or says that it
    /// listens if it is not listed. So a certificate of one node is of no use to another.
    pub callers_by_address: bool,
    /// What is asked of the certificates of nodes that are dialled. If they are verified at all, they must be good for the
    /// host that is dialled.
    pub dialled: ServerCheck,
    /// Which versions and cipher suites.
    pub protocols: Protocols,
    /// What is spoken to whom.
    pub speaks: Speaks,
}

/// Which connections are TLS, where a node has a certificate.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Speaks {
    /// All.
    #[default]
    Tls,
    /// For the time of a move from plain connections to TLS, **in which nobody is kept out**: takes both, and dials TLS
    /// where the address of a node begins with `https://`, plain connections elsewhere.
    Both,
    /// Takes plain connections alone, and dials as [`Speaks::Both`] does.
    PlainWhereItListens,
}

impl Tls {
    /// Mutual TLS. Each node has a certificate that the CA has signed and that is good for the host at which others dial the
    /// node, both as an end that dials and as one that is dialled.
    #[must_use]
    pub fn new(cert: impl Into<PathBuf>, key: impl Into<PathBuf>, ca: impl Into<PathBuf>) -> Self {
        let verify = Verify { roots: Roots::File(ca.into()), crl: None, names: NameRule::Any };
        Self {
            own: KeyPairFiles { cert: cert.into(), key: key.into() },
            own_to_dial: None,
            callers: Some(verify.clone()),
            callers_by_address: true,
            dialled: ServerCheck::Verified { by: verify, name: None },
            protocols: Protocols::default(),
            speaks: Speaks::Tls,
        }
    }

    /// Takes only certificates with such names, both of nodes that call and of those that are dialled.
    #[must_use]
    pub fn with_names(mut self, names: NameRule) -> Self {
        self.verified(|verify| verify.names = names.clone());
        self
    }

    /// Takes no certificates that are in this list of revoked ones.
    #[must_use]
    pub fn with_crl(mut self, crl: impl Into<PathBuf>) -> Self {
        let crl = crl.into();
        self.verified(|verify| verify.crl = Some(crl.clone()));
        self
    }

    fn verified(&mut self, mut change: impl FnMut(&mut Verify)) {
        self.callers.iter_mut().for_each(&mut change);
        if let ServerCheck::Verified { by, .. } = &mut self.dialled {
            change(by);
        }
    }

    /// The end that dials, for programs that ask nodes by other protocols.
    ///
    /// # Errors
    /// One of the files cannot be used.
    pub fn client(&self) -> Result<Client, FileError> {
        Client::load(ClientOptions {
            // Whoever is not asked for a certificate shows none.
            own: Some(self.own_to_dial.as_ref().unwrap_or(&self.own).clone()),
            server: self.dialled.clone(),
            protocols: self.protocols.clone(),
            alpn: Vec::new(),
        })
    }
}

/// [`Tls`], with its files read.
#[derive(Clone, Debug)]
pub struct Security {
    pub(crate) server: Server,
    client: Client,
    callers_by_address: bool,
    speaks: Speaks,
}

impl Security {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub fn load(tls: &Tls) -> Result<Self, FileError> {
        let Tls { own, callers, protocols, callers_by_address, speaks, .. } = tls;
        let (own, clients, protocols) = (own.clone(), callers.clone(), protocols.clone());
        let server = Server::load(ServerOptions { own, clients, protocols, alpn: Vec::new() })?;
        let callers_by_address = *callers_by_address && callers.is_some();
        Ok(Self { server, client: tls.client()?, callers_by_address, speaks: *speaks })
    }

    /// Whether a node that calls may speak TLS, and whether it need not.
    pub(crate) fn takes(&self, is_tls: bool) -> bool {
        match self.speaks {
            Speaks::Tls => is_tls,
            Speaks::Both => true,
            Speaks::PlainWhereItListens => !is_tls,
        }
    }

    /// Whether a certificate may be that of the node that is listed, or else says that it listens, at this address.
    pub(crate) fn check_caller(
        &self,
        certificate: &Certificate,
        node: NodeId,
        address: &str,
    ) -> Result<(), WrongIdentity> {
        let is_for = |host: &str| ServerName::try_from(host).is_ok_and(|host| certificate.is_for(&host));
        if !self.callers_by_address || is_for(bare_host(address)) {
            return Ok(());
        }
        let names = certificate.dns_names.iter().cloned();
        let names = names.chain(certificate.addresses.iter().map(ToString::to_string)).collect();
        Err(WrongIdentity { node, address: address.to_owned(), names })
    }
}

/// A caller's certificate is not that of the node which it claims to be. Displays as a whole sentence.
#[derive(Debug)]
pub(crate) struct WrongIdentity {
    node: NodeId,
    address: String,
    names: Vec<String>,
}

impl std::fmt::Display for WrongIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (node, names) = (self.node, self.names.join(", "));
        match self.address.as_str() {
            "" => write!(
                f,
                "node {node} does not say where it listens, so that its certificate cannot be held against it"
            ),
            address => write!(f, "node {node} listens at {address}, and the certificate is for [{names}]"),
        }
    }
}

/// How an address is dialled.
pub(crate) struct Way<'a> {
    /// As the transport dials it.
    pub address: &'a str,
    /// The host that the certificate must be good for, if it is dialled by TLS.
    pub tls: Option<(&'a Client, &'a str)>,
}

/// How to dial an address, which may begin with `https://` or `http://`.
///
/// # Errors
/// [`Refusal::TlsUnexpected`] if it can be dialled by TLS alone, and this node has none.
pub(crate) fn way_to<'a>(security: Option<&'a Security>, address: &'a str) -> Result<Way<'a>, Refusal> {
    let (is_https, bare) = match address.split_once("://") {
        Some((scheme, bare)) => (scheme == "https", bare),
        None => (false, address),
    };
    let client = match security {
        None if is_https => return Err(Refusal::TlsUnexpected),
        None => None,
        Some(security) => Some(&security.client).filter(|_| is_https || security.speaks == Speaks::Tls),
    };
    Ok(Way { address: bare, tls: client.map(|client| (client, bare_host(bare))) })
}

/// The host as a certificate names it: without a scheme, a port, and the brackets of IPv6.
fn bare_host(address: &str) -> &str {
    let bare = address.split_once("://").map_or(address, |(_, bare)| bare);
    let host = host_of(bare);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// What a failed handshake is counted as.
pub(crate) fn refusal_of(error: &HandshakeError) -> Refusal {
    match error.reason() {
        Reason::PlainHttp | Reason::NotTls => Refusal::NoTls,
        Reason::Closed => Refusal::CutShort,
        Reason::NoCertificate => Refusal::NoCertificate,
        Reason::Expired => Refusal::Expired,
        Reason::NotYetValid => Refusal::NotYetValid,
        Reason::UnknownAuthority => Refusal::UnknownAuthority,
        Reason::Revoked => Refusal::Revoked,
        Reason::WrongName => Refusal::WrongName,
        Reason::BadCertificate => Refusal::BadCertificate,
        Reason::Version | Reason::Suite | Reason::Protocol => Refusal::TlsFailed,
        Reason::Refused => Refusal::TlsDenied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_tls_an_address_is_dialled_in_the_clear_unless_it_says_https() {
        for (address, expected) in [("h:1", Ok("h:1")), ("http://h:1", Ok("h:1")), ("https://h:1", Err(()))] {
            let way = way_to(None, address).map_err(|_| ());
            assert_eq!(way.as_ref().map(|way| way.address), expected.as_ref().copied().map_err(|()| &()), "{address}");
            assert!(way.is_err() || way.is_ok_and(|way| way.tls.is_none()));
        }
    }

    #[test]
    fn the_host_of_a_certificate_is_bare() {
        let rows =
            [("h:1", "h"), ("https://h:1", "h"), ("http://[::1]:80", "::1"), ("10.0.0.1:1", "10.0.0.1"), ("", "")];
        for (address, host) in rows {
            assert_eq!(bare_host(address), host);
        }
    }
}
