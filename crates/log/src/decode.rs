//! Records on their way from the disk.
//!
//! Owns how each kind of record is read and checked. Whatever the bytes are, they decode to a record or to a flaw.

use crate::error::Flaw;
use crate::layout::{
    ALIGN, APPEND, APPEND_BYTES, BEGIN, BEGIN_BYTES, END, FIRST_SEGMENT, FIRST_SEGMENT_BYTES, HEADER_BYTES, Header,
    MARK, Payload, REMOVE, REWRITE, ROW_BYTES, Stamp, VOTE, VOTE_BYTES, u32_at, u64_at,
};
use crc32c::crc32c;
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};

/// Bytes that are looked at together for whether any record may begin in them.
const BLOCK_BYTES: usize = 1024;

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
    LogStart { after: LogId, stays: bool, note: Note<'a> },
    Rewrite { after: LogIndex, rows: Rows<'a> },
    Remove,
    FirstSegment { oldest: u32 },
    Mark,
    End,
}

/// The note of a begin, and where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Note<'a> {
    pub bytes: &'a [u8],
    pub payload: Payload,
}

/// The entries of an append or a rewrite, without their payloads.
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

impl<'a> Record<'a> {
    /// Its entries, and the index before the first of them.
    pub(crate) fn entries(&self) -> Option<(LogIndex, Rows<'a>)> {
        match self.body {
            Body::Append { after, rows } | Body::Rewrite { after, rows } => Some((after, rows)),
            _ => None,
        }
    }

    /// Checks its entries' payloads, too.
    pub(crate) fn check_payloads(&self, segment: &[u8]) -> Result<(), Flaw> {
        let Some((_, rows)) = self.entries() else { return Ok(()) };
        rows.iter().try_for_each(|(_, payload)| payload.check(payload.of(segment)))
    }
}

/// Reads the record at `offset` of a whole segment and checks all of it but the payloads of entries, which are known
/// to be within it.
///
/// `previous` is the checksum of the record before it, if that is known. `Ok(None)` where nothing is written: zeros, or
/// no room.
pub(crate) fn decode(
    segment: &[u8],
    stamp: Stamp,
    offset: u32,
    previous: Option<u32>,
) -> Result<Option<Record<'_>>, Flaw> {
    let body_at = offset as usize + HEADER_BYTES;
    if body_at > segment.len() || segment[offset as usize..body_at] == [0; HEADER_BYTES] {
        return Ok(None);
    }
    let (header, crc) = Header::decode(segment, stamp, offset)?;
    if let Some(expected) = previous.filter(|&expected| expected != header.previous) {
        return Err(Flaw::Chain { expected, found: header.previous });
    }
    if header.durable > offset {
        return Err(Flaw::Value {
            of: "durable offset",
            expected: u64::from(offset),
            found: u64::from(header.durable),
        });
    }
    // Room for the end of the segment is kept behind every record, and the writer that goes on from here relies on it.
    let kept = if header.kind == END { 0 } else { HEADER_BYTES };
    let room = segment.len() - body_at;
    if header.length as usize + kept > room {
        return Err(length("record's body", room.saturating_sub(kept), header.length as usize));
    }
    let body = &segment[body_at..body_at + header.length as usize];
    let body = match header.kind {
        VOTE => decode_vote(body, &header)?,
        APPEND => decode_entries(body, &header, body_at).map(|(after, rows)| Body::Append { after, rows })?,
        BEGIN => decode_begin(body, &header, body_at)?,
        REWRITE => decode_entries(body, &header, body_at).map(|(after, rows)| Body::Rewrite { after, rows })?,
        FIRST_SEGMENT => decode_first_segment(body, &header)?,
        MARK => Body::Mark,
        END if body.is_empty() => Body::End,
        REMOVE if body.is_empty() => Body::Remove,
        kind => return Err(Flaw::Value { of: "record's kind", expected: u64::from(APPEND), found: u64::from(kind) }),
    };
    // A segment is at most `u32::MAX` bytes long, and its length a multiple of `ALIGN`.
    let end = (body_at + header.length as usize).next_multiple_of(ALIGN) as u32;
    Ok(Some(Record { group: header.group, body, durable: header.durable, crc, end }))
}

fn decode_vote(body: &[u8], header: &Header) -> Result<Body<'static>, Flaw> {
    if body.len() != VOTE_BYTES {
        return Err(length("vote", VOTE_BYTES, body.len()));
    }
    check_body(body, header)?;
    let vote = decode_mark("mark of a vote", u64_at(body, 8))?.then(|| NodeId(u64_at(body, 16)));
    Ok(Body::Vote { term: Term(u64_at(body, 0)), vote })
}

