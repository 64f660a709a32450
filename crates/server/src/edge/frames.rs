//! What a client sends over HTTP/2, made acceptable to the HTTP/2 layer, which is stricter than etcd's.
//!
//! Owns the frames on their way from the socket to that layer: which of them it would punish a client for that means no
//! harm, how much work they are, and how many may come that ask for nothing (`calm.rs`). Nearly all pass untouched, where they
//! were read to. Must not know what a request asks, nor when a turn begins (`turns.rs`).

mod authority;
mod calm;
mod ending;
mod huffman;
mod written;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::{Connection, REQUEST_WORK};
use crate::telemetry::metrics::Offence;
use calm::{Calm, HEADER_BYTES_WORK};
use ending::Ending;
use written::Written;

/// A frame is a header of this length, and what the header announces (RFC 9113 §4.1).
const HEADER_BYTES: usize = 9;
/// Longer frames are refused by the HTTP/2 layer, which announces no other limit (RFC 9113 §4.2).
const PAYLOAD_BYTES_MAX: usize = 16_384;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY_FRAME: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 0x01;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;
/// Bytes that are read at a time while a frame is incomplete.
const READ_BYTES: usize = 4096;
/// So many bytes of a message are as much work as a frame: they are copied twice.
const DATA_BYTES_WORK: usize = 256;

/// A connection whose reads are frames as the HTTP/2 layer wants them. The preface passes as a frame that it is not: its
/// length is known.
pub(super) struct Frames<S> {
    stream: S,
    connection: Arc<Connection>,
    position: Position,
    written: Written,
    /// What is left of a connection that has to end.
    ending: Option<Ending>,
    /// What was read and is not passed on: the beginning of a frame that must be seen as a whole.
    held: BytesMut,
    /// What comes next, where it could not stay where it was read to.
    next: BytesMut,
}

impl<S> Frames<S> {
    /// Frames that come behind so many bytes of something else.
    pub(super) fn behind(preface_bytes: usize, stream: S, connection: Arc<Connection>) -> Frames<S> {
        Frames {
            stream,
            position: Position::behind(preface_bytes, connection.clone()),
            connection,
            written: Written::default(),
            ending: None,
            held: BytesMut::new(),
            next: BytesMut::new(),
        }
    }

    /// Begins to end the connection if something has come that is one too many.
    fn end_if_due(&mut self) -> bool {
        if let (None, Some(offence)) = (&self.ending, self.position.offence) {
            self.connection.stop(offence);
            self.ending = Some(Ending::new(offence, self.written.is_between_frames()));
        }
        self.ending.is_some()
    }
}

impl<S: AsyncRead + Unpin> Frames<S> {
    /// Reads in place. Returns whether that gave anything.
    fn poll_read_in_place(&mut self, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
        let read = &into.filled()[before..];
        if read.is_empty() {
            return Poll::Ready(Ok(true));
        }
        let passed = self.position.pass(read);
        self.held.extend_from_slice(&read[passed..]);
        into.set_filled(before + passed);
        Poll::Ready(Ok(passed > 0))
    }

