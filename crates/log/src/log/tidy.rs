//! Space comes back: segments that hold nothing that is needed are dropped, or used again.
//!
//! Owns the choice of what is written again so that an old segment may go, and the order in which that is safe. Segments
//! are dropped from the oldest on, so that those that are left are the end of the log. What keeps one is each group's
//! newest vote and begin and the entries of its log.

use super::Log;
use super::room::For;
use crate::disk::Disk;
use crate::encode::{first_segment_bytes, mark_bytes};
use crate::error::{ReadError, TidyError, WriteError};
use crate::index::{Cursor, Needed};
use crate::record::Write;
use crate::segment::{self, FIRST_RECORD, NotCreated, PAGE_BYTES, Segment};
use bytes::Bytes;
use vlot_raft::id::GroupId;

/// How much one call of [`Log::tidy`] writes again, if it is more than one thing.
const REWRITE_BYTES: u64 = 1024 * 1024;
/// How much has to become free for what is written again, so that it is done although there is not too much.
const FREED_FOR_REWRITTEN: u64 = 32;
/// How many entries one call looks at.
const LOOK_ENTRIES: usize = 1 << 20;
/// How much of a dropped segment's space one call gives back. A file system takes a few milliseconds for it.
const GIVE_BACK_BYTES: u32 = 8 * 1024 * 1024;
/// How many segments one call drops.
const DROP_SEGMENTS: usize = 16;

/// What one call of [`Log::tidy`] has done.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tidied {
    /// How many segments were dropped.
    pub segments_dropped: usize,
    /// How many bytes were written again, as records.
    pub bytes_rewritten: u64,
    /// Whether another call would do more.
    pub more: bool,
}

/// How much there is of a log.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sizes {
    /// How many segments there are, with the one that is made ahead.
    pub segments: usize,
    /// How long they are together, with what is left of those that were dropped.
    pub disk_bytes: u64,
    /// How long the records in them are together.
    pub record_bytes: u64,
    /// How much of it is needed: votes, begins and entries, each reckoned as a record of its own. May be more than
    /// `record_bytes`, because entries that are written together take less.
    pub live_bytes: u64,
}

impl<D: Disk> Log<D> {
    /// Frees space, a bounded piece of work at a time: a few milliseconds, beside a handful of syncs at most.
    ///
    /// Segments at the beginning of the log that hold nothing that is needed are dropped. One becomes the next that will be
    /// written to, if there is none yet or that is new; the space of the others is given back by 8 MiB a call. If there is
    /// none, and more is on disk than there should be, what is needed in the oldest is written again at the end, about 1 MiB
    /// of it, and made durable. And if the last vote could be mistaken for a torn tail if it were damaged, there is a
    /// [`Log::seal`].
    ///
    /// When this says that there is no more to do, the records in all segments but the last have at most
    /// `2 * live_bytes + slack_bytes` together (see [`Sizes`] and [`Options::slack_bytes`]), and these segments are at most
    /// `32 * live_bytes` and 133 KiB long: a vote alone does not keep them. Segments take more than their records: 4 KiB, and at the end
    /// what the next write did not fit into. To keep that bound while the log is written to, a host calls this at least once
    /// for each MiB that it writes, and better when nothing waits for it.
    ///
    /// [`Options::slack_bytes`]: super::Options::slack_bytes
    ///
    /// # Errors
    /// If what is to be written again is damaged, or as for [`Log::write`].
    pub fn tidy(&mut self) -> Result<Tidied, TidyError> {
        self.refuse_if_failed()?;
        if self.vote_end.is_some() {
            match self.seal() {
                // It has to wait: what follows may make room.
                Err(WriteError::NoSpace(_)) => {}
                done => done?,
            }
        }
        self.give_back()?;
        let mut tidied = Tidied::default();
        match self.dead_segments() {
            0 if self.has_too_much() || self.frees_much() => tidied.bytes_rewritten = self.rewrite_live()?,
            0 => {}
            dead => {
                tidied.segments_dropped = dead.min(DROP_SEGMENTS);
                self.drop_segments(tidied.segments_dropped)?;
            }
        }
        tidied.more =
            self.has_too_much() || self.frees_much() || self.dead_segments() > 0 || !self.pending_delete.is_empty();
        Ok(tidied)
    }

