//! The end of a connection whose client has sent too much of something: it is told why, and what it still sends is not
//! looked at.
//!
//! Owns the last frame, and how long it is waited for a client that does not hang up: were the socket closed while something
//! is unread, the system would take the last frame back.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::GOAWAY;
use crate::telemetry::metrics::Offence;

/// RFC 9113 §7: the client behaves in a way that may cause excessive load.
const ENHANCE_YOUR_CALM: u32 = 0xb;
/// How long it is waited for a client to hang up.
const LINGER: Duration = Duration::from_secs(1);
/// And how many bytes it may send meanwhile.
const DISCARDED_MAX: usize = 8 << 20;

/// A connection that is being ended.
pub(super) struct Ending {
    offence: Offence,
    goaway: Bytes,
    is_shut: bool,
    discarded: usize,
    /// From when on there is nothing left to say.
    until: Option<Pin<Box<Sleep>>>,
}

impl Ending {
    /// Ends a connection. Where a frame is half sent, nothing more can be said.
    pub(super) fn new(offence: Offence, is_between_frames: bool) -> Ending {
        let goaway = if is_between_frames { goaway(offence) } else { Bytes::new() };
        Ending { offence, goaway, is_shut: false, discarded: 0, until: None }
    }

    /// Goes on. What comes of it is always an error: why the connection has ended.
    pub(super) fn poll<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Error> {
        let ended = Poll::Ready(io::Error::other(self.offence.name()));
        while self.goaway.has_remaining() {
            match Pin::new(&mut *stream).poll_write(context, &self.goaway) {
                Poll::Ready(Ok(sent @ 1..)) => self.goaway.advance(sent),
                Poll::Ready(_) => return ended,
                Poll::Pending => break,
            }
        }
        if !self.goaway.has_remaining() && !self.is_shut {
            self.is_shut = Pin::new(&mut *stream).poll_shutdown(context).is_ready();
        }
        let mut bytes = [0; 4096];
        loop {
            let mut read = ReadBuf::new(&mut bytes);
            match Pin::new(&mut *stream).poll_read(context, &mut read) {
                Poll::Ready(Ok(())) if !read.filled().is_empty() => self.discarded += read.filled().len(),
                Poll::Ready(_) => return ended,
                Poll::Pending => break,
            }
            if self.discarded > DISCARDED_MAX {
                return ended;
            }
        }
        let until = self.until.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        if until.as_mut().poll(context).is_ready() { ended } else { Poll::Pending }
    }
}

/// A frame that says that the connection ends, and why (RFC 9113 §6.8). That no request was processed is not claimed: of none
/// it is known here.
fn goaway(offence: Offence) -> Bytes {
    let text = offence.name().as_bytes();
    let last_stream = i32::MAX.to_be_bytes();
    let length = (last_stream.len() + 4 + text.len()) as u8;
    [&[0, 0, length, GOAWAY, 0, 0, 0, 0, 0][..], &last_stream, &ENHANCE_YOUR_CALM.to_be_bytes(), text].concat().into()
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn the_client_hears_why_and_may_hang_up() {
        let (mut client, mut server) = tokio::io::duplex(1 << 10);
        let mut ending = Ending::new(Offence::Pings, true);
        let server = tokio::spawn(async move { poll_fn(|context| ending.poll(&mut server, context)).await });
        client.write_all(&[7; 100]).await.unwrap();
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"\0\0\x16\x07\0\0\0\0\0\x7f\xff\xff\xff\0\0\0\x0btoo_many_pings");
        drop(client);
        assert_eq!(server.await.unwrap().to_string(), "too_many_pings");
    }

    #[tokio::test]
    async fn a_client_that_does_not_hang_up_is_waited_for_in_vain() {
        let (mut client, mut server) = tokio::io::duplex(1 << 10);
        let mut ending = Ending::new(Offence::Pings, false);
        poll_fn(|context| ending.poll(&mut server, context)).await;
        let mut ending = Ending::new(Offence::Pings, false);
        let flood = tokio::spawn(async move { while client.write_all(&[7; 1000]).await.is_ok() {} });
        poll_fn(|context| ending.poll(&mut server, context)).await;
        drop(server);
        flood.await.unwrap();
    }
}
