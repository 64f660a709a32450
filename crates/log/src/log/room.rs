//! Room for what is to be written: segments come to be, and some room is held back for when the disk is full.
//!
//! Owns the step from one segment to the next. Must not know what is written.
//!
//! A vote or a begin is needed most when there is no space: without votes there is no leader, and it is the begin that
//! frees space. So an append is refused if neither another segment can be made nor enough room is left for them.

use super::Log;
use crate::disk::Disk;
use crate::encode::mark_bytes;
use crate::error::WriteError;
use crate::layout::HEADER_BYTES;
use crate::record::Write;
use crate::segment::{self, FIRST_RECORD, NotCreated, PAGE_BYTES};

/// How much room is held back, if that is not too much of a segment.
const RESERVE_BYTES: u32 = 2 * 1024 * 1024;

/// For what room is wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum For {
    /// Entries: what is held back is not for them.
    Entries,
    /// What frees a segment: half of it is.
    Tidying,
    /// Votes and begins: all of it is.
    Votes,
}

impl For {
    pub(super) fn writes(writes: &[Write]) -> Self {
        let adds = |write: &Write| match write {
            Write::Append { entries, .. } | Write::Rewrite { entries, .. } => !entries.is_empty(),
            Write::Vote { .. } | Write::LogStart { .. } | Write::Remove { .. } => false,
        };
        if writes.iter().any(adds) { Self::Entries } else { Self::Votes }
    }
}

impl<D: Disk> Log<D> {
    /// Makes the next segment ahead of time once the last one is half full. Takes a few milliseconds then, which would
    /// otherwise be spent in a later [`Log::write`]: a host calls this when nothing waits for it.
    ///
    /// # Errors
    /// [`WriteError::NoSpace`] passes; [`WriteError::Failed`] is final.
    pub fn prepare(&mut self) -> Result<(), WriteError> {
        self.refuse_if_failed()?;
        if self.spare.is_some() || self.tail.offset < self.segments[self.last()].bytes / 2 {
            return Ok(());
        }
        self.create_spare(self.segment_bytes)
    }

    /// Makes everything durable, and leaves a mark that says so, so far away that one damaged page does not take both. Then
    /// damage to what was written before is never mistaken for a torn tail. A host calls this when nothing has come for a
    /// while, and before it stops: while there is work, each write says the same of those before it.
    ///
    /// For a vote the mark is a part of the log, and durable. For anything else it takes no room, for the next write may go
    /// over it, and no sync of its own: a loss of power before the system has written it leaves things as they would be
    /// without it.
    ///
    /// # Errors
    /// As for [`Log::write`] and [`Log::sync`].
    pub fn seal(&mut self) -> Result<(), WriteError> {
        self.sync()?;
        if self.vote_end.is_none() {
            if [FIRST_RECORD, self.marked].contains(&self.tail.offset) {
                return Ok(());
            }
            let next_page = self.tail.offset.next_multiple_of(PAGE_BYTES);
            if next_page < self.segments[self.last()].bytes {
                return self.mark_loosely(next_page);
            }
        }
        let bytes = mark_bytes(PAGE_BYTES) + mark_bytes(0);
        if self.has_room_for(bytes) {
            self.make_room_for(bytes, For::Entries)?;
            self.encode(|encoder, _| {
                encoder.mark(PAGE_BYTES);
                encoder.mark(0);
            });
        } else {
            // Another segment is far enough away.
            self.make_room_in_next_for(mark_bytes(0), For::Entries)?;
            self.encode(|encoder, _| encoder.mark(0));
        }
        self.write_buffer()?;
        self.sync()?;
        (self.vote_end, self.marked) = (None, self.tail.offset);
        Ok(())
    }

    /// Puts a mark on a page that no record is on. All that is written is durable.
    fn mark_loosely(&mut self, place: u32) -> Result<(), WriteError> {
        self.buffer.clear();
        self.encode_at(place, |encoder, _| encoder.mark(0));
        self.fill_sector();
        let last = self.last();
        let done = self.disk.write_sectors(&self.segments[last].file, &self.buffer, u64::from(place));
        done.map_err(|error| self.fail("write", self.segments[last].sequence, &error))?;
        self.marked = self.tail.offset;
        Ok(())
    }

