//! The receiving end of a connection: bytes in, frames out.
//!
//! Owns the read buffer. Must not trust a length before the bytes are there.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::yield_now;

use super::inbox::Intake;
use super::local::Local;
use super::peer::Peer;
use super::stats::add;
use super::transport::ByteStream;
use super::transport::memory::Shortcut;
use super::wire::{ECHO, ECHO_SINCE, LENGTH_BYTES};
use vlot_node::Lane;

/// What a read asks for at least. A buffer of this size is filled by many small reads in turn.
const CHUNK_BYTES: usize = 64 << 10;
/// With less room than this a new buffer is begun.
const ROOM_BYTES_MIN: usize = 16 << 10;

/// Reads what a peer sends on one connection, until it ends or is replaced.
pub(crate) async fn read_from(
    local: Arc<Local>,
    peer: Arc<Peer>,
    (lane, version): (Lane, u16),
    number: u64,
    (stream, shortcut): (impl ByteStream, Option<Shortcut>),
    remote: String,
) {
    let _link = InboundLink { peer: &peer, lane, number };
    if let Err(TooLong { bytes }) = read_frames(&local, &peer, (lane, version), stream, shortcut).await {
        add(&peer.counters.bad_frames, 1);
        local.note_oversized(peer.id, &remote, bytes);
    }
}

/// Reports the end of the connection, however it comes.
struct InboundLink<'a> {
    peer: &'a Peer,
    lane: Lane,
    number: u64,
}

impl Drop for InboundLink<'_> {
    fn drop(&mut self) {
        self.peer.inbound_down(self.lane, self.number);
    }
}

async fn read_frames(
    local: &Arc<Local>,
    peer: &Arc<Peer>,
    (lane, version): (Lane, u16),
    mut stream: impl ByteStream,
    shortcut: Option<Shortcut>,
) -> Result<(), TooLong> {
    let limits = local.limits.of(lane);
    let intake = Intake::new(limits.inbox_bytes_max);
    let mut decoder = Decoder { knows_echo: version >= ECHO_SINCE, ..Decoder::new(limits.frame_bytes_max) };
    if let Some(shortcut) = shortcut {
        let (local, peer, intake) = (Arc::clone(local), Arc::clone(peer), Arc::clone(&intake));
        shortcut.open(move |frame| take_by_shortcut(&local, &peer, lane, &intake, frame));
    }
    loop {
        // While the consumer is behind, bytes stay in the kernel and the peer's writes come to a halt.
        intake.wait_for_room().await;
        let Ok(read @ 1..) = stream.read_buf(decoder.room()).await else {
            return Ok(());
        };
        let mut frames = Vec::new();
        let intact = decoder.decode(&mut frames);
        add(&local.counters.reads, 1);
        count(local, peer, frames.len(), read);
        if !frames.is_empty() {
            peer.heard();
            local.mailbox.deliver(peer.id, lane, frames, &intake);
        }
        intact?;
        // After the frames: none of them is to wait for a peer that does not take its echoes.
        let echoes = vec![0; std::mem::take(&mut decoder.echoes)];
        if !echoes.is_empty() && say(&mut stream, &echoes).await.is_err() {
            return Ok(());
        }
        if lane == Lane::Snapshot {
            // There may be as much again to read at once, and the other lanes come first.
            yield_now().await;
        }
    }
}

fn count(local: &Local, peer: &Peer, frames: usize, bytes: usize) {
    add(&local.counters.received_bytes, bytes as u64);
    add(&peer.counters.received_bytes, bytes as u64);
    add(&local.counters.received_frames, frames as u64);
}

/// Passes on a frame in the reader's place, unless the reader would wait, or end the connection over it.
fn take_by_shortcut(local: &Local, peer: &Peer, lane: Lane, intake: &Arc<Intake>, frame: &Bytes) -> bool {
    let is_taken = intake.has_room() && frame.len() <= local.limits.of(lane).frame_bytes_max;
    if is_taken {
        count(local, peer, 1, LENGTH_BYTES + frame.len());
        peer.heard();
        local.mailbox.deliver_one(peer.id, lane, frame.clone(), intake);
    }
    is_taken
}

