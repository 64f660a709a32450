//! The directory of a node's snapshots: files that are whole, and parts of those that are being received.
//!
//! Owns the names of the files, the order of acts that makes one durable, and how much of a part outlives a crash. All
//! I/O goes through [`Disk`]. Must not know when a snapshot is taken, sent or restored.
//!
//! | name | what it is |
//! |---|---|
//! | `GROUP-TERM-INDEX.snapshot` | a whole snapshot |
//! | `GROUP-saved.part` | a snapshot of this node's own that was not finished; removed by [`SnapshotDir::open`] |
//! | `GROUP-TERM-INDEX-BYTES-CHECKSUM-DURABLE.part` | the first bytes of a snapshot that is being received |
//!
//! A part says in its name which content it is of and how many of its bytes were durable when it got that name. So
//! a restart needs no other file to go on with it, and trusts nothing that a loss of power can have taken.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Error, ErrorKind, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use crc32c::crc32c_append;
use vlot_log::disk::Disk;
use vlot_raft::id::{GroupId, LogId};

use super::{
    FILE_BYTES_MIN, FRONT_BYTES, Flaw, Front, HEADER_CRC_BYTES, Header, SnapshotError, SnapshotInfo, TRAILER_BYTES,
    Trailer, u32_at, write,
};
use crate::state_machine::Snapshot;

/// Bytes of a part that may be lost with the power: after so many it is synced. A snapshot of this node's own is synced as often:
/// what the log makes durable meanwhile waits for one such piece at most.
pub(super) const SYNC_BYTES: u64 = 1 << 20;
/// Bytes that are read or written at once.
const BUFFER_BYTES: usize = 256 << 10;

/// A directory that holds a node's snapshot files. Clones share it.
///
/// Acts on one group must come one after the other, except that reading can go on beside anything; acts on different
/// groups do not wait for each other. The directory must be this node's own (see
/// [`RealDisk`](vlot_log::disk::real::RealDisk)).
pub struct SnapshotDir<D: Disk> {
    disk: D,
    /// The part of each group that is being received.
    parts: Arc<Mutex<BTreeMap<GroupId, SharedPart<D>>>>,
}

impl<D: Disk + Clone> Clone for SnapshotDir<D> {
    fn clone(&self) -> Self {
        Self { disk: self.disk.clone(), parts: Arc::clone(&self.parts) }
    }
}

impl<D: Disk> fmt::Debug for SnapshotDir<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotDir").field("path", &self.disk.path("")).finish_non_exhaustive()
    }
}

/// A part, locked while it is written to.
type SharedPart<D> = Arc<Mutex<Part<<D as Disk>::File>>>;

/// A snapshot that is being received.
///
/// Invariant: `durable ≤ written ≤ info.bytes`, and the file's name says `durable`.
#[derive(Debug)]
struct Part<F> {
    info: SnapshotInfo,
    file: F,
    written: u64,
    durable: u64,
}

/// A whole snapshot file.
#[derive(Debug)]
pub struct SavedSnapshot<D> {
    /// What it is of.
    pub header: Header,
    /// What names its content.
    pub info: SnapshotInfo,
    state_at: u64,
    disk: D,
}

/// What [`SnapshotDir::newest`] has found.
#[derive(Debug)]
pub struct Newest<D> {
    /// The newest snapshot that is whole and wanted.
    pub saved: Option<SavedSnapshot<D>>,
    /// Newer ones that are wanted and cannot be used. They are left as they are.
    pub unusable: Vec<SnapshotError>,
}

