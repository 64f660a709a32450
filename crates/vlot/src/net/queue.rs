//! The frames that wait to be sent to one peer on one lane.
//!
//! Owns the bound and the coalescing: frames are laid out as they will travel when they are queued, short pieces copied
//! together and long ones linked, so that whatever has piled up leaves in few system calls. Where there is a shortcut, a frame
//! that has none before it takes that. Must not know of sockets.

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::sync::Notify;

use super::options::LaneLimits;
use super::transport::memory::Shortcut;
use super::wire::{ECHO, LENGTH_BYTES};

/// Pieces shorter than this are copied: that is cheaper than one more slice in a vectored write.
const COPY_BELOW: usize = 4 << 10;
/// How much is copied together before a new block is begun.
const BLOCK_BYTES: usize = 64 << 10;

/// Why `send` did not take a frame. The frame is gone; Raft sends again what matters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refused {
    /// The node is neither a peer nor an unlisted peer.
    Unknown,
    /// There is no connection to the peer on this lane.
    Unconnected,
    /// Too much waits already.
    QueueFull,
    /// The frame is longer than this lane carries, and the peer would hang up over it.
    TooLong {
        /// The frame's length.
        bytes: usize,
        /// The longest that is carried.
        bytes_max: usize,
    },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("not a peer"),
            Self::Unconnected => f.write_str("not connected"),
            Self::QueueFull => f.write_str("the send queue is full"),
            Self::TooLong { bytes, bytes_max } => write!(f, "a frame of {bytes} bytes, beyond {bytes_max}"),
        }
    }
}

impl std::error::Error for Refused {}

/// A bounded queue between `send` and the writer of one connection. Open while there is a connection, or while one is
/// made as soon as there is something to send.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    filled: Notify,
    /// Signalled when there may be more room than there was, or none ever.
    drained: Notify,
    bytes_max: usize,
    frame_bytes_max: usize,
}

#[derive(Debug, Default)]
struct State {
    open: bool,
    /// Frames queued and not taken by the writer.
    frames: u64,
    /// Bytes queued or taken, and not reported as written.
    bytes: usize,
    /// What travels first.
    sealed: VecDeque<Bytes>,
    /// What short pieces are copied to; travels after everything in `sealed`.
    block: BytesMut,
    /// The way past the writer.
    shortcut: Option<Shortcut>,
}

/// What has become of a frame that was taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pushed {
    /// It waits for the writer.
    Queued,
    /// It has gone by the shortcut. So many bytes it would have been on a connection.
    HandedOver { bytes: usize },
}

impl Queue {
    pub fn new(limits: &LaneLimits) -> Self {
        Self {
            state: Mutex::default(),
            filled: Notify::new(),
            drained: Notify::new(),
            bytes_max: limits.queue_bytes_max,
            // The greatest length has another meaning.
            frame_bytes_max: limits.frame_bytes_max.min(ECHO as usize - 1),
        }
    }

    /// Queues one frame that is made of these pieces. Never waits.
    pub fn push(&self, pieces: &[Bytes]) -> Result<Pushed, Refused> {
        let frame_bytes = pieces.iter().map(Bytes::len).sum::<usize>();
        let mut state = self.state();
        let length = self.check(&state, frame_bytes)?;
        // Under the lock, so that no frame that comes later is there first.
        if let ([frame], Some(shortcut)) = (pieces, &state.shortcut)
            && state.bytes == 0
            && shortcut.hand_over(frame)
        {
            return Ok(Pushed::HandedOver { bytes: LENGTH_BYTES + frame_bytes });
        }
        state.bytes += LENGTH_BYTES + frame_bytes;
        state.frames += 1;
        state.append_copied(&length.to_be_bytes());
        for piece in pieces {
            state.append(piece);
        }
        // The writer takes all there is: it needs to be woken for the first frame only.
        let first = state.frames == 1;
        drop(state);
        if first {
            self.filled.notify_one();
        }
        Ok(Pushed::Queued)
    }

    /// Waits until a frame of that length would be queued, or would be refused for another reason than that.
    pub async fn ready(&self, frame_bytes: usize) -> Result<(), Refused> {
        loop {
            // Made before the look: what changes after it is not missed.
            let drained = self.drained.notified();
            let verdict = self.check(&self.state(), frame_bytes);
            match verdict {
                Err(Refused::QueueFull) => drained.await,
                verdict => return verdict.map(drop),
            }
        }
    }

    /// Whether a frame of that length may be queued, and its length as it is told to the peer.
    fn check(&self, state: &State, frame_bytes: usize) -> Result<u32, Refused> {
        let Some(length) = u32::try_from(frame_bytes).ok().filter(|_| frame_bytes <= self.frame_bytes_max) else {
            return Err(Refused::TooLong { bytes: frame_bytes, bytes_max: self.frame_bytes_max });
        };
        if !state.open {
            return Err(Refused::Unconnected);
        }
        // An empty queue takes any frame: one that is longer than the bound would otherwise never be sent.
        if state.bytes > 0 && state.bytes + LENGTH_BYTES + frame_bytes > self.bytes_max {
            return Err(Refused::QueueFull);
        }
        Ok(length)
    }

