//! A log that is looked at and left alone: what is written in it, and whether a node could open it.
//!
//! Owns how a person sees a log. Judges with the code that opens one (`recover.rs`), so that both find the same. Nothing
//! is written and nothing is locked: the log of a running node may be looked at, and that node does not notice. What is
//! seen of it is what it was at some moment; a write that is under way looks like a torn tail.

use crate::decode::{Body, Rows, decode, headers, later_record_seals};
use crate::disk::Disk;
use crate::disk::read_only::ReadOnlyDisk;
use crate::layout::{ALIGN, Stamp};
use crate::recover::{Manner, list, read, survey};
use crate::scan::{Rest, rest};
use crate::segment::{self, FIRST_RECORD, PAGE_BYTES};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};

pub use crate::damage::Damage;
pub use crate::error::{Flaw, OpenError};
pub use crate::identity::Identity;
pub use crate::index::GroupState;
pub use crate::recover::TornTail;

/// A log is looked at so often until damage is found twice at one place. Once is not enough: a segment takes a moment to
/// read, and a node that writes to it meanwhile makes its end look older than what comes after, or uses its file again.
const LOOKS_MAX: usize = 32;

/// Where the log of a directory lies: in it, or in the folder in it that has this name. `None` if there is no log.
///
/// # Errors
/// If the directory cannot be read.
pub fn find(dir: &Path, folder: &str) -> Result<Option<PathBuf>, OpenError> {
    if is_log(dir)? {
        return Ok(Some(dir.to_owned()));
    }
    let within = dir.join(folder);
    Ok((within.is_dir() && is_log(&within)?).then_some(within))
}

fn is_log(dir: &Path) -> Result<bool, OpenError> {
    let names = list(&mut ReadOnlyDisk::new(dir.to_owned()))?;
    Ok(names.iter().any(|name| segment::sequence_of(name).is_some() || name == crate::damage::NOTE))
}

/// What opening a log would find.
#[derive(Debug)]
pub struct Judgement {
    /// All segments that are read, in order.
    pub segments: Vec<SegmentSizes>,
    /// Each group of which there is a record, and that was not removed.
    pub groups: BTreeMap<GroupId, GroupSizes>,
    /// What would be cut off at the end. It is no damage: no record seals it.
    pub torn: Option<TornTail>,
    /// What is damaged, of a log that can still be opened by an owner that accepts damage.
    pub damaged: Vec<Damage>,
    /// The first record whose entries are damaged and in no group's log any more. An owner that accepts damage is not told
    /// of it; any other is refused.
    pub outlived: Option<Outlived>,
}

/// A place with damage that no reader will meet: what was there has left the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outlived {
    /// The segment.
    pub file: PathBuf,
    /// Where in it the record is, in bytes.
    pub offset: u64,
    /// What is wrong there.
    pub flaw: Flaw,
}

/// How much there is of one segment.
#[derive(Clone, Copy, Debug)]
pub struct SegmentSizes {
    /// Which one.
    pub sequence: u32,
    /// How long the file is.
    pub bytes: u32,
    /// How long its records are together.
    pub record_bytes: u32,
    /// How much of it is needed, each thing reckoned as a record of its own.
    pub live_bytes: u64,
}

/// How much there is of one group.
#[derive(Clone, Debug)]
pub struct GroupSizes {
    /// Its term, its vote and its log.
    pub state: GroupState,
    /// How long the payloads of its log are together.
    pub payload_bytes: u64,
}

/// Judges a log as opening it would by an owner that accepts damaged entries, and leaves it as it is.
///
/// # Errors
/// As opening it does. [`OpenError::Corrupt`] and [`OpenError::Missing`] mean that what comes after cannot be told.
pub fn judge(dir: &Path) -> Result<Judgement, OpenError> {
    let mut before = None;
    for _ in 1..LOOKS_MAX {
        let found = judge_once(dir);
        let damage = match &found {
            Ok(judgement) if judgement.damaged.is_empty() && judgement.outlived.is_none() => return found,
            Ok(judgement) => format!("{:?} {:?}", judgement.damaged, judgement.outlived),
            // A node that runs has dropped it meanwhile.
            Err(OpenError::Corrupt { file, .. }) if !file.exists() => continue,
            Err(refusal) => refusal.to_string(),
        };
        if before.replace(damage.clone()) == Some(damage) {
            return found;
        }
    }
    judge_once(dir)
}

/// Reads strictly first. If that is refused, what an owner that accepts damage is told. What it is not told of is in no
/// group's log any more.
fn judge_once(dir: &Path) -> Result<Judgement, OpenError> {
    match read_all(dir, false) {
        Err(OpenError::Corrupt { file, offset, flaw }) => {
            let judgement = read_all(dir, true)?;
            let outlived = judgement.damaged.is_empty().then_some(Outlived { file, offset, flaw });
            Ok(Judgement { outlived, ..judgement })
        }
        done => done,
    }
}

