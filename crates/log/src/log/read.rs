//! Entries come back from the disk, each checked against what was written.
//!
//! Owns how many are read with one call. Must not know how they got there.

use super::Log;
use crate::disk::Disk;
use crate::entry_range::Position;
use crate::error::{Failure, ReadError};
use crate::record::Entry;
use crate::segment::{self, Segment};
use bytes::{Bytes, BytesMut};
use vlot_raft::id::{GroupId, LogId, LogIndex, Term};

/// Entries that lie further apart than this are read one by one.
const GAP_BYTES: u32 = 4096;

impl<D: Disk> Log<D> {
    /// The entries of a group in `(after, upto]`, from the first on: as many as there are and as have at most
    /// `bytes_max` bytes of payload together, but one at least if there is one.
    ///
    /// # Errors
    /// If the system refuses to read, the bytes of an entry are not those that were written, or the first entry comes
    /// before the log begins.
    pub fn read(
        &self,
        group: GroupId,
        after: LogIndex,
        upto: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        if let Some(failure) = &self.failed {
            return Err(ReadError::Failed(failure.clone()));
        }
        let Some(group) = self.index.groups.get(&group) else { return Ok(Vec::new()) };
        let begins_after = group.entries.runs().after();
        if after < begins_after.index && after < upto {
            return Err(ReadError::Compacted { after: begins_after });
        }
        let mut room = bytes_max as u64;
        let wanted: Vec<_> = group
            .entries
            .part(after, upto)
            .enumerate()
            .map_while(|(n, entry)| {
                let left = room.checked_sub(u64::from(entry.2.payload.length));
                room = left.unwrap_or(0);
                (n == 0 || left.is_some()).then_some(entry)
            })
            .collect();
        let mut entries = Vec::with_capacity(wanted.len());
        for range in wanted.chunk_by(|(.., a), (.., b)| lie_together(a, b)) {
            self.read_range(range, &mut entries)?;
        }
        Ok(entries)
    }

    /// The segment of a position. It is here: one in which there is something alive is not dropped.
    fn segment(&self, sequence: u32) -> &Segment<D::File> {
        &self.segments[(sequence - self.segments[0].sequence) as usize]
    }

    /// Reads entries that lie close together with one call and checks each.
    fn read_range(&self, range: &[(LogIndex, Term, Position)], entries: &mut Vec<Entry>) -> Result<(), ReadError> {
        let (Some((.., first)), Some((.., last))) = (range.first(), range.last()) else { return Ok(()) };
        let (from, upto) = (first.payload.offset, last.payload.offset + last.payload.length);
        let bytes = self.read_bytes(first.segment, from, upto)?;
        for &(index, term, position) in range {
            let at = (position.payload.offset - from) as usize;
            let payload = bytes.slice(at..at + position.payload.length as usize);
            self.check(position, &payload)?;
            entries.push(Entry { id: LogId { term, index }, payload });
        }
        Ok(())
    }

    pub(super) fn read_bytes(&self, sequence: u32, from: u32, upto: u32) -> Result<Bytes, ReadError> {
        let mut bytes = BytesMut::zeroed((upto - from) as usize);
        self.disk
            .read_at(&self.segment(sequence).file, &mut bytes, u64::from(from))
            .map_err(|error| ReadError::Io(Failure::new("read", self.disk.path(&segment::name(sequence)), &error)))?;
        Ok(bytes.freeze())
    }

    /// Whether these are the bytes that were written there.
    pub(super) fn check(&self, Position { segment, payload }: Position, bytes: &[u8]) -> Result<(), ReadError> {
        payload.check(bytes).map_err(|flaw| {
            let file = self.disk.path(&segment::name(segment));
            ReadError::Corrupt { file, offset: u64::from(payload.offset), flaw }
        })
    }
}

/// Whether one call reads both with little that is not wanted between them.
fn lie_together(a: &Position, b: &Position) -> bool {
    let a_end = a.payload.offset + a.payload.length;
    a.segment == b.segment && b.payload.offset >= a_end && b.payload.offset - a_end <= GAP_BYTES
}
