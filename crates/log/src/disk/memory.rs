//! A disk in memory, for tests and for programs whose data need not outlive them.
//!
//! Owns what each file shows and what of it is durable, so that power can be lost. Takes memory for what was written, not
//! for what was reserved, and gives it back when a file goes. Must not know what is in the files; faults by chance are
//! [`sim`](super::sim)'s.

use crate::disk::Disk;
use crate::disk::real::DirError;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Error, ErrorKind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Memory is taken in pieces of this many bytes.
const PAGE: usize = 4096;

type Page = [u8; PAGE];
type Pages = BTreeMap<u64, Arc<Page>>;

/// A disk in memory. Clones share it: a program keeps one, and what is opened on another finds everything again.
///
/// ```
/// use vlot_log::disk::{Disk, memory::MemoryDisk};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let disk = MemoryDisk::new();
/// let mut dir = disk.open("log")?;
/// let file = dir.create("a")?;
/// dir.write_at(&file, b"durable", 0)?;
/// dir.sync_data(&file)?;
/// dir.sync_dir()?;
/// dir.write_at(&file, b"too late", 0)?;
/// disk.lose_power(); // whatever has the directory open can do nothing more with it
///
/// let mut dir = disk.open("log")?;
/// let (file, mut bytes) = (dir.open("a")?, [0; 7]);
/// dir.read_at(&file, &mut bytes, 0)?;
/// assert_eq!(&bytes, b"durable");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk(Arc<Mutex<State>>);

/// A directory of a [`MemoryDisk`], which is this value's and its clones' until all of them are dropped.
#[derive(Clone, Debug)]
pub struct MemoryDir {
    disk: MemoryDisk,
    lock: Arc<Lock>,
}

/// An open file of a [`MemoryDir`].
#[derive(Clone, Debug)]
pub struct MemoryFile(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
struct State {
    folders: BTreeMap<String, Folder>,
    /// How long all files may be together.
    bytes_max: Option<u64>,
    /// How often power was lost. What was opened before is of no use.
    losses: u64,
}

#[derive(Debug, Default)]
struct Folder {
    names: BTreeMap<String, MemoryFile>,
    names_durable: BTreeMap<String, MemoryFile>,
    is_open: bool,
}

/// What keeps a directory from being opened twice.
#[derive(Debug)]
struct Lock {
    disk: MemoryDisk,
    folder: String,
    /// As many losses of power there were when it was opened.
    losses: u64,
}

#[derive(Debug, Default)]
struct Content {
    shown: Extent,
    durable: Extent,
    /// Pages of which the two may differ.
    unsynced: BTreeSet<u64>,
    /// Power was lost since it was opened.
    is_lost: bool,
}

/// Bytes of a file. Where there is no page there are zeros.
#[derive(Clone, Debug, Default)]
struct Extent {
    pages: Pages,
    bytes: u64,
}

impl MemoryDisk {
    /// An empty disk without a bound.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a directory; makes it if there is none.
    ///
    /// # Errors
    /// [`DirError::Locked`] if something on this disk has it open.
    pub fn open(&self, folder: &str) -> Result<MemoryDir, DirError> {
        let mut state = self.state();
        let losses = state.losses;
        let opened = state.folders.entry(folder.to_owned()).or_default();
        if std::mem::replace(&mut opened.is_open, true) {
            return Err(DirError::Locked { dir: path(folder) });
        }
        drop(state);
        let lock = Lock { disk: self.clone(), folder: folder.to_owned(), losses };
        Ok(MemoryDir { disk: self.clone(), lock: Arc::new(lock) })
    }

    /// Cuts the power: what was not synced is gone, and every act on what is open at this moment fails from here on. Each
    /// directory can be opened again.
    pub fn lose_power(&self) {
        let mut state = self.state();
        state.losses += 1;
        for folder in state.folders.values_mut() {
            let known = folder.names.values().chain(folder.names_durable.values());
            known.for_each(|file| file.content().is_lost = true);
            folder.names_durable.values_mut().for_each(|file| *file = file.as_it_is_durable());
            folder.names = folder.names_durable.clone();
            folder.is_open = false;
        }
    }

    /// Bounds how long all files may be together, in bytes, reserved space included; `None`, as at the beginning, for no
    /// bound. What is there stays.
    pub fn limit(&self, bytes: Option<u64>) {
        self.state().bytes_max = bytes;
    }

    /// How long all files are together, in bytes, reserved space included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.state().bytes()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn bytes(&self) -> u64 {
        let files = self.folders.values().flat_map(|folder| folder.names.values());
        files.map(|file| file.content().shown.bytes).sum()
    }

    /// Makes a file longer, if there is room. Without an act, it is checked that it may be used.
    fn extend(&self, file: &MemoryFile, upto: u64) -> io::Result<()> {
        let more = upto.saturating_sub(file.usable()?.shown.bytes);
        if more > 0 && self.bytes_max.is_some_and(|max| self.bytes().saturating_add(more) > max) {
            return Err(Error::from(ErrorKind::StorageFull));
        }
        let mut content = file.usable()?;
        content.shown.bytes = content.shown.bytes.max(upto);
        Ok(())
    }
}