fn read_all(dir: &Path, accept_damage: bool) -> Result<Judgement, OpenError> {
    let mut disk = ReadOnlyDisk::new(dir.to_owned());
    let noted = crate::damage::noted(&mut disk)?;
    let names = list(&mut disk)?;
    let mut judgement = Judgement {
        segments: Vec::new(),
        groups: BTreeMap::new(),
        torn: None,
        damaged: noted.iter().cloned().collect(),
        outlived: None,
    };
    let Some(survey) = survey(&names) else { return Ok(judgement) };
    let identity = identity_of(&mut disk, survey.all.iter().copied());
    let manner = Manner { keep: |_| false, accept_damage, accept_cuts: accept_damage };
    let read = read(&mut disk, identity, &survey, manner, noted.is_some())?;
    if let Some((flaw, at)) = read.replayed.gap {
        let (file, offset) = (dir.join(segment::name(at.segment)), u64::from(at.payload.offset));
        judgement.damaged.push(Damage::Rest { file, offset, flaw });
    }
    judgement.damaged.extend(read.replayed.damaged.iter().map(|damaged| damaged.report(&disk)));
    judgement.torn = read.torn;
    let index = &read.replayed.index;
    judgement.segments.extend(read.segments.iter().map(|segment| SegmentSizes {
        sequence: segment.sequence,
        bytes: segment.bytes,
        record_bytes: segment.used - FIRST_RECORD,
        live_bytes: index.live.of(segment.sequence),
    }));
    for (id, state) in read.replayed.states {
        let positions = index.groups[&id].entries.positions();
        let payload_bytes = positions.map(|position| u64::from(position.payload.length)).sum();
        judgement.groups.insert(id, GroupSizes { state, payload_bytes });
    }
    Ok(judgement)
}

/// The node whose log it is, by the first segment that says so.
fn identity_of(disk: &mut ReadOnlyDisk, mut segments: impl Iterator<Item = u32>) -> Identity {
    let unknown = Identity { cluster: 0, node: NodeId(0) };
    segments.find_map(|sequence| segment::identity_of(disk, sequence)).unwrap_or(unknown)
}

/// Something that is met on the way through a log.
#[derive(Debug)]
pub enum Sight<'a> {
    /// A segment. Its records come next.
    Segment {
        /// Which one.
        sequence: u32,
        /// How long it is.
        bytes: u32,
        /// The node whose log it is part of.
        identity: Identity,
    },
    /// A segment that is not as it should be as a whole. Records in it that can be told come next.
    Refused {
        /// Which one.
        sequence: u32,
        /// Why.
        refusal: &'a OpenError,
    },
    /// A record.
    Record(Record<'a>),
    /// Bytes that are no record where there should be one: damage, or the remains of a write that was cut short.
    Unreadable {
        /// In which segment.
        sequence: u32,
        /// From where on.
        offset: u32,
        /// Up to where, as far as can be told: the next record, or the end of what was meant to be one.
        upto: u32,
        /// What is wrong there.
        flaw: Flaw,
    },
}

/// A record as it is written.
#[derive(Debug)]
pub struct Record<'a> {
    /// In which segment.
    pub sequence: u32,
    /// Where in it.
    pub offset: u32,
    /// How long it is.
    pub bytes: u32,
    /// Everything before this offset of the segment was known to be durable when it was written.
    pub durable: u32,
    /// What it says.
    pub what: What<'a>,
}

/// What a record says; `docs/disk-format.md` has what each means.
#[derive(Debug)]
pub enum What<'a> {
    /// A term and the vote in it.
    Vote {
        /// The group.
        group: GroupId,
        /// The term.
        term: Term,
        /// The vote in this term.
        vote: Option<NodeId>,
    },
    /// The group's log is cut after an index, and entries are added.
    Append {
        /// The group.
        group: GroupId,
        /// The last entry that stays.
        after: LogIndex,
        /// What follows it.
        entries: Vec<WrittenEntry<'a>>,
    },
    /// The group's log begins after an entry.
    LogStart {
        /// The group.
        group: GroupId,
        /// The last entry that is not in the log.
        after: LogId,
        /// Whether what follows it stays.
        stays: bool,
        /// The owner's own bytes.
        note: &'a [u8],
    },
    /// Entries that are in the log, once more.
    Rewrite {
        /// The group.
        group: GroupId,
        /// The entries.
        entries: Vec<WrittenEntry<'a>>,
    },
    /// The group is gone.
    Remove {
        /// Which.
        group: GroupId,
    },
    /// Segments before this one are not needed.
    FirstSegment {
        /// Its sequence number.
        oldest: u32,
    },
    /// Nothing but what every record says.
    Mark,
    /// There is a next segment.
    End,
}

/// An entry in a record.
#[derive(Debug)]
pub struct WrittenEntry<'a> {
    /// Its name.
    pub id: LogId,
    /// Where its payload is in the segment.
    pub offset: u32,
    /// Its bytes.
    pub payload: &'a [u8],
    /// What is wrong with them.
    pub flaw: Option<Flaw>,
}