impl<D: Disk + Clone> SnapshotDir<D> {
    /// Opens the directory. The names of whole files are made durable, even if the process that gave them failed to
    /// make them so: the log is cut in reliance on what is seen here. Unfinished files of this node's own are removed;
    /// of what was being received the longest part of each group is kept.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn open(mut disk: D) -> io::Result<Self> {
        let mut parts: BTreeMap<GroupId, (SnapshotInfo, u64)> = BTreeMap::new();
        for name in disk.list()?.into_iter().filter(|name| name.ends_with(PART)) {
            let Some((group, info, durable)) = part_of(&name) else {
                disk.remove(&name)?;
                continue;
            };
            let longest = parts.entry(group).or_insert((info, durable));
            if durable > longest.1 {
                let (info, durable) = std::mem::replace(longest, (info, durable));
                disk.remove(&part_name(group, &info, durable))?;
            } else if (info, durable) != *longest {
                disk.remove(&name)?;
            }
        }
        disk.sync_dir()?;
        let mut opened = BTreeMap::new();
        for (group, (info, durable)) in parts {
            let name = part_name(group, &info, durable);
            let file = disk.open(&name)?;
            // A name outlives the power, and so does what was synced before it was given. If not, there is nothing to rely on.
            if disk.len(&file)? < durable {
                disk.remove(&name)?;
                continue;
            }
            opened.insert(group, Arc::new(Mutex::new(Part { info, file, written: durable, durable })));
        }
        Ok(Self { disk, parts: Arc::new(Mutex::new(opened)) })
    }

    /// The disk that the files are on.
    #[must_use]
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// Each group of which there is a whole snapshot or a part of one, in order.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn groups(&self) -> io::Result<Vec<GroupId>> {
        let names = self.disk.clone().list()?;
        let group =
            |name: &String| saved_of(name).map(|(group, _)| group).or_else(|| part_of(name).map(|(group, ..)| group));
        let mut groups: Vec<GroupId> = names.iter().filter_map(group).collect();
        groups.sort_unstable();
        groups.dedup();
        Ok(groups)
    }

    /// The content of which each group has a part, as far as it was received.
    #[must_use]
    pub fn parts(&self) -> BTreeMap<GroupId, SnapshotInfo> {
        // Not while the list is locked: to sync a part takes long.
        let parts: Vec<_> = lock(&self.parts).iter().map(|(group, part)| (*group, Arc::clone(part))).collect();
        parts.into_iter().map(|(group, part)| (group, lock(&part).info)).collect()
    }

    /// Saves a snapshot of this node's own: when this returns, it is durable under its name.
    ///
    /// # Errors
    /// If the state machine or the disk fails. Then there is no such file, or its name is not durable.
    pub fn save(&self, header: &Header, snapshot: &mut dyn Snapshot) -> io::Result<SnapshotInfo> {
        let mut disk = self.disk.clone();
        let unfinished = format!("{:016x}-saved{PART}", header.group.0);
        let done = save_as(&mut disk, &unfinished, header, snapshot);
        if done.is_err() {
            // It gives its space back. What is left is removed when the directory is opened.
            let _ = disk.remove(&unfinished);
        }
        done
    }

    /// The newest snapshot of a group that is whole and of an entry that is wanted; all of it is read. There may be
    /// newer ones that are not wanted: one may have come that the log does not begin after, yet or ever.
    ///
    /// # Errors
    /// If the directory cannot be read or synced. A file that cannot be used is reported and passed over.
    pub fn newest(&self, group: GroupId, is_wanted: impl Fn(LogId) -> bool) -> io::Result<Newest<D>> {
        let mut disk = self.disk.clone();
        // A name that was given just before a failure must be durable before the log is cut in reliance on it.
        disk.sync_dir()?;
        let mut ids = self.saved_ids(group)?;
        ids.retain(|id| is_wanted(*id));
        let mut unusable = Vec::new();
        for id in ids.into_iter().rev() {
            match verify(&mut disk, &saved_name(group, id), group, id) {
                Ok(saved) => return Ok(Newest { saved: Some(saved), unusable }),
                Err(error) => unusable.push(error),
            }
        }
        Ok(Newest { saved: None, unusable })
    }

    /// The snapshot of exactly this entry, if there is one; all of it is read.
    ///
    /// # Errors
    /// If it cannot be read, or is damaged.
    pub fn saved(&self, group: GroupId, id: LogId) -> Result<Option<SavedSnapshot<D>>, SnapshotError> {
        let (mut disk, name) = (self.disk.clone(), saved_name(group, id));
        match verify(&mut disk, &name, group, id) {
            Ok(saved) => Ok(Some(saved)),
            Err(SnapshotError::Io { error, .. }) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What this node can send of a group to a member that needs the state at `reach` or later: `preferred`, which the
    /// member has a part of, if it is here and reaches far enough, else the newest. Only the ends of files are read:
    /// that the rest is whole is found by the receiver.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn find(
        &self,
        group: GroupId,
        reach: LogId,
        preferred: Option<SnapshotInfo>,
    ) -> io::Result<Option<SnapshotInfo>> {
        let is_here = |info: &SnapshotInfo| self.glance(group, info.id).is_ok_and(|found| found == *info);
        if let Some(preferred) = preferred.filter(|it| it.id.index >= reach.index && is_here(it)) {
            return Ok(Some(preferred));
        }
        let ids = self.saved_ids(group)?.into_iter().rev().filter(|id| id.index >= reach.index);
        Ok(ids.filter_map(|id| self.glance(group, id).ok()).next())
    }

    /// Some bytes of the snapshot of this content from `offset` on: `bytes_max`, or as many as there are.
    ///
    /// # Errors
    /// `NotFound` if there is no snapshot of this content (any more), `InvalidInput` if it ends before `offset`, and
    /// whatever the disk says.
    pub fn read_chunk(&self, group: GroupId, info: &SnapshotInfo, offset: u64, bytes_max: usize) -> io::Result<Bytes> {
        if self.glance(group, info.id)? != *info {
            return Err(Error::new(ErrorKind::NotFound, "the snapshot was replaced by another"));
        }
        let left = info.bytes.checked_sub(offset).ok_or(ErrorKind::InvalidInput)?;
        let mut disk = self.disk.clone();
        let file = disk.open(&saved_name(group, info.id))?;
        let mut bytes = BytesMut::zeroed(usize::try_from(left).unwrap_or(usize::MAX).min(bytes_max));
        disk.read_at(&file, &mut bytes, offset)?;
        Ok(bytes.freeze())
    }

    /// Begins to receive a snapshot of exactly this content, or goes on with it. A part of any other content of the
    /// group is removed. Returns how many bytes are there.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn part(&self, group: GroupId, info: &SnapshotInfo) -> io::Result<u64> {
        if let Some(part) = self.part_of(group) {
            let part = lock(&part);
            if part.info == *info {
                return Ok(part.written);
            }
        }
        self.remove_part(group)?;
        let mut disk = self.disk.clone();
        let file = disk.create(&part_name(group, info, 0))?;
        let part = Part { info: *info, file, written: 0, durable: 0 };
        lock(&self.parts).insert(group, Arc::new(Mutex::new(part)));
        Ok(0)
    }

    /// Writes bytes at the end of the part of this content. Returns how many there are then.
    ///
    /// # Errors
    /// `InvalidInput` if there is no such part, if it does not end at `offset`, or if it would be longer than the
    /// content; and whatever the disk says. After a failed write the part is what it was before; after a failed sync
    /// it is removed, because nothing tells what of it is on the disk.
    pub fn write_chunk(&self, group: GroupId, info: &SnapshotInfo, offset: u64, bytes: &[u8]) -> io::Result<u64> {
        let part = self.part_with(group, info)?;
        let mut part = lock(&part);
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= info.bytes);
        let (true, Some(end)) = (offset == part.written, end) else {
            let (there, bytes) = (part.written, bytes.len());
            let why = format!("{bytes} bytes at {offset} do not continue the {there} that were received");
            return Err(Error::new(ErrorKind::InvalidInput, why));
        };
        let mut disk = self.disk.clone();
        disk.write_at(&part.file, bytes, offset)?;
        part.written = end;
        if part.written - part.durable >= SYNC_BYTES {
            self.sync(&mut disk, group, &mut part)?;
        }
        Ok(end)
    }

    /// Makes a part durable that has all bytes of its content, under the name of a whole snapshot.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] if the bytes are not those of the content; the part is removed then.
    /// [`SnapshotError::Io`] if there is no such part, if it is not complete, or if the disk fails.
    pub fn finish_part(&self, group: GroupId, info: &SnapshotInfo) -> Result<Header, SnapshotError> {
        let mut disk = self.disk.clone();
        let in_dir = |error| SnapshotError::Io { file: self.disk.path(&saved_name(group, info.id)), error };
        let part = self.part_with(group, info).map_err(in_dir)?;
        let mut part = lock(&part);
        if part.written != info.bytes {
            let (there, all) = (part.written, info.bytes);
            let why = format!("{there} of {all} bytes were received");
            return Err(in_dir(Error::new(ErrorKind::InvalidInput, why)));
        }
        self.sync(&mut disk, group, &mut part).map_err(in_dir)?;
        let name = part_name(group, info, part.durable);
        let verified = verify(&mut disk, &name, group, info.id).and_then(|saved| {
            let other = || SnapshotError::Damaged { file: disk.path(&name), offset: 0, flaw: Flaw::OtherContent };
            if saved.info == *info { Ok(saved.header) } else { Err(other()) }
        });
        match verified {
            Ok(header) => {
                disk.rename(&name, &saved_name(group, info.id)).map_err(in_dir)?;
                lock(&self.parts).remove(&group);
                disk.sync_dir().map_err(in_dir)?;
                Ok(header)
            }
            Err(error) => {
                if error.is_damage() {
                    lock(&self.parts).remove(&group);
                    let _ = disk.remove(&name);
                }
                Err(error)
            }
        }
    }

    /// Removes a group's snapshots of entries before `keep_from`, and a part of one. Their names may come back with a
    /// loss of power.
    ///
    /// # Errors
    /// If the disk fails. What is not removed takes room, and does no other harm.
    pub fn remove_before(&self, group: GroupId, keep_from: LogId) -> io::Result<()> {
        let mut disk = self.disk.clone();
        for id in self.saved_ids(group)?.into_iter().filter(|id| *id < keep_from) {
            disk.remove(&saved_name(group, id))?;
        }
        match self.part_of(group) {
            Some(part) if lock(&part).info.id < keep_from => self.remove_part(group),
            _ => Ok(()),
        }
    }

    /// Removes all of a group, durably.
    ///
    /// # Errors
    /// If the disk fails. Some of the files may be left.
    pub fn remove_group(&self, group: GroupId) -> io::Result<()> {
        let mut disk = self.disk.clone();
        self.remove_part(group)?;
        for id in self.saved_ids(group)? {
            disk.remove(&saved_name(group, id))?;
        }
        disk.sync_dir()
    }

    /// Of which entries there are snapshots of a group, the newest last.
    fn saved_ids(&self, group: GroupId) -> io::Result<Vec<LogId>> {
        let names = self.disk.clone().list()?;
        let ids = names.iter().filter_map(|name| saved_of(name)).filter(|(of, _)| *of == group);
        let mut ids: Vec<LogId> = ids.map(|(_, id)| id).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// What names the content of a file, by its ends alone.
    fn glance(&self, group: GroupId, id: LogId) -> io::Result<SnapshotInfo> {
        let mut disk = self.disk.clone();
        let other = || Error::new(ErrorKind::InvalidData, "not a whole snapshot of this entry");
        let file = disk.open(&saved_name(group, id))?;
        let bytes = disk.len(&file)?;
        let mut front = Front([0; FRONT_BYTES]);
        let (mut header_crc, mut trailer) = ([0; HEADER_CRC_BYTES], [0; TRAILER_BYTES]);
        disk.read_at(&file, &mut front.0, 0)?;
        front.check().map_err(|_| other())?;
        let state = bytes.checked_sub(front.state_at() + TRAILER_BYTES as u64).ok_or_else(other)?;
        disk.read_at(&file, &mut header_crc, front.state_at() - HEADER_CRC_BYTES as u64)?;
        disk.read_at(&file, &mut trailer, bytes - TRAILER_BYTES as u64)?;
        let trailer = Trailer::decode(&trailer);
        if front.group() != group || front.id() != id || trailer.bytes != state {
            return Err(other());
        }
        Ok(SnapshotInfo { id, bytes, checksum: trailer.append_to(u32_at(&header_crc, 0)) })
    }

    fn part_of(&self, group: GroupId) -> Option<SharedPart<D>> {
        lock(&self.parts).get(&group).cloned()
    }

    fn part_with(&self, group: GroupId, info: &SnapshotInfo) -> io::Result<SharedPart<D>> {
        let part = self.part_of(group).filter(|part| lock(part).info == *info);
        part.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "no part of this snapshot was begun"))
    }

    /// Makes what was written to a part durable, and then says so in its name.
    fn sync(&self, disk: &mut D, group: GroupId, part: &mut Part<D::File>) -> io::Result<()> {
        let name = part_name(group, &part.info, part.durable);
        if let Err(error) = disk.sync_data(&part.file) {
            // The system may show bytes from now on that no later sync will write.
            lock(&self.parts).remove(&group);
            let _ = disk.remove(&name);
            return Err(error);
        }
        if part.durable < part.written {
            disk.rename(&name, &part_name(group, &part.info, part.written))?;
            part.durable = part.written;
        }
        Ok(())
    }

    fn remove_part(&self, group: GroupId) -> io::Result<()> {
        let Some(part) = lock(&self.parts).remove(&group) else { return Ok(()) };
        let part = lock(&part);
        self.disk.clone().remove(&part_name(group, &part.info, part.durable))
    }
}

