//! TLS for both ends of a connection, from files that may change at any time.
//!
//! A [`Server`] or a [`Client`] is loaded from files: certificate, key, CAs and revocation lists. At a handshake, at most once
//! a second, it looks whether one of them has changed, and if so reads all again. Connections that stand are not touched.
//! What cannot be used is said in one line of the log, and what was good stays in use.
//!
//! Who the other end is can be asked of a stream ([`client_of`], [`server_of`]); which names it may have is a
//! [`NameRule`]. [`make`] makes certificates. Must not know of etcd's flags, of HTTP beyond its first bytes, or of what is
//! said on a connection.
//!
//! ```no_run
//! # async fn example(socket: tokio::io::DuplexStream) -> Result<(), Box<dyn std::error::Error>> {
//! use vlot_tls::{KeyPairFiles, Server, ServerOptions, Verify, client_of};
//!
//! let own = KeyPairFiles { cert: "server.crt".into(), key: "server.key".into() };
//! let clients = Verify::by_ca("ca.crt");
//! let server = Server::load(ServerOptions { clients: Some(clients), ..ServerOptions::new(own) })?;
//! let stream = server.accept(socket).await?;
//! let name = client_of(&stream).and_then(|certificate| certificate.common_name);
//! # Ok(())
//! # }
//! ```

mod certificate;
mod client;
mod files;
mod first_bytes;
mod handshake;
pub mod make;
mod names;
mod protocols;
mod reload;
mod revocation;
mod roots;
mod server;
mod verify;

use std::path::PathBuf;

pub use certificate::{Certificate, DisplayTime};
pub use client::{Client, ClientOptions, ClientStream, ServerCheck, server_of};
pub use files::{FileError, FileFlaw};
pub use first_bytes::FirstBytes;
pub use handshake::{HandshakeError, Reason};
pub use names::{NameRule, NotAllowed};
pub use protocols::{ProtocolError, Protocols, Version};
pub use roots::Roots;
/// The name that a server is dialled by, and that its certificate must have.
pub use rustls::pki_types::ServerName;
pub use server::{PLAIN_HTTP_ANSWER, Server, ServerOptions, ServerStream, client_of, take_leave};

/// What either end may say that it speaks inside of TLS: HTTP/2 and, where it is not refused, HTTP/1.1.
pub const ALPN_HTTP: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// A certificate, with those that lead to its CA behind it, and its key; each a file of PEM.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyPairFiles {
    /// The certificates.
    pub cert: PathBuf,
    /// The key of the first of them.
    pub key: PathBuf,
}

/// Which certificates of the other end are good.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verify {
    /// Who must have signed them.
    pub roots: Roots,
    /// A file that names those of them that are good no more, in PEM or DER.
    pub crl: Option<PathBuf>,
    /// Which names they may have, besides the name that is dialled.
    pub names: NameRule,
}

impl Verify {
    /// All that the CAs in a file have signed.
    #[must_use]
    pub fn by_ca(file: impl Into<PathBuf>) -> Verify {
        Verify { roots: Roots::File(file.into()), crl: None, names: NameRule::Any }
    }
}
