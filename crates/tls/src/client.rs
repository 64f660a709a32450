//! The end that dials.
//!
//! Owns its configuration, and which name the other end must have. Must not know what is asked for.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::ServerName;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::certificate::Certificate;
use crate::files::{Content, FileError, FileFlaw, flaw_of_dates, key_pair};
use crate::handshake::HandshakeError;
use crate::protocols::Protocols;
use crate::reload::{Made, Reloaded, fresh};
use crate::revocation::Revoked;
use crate::server::keep_what_is_good;
use crate::verify::{AnyServer, Servers};
use crate::{KeyPairFiles, Verify};

/// A connection to a server, as a client has it.
pub type ClientStream<S> = tokio_rustls::client::TlsStream<S>;

/// By what a client is made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientOptions {
    /// What it shows, if it is asked.
    pub own: Option<KeyPairFiles>,
    /// Which servers it takes.
    pub server: ServerCheck,
    /// What it speaks of TLS.
    pub protocols: Protocols,
    /// What is spoken inside, the best first; empty does not say.
    pub alpn: Vec<Vec<u8>>,
}

/// Which servers a client takes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ServerCheck {
    /// Whose certificate is good.
    Verified {
        /// What is asked of the certificate.
        by: Verify,
        /// The name that it must have, if it is not the name that is dialled.
        name: Option<String>,
    },
    /// Any. Whoever stands between the two can read and change all that is said.
    Any,
}

impl ClientOptions {
    /// Shows nothing, and takes servers whose certificate is good.
    #[must_use]
    pub fn new(by: Verify) -> ClientOptions {
        let server = ServerCheck::Verified { by, name: None };
        ClientOptions { own: None, server, protocols: Protocols::default(), alpn: Vec::new() }
    }
}

/// The end that dials. Its clones are the same one.
#[derive(Clone, Debug)]
pub struct Client(Arc<Reloaded<Loaded>>);

#[derive(Debug)]
struct Loaded {
    config: Arc<ClientConfig>,
    own: Option<Certificate>,
}

impl Client {
    /// Reads its files.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub fn load(options: ClientOptions) -> Result<Client, FileError> {
        Ok(Client(Arc::new(Reloaded::load(options)?)))
    }

    /// Does the handshake with the host that was dialled: a name, or an IP address. It has no time limit of its own.
    ///
    /// # Errors
    /// The two do not come to speak TLS.
    pub async fn connect<S>(&self, stream: S, host: &str) -> Result<ClientStream<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.connect_for(stream, host, self.0.options().alpn.clone()).await
    }

    /// As [`Client::connect`], to speak one of these inside, the best first.
    ///
    /// # Errors
    /// The two do not come to speak TLS.
    pub async fn connect_for<S>(
        &self,
        stream: S,
        host: &str,
        alpn: Vec<Vec<u8>>,
    ) -> Result<ClientStream<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let host = match &self.0.options().server {
            ServerCheck::Verified { name: Some(name), .. } => name,
            _ => host,
        };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| HandshakeError::Tls(rustls::Error::General(format!("{host:?} is no name of a host"))))?;
        let loaded = fresh(&self.0).await;
        let connector = TlsConnector::from(loaded.config.clone());
        connector.with_alpn(alpn).connect(name, stream).await.map_err(HandshakeError::of)
    }

    /// The certificate that it shows.
    #[must_use]
    pub fn certificate(&self) -> Option<Certificate> {
        self.0.current().own.clone()
    }

    /// What is to be told of its certificate: that it has expired, or is not good yet.
    #[must_use]
    pub fn warning(&self) -> Option<FileError> {
        let flaw = flaw_of_dates(&self.certificate()?)?;
        let path = self.0.options().own.as_ref()?.cert.clone();
        Some(FileError { path, flaw })
    }
}

impl Made for Loaded {
    type Options = ClientOptions;

    fn files(options: &ClientOptions) -> Result<Vec<PathBuf>, FileError> {
        let mut files = Vec::new();
        if let ServerCheck::Verified { by, .. } = &options.server {
            files.push(by.roots.path()?);
            files.extend(by.crl.clone());
        }
        if let Some(own) = &options.own {
            files.extend([own.cert.clone(), own.key.clone()]);
        }
        Ok(files)
    }

    fn make(options: &ClientOptions, contents: &[Content], before: Option<&Self>) -> Result<Self, FileError> {
        let provider = Arc::new(options.protocols.provider());
        let (verifier, rest): (Arc<dyn ServerCertVerifier>, _) = match &options.server {
            ServerCheck::Any => (Arc::new(AnyServer::new(&provider)), contents),
            ServerCheck::Verified { by, .. } => {
                let trusted = by.roots.read(&contents[0])?;
                let revoked = match &by.crl {
                    Some(_) => Revoked::read(&contents[1], &trusted.certificates)?,
                    None => Revoked::default(),
                };
                let made = Servers::new(trusted, revoked, by.names.clone(), provider.clone());
                let made = made.map_err(|why| contents[0].fail(FileFlaw::Unusable(why.to_string())))?;
                (Arc::new(made), &contents[1 + usize::from(by.crl.is_some())..])
            }
        };
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(options.protocols.versions())
            .map_err(|error| FileError { path: PathBuf::new(), flaw: FileFlaw::Unusable(error.to_string()) })?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let own = rest.first().map(Content::own_certificate).transpose()?;
        let mut config = match rest {
            [cert, key] => {
                if let Some(own) = &own {
                    keep_what_is_good(own, before.and_then(|before| before.own.as_ref()), cert)?;
                }
                let pair: Arc<CertifiedKey> = key_pair(cert, key, &provider)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair)))
            }
            _ => builder.with_no_client_auth(),
        };
        // A server that is resumed is not verified again.
        config.resumption = Resumption::disabled();
        Ok(Loaded { config: Arc::new(config), own })
    }
}

/// The certificate of the server at the other end.
pub fn server_of<S>(stream: &ClientStream<S>) -> Option<Certificate> {
    let (_, connection) = stream.get_ref();
    Certificate::read(connection.peer_certificates()?.first()?)
}
