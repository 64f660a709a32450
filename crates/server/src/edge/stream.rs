//! A client's connection as hyper sees it: writes are gathered, so that what is written between two flushes leaves in
//! one system call.
//!
//! The HTTP/2 layer copies payloads below 1 KiB into its own buffer if told that writes do not gather, and flushes after
//! each payload above 256 bytes otherwise. The first is far cheaper for replies of a few hundred bytes; what it would
//! cost for longer ones, a write for each part, is saved here.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// Bytes that are gathered at most; longer writes go straight through.
const GATHERED_MAX: usize = 32 * 1024;

/// A connection whose writes are gathered until they are flushed.
pub(super) struct Gathering<S> {
    stream: TokioIo<S>,
    gathered: BytesMut,
}

impl<S: AsyncWrite + Unpin> Gathering<S> {
    pub(super) fn new(stream: S) -> Gathering<S> {
        Gathering { stream: TokioIo::new(stream), gathered: BytesMut::new() }
    }

    /// Writes what was gathered.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.gathered.has_remaining() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(context, &self.gathered))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.gathered.advance(sent);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> Read for Gathering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> Write for Gathering<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.gathered.len() + bytes.len() > GATHERED_MAX {
            ready!(self.poll_send(context))?;
        }
        if bytes.len() > GATHERED_MAX {
            return Pin::new(&mut self.stream).poll_write(context, bytes);
        }
        self.gathered.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn everything_arrives_in_order_whatever_its_length() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let mut expected = Vec::new();
        let pieces: Vec<Vec<u8>> = [1, 10_000, 10_000, 20_000, 100_000, 3, 0, 40_000]
            .iter()
            .enumerate()
            .map(|(n, len)| vec![n as u8; *len])
            .collect();
        pieces.iter().for_each(|piece| expected.extend_from_slice(piece));
        let writing = tokio::spawn(async move {
            let mut stream = Gathering::new(client);
            for piece in pieces {
                let mut rest = piece.as_slice();
                while !rest.is_empty() {
                    let taken = poll_fn(|context| Pin::new(&mut stream).poll_write(context, rest)).await.unwrap();
                    rest = &rest[taken..];
                }
            }
            poll_fn(|context| Pin::new(&mut stream).poll_shutdown(context)).await.unwrap();
        });
        let mut received = Vec::new();
        server.read_to_end(&mut received).await.unwrap();
        writing.await.unwrap();
        assert!(received == expected);
    }
}