impl<D: Disk + Clone> SavedSnapshot<D> {
    /// The state machine's bytes. Reading fails with `InvalidData` at their end if they are not what was written.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn state(&self) -> io::Result<impl Read + use<D>> {
        let mut disk = self.disk.clone();
        let file = disk.open(&saved_name(self.header.group, self.header.id))?;
        let offset = self.state_at;
        let bytes = self.info.bytes - offset - TRAILER_BYTES as u64;
        let mut trailer = [0; TRAILER_BYTES];
        disk.read_at(&file, &mut trailer, offset + bytes)?;
        let expected = Trailer::decode(&trailer);
        Ok(StateReader { disk, file, offset, left: bytes, crc: 0, expected, buffer: Bytes::new() })
    }
}

/// Reads a state, some at a time.
struct StateReader<D: Disk> {
    disk: D,
    file: D::File,
    offset: u64,
    left: u64,
    /// Of what was read.
    crc: u32,
    expected: Trailer,
    buffer: Bytes,
}

impl<D: Disk> Read for StateReader<D> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.buffer.is_empty() && self.left > 0 {
            let mut bytes = BytesMut::zeroed(part_of_buffer(self.left));
            self.disk.read_at(&self.file, &mut bytes, self.offset)?;
            self.crc = crc32c_append(self.crc, &bytes);
            (self.offset, self.left) = (self.offset + bytes.len() as u64, self.left - bytes.len() as u64);
            if self.left == 0 && self.crc != self.expected.crc {
                return Err(Error::new(ErrorKind::InvalidData, Flaw::StateChecksum.to_string()));
            }
            self.buffer = bytes.freeze();
        }
        let bytes = self.buffer.split_to(self.buffer.len().min(into.len()));
        into[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }
}