/// Goes through all that is written in a log, and on behind what cannot be read, until `see` breaks off.
///
/// # Errors
/// If the system refuses to read. What is wrong with the bytes is seen instead.
pub fn walk(dir: &Path, see: &mut dyn FnMut(Sight<'_>) -> ControlFlow<()>) -> Result<(), OpenError> {
    let mut disk = ReadOnlyDisk::new(dir.to_owned());
    let Some(survey) = survey(&list(&mut disk)?) else { return Ok(()) };
    let identity = identity_of(&mut disk, survey.all.iter().copied());
    let mut bytes = Vec::new();
    for sequence in survey.all {
        let mut opened = segment::open(&mut disk, identity, sequence, &mut bytes);
        if let Err(OpenError::Io(failure)) = &opened
            && failure.kind == ErrorKind::UnexpectedEof
        {
            // A node that runs has put another file in its place and cuts this one short.
            opened = segment::open(&mut disk, identity, sequence, &mut bytes);
        }
        // A node that runs has dropped it since the directory was read, and may have used it again while it was read.
        if disk.open(&segment::name(sequence)).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            continue;
        }
        let stamp = match opened {
            Ok(segment) => {
                if see(Sight::Segment { sequence, bytes: segment.bytes, identity }).is_break() {
                    return Ok(());
                }
                segment.stamp
            }
            Err(OpenError::Io(failure)) => return Err(OpenError::Io(failure)),
            Err(refusal) => {
                if see(Sight::Refused { sequence, refusal: &refusal }).is_break() {
                    return Ok(());
                }
                segment::read_leniently(&mut disk, sequence, &mut bytes);
                // Without it no record can be told from other bytes.
                let Some(stamp) = segment::stamp_of(&bytes) else { continue };
                stamp
            }
        };
        let is_followed = segment::holds_something(&mut disk, sequence.saturating_add(1));
        if walk_segment(&bytes, sequence, stamp, is_followed, see).is_break() {
            return Ok(());
        }
    }
    Ok(())
}

fn walk_segment(
    bytes: &[u8],
    sequence: u32,
    stamp: Stamp,
    is_followed: bool,
    see: &mut dyn FnMut(Sight<'_>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut offset = FIRST_RECORD;
    let mut previous = None;
    loop {
        let flaw = match decode(bytes, stamp, offset, previous) {
            Ok(Some(record)) => {
                let what = What::of(&record, bytes);
                let (end, is_end) = (record.end, matches!(what, What::End));
                see(Sight::Record(Record { sequence, offset, bytes: end - offset, durable: record.durable, what }))?;
                if is_end {
                    return ControlFlow::Continue(());
                }
                (offset, previous) = (end, Some(record.crc));
                continue;
            }
            Ok(None) => Flaw::Missing,
            Err(flaw) => flaw,
        };
        let next = headers(bytes, stamp, offset + ALIGN as u32).next().map(|(at, _)| at);
        let may_be_mark = next.is_none_or(|next| next == offset.next_multiple_of(PAGE_BYTES));
        let upto = match (next, may_be_mark.then(|| rest(bytes, stamp, offset, previous))) {
            // What it says is told as of a record.
            (_, Some(Rest::Mark(mark))) if !later_record_seals(bytes, stamp, offset) => {
                (offset, previous) = (mark, None);
                continue;
            }
            (Some(next), _) => next,
            (None, Some(Rest::Remains { upto })) => upto,
            // It has no end, and there is more behind it.
            (None, _) if is_followed => bytes.len() as u32,
            (None, _) => return ControlFlow::Continue(()),
        };
        see(Sight::Unreadable { sequence, offset, upto, flaw })?;
        let Some(next) = next else { return ControlFlow::Continue(()) };
        (offset, previous) = (next, None);
    }
}

impl<'a> What<'a> {
    fn of(record: &crate::decode::Record<'a>, bytes: &'a [u8]) -> Self {
        let group = record.group;
        match record.body {
            Body::Vote { term, vote } => Self::Vote { group, term, vote },
            Body::Append { after, rows } => Self::Append { group, after, entries: written(after, rows, bytes) },
            Body::LogStart { after, stays, note } => Self::LogStart { group, after, stays, note: note.bytes },
            Body::Rewrite { after, rows } => Self::Rewrite { group, entries: written(after, rows, bytes) },
            Body::Remove => Self::Remove { group },
            Body::FirstSegment { oldest } => Self::FirstSegment { oldest },
            Body::Mark => Self::Mark,
            Body::End => Self::End,
        }
    }
}

fn written<'a>(after: LogIndex, rows: Rows<'a>, bytes: &'a [u8]) -> Vec<WrittenEntry<'a>> {
    let mut index = after;
    let entry = |(term, payload): (Term, crate::layout::Payload)| {
        index = index.next();
        let found = payload.of(bytes);
        let flaw = payload.check(found).err();
        WrittenEntry { id: LogId { term, index }, offset: payload.offset, payload: found, flaw }
    };
    rows.iter().map(entry).collect()
}

/// The name of a segment.
#[must_use]
pub fn name(sequence: u32) -> String {
    segment::name(sequence)
}
