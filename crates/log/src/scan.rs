//! One segment, from its bytes to what its records mean.
//!
//! Owns the judgement between the remains of a write that was cut short and damage. Knows no other segment, and leaves
//! to `replay.rs` what records mean.
//!
//! A record is *sealed* if it is known to have been durable: a later record says so, or a later segment was begun.
//! Only what is not sealed may be missing or bad, for only that may have been in flight when power was
//! lost.

use crate::decode::{Body, Record, decode, headers, later_record_seals};
use crate::error::{Flaw, OpenError};
use crate::layout::{HEADER_BYTES, Stamp};
use crate::replay::Replay;
use crate::segment::{FIRST_RECORD, PAGE_BYTES, Segment};
use std::path::Path;

/// Where writing goes on in the last segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tail {
    pub offset: u32,
    /// The checksum of the last record, in whichever segment it is.
    pub previous: u32,
}

/// What a segment holds.
pub(crate) struct Scan {
    pub tail: Tail,
    /// What the last record knew to be durable.
    pub durable: u32,
    pub stop: Stop,
}

pub(crate) enum Stop {
    /// The segment says that there is a next one.
    End,
    /// What follows is no record, and no sealed one is missing. Up to where there are `remains` of what was meant to be some.
    Open { flaw: Flaw, remains: Option<u32> },
}

/// Takes in the records of one segment until there are no more.
///
/// `previous` is the checksum of the last record of the segment before, if it is known. Damaged payloads of records that
/// were durable are accepted if `followed` is given: it says whether a later segment holds something.
pub(crate) fn scan<F>(
    bytes: &[u8],
    segment: &Segment<F>,
    mut previous: Option<u32>,
    path: &Path,
    mut followed: Option<&mut dyn FnMut() -> bool>,
    replay: &mut Replay,
) -> Result<Scan, OpenError> {
    let mut tail = Tail { offset: FIRST_RECORD, previous: previous.unwrap_or_default() };
    let mut durable = FIRST_RECORD;
    let corrupt = |offset: u32, flaw| OpenError::Corrupt { file: path.to_owned(), offset: u64::from(offset), flaw };
    let is_sealed = |offset| later_record_seals(bytes, segment.stamp, offset);
    let flaw = loop {
        let record = match decode(bytes, segment.stamp, tail.offset, previous) {
            Ok(Some(record)) => record,
            Ok(None) => break Flaw::Missing,
            Err(flaw) => break flaw,
        };
        let payloads = record.check_payloads(bytes);
        if let Err(flaw) = payloads
            && !followed.as_mut().is_some_and(|followed| is_sealed(tail.offset) || followed())
        {
            break flaw;
        }
        durable = durable.max(record.durable);
        (tail.previous, previous) = (record.crc, Some(record.crc));
        let offset = std::mem::replace(&mut tail.offset, record.end);
        if let Body::End = record.body {
            return Ok(Scan { tail, durable, stop: Stop::End });
        }
        // The checksums match, so this is what was written: not a torn write, whatever follows.
        replay.take_in(bytes, segment.sequence, &record, payloads.is_err()).map_err(|flaw| corrupt(offset, flaw))?;
    };
    if is_sealed(tail.offset) {
        return Err(corrupt(tail.offset, flaw));
    }
    let remains = match rest(bytes, segment.stamp, tail.offset, previous) {
        Rest::Nothing | Rest::Mark(_) => None,
        Rest::Remains { upto } => Some(upto),
    };
    Ok(Scan { tail, durable, stop: Stop::Open { flaw, remains } })
}

/// What follows the last record that is intact.
pub(crate) enum Rest {
    /// Nothing that was written since the segment was made.
    Nothing,
    /// The mark that was put on the next page when there was quiet, here. It continues nothing, and says nothing of what has
    /// been written in front of it since.
    Mark(u32),
    /// Something that was meant to be a record.
    Remains {
        /// Where the last such thing ends.
        upto: u32,
    },
}

/// Tells what follows the last record, of which `previous` is the checksum, if it is known, and which ends at `from`.
///
/// What stands there of an earlier life of the file is nothing, whatever it is. The remains of a torn write are told by the
/// headers in them: without one no record can come of them.
pub(crate) fn rest(bytes: &[u8], stamp: Stamp, from: u32, previous: Option<u32>) -> Rest {
    let next_page = from.next_multiple_of(PAGE_BYTES);
    let first = bytes.get(from as usize..from as usize + HEADER_BYTES);
    let is_begun = first.is_some_and(|first| stamp.is_on(first, previous));
    let mut upto = if is_begun { from + HEADER_BYTES as u32 } else { from };
    let mut mark = None;
    let mut is_more = is_begun && from != next_page;
    for (at, header) in headers(bytes, stamp, from) {
        let end = u64::from(at) + HEADER_BYTES as u64 + u64::from(header.length);
        // Offsets in a segment have 32 bits.
        upto = upto.max(end.min(bytes.len() as u64) as u32);
        if at == next_page && header.length == 0 && is_mark(bytes, stamp, at) {
            mark = Some(at);
        } else {
            is_more = true;
        }
    }
    match mark {
        Some(mark) if !is_more => Rest::Mark(mark),
        _ if upto == from => Rest::Nothing,
        _ => Rest::Remains { upto },
    }
}

fn is_mark(bytes: &[u8], stamp: Stamp, at: u32) -> bool {
    matches!(decode(bytes, stamp, at, None), Ok(Some(Record { body: Body::Mark, .. })))
}
