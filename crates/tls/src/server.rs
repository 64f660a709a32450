//! The end that is dialled.
//!
//! Owns its configuration, and how a connection in the clear is told from TLS. Must not know what is served.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use crate::certificate::Certificate;
use crate::files::{Content, FileError, FileFlaw, flaw_of_dates, key_pair};
use crate::first_bytes::FirstBytes;
use crate::handshake::HandshakeError;
use crate::protocols::Protocols;
use crate::reload::{Made, Reloaded, fresh};
use crate::revocation::Revoked;
use crate::verify::Clients;
use crate::{ALPN_HTTP, KeyPairFiles, Verify};

/// What a client is answered that speaks HTTP in the clear; as Go's servers answer it.
pub const PLAIN_HTTP_ANSWER: &str = "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// A connection of a client, as a server has it.
pub type ServerStream<S> = tokio_rustls::server::TlsStream<FirstBytes<S>>;

/// By what a server is made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerOptions {
    /// What it shows.
    pub own: KeyPairFiles,
    /// Which certificates clients must show; `None` asks for none.
    pub clients: Option<Verify>,
    /// What it speaks of TLS.
    pub protocols: Protocols,
    /// What is spoken inside, the best first.
    pub alpn: Vec<Vec<u8>>,
}

impl ServerOptions {
    /// Takes all clients, for HTTP.
    #[must_use]
    pub fn new(own: KeyPairFiles) -> ServerOptions {
        let alpn = ALPN_HTTP.map(<[u8]>::to_vec).to_vec();
        ServerOptions { own, clients: None, protocols: Protocols::default(), alpn }
    }
}

/// The end that is dialled. Its clones are the same one.
#[derive(Clone, Debug)]
pub struct Server(Arc<Reloaded<Loaded>>);

#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    own: Certificate,
}

impl Server {
    /// Reads its files.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub fn load(options: ServerOptions) -> Result<Server, FileError> {
        Ok(Server(Arc::new(Reloaded::load(options)?)))
    }

    /// Does the handshake of a connection that somebody has opened. It has no time limit of its own.
    ///
    /// # Errors
    /// The two do not come to speak TLS. What there was to say to the other end was said.
    pub async fn accept<S>(&self, stream: S) -> Result<ServerStream<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let begun = FirstBytes::read(stream).await.map_err(HandshakeError::of)?;
        self.accept_begun(begun).await
    }

    /// As [`Server::accept`], for a connection whose first bytes have come.
    ///
    /// # Errors
    /// The two do not come to speak TLS. What there was to say to the other end was said.
    pub async fn accept_begun<S>(&self, stream: FirstBytes<S>) -> Result<ServerStream<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if !stream.is_tls() {
            if !stream.looks_like_http() {
                return Err(HandshakeError::NotTls);
            }
            take_leave(stream, PLAIN_HTTP_ANSWER).await;
            return Err(HandshakeError::PlainHttp);
        }
        let loaded = fresh(&self.0).await;
        match TlsAcceptor::from(loaded.config.clone()).accept(stream).into_fallible().await {
            Ok(stream) => Ok(stream),
            Err((error, stream)) => {
                let error = HandshakeError::of(error);
                if matches!(error, HandshakeError::Tls(_)) {
                    take_leave(stream, "").await;
                }
                Err(error)
            }
        }
    }

    /// The certificate that it shows.
    #[must_use]
    pub fn certificate(&self) -> Certificate {
        self.0.current().own.clone()
    }

    /// The files of its certificate and key.
    #[must_use]
    pub fn files(&self) -> &KeyPairFiles {
        &self.0.options().own
    }

    /// What is to be told of its certificate: that it has expired, or is not good yet.
    #[must_use]
    pub fn warning(&self) -> Option<FileError> {
        let flaw = flaw_of_dates(&self.certificate())?;
        Some(FileError { path: self.files().cert.clone(), flaw })
    }

    /// Looks whether its files have changed, if it has not looked within a second. A handshake does so too.
    pub async fn refresh(&self) {
        fresh(&self.0).await;
    }
}

/// How long the other end may take to read why it is refused.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(500);
/// What it may still send meanwhile.
const LEAVE_BYTES_MAX: u64 = 64 * 1024;

/// Says something last, and waits a moment for the other end to go. A connection that is closed with something unread in it
/// is reset, and what was said last is lost with it.
pub async fn take_leave<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, last: &str) {
    let leaving = async {
        // Whether it is still there to hear it is its own affair.
        if stream.write_all(last.as_bytes()).await.is_ok() && stream.shutdown().await.is_ok() {
            let _ = tokio::io::copy(&mut stream.take(LEAVE_BYTES_MAX), &mut tokio::io::sink()).await;
        }
    };
    let _ = tokio::time::timeout(LEAVE_TIMEOUT, leaving).await;
}

impl Made for Loaded {
    type Options = ServerOptions;

    fn files(options: &ServerOptions) -> Result<Vec<PathBuf>, FileError> {
        let mut files = vec![options.own.cert.clone(), options.own.key.clone()];
        if let Some(clients) = &options.clients {
            files.push(clients.roots.path()?);
            files.extend(clients.crl.clone());
        }
        Ok(files)
    }

    fn make(options: &ServerOptions, contents: &[Content], before: Option<&Self>) -> Result<Self, FileError> {
        let provider = Arc::new(options.protocols.provider());
        let own = contents[0].own_certificate()?;
        keep_what_is_good(&own, before.map(|before| &before.own), &contents[0])?;
        let pair = key_pair(&contents[0], &contents[1], &provider)?;
        let unusable = |why: String| contents[0].fail(FileFlaw::Unusable(why));
        let verifier = match &options.clients {
            None => WebPkiClientVerifier::no_client_auth(),
            Some(clients) => {
                let trusted = clients.roots.read(&contents[2])?;
                let revoked = match contents.get(3) {
                    Some(list) => Revoked::read(list, &trusted.certificates)?,
                    None => Revoked::default(),
                };
                let made = Clients::new(trusted, revoked, clients.names.clone(), provider.clone());
                Arc::new(made.map_err(|why| contents[2].fail(FileFlaw::Unusable(why.to_string())))?)
            }
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(options.protocols.versions())
            .map_err(|error| unusable(error.to_string()))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
        config.alpn_protocols.clone_from(&options.alpn);
        if options.clients.is_some() {
            // A session that is resumed is not verified again: neither a date nor a list would end it.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Loaded { config: Arc::new(config), own })
    }
}

/// A certificate that is not good at this time does not replace one that is.
pub(crate) fn keep_what_is_good(
    new: &Certificate,
    before: Option<&Certificate>,
    content: &Content,
) -> Result<(), FileError> {
    let was_good = before.is_some_and(|before| flaw_of_dates(before).is_none());
    match flaw_of_dates(new).filter(|_| was_good) {
        Some(flaw) => Err(content.fail(flaw)),
        None => Ok(()),
    }
}

/// The certificate of the client at the other end, which was verified; `None` if it was not asked for one.
pub fn client_of<S>(stream: &ServerStream<S>) -> Option<Certificate> {
    let (_, connection) = stream.get_ref();
    Certificate::read(connection.peer_certificates()?.first()?)
}