fn decode_begin<'a>(body: &'a [u8], header: &Header, body_at: usize) -> Result<Body<'a>, Flaw> {
    let Some((front, note)) = body.split_at_checked(BEGIN_BYTES) else {
        return Err(length("begin", BEGIN_BYTES, body.len()));
    };
    check_body(body, header)?;
    let stays = decode_mark("mark of entries that stay", u64_at(front, 16))?;
    let payload = Payload { offset: (body_at + BEGIN_BYTES) as u32, length: note.len() as u32, crc: crc32c(note) };
    let note = Note { bytes: note, payload };
    Ok(Body::LogStart { after: LogId::new(u64_at(front, 0), u64_at(front, 8)), stays, note })
}

fn decode_first_segment(body: &[u8], header: &Header) -> Result<Body<'static>, Flaw> {
    if body.len() != FIRST_SEGMENT_BYTES {
        return Err(length("first segment", FIRST_SEGMENT_BYTES, body.len()));
    }
    check_body(body, header)?;
    let oldest = u64_at(body, 0);
    let refuse = |_| Flaw::Value { of: "oldest segment", expected: u64::from(u32::MAX), found: oldest };
    Ok(Body::FirstSegment { oldest: u32::try_from(oldest).map_err(refuse)? })
}

fn decode_mark(of: &'static str, mark: u64) -> Result<bool, Flaw> {
    match mark {
        0 => Ok(false),
        1 => Ok(true),
        found => Err(Flaw::Value { of, expected: 1, found }),
    }
}

fn decode_entries<'a>(body: &'a [u8], header: &Header, body_at: usize) -> Result<(LogIndex, Rows<'a>), Flaw> {
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
    let found = rows.iter().map(|(_, payload)| u64::from(payload.length)).sum();
    if found != payloads.len() as u64 {
        return Err(Flaw::Length { of: "entries of a record", expected: payloads.len() as u64, found });
    }
    Ok((LogIndex(u64_at(body, 0)), rows))
}

fn check_body(covered: &[u8], header: &Header) -> Result<(), Flaw> {
    let found = crc32c(covered);
    if found == header.body_crc {
        Ok(())
    } else {
        Err(Flaw::Checksum { of: "record's body", expected: header.body_crc, found })
    }
}

/// Whether a record later in the segment was written when everything up to and beyond `offset` was durable.
///
/// It need not follow from anything: its header is enough, for the header's checksum is bound to its place.
pub(crate) fn later_record_seals(segment: &[u8], stamp: Stamp, offset: u32) -> bool {
    headers(segment, stamp, offset + ALIGN as u32).any(|(_, header)| header.durable > offset)
}

/// Each intact header of a record from `first` on, and where it is; records that cannot be read may be between them.
///
/// Whatever else stands there, of an earlier life of the file or in a payload, is not taken for one: not by mistake, and not
/// if an entry was made to look like one, for its author does not know the salt.
pub(crate) fn headers(segment: &[u8], stamp: Stamp, first: u32) -> impl Iterator<Item = (u32, Header)> + '_ {
    let last = segment.len().saturating_sub(HEADER_BYTES);
    let blocks = (first as usize..=last).step_by(BLOCK_BYTES);
    let occupied = blocks.filter(move |&at| stamp.may_begin_within(&segment[at..segment.len().min(at + BLOCK_BYTES)]));
    let places = occupied.flat_map(move |at| (at..=last.min(at + BLOCK_BYTES - ALIGN)).step_by(ALIGN));
    places.filter_map(move |at| {
        // Offsets in a segment have 32 bits.
        let intact = stamp.may_begin(segment, at).then(|| Header::decode(segment, stamp, at as u32).ok()).flatten();
        intact.map(|(header, _)| (at as u32, header))
    })
}

