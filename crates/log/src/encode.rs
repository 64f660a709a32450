//! Records on their way to the disk.
//!
//! Owns how each kind of record is written. Must not know of files, nor of what a term or a vote means.

use crate::aligned::AlignedBytes;
use crate::entry_range::Position;
use crate::layout::{
    ALIGN, APPEND, APPEND_BYTES, BEGIN, BEGIN_BYTES, END, FIRST_SEGMENT, FIRST_SEGMENT_BYTES, HEADER_BYTES, Header,
    MARK, Payload, REMOVE, REWRITE, ROW_BYTES, Stamp, VOTE, VOTE_BYTES,
};
use crate::record::{Entry, Write};
use crc32c::crc32c;
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};

impl Write {
    /// How long its record is, in bytes.
    pub(crate) fn record_bytes(&self) -> u64 {
        match self {
            Self::Vote { .. } => vote_bytes(),
            Self::Append { entries, .. } | Self::Rewrite { entries, .. } => {
                append_bytes(entries.len(), entries.iter().map(|entry| entry.payload.len() as u64).sum())
            }
            Self::LogStart { note, .. } => begin_bytes(note.len()),
            Self::Remove { .. } => record_bytes(0),
        }
    }
}

/// How long the record of a vote is.
pub(crate) fn vote_bytes() -> u64 {
    record_bytes(VOTE_BYTES as u64)
}

/// How long a record of so many entries is, with so many bytes of payload together.
pub(crate) fn append_bytes(entries: usize, payloads: u64) -> u64 {
    record_bytes((APPEND_BYTES + ROW_BYTES * entries) as u64 + payloads)
}

/// How long the record of a begin is.
pub(crate) fn begin_bytes(note: usize) -> u64 {
    record_bytes((BEGIN_BYTES + note) as u64)
}

/// How long the record of a first segment is.
pub(crate) fn first_segment_bytes() -> u64 {
    record_bytes(FIRST_SEGMENT_BYTES as u64)
}

/// How long a mark with so many zeros is.
pub(crate) fn mark_bytes(zeros: u32) -> u64 {
    record_bytes(u64::from(zeros))
}

fn record_bytes(body: u64) -> u64 {
    (HEADER_BYTES as u64 + body).next_multiple_of(ALIGN as u64)
}

/// Writes records one after the other into a buffer that is to stand at one place of a segment.
pub(crate) struct Encoder<'a> {
    /// The records. Its first byte will be at `start`.
    pub out: &'a mut AlignedBytes,
    /// Where in the segment.
    pub start: u32,
    /// The segment's sequence number.
    pub segment: u32,
    /// What all records of the segment have.
    pub stamp: Stamp,
    /// Everything in the segment before this offset is known to be durable, and so are all segments before it.
    pub durable: u32,
    /// The checksum of the record before.
    pub previous: u32,
}

