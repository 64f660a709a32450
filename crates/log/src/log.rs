//! The log: appends records to segments, makes them durable, reads entries back.
//!
//! Owns the segments, the place where writing goes on, and the rule that a failure of storage is final. Has no thread
//! and no queue: one owner calls it. Must not know what a term or a vote is for.

use self::room::For;
use crate::aligned::AlignedBytes;
use crate::damage;
use crate::disk::Disk;
use crate::encode::Encoder;
use crate::error::{Failure, OpenError, WriteError};
pub use crate::identity::Identity;
use crate::index::{Cursor, Group, Index};
use crate::record::{Entry, NOTE_BYTES_MAX, Write};
use crate::recover::{Found, Recovered};
use crate::scan::Tail;
use crate::segment::{
    self, FILL_BYTES, FIRST_RECORD, PAGE_BYTES, SECTOR_BYTES, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, Segment,
};
use std::collections::VecDeque;
use vlot_raft::id::{GroupId, LogIndex};

mod read;
mod room;
mod start;
pub mod tidy;

/// How much one call of [`Log::write`] may hold, in bytes as written: payloads and about 16 bytes for each of them.
pub const WRITE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// A write of this many bytes or more is not preceded by a layer of zeros: it would pay for them twice.
const LARGE_WRITE_BYTES: u32 = 64 * 1024;
/// What the buffer for writes may keep from one call to the next.
const BUFFER_BYTES_KEPT: usize = 4 * 1024 * 1024;

/// What can be chosen.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long a segment is, in bytes; rounded up to 4 KiB, at least 8 KiB, at most 1 GiB. A single write that needs
    /// more gets a longer one.
    pub segment_bytes: u32,
    /// Which payloads the owner wants to see again when the log is opened, as [`GroupState::kept`]. They are gathered
    /// while the log is read, which is read once. None by default.
    ///
    /// [`GroupState::kept`]: crate::index::GroupState::kept
    pub keep: fn(&[u8]) -> bool,
    /// How much that is not needed any more may stay on disk beside as much again as is needed, in bytes; at least the
    /// length of a segment. See [`Log::tidy`] for the bound that it gives. Less takes less space, and more is written
    /// again to free it.
    pub slack_bytes: u64,
    /// Damage to what was durable is reported as [`Recovered::damaged`] and not refused. An owner that sets this answers for
    /// what follows: see [`Damage`](crate::damage::Damage). Off by default.
    pub accept_damage: bool,
    /// Only damage to the payloads of entries ([`Damage::Entries`](crate::damage::Damage::Entries)) is reported and not
    /// refused: what the log is, which entries it has, and all votes are known. Nothing is cut. Off by default.
    pub accept_damaged_entries: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 32 * 1024 * 1024,
            keep: |_| false,
            slack_bytes: 256 * 1024 * 1024,
            accept_damage: false,
            accept_damaged_entries: false,
        }
    }
}

/// The write-ahead log of one node.
///
/// Invariant: `durable <= tail.offset` in the last of `segments`, and all segments before it are durable.
#[derive(Debug)]
pub struct Log<D: Disk> {
    disk: D,
    identity: Identity,
    segment_bytes: u32,
    slack_bytes: u64,
    index: Index,
    /// Never empty and without a gap. Writing goes on in the last.
    segments: VecDeque<Segment<D::File>>,
    /// The one that comes next, if it is made already.
    spare: Option<Segment<D::File>>,
    tail: Tail,
    durable: u32,
    /// The end of a vote that no record seals that is far enough away.
    vote_end: Option<u32>,
    /// Where the last segment's records ended when a mark was put on the next page, if one may be there.
    marked: u32,
    /// Whether there was no space for the last segment that was to be made.
    is_full: bool,
    /// What the sector has in which the records end, in front of their end: it is written again with what comes next, so that
    /// each write is of whole sectors.
    begun_sector: Vec<u8>,
    buffer: AlignedBytes,
    /// Bytes of records that were written since it was opened.
    written: u64,
    /// In which segment the search for what is needed is under way, and how far it has come.
    search: (u32, Cursor),
    /// Files of segments that were dropped, whose space is given back by and by.
    pending_delete: VecDeque<Segment<D::File>>,
    failed: Option<Failure>,
}