async fn say(stream: &mut impl ByteStream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// A frame's announced length is beyond the bound.
#[derive(Debug, Eq, PartialEq)]
struct TooLong {
    bytes: usize,
}

/// Cuts a stream of bytes into frames.
#[derive(Debug)]
struct Decoder {
    buffer: BytesMut,
    frame_bytes_max: usize,
    knows_echo: bool,
    /// Echoes that were asked for, as many as fit into a read at most.
    echoes: usize,
}

impl Decoder {
    fn new(frame_bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), frame_bytes_max, knows_echo: false, echoes: 0 }
    }

    /// The buffer, with room for the next read. It is never made larger than a few times what has arrived, whatever
    /// length was announced.
    fn room(&mut self) -> &mut BytesMut {
        let arrived = self.buffer.len();
        let missing = self.announced().map(|length| LENGTH_BYTES.saturating_add(length).saturating_sub(arrived));
        let spare = self.buffer.capacity() - arrived;
        if spare < missing.unwrap_or(ROOM_BYTES_MIN).min(ROOM_BYTES_MIN) {
            // As much again as has arrived, so that a long frame is moved a few times and not with every read.
            self.buffer.reserve(missing.unwrap_or(0).min(arrived).max(CHUNK_BYTES));
        }
        &mut self.buffer
    }

    /// Takes every whole frame out of the buffer, as slices of it.
    fn decode(&mut self, frames: &mut Vec<Bytes>) -> Result<(), TooLong> {
        while let Some(length) = self.announced() {
            if self.knows_echo && length == ECHO as usize {
                self.buffer.advance(LENGTH_BYTES);
                self.echoes += 1;
                continue;
            }
            if length > self.frame_bytes_max {
                return Err(TooLong { bytes: length });
            }
            if self.buffer.len() - LENGTH_BYTES < length {
                break;
            }
            self.buffer.advance(LENGTH_BYTES);
            frames.push(self.buffer.split_to(length).freeze());
        }
        Ok(())
    }

    /// The length of the frame that the buffer begins with.
    fn announced(&self) -> Option<usize> {
        let length = self.buffer.first_chunk::<LENGTH_BYTES>()?;
        Some(u32::from_be_bytes(*length) as usize)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;

    use super::*;

    fn decode_in_portions(stream: &[u8], portion: usize) -> Vec<Bytes> {
        let mut decoder = Decoder::new(1 << 20);
        let mut frames = Vec::new();
        for bytes in stream.chunks(portion) {
            decoder.room().put_slice(bytes);
            decoder.decode(&mut frames).unwrap();
        }
        frames
    }

    #[test]
    fn frames_do_not_depend_on_how_the_stream_is_cut() {
        let bodies = [&b""[..], b"a", &[7; 300], b"", &[9; 5000], b"end"];
        let mut stream = Vec::new();
        for body in bodies {
            stream.put_u32(body.len() as u32);
            stream.put_slice(body);
        }
        for portion in [1, 2, 3, 5, 303, 4096, stream.len()] {
            assert_eq!(decode_in_portions(&stream, portion), bodies, "in portions of {portion}");
        }
    }

    #[test]
    fn a_length_beyond_the_bound_ends_it_but_not_what_came_before() {
        let mut decoder = Decoder::new(10);
        decoder.room().put_slice(b"\0\0\0\x0a0123456789\0\0\0\x0b");
        let mut frames = Vec::new();
        assert_eq!(decoder.decode(&mut frames), Err(TooLong { bytes: 11 }));
        assert_eq!(frames, [&b"0123456789"[..]]);
    }

    #[test]
    fn an_echo_is_asked_for_between_frames_and_is_none() {
        let mut decoder = Decoder { knows_echo: true, ..Decoder::new(10) };
        let mut frames = Vec::new();
        for byte in *b"\xff\xff\xff\xff\0\0\0\x01a\xff\xff\xff\xff\0\0\0\0" {
            decoder.room().put_u8(byte);
            decoder.decode(&mut frames).unwrap();
        }
        assert_eq!((frames, decoder.echoes), (vec![Bytes::from_static(b"a"), Bytes::new()], 2));
    }

    #[test]
    fn an_announced_length_is_not_allocated_on_its_word() {
        let mut decoder = Decoder::new(usize::MAX);
        decoder.room().put_u32(u32::MAX);
        decoder.decode(&mut Vec::new()).unwrap();
        for _ in 0..100 {
            let arrived = decoder.buffer.len();
            let room = decoder.room();
            assert!(room.capacity() <= 4 * arrived + 2 * CHUNK_BYTES, "{} for {arrived}", room.capacity());
            room.put_slice(&[0; 10_000]);
            decoder.decode(&mut Vec::new()).unwrap();
        }
    }
}
