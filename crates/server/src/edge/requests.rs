//! The messages of a gRPC call, as its client sends them.
//!
//! Owns how messages are cut from what has come. Must not know which call it is, or what a message means.

use bytes::{Buf, Bytes, BytesMut};

use super::compression::{Encoding, Inflating};
use super::connection::Received;
use crate::conversation::{PREFIX_BYTES, Requests};
use crate::status::Status;

/// The messages of one call.
pub(super) struct GrpcRequests {
    received: Received,
    /// What has come and is not cut into messages yet.
    pending: BytesMut,
    /// A message that is being inflated.
    inflating: Option<Inflating>,
    encoding: Encoding,
    /// Of a message, compressed or not.
    message_bytes_max: usize,
}

impl GrpcRequests {
    pub(super) fn new(received: Received, encoding: Encoding, message_bytes_max: usize) -> GrpcRequests {
        GrpcRequests { received, pending: BytesMut::new(), inflating: None, encoding, message_bytes_max }
    }

    /// Inflates the message that is to be inflated. Others have their turn in between, those of other addresses more often: an address
    /// has one message inflated at a time, because a call beside many of them waits for a step of each.
    async fn inflate(&mut self) -> Result<Option<Bytes>, Status> {
        let share = self.received.share().clone();
        let _turn = share.begin_inflating().await;
        while let Some(inflating) = &mut self.inflating {
            let before = inflating.inflated_bytes();
            let stepped = inflating.step(self.message_bytes_max)?;
            self.received.has_become_longer(inflating.inflated_bytes() - before);
            if stepped.is_some() {
                self.inflating = None;
                return Ok(stepped);
            }
            tokio::task::yield_now().await;
        }
        Ok(None)
    }
}

impl Requests for GrpcRequests {
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        // Who asks for the next one is done with those before.
        self.received.done_but_for(self.pending.len());
        loop {
            // Boxed, because it is rare and each call's task has room for it otherwise.
            if self.inflating.is_some()
                && let Some(message) = Box::pin(self.inflate()).await?
            {
                return Ok(Some(message));
            }
            if let Some((flag, message)) = cut_message(&mut self.pending, self.message_bytes_max)? {
                self.received.is_within_message(false);
                if self.encoding.is_compressed(flag)? {
                    self.inflating = Some(Inflating::new(message));
                    continue;
                }
                return Ok(Some(message));
            }
            if !self.pending.is_empty() {
                self.received.is_within_message(true);
            }
            match self.received.more().await? {
                // The usual case: what has come is a message and no more.
                Some(data) if self.pending.is_empty() => self.pending = data,
                Some(data) => self.pending.extend_from_slice(&data),
                None if self.pending.is_empty() => return Ok(None),
                None => return Err(Status::CUT_SHORT),
            }
        }
    }
}

/// Takes one message from what has come, if it is all there, and its flag.
pub(super) fn cut_message(pending: &mut BytesMut, message_bytes_max: usize) -> Result<Option<(u8, Bytes)>, Status> {
    let Some((&[flag, a, b, c, d], _)) = pending.split_first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > message_bytes_max {
        return Err(Status::message_too_large(length, message_bytes_max));
    }
    if pending.len() - PREFIX_BYTES < length {
        // No room is made for what is only announced.
        return Ok(None);
    }
    pending.advance(PREFIX_BYTES);
    // The usual case: one message came, alone. It takes the buffer with it, which is as large as the message.
    let message = if pending.len() == length { std::mem::take(pending) } else { pending.split_to(length) };
    Ok(Some((flag, message.freeze())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Code;

    #[test]
    fn messages_are_cut_wherever_the_frames_end() {
        let wire = b"\0\0\0\0\x03abc\x01\0\0\0\0\0\0\0\0\x01z";
        for split in 0..=wire.len() {
            let mut pending = BytesMut::new();
            let mut messages = Vec::new();
            for part in [&wire[..split], &wire[split..]] {
                pending.extend_from_slice(part);
                while let Some(message) = cut_message(&mut pending, 3).unwrap() {
                    messages.push(message);
                }
            }
            assert_eq!(messages, [(0, "abc".into()), (1, "".into()), (0, "z".into())], "split at {split}");
        }
    }

    #[test]
    fn a_message_that_is_too_large_is_refused_by_its_prefix_alone() {
        let mut pending = BytesMut::from(&b"\0\xff\xff\xff\xff"[..]);
        assert_eq!(cut_message(&mut pending, 100).unwrap_err().code, Code::ResourceExhausted);
    }
}
