//! Recovery: from segments on disk to what they mean, in one pass.
//!
//! Owns the judgement between a torn tail, which is cut, and damage, which is refused. Knows segments and
//! where records end, and leaves to `replay.rs` what they mean. Recovery is total: a state or a refusal, and never a guess in between.
//!
//! A record is *vouched for* if it is known to have been durable: a later record says so, or a later segment was begun.
//! Only what is vouched for by nothing may be missing or bad, for only that may have been in flight when power was lost.

use crate::decode::{self, Body};
use crate::disk::Disk;
use crate::error::{Failure, Flaw, OpenError};
use crate::identity::Identity;
use crate::index::{Group, GroupState};
use crate::replay::Replay;
use crate::segment::{self, FIRST_RECORD, Segment};
use std::collections::BTreeMap;
use std::path::PathBuf;
use vlot_raft::id::GroupId;

/// How much is read back and written again at once.
const REWRITE_BYTES: usize = 1024 * 1024;

/// What a log held when it was opened.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Recovered {
    /// Each group of which there is a record.
    pub groups: BTreeMap<GroupId, GroupState>,
    /// What was cut off at the end, if anything was.
    pub torn: Option<TornTail>,
}

/// The remains of a write that was never known to be durable. They are gone.
///
/// Damage to the very last records, written after the last that tells of a sync, looks the same.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TornTail {
    /// The segment.
    pub file: PathBuf,
    /// From where on it was cut, in bytes.
    pub offset: u64,
    /// How many bytes lay between there and the last that was not zero.
    pub bytes: u64,
    /// What was wrong with the first record that was cut.
    pub flaw: Flaw,
}

/// A log that was read, and made durable again where there could be doubt.
pub(crate) struct Found<F> {
    pub groups: BTreeMap<GroupId, Group>,
    /// All segments up to the one that is written to, in order; the first has sequence number 1.
    pub segments: Vec<Segment<F>>,
    /// The one after them, created ahead.
    pub spare: Option<Segment<F>>,
    pub tail: Tail,
    /// What the owner is told.
    pub recovered: Recovered,
}

impl<F> Found<F> {
    /// A log that has just begun.
    pub(crate) fn new(first: Segment<F>) -> Self {
        let tail = Tail { offset: FIRST_RECORD, previous: 0 };
        Self { groups: BTreeMap::new(), segments: vec![first], spare: None, tail, recovered: Recovered::default() }
    }
}

/// Where writing goes on in the last segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tail {
    pub offset: u32,
    /// The checksum of the last record, in whichever segment it is.
    pub previous: u32,
}

/// What a segment holds.
struct Scan {
    tail: Tail,
    /// What the last record knew to be durable.
    durable: u32,
    stop: Stop,
}

enum Stop {
    /// The segment says that there is a next one.
    End,
    /// Nothing more is written.
    Blank,
    /// What follows is no record. `upto` is where the segment's last byte is that is not zero.
    Bad { flaw: Flaw, upto: u32 },
}

/// Reads a log. `None` if there is none in the directory.
pub(crate) fn recover<D: Disk>(
    disk: &mut D,
    identity: Identity,
    keep: fn(&[u8]) -> bool,
) -> Result<Option<Found<D::File>>, OpenError> {
    let count = survey(disk)?;
    if count == 0 {
        return Ok(None);
    }
    let mut found = Found {
        groups: BTreeMap::new(),
        segments: Vec::new(),
        spare: None,
        tail: Tail { offset: FIRST_RECORD, previous: 0 },
        recovered: Recovered::default(),
    };
    let mut replay = Replay::new(keep);
    let mut torn = None;
    let mut bytes = Vec::new();
    // The end of a segment is in doubt until a record of the next one is seen.
    let mut doubtful = Vec::new();
    for sequence in 1..=count {
        let segment = segment::open(disk, identity, sequence, &mut bytes)?;
        let path = disk.path(&segment::name(sequence));
        let from = Tail { offset: FIRST_RECORD, previous: found.tail.previous };
        let scan = scan(&bytes, &segment, from, &path, &mut replay)?;
        if scan.tail.offset > FIRST_RECORD {
            doubtful.clear();
        }
        doubtful.push((found.segments.len(), scan.durable, scan.tail.offset));
        found.segments.push(segment);
        found.tail = scan.tail;
        match scan.stop {
            Stop::End if sequence == count => {
                return Err(OpenError::Missing { file: disk.path(&segment::name(count + 1)) });
            }
            Stop::End => {}
            Stop::Blank => {
                found.spare = expect_spare(disk, identity, sequence, count, &path, scan.tail, &mut bytes)?;
                break;
            }
            Stop::Bad { flaw, upto } => {
                found.spare = expect_spare(disk, identity, sequence, count, &path, scan.tail, &mut bytes)?;
                let offset = u64::from(scan.tail.offset);
                torn = Some(TornTail { file: path, offset, bytes: u64::from(upto) - offset, flaw });
                wipe(disk, &found.segments[found.segments.len() - 1], scan.tail.offset, upto)?;
                break;
            }
        }
    }
    for (at, from, upto) in doubtful {
        rewrite(disk, &found.segments[at], from, upto)?;
    }
    let dir = disk.path("");
    disk.sync_dir().map_err(|error| Failure::new("sync", dir, &error))?;
    let (groups, recovered) = replay.finish();
    found.groups = groups;
    found.recovered = Recovered { groups: recovered, torn };
    Ok(Some(found))
}

