//! Where the server's own frames begin and end on their way out.
//!
//! Owns the position within what is sent: a frame of one's own may be put only between two others. Must not know what the
//! frames say, beside their kind.

use super::{DATA, HEADER_BYTES, HEADERS};

/// How far the frames have been sent.
#[derive(Default)]
pub(super) struct Written {
    /// Bytes of the current frame's payload that are not sent yet.
    rest: usize,
    /// The beginning of a header whose end is not sent yet.
    header: [u8; HEADER_BYTES],
    header_bytes: usize,
}

impl Written {
    /// These bytes were sent. Returns in how many frames of replies that begin in them.
    pub(super) fn sent(&mut self, mut bytes: &[u8]) -> usize {
        let mut replies = 0;
        loop {
            let of_payload = self.rest.min(bytes.len());
            self.rest -= of_payload;
            bytes = &bytes[of_payload..];
            if bytes.is_empty() {
                return replies;
            }
            let of_header = (HEADER_BYTES - self.header_bytes).min(bytes.len());
            self.header[self.header_bytes..self.header_bytes + of_header].copy_from_slice(&bytes[..of_header]);
            self.header_bytes += of_header;
            bytes = &bytes[of_header..];
            if self.header_bytes == HEADER_BYTES {
                let [a, b, c, kind, ..] = self.header;
                self.rest = u32::from_be_bytes([0, a, b, c]) as usize;
                self.header_bytes = 0;
                replies += usize::from(matches!(kind, DATA | HEADERS));
            }
        }
    }

    /// Whether all that has begun has ended.
    pub(super) fn is_between_frames(&self) -> bool {
        self.rest == 0 && self.header_bytes == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_told_apart_however_they_are_sent() {
        let sent = [
            &b"\0\0\x02\x04\0\0\0\0\0ab"[..],
            b"\0\0\x03\0\0\0\0\0\x01abc",
            b"\0\0\0\x01\x04\0\0\0\x01",
            b"\0\0\x08\x06\x01\0\0\0\0pingpong",
        ]
        .concat();
        let ends = [11, 23, 32, 49];
        for at_a_time in 1..=sent.len() {
            let mut written = Written::default();
            let (mut passed, mut replies) = (0, 0);
            for piece in sent.chunks(at_a_time) {
                replies += written.sent(piece);
                passed += piece.len();
                assert_eq!(written.is_between_frames(), ends.contains(&passed), "{passed} by {at_a_time}");
            }
            assert_eq!(replies, 2);
        }
    }
}
