//! gRPC's framing of messages: one byte that says "not compressed", four bytes of length, the message.
//!
//! Must not know what a message means or where its bytes come from.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

/// Bytes in front of each message.
const PREFIX_BYTES: usize = 5;
/// A longer message is taken for a broken peer.
const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// Encodes one message with its prefix. `buffer` keeps its allocation once what it gave out is dropped, so that a
/// caller with one call in flight allocates nothing.
pub fn encode(message: &impl Message, buffer: &mut BytesMut) -> Bytes {
    let length = message.encoded_len();
    buffer.reserve(PREFIX_BYTES + length);
    buffer.put_u8(0);
    // A message of 4 GiB cannot be built from a command line or by the load generator.
    buffer.put_u32(u32::try_from(length).expect("a request is shorter than 4 GiB"));
    message.encode_raw(buffer);
    buffer.split().freeze()
}

/// Why what arrives is no message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BadFrame {
    Compressed,
    TooLong,
}

impl fmt::Display for BadFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Compressed => "the server sent a compressed message",
            Self::TooLong => "the server sent a message that is too long",
        })
    }
}

impl std::error::Error for BadFrame {}

/// Cuts what arrives into messages. A message that lies in one chunk is handed out without a copy.
#[derive(Default)]
pub struct Frames {
    /// What is left of a chunk; empty when `joined` is not.
    chunk: Bytes,
    /// A message in pieces.
    joined: BytesMut,
}

impl Frames {
    /// Takes what arrived.
    pub fn push(&mut self, arrived: Bytes) {
        if self.joined.is_empty() && self.chunk.is_empty() {
            self.chunk = arrived;
        } else {
            self.joined.extend_from_slice(&self.chunk);
            self.chunk = Bytes::new();
            self.joined.extend_from_slice(&arrived);
        }
    }

    /// The next whole message, if there is one.
    ///
    /// # Errors
    /// When the bytes are no gRPC frame, or one that is compressed or too long.
    pub fn pop(&mut self) -> Result<Option<Bytes>, BadFrame> {
        let held: &[u8] = if self.joined.is_empty() { &self.chunk } else { &self.joined };
        let Some(prefix) = held.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        if prefix[0] != 0 {
            return Err(BadFrame::Compressed);
        }
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if length > MESSAGE_BYTES_MAX {
            return Err(BadFrame::TooLong);
        }
        let whole = PREFIX_BYTES + length;
        if held.len() < whole {
            return Ok(None);
        }
        let mut frame =
            if self.joined.is_empty() { self.chunk.split_to(whole) } else { self.joined.split_to(whole).freeze() };
        frame.advance(PREFIX_BYTES);
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut frame = vec![0];
        frame.extend((body.len() as u32).to_be_bytes());
        frame.extend(body);
        frame
    }

    #[test]
    fn messages_are_found_whatever_the_chunks() {
        let bodies: [&[u8]; 4] = [b"one", b"", b"three three three", b"4"];
        let stream: Vec<u8> = bodies.iter().flat_map(|body| frame(body)).collect();
        for chunk_bytes in 1..=stream.len() {
            let mut frames = Frames::default();
            let mut found = Vec::new();
            for chunk in stream.chunks(chunk_bytes) {
                frames.push(Bytes::copy_from_slice(chunk));
                while let Some(body) = frames.pop().unwrap() {
                    found.push(body);
                }
            }
            assert_eq!(found, bodies, "chunks of {chunk_bytes}");
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let mut frames = Frames::default();
        frames.push(Bytes::from_static(&[1, 0, 0, 0, 0]));
        assert!(frames.pop().is_err());
        let mut frames = Frames::default();
        frames.push(Bytes::from_static(&[0, 255, 0, 0, 0]));
        assert!(frames.pop().is_err());
    }
}
