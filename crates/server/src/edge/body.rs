//! The bodies of replies: gRPC messages behind their five-byte prefix, plain text, or JSON.
//!
//! Owns the framing of what goes out, and how much of it is handed to the connection at a time. A message is sent as it
//! is, without a copy to put its prefix in front of it.

use std::io::Cursor;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::buf::Chain;
use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};

use super::compression::{Encoding, compressed};
use super::gateway::{Incomplete, JsonBody};
use crate::conversation::{Copies, Messages, PREFIX_BYTES, Waiting, prefix};
use crate::share::Held;
use crate::status::{Code, Status};
use crate::telemetry::metrics::Tally;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// A prefix, which may be used up already, and bytes that are shared with the code that made them.
type Framed = Chain<Cursor<[u8; PREFIX_BYTES]>, Bytes>;

/// One piece of a body.
pub(crate) enum Data {
    Framed(Framed),
    /// With what is pending until the last of them is sent.
    Copies(Copies, #[expect(dead_code, reason = "it is given back when dropped")] Option<Held>),
}

impl Buf for Data {
    fn remaining(&self) -> usize {
        match self {
            Data::Framed(data) => data.remaining(),
            Data::Copies(data, _) => data.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Data::Framed(data) => data.chunk(),
            Data::Copies(data, _) => data.chunk(),
        }
    }

    fn advance(&mut self, bytes: usize) {
        match self {
            Data::Framed(data) => data.advance(bytes),
            Data::Copies(data, _) => data.advance(bytes),
        }
    }
}

/// Bytes that are handed to the connection at a time. What is longer follows when the client's flow control has room.
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// The body of a reply.
pub(crate) enum Body {
    /// One message or text, then perhaps the status of a call.
    Whole { data: Option<Framed>, status: Option<Status> },
    /// Framed messages as they come, closed by a status. They are taken only as the client takes them. If they are to be
    /// compressed, whole messages come at a time.
    Stream { next: Messages, following: Waiting, encoding: Encoding, tally: Option<Tally> },
    /// JSON, as it is made.
    Json { next: Bytes, following: Box<JsonBody> },
}

impl Body {
    /// Nothing at all: the headers end the reply.
    pub(super) fn empty() -> Body {
        Body::Whole { data: None, status: None }
    }

    /// Text of a plain HTTP reply.
    pub(super) fn text(text: impl Into<Bytes>) -> Body {
        Body::Whole { data: Some(unframed(text.into())), status: None }
    }

    /// Messages of a stream, framed, as they come.
    pub(super) fn stream(following: Waiting, encoding: Encoding, tally: Tally) -> Body {
        Body::Stream { next: Messages::Each(Bytes::new()), following, encoding, tally: Some(tally) }
    }

    /// JSON, as it is made.
    pub(super) fn json(following: JsonBody) -> Body {
        Body::Json { next: Bytes::new(), following: Box::new(following) }
    }

    /// One message of exactly this length, whose bytes come in slices.
    pub(super) fn sliced_message(length: u32, slices: Waiting) -> Body {
        let next = Messages::Each(Bytes::copy_from_slice(&prefix(length as usize)));
        Body::Stream { next, following: slices, encoding: Encoding::Identity, tally: None }
    }

    /// The one message of a unary call that succeeded.
    pub(super) fn message(message: Bytes, encoding: Encoding) -> Body {
        let data = match encoding {
            Encoding::Identity => framed(message),
            Encoding::Gzip => unframed(compressed(&[&prefix(message.len())[..], &message].concat())),
        };
        Body::Whole { data: Some(data), status: Some(Status::OK) }
    }
}

/// What comes next of a body.
pub(super) enum Part {
    Data(Data),
    /// How the call has ended. Nothing comes behind it.
    Status(Status),
}

/// Puts its prefix in front of a message.
fn framed(message: Bytes) -> Framed {
    Cursor::new(prefix(message.len())).chain(message)
}

/// Bytes that need no prefix.
fn unframed(bytes: Bytes) -> Framed {
    let mut used_up = Cursor::new([0; PREFIX_BYTES]);
    used_up.set_position(PREFIX_BYTES as u64);
    used_up.chain(bytes)
}

/// Takes a piece from what is to be sent.
fn take_piece(data: &mut Option<Framed>) -> Option<Framed> {
    let taken = data.take()?;
    if taken.remaining() <= PIECE_BYTES_MAX {
        return Some(taken);
    }
    let (prefix, mut bytes) = taken.into_inner();
    let piece = bytes.split_to(PIECE_BYTES_MAX - PREFIX_BYTES);
    *data = Some(unframed(bytes));
    Some(prefix.chain(piece))
}

/// Takes a piece of messages. Nothing if there are none.
fn take_messages(messages: &mut Messages) -> Option<Data> {
    match std::mem::replace(messages, Messages::Each(Bytes::new())) {
        Messages::Each(bytes) if bytes.is_empty() => None,
        Messages::Each(mut bytes) => {
            let piece = bytes.split_to(bytes.len().min(PIECE_BYTES_MAX));
            *messages = Messages::Each(bytes);
            Some(Data::Framed(unframed(piece)))
        }
        Messages::Alike(mut alike, held) => {
            let piece = alike.take(PIECE_BYTES_MAX);
            if alike.messages() == 0 {
                return Some(Data::Copies(piece, Some(held)));
            }
            *messages = Messages::Alike(alike, held);
            Some(Data::Copies(piece, None))
        }
    }
}

/// The headers that end a call.
pub(super) fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    // Nearly every call ends well, and a value that is written anew is a block of memory.
    let code =
        if status.code == Code::Ok { HeaderValue::from_static("0") } else { HeaderValue::from(status.code as u16) };
    trailers.insert(GRPC_STATUS, code);
    if status.code != Code::Ok
        && let Ok(message) = HeaderValue::try_from(percent_encoded(&status.message))
    {
        trailers.insert(GRPC_MESSAGE, message);
    }
    trailers
}

