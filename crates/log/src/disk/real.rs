//! A directory on a file system.
//!
//! Owns the directory's lock, so that two processes never write one log. Knows nothing of what is in the files.

use crate::disk::Disk;
use rustix::fs::{Advice, CWD, FallocateFlags, RenameFlags, fadvise, fallocate, renameat_with, statvfs};
use rustix::io::Errno;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Held locked for as long as the directory is in use.
const LOCK: &str = "LOCK";

/// A directory that this process has for itself until the value and all its clones are dropped.
///
/// Clones share the lock, so that several threads can work on one directory. What they do to the same file is not
/// ordered here.
#[derive(Clone, Debug)]
pub struct RealDisk {
    place: PathBuf,
    /// Open for as long as the lock is to be held.
    _lock: Arc<File>,
}

/// Why a directory cannot be used.
#[derive(Debug)]
pub enum DirError {
    /// Another process, or another value in this one, has it.
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// It cannot be created, read or locked.
    Io {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl RealDisk {
    /// Takes a directory; creates it, and those above it, if there is none.
    ///
    /// # Errors
    /// [`DirError::Locked`] if it is taken, [`DirError::Io`] if the system refuses it.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, DirError> {
        let dir = dir.into();
        match take(&dir) {
            Ok(lock) => Ok(Self { place: dir, _lock: Arc::new(lock) }),
            Err(TryLockError::WouldBlock) => Err(DirError::Locked { dir }),
            Err(TryLockError::Error(error)) => Err(DirError::Io { dir, error }),
        }
    }
}

/// Lets two directories of one file system change places, in one step: a crash finds both, each under one of the names.
/// Durable once the directories that hold them are synced.
///
/// # Errors
/// If the system refuses it, or the file system cannot.
pub fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

/// Makes the directory and its lock.
fn take(dir: &Path) -> Result<File, TryLockError> {
    create_durably(dir).map_err(TryLockError::Error)?;
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(dir.join(LOCK));
    let lock = lock.map_err(TryLockError::Error)?;
    lock.try_lock()?;
    Ok(lock)
}

/// Makes a directory such that its name outlives a loss of power.
fn create_durably(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let above = match dir.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    };
    create_durably(above)?;
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    File::open(above)?.sync_all()
}

impl Disk for RealDisk {
    type File = File;

    fn list(&mut self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.place)? {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&mut self, name: &str) -> io::Result<File> {
        OpenOptions::new().create(true).truncate(true).read(true).write(true).open(self.place.join(name))
    }

    fn open(&mut self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.place.join(name))
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.place.join(from), self.place.join(to))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        fs::remove_file(self.place.join(name))
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        File::open(&self.place)?.sync_all()
    }

    fn preallocate(&mut self, file: &File, bytes: u64) -> io::Result<()> {
        match fallocate(file, FallocateFlags::empty(), 0, bytes) {
            Err(Errno::OPNOTSUPP) => write_zeros(file, bytes),
            done => Ok(done?),
        }
    }

    fn shorten(&mut self, file: &File, bytes: u64) -> io::Result<()> {
        file.set_len(bytes)
    }

    fn len(&self, file: &File) -> io::Result<u64> {
        Ok(file.metadata()?.len())
    }

    fn read_ahead(&mut self, name: &str) {
        // Where it does not help, the file is read when it is read.
        let _ = File::open(self.place.join(name)).map(|file| fadvise(file, 0, None, Advice::WillNeed));
    }

    fn read_at(&self, file: &File, into: &mut [u8], offset: u64) -> io::Result<()> {
        file.read_exact_at(into, offset)
    }

    fn write_at(&mut self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync_data(&mut self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn salt(&mut self) -> u64 {
        // Its keys are the system's random numbers.
        RandomState::new().build_hasher().finish()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.join(name)
    }

    fn free_bytes(&self) -> Option<u64> {
        free_bytes(&self.place).ok()
    }
}

/// How many bytes are free in the file system that a directory is in, for a user without administrative rights.
///
/// # Errors
/// If the system does not tell.
pub fn free_bytes(dir: &Path) -> io::Result<u64> {
    let system = statvfs(dir)?;
    Ok(system.f_bavail.saturating_mul(system.f_frsize))
}

/// Reserves space on a file system that has no call for it.
fn write_zeros(file: &File, bytes: u64) -> io::Result<()> {
    const AT_ONCE: u64 = 1024 * 1024;
    let zeros = vec![0; AT_ONCE.min(bytes) as usize];
    for at in (0..bytes).step_by(AT_ONCE as usize) {
        file.write_all_at(&zeros[..AT_ONCE.min(bytes - at) as usize], at)?;
    }
    Ok(())
}

impl fmt::Display for DirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked { dir } => write!(
                f,
                "{}: the directory is in use by another process, or by another node of this one",
                dir.display()
            ),
            Self::Io { dir, error } => write!(f, "{}: {error}", dir.display()),
        }
    }
}

impl std::error::Error for DirError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Locked { .. } => None,
            Self::Io { error, .. } => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_tells_what_is_free() {
        assert!(free_bytes(&std::env::temp_dir()).expect("it is there") > 0);
        assert!(free_bytes(Path::new("/not there")).is_err());
    }

    #[test]
    fn the_lock_is_held_until_the_last_clone_is_dropped() {
        let dir = std::env::temp_dir().join(format!("vlot-log-clone-{}", std::process::id()));
        let disk = RealDisk::open(&dir).expect("a new directory");
        let clone = disk.clone();
        drop(disk);
        assert!(matches!(RealDisk::open(&dir), Err(DirError::Locked { .. })));
        drop(clone);
        assert!(RealDisk::open(&dir).is_ok());
        fs::remove_dir_all(dir).expect("it is ours");
    }

    #[test]
    fn no_salt_is_drawn_twice() {
        let dir = std::env::temp_dir().join(format!("vlot-log-salt-{}", std::process::id()));
        let mut disk = RealDisk::open(&dir).expect("a new directory");
        let salts: std::collections::BTreeSet<u64> = (0..1000).map(|_| disk.salt()).collect();
        assert_eq!(salts.len(), 1000);
        fs::remove_dir_all(dir).expect("it is ours");
    }

    #[test]
    fn zeros_fill_a_file() {
        let path = std::env::temp_dir().join(format!("vlot-log-zeros-{}", std::process::id()));
        let file = File::create(&path).expect("a new file");
        write_zeros(&file, 1024 * 1024 + 4096).expect("there is room");
        assert_eq!(file.metadata().expect("it is there").len(), 1024 * 1024 + 4096);
        fs::remove_file(path).expect("it is ours");
    }
}
