//! Records: what one durable act looks like as bytes.
//!
//! Owns the layout of a record and both its checksums. Must not know of files, nor of what a term or a vote means. The
//! layout is described byte by byte in `docs/disk-format.md`.

use crate::error::Flaw;
use crate::index::GroupState;
use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};
use vlot_raft::term_runs::TermRuns;

/// One entry of a group's log.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Entry {
    /// Its name.
    pub id: LogId,
    /// Its bytes, which the log does not look into.
    pub payload: Bytes,
}

/// One durable act: after a crash it has happened or it has not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Write {
    /// The group's term, and to whom the node gave its vote in it.
    Vote {
        /// Whose.
        group: GroupId,
        /// The current term.
        term: Term,
        /// The vote in this term.
        vote: Option<NodeId>,
    },
    /// Cut the group's log after `after`, then add these.
    Append {
        /// Whose.
        group: GroupId,
        /// The last entry that stays.
        after: LogIndex,
        /// What follows it, without a gap. May be empty: then it is a cut alone.
        entries: Vec<Entry>,
    },
    /// The group's log begins after `after`. If it has that entry, what follows stays; if not, all of it goes, and what
    /// comes next follows `after`.
    Begin {
        /// Whose.
        group: GroupId,
        /// The entry after which it begins.
        after: LogId,
        /// Kept for the owner until the next one, and given back when the log is opened. At most 1 MiB.
        note: Bytes,
    },
}

/// The fixed part at the front of a record, in bytes.
pub(crate) const HEADER_BYTES: usize = 32;
/// What precedes the table of entries in the body of an append.
const APPEND_BYTES: usize = 16;
/// One row of that table.
const ROW_BYTES: usize = 16;
/// The body of a vote.
const VOTE_BYTES: usize = 24;
/// Records begin at multiples of this.
pub(crate) const ALIGN: usize = 8;

/// What precedes the note in the body of a begin.
const BEGIN_BYTES: usize = 16;
/// What a group takes in the record at the head of a segment, beside its runs of terms and its note.
const HEAD_BYTES: usize = 64;
/// One run of terms there.
const RUN_BYTES: usize = 16;
/// How long a note may be.
pub(crate) const NOTE_BYTES_MAX: usize = 1 << 20;

const VOTE: u8 = 1;
const APPEND: u8 = 2;
const END: u8 = 3;
const BEGIN: u8 = 4;
const HEADS: u8 = 5;
const CARRY: u8 = 6;
const FLOOR: u8 = 7;

impl Write {
    /// How long its record is, in bytes.
    pub(crate) fn record_bytes(&self) -> u64 {
        let body = match self {
            Self::Vote { .. } => VOTE_BYTES as u64,
            Self::Append { entries, .. } => append_body_bytes(entries),
            Self::Begin { note, .. } => (BEGIN_BYTES + note.len()) as u64,
        };
        record_bytes(body)
    }
}

/// How long a record with such a body is, in bytes.
pub(crate) fn record_bytes(body: u64) -> u64 {
    (HEADER_BYTES as u64 + body).next_multiple_of(ALIGN as u64)
}

/// How long the body of an append, or of a carry, of these entries is.
pub(crate) fn append_body_bytes(entries: &[Entry]) -> u64 {
    let payloads: u64 = entries.iter().map(|entry| entry.payload.len() as u64).sum();
    (APPEND_BYTES + ROW_BYTES * entries.len()) as u64 + payloads
}

/// How long the body of a record with the state of these groups is.
pub(crate) fn heads_body_bytes<'a>(groups: impl Iterator<Item = &'a GroupState>) -> u64 {
    groups.map(|group| (HEAD_BYTES + RUN_BYTES * group.runs.iter().count() + group.note.len()) as u64).sum()
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

/// Where the bytes of an entry are, and what they should be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Payload {
    /// The offset in the segment.
    pub offset: u32,
    pub length: u32,
    pub crc: u32,
}

