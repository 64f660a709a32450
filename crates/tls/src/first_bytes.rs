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
/// How requests of HTTP begin, of either version.
const METHODS: [&[u8]; 9] =
    [b"GET ", b"POST ", b"PUT ", b"HEAD ", b"PRI *", b"OPTIONS ", b"DELETE ", b"PATCH ", b"CONNECT "];

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
    /// Waits until it is certain how the connection begins, however few bytes come at a time. It has no time limit of its own.
    ///
    /// # Errors
    /// The other end has closed the connection before a byte came, or it broke.
    pub async fn read(mut stream: S) -> io::Result<FirstBytes<S>> {
        let mut start = [0; BYTES];
        let mut came = stream.read(&mut start).await?;
        if came == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // The beginning of a method may go on as another word.
        while METHODS.iter().any(|method| method.len() > came && method.starts_with(&start[..came])) {
            match stream.read(&mut start[came..]).await? {
                0 => break,
                more => came += more,
            }
        }
        Ok(FirstBytes { stream, start, came, read: 0 })
    }

    /// Whether it is TLS; it is in the clear otherwise, or nothing that is known here.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.start[0] == HANDSHAKE_RECORD
    }

    /// Whether a request of HTTP begins so, of either version.
    #[must_use]
    pub fn looks_like_http(&self) -> bool {
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn what_a_connection_begins_with_does_not_depend_on_how_it_comes() {
        let rows: [(&[u8], bool, bool); 7] = [
            (b"GET / HTTP/1.1\r\n\r\n", false, true),
            (b"PRI * HTTP/2.0\r\n", false, true),
            (b"Garbage", false, false),
            (b"POSTER ", false, false),
            (b"\x16\x03\x01", true, false),
            // The other end says no more.
            (b"DEL", false, true),
            (b"\0", false, false),
        ];
        for (sent, is_tls, looks_like_http) in rows {
            for at_a_time in [1, 3, 100] {
                let (mut client, server) = tokio::io::duplex(1024);
                let sending = async move {
                    for piece in sent.chunks(at_a_time) {
                        client.write_all(piece).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                };
                let reading = async move {
                    let mut begun = FirstBytes::read(server).await.unwrap();
                    let found = (begun.is_tls(), begun.looks_like_http());
                    let mut again = Vec::new();
                    begun.read_to_end(&mut again).await.unwrap();
                    (found, again)
                };
                let ((), (found, again)) = tokio::join!(sending, reading);
                assert_eq!(found, (is_tls, looks_like_http), "{sent:?} {at_a_time}");
                assert_eq!(again, sent);
            }
        }
    }
}
