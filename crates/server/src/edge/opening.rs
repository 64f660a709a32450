//! How a connection begins: by its first bytes it says which protocol it speaks.
//!
//! Owns the bytes that were read to find out, which whoever serves the connection reads again. Must not know what either
//! protocol does with them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// What a client must send first to speak HTTP/2.
const HTTP2_PREFACE: &[u8; PREFACE_BYTES] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PREFACE_BYTES: usize = 24;

/// The first byte of a client that speaks TLS.
const TLS_HANDSHAKE: u8 = 0x16;

/// A connection whose first bytes are known, and are still to be read.
pub(super) struct Opened<S> {
    stream: S,
    start: [u8; PREFACE_BYTES],
    /// Which of `start` have come and are not read again yet.
    unread: std::ops::Range<usize>,
}

impl<S: AsyncRead + Unpin> Opened<S> {
    /// Waits until it is certain what the client speaks. It sleeps until more bytes come, however few come at a time.
    ///
    /// # Errors
    /// The client has ended the connection before.
    pub(super) async fn open(mut stream: S) -> io::Result<Opened<S>> {
        let mut start = [0; PREFACE_BYTES];
        let mut came = 0;
        while came < start.len() && start[..came] == HTTP2_PREFACE[..came] {
            match stream.read(&mut start[came..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => came += more,
            }
        }
        Ok(Opened { stream, start, unread: 0..came })
    }

    /// Whether the client speaks TLS, which nobody here has asked for.
    pub(super) fn is_tls(&self) -> bool {
        self.start[0] == TLS_HANDSHAKE
    }

    /// Whether the client speaks HTTP/2; it speaks HTTP/1 otherwise, or nothing that is known here.
    pub(super) fn is_http2(&self) -> bool {
        self.start == *HTTP2_PREFACE
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Opened<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, into);
        }
        let taken = self.unread.len().min(into.remaining());
        let from = self.unread.start;
        into.put_slice(&self.start[from..from + taken]);
        self.unread.start += taken;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Opened<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn the_first_bytes_tell_the_protocol_and_are_read_again() {
        let http2 = [HTTP2_PREFACE, &b"\0\0\0\x04\0\0\0\0\0"[..]].concat();
        let rows: [(&[u8], bool); 4] =
            [(&http2, true), (b"GET / HTTP/1.1\r\n\r\n", false), (b"PRI * HTTP/1.1\r\n\r\n", false), (b"P\n", false)];
        for (sent, is_http2) in rows {
            for at_a_time in [1, 7, 100] {
                let (mut client, server) = tokio::io::duplex(1024);
                let sent = sent.to_vec();
                let expected = sent.clone();
                let sending = tokio::spawn(async move {
                    for piece in sent.chunks(at_a_time) {
                        client.write_all(piece).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                });
                let mut opened = Opened::open(server).await.unwrap();
                assert_eq!(opened.is_http2(), is_http2, "{expected:?}");
                let mut received = Vec::new();
                opened.read_to_end(&mut received).await.unwrap();
                sending.await.unwrap();
                assert_eq!(received, expected);
            }
        }
    }

    #[tokio::test]
    async fn a_client_that_leaves_has_opened_nothing() {
        for sent in [&b""[..], b"PRI", &HTTP2_PREFACE[..23]] {
            let (mut client, server) = tokio::io::duplex(1024);
            client.write_all(sent).await.unwrap();
            drop(client);
            assert!(Opened::open(server).await.is_err());
        }
    }
}
