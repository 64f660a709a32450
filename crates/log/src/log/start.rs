//! A log that is found is taken over: what stands behind its end must never become a part of it.
//!
//! Owns what is written before the owner gets the log. What is in it is for `recover.rs`.
//!
//! Behind the end there may be remains of torn writes that cannot be told from anything else: half a header, a payload. A
//! write that begins like one of them, as a proposal that is sent again can, would bring them back to life if it was torn in
//! turn. So the first record after a start is a mark with a number that was drawn, and it is durable before there is another:
//! nothing that ever stood there continues it. Remains may also be all that seals damaged records that were accepted. So
//! they are wiped when the mark is durable, which seals them as well.

use super::room::For;
use super::{Log, Options};
use crate::damage::{self, Damage};
use crate::disk::Disk;
use crate::encode::mark_bytes;
use crate::error::{OpenError, WriteError};
use crate::identity::Identity;
use crate::layout::HEADER_BYTES;
use crate::record::Write;
use crate::recover::{Found, Manner, Recovered, recover};
use crate::segment::SECTOR_BYTES;
use vlot_raft::id::{GroupId, LogIndex};

/// Reads the log, and cuts it where it is damaged if that is accepted.
pub(super) fn find<D: Disk>(
    disk: &mut D,
    identity: Identity,
    segment_bytes: u32,
    options: Options,
) -> Result<Option<Found<D::File>>, OpenError> {
    let Options { keep, accept_damage, accept_damaged_entries, .. } = options;
    let manner = Manner { keep, accept_damage: accept_damage || accept_damaged_entries, accept_cuts: accept_damage };
    let mut first = None;
    // Each cut leaves less of the log than the one before.
    loop {
        match recover(disk, identity, manner) {
            Err(refusal) if accept_damage => {
                let cut = damage::cut(disk, identity, segment_bytes, refusal)?;
                first.get_or_insert(cut);
            }
            Ok(Some(mut found)) => {
                if let (Some(first), Some(noted)) = (first, found.recovered.damaged.first_mut()) {
                    *noted = first;
                }
                return Ok(Some(found));
            }
            done => return done,
        }
    }
}

impl<D: Disk> Log<D> {
    /// Marks the end, durably, and then wipes what can be told to be remains of torn writes. Everything before the end is
    /// durable.
    pub(super) fn take_over(&mut self, recovered: &Recovered) -> Result<(), WriteError> {
        let found_in = self.last();
        match self.make_room_for(mark_bytes(0), For::Votes) {
            // Nor is there room for any other record. The next segment will have a salt of its own.
            Err(WriteError::NoSpace(_)) => return Ok(()),
            done => done?,
        }
        self.mark_end()?;
        let upto = self.remains_upto(recovered);
        if self.last() == found_in && self.tail.offset < upto {
            let wiped = damage::wipe(&mut self.disk, &self.segments[found_in], self.tail.offset, upto);
            wiped.map_err(|failure| self.keep(failure))?;
            self.sync_last()?;
        }
        Ok(())
    }

    /// Writes a mark, and makes it durable. Part of it may get into one sector and the rest not into the next, and what it
    /// goes over may be the only thing that seals damaged records. Then one more mark, which will follow it, comes
    /// first: it seals them as well, and lies in the second of the sectors, whatever else gets there.
    fn mark_end(&mut self) -> Result<(), WriteError> {
        const MARK_BYTES: u32 = HEADER_BYTES as u32;
        let (number, start, last) = (self.disk.salt(), self.tail.offset, self.last());
        let is_in_two_sectors = start % SECTOR_BYTES > SECTOR_BYTES - MARK_BYTES;
        self.encode(|encoder, _| {
            encoder.numbered_mark(number);
            if is_in_two_sectors {
                encoder.mark(0);
            }
        });
        if is_in_two_sectors {
            let second = &self.buffer[self.begun_sector.len() + HEADER_BYTES..];
            let done = self.disk.write_at(&self.segments[last].file, second, u64::from(start + MARK_BYTES));
            done.map_err(|error| self.fail("write", self.segments[last].sequence, &error))?;
            self.sync_last()?;
        }
        // Fits in the segment. Behind the mark, up to the end of its sector, remains are wiped with the write that brings it.
        self.write_records_upto(self.tail_sector() + self.buffer.len() as u32)?;
        self.sync()
    }

    /// Up to where there are remains of writes in the last segment. Where the log was cut because of damage, they may be there
    /// although they are not seen, if the wiping was not made durable.
    fn remains_upto(&self, recovered: &Recovered) -> u32 {
        let is_cut = recovered.damaged.iter().any(|damage| matches!(damage, Damage::Rest { .. }));
        if is_cut {
            return self.segments[self.last()].bytes;
        }
        // Within a segment, whose offsets have 32 bits.
        recovered.torn.as_ref().map_or(0, |torn| (torn.offset + torn.bytes) as u32)
    }

    /// Writes what is known only because of damage: where groups end, and that the segments before are not needed.
    pub(super) fn settle(&mut self, cut: &[(GroupId, LogIndex)], lacks_first_segment: bool) -> Result<(), WriteError> {
        let end = |&(group, after): &(GroupId, LogIndex)| Write::Append { group, after, entries: Vec::new() };
        for some in cut.chunks(1000) {
            self.write(&some.iter().map(end).collect::<Vec<_>>())?;
        }
        if lacks_first_segment {
            self.write_first_segment(self.segments[0].sequence)?;
        }
        self.sync()
    }
}