/// How many segments there are, numbered without a gap from 1. Removes segments that never came to be.
fn survey<D: Disk>(disk: &mut D) -> Result<u32, OpenError> {
    let names = disk.list().map_err(|error| Failure::new("list", disk.path(""), &error))?;
    for name in names.iter().filter(|name| segment::is_unfinished(name)) {
        disk.remove(name).map_err(|error| Failure::new("remove", disk.path(name), &error))?;
    }
    let mut sequences: Vec<u32> = names.iter().filter_map(|name| segment::sequence_of(name)).collect();
    sequences.sort_unstable();
    match (1..).zip(&sequences).find(|&(expected, &found)| expected != found) {
        Some((missing, _)) => Err(OpenError::Missing { file: disk.path(&segment::name(missing)) }),
        None => Ok(sequences.len() as u32),
    }
}

/// Takes in the records of one segment until there are no more.
fn scan<F>(
    bytes: &[u8],
    segment: &Segment<F>,
    mut tail: Tail,
    path: &std::path::Path,
    replay: &mut Replay,
) -> Result<Scan, OpenError> {
    let mut durable = FIRST_RECORD;
    let corrupt = |offset: u32, flaw| OpenError::Corrupt { file: path.to_owned(), offset: u64::from(offset), flaw };
    let flaw = loop {
        match decode::decode(bytes, segment.crc, tail.offset, tail.previous) {
            Ok(Some(record)) => {
                durable = durable.max(record.durable);
                tail.previous = record.crc;
                let offset = std::mem::replace(&mut tail.offset, record.end);
                if let Body::End = record.body {
                    return Ok(Scan { tail, durable, stop: Stop::End });
                }
                // The checksums match, so this is what was written: not a torn write, whatever follows.
                replay.take_in(bytes, segment.sequence, &record).map_err(|flaw| corrupt(offset, flaw))?;
            }
            Ok(None) => break Flaw::Missing,
            Err(flaw) => break flaw,
        }
    };
    let upto = written_upto(bytes, tail.offset);
    if upto == tail.offset {
        return Ok(Scan { tail, durable, stop: Stop::Blank });
    }
    if decode::later_record_vouches(bytes, upto, segment.crc, tail.offset) {
        return Err(corrupt(tail.offset, flaw));
    }
    Ok(Scan { tail, durable, stop: Stop::Bad { flaw, upto } })
}

/// Where the last byte that is not zero ends; `from` if there is none after it.
fn written_upto(bytes: &[u8], from: u32) -> u32 {
    const BLOCK: usize = 4096;
    let rest = bytes.get(from as usize..).unwrap_or_default();
    let full = rest.rchunks(BLOCK).position(|block| *block != [0; BLOCK][..block.len()]);
    let upto = full.map_or(0, |blank| {
        let rest = &rest[..rest.len() - blank * BLOCK];
        rest.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)
    });
    from + upto as u32
}

/// The segment after the last one that is written to must hold nothing, and there must be no more than one: nothing is
/// written to a segment before the end of the one before it is durable.
fn expect_spare<D: Disk>(
    disk: &mut D,
    identity: Identity,
    last: u32,
    count: u32,
    path: &std::path::Path,
    tail: Tail,
    bytes: &mut Vec<u8>,
) -> Result<Option<Segment<D::File>>, OpenError> {
    if last == count {
        return Ok(None);
    }
    let spare = segment::open(disk, identity, last + 1, bytes)?;
    if last + 1 < count || written_upto(bytes, FIRST_RECORD) > FIRST_RECORD {
        let (file, offset) = (path.to_owned(), u64::from(tail.offset));
        return Err(OpenError::Corrupt { file, offset, flaw: Flaw::Missing });
    }
    Ok(Some(spare))
}

/// Puts zeros where the remains of a torn write are, so that no later recovery meets them.
fn wipe<D: Disk>(disk: &mut D, segment: &Segment<D::File>, from: u32, upto: u32) -> Result<(), Failure> {
    let path = disk.path(&segment::name(segment.sequence));
    let zeros = vec![0; REWRITE_BYTES.min((upto - from) as usize)];
    for at in (from..upto).step_by(REWRITE_BYTES) {
        let length = zeros.len().min((upto - at) as usize);
        disk.write_at(&segment.file, &zeros[..length], u64::from(at))
            .map_err(|error| Failure::new("write", path.clone(), &error))?;
    }
    Ok(())
}

/// Writes again what is there and syncs it. What was read may never have reached the disk: after a failed sync the
/// system shows bytes that it has given up writing, and a sync alone would not write them.
fn rewrite<D: Disk>(disk: &mut D, segment: &Segment<D::File>, from: u32, upto: u32) -> Result<(), Failure> {
    let path = disk.path(&segment::name(segment.sequence));
    let mut bytes = vec![0; REWRITE_BYTES.min((upto - from) as usize)];
    for at in (from..upto).step_by(REWRITE_BYTES) {
        let length = bytes.len().min((upto - at) as usize);
        let part = &mut bytes[..length];
        disk.read_at(&segment.file, part, u64::from(at))
            .and_then(|()| disk.write_at(&segment.file, part, u64::from(at)))
            .map_err(|error| Failure::new("rewrite", path.clone(), &error))?;
    }
    disk.sync_data(&segment.file).map_err(|error| Failure::new("sync", path, &error))
}
