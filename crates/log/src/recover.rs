//! Recovery: from segments on disk to what they mean, in one pass.
//!
//! Owns the order of segments, and which of them are needed. What is in one is for `scan.rs`, and what it means for
//! `replay.rs`. Recovery is total: a state or a refusal, and never a guess in between.

use crate::damage::{self, Damage};
use crate::disk::Disk;
use crate::error::{Failure, Flaw, OpenError};
use crate::identity::Identity;
use crate::index::{GroupState, Index};
use crate::replay::{Replay, Replayed};
use crate::scan::{Rest, Stop, Tail, rest, scan};
use crate::segment::{self, FIRST_RECORD, Segment};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use vlot_raft::id::{GroupId, LogIndex};

/// How much is read back and written again at once.
const REWRITE_BYTES: usize = 1024 * 1024;

/// What a log held when it was opened.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Recovered {
    /// Each group of which there is a record, and that was not removed.
    pub groups: BTreeMap<GroupId, GroupState>,
    /// What was cut off at the end, if anything was.
    pub torn: Option<TornTail>,
    /// What is damaged; always empty unless [`Options`](crate::log::Options) accept damage.
    pub damaged: Vec<Damage>,
}

/// The remains of a write that was never known to be durable. They are no part of the log.
///
/// Damage to the very last records looks the same if nothing seals them: see [`Log::seal`](crate::log::Log::seal).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TornTail {
    /// The segment.
    pub file: PathBuf,
    /// From where on it was cut, in bytes.
    pub offset: u64,
    /// How many bytes lay between there and the end of the last record that can be told to have been meant.
    pub bytes: u64,
    /// What was wrong with the first record that was cut.
    pub flaw: Flaw,
}

/// A log that was read, and made durable again where there could be doubt.
pub(crate) struct Found<F> {
    pub index: Index,
    /// All segments up to the one that is written to, in order.
    pub segments: VecDeque<Segment<F>>,
    /// The one after them, created ahead.
    pub spare: Option<Segment<F>>,
    pub tail: Tail,
    /// What the owner is told.
    pub recovered: Recovered,
    /// Groups of which the end is lost, and where they end now. The log does not say so yet.
    pub cut: Vec<(GroupId, LogIndex)>,
    /// Whether what said that earlier segments are not needed is lost.
    pub lacks_first_segment: bool,
}

impl<F> Found<F> {
    /// A log that has just begun.
    pub(crate) fn new(first: Segment<F>, damage: Option<Damage>) -> Self {
        Self {
            index: Index::default(),
            segments: VecDeque::from([first]),
            spare: None,
            tail: Tail { offset: FIRST_RECORD, previous: 0 },
            recovered: Recovered { damaged: damage.into_iter().collect(), ..Recovered::default() },
            cut: Vec::new(),
            lacks_first_segment: false,
        }
    }

    /// Whether there is any record.
    pub(crate) fn wrote_something(&self) -> bool {
        self.segments.len() > 1 || self.tail.offset > FIRST_RECORD
    }
}

/// All segments, read but not changed.
pub(crate) struct Read<F> {
    pub segments: VecDeque<Segment<F>>,
    spare: Option<Segment<F>>,
    pub tail: Tail,
    /// What is to be cut off at the end.
    pub torn: Option<TornTail>,
    /// Parts of segments, by their place in `segments`, that may not be durable.
    doubtful: Vec<(usize, std::ops::Range<u32>)>,
    /// The first segment that is needed.
    oldest: u32,
    pub replayed: Replayed,
}

/// How a log is to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub keep: fn(&[u8]) -> bool,
    /// Damage to entries is reported and not refused.
    pub accept_damage: bool,
    /// And so is any other, for which the log is cut.
    pub accept_cuts: bool,
}

/// Reads a log. `None` if there is none in the directory.
pub(crate) fn recover<D: Disk>(
    disk: &mut D,
    identity: Identity,
    manner: Manner,
) -> Result<Option<Found<D::File>>, OpenError> {
    let mut noted = damage::noted(disk)?;
    if noted.is_some() && !manner.accept_cuts {
        return Err(OpenError::Damaged { file: disk.path(damage::NOTE) });
    }
    let names = list(disk)?;
    for name in names.iter().filter(|name| segment::is_unfinished(name)) {
        disk.remove(name).map_err(|error| Failure::new("remove", disk.path(name), &error))?;
    }
    let Some(survey) = survey(&names) else { return Ok(None) };
    let Read { mut segments, spare, tail, torn, doubtful, oldest, replayed } =
        read(disk, identity, &survey, manner, noted.is_some())?;
    if let Some((flaw, at)) = replayed.gap {
        let (file, offset) = (disk.path(&segment::name(at.segment)), u64::from(at.payload.offset));
        if !manner.accept_cuts {
            return Err(OpenError::Corrupt { file, offset, flaw });
        }
        if noted.is_none() {
            damage::note(disk, at.segment, at.payload.offset)?;
            noted = Some(Damage::Rest { file, offset, flaw });
        }
    }
    // The record that says that they are not needed comes after all that made them so: they go below.
    if let Some(needed) = replayed.index.live.first().filter(|&needed| needed < oldest) {
        let (file, offset) = (disk.path(&segment::name(needed)), u64::from(FIRST_RECORD));
        let flaw = Flaw::Value { of: "oldest segment", expected: needed.into(), found: oldest.into() };
        return Err(OpenError::Corrupt { file, offset, flaw });
    }
    for (at, range) in doubtful {
        rewrite(disk, &segments[at], range.start, range.end)?;
    }
    let dir = disk.path("");
    disk.sync_dir().map_err(|error| Failure::new("sync", dir, &error))?;
    // What says that they are not needed is durable.
    segments.retain(|segment| segment.sequence >= oldest);
    for sequence in survey.all.range(..oldest) {
        let name = segment::name(*sequence);
        disk.remove(&name).map_err(|error| Failure::new("remove", disk.path(&name), &error))?;
    }
    let entries = replayed.damaged.into_iter().map(|damaged| damaged.report(disk));
    Ok(Some(Found {
        index: replayed.index,
        spare,
        tail,
        recovered: Recovered { groups: replayed.states, torn, damaged: noted.into_iter().chain(entries).collect() },
        cut: replayed.cut,
        lacks_first_segment: oldest < segments[0].sequence,
        segments,
    }))
}