impl Encoder<'_> {
    pub(crate) fn vote(&mut self, group: GroupId, term: Term, vote: Option<NodeId>) {
        let at = self.begin();
        self.out.extend_from_slice(&term.0.to_le_bytes());
        self.out.extend_from_slice(&u64::from(vote.is_some()).to_le_bytes());
        self.out.extend_from_slice(&vote.unwrap_or_default().0.to_le_bytes());
        self.finish(at, VOTE, group, VOTE_BYTES);
    }

    pub(crate) fn begin_group(&mut self, group: GroupId, after: LogId, note: &[u8]) {
        let at = self.begin();
        self.out.extend_from_slice(&after.term.0.to_le_bytes());
        self.out.extend_from_slice(&after.index.0.to_le_bytes());
        self.out.extend_from_slice(note);
        self.finish(at, BEGIN, group, BEGIN_BYTES + note.len());
    }

    /// What is known of every group when a segment begins, so that it can be the first that is left.
    pub(crate) fn heads<'g>(&mut self, groups: impl Iterator<Item = (GroupId, &'g GroupState)>) {
        let at = self.begin();
        for (id, GroupState { term, vote, runs, note, .. }) in groups {
            let numbers = [
                id.0,
                term.0,
                u64::from(vote.is_some()),
                vote.unwrap_or_default().0,
                runs.after().term.0,
                runs.after().index.0,
                runs.last().0,
                (runs.iter().count() as u64) << 32 | note.len() as u64,
            ];
            numbers.iter().for_each(|number| self.out.extend_from_slice(&number.to_le_bytes()));
            for (term, first, _) in runs.iter() {
                self.out.extend_from_slice(&term.0.to_le_bytes());
                self.out.extend_from_slice(&first.0.to_le_bytes());
            }
            self.out.extend_from_slice(note);
        }
        let body = self.out.len() - at - HEADER_BYTES;
        self.finish(at, HEADS, GroupId(0), body);
    }

    /// Nothing before this segment is needed.
    pub(crate) fn floor(&mut self, sequence: u32) {
        let at = self.begin();
        self.out.extend_from_slice(&u64::from(sequence).to_le_bytes());
        self.finish(at, FLOOR, GroupId(0), 8);
    }

    /// Tells `placed` where the payload of each entry will be, in order.
    pub(crate) fn append(
        &mut self,
        group: GroupId,
        after: LogIndex,
        entries: &[Entry],
        placed: impl FnMut(Term, Payload),
    ) {
        self.entries(APPEND, group, after, entries, placed);
    }

    /// Entries that the log has, at a new place.
    pub(crate) fn carry(
        &mut self,
        group: GroupId,
        after: LogIndex,
        entries: &[Entry],
        placed: impl FnMut(Term, Payload),
    ) {
        self.entries(CARRY, group, after, entries, placed);
    }

    fn entries(
        &mut self,
        kind: u8,
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
        self.finish(at, kind, group, table_bytes);
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

/// What a header's checksum begins with. A record that lies in another segment, or elsewhere in its own, than where it
/// was written to does not match.
fn seed(segment_crc: u32, offset: u32) -> u32 {
    crc32c_append(segment_crc, &offset.to_le_bytes())
}

#[derive(Clone, Copy, Debug)]
struct Header {
    length: u32,
    kind: u8,
    group: GroupId,
    durable: u32,
    body_crc: u32,
    previous: u32,
}

impl Header {
    fn encode(&self, seed: u32) -> ([u8; HEADER_BYTES], u32) {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&self.length.to_le_bytes());
        bytes[4] = self.kind;
        bytes[8..16].copy_from_slice(&self.group.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.durable.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.body_crc.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.previous.to_le_bytes());
        let crc = crc32c_append(seed, &bytes[..28]);
        bytes[28..32].copy_from_slice(&crc.to_le_bytes());
        (bytes, crc)
    }

    /// The header at `offset` with its own checksum; `bytes` is the whole segment. There must be room for a header.
    fn decode(bytes: &[u8], segment_crc: u32, offset: u32) -> Result<(Self, u32), Flaw> {
        let at = offset as usize;
        let header = &bytes[at..at + HEADER_BYTES];
        let crc = crc32c_append(seed(segment_crc, offset), &header[..28]);
        let written = u32_at(header, 28);
        if crc != written {
            return Err(Flaw::Checksum { of: "record's header", expected: written, found: crc });
        }
        let header = Self {
            length: u32_at(header, 0),
            kind: header[4],
            group: GroupId(u64_at(header, 8)),
            durable: u32_at(header, 16),
            body_crc: u32_at(header, 20),
            previous: u32_at(header, 24),
        };
        Ok((header, crc))
    }
}

/// A record as it was found.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    pub group: GroupId,
    pub body: Body<'a>,
    /// What was known to be durable when it was written.
    pub durable: u32,
    /// Its checksum, which the next record names.
    pub crc: u32,
    /// Where the next record begins.
    pub end: u32,
}

