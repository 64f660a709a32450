//! Damage that the owner accepts: what it is told, and what is remembered until it says that all is mended.
//!
//! Owns the note that outlives the process, and the cut. Must not know of groups.
//!
//! A log that is cut looks whole: nothing in it tells that there was more. But a node that does not know must not use it: it
//! could vote again in a term, or let something pass for committed that this node has forgotten. So a file says it, from
//! before the cut until the owner knows better.

use crate::disk::Disk;
use crate::error::{Failure, Flaw, OpenError};
use crate::identity::Identity;
use crate::segment::{self, FIRST_RECORD, Segment};
use std::io;
use std::path::PathBuf;
use vlot_raft::id::{GroupId, LogIndex};

/// The file that is there from before a cut until the log is mended.
pub(crate) const NOTE: &str = "DAMAGED";
const NOTE_NEW: &str = "DAMAGED.new";
/// How much is overwritten at once.
const WIPE_BYTES: usize = 1024 * 1024;

/// What was durable and is not what it was.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Damage {
    /// The payloads of these entries, and no more: which entries they are is known, and they are in the log. They cannot
    /// be read until they are written again ([`Write::Rewrite`](crate::record::Write::Rewrite)) or leave the log. Each
    /// time the log is opened they are reported again.
    Entries {
        /// The group.
        group: GroupId,
        /// The first of them.
        first: LogIndex,
        /// The last of them.
        last: LogIndex,
        /// The segment.
        file: PathBuf,
        /// Where in it the payload of the first is, in bytes.
        offset: u64,
        /// What is wrong there.
        flaw: Flaw,
    },
    /// All that came after this place, of every group. The log was cut here. Of each group entries may be missing after
    /// the last one, or be there that were replaced since; its term and vote may be old; a group may be missing as a
    /// whole, or be there although it was removed. It must not vote and must not be counted until it has caught up with what a quorum has without it. This is
    /// reported each time the log is opened, until [`Log::mended`](crate::log::Log::mended).
    Rest {
        /// The segment.
        file: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What was wrong there; zeros once it is cut.
        flaw: Flaw,
    },
}

/// Remembers that the log is cut there.
pub(crate) fn note<D: Disk>(disk: &mut D, sequence: u32, offset: u32) -> Result<(), Failure> {
    let text = format!("{} {offset}\n", segment::name(sequence));
    let done = (|| {
        let file = disk.create(NOTE_NEW)?;
        disk.write_at(&file, text.as_bytes(), 0)?;
        disk.sync_data(&file)?;
        disk.rename(NOTE_NEW, NOTE)?;
        disk.sync_dir()
    })();
    done.map_err(|error| Failure::new("write", disk.path(NOTE), &error))
}

/// What is remembered, if anything is.
pub(crate) fn noted<D: Disk>(disk: &mut D) -> Result<Option<Damage>, Failure> {
    let read = |disk: &mut D| -> io::Result<Option<String>> {
        if !disk.list()?.iter().any(|name| name == NOTE) {
            return Ok(None);
        }
        let file = disk.open(NOTE)?;
        let mut text = vec![0; disk.len(&file)?.min(64) as usize];
        disk.read_at(&file, &mut text, 0)?;
        Ok(Some(String::from_utf8_lossy(&text).into_owned()))
    };
    let text = read(disk).map_err(|error| Failure::new("read", disk.path(NOTE), &error))?;
    Ok(text.map(|text| {
        // If the note itself is damaged, that there is one is enough.
        let place = text.trim_end().split_once(' ');
        let place = place.and_then(|(name, offset)| Some((segment::sequence_of(name)?, offset.parse().ok()?)));
        let (name, offset) = place.map_or((NOTE.to_owned(), 0), |(sequence, at)| (segment::name(sequence), at));
        Damage::Rest { file: disk.path(&name), offset, flaw: Flaw::Missing }
    }))
}

/// Forgets it.
pub(crate) fn forget<D: Disk>(disk: &mut D) -> Result<(), Failure> {
    let done = disk.remove(NOTE).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    });
    done.and_then(|()| disk.sync_dir()).map_err(|error| Failure::new("remove", disk.path(NOTE), &error))
}

/// Cuts the log at damage, if that is what `refusal` is about: what comes after it is gone then. What is remembered of
/// it is durable before anything changes, and at any moment in between the damage can still be seen.
///
/// # Errors
/// If it is about something else, or storage fails.
pub(crate) fn cut<D: Disk>(
    disk: &mut D,
    identity: Identity,
    segment_bytes: u32,
    refusal: OpenError,
) -> Result<Damage, OpenError> {
    let OpenError::Corrupt { file, offset, flaw } = refusal else { return Err(refusal) };
    let name = file.file_name().and_then(|name| name.to_str());
    let place = name.and_then(segment::sequence_of).zip(u32::try_from(offset).ok());
    let Some((sequence, at)) = place else { return Err(OpenError::Corrupt { file, offset, flaw }) };
    note(disk, sequence, at)?;
    remove_after(disk, sequence)?;
    if at < FIRST_RECORD {
        // Nothing of the segment can be trusted. One that holds nothing takes its place.
        segment::create(disk, identity, sequence, segment_bytes)?;
    } else {
        let segment = segment::open(disk, identity, sequence, &mut Vec::new())?;
        wipe(disk, &segment, at, segment.bytes)?;
        let sync = disk.sync_data(&segment.file);
        sync.map_err(|error| Failure::new("sync", disk.path(&segment::name(sequence)), &error))?;
    }
    Ok(Damage::Rest { file, offset, flaw })
}

/// Removes the segments after this one, from the last on, so that there is never a gap.
fn remove_after<D: Disk>(disk: &mut D, sequence: u32) -> Result<(), Failure> {
    let names = disk.list().map_err(|error| Failure::new("list", disk.path(""), &error))?;
    let mut later: Vec<u32> = names.iter().filter_map(|name| segment::sequence_of(name)).collect();
    later.retain(|&other| other > sequence);
    later.sort_unstable();
    for name in later.into_iter().rev().map(segment::name) {
        let done = disk.remove(&name).and_then(|()| disk.sync_dir());
        done.map_err(|error| Failure::new("remove", disk.path(&name), &error))?;
    }
    Ok(())
}

/// Puts zeros where the remains of a torn write are, so that no later recovery meets them.
pub(crate) fn wipe<D: Disk>(disk: &mut D, segment: &Segment<D::File>, from: u32, upto: u32) -> Result<(), Failure> {
    let path = disk.path(&segment::name(segment.sequence));
    let zeros = vec![0; WIPE_BYTES.min((upto - from) as usize)];
    for at in (from..upto).step_by(WIPE_BYTES) {
        let length = zeros.len().min((upto - at) as usize);
        disk.write_at(&segment.file, &zeros[..length], u64::from(at))
            .map_err(|error| Failure::new("write", path.clone(), &error))?;
    }
    Ok(())
}
