//! The two directions of a streaming call: the client's messages one by one, and the way back.
//!
//! Owns how messages are cut from what has come. Must not know which call it is, or what a message means.

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::mpsc;

use super::body::{Batch, PREFIX_BYTES};
use crate::status::{Code, Status};

/// The way back to a streaming client.
pub(crate) struct Replies(pub(super) mpsc::Sender<Result<Bytes, Status>>);

impl Replies {
    /// Sends some messages, waiting until there is room for them. `Err` means that the client is gone.
    pub(crate) async fn send(&self, batch: Batch) -> Result<(), Status> {
        self.0.send(Ok(batch.freeze())).await.map_err(|_| Status::CANCELED)
    }

    /// Returns when the client is gone.
    pub(crate) async fn closed(&self) {
        self.0.closed().await;
    }
}

/// The way back for the slices of one long message.
pub(crate) struct Slices(pub(super) mpsc::Sender<Result<Bytes, Status>>);

impl Slices {
    /// Waits until the client has taken what it was given. `None` if it is gone.
    pub(crate) async fn room(&self) -> Option<Room<'_>> {
        self.0.reserve().await.ok().map(Room)
    }
}

/// Room for one slice, or for the end.
pub(crate) struct Room<'s>(mpsc::Permit<'s, Result<Bytes, Status>>);

impl Room<'_> {
    /// Gives the next slice.
    pub(crate) fn fill(self, slice: Bytes) {
        self.0.send(Ok(slice));
    }

    /// Ends the call: well if all of the message was given.
    pub(crate) fn end(self, status: Status) {
        self.0.send(Err(status));
    }
}

/// The messages a client sends, one by one.
pub(crate) struct Requests {
    body: Incoming,
    /// What has come and is not cut into messages yet.
    pending: BytesMut,
    message_bytes_max: usize,
}

impl Requests {
    pub(super) fn new(body: Incoming, message_bytes_max: usize) -> Requests {
        Requests { body, pending: BytesMut::new(), message_bytes_max }
    }

    /// The next message; `None` when the client has sent its last. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = cut_message(&mut self.pending, self.message_bytes_max)? {
                return Ok(Some(message));
            }
            match self.body.frame().await {
                // Copied, because a message may live long and must not hold the connection's read buffer.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.pending.extend_from_slice(&data),
                    Err(_trailers) => {}
                },
                Some(Err(_)) => return Err(Status::CANCELED),
                None if self.pending.is_empty() => return Ok(None),
                None => return Err(Status::new(Code::Internal, "grpc: the last message is incomplete")),
            }
        }
    }
}

/// Takes one message from what has come, if it is all there.
fn cut_message(pending: &mut BytesMut, message_bytes_max: usize) -> Result<Option<Bytes>, Status> {
    let Some((&[compressed, a, b, c, d], _)) = pending.split_first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if compressed != 0 {
        return Err(Status::COMPRESSED);
    }
    if length > message_bytes_max {
        return Err(Status::message_too_large(length, message_bytes_max));
    }
    if pending.len() - PREFIX_BYTES < length {
        // No room is made for what is only announced.
        return Ok(None);
    }
    pending.advance(PREFIX_BYTES);
    // The usual case: one message came, alone. It takes the buffer with it, which is as large as the message.
    Ok(Some(pending.split_to(length).freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_wherever_the_frames_end() {
        let wire = b"\0\0\0\0\x03abc\0\0\0\0\0\0\0\0\0\x01z";
        for split in 0..=wire.len() {
            let mut pending = BytesMut::new();
            let mut messages = Vec::new();
            for part in [&wire[..split], &wire[split..]] {
                pending.extend_from_slice(part);
                while let Some(message) = cut_message(&mut pending, 3).unwrap() {
                    messages.push(message);
                }
            }
            assert_eq!(messages, ["abc", "", "z"], "split at {split}");
        }
    }

    #[test]
    fn a_message_that_is_too_large_is_refused_by_its_prefix_alone() {
        let mut pending = BytesMut::from(&b"\0\xff\xff\xff\xff"[..]);
        assert_eq!(cut_message(&mut pending, 100).unwrap_err().code, Code::ResourceExhausted);
        let mut compressed = BytesMut::from(&b"\x01\0\0\0\0"[..]);
        assert_eq!(cut_message(&mut compressed, 100), Err(Status::COMPRESSED));
    }
}
