//! Frames as they stand on the wire (RFC 9113 §4, §6): their header, and how those of the server are written.
//!
//! Must not know what a frame does to a stream or a connection.

use std::ops::Range;

use crate::error::{ConnectionError, ErrorCode, frame_size, protocol};

/// Length of what precedes each payload.
pub(crate) const HEADER_BYTES: usize = 9;
/// The longest payload; no other limit is announced (RFC 9113 §4.2).
pub(crate) const PAYLOAD_BYTES_MAX: usize = 16_384;

pub(crate) const DATA: u8 = 0x0;
pub(crate) const HEADERS: u8 = 0x1;
pub(crate) const PRIORITY: u8 = 0x2;
pub(crate) const RST_STREAM: u8 = 0x3;
pub(crate) const SETTINGS: u8 = 0x4;
pub(crate) const PUSH_PROMISE: u8 = 0x5;
pub(crate) const PING: u8 = 0x6;
pub(crate) const GOAWAY: u8 = 0x7;
pub(crate) const WINDOW_UPDATE: u8 = 0x8;
pub(crate) const CONTINUATION: u8 = 0x9;

pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
pub(crate) const PADDED: u8 = 0x8;
pub(crate) const WITH_PRIORITY: u8 = 0x20;

/// Identifiers of streams, and increments of windows, have 31 bits.
pub(crate) const BITS_31: u32 = 0x7fff_ffff;

/// What precedes a payload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct FrameHeader {
    pub(crate) length: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl FrameHeader {
    pub(crate) fn read(&[a, b, c, kind, flags, d, e, f, g]: &[u8; HEADER_BYTES]) -> FrameHeader {
        FrameHeader {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([d, e, f, g]) & BITS_31,
        }
    }

    pub(crate) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Where in the payload the content is, without its padding.
    pub(crate) fn content(self, payload: &[u8]) -> Result<Range<usize>, ConnectionError> {
        if !self.has(PADDED) {
            return Ok(0..payload.len());
        }
        let padding = usize::from(*payload.first().ok_or(frame_size("a padded frame has no length of padding"))?);
        match payload.len().checked_sub(1 + padding) {
            Some(length) => Ok(1..1 + length),
            None => Err(protocol("padding is longer than its frame")),
        }
    }

    /// Whether it says nothing at all.
    pub(crate) fn is_empty_data(self) -> bool {
        self.kind == DATA && self.length == 0 && !self.has(END_STREAM)
    }
}

/// A frame's header. No frame of the server is longer than [`PAYLOAD_BYTES_MAX`].
pub(crate) fn header(length: usize, kind: u8, flags: u8, stream: u32) -> [u8; HEADER_BYTES] {
    let [_, a, b, c] = (length as u32).to_be_bytes();
    let [d, e, f, g] = stream.to_be_bytes();
    [a, b, c, kind, flags, d, e, f, g]
}

/// Appends a frame's header.
pub(crate) fn put_header(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    out.extend_from_slice(&header(length, kind, flags, stream));
}

/// Appends a frame.
pub(crate) fn put(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    put_header(out, payload.len(), kind, flags, stream);
    out.extend_from_slice(payload);
}

pub(crate) fn put_reset(out: &mut Vec<u8>, stream: u32, code: ErrorCode) {
    put(out, RST_STREAM, 0, stream, &(code as u32).to_be_bytes());
}

pub(crate) fn put_window_update(out: &mut Vec<u8>, stream: u32, increment: u32) {
    put(out, WINDOW_UPDATE, 0, stream, &increment.to_be_bytes());
}

pub(crate) fn put_goaway(out: &mut Vec<u8>, last_stream: u32, code: ErrorCode, text: &str) {
    put_header(out, 8 + text.len(), GOAWAY, 0, 0);
    out.extend_from_slice(&last_stream.to_be_bytes());
    out.extend_from_slice(&(code as u32).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// The 31 bits of a number of four bytes, if it is one.
pub(crate) fn number(payload: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(payload.try_into().ok()?) & BITS_31)
}
