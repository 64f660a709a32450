//! A connection to a server, in the clear or by TLS, that makes HTTP/2 gather small messages into one write.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use vlot_tls::{ClientStream, HandshakeError};

use super::security::advice;

/// A connection that denies being able to write several buffers at once. To one that can, `h2` hands each message of 256
/// bytes or more by itself, which costs a system call a message; for this one it copies what is shorter than 1 KiB
/// behind the others. That is most of what a client costs when many calls begin at the same time.
pub struct Socket {
    inner: Inner,
    /// Whether something has come already, or need not be looked at.
    has_answered: bool,
    fault: Fault,
}

/// Why a connection broke, if it is TLS or another protocol that says so: `h2` passes on no more than a line of its own.
#[derive(Clone, Debug, Default)]
pub struct Fault(Arc<OnceLock<String>>);

impl Fault {
    /// What is to be told; `None` if there is nothing better than what `h2` says.
    pub fn text(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }

    fn note(&self, error: &io::Error) {
        let text = match HandshakeError::within(error) {
            Some(refused) => format!("{refused}{}", advice(&refused)),
            None => match error.get_ref().and_then(|inner| inner.downcast_ref::<NotHttp2>()) {
                Some(other) => other.to_string(),
                None => return,
            },
        };
        let _ = self.0.set(text);
    }
}

enum Inner {
    Clear(TcpStream),
    Tls(Box<ClientStream<TcpStream>>),
}

impl Socket {
    pub(super) fn clear(socket: TcpStream) -> Socket {
        Socket { inner: Inner::Clear(socket), has_answered: false, fault: Fault::default() }
    }

    /// The same for a server that answers by the older version of HTTP.
    pub(super) fn for_http1(mut self) -> Socket {
        self.has_answered = true;
        self
    }

    /// Where it notes why it broke.
    pub(super) fn fault(&self) -> Fault {
        self.fault.clone()
    }

    /// Whether TLS is spoken on it.
    pub(super) fn is_tls(&self) -> bool {
        matches!(self.inner, Inner::Tls(_))
    }

    pub(super) fn tls(stream: ClientStream<TcpStream>) -> Socket {
        Socket { inner: Inner::Tls(Box::new(stream)), has_answered: false, fault: Fault::default() }
    }
}

/// The server does not speak what was expected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotHttp2 {
    /// It begins with an alert of TLS.
    Tls,
    /// It answers by the older version of HTTP. So do servers that expect TLS and are spoken to in the clear.
    Http1,
    /// It has closed a connection in the clear without a word.
    ClosedInTheClear,
    /// It has closed a connection of TLS without a word.
    ClosedByTls,
}

impl fmt::Display for NotHttp2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls => "the server speaks TLS; use https:// and --cacert",
            Self::Http1 => "the server answers by HTTP/1; if it expects TLS, use https:// and --cacert",
            Self::ClosedInTheClear => {
                "the server closes the connection without a word; if it expects TLS, use https:// and --cacert"
            }
            Self::ClosedByTls => {
                "the server closes the connection without a word; if it wants a client certificate, see --cert and --key"
            }
        })
    }
}

impl std::error::Error for NotHttp2 {}

/// What the first bytes of an answer tell, if they are no HTTP/2.
fn not_http2(first: &[u8]) -> Option<NotHttp2> {
    if first.starts_with(b"\x15\x03") {
        return Some(NotHttp2::Tls);
    }
    first.starts_with(b"HTTP/1.").then_some(NotHttp2::Http1)
}

impl Inner {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Inner::Clear(socket) => Pin::new(socket).poll_read(cx, buf),
            Inner::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }

    fn as_writer(&mut self) -> Pin<&mut dyn AsyncWrite> {
        match self {
            Inner::Clear(socket) => Pin::<&mut TcpStream>::new(socket),
            Inner::Tls(stream) => Pin::<&mut ClientStream<TcpStream>>::new(stream),
        }
    }
}

impl Socket {
    /// Looks at what has come first, or at why nothing has.
    fn heard(&mut self, read: io::Result<()>, came: &[u8]) -> io::Result<()> {
        if let Err(error) = &read {
            self.fault.note(error);
        }
        if self.has_answered {
            return read;
        }
        let other = match (&read, &self.inner) {
            (Ok(()), Inner::Clear(_)) if !came.is_empty() => not_http2(came),
            (Ok(()), Inner::Tls(_)) if !came.is_empty() => None,
            (_, Inner::Clear(_)) => Some(NotHttp2::ClosedInTheClear),
            (_, Inner::Tls(_)) => Some(NotHttp2::ClosedByTls),
        };
        self.has_answered = true;
        let Some(other) = other else { return read };
        let error = io::Error::new(io::ErrorKind::InvalidData, other);
        self.fault.note(&error);
        Err(error)
    }

    /// Notes why writing has failed: the other end may have said it before it closed.
    fn written<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &written {
            self.fault.note(error);
            let (mut last, nothing) = ([0; 64], io::Error::from(io::ErrorKind::BrokenPipe));
            let mut last = ReadBuf::new(&mut last);
            let said = match self.inner.poll_read(cx, &mut last) {
                Poll::Ready(said) => said,
                Poll::Pending => Err(nothing),
            };
            // It is noted, and that is all that is to be had of it.
            let _ = self.heard(said, last.filled());
        }
        written
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(self.inner.poll_read(cx, buf));
        Poll::Ready(self.heard(read, &buf.filled()[before..]))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.inner.as_writer().poll_write(cx, buf);
        self.written(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.inner.as_writer().poll_flush(cx);
        self.written(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.as_writer().poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_another_protocol() {
        let rows: [(&[u8], _); 5] = [
            (b"\x15\x03\x03\0\x02\x02\x28", Some(NotHttp2::Tls)),
            (b"HTTP/1.0 400 Bad Request\r\n", Some(NotHttp2::Http1)),
            (b"\0\0\x12\x04\0\0\0\0\0", None),
            (b"\0\x15\x03", None),
            (b"", None),
        ];
        for (first, expected) in rows {
            assert_eq!(not_http2(first), expected, "{first:?}");
        }
    }
}
