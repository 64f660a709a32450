//! A directory on a real file system that is gone afterwards.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::Outcome;

/// Removed with all that is in it when the value is dropped.
pub(crate) struct Scratch {
    dir: PathBuf,
}

impl Scratch {
    pub(crate) fn new(within: &Path) -> Outcome<Self> {
        let dir = within.join(format!("vlot-bench-{}", std::process::id()));
        fs::create_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        Ok(Self { dir })
    }

    /// A place in it for one log.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The device and the type of the file system, as the system names them.
    pub(crate) fn file_system(&self) -> String {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let dir = self.dir.canonicalize().unwrap_or_else(|_| self.dir.clone());
        let found = mounts.lines().filter_map(|line| {
            let mut words = line.split(' ');
            let (device, on, kind) = (words.next()?, words.next()?, words.next()?);
            dir.starts_with(on).then(|| (on.len(), format!("{kind} on {device}")))
        });
        found.max().map_or_else(|| "unknown file system".to_owned(), |(_, name)| name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("{} is left behind: {error}", self.dir.display());
        }
    }
}

/// Makes the system forget what it holds in memory of the files in a directory, so that they are read from the disk.
pub(crate) fn make_cold(dir: &Path) -> Outcome<()> {
    for entry in fs::read_dir(dir)? {
        let file = File::open(entry?.path())?;
        file.sync_all()?;
        posix_fadvise(file.as_raw_fd(), 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    }
    Ok(())
}
