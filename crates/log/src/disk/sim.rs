//! A directory in memory that loses, tears and damages what it holds, as told by a seed.
//!
//! Owns what each file shows, what would be left of it if power were lost, and the faults to come. Knows nothing of
//! what is in the files. Two runs with the same calls and seeds are the same, byte for byte.

use crate::disk::Disk;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Error, ErrorKind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

/// What a disk writes as a whole or not at all, in bytes.
const SECTOR: usize = 512;

/// Numbers drawn from a seed (splitmix64).
#[derive(Clone, Debug, Default)]
pub struct Rng(u64);

impl Rng {
    /// A source that gives the same numbers for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which must not be zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }
}

/// A handle on a directory in memory. Clones share it: a test keeps one to cut the power, a log gets another.
#[derive(Clone, Debug, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

/// A file of a [`SimDisk`].
#[derive(Clone, Copy, Debug)]
pub struct SimFile(usize);

#[derive(Debug, Default)]
struct State {
    /// Every file there ever was; one without a name is gone.
    files: Vec<File>,
    names: Names,
    names_durable: Names,
    /// What was done to names since they were last durable, in order.
    names_acts: Vec<NameAct>,
    faults: Faults,
    /// How many writes and syncs there were, of files and of the directory.
    acts: u64,
    /// How many bytes were written.
    bytes_written: u64,
    /// How many bytes files may be long together.
    capacity: Option<u64>,
    salts: Rng,
}

type Names = BTreeMap<String, usize>;

#[derive(Clone, Debug)]
enum NameAct {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
}

#[derive(Debug, Default)]
struct File {
    /// What is read.
    shown: Vec<u8>,
    /// What is on the disk.
    durable: Vec<u8>,
    /// Each sector that was written since the last sync, as it was after each write.
    versions: BTreeMap<usize, Vec<[u8; SECTOR]>>,
}

#[derive(Debug, Default)]
struct Faults {
    /// Counts down; the act that it reaches zero with fails.
    write: Option<u64>,
    sync: Option<u64>,
    act: Option<u64>,
    /// The write for which there is no space.
    full: Option<u64>,
    /// The write that reaches no disk, or another place.
    astray: Option<u64>,
    /// Where a write goes that does not get to where it should; nowhere if there is none.
    elsewhere: Option<Rng>,
    rng: Option<Rng>,
    /// How many acts there are before none is done any more.
    off_at: Option<u64>,
}

impl SimDisk {
    /// An empty directory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cuts the power: of what was not synced, each sector keeps one of the contents it had since, and each change to
    /// a name happens or does not.
    pub fn crash(&self, seed: u64) {
        self.state().crash(&mut Rng::new(seed));
    }

    /// Cuts the power, and lets `choose` decide what is left: it is asked for a number below another once for each sector
    /// that may have one of several contents, for each file that may have one of two lengths, and for each change to a
    /// name. With 0 each time nothing is left of what was not synced.
    pub fn crash_as(&self, choose: &mut dyn FnMut(u64) -> u64) {
        self.state().crash_as(choose);
    }

    /// Lets every act fail from the `nth` write or sync from here on (0 is the next), and do nothing: what was written
    /// until then is what [`SimDisk::crash`] decides about.
    pub fn turn_off(&self, nth: u64) {
        let mut state = self.state();
        state.faults.off_at = Some(state.acts + nth);
    }

    /// Lets the `nth` write from here on (0 is the next) fail after it was done in part.
    pub fn fail_write(&self, nth: u64, seed: u64) {
        let faults = &mut self.state().faults;
        (faults.write, faults.rng) = (Some(nth), Some(Rng::new(seed)));
    }

    /// Lets the `nth` sync from here on (0 is the next) fail. As on Linux, what it was to write is shown from then on
    /// as if it were on the disk, but only a part of it is, and no later sync writes the rest.
    pub fn fail_sync(&self, nth: u64, seed: u64) {
        let faults = &mut self.state().faults;
        (faults.sync, faults.rng) = (Some(nth), Some(Rng::new(seed)));
    }

