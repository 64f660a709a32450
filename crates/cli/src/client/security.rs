//! Whether and how a client speaks TLS: by the schemes of endpoints, and by flags that are etcdctl's.
//!
//! Owns what flags mean together, and what a failed handshake tells its user to do. Must not know how flags are written.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use tokio::net::TcpStream;
use vlot_tls::{ClientOptions, FileError, HandshakeError, KeyPairFiles, NameRule, Reason, Roots, ServerCheck, Verify};

use super::Endpoint;
use super::socket::Socket;

/// What flags say of TLS. Empty texts are flags that are not given.
#[derive(Clone, Debug)]
pub struct Flags {
    /// The CAs of servers.
    pub cacert: String,
    /// What the client shows.
    pub cert: String,
    pub key: String,
    /// Whether any server is taken.
    pub skip_verify: bool,
    /// The name that servers must have, if it is not the one that is dialled.
    pub server_name: String,
    /// Whether an endpoint without a scheme is spoken to in the clear if no file is given.
    pub insecure_transport: bool,
}

impl Default for Flags {
    fn default() -> Flags {
        let none = String::new;
        Flags {
            cacert: none(),
            cert: none(),
            key: none(),
            skip_verify: false,
            server_name: none(),
            insecure_transport: true,
        }
    }
}

/// How a client speaks TLS. Clones share what is read from files.
#[derive(Clone, Debug)]
pub struct Security {
    /// Whether endpoints without a scheme are spoken to so.
    by_default: bool,
    options: ClientOptions,
    /// Read when it is needed first: the CAs of a machine are many.
    loaded: Arc<OnceLock<vlot_tls::Client>>,
}

impl Security {
    /// What flags ask for. The files that they name are read.
    ///
    /// # Errors
    /// The flags do not go together, or a file cannot be used.
    pub fn new(flags: Flags) -> Result<Security, SecurityError> {
        let path = |text: &str| Some(PathBuf::from(text)).filter(|path| !path.as_os_str().is_empty());
        let own = match (path(&flags.cert), path(&flags.key)) {
            (Some(cert), Some(key)) => Some(KeyPairFiles { cert, key }),
            (None, None) => None,
            (Some(_), None) => return Err(SecurityError::HalfOfPair { given: "cert", missing: "key" }),
            (None, Some(_)) => return Err(SecurityError::HalfOfPair { given: "key", missing: "cert" }),
        };
        let has_files = own.is_some() || !flags.cacert.is_empty();
        let roots = path(&flags.cacert).map_or(Roots::System, Roots::File);
        let by = Verify { roots, crl: None, names: NameRule::Any };
        let name = Some(flags.server_name).filter(|name| !name.is_empty());
        let by_default = has_files || name.is_some() || !flags.insecure_transport;
        let server = if flags.skip_verify { ServerCheck::Any } else { ServerCheck::Verified { by: by.clone(), name } };
        let options = ClientOptions { own, server, ..ClientOptions::new(by) };
        let security = Security { by_default, options, loaded: Arc::default() };
        if has_files {
            security.client().map_err(SecurityError::File)?;
        }
        Ok(security)
    }

    /// What is to be told of the client's certificate: that it has expired, or is not good yet.
    pub fn warning(&self) -> Option<FileError> {
        self.loaded.get().and_then(vlot_tls::Client::warning)
    }

    /// Connects to a server, as the endpoint and the flags say, to speak HTTP of a version.
    pub(super) async fn connect(&self, endpoint: &Endpoint, version: HttpVersion) -> Result<Socket, ConnectError> {
        let socket = TcpStream::connect(endpoint.address()).await.map_err(ConnectError::Io)?;
        socket.set_nodelay(true).map_err(ConnectError::Io)?;
        if !endpoint.is_tls().unwrap_or(self.by_default) {
            return Ok(Socket::clear(socket));
        }
        let client = self.client().map_err(ConnectError::File)?;
        let alpn = match version {
            HttpVersion::Http1 => b"http/1.1".to_vec(),
            HttpVersion::Http2 => b"h2".to_vec(),
        };
        let stream = client.connect_for(socket, endpoint.host(), vec![alpn]).await.map_err(ConnectError::Handshake)?;
        Ok(Socket::tls(stream))
    }

    fn client(&self) -> Result<vlot_tls::Client, FileError> {
        if let Some(client) = self.loaded.get() {
            return Ok(client.clone());
        }
        let client = vlot_tls::Client::load(self.options.clone())?;
        Ok(self.loaded.get_or_init(|| client).clone())
    }
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HttpVersion {
    Http1,
    Http2,
}

/// Why flags of TLS cannot be followed.
#[derive(Debug)]
pub enum SecurityError {
    /// Of a certificate and its key only one is given.
    HalfOfPair {
        given: &'static str,
        missing: &'static str,
    },
    File(FileError),
}

impl fmt::Display for SecurityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HalfOfPair { given, missing } => {
                write!(
                    f,
                    "--{given} is given without --{missing}; a certificate needs its key, and a key its certificate"
                )
            }
            Self::File(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SecurityError {}

/// Why there is no connection.
#[derive(Debug)]
pub enum ConnectError {
    Io(std::io::Error),
    File(FileError),
    Handshake(HandshakeError),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::File(error) => error.fmt(f),
            Self::Handshake(error) => write!(f, "{error}{}", advice(error)),
        }
    }
}

impl std::error::Error for ConnectError {}

/// Which flag may mend a handshake.
pub(super) fn advice(error: &HandshakeError) -> &'static str {
    match error.reason() {
        Reason::NotTls | Reason::Closed => {
            "; if the server speaks in the clear, leave the flags of TLS out and use http://"
        }
        Reason::UnknownAuthority => "; give the CA of the server with --cacert",
        Reason::WrongName => "; dial the server by a name that its certificate has",
        Reason::Refused => "; see --cert and --key",
        _ => "",
    }
}
