//! A directory on a file system.
//!
//! Owns the directory's lock, so that two processes never write one log. Knows nothing of what is in the files.

use crate::aligned::is_aligned;
use crate::disk::Disk;
use rustix::fs::{Advice, CWD, FallocateFlags, OFlags, RenameFlags, fadvise, fallocate, renameat_with, statvfs};
use rustix::io::Errno;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Held locked for as long as the directory is in use.
const LOCK: &str = "LOCK";

/// Writes that are longer than this go by way of the system's pages: that they are whole makes no difference.
const DIRECT_BYTES_MAX: usize = 1 << 20;

/// A directory that this process has for itself until the value and all its clones are dropped.
///
/// Clones share the lock, so that several threads can work on one directory. What they do to the same file is not
/// ordered here.
#[derive(Clone, Debug)]
pub struct RealDisk {
    place: PathBuf,
    /// Open for as long as the lock is to be held.
    _lock: Arc<File>,
    /// Whether the disk has refused to be written to past the system's pages: its sectors may be longer than ours.
    refuses_direct: bool,
}

/// A file of a [`RealDisk`].
#[derive(Debug)]
pub struct RealFile {
    paged: File,
    /// The same file, past the system's pages; `None` where the file system has no such way.
    direct: Option<File>,
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
            Ok(lock) => Ok(Self { place: dir, _lock: Arc::new(lock), refuses_direct: false }),
            Err(TryLockError::WouldBlock) => Err(DirError::Locked { dir }),
            Err(TryLockError::Error(error)) => Err(DirError::Io { dir, error }),
        }
    }

    fn open_with(&self, name: &str, options: &mut OpenOptions) -> io::Result<RealFile> {
        let path = self.place.join(name);
        let paged = options.read(true).write(true).open(&path)?;
        let direct = OpenOptions::new().write(true).custom_flags(OFlags::DIRECT.bits() as i32).open(&path).ok();
        Ok(RealFile { paged, direct })
    }

    /// Writes whole sectors from where they are, past the system's pages. `false` if that is not possible, and it has to be done
    /// in another way.
    fn write_direct(&mut self, file: &RealFile, bytes: &[u8], offset: u64) -> io::Result<bool> {
        let is_possible = !self.refuses_direct && bytes.len() <= DIRECT_BYTES_MAX && is_aligned(bytes);
        let Some(direct) = file.direct.as_ref().filter(|_| is_possible) else {
            return Ok(false);
        };
        match direct.write_all_at(bytes, offset) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => {
                self.refuses_direct = true;
                Ok(false)
            }
            done => done.map(|()| true),
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
    type File = RealFile;

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

    fn create(&mut self, name: &str) -> io::Result<RealFile> {
        self.open_with(name, OpenOptions::new().create(true).truncate(true))
    }

    fn open(&mut self, name: &str) -> io::Result<RealFile> {
        self.open_with(name, &mut OpenOptions::new())
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

    fn preallocate(&mut self, file: &RealFile, bytes: u64) -> io::Result<()> {
        match fallocate(&file.paged, FallocateFlags::empty(), 0, bytes) {
            Err(Errno::OPNOTSUPP) => write_zeros(&file.paged, bytes),
            done => Ok(done?),
        }
    }

    fn shorten(&mut self, file: &RealFile, bytes: u64) -> io::Result<()> {
        file.paged.set_len(bytes)
    }

    fn len(&self, file: &RealFile) -> io::Result<u64> {
        Ok(file.paged.metadata()?.len())
    }

    fn read_ahead(&mut self, name: &str) {
        // Where it does not help, the file is read when it is read.
        let _ = File::open(self.place.join(name)).map(|file| fadvise(file, 0, None, Advice::WillNeed));
    }

    fn read_at(&self, file: &RealFile, into: &mut [u8], offset: u64) -> io::Result<()> {
        file.paged.read_exact_at(into, offset)
    }

    fn write_at(&mut self, file: &RealFile, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.paged.write_all_at(bytes, offset)
    }

    fn write_sectors(&mut self, file: &RealFile, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.write_direct(file, bytes, offset)? { Ok(()) } else { self.write_at(file, bytes, offset) }
    }

    fn sync_data(&mut self, file: &RealFile) -> io::Result<()> {
        file.paged.sync_data()
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
    use crate::aligned::AlignedBytes;

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

    /// A disk whose sectors are longer than ours refuses them, as any does what is not whole.
    #[test]
    fn what_cannot_go_past_the_pages_goes_through_them() {
        let dir = std::env::temp_dir().join(format!("vlot-log-direct-{}", std::process::id()));
        let mut disk = RealDisk::open(&dir).expect("a new directory");
        let file = disk.create("file").expect("there is room");
        let content = || fs::read(dir.join("file")).expect("it is there");
        let aligned = |byte, length| {
            let mut aligned = AlignedBytes::default();
            aligned.extend_from_slice(&vec![byte; length]);
            aligned
        };
        disk.write_sectors(&file, &aligned(1, 1024), 0).expect("there is room");
        let is_direct = file.direct.is_some() && !disk.refuses_direct;
        // From here no disk can take it, which is not the disk's fault.
        disk.write_sectors(&file, &aligned(1, 1536)[8..520], 512).expect("there is room");
        assert_eq!(is_direct, file.direct.is_some() && !disk.refuses_direct);
        disk.write_sectors(&file, &aligned(2, 512), 100).expect("there is room");
        assert!(!is_direct || disk.refuses_direct);
        assert_eq!(content(), [&[1; 100][..], &[2; 512], &[1; 412]].concat());
        disk.write_sectors(&file, &[3; DIRECT_BYTES_MAX + 512], 512).expect("there is room");
        assert_eq!((content().len(), content()[512..] == [3; DIRECT_BYTES_MAX + 512]), (DIRECT_BYTES_MAX + 1024, true));
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