    /// Lets the `nth` write from here on (0 is the next) find no space, as on a file system that writes nothing in place.
    pub fn refuse_write(&self, nth: u64) {
        self.state().faults.full = Some(nth);
    }

    /// Lets the `nth` write from here on (0 is the next) never reach the disk, although that and the next sync say that it
    /// has. Until power is lost the system shows it, and a later write to one of its sectors brings all of that sector.
    pub fn lose_write(&self, nth: u64) {
        let faults = &mut self.state().faults;
        (faults.astray, faults.elsewhere) = (Some(nth), None);
    }

    /// The same, and the disk puts it somewhere else: over other sectors of any file, which the system does not notice
    /// until power is lost.
    pub fn misdirect_write(&self, nth: u64, seed: u64) {
        let faults = &mut self.state().faults;
        (faults.astray, faults.elsewhere) = (Some(nth), Some(Rng::new(seed)));
    }

    /// Lets the `nth` write or sync from here on (0 is the next) fail, as [`SimDisk::fail_write`] and
    /// [`SimDisk::fail_sync`] do.
    pub fn fail_act(&self, nth: u64, seed: u64) {
        let faults = &mut self.state().faults;
        (faults.act, faults.rng) = (Some(nth), Some(Rng::new(seed)));
    }

    /// Takes back the faults that were to come.
    pub fn heal(&self) {
        self.state().faults = Faults::default();
    }

    /// Bounds how long files may be together, in bytes; `None` for no bound.
    pub fn limit_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Lets [`Disk::salt`] give other numbers from here on, drawn from a seed.
    pub fn salt_from(&self, seed: u64) {
        self.state().salts = Rng::new(seed);
    }

    /// How many writes and syncs there were.
    #[must_use]
    pub fn acts(&self) -> u64 {
        self.state().acts
    }