impl MemoryDir {
    /// Works on the directory, unless power was lost since it was opened.
    fn with<T>(&self, act: impl FnOnce(&mut Folder) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.state();
        if state.losses != self.lock.losses {
            return Err(power_was_lost());
        }
        act(state.folders.entry(self.lock.folder.clone()).or_default())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.losses == self.losses
            && let Some(folder) = state.folders.get_mut(&self.folder)
        {
            folder.is_open = false;
        }
    }
}

impl MemoryFile {
    fn content(&self) -> MutexGuard<'_, Content> {
        // Nothing under the lock panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn usable(&self) -> io::Result<MutexGuard<'_, Content>> {
        let content = self.content();
        if content.is_lost { Err(power_was_lost()) } else { Ok(content) }
    }

    /// Another file with what this one keeps without power.
    fn as_it_is_durable(&self) -> Self {
        let durable = self.content().durable.clone();
        Self(Arc::new(Mutex::new(Content { shown: durable.clone(), durable, ..Content::default() })))
    }
}

impl Content {
    fn write(&mut self, mut bytes: &[u8], mut offset: u64) {
        while !bytes.is_empty() {
            let (page, at) = place(offset);
            let (now, later) = bytes.split_at(bytes.len().min(PAGE - at));
            let content = self.shown.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(content)[at..at + now.len()].copy_from_slice(now);
            self.unsynced.insert(page);
            (bytes, offset) = (later, offset + now.len() as u64);
        }
    }

    fn shorten(&mut self, bytes: u64) {
        if bytes >= self.shown.bytes {
            return;
        }
        let (last, at) = place(bytes);
        let gone = self.shown.pages.split_off(&(last + u64::from(at > 0)));
        self.unsynced.extend(gone.into_keys());
        if let Some(content) = self.shown.pages.get_mut(&last) {
            Arc::make_mut(content)[at..].fill(0);
            self.unsynced.insert(last);
        }
        self.shown.bytes = bytes;
    }

    fn sync(&mut self) {
        for page in std::mem::take(&mut self.unsynced) {
            match self.shown.pages.get(&page) {
                Some(content) => drop(self.durable.pages.insert(page, Arc::clone(content))),
                None => drop(self.durable.pages.remove(&page)),
            }
        }
        self.durable.bytes = self.shown.bytes;
    }
}

impl Extent {
    fn read(&self, mut into: &mut [u8], mut offset: u64) -> io::Result<()> {
        if end(offset, into)? > self.bytes {
            return Err(Error::from(ErrorKind::UnexpectedEof));
        }
        while !into.is_empty() {
            let (page, at) = place(offset);
            let (now, later) = into.split_at_mut((PAGE - at).min(into.len()));
            match self.pages.get(&page) {
                Some(content) => now.copy_from_slice(&content[at..at + now.len()]),
                None => now.fill(0),
            }
            offset += now.len() as u64;
            into = later;
        }
        Ok(())
    }
}

/// In which page an offset is, and where in it.
fn place(offset: u64) -> (u64, usize) {
    (offset / PAGE as u64, (offset % PAGE as u64) as usize)
}

fn end(offset: u64, bytes: &[u8]) -> io::Result<u64> {
    offset.checked_add(bytes.len() as u64).ok_or_else(|| Error::from(ErrorKind::InvalidInput))
}

fn power_was_lost() -> Error {
    Error::other("the power of this disk was lost after the directory was opened; open it again")
}

fn path(folder: &str) -> PathBuf {
    PathBuf::from("memory:").join(folder)
}

impl Disk for MemoryDir {
    type File = MemoryFile;

    fn list(&mut self) -> io::Result<Vec<String>> {
        self.with(|folder| Ok(folder.names.keys().cloned().collect()))
    }

    fn create(&mut self, name: &str) -> io::Result<MemoryFile> {
        self.with(|folder| {
            let file = MemoryFile(Arc::default());
            folder.names.insert(name.to_owned(), file.clone());
            Ok(file)
        })
    }

