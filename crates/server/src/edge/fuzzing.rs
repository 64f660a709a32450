//! What the edge does with clients' bytes before it knows whose they are, for fuzzers (`docs/fuzzing.md`). No part of the
//! interface.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use vlot_proto::descriptors;

use super::compression::{Encoding, Inflating};
use super::connection::Connection;
use super::opening::Opened;
use super::{call, gateway, grpc, requests};
use crate::json::{self, Encoder, Found, Scanner};
use crate::rpc::Rpc;
use crate::status::Status;

/// The longest message of these runs.
const MESSAGE_BYTES_MAX: usize = 4096;

struct Pieces<'b> {
    sent: &'b [u8],
    at_a_time: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (piece, rest) = self.sent.split_at(self.at_a_time.min(into.remaining()).min(self.sent.len()));
        into.put_slice(piece);
        self.sent = rest;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The body of a gRPC call: messages are the same wherever the pieces end, none is longer than allowed, and one that is
/// inflated is no longer either.
pub(crate) fn grpc_messages(bytes: &[u8]) {
    let Some((&[first, second], body)) = bytes.split_first_chunk() else { return };
    let value = [&b""[..], b"identity", b"gzip", b"snappy"][usize::from(first) % 4];
    let Ok(encoding) = Encoding::of(Some(value)) else { return };
    let whole = messages(body, usize::MAX, encoding);
    assert_eq!(whole, messages(body, 1 + usize::from(second), encoding));
    for message in whole.0 {
        assert!(message.len() <= MESSAGE_BYTES_MAX);
    }
}

fn messages(body: &[u8], at_a_time: usize, encoding: Encoding) -> (Vec<Bytes>, Option<Status>) {
    let mut pending = BytesMut::new();
    let mut messages = Vec::new();
    for piece in body.chunks(at_a_time.min(body.len()).max(1)) {
        pending.extend_from_slice(piece);
        loop {
            match requests::cut_message(&mut pending, MESSAGE_BYTES_MAX)
                .and_then(|cut| cut.map(|(flag, message)| decoded(encoding, flag, message)).transpose())
            {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(status) => return (messages, Some(status)),
            }
        }
    }
    (messages, None)
}

fn decoded(encoding: Encoding, flag: u8, message: Bytes) -> Result<Bytes, Status> {
    if !encoding.is_compressed(flag)? {
        return Ok(message);
    }
    let mut inflating = Inflating::new(message);
    loop {
        if let Some(message) = inflating.step(MESSAGE_BYTES_MAX)? {
            return Ok(message);
        }
    }
}

/// The gateway's requests: what is read as a message is written as JSON that is read as the same message.
pub(crate) fn json_requests(bytes: &[u8]) {
    let Some((&[number, at_a_time], text)) = bytes.split_first_chunk() else { return };
    let message = descriptors::METHODS[usize::from(number) % descriptors::METHODS.len()].request;
    let Some(length) = end_of_value(text, usize::MAX) else { return };
    assert_eq!(end_of_value(text, 1 + usize::from(at_a_time)), Some(length), "wherever the pieces end");
    let Ok(read) = json::decode(message, &text[..length]) else { return };
    let written = json::encode(message, &read).expect("what was read is a message");
    let again = json::decode(message, &written).expect("what was written is JSON");
    assert_eq!(json::encode(message, &again).ok(), Some(written));
}

/// Where the first value ends, if it is all there and is JSON.
fn end_of_value(text: &[u8], at_a_time: usize) -> Option<usize> {
    let mut scanner = Scanner::new();
    let mut scanned = 0;
    for piece in text.chunks(at_a_time.min(text.len()).max(1)) {
        match scanner.scan(piece).ok()? {
            Found::End(length) => return Some(scanned + length),
            Found::Nothing | Found::Part => scanned += piece.len(),
        }
    }
    None
}

/// The gateway's replies: any bytes are refused or become JSON, the same in whatever pieces they come.
pub(crate) fn json_replies(bytes: &[u8]) {
    let Some((&[number, at_a_time], bytes)) = bytes.split_first_chunk() else { return };
    let message = descriptors::METHODS[usize::from(number) % descriptors::METHODS.len()].response;
    let whole = json::encode(message, bytes);
    let mut encoder = Encoder::new(message, bytes.len());
    let mut out = Vec::new();
    let pushed = bytes.chunks(1 + usize::from(at_a_time)).try_for_each(|piece| encoder.push(piece, &mut out));
    // Of nothing there is one piece.
    let pushed = pushed.and_then(|()| if bytes.is_empty() { encoder.push(&[], &mut out) } else { Ok(()) });
    let in_pieces = pushed.is_ok() && encoder.is_complete();
    assert_eq!(whole.is_ok(), in_pieces);
    if let Ok(whole) = whole {
        assert_eq!(whole, out);
        assert!(serde_json::from_slice::<serde_json::Value>(&whole).is_ok() || bytes.len() > 64);
    }
}

/// What a client speaks is found out by its first bytes however they come, and all of them are read again.
pub(crate) async fn opening(sent: &[u8], at_a_time: usize) {
    let mut found = Vec::new();
    for at_a_time in [usize::MAX, at_a_time] {
        let Ok(mut opened) = Opened::open(Pieces { sent, at_a_time }).await else {
            found.push(None);
            continue;
        };
        found.push(Some((opened.is_tls(), opened.is_http2())));
        let mut again = Vec::new();
        opened.read_to_end(&mut again).await.expect("bytes in memory");
        assert_eq!(again, sent);
    }
    assert_eq!(found[0], found[1]);
}

/// A header in which a token may stand: it is taken as it is, by those that look there, and is not shown.
pub(crate) fn token_headers(which: u8, value: &[u8]) {
    const NAMES: [&str; 4] = ["token", "authorization", "grpc-metadata-token", "grpc-metadata-authorization"];
    let which = usize::from(which) % NAMES.len();
    let Ok(value) = HeaderValue::from_bytes(value) else { return };
    let text = std::str::from_utf8(value.as_bytes()).unwrap_or_default().to_owned();
    let expected = text.strip_prefix("Bearer ").unwrap_or(&text);
    let headers = HeaderMap::from_iter([(NAMES[which].try_into().expect("a name"), value)]);
    let connection = Connection::of_test();
    let value = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    let of_call = grpc::credentials(value("token").or(value("authorization")), &connection);
    let found = [of_call, gateway::caller(&headers, &connection).credentials];
    for (credentials, looks_there) in found.into_iter().zip([which < 2, which > 0]) {
        assert_eq!(credentials.token.as_deref(), looks_there.then_some(expected));
        assert!(expected.len() < 16 || !format!("{credentials:?}").contains(expected));
    }
}

/// What stands in headers and paths: deadlines, names of calls.
pub(crate) fn headers(text: &str) {
    if let Ok(within) = call::parse_timeout(text) {
        // Eight digits of hours at most.
        assert!(within.as_secs() < 100_000_000 * 3600);
    }
    if let Some(rpc) = Rpc::of_path(text) {
        assert_eq!(rpc.path(), text);
    }
    if gateway::is_below_v3(text) {
        assert!(text.starts_with("/v3"));
    }
}