    /// Whether there is nothing for a writer to take.
    pub fn is_empty(&self) -> bool {
        self.state().frames == 0
    }

    /// Waits until something may be queued.
    pub async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Moves everything that is queued to the batch, which has been written. False if there was nothing.
    pub fn take(&self, batch: &mut Batch) -> bool {
        let mut state = self.state();
        batch.frames = std::mem::take(&mut state.frames);
        std::mem::swap(&mut state.sealed, &mut batch.pieces);
        let block = state.block.split();
        if !block.is_empty() {
            batch.pieces.push_back(block.freeze());
        }
        batch.frames > 0
    }

    /// Bytes that the system has not taken.
    pub fn bytes(&self) -> usize {
        self.state().bytes
    }

    /// Makes room for as much as was written.
    pub fn written(&self, bytes: usize) {
        let mut state = self.state();
        state.bytes = state.bytes.saturating_sub(bytes);
        drop(state);
        self.drained.notify_waiters();
    }

    /// There is a connection: frames are accepted.
    pub fn open(&self) {
        self.state().open = true;
    }

    /// The connection that stands has a shortcut.
    pub fn shorten(&self, shortcut: Shortcut) {
        let mut state = self.state();
        if state.open {
            state.shortcut = Some(shortcut);
        }
    }

    /// The connection is gone: frames are refused. Returns how many were waiting and are dropped.
    pub fn close(&self) -> u64 {
        let dropped = std::mem::take(&mut *self.state()).frames;
        self.drained.notify_waiters();
        dropped
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn append(&mut self, piece: &Bytes) {
        if piece.len() < COPY_BELOW {
            self.append_copied(piece);
        } else {
            self.seal_block();
            self.sealed.push_back(piece.clone());
        }
    }

    fn append_copied(&mut self, piece: &[u8]) {
        if self.block.len() + piece.len() > BLOCK_BYTES {
            self.seal_block();
        }
        if self.block.capacity() - self.block.len() < piece.len() {
            // Takes back the old block if all of it is written, and allocates another if not. What is in the block
            // already would be copied along, so it is sent off first.
            self.seal_block();
            self.block.reserve(BLOCK_BYTES);
        }
        self.block.put_slice(piece);
    }

    fn seal_block(&mut self) {
        if !self.block.is_empty() {
            let sealed = self.block.split().freeze();
            self.sealed.push_back(sealed);
        }
    }
}

/// What a writer has taken from the queue and is writing.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pieces: VecDeque<Bytes>,
    frames: u64,
}