#[derive(Debug)]
pub(crate) enum Body<'a> {
    Vote { term: Term, vote: Option<NodeId> },
    Append { after: LogIndex, rows: Rows<'a> },
    Begin { after: LogId, note: &'a [u8] },
    Heads(Vec<(GroupId, GroupState)>),
    Carry { after: LogIndex, rows: Rows<'a> },
    Floor(u64),
    End,
}

/// The entries of an append, without their payloads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    table: &'a [u8],
    /// Where the first payload is.
    payloads: u32,
}

impl<'a> Rows<'a> {
    /// The term of each entry and where its payload is. Lengths are as written: they go beyond `u32` only in bytes
    /// that have not been checked.
    pub(crate) fn iter(self) -> impl Iterator<Item = (Term, Payload)> + use<'a> {
        let mut offset = self.payloads;
        self.table.chunks_exact(ROW_BYTES).map(move |row| {
            let payload = Payload { offset, length: u32_at(row, 8), crc: u32_at(row, 12) };
            offset = offset.saturating_add(payload.length);
            (Term(u64_at(row, 0)), payload)
        })
    }
}

/// Reads the record at `offset` of a whole segment and checks every byte of it.
///
/// `previous` is the checksum of the record before it. `Ok(None)` where nothing is written: zeros, or no room.
pub(crate) fn decode(segment: &[u8], segment_crc: u32, offset: u32, previous: u32) -> Result<Option<Record<'_>>, Flaw> {
    let body_at = offset as usize + HEADER_BYTES;
    if body_at > segment.len() || segment[offset as usize..body_at] == [0; HEADER_BYTES] {
        return Ok(None);
    }
    let (header, crc) = Header::decode(segment, segment_crc, offset)?;
    if header.previous != previous {
        return Err(Flaw::Chain { expected: previous, found: header.previous });
    }
    if header.durable > offset {
        return Err(Flaw::Value {
            of: "durable offset",
            expected: u64::from(offset),
            found: u64::from(header.durable),
        });
    }
    let room = segment.len() - body_at;
    if header.length as usize > room {
        return Err(length("record's body", room, header.length as usize));
    }
    let body = &segment[body_at..body_at + header.length as usize];
    let body = match header.kind {
        VOTE => decode_vote(body, &header)?,
        APPEND => decode_entries(body, &header, body_at, |after, rows| Body::Append { after, rows })?,
        CARRY => decode_entries(body, &header, body_at, |after, rows| Body::Carry { after, rows })?,
        BEGIN => decode_begin(body, &header)?,
        HEADS => decode_heads(body, &header)?,
        FLOOR => decode_floor(body, &header)?,
        END if body.is_empty() => Body::End,
        kind => return Err(Flaw::Value { of: "record's kind", expected: u64::from(APPEND), found: u64::from(kind) }),
    };
    // A segment is at most `u32::MAX` bytes long, and its length a multiple of `ALIGN`.
    let end = (body_at + header.length as usize).next_multiple_of(ALIGN) as u32;
    Ok(Some(Record { group: header.group, body, durable: header.durable, crc, end }))
}

/// What the record at `offset` says is the checksum of the one before it; zero where there is no room for a record.
pub(crate) fn previous_at(segment: &[u8], offset: u32) -> u32 {
    let at = offset as usize + 24;
    if at + 4 <= segment.len() { u32_at(segment, at) } else { 0 }
}

fn decode_vote(body: &[u8], header: &Header) -> Result<Body<'static>, Flaw> {
    if body.len() != VOTE_BYTES {
        return Err(length("vote", VOTE_BYTES, body.len()));
    }
    check_body(body, header)?;
    let vote = match u64_at(body, 8) {
        0 => None,
        1 => Some(NodeId(u64_at(body, 16))),
        found => return Err(Flaw::Value { of: "mark of a vote", expected: 1, found }),
    };
    Ok(Body::Vote { term: Term(u64_at(body, 0)), vote })
}

fn decode_begin<'a>(body: &'a [u8], header: &Header) -> Result<Body<'a>, Flaw> {
    if !(BEGIN_BYTES..=BEGIN_BYTES + NOTE_BYTES_MAX).contains(&body.len()) {
        return Err(length("begin", BEGIN_BYTES, body.len()));
    }
    check_body(body, header)?;
    Ok(Body::Begin { after: LogId::new(u64_at(body, 0), u64_at(body, 8)), note: &body[BEGIN_BYTES..] })
}

fn decode_floor(body: &[u8], header: &Header) -> Result<Body<'static>, Flaw> {
    if body.len() != 8 {
        return Err(length("floor", 8, body.len()));
    }
    check_body(body, header)?;
    Ok(Body::Floor(u64_at(body, 0)))
}

