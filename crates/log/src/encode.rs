//! Records on their way to the disk.
//!
//! Owns how each kind of record is written. Must not know of files, nor of what a term or a vote means.

use crate::layout::{
    ALIGN, APPEND, APPEND_BYTES, BEGIN, BEGIN_BYTES, END, HEADER_BYTES, Header, Payload, ROW_BYTES, VOTE, VOTE_BYTES,
    seed,
};
use crate::record::{Entry, Write};
use crc32c::crc32c;
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};

impl Write {
    /// How long its record is, in bytes.
    pub(crate) fn record_bytes(&self) -> u64 {
        let body = match self {
            Self::Vote { .. } => VOTE_BYTES as u64,
            Self::Append { entries, .. } => {
                let payloads: u64 = entries.iter().map(|entry| entry.payload.len() as u64).sum();
                (APPEND_BYTES + ROW_BYTES * entries.len()) as u64 + payloads
            }
            Self::Begin { note, .. } => (BEGIN_BYTES + note.len()) as u64,
        };
        (HEADER_BYTES as u64 + body).next_multiple_of(ALIGN as u64)
    }
}

/// Writes records one after the other into a buffer that is to stand at one place of a segment.
pub(crate) struct Encoder<'a> {
    /// The records. Its first byte will be at `start`.
    pub out: &'a mut Vec<u8>,
    /// Where in the segment.
    pub start: u32,
    /// The segment's sequence number.
    pub segment: u32,
    /// The checksum of the segment's header, with which every record's checksum begins.
    pub segment_crc: u32,
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
        mut placed: impl FnMut(Term, Payload),
    ) {
        let at = self.begin();
        let table_bytes = APPEND_BYTES + ROW_BYTES * entries.len();
        self.out.extend_from_slice(&after.0.to_le_bytes());
        self.out.extend_from_slice(&(entries.len() as u64).to_le_bytes());
        let mut offset = self.start + (at + HEADER_BYTES + table_bytes) as u32;
        for entry in entries {
            // Fits: whoever calls has bounded the sum of all lengths far below `u32::MAX`.
            let length = entry.payload.len() as u32;
            let crc = crc32c(&entry.payload);
            let mut row = [0; ROW_BYTES];
            row[0..8].copy_from_slice(&entry.id.term.0.to_le_bytes());
            row[8..12].copy_from_slice(&length.to_le_bytes());
            row[12..16].copy_from_slice(&crc.to_le_bytes());
            self.out.extend_from_slice(&row);
            placed(entry.id.term, Payload { offset, length, crc });
            offset += length;
        }
        for entry in entries {
            self.out.extend_from_slice(&entry.payload);
        }
        self.finish(at, APPEND, group, table_bytes);
    }

    /// `stays` says whether what follows the entry stays.
    pub(crate) fn begin_log(&mut self, group: GroupId, after: LogId, stays: bool, note: &[u8]) {
        let at = self.begin();
        self.out.extend_from_slice(&after.term.0.to_le_bytes());
        self.out.extend_from_slice(&after.index.0.to_le_bytes());
        self.out.extend_from_slice(&u64::from(stays).to_le_bytes());
        self.out.extend_from_slice(note);
        self.finish(at, BEGIN, group, BEGIN_BYTES + note.len());
    }

    /// The last record of a segment: what follows is in the next one.
    pub(crate) fn end(&mut self) {
        let at = self.begin();
        self.finish(at, END, GroupId(0), 0);
    }

    fn begin(&mut self) -> usize {
        let at = self.out.len();
        self.out.resize(at + HEADER_BYTES, 0);
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
        let (bytes, crc) = header.encode(seed(self.segment_crc, self.start + at as u32));
        self.out[at..body].copy_from_slice(&bytes);
        self.out.resize(self.out.len().next_multiple_of(ALIGN), 0);
        self.previous = crc;
    }
}
