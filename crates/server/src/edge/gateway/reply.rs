//! The bodies of a gateway's replies, made as the client takes them: the JSON of a long message, or a line for each message
//! of a stream.

use std::fmt;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use vlot_proto::descriptors::Message;

use super::failure::push_stream_error;
use crate::conversation::{PREFIX_BYTES, Waiting};
use crate::json::{self, Encoder, NotTheMessage};
use crate::status::{Code, Status};
use crate::telemetry::metrics::Tally;

/// How much of a message is turned into JSON at a time.
const SLICE_BYTES: usize = 64 * 1024;

/// A body that is made piece by piece.
pub(in crate::edge) enum JsonBody {
    /// A message that is there.
    Whole {
        rest: Bytes,
        encoder: Encoder,
    },
    /// A message that comes in slices.
    Slices {
        slices: Waiting,
        encoder: Encoder,
    },
    /// Messages, each of this type. The first piece is made already: the status line depends on it.
    Lines {
        first: Bytes,
        following: Waiting,
        message: &'static Message,
        tally: Tally,
    },
    Ended,
}

impl JsonBody {
    pub(super) fn whole(message: &'static Message, bytes: Bytes) -> JsonBody {
        JsonBody::Whole { encoder: Encoder::new(message, bytes.len()), rest: bytes }
    }

    pub(super) fn slices(message: &'static Message, length: usize, slices: Waiting) -> JsonBody {
        JsonBody::Slices { slices, encoder: Encoder::new(message, length) }
    }

    pub(super) fn lines(first: Bytes, following: Waiting, message: &'static Message, tally: Tally) -> JsonBody {
        JsonBody::Lines { first, following, message, tally }
    }

    /// The next piece; `None` at the end.
    pub(in crate::edge) fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Incomplete>>> {
        let piece = match self {
            JsonBody::Whole { rest, encoder } if rest.is_empty() => return Poll::Ready(finish(encoder)),
            JsonBody::Whole { rest, encoder } => slice_of(encoder, &rest.split_to(rest.len().min(SLICE_BYTES))),
            JsonBody::Slices { slices, encoder } => match ready!(slices.poll_recv(context)) {
                Some(Ok(slice)) => slice_of(encoder, &slice.into_bytes()),
                Some(Err(status)) if status.code == Code::Ok => return Poll::Ready(finish(encoder)),
                Some(Err(_)) | None => Err(Incomplete),
            },
            JsonBody::Lines { first, .. } if !first.is_empty() => Ok(std::mem::take(first)),
            JsonBody::Lines { following, message, tally, .. } => match ready!(following.poll_recv(context)) {
                Some(Ok(batch)) => lines(message, tally, &batch.into_bytes()).map_err(|_| Incomplete),
                Some(Err(status)) => {
                    let line = last_line(&status);
                    *self = JsonBody::Ended;
                    return Poll::Ready(line.map(Ok));
                }
                None => Err(Incomplete),
            },
            JsonBody::Ended => return Poll::Ready(None),
        };
        if piece.is_err() {
            *self = JsonBody::Ended;
        }
        Poll::Ready(Some(piece))
    }
}

fn slice_of(encoder: &mut Encoder, slice: &[u8]) -> Result<Bytes, Incomplete> {
    let mut out = Vec::with_capacity(2 * slice.len());
    encoder.push(slice, &mut out).map_err(|_| Incomplete)?;
    Ok(out.into())
}

fn finish(encoder: &Encoder) -> Option<Result<Bytes, Incomplete>> {
    if encoder.is_complete() { None } else { Some(Err(Incomplete)) }
}

/// A line for each message of a batch, which counts as sent.
pub(super) fn lines(message: &'static Message, tally: &Tally, batch: &[u8]) -> Result<Bytes, NotTheMessage> {
    tally.sent(batch);
    let mut batch = batch;
    let mut out = Vec::with_capacity(2 * batch.len());
    while let Some((&[_, a, b, c, d], rest)) = batch.split_first_chunk::<PREFIX_BYTES>() {
        // A batch has whole messages only.
        let (bytes, rest) = rest.split_at(u32::from_be_bytes([a, b, c, d]) as usize);
        out.extend_from_slice(b"{\"result\":");
        out.extend(json::encode(message, bytes)?);
        out.extend_from_slice(b"}\n");
        batch = rest;
    }
    Ok(out.into())
}

/// What ends a stream: nothing if it went well.
pub(super) fn last_line(status: &Status) -> Option<Bytes> {
    if status.code == Code::Ok {
        return None;
    }
    let mut out = Vec::new();
    push_stream_error(&mut out, status);
    Some(out.into())
}

/// A reply that cannot be completed: its connection is cut off, so that the client does not take it for complete.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incomplete;

impl fmt::Display for Incomplete {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the reply cannot be completed")
    }
}

impl std::error::Error for Incomplete {}
