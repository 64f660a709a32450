//! A machine's snapshots, as files on a simulated disk.
//!
//! Follows the library's own folder of snapshots (`vlot/src/snapshot.rs`), which is on a real disk: a file is written
//! under another name, synced, checked, and gets its own with its directory synced; what is not whole is not seen. Must
//! not know why a snapshot is here.

use crate::disk;
use crate::register::Registers;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::io;
use vlot::members::MembersAt;
use vlot_log::disk::Disk as _;
use vlot_log::disk::sim::SimDisk;
use vlot_raft::id::LogId;

/// A snapshot: a state, and who belonged to the group when it was that.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Snapshot {
    /// The state, and the last entry whose effect it has.
    pub registers: Registers,
    /// The members.
    pub members: MembersAt,
}

/// What a file is written for: tells apart what is written at the same time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// It came from a peer.
    Received,
    /// It is this machine's own state.
    Saved,
}

/// A machine's snapshots.
#[derive(Debug, Default)]
pub struct Shelf {
    sim: SimDisk,
}

const SUFFIX: &str = ".snapshot";

impl Shelf {
    /// The simulated disk, for faults.
    #[must_use]
    pub fn sim(&self) -> &SimDisk {
        &self.sim
    }

    /// Takes back all faults that are to come.
    pub fn heal(&mut self) {
        disk::forget_faults(&self.sim);
    }

    /// A process begins: what was never finished is removed, and the names of what was are made durable, which the
    /// process before may have failed to do.
    ///
    /// # Errors
    /// If storage fails.
    pub fn open(&mut self) -> io::Result<()> {
        for name in self.sim.list()?.iter().filter(|name| name.ends_with(".part")) {
            self.sim.remove(name)?;
        }
        self.sim.sync_dir()
    }

    /// Writes a file that nobody sees yet.
    ///
    /// # Errors
    /// If storage fails.
    pub fn write(&mut self, purpose: Purpose, snapshot: &Snapshot) -> io::Result<()> {
        let file = self.sim.create(unfinished(purpose))?;
        self.sim.write_at(&file, &encode(snapshot), 0)
    }

    /// Makes the file durable under its name.
    ///
    /// # Errors
    /// If storage fails, or the file is not whole.
    pub fn finish(&mut self, purpose: Purpose) -> io::Result<Snapshot> {
        let part = unfinished(purpose);
        let file = self.sim.open(part)?;
        self.sim.sync_data(&file)?;
        let snapshot = self.read(part).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        self.sim.rename(part, &name(snapshot.registers.applied))?;
        self.sim.sync_dir()?;
        Ok(snapshot)
    }

    /// The newest snapshot that is whole and of an entry that is wanted.
    pub fn newest(&mut self, is_wanted: impl Fn(LogId) -> bool) -> Option<Snapshot> {
        // Names are padded, so their order is that of terms and indices.
        let mut names = self.sim.list().unwrap_or_default();
        names.retain(|name| name.ends_with(SUFFIX));
        let mut whole = names.into_iter().rev().filter_map(|name| self.read(&name));
        whole.find(|snapshot| is_wanted(snapshot.registers.applied))
    }

    /// Removes the snapshots before `keep_from`.
    pub fn remove_before(&mut self, keep_from: LogId) {
        let keep = name(keep_from);
        let names = self.sim.list().unwrap_or_default();
        for old in names.iter().filter(|name| name.ends_with(SUFFIX) && **name < keep) {
            // What cannot be removed takes room, and harms nobody.
            let _ = self.sim.remove(old);
        }
    }

    fn read(&self, name: &str) -> Option<Snapshot> {
        decode(self.sim.bytes(name)?)
    }
}

fn unfinished(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Received => "received.part",
        Purpose::Saved => "saved.part",
    }
}

fn name(id: LogId) -> String {
    format!("{:016x}-{:016x}{SUFFIX}", id.term.0, id.index.0)
}

fn encode(snapshot: &Snapshot) -> Bytes {
    let mut body = BytesMut::new();
    snapshot.registers.encode(&mut body);
    body.extend_from_slice(&snapshot.members.encode());
    let mut bytes = BytesMut::with_capacity(16 + body.len());
    bytes.put_u64_le(body.len() as u64);
    bytes.put_u64_le(checksum(&body));
    bytes.extend_from_slice(&body);
    bytes.freeze()
}

/// Reads a file; none if it is not as it was written.
fn decode(bytes: Vec<u8>) -> Option<Snapshot> {
    let mut bytes = Bytes::from(bytes);
    if bytes.len() < 16 {
        return None;
    }
    let (length, expected) = (bytes.get_u64_le(), bytes.get_u64_le());
    if bytes.len() as u64 != length || checksum(&bytes) != expected {
        return None;
    }
    let registers = Registers::decode(&mut bytes)?;
    Some(Snapshot { registers, members: MembersAt::decode(bytes).ok()? })
}

/// FNV-1a: enough to tell a file that was torn.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(index: u64) -> Snapshot {
        let mut registers = Registers::default();
        registers.skip(LogId::new(1, index));
        Snapshot { registers, members: MembersAt::default() }
    }

    #[test]
    fn the_newest_is_found_and_the_old_ones_go() {
        let mut shelf = Shelf::default();
        for index in [7, 5] {
            shelf.write(Purpose::Received, &snapshot(index)).unwrap();
            assert_eq!(shelf.finish(Purpose::Received).unwrap(), snapshot(index));
        }
        assert_eq!(shelf.newest(|_| true), Some(snapshot(7)));
        assert_eq!(shelf.newest(|id| id.index.0 < 7), Some(snapshot(5)));
        shelf.remove_before(LogId::new(1, 6));
        assert_eq!(shelf.newest(|_| true), Some(snapshot(7)));
        assert_eq!(shelf.newest(|id| id.index.0 < 7), None);
    }

    #[test]
    fn what_the_next_process_finds_is_durable() {
        for seed in 0..50 {
            let mut shelf = Shelf::default();
            shelf.write(Purpose::Received, &snapshot(3)).unwrap();
            shelf.finish(Purpose::Received).unwrap();
            shelf.write(Purpose::Received, &snapshot(9)).unwrap();
            shelf.sim().fail_sync(1, seed);
            assert!(shelf.finish(Purpose::Received).is_err(), "it has its name, which is not durable");
            shelf.heal();
            shelf.open().unwrap();
            let found = shelf.newest(|_| true).unwrap();
            shelf.remove_before(found.registers.applied);
            shelf.sim().crash(seed);
            assert_eq!(shelf.newest(|_| true), Some(found));
        }
    }

    #[test]
    fn a_power_loss_leaves_a_whole_file_or_none() {
        let mut seen = [0; 2];
        for seed in 0..50 {
            let mut shelf = Shelf::default();
            shelf.write(Purpose::Received, &snapshot(3)).unwrap();
            shelf.finish(Purpose::Received).unwrap();
            shelf.write(Purpose::Received, &snapshot(9)).unwrap();
            if seed % 2 == 0 {
                shelf.finish(Purpose::Received).unwrap();
            }
            shelf.sim().crash(seed);
            shelf.open().unwrap();
            let newest = shelf.newest(|_| true).unwrap().registers.applied.index.0;
            assert_eq!(newest, if seed % 2 == 0 { 9 } else { 3 });
            seen[seed as usize % 2] += 1;
        }
        assert_eq!(seen, [25, 25]);
    }
}