/// Printable ASCII as it is, every other byte and the percent sign as `%XX`.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' => encoded.push_str("%25"),
            b' '..=b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

impl Body {
    /// The next part; `None` at the end.
    pub(super) fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Part, Incomplete>>> {
        let part = match self {
            Body::Whole { data, status } => {
                take_piece(data).map(|data| Part::Data(Data::Framed(data))).or_else(|| status.take().map(Part::Status))
            }
            Body::Stream { next, following, encoding, tally } => loop {
                if let Some(piece) = take_messages(next) {
                    break Some(Part::Data(piece));
                }
                match ready!(following.poll_recv(context)) {
                    Some(Ok(messages)) => {
                        if let Some(tally) = tally {
                            match &messages {
                                Messages::Each(bytes) => tally.sent(bytes),
                                Messages::Alike(alike, _) => tally.sent_alike(alike),
                            }
                        }
                        *next = match encoding {
                            Encoding::Identity => messages,
                            Encoding::Gzip => Messages::Each(compressed(&messages.into_bytes())),
                        };
                    }
                    Some(Err(status)) => {
                        following.close();
                        return Poll::Ready(Some(Ok(Part::Status(status))));
                    }
                    None => return Poll::Ready(None),
                }
            },
            Body::Json { next, following } => {
                // A piece may be of no length: the message has come to the middle of a long string.
                while next.is_empty() {
                    match ready!(following.poll_piece(context)) {
                        Some(Ok(piece)) => *next = piece,
                        Some(Err(incomplete)) => return Poll::Ready(Some(Err(incomplete))),
                        None => return Poll::Ready(None),
                    }
                }
                Some(Part::Data(Data::Framed(unframed(next.split_to(next.len().min(PIECE_BYTES_MAX))))))
            }
        };
        Poll::Ready(part.map(Ok))
    }

    /// Whether there is nothing more, or never was anything.
    pub(super) fn is_at_end(&self) -> bool {
        matches!(self, Body::Whole { data: None, status: None })
    }
}

impl http_body::Body for Body {
    type Data = Data;
    type Error = Incomplete;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let part = ready!(self.get_mut().poll_part(context));
        Poll::Ready(part.map(|part| {
            part.map(|part| match part {
                Part::Data(data) => Frame::data(data),
                Part::Status(status) => Frame::trailers(trailers(&status)),
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.is_at_end()
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole { data, .. } => SizeHint::with_exact(data.as_ref().map_or(0, |data| data.remaining() as u64)),
            Body::Stream { .. } | Body::Json { .. } => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::Alike;
    use crate::share::{AddressLimits, Shares};

    #[test]
    fn a_message_goes_out_behind_its_length() {
        let mut data = framed(Bytes::from_static(b"abc"));
        assert_eq!(data.copy_to_bytes(data.remaining()), &b"\0\0\0\0\x03abc"[..]);
    }

    #[test]
    fn a_long_message_leaves_in_pieces() {
        let message: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
        let Body::Whole { mut data, .. } = Body::message(message.clone().into(), Encoding::Identity) else {
            panic!("no message")
        };
        let mut sent = Vec::new();
        while let Some(mut piece) = take_piece(&mut data) {
            assert!(piece.remaining() <= PIECE_BYTES_MAX);
            sent.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
        }
        assert_eq!(sent, [&prefix(message.len())[..], &message].concat());
    }

    #[test]
    fn messages_that_are_alike_leave_in_pieces_and_are_pending_until_then() {
        let limits = AddressLimits { connections: 1, streams: 1, watches: 1, pending_bytes: 1 };
        let place = Shares::new(limits).connect("10.0.0.1".parse().unwrap()).unwrap();
        let alike = Alike::new(b"head", 1, &[Bytes::from(vec![7; 1000])], (0..200).collect());
        let expected = alike.to_bytes();
        let mut messages = Messages::Alike(alike, place.share().hold(1));
        let mut sent = Vec::new();
        while sent.len() < expected.len() {
            assert!(place.share().is_full());
            let mut piece = take_messages(&mut messages).expect("there are more");
            assert!(piece.remaining() <= PIECE_BYTES_MAX);
            sent.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
        }
        assert_eq!(sent, expected);
        assert!(take_messages(&mut messages).is_none() && !place.share().is_full());
    }

    #[test]
    fn plain_text_has_no_prefix() {
        let Body::Whole { data: Some(mut data), status: None } = Body::text("ok") else { panic!("no data") };
        assert_eq!(data.copy_to_bytes(data.remaining()), &b"ok"[..]);
    }

    #[test]
    fn a_status_text_is_percent_encoded() {
        let rows = [("etcdserver: no leader", "etcdserver: no leader"), ("100 % é\n", "100 %25 %C3%A9%0A")];
        for (text, expected) in rows {
            assert_eq!(percent_encoded(text), expected);
        }
    }

    #[test]
    fn success_has_a_status_and_no_text() {
        assert_eq!(trailers(&Status::OK).len(), 1);
        assert_eq!(trailers(&Status::OK)[GRPC_STATUS], "0");
        let failed = trailers(&Status::new(Code::NotFound, "gone"));
        assert_eq!((&failed[GRPC_STATUS], &failed[GRPC_MESSAGE]), (&"5".parse().unwrap(), &"gone".parse().unwrap()));
    }
}
