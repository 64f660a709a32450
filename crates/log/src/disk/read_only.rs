//! A directory that is looked at and left alone.
//!
//! Owns nothing, not even the directory's lock: another process may have the log open and write to it. Its files are
//! opened for reading, so the system itself refuses whatever would change them.

use crate::disk::Disk;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// A directory on a file system, of which nothing is changed.
#[derive(Debug)]
pub(crate) struct ReadOnlyDisk {
    place: PathBuf,
}

impl ReadOnlyDisk {
    pub(crate) fn new(place: PathBuf) -> Self {
        Self { place }
    }
}

impl Disk for ReadOnlyDisk {
    type File = File;

    fn list(&mut self) -> io::Result<Vec<String>> {
        // A name that is not UTF-8 is none of ours.
        let name = |entry: io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name().into_string().ok());
        fs::read_dir(&self.place)?.filter_map(|entry| name(entry).transpose()).collect()
    }

    fn open(&mut self, name: &str) -> io::Result<File> {
        File::open(self.place.join(name))
    }

    fn len(&self, file: &File) -> io::Result<u64> {
        Ok(file.metadata()?.len())
    }

    fn read_at(&self, file: &File, into: &mut [u8], offset: u64) -> io::Result<()> {
        file.read_exact_at(into, offset)
    }

    fn salt(&mut self) -> u64 {
        // For a file that is refused.
        0
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.join(name)
    }

    fn create(&mut self, _: &str) -> io::Result<File> {
        refuse()
    }

    fn rename(&mut self, _: &str, _: &str) -> io::Result<()> {
        refuse()
    }

    fn remove(&mut self, _: &str) -> io::Result<()> {
        refuse()
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        refuse()
    }

    fn preallocate(&mut self, _: &File, _: u64) -> io::Result<()> {
        refuse()
    }

    fn shorten(&mut self, _: &File, _: u64) -> io::Result<()> {
        refuse()
    }

    fn write_at(&mut self, _: &File, _: &[u8], _: u64) -> io::Result<()> {
        refuse()
    }

    fn sync_data(&mut self, _: &File) -> io::Result<()> {
        refuse()
    }
}

fn refuse<T>() -> io::Result<T> {
    Err(io::Error::from(io::ErrorKind::ReadOnlyFilesystem))
}
