//! A log that is found is taken over: what stands behind its end must never become a part of it.
//!
//! Owns what is written before the owner gets the log. What is in it is for `recover.rs`.
//!
//! Behind the end there may be remains of torn writes that cannot be told from anything else: half a header, a payload. A
//! write that begins like one of them, as a proposal that is sent again can, would bring them back to life if it was torn in
//! turn. So the first record after a start is a mark, and it is durable before there is another: whatever stood after the
//! same record before does not continue this one.

use super::room::For;
use super::{Log, Options};
use crate::damage;
use crate::disk::Disk;
use crate::encode::mark_bytes;
use crate::error::{OpenError, WriteError};
use crate::identity::Identity;
use crate::record::Write;
use crate::recover::{Found, Manner, Recovered, recover};
use crate::segment::PAGE_BYTES;
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
        if recovered.torn.is_some() {
            // The only thing that vouches for damaged records may be where the mark comes, and the mark may be torn.
            self.mark_next_page()?;
        }
        match self.make_room_for(mark_bytes(0), For::Votes) {
            // Nor is there room for any other record. The next segment will have a salt of its own.
            Err(WriteError::NoSpace(_)) => return Ok(()),
            done => done?,
        }
        self.encode(|encoder, _| encoder.mark(0));
        self.write_exactly(mark_bytes(0) as u32)?;
        self.sync()?;
        // Within a segment, whose offsets have 32 bits.
        let upto = recovered.torn.as_ref().map_or(0, |torn| (torn.offset + torn.bytes) as u32);
        if self.last() == found_in && self.tail.offset < upto {
            let wiped = damage::wipe(&mut self.disk, &self.segments[found_in], self.tail.offset, upto);
            wiped.map_err(|failure| self.keep(failure))?;
            self.sync_last()?;
        }
        Ok(())
    }

    /// Leaves a mark on the next page, if there is one, and makes it durable.
    fn mark_next_page(&mut self) -> Result<(), WriteError> {
        let next_page = self.tail.offset.next_multiple_of(PAGE_BYTES);
        if next_page < self.segments[self.last()].bytes {
            self.mark_loosely(next_page)?;
            self.sync_last()?;
        }
        Ok(())
    }

    /// Writes what is known only because of damage: where groups end, and that the segments before are not needed.
    pub(super) fn settle(&mut self, cut: &[(GroupId, LogIndex)], lacks_floor: bool) -> Result<(), WriteError> {
        let end = |&(group, after): &(GroupId, LogIndex)| Write::Append { group, after, entries: Vec::new() };
        for some in cut.chunks(1000) {
            self.write(&some.iter().map(end).collect::<Vec<_>>())?;
        }
        if lacks_floor {
            self.write_floor(self.segments[0].sequence)?;
        }
        self.sync()
    }
}