fn decode_heads(mut body: &[u8], header: &Header) -> Result<Body<'static>, Flaw> {
    check_body(body, header)?;
    let mut heads = Vec::new();
    while !body.is_empty() {
        let (group, state, rest) = decode_head(body)?;
        heads.push((group, state));
        body = rest;
    }
    Ok(Body::Heads(heads))
}

fn decode_head(body: &[u8]) -> Result<(GroupId, GroupState, &[u8]), Flaw> {
    let Some((numbers, rest)) = body.split_at_checked(HEAD_BYTES) else {
        return Err(length("group at the head of a segment", HEAD_BYTES, body.len()));
    };
    let number = |n: usize| u64_at(numbers, 8 * n);
    let (runs_bytes, note_bytes) = ((number(7) >> 32) as usize * RUN_BYTES, number(7) as u32 as usize);
    let Some((table, rest)) = rest.split_at_checked(runs_bytes) else {
        return Err(length("terms at the head of a segment", runs_bytes, rest.len()));
    };
    let Some((note, rest)) = rest.split_at_checked(note_bytes) else {
        return Err(length("note at the head of a segment", note_bytes, rest.len()));
    };
    let runs = decode_runs(LogId::new(number(4), number(5)), LogIndex(number(6)), table)?;
    let state = GroupState {
        term: Term(number(1)),
        vote: (number(2) == 1).then_some(NodeId(number(3))),
        runs,
        note: Bytes::copy_from_slice(note),
        kept: Vec::new(),
    };
    Ok((GroupId(number(0)), state, rest))
}

/// Runs of terms as they were written: each with its first index, none empty, to `last`.
fn decode_runs(after: LogId, last: LogIndex, table: &[u8]) -> Result<TermRuns, Flaw> {
    let starts = table.chunks_exact(RUN_BYTES).map(|run| LogId::new(u64_at(run, 0), u64_at(run, 8)));
    let mut runs = TermRuns::empty(after);
    for (n, start) in starts.enumerate() {
        let next = table.get(RUN_BYTES * (n + 1)..).filter(|rest| !rest.is_empty());
        let end = next.map_or(last, |rest| LogIndex(u64_at(rest, 8)).prev());
        if start.index != runs.last().next() || start.term < runs.last_id().term || end < start.index {
            let (expected, found) = (runs.last().next().0, start.index.0);
            return Err(Flaw::Value { of: "beginning of a term", expected, found });
        }
        runs.push(start.term, end.since(start.index.prev()));
    }
    if runs.last() == last {
        Ok(runs)
    } else {
        Err(Flaw::Value { of: "last index", expected: runs.last().0, found: last.0 })
    }
}

fn decode_entries<'a>(
    body: &'a [u8],
    header: &Header,
    body_at: usize,
    of: impl FnOnce(LogIndex, Rows<'a>) -> Body<'a>,
) -> Result<Body<'a>, Flaw> {
    if body.len() < APPEND_BYTES {
        return Err(length("append", APPEND_BYTES, body.len()));
    }
    let count = u64_at(body, 8);
    let room = (body.len() - APPEND_BYTES) / ROW_BYTES;
    if count > room as u64 {
        return Err(Flaw::Value { of: "number of entries", expected: room as u64, found: count });
    }
    let table_bytes = APPEND_BYTES + ROW_BYTES * count as usize;
    let (table, payloads) = body.split_at(table_bytes);
    check_body(table, header)?;
    let rows = Rows { table: &table[APPEND_BYTES..], payloads: (body_at + table_bytes) as u32 };
    check_payloads(rows, payloads)?;
    Ok(of(LogIndex(u64_at(body, 0)), rows))
}

fn check_body(covered: &[u8], header: &Header) -> Result<(), Flaw> {
    let found = crc32c(covered);
    if found == header.body_crc {
        Ok(())
    } else {
        Err(Flaw::Checksum { of: "record's body", expected: header.body_crc, found })
    }
}

fn check_payloads(rows: Rows<'_>, mut payloads: &[u8]) -> Result<(), Flaw> {
    for (_, Payload { length: bytes, crc, .. }) in rows.iter() {
        let Some((payload, rest)) = payloads.split_at_checked(bytes as usize) else {
            return Err(length("entry", payloads.len(), bytes as usize));
        };
        let found = crc32c(payload);
        if found != crc {
            return Err(Flaw::Checksum { of: "entry", expected: crc, found });
        }
        payloads = rest;
    }
    if payloads.is_empty() { Ok(()) } else { Err(length("append", 0, payloads.len())) }
}