    /// How many bytes were written.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.state().bytes_written
    }

    /// A copy that shares nothing with this one.
    #[must_use]
    pub fn fork(&self) -> Self {
        let state = self.state();
        let files = state.files.iter().map(File::copy).collect();
        let (names, names_durable) = (state.names.clone(), state.names_durable.clone());
        let names_acts = state.names_acts.clone();
        let (capacity, salts) = (state.capacity, state.salts.clone());
        let copy = State { files, names, names_durable, names_acts, capacity, salts, ..State::default() };
        Self(Arc::new(Mutex::new(copy)))
    }

    /// What a file holds; `None` if there is none of that name.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        state.names.get(name).map(|&file| state.files[file].shown.clone())
    }

    /// Changes a file behind the log's back, durably: a flipped bit, a file cut short.
    pub fn tamper(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        if let Some(&file) = state.names.get(name) {
            let file = &mut state.files[file];
            change(&mut file.shown);
            file.durable.clone_from(&file.shown);
            file.versions.clear();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A test that panicked while it held the lock has failed already.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl State {
    fn crash(&mut self, rng: &mut Rng) {
        self.files.iter_mut().for_each(|file| file.settle(rng));
        self.start_again(|| rng.below(2) == 0);
    }

    fn crash_as(&mut self, choose: &mut dyn FnMut(u64) -> u64) {
        // What has no name and cannot get one again makes no difference.
        let created = self.names_acts.iter().filter_map(|act| match act {
            NameAct::Create(_, file) => Some(file),
            NameAct::Rename(..) | NameAct::Remove(_) => None,
        });
        let reachable: BTreeSet<usize> = self.names_durable.values().chain(created).copied().collect();
        reachable.into_iter().for_each(|file| self.files[file].settle_as(choose));
        self.start_again(|| choose(2) == 1);
    }

    /// Shows what is on the disk, and of the changes to names those that it has.
    fn start_again(&mut self, mut has: impl FnMut() -> bool) {
        self.files.iter_mut().for_each(|file| file.shown.clone_from(&file.durable));
        for act in std::mem::take(&mut self.names_acts) {
            if has() {
                act.apply(&mut self.names_durable);
            }
        }
        self.names = self.names_durable.clone();
        self.faults = Faults::default();
    }

    fn refuse_if_off(&self) -> io::Result<()> {
        let is_off = self.faults.off_at.is_some_and(|at| self.acts >= at);
        if is_off { Err(Error::from_raw_os_error(5)) } else { Ok(()) }
    }

    fn act_on_names(&mut self, act: NameAct) -> io::Result<()> {
        self.refuse_if_off()?;
        act.apply(&mut self.names);
        self.names_acts.push(act);
        Ok(())
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| Error::from(ErrorKind::NotFound))
    }

    /// Shows a write that does not get to where it should.
    fn write_astray(&mut self, file: usize, bytes: &[u8], offset: usize) {
        let before = std::mem::take(&mut self.files[file].versions);
        self.files[file].write(bytes, offset);
        let astray = std::mem::replace(&mut self.files[file].versions, before);
        let Some(mut elsewhere) = self.faults.elsewhere.take() else { return };
        let sectors = astray.len();
        let files: Vec<usize> = self.names.values().copied().collect();
        let to = &mut self.files[files[elsewhere.below(files.len() as u64) as usize]].durable;
        let first = elsewhere.below((to.len() / SECTOR).saturating_sub(sectors) as u64 + 1) as usize;
        let contents = astray.into_values().filter_map(|mut contents| contents.pop());
        to.chunks_exact_mut(SECTOR)
            .skip(first)
            .zip(contents)
            .for_each(|(sector, content)| sector.copy_from_slice(&content));
    }

    /// Counts a sync, and says whether it is the one to fail.
    fn sync_fails(&mut self) -> bool {
        self.acts += 1;
        counts_down(&mut self.faults.act) | counts_down(&mut self.faults.sync)
    }

    fn rng(&mut self) -> Rng {
        self.faults.rng.take().unwrap_or_else(|| Rng::new(0))
    }
}

impl NameAct {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Create(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

impl File {
    fn write(&mut self, bytes: &[u8], offset: usize) {
        let end = offset + bytes.len();
        if self.shown.len() < end {
            self.shown.resize(end, 0);
        }
        self.shown[offset..end].copy_from_slice(bytes);
        for sector in offset / SECTOR..end.div_ceil(SECTOR) {
            let from = sector * SECTOR;
            let upto = (from + SECTOR).min(self.shown.len());
            let mut content = [0; SECTOR];
            content[..upto - from].copy_from_slice(&self.shown[from..upto]);
            self.versions.entry(sector).or_default().push(content);
        }
    }

    fn sync(&mut self) {
        self.durable.resize(self.shown.len(), 0);
        for sector in std::mem::take(&mut self.versions).into_keys() {
            let from = sector * SECTOR;
            let upto = (from + SECTOR).min(self.shown.len());
            self.durable[from..upto].copy_from_slice(&self.shown[from..upto]);
        }
    }

    /// Decides for each sector that was not synced which of its contents is on the disk.
    fn settle(&mut self, rng: &mut Rng) {
        if self.shown.len() != self.durable.len() && rng.below(2) == 0 {
            self.durable.resize(self.shown.len(), 0);
        }
        // A loss of power tends to spare most of what was written or little of it.
        let kept_in_8 = rng.below(9);
        for (sector, contents) in std::mem::take(&mut self.versions) {
            let from = sector * SECTOR;
            if rng.below(8) >= kept_in_8 || from >= self.durable.len() {
                continue;
            }
            let content = contents[rng.below(contents.len() as u64) as usize];
            let upto = (from + SECTOR).min(self.durable.len());
            self.durable[from..upto].copy_from_slice(&content[..upto - from]);
        }
    }

    /// Lets `choose` decide the same.
    fn settle_as(&mut self, choose: &mut dyn FnMut(u64) -> u64) {
        if self.shown.len() != self.durable.len() && choose(2) == 1 {
            self.durable.resize(self.shown.len(), 0);
        }
        for (sector, contents) in std::mem::take(&mut self.versions) {
            let from = sector * SECTOR;
            if from >= self.durable.len() {
                continue;
            }
            let place = from..(from + SECTOR).min(self.durable.len());
            let mut different: Vec<&[u8]> = vec![&self.durable[place.clone()]];
            for content in contents.iter().map(|content| &content[..place.len()]) {
                if !different.contains(&content) {
                    different.push(content);
                }
            }
            if different.len() > 1 {
                let chosen = different[choose(different.len() as u64) as usize].to_vec();
                self.durable[place].copy_from_slice(&chosen);
            }
        }
    }

    fn copy(&self) -> Self {
        Self { shown: self.shown.clone(), durable: self.durable.clone(), versions: self.versions.clone() }
    }
}

fn counts_down(left: &mut Option<u64>) -> bool {
    match left {
        Some(0) => {
            *left = None;
            true
        }
        Some(more) => {
            *more -= 1;
            false
        }
        None => false,
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn list(&mut self) -> io::Result<Vec<String>> {
        Ok(self.state().names.keys().cloned().collect())
    }

    fn create(&mut self, name: &str) -> io::Result<SimFile> {
        let mut state = self.state();
        let file = state.files.len();
        state.act_on_names(NameAct::Create(name.to_owned(), file))?;
        state.files.push(File::default());
        Ok(SimFile(file))
    }

    fn open(&mut self, name: &str) -> io::Result<SimFile> {
        self.state().find(name).map(SimFile)
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.find(from)?;
        state.act_on_names(NameAct::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.find(name)?;
        state.act_on_names(NameAct::Remove(name.to_owned()))
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        let mut state = self.state();
        state.refuse_if_off()?;
        if state.sync_fails() {
            return Err(Error::from_raw_os_error(5));
        }
        state.names_acts.clear();
        state.names_durable = state.names.clone();
        Ok(())
    }

    fn preallocate(&mut self, file: &SimFile, bytes: u64) -> io::Result<()> {
        let mut state = self.state();
        state.refuse_if_off()?;
        let others = state.names.values().filter(|&&other| other != file.0);
        let used: u64 = others.map(|&other| state.files[other].shown.len() as u64).sum();
        if state.capacity.is_some_and(|capacity| used + bytes > capacity) {
            return Err(Error::from(ErrorKind::StorageFull));
        }
        let shown = &mut state.files[file.0].shown;
        shown.resize(shown.len().max(bytes as usize), 0);
        Ok(())
    }

    fn shorten(&mut self, file: &SimFile, bytes: u64) -> io::Result<()> {
        let mut state = self.state();
        state.refuse_if_off()?;
        state.files[file.0] = File { shown: vec![0; bytes as usize], ..File::default() };
        Ok(())
    }

    fn len(&self, file: &SimFile) -> io::Result<u64> {
        Ok(self.state().files[file.0].shown.len() as u64)
    }

    fn read_at(&self, file: &SimFile, into: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.state();
        let shown = &state.files[file.0].shown;
        let from = shown.get(offset as usize..).and_then(|rest| rest.get(..into.len()));
        into.copy_from_slice(from.ok_or_else(|| Error::from(ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn write_at(&mut self, file: &SimFile, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.state();
        state.refuse_if_off()?;
        state.acts += 1;
        state.bytes_written += bytes.len() as u64;
        if counts_down(&mut state.faults.full) {
            return Err(Error::from(ErrorKind::StorageFull));
        }
        if counts_down(&mut state.faults.astray) {
            state.write_astray(file.0, bytes, offset as usize);
            return Ok(());
        }
        let fails = counts_down(&mut state.faults.act) | counts_down(&mut state.faults.write);
        let done = if fails { state.rng().below(bytes.len() as u64 + 1) as usize } else { bytes.len() };
        state.files[file.0].write(&bytes[..done], offset as usize);
        if fails { Err(Error::from_raw_os_error(5)) } else { Ok(()) }
    }

    fn sync_data(&mut self, file: &SimFile) -> io::Result<()> {
        let mut state = self.state();
        state.refuse_if_off()?;
        if state.sync_fails() {
            let mut rng = state.rng();
            state.files[file.0].settle(&mut rng);
            return Err(Error::from_raw_os_error(5));
        }
        state.files[file.0].sync();
        Ok(())
    }

    fn salt(&mut self) -> u64 {
        self.state().salts.draw()
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(name)
    }
}
