//! How a connection begins: by its first byte it says whether it is TLS.
//!
//! Owns the bytes that were read to find out, which the owner of the connection reads again.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// The first byte of a TLS connection: a record of its handshake.
const HANDSHAKE_RECORD: u8 = 0x16;
/// As many bytes as tell a request of HTTP.
const BYTES: usize = 8;

/// A connection whose first bytes are known, and are still to be read.
#[derive(Debug)]
pub struct FirstBytes<S> {
    stream: S,
    start: [u8; BYTES],
    /// How many of `start` have come.
    came: usize,
    /// How many of these are read again.
    read: usize,
}

impl<S: AsyncRead + Unpin> FirstBytes<S> {
    /// Waits until something comes. It has no time limit of its own.
    ///
    /// # Errors
    /// The other end has closed the connection before, or it broke.
    pub async fn read(mut stream: S) -> io::Result<FirstBytes<S>> {
        let mut start = [0; BYTES];
        match stream.read(&mut start).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            came => Ok(FirstBytes { stream, start, came, read: 0 }),
        }
    }

    /// Whether it is TLS; it is in the clear otherwise, or nothing that is known here.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.start[0] == HANDSHAKE_RECORD
    }

    /// Whether a request of HTTP begins so, of either version.
    #[must_use]
    pub fn looks_like_http(&self) -> bool {
        const METHODS: [&[u8]; 9] =
            [b"GET ", b"POST ", b"PUT ", b"HEAD ", b"PRI *", b"OPTIONS ", b"DELETE ", b"PATCH ", b"CONNECT "];
        let start = &self.start[..self.came];
        METHODS.iter().any(|method| method.starts_with(start) || start.starts_with(method))
    }

    /// The connection below, of which the first bytes are missing.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FirstBytes<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read == self.came {
            return Pin::new(&mut self.stream).poll_read(context, into);
        }
        let taken = (self.came - self.read).min(into.remaining());
        into.put_slice(&self.start[self.read..self.read + taken]);
        self.read += taken;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FirstBytes<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