/// Whether a record later in the segment was written when everything up to and beyond `offset` was durable.
///
/// It need not follow from anything: its header is enough, for the header's checksum is bound to its place. Nothing is
/// written from `upto` on.
pub(crate) fn later_record_vouches(segment: &[u8], upto: u32, segment_crc: u32, offset: u32) -> bool {
    let first = offset as usize + ALIGN;
    let last = segment.len().saturating_sub(HEADER_BYTES);
    (first..=last.min(upto as usize)).step_by(ALIGN).any(|at| {
        let may_be = (VOTE..=FLOOR).contains(&segment[at + 4]) && segment[at + 5..at + 8] == [0; 3];
        may_be && Header::decode(segment, segment_crc, at as u32).is_ok_and(|(header, _)| header.durable > offset)
    })
}

fn length(of: &'static str, expected: usize, found: usize) -> Flaw {
    Flaw::Length { of, expected: expected as u64, found: found as u64 }
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::Chance;

    const SEGMENT_CRC: u32 = 0x1234_5678;

    /// A segment with one record whose checksums match whatever its fields say.
    fn crafted(chance: &mut Chance) -> Vec<u8> {
        let extremes = [0, 1, 8, 15, 16, 24, 31, 32, 200, 1 << 31, u32::MAX - 7, u32::MAX];
        let mut number = |of: &[u32]| of[chance.below(of.len() as u64) as usize];
        let mut segment = vec![0; 256];
        let body = HEADER_BYTES + 64;
        segment[body + 8..body + 12].copy_from_slice(&number(&extremes).to_le_bytes());
        segment[body + 12..body + 16].copy_from_slice(&number(&[0, 0, 0, u32::MAX]).to_le_bytes());
        for row in 0..4 {
            let at = body + APPEND_BYTES + ROW_BYTES * row + 8;
            segment[at..at + 4].copy_from_slice(&number(&extremes).to_le_bytes());
        }
        let covered = number(&[0, 16, 24, 32, 48, 64]) as usize;
        let header = Header {
            length: number(&extremes),
            kind: number(&[0, 1, 2, 2, 2, 2, 3, 4, 5, 6, 7, 255]) as u8,
            group: GroupId(1),
            durable: number(&[0, 0, 64, 65, u32::MAX]),
            body_crc: crc32c(&segment[body..body + covered]),
            previous: 9,
        };
        segment[64..body].copy_from_slice(&header.encode(seed(SEGMENT_CRC, 64)).0);
        segment
    }

    #[test]
    fn crafted_lengths_are_refused_or_fit() {
        let mut chance = Chance::new(1);
        let mut accepted = 0;
        for _ in 0..200_000 {
            let segment = crafted(&mut chance);
            let Ok(Some(record)) = decode(&segment, SEGMENT_CRC, 64, 9) else { continue };
            accepted += 1;
            assert!(record.end as usize <= segment.len());
            if let Body::Append { rows, .. } | Body::Carry { rows, .. } = record.body {
                assert!(rows.iter().all(|(_, payload)| payload.offset + payload.length <= record.end));
            }
            later_record_vouches(&segment, 256, SEGMENT_CRC, 0);
        }
        assert!(accepted > 100, "some are as they should be: {accepted}");
    }

    #[test]
    fn a_record_decodes_to_what_was_encoded() {
        let mut out = Vec::new();
        let mut encoder =
            Encoder { out: &mut out, start: 64, segment: 1, segment_crc: SEGMENT_CRC, durable: 64, previous: 9 };
        let entry = |index, payload| Entry { id: LogId::new(4, index), payload: Bytes::from_static(payload) };
        let entries = vec![entry(8, b"one"), entry(9, b""), entry(10, b"three")];
        let mut placed = Vec::new();
        encoder.append(GroupId(5), LogIndex(7), &entries, |term, payload| placed.push((term, payload)));
        assert_eq!(
            out.len() as u64,
            Write::Append { group: GroupId(5), after: LogIndex(7), entries }.record_bytes(),
            "the length that was reckoned beforehand"
        );
        let mut segment = vec![0; 64];
        segment.extend_from_slice(&out);
        let record = decode(&segment, SEGMENT_CRC, 64, 9).expect("intact").expect("a record");
        assert_eq!((record.group, record.durable, record.end as usize), (GroupId(5), 64, segment.len()));
        let Body::Append { after, rows } = record.body else { panic!("{:?}", record.body) };
        assert_eq!((after, rows.iter().collect()), (LogIndex(7), placed.clone()));
        let (_, last) = placed[2];
        assert_eq!(&segment[last.offset as usize..][..last.length as usize], b"three");
    }
}
