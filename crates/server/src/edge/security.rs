//! Whether a connection is TLS: its handshake, and what is known of the client by it.
//!
//! Owns the choice between TLS and the clear on a port. Must not know what is spoken inside.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use vlot_tls::{FirstBytes, HandshakeError, Server, ServerStream, client_of};

/// What is spoken on a port.
#[derive(Clone, Debug)]
pub(crate) enum Security {
    Clear,
    Tls(Server),
    /// Either, as the client begins: the port has URLs of both schemes.
    Both(Server),
}

/// A connection on which both ends have come to speak.
pub(super) struct Secured {
    pub(super) stream: Stream,
    pub(super) client: Client,
}

/// What a connection tells of its client.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Client {
    pub(super) is_tls: bool,
    /// The common name of its certificate, which was verified.
    pub(super) common_name: Option<Arc<str>>,
}

impl Security {
    /// How much work it is to come to speak: a handshake is much more than a connection.
    pub(super) fn opening_work(&self) -> usize {
        match self {
            Security::Clear => 16,
            Security::Tls(_) | Security::Both(_) => 48,
        }
    }

    /// Does the handshake, if there is one. It has no time limit of its own.
    ///
    /// # Errors
    /// The two do not come to speak TLS.
    pub(super) async fn open(&self, stream: TcpStream) -> Result<Secured, HandshakeError> {
        let tls = match self {
            Security::Clear => return Ok(Secured { stream: Stream::Clear(stream), client: Client::default() }),
            Security::Tls(server) => server.accept(stream).await?,
            Security::Both(server) => {
                let begun = FirstBytes::read(stream).await.map_err(HandshakeError::Io)?;
                if !begun.is_tls() {
                    return Ok(Secured { stream: Stream::Begun(begun), client: Client::default() });
                }
                server.accept_begun(begun).await?
            }
        };
        let common_name = client_of(&tls).and_then(|certificate| certificate.common_name);
        Ok(Secured { stream: Stream::Tls(Box::new(tls)), client: Client { is_tls: true, common_name } })
    }
}

/// A client's connection, as it is spoken on.
pub(super) enum Stream {
    Clear(TcpStream),
    Begun(FirstBytes<TcpStream>),
    Tls(Box<ServerStream<TcpStream>>),
}

/// The same call of whichever it is.
macro_rules! each {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Clear($inner) => $call,
            Stream::Begun($inner) => $call,
            Stream::Tls($inner) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(&mut *self, inner => Pin::new(inner).poll_read(context, into))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(&mut *self, inner => Pin::new(inner).poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(&mut *self, inner => Pin::new(inner).poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        each!(self, inner => inner.is_write_vectored())
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(&mut *self, inner => Pin::new(inner).poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(&mut *self, inner => Pin::new(inner).poll_shutdown(context))
    }
}