/// How many bytes to read at once if so many are left.
fn part_of_buffer(left: u64) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(BUFFER_BYTES)
}

fn save_as<D: Disk + Clone>(
    disk: &mut D,
    unfinished: &str,
    header: &Header,
    snapshot: &mut dyn Snapshot,
) -> io::Result<SnapshotInfo> {
    let file = disk.create(unfinished)?;
    let mut out =
        FileWriter { disk: disk.clone(), file, offset: 0, synced: 0, buffer: Vec::with_capacity(BUFFER_BYTES) };
    let info = write(header, snapshot, &mut out)?;
    // The checksum was reckoned while it was written. That all of it is there is left to see.
    let there = disk.len(&out.file)?;
    if there != info.bytes {
        return Err(Error::other(format!("{there} of {} bytes were written", info.bytes)));
    }
    disk.sync_data(&out.file)?;
    let name = saved_name(header.group, header.id);
    disk.rename(unfinished, &name)?;
    disk.sync_dir()?;
    Ok(info)
}

/// Writes a file from its beginning, much at a time.
struct FileWriter<D: Disk> {
    disk: D,
    file: D::File,
    /// How much was written, and how much of it is durable.
    offset: u64,
    synced: u64,
    buffer: Vec<u8>,
}

impl<D: Disk> Write for FileWriter<D> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        let taken = bytes.len().min(BUFFER_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.disk.write_at(&self.file, &self.buffer, self.offset)?;
            self.offset += self.buffer.len() as u64;
            self.buffer.clear();
            if self.offset - self.synced >= SYNC_BYTES {
                self.disk.sync_data(&self.file)?;
                self.synced = self.offset;
            }
        }
        Ok(())
    }
}