    /// Reads more of what is held. Returns false at the end of the connection.
    fn poll_read_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut bytes = [0; READ_BYTES];
        let mut more = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut more))?;
        self.held.extend_from_slice(more.filled());
        Poll::Ready(Ok(!more.filled().is_empty()))
    }

    /// Passes on what can be, changed where it must be.
    fn take_frames(&mut self) {
        while !self.held.is_empty() && !self.connection.is_turn_over() {
            let passed = self.position.pass(&self.held);
            self.next.extend_from_slice(&self.held[..passed]);
            self.held.advance(passed);
            let Some(frame) = whole(&self.held).filter(|_| !self.connection.is_turn_over()) else { return };
            let length = frame.len();
            if let Some(header) = Header::of(frame)
                && !self.position.count(header)
            {
                return;
            }
            if let Some(changed) = changed(frame) {
                self.next.extend_from_slice(&changed);
            }
            self.held.advance(length);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Frames<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.end_if_due()
                && let Frames { ending: Some(ending), stream, .. } = &mut *self
            {
                return ending.poll(stream, context).map(Err);
            }
            if !self.next.is_empty() {
                let taken = self.next.len().min(into.remaining());
                into.put_slice(&self.next.split_to(taken));
                return Poll::Ready(Ok(()));
            }
            if self.connection.is_turn_over() {
                // `Turns::serve`, which began the turn, sees to the next one.
                return Poll::Pending;
            }
            self.take_frames();
            if !self.next.is_empty() || self.connection.is_turn_over() {
                continue;
            }
            if self.held.is_empty() {
                if ready!(self.poll_read_in_place(context, into))? {
                    return Poll::Ready(Ok(()));
                }
                // Nothing that was read passes; why is found out above.
            } else if !ready!(self.poll_read_more(context))? {
                // The connection ends within a frame; so does what is passed on.
                self.next = std::mem::take(&mut self.held);
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Frames<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.ending.is_some() {
            // Behind the last frame there is nothing.
            return Poll::Ready(Ok(bytes.len()));
        }
        let sent = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        let replies = self.written.sent(&bytes[..sent]);
        self.position.calm.replied(replies);
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// How far the frames have been passed on.
struct Position {
    /// Bytes of the current frame that pass without being looked at.
    rest: usize,
    connection: Arc<Connection>,
    calm: Calm,
    /// Why no further frame passes.
    offence: Option<Offence>,
}

impl Position {
    fn behind(preface_bytes: usize, connection: Arc<Connection>) -> Position {
        Position { rest: preface_bytes, connection, calm: Calm::new(Instant::now()), offence: None }
    }

    /// How many of these bytes pass as they are. What follows is to be seen as a whole frame, or must be changed, or is too much, or
    /// waits for the next turn.
    fn pass(&mut self, bytes: &[u8]) -> usize {
        let mut passed = 0;
        loop {
            let more = self.rest.min(bytes.len() - passed);
            passed += more;
            self.rest -= more;
            let coming = &bytes[passed..];
            let Some(header) = Header::of(coming).filter(|_| !self.connection.is_turn_over()) else { return passed };
            if header.kind == HEADERS && header.length <= PAYLOAD_BYTES_MAX {
                let Some(frame) = whole(coming) else { return passed };
                if header_block(frame).and_then(|block| authority::replacement(&frame[block])).is_some() {
                    return passed;
                }
            }
            if header.is_empty_data() || !self.count(header) {
                return passed;
            }
            self.rest = HEADER_BYTES + header.length;
        }
    }

    /// Counts a frame. Returns false if it is one too many.
    fn count(&mut self, header: Header) -> bool {
        // Longer ones are refused unread.
        let header = Header { length: header.length.min(PAYLOAD_BYTES_MAX), ..header };
        self.connection.works(match header.kind {
            DATA => 1 + header.length / DATA_BYTES_WORK,
            HEADERS => REQUEST_WORK + header.length / HEADER_BYTES_WORK,
            CONTINUATION => 1 + header.length / HEADER_BYTES_WORK,
            _ => 1,
        });
        let counted = self.calm.spend(header).and_then(|for_nothing| {
            if for_nothing > 0 {
                self.connection.works_for_nothing(for_nothing);
            }
            match header.kind {
                DATA => self.connection.arrived(header.length),
                SETTINGS => {
                    self.connection.settings_came();
                    Ok(())
                }
                _ => Ok(()),
            }
        });
        self.offence = self.offence.or(counted.err());
        self.offence.is_none()
    }
}

#[derive(Clone, Copy)]
struct Header {
    length: usize,
    kind: u8,
    flags: u8,
}

impl Header {
    fn of(bytes: &[u8]) -> Option<Header> {
        let [a, b, c, kind, flags, ..] = *bytes.first_chunk::<HEADER_BYTES>()?;
        Some(Header { length: u32::from_be_bytes([0, a, b, c]) as usize, kind, flags })
    }

    /// Whether it says nothing at all. The HTTP/2 layer ends a connection that has brought a hundred of them.
    fn is_empty_data(self) -> bool {
        self.kind == DATA && self.length == 0 && self.flags & END_STREAM == 0
    }
}

/// The frame that begins these bytes, if all of it is there.
fn whole(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(..HEADER_BYTES + Header::of(bytes)?.length)
}

/// Where the header block is in a frame of headers (RFC 9113 §6.2).
fn header_block(frame: &[u8]) -> Option<std::ops::Range<usize>> {
    let Header { flags, .. } = Header::of(frame)?;
    let (mut start, mut end) = (HEADER_BYTES, frame.len());
    if flags & PADDED != 0 {
        end = end.checked_sub(usize::from(*frame.get(start)?))?;
        start += 1;
    }
    if flags & PRIORITY != 0 {
        start += 5;
    }
    (start <= end).then_some(start..end)
}

/// The frame as the HTTP/2 layer is to see it, `None` if not at all. It loses its padding if it is changed.
fn changed(frame: &[u8]) -> Option<Vec<u8>> {
    let header = Header::of(frame)?;
    if header.is_empty_data() {
        return None;
    }
    let block = header_block(frame);
    let replacement = block.and_then(|block| Some((authority::replacement(&frame[block.clone()])?, block)));
    let Some((replacement, block)) = replacement else { return Some(frame.to_vec()) };
    let is_padded = header.flags & PADDED != 0;
    let priority = &frame[HEADER_BYTES + usize::from(is_padded)..block.start];
    let fields = &frame[block];
    let payload = [priority, &fields[..replacement.of.start], &replacement.by, &fields[replacement.of.end..]].concat();
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Some(frame.to_vec());
    }
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    let stream = &frame[5..HEADER_BYTES];
    Some([&[a, b, c, header.kind, header.flags & !PADDED], stream, &payload].concat())
}

/// Looks at a header block for an authority that must be replaced, for fuzzers: what it becomes needs no second look.
///
/// # Panics
/// If it does.
pub(super) fn look_at_block(block: &[u8]) {
    if let Some(replacement) = authority::replacement(block) {
        let mended = [&block[..replacement.of.start], &replacement.by, &block[replacement.of.end..]].concat();
        // What is taken away may leave another one behind it, as a client may send two; never one that was put there.
        assert!(
            replacement.by.is_empty() || authority::replacement(&mended).is_none_or(|again| again.by != replacement.by)
        );
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
        [&[a, b, c, kind, flags, 0, 0, 0, stream], payload].concat()
    }

    /// What the HTTP/2 layer reads of this if it comes in pieces of so many bytes, and has room for so many.
    async fn passed(sent: &[u8], at_a_time: usize, room: usize) -> Vec<u8> {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let sent = sent.to_vec();
        let sending = tokio::spawn(async move {
            for piece in sent.chunks(at_a_time) {
                client.write_all(piece).await.unwrap();
                if at_a_time < 1000 {
                    tokio::task::yield_now().await;
                }
            }
        });
        let mut frames = Frames::behind(PREFACE.len(), server, Connection::of_test());
        let mut received = Vec::new();
        let mut buffer = vec![0; room];
        loop {
            match frames.read(&mut buffer).await.unwrap() {
                0 => break,
                read => received.extend_from_slice(&buffer[..read]),
            }
        }
        sending.await.unwrap();
        received
    }

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const END_HEADERS: u8 = 4;
    const GOOD: &[u8] = b"\x83\x86\x84\x41\x03h:1\x5f\x10application/grpc";
    const BAD: &[u8] = b"\x83\x86\x84\x41\x08http://h\x5f\x10application/grpc";
    const MENDED: &[u8] = b"\x83\x86\x84\x41\x08--------\x5f\x10application/grpc";

    #[tokio::test]
    async fn frames_pass_and_bad_ones_are_mended_wherever_reads_end() {
        let priority: &[u8] = &[0, 0, 0, 0, 9];
        let sent = [
            PREFACE.to_vec(),
            frame(4, 0, 0, b""),
            frame(HEADERS, END_HEADERS, 1, GOOD),
            frame(DATA, 0, 1, b""),
            frame(DATA, 0, 1, &[7; 5000]),
            frame(DATA, END_STREAM, 1, b""),
            frame(HEADERS, END_HEADERS, 3, BAD),
            frame(HEADERS, END_HEADERS | PADDED | PRIORITY, 5, &[&[3], priority, BAD, &[0; 3]].concat()),
            frame(HEADERS, END_HEADERS | PADDED, 7, &[&[2], GOOD, &[0; 2]].concat()),
            // Padding that is longer than the frame is left to the HTTP/2 layer.
            frame(HEADERS, END_HEADERS | PADDED, 9, &[200, 1, 2]),
            // As is a frame that is too long.
            frame(HEADERS, END_HEADERS, 11, &[BAD, &[0x83; PAYLOAD_BYTES_MAX]].concat()),
            frame(DATA, 0, 3, b"x"),
            vec![0, 0, 99, HEADERS, 4, 0, 0, 0],
        ]
        .concat();
        let expected = [
            PREFACE.to_vec(),
            frame(4, 0, 0, b""),
            frame(HEADERS, END_HEADERS, 1, GOOD),
            frame(DATA, 0, 1, &[7; 5000]),
            frame(DATA, END_STREAM, 1, b""),
            frame(HEADERS, END_HEADERS, 3, MENDED),
            frame(HEADERS, END_HEADERS | PRIORITY, 5, &[priority, MENDED].concat()),
            frame(HEADERS, END_HEADERS | PADDED, 7, &[&[2], GOOD, &[0; 2]].concat()),
            frame(HEADERS, END_HEADERS | PADDED, 9, &[200, 1, 2]),
            frame(HEADERS, END_HEADERS, 11, &[BAD, &[0x83; PAYLOAD_BYTES_MAX]].concat()),
            frame(DATA, 0, 3, b"x"),
            vec![0, 0, 99, HEADERS, 4, 0, 0, 0],
        ]
        .concat();
        for (at_a_time, room) in [(1, 8192), (5, 3), (40, 8192), (997, 100), (1 << 20, 1), (1 << 20, 1 << 20)] {
            assert!(passed(&sent, at_a_time, room).await == expected, "{at_a_time} bytes at a time, room for {room}");
        }
    }

    #[tokio::test]
    async fn a_frame_that_would_become_too_long_is_left_as_it_is() {
        // Four slashes, and zeros: digits of five bits each, which take eight where they are put in again.
        let block = [&b"\x41\xff\xff\x7b\x61\x86\x18"[..], &[0; 15_995]].concat();
        let text = authority::replacement(&block).map(|replacement| replacement.by.len());
        assert!(text.is_some_and(|length| length > PAYLOAD_BYTES_MAX));
        let sent = [PREFACE, &frame(HEADERS, END_HEADERS, 1, &block)].concat();
        assert!(passed(&sent, 1 << 20, 1 << 20).await == sent);
    }

    #[tokio::test]
    async fn any_bytes_pass_the_same_however_they_come() {
        let good = [
            frame(HEADERS, END_HEADERS, 1, GOOD),
            frame(HEADERS, END_HEADERS | PADDED | PRIORITY, 3, &[&[3, 0, 0, 0, 0, 9], BAD, &[0; 3]].concat()),
            frame(DATA, 0, 1, b""),
            frame(HEADERS, END_HEADERS, 5, &[&b"\x83\x86\x84\x41\0"[..], b"\x5f\x10application/grpc"].concat()),
            frame(DATA, END_STREAM, 3, b"data"),
        ]
        .concat();
        let mut state = 3_u64;
        let mut number = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for _ in 0..2000 {
            let mut bytes = good.repeat(1 + number(3));
            for _ in 0..number(6) {
                let place = number(bytes.len());
                match number(3) {
                    0 => bytes[place] = number(256) as u8,
                    1 => drop(bytes.remove(place)),
                    _ => bytes.insert(place, number(256) as u8),
                }
            }
            let sent = [PREFACE, &bytes].concat();
            let whole = passed(&sent, 1 << 20, 1 << 20).await;
            let in_pieces = passed(&sent, 1 + number(50), 1 + number(50)).await;
            assert!(whole == in_pieces, "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn a_client_that_floods_is_told_why_and_nothing_more_passes() {
        let flood = frame(PING, 0, 0, &[7; 8]).repeat(10_000);
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let connection = Connection::of_test();
        let mut frames = Frames::behind(PREFACE.len(), server, connection.clone());
        client.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, b""), &flood].concat()).await.unwrap();
        // Half a frame of the server's own, and its end.
        frames.write_all(b"\0\0\x02\0\0\0\0\0\x01a").await.unwrap();
        frames.write_all(b"b").await.unwrap();
        let mut passed = Vec::new();
        client.shutdown().await.unwrap();
        let error = frames.read_to_end(&mut passed).await.unwrap_err();
        assert_eq!(error.to_string(), "too_many_pings");
        assert_eq!(connection.offence(), Some(Offence::Pings));
        assert!(connection.has_settings() && passed.len() < flood.len() / 2);
        drop(frames);
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        assert!(heard.ends_with(b"\0\0\0\x0btoo_many_pings") && heard[11..].starts_with(b"\0\0\x16\x07"));
    }
}