    fn open(&mut self, name: &str) -> io::Result<MemoryFile> {
        self.with(|folder| folder.names.get(name).cloned().ok_or_else(|| Error::from(ErrorKind::NotFound)))
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.with(|folder| {
            let file = folder.names.remove(from).ok_or(ErrorKind::NotFound)?;
            folder.names.insert(to.to_owned(), file);
            Ok(())
        })
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.with(|folder| folder.names.remove(name).map(drop).ok_or_else(|| Error::from(ErrorKind::NotFound)))
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        self.with(|folder| {
            folder.names_durable = folder.names.clone();
            Ok(())
        })
    }

    fn preallocate(&mut self, file: &MemoryFile, bytes: u64) -> io::Result<()> {
        self.disk.state().extend(file, bytes)
    }

    fn shorten(&mut self, file: &MemoryFile, bytes: u64) -> io::Result<()> {
        file.usable()?.shorten(bytes);
        Ok(())
    }

    fn len(&self, file: &MemoryFile) -> io::Result<u64> {
        Ok(file.usable()?.shown.bytes)
    }

    fn read_at(&self, file: &MemoryFile, into: &mut [u8], offset: u64) -> io::Result<()> {
        file.usable()?.shown.read(into, offset)
    }

    fn write_at(&mut self, file: &MemoryFile, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.state().extend(file, end(offset, bytes)?)?;
        file.usable()?.write(bytes, offset);
        Ok(())
    }

    fn sync_data(&mut self, file: &MemoryFile) -> io::Result<()> {
        file.usable()?.sync();
        Ok(())
    }

    fn salt(&mut self) -> u64 {
        // Its keys are the system's random numbers.
        RandomState::new().build_hasher().finish()
    }

    fn path(&self, name: &str) -> PathBuf {
        path(&self.lock.folder).join(name)
    }

    fn free_bytes(&self) -> Option<u64> {
        let state = self.disk.state();
        state.bytes_max.map(|max| max.saturating_sub(state.bytes()))
    }

    fn is_prompt(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_open_once_until_its_last_clone_is_dropped() {
        let disk = MemoryDisk::new();
        let dir = disk.open("log").expect("nothing has it");
        let clone = dir.clone();
        drop(dir);
        assert!(matches!(disk.open("log"), Err(DirError::Locked { .. })));
        assert!(disk.open("snapshots").is_ok(), "another one is free");
        drop(clone);
        assert!(disk.open("log").is_ok());
    }

    #[test]
    fn what_is_open_when_power_is_lost_is_of_no_use() {
        let disk = MemoryDisk::new();
        let mut before = disk.open("log").expect("nothing has it");
        let file = before.create("a").expect("no fault");
        before.sync_dir().expect("no fault");
        disk.lose_power();
        assert!(before.write_at(&file, b"x", 0).is_err() && before.sync_data(&file).is_err());
        assert!(before.list().is_err() && before.create("b").is_err() && before.sync_dir().is_err());
        let mut after = disk.open("log").expect("it is free again");
        assert_eq!(after.list().expect("no fault"), ["a"]);
        drop(before);
        assert!(matches!(disk.open("log"), Err(DirError::Locked { .. })), "the earlier one frees it no more");
    }

    #[test]
    fn a_full_disk_refuses_what_is_longer_and_nothing_else() {
        let disk = MemoryDisk::new();
        let mut dir = disk.open("log").expect("nothing has it");
        let file = dir.create("a").expect("no fault");
        assert_eq!(dir.free_bytes(), None);
        disk.limit(Some(10_000));
        dir.preallocate(&file, 8_000).expect("there is room");
        assert_eq!((disk.bytes(), dir.free_bytes()), (8_000, Some(2_000)));
        let refused = dir.write_at(&file, &[7; 3_000], 7_001).expect_err("one byte too much");
        assert_eq!((refused.kind(), dir.len(&file).expect("no fault")), (ErrorKind::StorageFull, 8_000));
        dir.write_at(&file, &[7; 3_000], 7_000).expect("it fits exactly");
        dir.remove("a").expect("it is there");
        assert_eq!(dir.free_bytes(), Some(10_000));
    }

    #[test]
    fn what_is_reserved_or_cut_off_takes_no_memory() {
        let disk = MemoryDisk::new();
        let mut dir = disk.open("log").expect("nothing has it");
        let file = dir.create("a").expect("no fault");
        dir.preallocate(&file, 1 << 40).expect("no bound");
        assert!(file.content().shown.pages.is_empty());
        dir.write_at(&file, &[7; 3 * PAGE], 1 << 30).expect("no bound");
        dir.sync_data(&file).expect("no fault");
        dir.shorten(&file, (1 << 30) + 10).expect("no fault");
        dir.sync_data(&file).expect("no fault");
        let content = file.content();
        assert_eq!((content.shown.pages.len(), content.durable.pages.len()), (1, 1));
    }
}
