//! The messages of a gRPC call, as its client sends them.
//!
//! Owns how messages are cut from what has come. Must not know which call it is, or what a message means.

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::conversation::{PREFIX_BYTES, Requests};
use crate::status::{Code, Status};

/// The messages of one call.
pub(super) struct GrpcRequests {
    body: Incoming,
    /// What has come and is not cut into messages yet.
    pending: BytesMut,
    message_bytes_max: usize,
}

impl GrpcRequests {
    pub(super) fn new(body: Incoming, message_bytes_max: usize) -> GrpcRequests {
        GrpcRequests { body, pending: BytesMut::new(), message_bytes_max }
    }
}

impl Requests for GrpcRequests {
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
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