    /// Makes room for so many bytes at the tail, in the last segment or in another.
    ///
    /// # Errors
    /// [`WriteError::NoSpace`] if there is none. Then nothing has changed.
    pub(super) fn make_room_for(&mut self, bytes: u64, what: For) -> Result<(), WriteError> {
        if !self.has_room_for(bytes) {
            return self.make_room_in_next_for(bytes, what);
        }
        if self.spare.is_none() && !self.has_room_for(bytes + self.held_back_from(what)) {
            self.create_spare(self.segment_bytes)?;
        }
        Ok(())
    }

    /// Ends the last segment and makes it durable before anything is written to the next one. So what is not durable
    /// is always in one file, and a segment that holds a record seals all before it.
    fn make_room_in_next_for(&mut self, bytes: u64, what: For) -> Result<(), WriteError> {
        // Fits: a write is far shorter than a segment may be.
        let needed = (u64::from(FIRST_RECORD) + bytes + HEADER_BYTES as u64 + self.held_back_from(what)) as u32;
        if self.spare.as_ref().is_none_or(|spare| spare.bytes < needed) {
            self.create_spare(self.segment_bytes.max(needed.next_multiple_of(FIRST_RECORD)))?;
        }
        self.encode(|encoder, _| encoder.end());
        self.write_buffer()?;
        self.sync()?;
        let last = self.last();
        self.segments[last].used = self.tail.offset;
        self.segments.extend(self.spare.take());
        // The first record of the next segment seals all of this one.
        (self.vote_end, self.marked) = (None, 0);
        (self.tail.offset, self.durable) = (FIRST_RECORD, FIRST_RECORD);
        self.begun_sector.clear();
        Ok(())
    }

    /// Goes on to a segment of the present version, if the last one is of an earlier one. Programs that know only that
    /// would take a record that it does not have for a torn write; a segment of another version they refuse.
    pub(super) fn begin_current_version(&mut self, bytes: u64, what: For) -> Result<(), WriteError> {
        if self.segments[self.last()].version == segment::VERSION {
            return Ok(());
        }
        if self.spare.as_ref().is_some_and(|spare| spare.version < segment::VERSION) {
            self.create_spare(self.segment_bytes)?;
        }
        self.make_room_in_next_for(bytes, what)
    }

    /// Whether so many bytes fit into the last segment, and the record of its end after them.
    fn has_room_for(&self, bytes: u64) -> bool {
        u64::from(self.tail.offset) + bytes + HEADER_BYTES as u64 <= u64::from(self.segments[self.last()].bytes)
    }

    fn held_back_from(&self, what: For) -> u64 {
        let reserve = u64::from(RESERVE_BYTES.min(self.segment_bytes / 4));
        match what {
            For::Entries => reserve,
            For::Tidying => reserve / 2,
            For::Votes => 0,
        }
    }

    fn create_spare(&mut self, bytes: u32) -> Result<(), WriteError> {
        let sequence = self.segments[self.last()].sequence + 1;
        // One that is too small is replaced under the same name.
        let mut created = segment::create(&mut self.disk, self.identity, sequence, bytes);
        if matches!(created, Err(NotCreated::NoSpace(_))) && !self.pending_delete.is_empty() {
            self.pending_delete.clear();
            created = segment::create(&mut self.disk, self.identity, sequence, bytes);
        }
        self.is_full = matches!(created, Err(NotCreated::NoSpace(_)));
        match created {
            Ok(spare) => {
                self.spare = Some(spare);
                Ok(())
            }
            Err(NotCreated::NoSpace(failure)) => Err(WriteError::NoSpace(failure)),
            Err(NotCreated::Failed(failure)) => Err(self.keep(failure)),
        }
    }
}
