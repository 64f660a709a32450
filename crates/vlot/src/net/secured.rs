//! A connection that is TLS or is not: one stream for both, so that whoever reads and writes need not know.
//!
//! Owns which of the two it is, and whether frames can be handed over without it.

use std::any::Any;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use vlot_tls::{Certificate, ClientStream, FirstBytes, ServerStream, client_of};

use super::transport::memory::{self, Shortcut};

/// A connection to this node.
pub(crate) type Inbound<S> = Secured<FirstBytes<S>, ServerStream<S>>;
/// A connection of this node.
pub(crate) type Outbound<S> = Secured<S, ClientStream<S>>;

#[derive(Debug)]
pub(crate) enum Secured<P, T> {
    Plain(P),
    Tls(Box<T>),
}

impl<S: AsyncRead + Unpin + 'static> Inbound<S> {
    /// The shortcut past a connection in memory that is in the clear.
    pub fn shortcut(&self) -> Option<Shortcut> {
        match self {
            Self::Plain(stream) => in_memory(stream.get_ref()).map(memory::Stream::shortcut_in),
            Self::Tls(_) => None,
        }
    }
}

impl<S: 'static> Outbound<S> {
    /// As [`Inbound::shortcut`].
    pub fn shortcut(&self) -> Option<Shortcut> {
        match self {
            Self::Plain(stream) => in_memory(stream).map(memory::Stream::shortcut_out),
            Self::Tls(_) => None,
        }
    }
}

/// The same stream, if it is one in memory.
fn in_memory<S: 'static>(stream: &S) -> Option<&memory::Stream> {
    (stream as &dyn Any).downcast_ref()
}

impl<S> Inbound<S> {
    /// The caller's certificate, which was verified, if it was asked for one.
    pub fn certificate(&self) -> Option<Certificate> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => client_of(stream),
        }
    }
}

impl<P: AsyncRead + Unpin, T: AsyncRead + Unpin> AsyncRead for Secured<P, T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, into),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl<P: AsyncWrite + Unpin, T: AsyncWrite + Unpin> AsyncWrite for Secured<P, T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