    /// How much there is.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        let all = self.segments.iter().chain(&self.spare).chain(&self.pending_delete);
        Sizes {
            segments: self.segments.len() + usize::from(self.spare.is_some()),
            disk_bytes: all.map(|segment| u64::from(segment.bytes)).sum(),
            record_bytes: self.sealed_bytes() + u64::from(self.tail.offset - FIRST_RECORD),
            live_bytes: self.index.live.total(),
        }
    }

    /// How long the records in all segments but the last are together.
    fn sealed_bytes(&self) -> u64 {
        self.segments.iter().take(self.last()).map(|segment| u64::from(segment.used - FIRST_RECORD)).sum()
    }

    fn has_too_much(&self) -> bool {
        // On a full disk there is no slack.
        let slack = if self.is_full { 0 } else { self.slack_bytes };
        self.last() > 0 && self.sealed_bytes() > 2 * self.index.live.total() + slack
    }

    /// Whether little is needed of the oldest segments, however many, beside what is free without them. A vote that is written
    /// again takes a page for the marks behind it, so that all of it is for nothing where segments are short.
    fn frees_much(&self) -> bool {
        let sealed = self.segments.iter().take(self.last());
        let mut sums = sealed.scan((mark_bytes(PAGE_BYTES) + mark_bytes(0), 0), |(live, all), segment| {
            *live += self.index.live.of(segment.sequence);
            *all += u64::from(segment.bytes);
            Some(*live * FREED_FOR_REWRITTEN <= *all)
        });
        sums.any(|is_worth_it| is_worth_it)
    }

    /// How many segments at the beginning hold nothing that is needed.
    fn dead_segments(&self) -> usize {
        let sealed = self.segments.iter().take(self.last());
        sealed.take_while(|segment| self.index.live.of(segment.sequence) == 0).count()
    }

    /// Drops the first segments. What makes them needless may be in records that are not durable, and once a name is
    /// gone nothing tells whether it was needed: so a record says so first, and that is synced.
    fn drop_segments(&mut self, count: usize) -> Result<(), WriteError> {
        let oldest = self.segments[count].sequence;
        self.write_first_segment(oldest)?;
        self.sync()?;
        let wanted = self.wanted_again(count).map(|segment| segment.sequence);
        for segment in self.segments.drain(..count).collect::<Vec<_>>() {
            if wanted == Some(segment.sequence) {
                self.recycle(segment)?;
            } else {
                self.remove(segment)?;
            }
        }
        // A name that came back after a loss of power must not lead to a file that was cut short.
        self.disk.sync_dir().map_err(|error| self.fail_dir(&error))
    }

    /// Which of the first segments should become the next one, if that is not made yet or is new: the one with the most
    /// blocks that have been written.
    fn wanted_again(&self, count: usize) -> Option<&Segment<D::File>> {
        if self.spare.as_ref().is_some_and(|spare| spare.is_recycled) {
            return None;
        }
        let dropped = self.segments.iter().take(count);
        dropped.filter(|segment| segment.bytes == self.segment_bytes).max_by_key(|segment| segment.written())
    }

    /// Makes the next segment of one that is dropped.
    fn recycle(&mut self, dropped: Segment<D::File>) -> Result<(), WriteError> {
        if let Some(spare) = self.spare.take() {
            self.remove(spare)?;
        }
        let sequence = self.segments[self.last()].sequence + 1;
        match segment::recycle(&mut self.disk, self.identity, dropped, sequence) {
            Ok(recycled) => (self.spare, self.is_full) = (Some(recycled), false),
            // On some file systems to write again takes space. It is given back instead.
            Err(NotCreated::NoSpace(_)) => {}
            Err(NotCreated::Failed(failure)) => return Err(self.keep(failure)),
        }
        Ok(())
    }

    fn remove(&mut self, segment: Segment<D::File>) -> Result<(), WriteError> {
        if let Err(error) = self.disk.remove(&segment::name(segment.sequence)) {
            return Err(self.fail("remove", segment.sequence, &error));
        }
        self.pending_delete.push_back(segment);
        Ok(())
    }

    /// Gives back some space of the segments that were dropped.
    fn give_back(&mut self) -> Result<(), WriteError> {
        let Some(segment) = self.pending_delete.front_mut() else { return Ok(()) };
        segment.bytes = segment.bytes.saturating_sub(GIVE_BACK_BYTES);
        let (sequence, left) = (segment.sequence, segment.bytes);
        if let Err(error) = self.disk.shorten(&segment.file, u64::from(left)) {
            return Err(self.fail("shorten", sequence, &error));
        }
        if left == 0 {
            self.pending_delete.pop_front();
        }
        Ok(())
    }

    /// Writes that segments before this one are not needed.
    pub(super) fn write_first_segment(&mut self, oldest: u32) -> Result<(), WriteError> {
        self.make_room_for(first_segment_bytes(), For::Votes)?;
        self.encode(|encoder, _| encoder.first_segment(oldest));
        self.write_buffer()
    }

    /// Writes again a part of what is needed in the oldest segment. Returns how much.
    fn rewrite_live(&mut self) -> Result<u64, TidyError> {
        let oldest = self.segments[0].sequence;
        let from = if self.search.0 == oldest { self.search.1 } else { Cursor::default() };
        // A record may be a large part of a small segment, but then the rest of the segment before is lost.
        let bytes_max = REWRITE_BYTES.min(u64::from(self.segment_bytes) / 16);
        let (needed, cursor) = self.index.needed(oldest, from, bytes_max, LOOK_ENTRIES);
        let writes = needed.into_iter().map(|needed| self.again(needed)).collect::<Result<Vec<_>, _>>()?;
        self.write_for(For::Tidying, &writes)?;
        self.sync()?;
        self.search = (oldest, cursor);
        Ok(writes.iter().map(Write::record_bytes).sum())
    }

    /// The write that puts something where writing goes on, and changes nothing else.
    fn again(&self, needed: Needed) -> Result<Write, TidyError> {
        // Whatever is needed is of a group that is there.
        Ok(match needed {
            Needed::Vote(group) => {
                let state = &self.index.groups[&group];
                Write::Vote { group, term: state.term, vote: state.vote }
            }
            Needed::LogStart(group) => {
                let after = self.index.groups[&group].entries.runs().after();
                Write::LogStart { group, after, note: self.read_note(group)? }
            }
            Needed::Entries { group, after, upto } => {
                Write::Rewrite { group, entries: self.read(group, after, upto, usize::MAX)? }
            }
        })
    }

    fn read_note(&self, group: GroupId) -> Result<Bytes, ReadError> {
        let Some(note) = self.index.groups[&group].note else { return Ok(Bytes::new()) };
        let bytes = self.read_bytes(note.segment, note.payload.offset, note.payload.offset + note.payload.length)?;
        self.check(note, &bytes)?;
        Ok(bytes)
    }
}