fn length(of: &'static str, expected: usize, found: usize) -> Flaw {
    Flaw::Length { of, expected: expected as u64, found: found as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aligned::AlignedBytes;
    use crate::disk::sim::Rng;
    use crate::encode::Encoder;
    use crate::record::{Entry, Write};
    use bytes::Bytes;

    const STAMP: Stamp = Stamp { crc: 0x1234_5678, salt: 0x0f08_0000 };

    /// A segment with one record whose checksums match whatever its fields say.
    fn crafted(rng: &mut Rng) -> Vec<u8> {
        let extremes = [0, 1, 8, 15, 16, 24, 31, 32, 200, 1 << 31, u32::MAX - 7, u32::MAX];
        let mut number = |of: &[u32]| of[rng.below(of.len() as u64) as usize];
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
            kind: number(&[0, 1, 2, 2, 2, 2, 3, 4, 5, 6, 7, 8, 255]) as u8,
            group: GroupId(1),
            durable: number(&[0, 0, 64, 65, u32::MAX]),
            body_crc: crc32c(&segment[body..body + covered]),
            previous: 9,
        };
        segment[64..body].copy_from_slice(&header.encode(STAMP, 64).0);
        segment
    }

    #[test]
    fn headers_are_found_wherever_they_begin() {
        let header = Header { length: 0, kind: MARK, group: GroupId(0), durable: 0, body_crc: 0, previous: 7 };
        let mut segment = vec![0; 3 * BLOCK_BYTES];
        // The second lies across two blocks.
        let places = [0, BLOCK_BYTES - ALIGN, 2 * BLOCK_BYTES - HEADER_BYTES, 3 * BLOCK_BYTES - HEADER_BYTES];
        let places = places.map(|at| at as u32);
        for at in places {
            segment[at as usize..][..HEADER_BYTES].copy_from_slice(&header.encode(STAMP, at).0);
        }
        let found = |first| headers(&segment, STAMP, first).map(|(at, _)| at).collect::<Vec<_>>();
        assert_eq!(found(0), places);
        assert_eq!(found(ALIGN as u32), places[1..]);
        assert_eq!(found(places[3]), places[3..]);
        assert_eq!(found(places[3] + ALIGN as u32), []);
    }

    #[test]
    fn crafted_lengths_are_refused_or_fit() {
        let mut rng = Rng::new(1);
        let mut accepted = 0;
        for _ in 0..200_000 {
            let segment = crafted(&mut rng);
            let Ok(Some(record)) = decode(&segment, STAMP, 64, Some(9)) else { continue };
            accepted += 1;
            let _ = record.check_payloads(&segment);
            assert!(record.end as usize <= segment.len());
            if let Body::Append { rows, .. } | Body::Rewrite { rows, .. } = record.body {
                assert!(rows.iter().all(|(_, payload)| payload.offset + payload.length <= record.end));
            }
            later_record_seals(&segment, STAMP, 0);
        }
        assert!(accepted > 100, "some are as they should be: {accepted}");
    }

    /// An empty mark is as long as the end that would have to follow it.
    #[test]
    fn room_for_the_end_of_a_segment_is_kept() {
        let marked = |bytes_behind: usize| {
            let mut out = AlignedBytes::default();
            let (segment, stamp, previous) = (1, STAMP, 9);
            Encoder { out: &mut out, start: 64, segment, stamp, durable: 64, previous }.mark(0);
            let mut segment = vec![0; 64];
            segment.extend_from_slice(&out);
            segment.resize(segment.len() + bytes_behind, 0);
            decode(&segment, STAMP, 64, Some(9)).map(|record| record.is_some())
        };
        assert_eq!(marked(HEADER_BYTES), Ok(true));
        for bytes_behind in [0, HEADER_BYTES - ALIGN] {
            assert!(matches!(marked(bytes_behind), Err(Flaw::Length { .. })), "{bytes_behind} bytes are behind it");
        }
    }

    #[test]
    fn a_record_decodes_to_what_was_encoded() {
        let mut out = AlignedBytes::default();
        let mut encoder = Encoder { out: &mut out, start: 64, segment: 1, stamp: STAMP, durable: 64, previous: 9 };
        let entry = |index, payload| Entry { id: LogId::new(4, index), payload: Bytes::from_static(payload) };
        let entries = vec![entry(8, b"one"), entry(9, b""), entry(10, b"three")];
        let mut placed = Vec::new();
        encoder.append(GroupId(5), LogIndex(7), &entries, |entry, at| placed.push((entry.id.term, at.payload)));
        assert_eq!(
            out.len() as u64,
            Write::Append { group: GroupId(5), after: LogIndex(7), entries }.record_bytes(),
            "the length that was reckoned beforehand"
        );
        let mut segment = vec![0; 64];
        segment.extend_from_slice(&out);
        let end = segment.len();
        assert!(decode(&segment, STAMP, 64, Some(9)).is_err(), "no room is left for the end of the segment");
        segment.extend_from_slice(&[0; HEADER_BYTES]);
        let record = decode(&segment, STAMP, 64, Some(9)).expect("intact").expect("a record");
        assert_eq!(record.check_payloads(&segment), Ok(()));
        assert_eq!((record.group, record.durable, record.end as usize), (GroupId(5), 64, end));
        let Body::Append { after, rows } = record.body else { panic!("{:?}", record.body) };
        assert_eq!((after, rows.iter().collect()), (LogIndex(7), placed.clone()));
        let (_, last) = placed[2];
        assert_eq!(&segment[last.offset as usize..][..last.length as usize], b"three");
    }
}