/// Which segments there are.
pub(crate) struct Survey {
    pub all: BTreeSet<u32>,
    /// The log goes from this one to the last without a gap. One before the gap can only be there because it is not
    /// needed and the end of it was lost.
    first: u32,
    last: u32,
}

/// The names of all files.
pub(crate) fn list<D: Disk>(disk: &mut D) -> Result<Vec<String>, Failure> {
    disk.list().map_err(|error| Failure::new("list", disk.path(""), &error))
}

/// Finds the segments among the names of files; `None` if there are none.
pub(crate) fn survey(names: &[String]) -> Option<Survey> {
    let all: BTreeSet<u32> = names.iter().filter_map(|name| segment::sequence_of(name)).collect();
    let last = *all.last()?;
    let first = (0..=last).rev().take_while(|sequence| all.contains(sequence)).last().unwrap_or(last);
    Some(Survey { all, first, last })
}

/// Reads all segments in order, and changes nothing. Segments that are needed may be missing if the log `was_cut` because
/// of damage.
pub(crate) fn read<D: Disk>(
    disk: &mut D,
    identity: Identity,
    survey: &Survey,
    manner: Manner,
    was_cut: bool,
) -> Result<Read<D::File>, OpenError> {
    let mut replay = Replay::new(manner.keep);
    let mut read = Read {
        segments: VecDeque::new(),
        spare: None,
        tail: Tail { offset: FIRST_RECORD, previous: 0 },
        torn: None,
        doubtful: Vec::new(),
        oldest: 0,
        replayed: Replayed::default(),
    };
    let mut bytes = Vec::new();
    for sequence in survey.first..=survey.last {
        let mut segment = segment::open(disk, identity, sequence, &mut bytes)?;
        // The disk is at work on the next one while this one is looked at.
        disk.read_ahead(&segment::name(sequence.saturating_add(1)));
        let path = disk.path(&segment::name(sequence));
        let previous = (sequence == 1 || sequence > survey.first).then_some(read.tail.previous);
        let mut is_followed =
            || sequence + 1 < survey.last || (sequence < survey.last && segment::holds_something(disk, sequence + 1));
        let followed: Option<&mut dyn FnMut() -> bool> =
            if manner.accept_damage { Some(&mut is_followed) } else { None };
        let scan = scan(&bytes, &segment, previous, &path, followed, &mut replay)?;
        segment.used = scan.tail.offset;
        // The end of a segment is in doubt until a record of the next one is seen.
        if scan.tail.offset > FIRST_RECORD {
            read.doubtful.clear();
        }
        read.doubtful.push((read.segments.len(), scan.durable..scan.tail.offset));
        read.segments.push_back(segment);
        read.tail = scan.tail;
        let flaw = match scan.stop {
            Stop::End if sequence == survey.last => {
                return Err(OpenError::Missing { file: disk.path(&segment::name(sequence.saturating_add(1))) });
            }
            Stop::End => continue,
            Stop::Open { flaw, remains } => {
                let offset = u64::from(scan.tail.offset);
                let torn = |upto| TornTail { file: path.clone(), offset, bytes: u64::from(upto) - offset, flaw };
                read.torn = remains.map(torn);
                flaw
            }
        };
        // Nothing is written to a segment before the end of the one before it is durable. So there is at most one more,
        // and it holds nothing.
        if sequence < survey.last {
            let one_more = sequence + 1 == survey.last;
            read.spare = if one_more { open_blank(disk, identity, sequence + 1, &mut bytes)? } else { None };
            if read.spare.is_none() {
                return Err(OpenError::Corrupt { file: path, offset: u64::from(scan.tail.offset), flaw });
            }
        }
        break;
    }
    read.oldest = replay.oldest();
    if read.oldest < survey.first && !was_cut {
        return Err(OpenError::Missing { file: disk.path(&segment::name(survey.first - 1)) });
    }
    read.replayed = replay.finish();
    Ok(read)
}

/// Opens a segment; `None` if it holds a record, or remains of one.
fn open_blank<D: Disk>(
    disk: &mut D,
    identity: Identity,
    sequence: u32,
    bytes: &mut Vec<u8>,
) -> Result<Option<Segment<D::File>>, OpenError> {
    let segment = segment::open(disk, identity, sequence, bytes)?;
    let is_blank = matches!(rest(bytes, segment.stamp, FIRST_RECORD, None), Rest::Nothing);
    Ok(is_blank.then_some(segment))
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