impl<D: Disk> Log<D> {
    /// Opens the log in a directory, or begins one if there is none.
    ///
    /// What is reported as recovered is durable: the end of the log, which may never have reached the disk although it
    /// can be read, has been written again, and marked, so that nothing that stands behind it becomes a part of it.
    ///
    /// # Errors
    /// If the log is another's, is damaged, or storage fails. See [`OpenError`].
    pub fn open(mut disk: D, identity: Identity, options: Options) -> Result<(Self, Recovered), OpenError> {
        let segment_bytes =
            options.segment_bytes.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX).next_multiple_of(FIRST_RECORD);
        let (found, is_new) = match start::find(&mut disk, identity, segment_bytes, options)? {
            Some(found) => (found, false),
            None => {
                let first = segment::create(&mut disk, identity, 1, segment_bytes)?;
                (Found::new(first, damage::noted(&mut disk)?), true)
            }
        };
        // Which records were votes is not known here. One mark more does no harm.
        let vote_end = found.wrote_something().then_some(found.tail.offset);
        let mut log = Self {
            disk,
            identity,
            segment_bytes,
            slack_bytes: options.slack_bytes.max(u64::from(segment_bytes)),
            index: found.index,
            segments: found.segments,
            spare: found.spare,
            tail: found.tail,
            durable: found.tail.offset,
            vote_end,
            marked: found.tail.offset,
            is_full: false,
            begun_sector: Vec::new(),
            buffer: AlignedBytes::default(),
            written: 0,
            search: (0, Cursor::default()),
            pending_delete: VecDeque::new(),
            failed: None,
        };
        if !is_new {
            log.read_begun_sector()?;
            log.take_over(&found.recovered)?;
        }
        log.settle(&found.cut, found.lacks_first_segment)?;
        Ok((log, found.recovered))
    }

    /// Writes, in order, and makes nothing durable: that is [`Log::sync`]. If power is lost before it, a first part of
    /// these writes has happened, each as a whole.
    ///
    /// When the disk is full, a call without entries, of votes and begins alone, still finds room that is held back for
    /// it: 2 MiB, or a quarter of a segment if that is less. A host that is refused for want of space leaves out the
    /// appends and goes on; reads are not affected. Once there is space, the next call finds it.
    ///
    /// # Errors
    /// [`WriteError::Failed`] is final. After any other nothing has been written, and the log is as it was.
    ///
    /// # Panics
    /// If entries do not follow `after` one by one, if there is no entry at `after`, or if a term is before that of the
    /// entry before it: the log would hold what it would have to refuse when it is opened. Also if a log is to begin
    /// after an entry of another term than the one after which it begins, or of an earlier one; or if an entry that is
    /// to be written again is not in the log.
    pub fn write(&mut self, writes: &[Write]) -> Result<(), WriteError> {
        self.write_for(For::writes(writes), writes)
    }

    fn write_for(&mut self, what: For, writes: &[Write]) -> Result<(), WriteError> {
        self.refuse_if_failed()?;
        refuse_long_notes(writes)?;
        let bytes: u64 = writes.iter().map(Write::record_bytes).sum();
        if bytes > WRITE_BYTES_MAX {
            return Err(WriteError::TooLarge { bytes, bytes_max: WRITE_BYTES_MAX });
        }
        if writes.iter().any(|write| matches!(write, Write::Remove { .. })) {
            self.begin_current_version(bytes, what)?;
        }
        self.make_room_for(bytes, what)?;
        self.reserve(bytes);
        self.encode(|encoder, index| writes.iter().for_each(|write| put(write, encoder, index)));
        self.write_buffer()?;
        if writes.iter().any(|write| matches!(write, Write::Vote { .. })) {
            self.vote_end = Some(self.tail.offset);
        }
        Ok(())
    }

    /// The groups of which there is anything in the log, in order.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.index.groups.keys().copied()
    }

    /// Whether its disk keeps no thread waiting: see [`Disk::is_prompt`].
    #[must_use]
    pub fn is_prompt(&self) -> bool {
        self.disk.is_prompt()
    }

    /// How many bytes of records were written since it was opened, those that it has written again included.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.written
    }

    /// Makes durable everything that was written before. Does nothing if it is already.
    ///
    /// # Errors
    /// [`WriteError::Failed`], which is final.
    pub fn sync(&mut self) -> Result<(), WriteError> {
        self.refuse_if_failed()?;
        if self.durable < self.tail.offset {
            self.sync_last()?;
            self.durable = self.tail.offset;
        }
        Ok(())
    }

    fn sync_last(&mut self) -> Result<(), WriteError> {
        let last = self.last();
        let done = self.disk.sync_data(&self.segments[last].file);
        done.map_err(|error| self.fail("sync", self.segments[last].sequence, &error))
    }

    /// Says that all that was damaged and reported is made up for: every group of this node has caught up with what a
    /// quorum has without it. From here on the log is like any other.
    ///
    /// # Errors
    /// [`WriteError::Failed`], which is final.
    pub fn mended(&mut self) -> Result<(), WriteError> {
        self.refuse_if_failed()?;
        damage::forget(&mut self.disk).map_err(|failure| self.keep(failure))
    }

    fn refuse_if_failed(&self) -> Result<(), WriteError> {
        self.failed.clone().map_or(Ok(()), |failure| Err(WriteError::Failed(failure)))
    }

    /// Keeps the failure for good.
    fn fail(&mut self, act: &'static str, sequence: u32, error: &std::io::Error) -> WriteError {
        self.keep(Failure::new(act, self.disk.path(&segment::name(sequence)), error))
    }

    fn fail_dir(&mut self, error: &std::io::Error) -> WriteError {
        self.keep(Failure::new("sync", self.disk.path(""), error))
    }

    fn keep(&mut self, failure: Failure) -> WriteError {
        self.failed = Some(failure.clone());
        WriteError::Failed(failure)
    }

    fn last(&self) -> usize {
        self.segments.len() - 1
    }

    /// Fills the buffer with what is to be written at the tail, behind what the tail's sector has already.
    fn encode(&mut self, records: impl FnOnce(&mut Encoder<'_>, &mut Index)) {
        self.buffer.clear();
        self.buffer.extend_from_slice(&self.begun_sector);
        self.tail.previous = self.encode_at(self.tail_sector(), records);
    }

    /// Finds room in the buffer for records of so many bytes, so that it is not moved while they are added.
    fn reserve(&mut self, bytes: u64) {
        self.buffer.clear();
        // Fits: a write is far shorter than a segment may be. Besides there is a sector that has begun, and the rest of one.
        self.buffer.reserve(bytes as usize + 2 * SECTOR_BYTES as usize);
    }

    /// Where the sector begins in which the records end.
    fn tail_sector(&self) -> u32 {
        self.tail.offset - self.tail.offset % SECTOR_BYTES
    }

    /// Adds records to the buffer, which is for a place of the last segment. Returns the checksum of the last one.
    fn encode_at(&mut self, start: u32, records: impl FnOnce(&mut Encoder<'_>, &mut Index)) -> u32 {
        let segment = &self.segments[self.segments.len() - 1];
        let mut encoder = Encoder {
            out: &mut self.buffer,
            start,
            segment: segment.sequence,
            stamp: segment.stamp,
            durable: self.durable,
            previous: self.tail.previous,
        };
        records(&mut encoder, &mut self.index);
        encoder.previous
    }

    /// Writes the buffer at the tail, with zeros behind it where blocks have never been written.
    fn write_buffer(&mut self) -> Result<(), WriteError> {
        let (start, last) = (self.tail_sector(), self.last());
        let segment = &mut self.segments[last];
        // Fits: the caller has made sure that there is room in the segment.
        let bytes = self.buffer.len() as u32;
        let end = start + bytes;
        if end > segment.filled {
            segment.filled =
                if bytes < LARGE_WRITE_BYTES { end.next_multiple_of(FILL_BYTES).min(segment.bytes) } else { end };
            self.buffer.resize((segment.filled - start) as usize);
        }
        self.write_records_upto(end)
    }

    /// Writes the buffer at the tail. It has records up to this place, and maybe zeros behind them.
    fn write_records_upto(&mut self, end: u32) -> Result<(), WriteError> {
        let (start, last) = (self.tail_sector(), self.last());
        let seals = |vote: u32| self.durable >= vote && self.tail.offset >= vote + PAGE_BYTES;
        self.vote_end = self.vote_end.filter(|&vote| !seals(vote));
        self.fill_sector();
        let done = self.disk.write_sectors(&self.segments[last].file, &self.buffer, u64::from(start));
        let begun = end - end % SECTOR_BYTES;
        self.begun_sector.clear();
        self.begun_sector.extend_from_slice(&self.buffer[(begun - start) as usize..(end - start) as usize]);
        if self.buffer.capacity() > BUFFER_BYTES_KEPT {
            self.buffer = AlignedBytes::default();
        }
        if let Err(error) = done {
            return Err(self.fail("write", self.segments[last].sequence, &error));
        }
        self.written += u64::from(end - self.tail.offset);
        self.tail.offset = end;
        Ok(())
    }

    /// Ends the buffer with a sector, of which the rest is zeros. Nothing that is there is needed: behind the last record stands
    /// no other of this segment, but for a loose mark, which has a sector of its own.
    fn fill_sector(&mut self) {
        self.buffer.resize(self.buffer.len().next_multiple_of(SECTOR_BYTES as usize));
    }

    /// Reads what the sector has in which the records end.
    fn read_begun_sector(&mut self) -> Result<(), Failure> {
        let (start, last) = (self.tail_sector(), self.last());
        self.begun_sector.resize((self.tail.offset - start) as usize, 0);
        let read = self.disk.read_at(&self.segments[last].file, &mut self.begun_sector, u64::from(start));
        let path = || self.disk.path(&segment::name(self.segments[last].sequence));
        read.map_err(|error| Failure::new("read", path(), &error))
    }
}

/// Adds the record of a write to the buffer, and what it does to the index.
fn put(write: &Write, encoder: &mut Encoder<'_>, index: &mut Index) {
    let Index { groups, live } = index;
    match write {
        Write::Vote { group, term, vote } => {
            groups.entry(*group).or_default().save_vote(*term, *vote, encoder.segment, live);
            encoder.vote(*group, *term, *vote);
        }
        Write::Append { group: id, after, entries } => {
            let group = groups.entry(*id).or_default();
            assert_appendable(*id, group, *after, entries);
            group.cut_after(*after, live);
            let mut positions = Vec::with_capacity(entries.len());
            encoder.append(*id, *after, entries, |_, position| positions.push(position));
            group.append(entries, positions, live);
        }
        Write::LogStart { group: id, after, note } => {
            let group = groups.entry(*id).or_default();
            let present = group.entries.runs().after();
            if after.index < present.index {
                return;
            }
            assert!(
                after.term >= present.term && (after.index > present.index || *after == present),
                "group {id}: a log that begins after {present} is to begin after {after}"
            );
            let stays = group.entries.runs().contains(*after);
            let note = encoder.begin_log(*id, *after, stays, note);
            group.begin_after(*after, stays, note, live);
        }
        Write::Rewrite { group: id, entries } => {
            let Some(first) = entries.first() else { return };
            let group = groups.entry(*id).or_default();
            assert_in_log(*id, group, entries);
            encoder.rewrite(*id, first.id.index.prev(), entries, |entry, position| {
                group.place(entry.id.index, position, live);
            });
        }
        Write::Remove { group } => {
            if groups.contains_key(group) {
                index.remove(*group);
                encoder.remove(*group);
            }
        }
    }
}

fn refuse_long_notes(writes: &[Write]) -> Result<(), WriteError> {
    for write in writes {
        if let Write::LogStart { group, note, .. } = write
            && note.len() > NOTE_BYTES_MAX
        {
            return Err(WriteError::NoteTooLong { group: *group, bytes: note.len(), bytes_max: NOTE_BYTES_MAX });
        }
    }
    Ok(())
}

fn assert_appendable(id: GroupId, group: &Group, after: LogIndex, entries: &[Entry]) {
    if let Err(flaw) = group.entries.check(after, entries.iter().map(|entry| entry.id.term)) {
        panic!("group {id}: {flaw}");
    }
    assert_one_by_one(id, after, entries);
}

fn assert_in_log(id: GroupId, group: &Group, entries: &[Entry]) {
    let runs = group.entries.runs();
    for entry in entries {
        let is_there = entry.id.index > runs.after().index && runs.contains(entry.id);
        assert!(is_there, "group {id}: {} is to be written again, and is not in the log", entry.id);
    }
    assert_one_by_one(id, entries[0].id.index.prev(), entries);
}

fn assert_one_by_one(id: GroupId, after: LogIndex, entries: &[Entry]) {
    let mut expected = after;
    for entry in entries {
        expected = expected.next();
        assert_eq!(entry.id.index, expected, "group {id}: entries follow {after} one by one");
    }
}