impl Encoder<'_> {
    pub(crate) fn vote(&mut self, group: GroupId, term: Term, vote: Option<NodeId>) {
        let at = self.begin();
        self.out.extend_from_slice(&term.0.to_le_bytes());
        self.out.extend_from_slice(&u64::from(vote.is_some()).to_le_bytes());
        self.out.extend_from_slice(&vote.unwrap_or_default().0.to_le_bytes());
        self.finish(at, VOTE, group, VOTE_BYTES);
    }

    /// Tells `placed` where the payload of each entry will be, in order.
    pub(crate) fn append(
        &mut self,
        group: GroupId,
        after: LogIndex,
        entries: &[Entry],
        placed: impl FnMut(&Entry, Position),
    ) {
        self.entries(APPEND, group, after, entries, placed);
    }

    /// Entries that are in the log: nothing is cut. The first of them follows `after`.
    pub(crate) fn rewrite(
        &mut self,
        group: GroupId,
        after: LogIndex,
        entries: &[Entry],
        placed: impl FnMut(&Entry, Position),
    ) {
        self.entries(REWRITE, group, after, entries, placed);
    }

    /// `stays` says whether what follows the entry stays. Returns where the note will be.
    pub(crate) fn begin_log(&mut self, group: GroupId, after: LogId, stays: bool, note: &[u8]) -> Position {
        let at = self.begin();
        self.out.extend_from_slice(&after.term.0.to_le_bytes());
        self.out.extend_from_slice(&after.index.0.to_le_bytes());
        self.out.extend_from_slice(&u64::from(stays).to_le_bytes());
        let offset = self.start + self.out.len() as u32;
        self.out.extend_from_slice(note);
        self.finish(at, BEGIN, group, BEGIN_BYTES + note.len());
        self.position(Payload { offset, length: note.len() as u32, crc: crc32c(note) })
    }

    /// The group is gone.
    pub(crate) fn remove(&mut self, group: GroupId) {
        let at = self.begin();
        self.finish(at, REMOVE, group, 0);
    }

    /// Segments before `oldest` are not needed.
    pub(crate) fn first_segment(&mut self, oldest: u32) {
        let at = self.begin();
        self.out.extend_from_slice(&u64::from(oldest).to_le_bytes());
        self.finish(at, FIRST_SEGMENT, GroupId(0), FIRST_SEGMENT_BYTES);
    }

    /// The last record of a segment: what follows is in the next one.
    pub(crate) fn end(&mut self) {
        let at = self.begin();
        self.finish(at, END, GroupId(0), 0);
    }

    /// Says nothing but what every record says: what was durable when it was written. The body is so many zeros.
    pub(crate) fn mark(&mut self, zeros: u32) {
        let at = self.begin();
        self.out.resize(self.out.len() + zeros as usize);
        self.finish(at, MARK, GroupId(0), 0);
    }

    /// A mark with a number that was drawn: its checksum, and with it those of all records that follow, are others than any
    /// that ever stood there.
    pub(crate) fn numbered_mark(&mut self, number: u64) {
        let at = self.begin();
        self.finish(at, MARK, GroupId(number), 0);
    }

    fn entries(
        &mut self,
        kind: u8,
        group: GroupId,
        after: LogIndex,
        entries: &[Entry],
        mut placed: impl FnMut(&Entry, Position),
    ) {
        let at = self.begin();
        let table_bytes = APPEND_BYTES + ROW_BYTES * entries.len();
        self.out.extend_from_slice(&after.0.to_le_bytes());
        self.out.extend_from_slice(&(entries.len() as u64).to_le_bytes());
        let mut offset = self.start + (at + HEADER_BYTES + table_bytes) as u32;
        for entry in entries {
            // Fits: the log bounds the sum of all lengths far below `u32::MAX`.
            let length = entry.payload.len() as u32;
            let crc = crc32c(&entry.payload);
            let mut row = [0; ROW_BYTES];
            row[0..8].copy_from_slice(&entry.id.term.0.to_le_bytes());
            row[8..12].copy_from_slice(&length.to_le_bytes());
            row[12..16].copy_from_slice(&crc.to_le_bytes());
            self.out.extend_from_slice(&row);
            placed(entry, self.position(Payload { offset, length, crc }));
            offset += length;
        }
        for entry in entries {
            self.out.extend_from_slice(&entry.payload);
        }
        self.finish(at, kind, group, table_bytes);
    }

    fn position(&self, payload: Payload) -> Position {
        Position { segment: self.segment, payload }
    }

    fn begin(&mut self) -> usize {
        let at = self.out.len();
        self.out.resize(at + HEADER_BYTES);
        at
    }

    /// Writes the header at `at`, before a body whose first `checked` bytes its own checksum covers.
    fn finish(&mut self, at: usize, kind: u8, group: GroupId, checked: usize) {
        let body = at + HEADER_BYTES;
        let header = Header {
            length: (self.out.len() - body) as u32,
            kind,
            group,
            durable: self.durable,
            body_crc: crc32c(&self.out[body..body + checked]),
            previous: self.previous,
        };
        let (bytes, crc) = header.encode(self.stamp, self.start + at as u32);
        self.out[at..body].copy_from_slice(&bytes);
        self.out.resize(self.out.len().next_multiple_of(ALIGN));
        self.previous = crc;
    }
}
