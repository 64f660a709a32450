//! The one seam to storage: what the log asks of a directory of files.
//!
//! Owns the trait and its implementations: [`real`] on a file system, [`memory`] for as long as the process lives, [`sim`] in
//! memory with faults on demand, and one for a look at a file system that changes nothing. [`conformance`] says whether a
//! further one does what is expected of it. Must not know of records, segments or groups.

pub mod any;
pub mod conformance;
pub mod memory;
pub(crate) mod read_only;
pub mod real;
pub mod sim;

use std::io;
use std::path::PathBuf;

/// A directory of files that one log owns alone.
///
/// What is written may be lost until [`Disk::sync_data`] of the file has returned, in any order and in part, down to
/// one sector of 512 bytes. Names may be lost until [`Disk::sync_dir`] has returned. A sector is written as a whole or
/// not at all. Where clones of a directory are used, they share it: an open file of one may be given to another.
pub trait Disk {
    /// An open file.
    type File;

    /// The names of all files in the directory, in any order.
    fn list(&mut self) -> io::Result<Vec<String>>;

    /// Makes an empty file; replaces one of the same name.
    fn create(&mut self, name: &str) -> io::Result<Self::File>;

    /// Opens a file for reading and writing.
    fn open(&mut self, name: &str) -> io::Result<Self::File>;

    /// Gives a file another name, and replaces the file that has it.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&mut self, name: &str) -> io::Result<()>;

    /// Makes names durable.
    fn sync_dir(&mut self) -> io::Result<()>;

    /// Makes the file `bytes` long, reads as zeros where nothing was written, and reserves the space: no later write
    /// within it fails for want of space.
    fn preallocate(&mut self, file: &Self::File, bytes: u64) -> io::Result<()>;

    /// Cuts a file short that is removed and still open. To give all of a large file's space back at once takes long.
    fn shorten(&mut self, file: &Self::File, bytes: u64) -> io::Result<()>;

    /// How long the file is, in bytes.
    fn len(&self, file: &Self::File) -> io::Result<u64>;

    /// Says that all of a file will be read soon, so that the system may begin before it is asked. Changes nothing else, and
    /// may do nothing.
    fn read_ahead(&mut self, _name: &str) {}

    /// Fills `into` from `offset` on; an error if the file ends before.
    fn read_at(&self, file: &Self::File, into: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`.
    fn write_at(&mut self, file: &Self::File, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// The same for whole sectors, which a sync is to follow at once: offset and length are multiples of 512 bytes, and in memory
    /// they begin at a multiple of 4096. A disk whose system writes more than it is given, pages say, may go past it; by default it
    /// does not.
    fn write_sectors(&mut self, file: &Self::File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_at(file, bytes, offset)
    }

    /// Makes all that was written to the file durable, and its length.
    fn sync_data(&mut self, file: &Self::File) -> io::Result<()>;

    /// A number that the author of an entry cannot foretell, another one each time.
    fn salt(&mut self) -> u64;

    /// Where a file lies, for messages.
    fn path(&self, name: &str) -> PathBuf;

    /// How many bytes are free where the directory lies, for this directory and all that is beside it; `None`, the default,
    /// if that cannot be told.
    fn free_bytes(&self) -> Option<u64> {
        None
    }

    /// Whether each call returns within a few microseconds, as where all is in memory. No thread has to wait for it then. False by default.
    fn is_prompt(&self) -> bool {
        false
    }
}
