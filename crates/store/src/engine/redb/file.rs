//! The engine's file, and how often a thread had to wait for the disk to read from it.
//!
//! Owns how a page is read and how the file becomes shorter. All else is redb's own backend's.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSliceMut};
use std::ops::Bound;
use std::path::Path;
use std::thread;
use std::time::Instant;

use redb::backends::FileBackend;
use redb::{BackendError, DatabaseError, StorageBackend};
#[cfg(target_os = "linux")]
use rustix::io::{ReadWriteFlags, preadv2};

use super::replaced::{InUse, cut};

thread_local! {
    static DISK_WAITS: Cell<u64> = const { Cell::new(0) };
}

/// How many pages this thread has read that the system did not have in memory, as far as the system tells.
#[must_use]
pub fn disk_waits_of_this_thread() -> u64 {
    DISK_WAITS.get()
}

/// A file as redb's own backend has it, but for how it is read.
#[derive(Debug)]
pub(super) struct WatchedFile {
    backend: FileBackend,
    /// The same file, opened once more: closing a copy of a descriptor would release its locks.
    to_read: File,
    /// How long this file is in use.
    _in_use: InUse,
}

impl WatchedFile {
    /// Opens a file, or makes it.
    pub fn open(path: &Path, in_use: InUse) -> Result<Self, DatabaseError> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(Self { backend: FileBackend::new(file)?, to_read: File::open(path)?, _in_use: in_use })
    }
}

/// Fills `out` from the system's memory. False if not all of it is there.
#[cfg(target_os = "linux")]
fn read_at_once(file: &File, offset: u64, out: &mut [u8]) -> io::Result<bool> {
    let wanted = out.len();
    match preadv2(file, &mut [IoSliceMut::new(out)], offset, ReadWriteFlags::NOWAIT) {
        Ok(read) => Ok(read == wanted),
        Err(rustix::io::Errno::AGAIN) => Ok(false),
        // Not on every file system.
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn read_at_once(_: &File, _: u64, _: &mut [u8]) -> io::Result<bool> {
    Err(io::ErrorKind::Unsupported.into())
}

impl StorageBackend for WatchedFile {
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match read_at_once(&self.to_read, offset, out) {
            Ok(true) => return Ok(()),
            Ok(false) => DISK_WAITS.set(DISK_WAITS.get() + 1),
            // Whether it has to be waited for cannot be told.
            Err(_) => {}
        }
        self.backend.read(offset, out)
    }

    fn len(&self) -> io::Result<u64> {
        self.backend.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        // A file that is a good deal shorter at once holds up what others write, as one that is removed does.
        let mut begun = Instant::now();
        let mut rest = || {
            thread::sleep(begun.elapsed());
            begun = Instant::now();
        };
        cut(self.backend.len()?, len, |len| self.backend.set_len(len), &mut rest)?;
        self.backend.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.backend.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.backend.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.backend.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::fs::{Advice, fadvise, statfs};

    use super::*;

    const TMPFS: i64 = 0x0102_1994;

    #[test]
    fn a_page_that_is_not_in_memory_counts_once() {
        let path = std::env::current_exe().unwrap().with_extension(format!("{}.pages", std::process::id()));
        let content: Vec<u8> = (0..1_u32 << 20).map(|place| (place >> 10) as u8).collect();
        let watched = WatchedFile::open(&path, InUse::default()).unwrap();
        watched.set_len(content.len() as u64).unwrap();
        watched.write(0, &content).unwrap();
        let read = |offset: usize| {
            let before = disk_waits_of_this_thread();
            let mut page = [0; 4_096];
            watched.read(offset as u64, &mut page).unwrap();
            assert_eq!(page[..], content[offset..][..4_096]);
            disk_waits_of_this_thread() - before
        };
        assert_eq!(read(8_192), 0, "what was just written is in memory");
        watched.sync_data().unwrap();
        // The advice is not always taken at once: a page that the system is busy with stays.
        let is_in_memory_alone = statfs(&path).unwrap().f_type == TMPFS;
        let waits = (0..if is_in_memory_alone { 1 } else { 500 })
            .map(|_| {
                fadvise(&watched.to_read, 0, None, Advice::DontNeed).unwrap();
                let waits = read(8_192);
                if waits == 0 {
                    thread::sleep(Duration::from_millis(10));
                }
                waits
            })
            .find(|waits| *waits > 0)
            .unwrap_or_default();
        assert_eq!(waits, u64::from(!is_in_memory_alone));
        assert_eq!(read(8_192), 0, "what was just read is in memory");
        assert!(watched.read(content.len() as u64, &mut [0; 1]).is_err(), "there is nothing behind the end");
        watched.close().unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}
