//! One segment, from its bytes to what its records mean.
//!
//! Owns the judgement between the remains of a write that was cut short and damage. Knows no other segment, and leaves
//! to `replay.rs` what records mean.
//!
//! A record is *vouched for* if it is known to have been durable: a later record says so, or a later segment was begun.
//! Only what is vouched for by nothing may be missing or bad, for only that may have been in flight when power was
//! lost.

use crate::decode::{Body, Record, decode, later_record_vouches};
use crate::error::{Flaw, OpenError};
use crate::layout::HEADER_BYTES;
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
    /// Nothing more is written, but for a mark.
    Blank,
    /// What follows is no record. `upto` is where the segment's last byte is that is not zero.
    Bad { flaw: Flaw, upto: u32 },
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
    let vouched = |offset| later_record_vouches(bytes, written_upto(bytes, offset), segment.crc, offset);
    let flaw = loop {
        let record = match decode(bytes, segment.crc, tail.offset, previous) {
            Ok(Some(record)) => record,
            Ok(None) => break Flaw::Missing,
            Err(flaw) => break flaw,
        };
        let payloads = record.check_payloads(bytes);
        if let Err(flaw) = payloads
            && !followed.as_mut().is_some_and(|followed| vouched(tail.offset) || followed())
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
    let upto = written_upto(bytes, tail.offset);
    if upto > tail.offset && vouched(tail.offset) {
        return Err(corrupt(tail.offset, flaw));
    }
    if upto == tail.offset || loose_mark(bytes, segment.crc, tail.offset, upto).is_some() {
        return Ok(Scan { tail, durable, stop: Stop::Blank });
    }
    Ok(Scan { tail, durable, stop: Stop::Bad { flaw, upto } })
}

/// Where the mark stands that was put on the next page when there was quiet, if it is all that follows. It continues
/// nothing, and says nothing of what has been written in front of it since.
pub(crate) fn loose_mark(bytes: &[u8], segment_crc: u32, from: u32, upto: u32) -> Option<u32> {
    let place = from.next_multiple_of(PAGE_BYTES);
    let is_last = (place + 1..=place + HEADER_BYTES as u32).contains(&upto);
    let is_alone = is_last && bytes[from as usize..place as usize].iter().all(|&byte| byte == 0);
    let is_mark = |record: Option<Record<'_>>| record.is_some_and(|record| matches!(record.body, Body::Mark));
    (is_alone && decode(bytes, segment_crc, place, None).is_ok_and(is_mark)).then_some(place)
}

/// Where the last byte that is not zero ends; `from` if there is none after it.
pub(crate) fn written_upto(bytes: &[u8], from: u32) -> u32 {
    const BLOCK: usize = 4096;
    let rest = bytes.get(from as usize..).unwrap_or_default();
    let full = rest.rchunks(BLOCK).position(|block| *block != [0; BLOCK][..block.len()]);
    let upto = full.map_or(0, |blank| {
        let rest = &rest[..rest.len() - blank * BLOCK];
        rest.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)
    });
    from + upto as u32
}