impl Batch {
    /// How many frames end in this batch.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    pub fn is_written(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The next pieces, as many as there is place for, and of them no more than so many bytes. Returns how many.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>], mut bytes_max: usize) -> usize {
        let mut count = 0;
        for (piece, slice) in self.pieces.iter().zip(slices) {
            let taken = piece.len().min(bytes_max);
            if taken == 0 {
                break;
            }
            *slice = IoSlice::new(&piece[..taken]);
            bytes_max -= taken;
            count += 1;
        }
        count
    }

    /// Forgets the first `bytes`, which are written. Long pieces are given back as soon as they are.
    pub fn advance(&mut self, mut bytes: usize) {
        while let Some(first) = self.pieces.front_mut() {
            if bytes < first.len() {
                first.advance(bytes);
                return;
            }
            bytes -= first.len();
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn queue(bytes_max: usize, frame_bytes_max: usize) -> Queue {
        let queue = Queue::new(&LaneLimits { queue_bytes_max: bytes_max, inbox_bytes_max: 0, frame_bytes_max });
        queue.open();
        queue
    }

    fn drain(queue: &Queue) -> Vec<u8> {
        let mut batch = Batch::default();
        let mut bytes = Vec::new();
        while queue.take(&mut batch) {
            for piece in batch.pieces.drain(..) {
                bytes.extend_from_slice(&piece);
            }
        }
        queue.written(bytes.len());
        bytes
    }

    #[test]
    fn pieces_of_any_length_come_out_as_they_went_in() {
        let queue = queue(usize::MAX, usize::MAX);
        let lengths = [0, 1, COPY_BELOW - 1, COPY_BELOW, 3 * BLOCK_BYTES, 7, BLOCK_BYTES - 5, 100];
        for round in 0..40_u8 {
            let mut expected = Vec::new();
            for (place, length) in lengths.into_iter().enumerate() {
                let piece = Bytes::from(vec![round.wrapping_add(place as u8); length]);
                let pieces = [piece.clone(), Bytes::from_static(b"tail"), piece];
                queue.push(&pieces).unwrap();
                expected.extend_from_slice(&(2 * length as u32 + 4).to_be_bytes());
                expected.extend(pieces.iter().flatten());
            }
            assert_eq!(queue.bytes(), expected.len());
            assert_eq!(drain(&queue), expected);
            assert_eq!(queue.bytes(), 0);
        }
    }

    #[test]
    fn long_pieces_are_not_copied() {
        let queue = queue(usize::MAX, usize::MAX);
        let long = Bytes::from(vec![1; COPY_BELOW]);
        queue.push(&[Bytes::from_static(b"short"), long.clone()]).unwrap();
        let mut batch = Batch::default();
        assert!(queue.take(&mut batch));
        assert!(batch.pieces.iter().any(|piece| piece.as_ptr() == long.as_ptr()));
    }

    #[test]
    fn what_is_being_written_counts_until_it_is_written() {
        let queue = queue(20, 100);
        let frame = [Bytes::from_static(b"0123456789")];
        assert_eq!(queue.push(&frame), Ok(Pushed::Queued));
        assert_eq!(queue.push(&frame), Err(Refused::QueueFull));
        assert!(queue.take(&mut Batch::default()));
        assert_eq!(queue.push(&frame), Err(Refused::QueueFull));
        queue.written(14);
        assert_eq!(queue.push(&frame), Ok(Pushed::Queued));
    }

    #[test]
    fn a_frame_beyond_the_bound_passes_an_empty_queue() {
        let queue = queue(4, 100);
        let frame = [Bytes::from_static(b"0123456789")];
        assert_eq!(queue.push(&frame), Ok(Pushed::Queued));
        assert_eq!(queue.push(&frame), Err(Refused::QueueFull));
        let endless = [Bytes::from(vec![0; 101])];
        assert_eq!(queue.push(&endless), Err(Refused::TooLong { bytes: 101, bytes_max: 100 }));
    }

    #[tokio::test]
    async fn whoever_waits_for_room_is_told_when_there_is_enough_or_never_will_be() {
        let queue = Arc::new(queue(40, 100));
        let frame = [Bytes::from_static(b"0123456789")];
        let waiter = |bytes| {
            let queue = Arc::clone(&queue);
            tokio::spawn(async move { queue.ready(bytes).await })
        };
        assert_eq!(queue.ready(100).await, Ok(()));
        queue.push(&frame).unwrap();
        queue.push(&frame).unwrap();
        assert!(queue.take(&mut Batch::default()));
        assert_eq!(queue.ready(8).await, Ok(()));
        assert_eq!(queue.ready(101).await, Err(Refused::TooLong { bytes: 101, bytes_max: 100 }));
        let (short, long) = (waiter(10), waiter(100));
        tokio::task::yield_now().await;
        queue.written(1);
        tokio::task::yield_now().await;
        assert!(!short.is_finished());
        queue.written(1);
        assert_eq!(short.await.unwrap(), Ok(()));
        assert!(!long.is_finished());
        // What is longer than the bound waits until the queue is empty.
        queue.written(26);
        assert_eq!(long.await.unwrap(), Ok(()));

        queue.push(&frame).unwrap();
        let left_alone = waiter(100);
        tokio::task::yield_now().await;
        queue.close();
        assert_eq!(left_alone.await.unwrap(), Err(Refused::Unconnected));
    }

    #[test]
    fn closing_drops_what_waits_and_opening_starts_afresh() {
        let queue = queue(100, 100);
        let frame = [Bytes::from_static(b"old")];
        queue.push(&frame).unwrap();
        queue.push(&frame).unwrap();
        assert_eq!(queue.close(), 2);
        assert_eq!(queue.push(&frame), Err(Refused::Unconnected));
        queue.open();
        queue.push(&[Bytes::from_static(b"new")]).unwrap();
        assert_eq!(drain(&queue), b"\0\0\0\x03new");
    }

    #[test]
    fn a_batch_is_written_in_any_portions() {
        let queue = queue(usize::MAX, usize::MAX);
        let long = Bytes::from((0..=255).cycle().take(3 * COPY_BELOW).collect::<Vec<u8>>());
        for portion in [3, 1000, 4096, 1 << 20] {
            queue.push(&[Bytes::from_static(b"ab"), long.clone(), Bytes::from_static(b"cd")]).unwrap();
            let mut batch = Batch::default();
            assert!(queue.take(&mut batch));
            let mut written = Vec::new();
            while !batch.is_written() {
                let mut slices = [IoSlice::new(&[]); 2];
                let count = batch.slices(&mut slices, portion);
                let next: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
                assert!((1..=portion).contains(&next.len()));
                written.extend_from_slice(&next);
                batch.advance(next.len());
            }
            assert_eq!(written[4..6], *b"ab");
            assert_eq!(written[6..6 + long.len()], long);
            assert_eq!(written[6 + long.len()..], *b"cd");
        }
    }
}