/// Reads a whole file and holds it against its checksums and against what it should be of.
fn verify<D: Disk + Clone>(
    disk: &mut D,
    name: &str,
    group: GroupId,
    id: LogId,
) -> Result<SavedSnapshot<D>, SnapshotError> {
    match verify_file(disk, name) {
        Ok(saved) if saved.header.group == group && saved.header.id == id => Ok(saved),
        Ok(_) => Err(SnapshotError::Damaged { file: disk.path(name), offset: 0, flaw: Flaw::OtherContent }),
        Err(Bad::Io(error)) => Err(SnapshotError::Io { file: disk.path(name), error }),
        Err(Bad::At(offset, flaw)) => Err(SnapshotError::Damaged { file: disk.path(name), offset, flaw }),
    }
}

enum Bad {
    Io(io::Error),
    At(u64, Flaw),
}

impl From<io::Error> for Bad {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn verify_file<D: Disk + Clone>(disk: &mut D, name: &str) -> Result<SavedSnapshot<D>, Bad> {
    let file = disk.open(name)?;
    let bytes = disk.len(&file)?;
    if bytes < FILE_BYTES_MIN {
        return Err(Bad::At(bytes, Flaw::Truncated));
    }
    let mut front = Front([0; FRONT_BYTES]);
    disk.read_at(&file, &mut front.0, 0)?;
    front.check().map_err(|flaw| Bad::At(0, flaw))?;
    let (state_at, trailer_at) = (front.state_at(), bytes - TRAILER_BYTES as u64);
    let state_bytes = trailer_at.checked_sub(state_at).ok_or(Bad::At(bytes, Flaw::Truncated))?;
    let mut rest = vec![0; front.members_bytes() + HEADER_CRC_BYTES];
    disk.read_at(&file, &mut rest, FRONT_BYTES as u64)?;
    let header = front.decode(&rest).map_err(|flaw| Bad::At(0, flaw))?;
    let mut trailer = [0; TRAILER_BYTES];
    disk.read_at(&file, &mut trailer, trailer_at)?;
    let trailer = Trailer::decode(&trailer);
    if trailer.bytes != state_bytes {
        return Err(Bad::At(trailer_at, Flaw::StateLength));
    }
    let (mut crc, mut offset) = (0, state_at);
    let mut buffer = vec![0; part_of_buffer(state_bytes)];
    while offset < trailer_at {
        let part = part_of_buffer(trailer_at - offset);
        disk.read_at(&file, &mut buffer[..part], offset)?;
        crc = crc32c_append(crc, &buffer[..part]);
        offset += part as u64;
    }
    if trailer.crc != crc {
        return Err(Bad::At(state_at, Flaw::StateChecksum));
    }
    let header_crc = u32_at(&rest, rest.len() - HEADER_CRC_BYTES);
    let info = SnapshotInfo { id: header.id, bytes, checksum: trailer.append_to(header_crc) };
    Ok(SavedSnapshot { header, info, state_at, disk: disk.clone() })
}

const SAVED: &str = ".snapshot";
const PART: &str = ".part";

fn saved_name(group: GroupId, id: LogId) -> String {
    format!("{:016x}-{:016x}-{:016x}{SAVED}", group.0, id.term.0, id.index.0)
}

/// Of which group and entry a file of this name is a snapshot.
fn saved_of(name: &str) -> Option<(GroupId, LogId)> {
    let [group, term, index] = numbers(name.strip_suffix(SAVED)?)?;
    let (group, id) = (GroupId(group), LogId::new(term, index));
    (name == saved_name(group, id)).then_some((group, id))
}

fn part_name(group: GroupId, info: &SnapshotInfo, durable: u64) -> String {
    let SnapshotInfo { id, bytes, checksum } = info;
    let (term, index) = (id.term.0, id.index.0);
    format!("{:016x}-{term:016x}-{index:016x}-{bytes:016x}-{checksum:08x}-{durable:016x}{PART}", group.0)
}

/// Of which content a file of this name is a part, and how many of its bytes are durable.
fn part_of(name: &str) -> Option<(GroupId, SnapshotInfo, u64)> {
    let [group, term, index, bytes, checksum, durable] = numbers(name.strip_suffix(PART)?)?;
    let info = SnapshotInfo { id: LogId::new(term, index), bytes, checksum: u32::try_from(checksum).ok()? };
    let is_name = durable <= bytes && name == part_name(GroupId(group), &info, durable);
    is_name.then_some((GroupId(group), info, durable))
}

/// Exactly so many hexadecimal numbers.
fn numbers<const COUNT: usize>(text: &str) -> Option<[u64; COUNT]> {
    let mut numbers = [0; COUNT];
    let mut parts = text.split('-');
    for number in &mut numbers {
        *number = u64::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

/// Nothing is left half done by a panic while it is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
