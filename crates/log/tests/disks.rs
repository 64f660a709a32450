//! The tests for every disk: on those that ship, and on ones that are broken, each of which must be found.

use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use vlot_log::disk::any::AnyDisk;
use vlot_log::disk::memory::MemoryDisk;
use vlot_log::disk::real::RealDisk;
use vlot_log::disk::sim::{Rng, SimDisk, SimFile};
use vlot_log::disk::{Disk, conformance};

/// A folder that is gone when this is dropped, with new directories in it.
struct Scratch {
    dir: PathBuf,
    made: AtomicU64,
}

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("vlot-log-disks-{name}-{}", std::process::id()));
        Self { dir, made: AtomicU64::new(0) }
    }

    fn next(&self) -> PathBuf {
        self.dir.join(self.made.fetch_add(1, Relaxed).to_string())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn a_file_system_conforms() {
    let scratch = Scratch::new("real");
    conformance::check(|| RealDisk::open(scratch.next()).unwrap());
    // The process cannot cut the power. Opened again it finds at least what must be there.
    let dir = scratch.next();
    conformance::check_durability(RealDisk::open(&dir).unwrap(), |disk| {
        drop(disk);
        RealDisk::open(&dir).unwrap()
    });
}

#[test]
fn memory_conforms() {
    conformance::check(|| MemoryDisk::new().open("log").unwrap());
    let disk = MemoryDisk::new();
    conformance::check_durability(disk.open("log").unwrap(), |_| {
        disk.lose_power();
        disk.open("log").unwrap()
    });
}

#[test]
fn what_is_behind_a_table_of_calls_conforms() {
    let open = |disk: &MemoryDisk| AnyDisk::new(disk.open("log").unwrap());
    conformance::check(|| open(&MemoryDisk::new()));
    let disk = MemoryDisk::new();
    conformance::check_durability(open(&disk), |_| {
        disk.lose_power();
        open(&disk)
    });
}

/// Cuts the power of a disk, by a seed if there is a choice.
type Crash<'a> = &'a dyn Fn(&SimDisk, u64);

#[test]
fn the_simulators_conforms_whatever_a_loss_of_power_leaves() {
    conformance::check(SimDisk::new);
    let crashes: [Crash<'_>; 3] =
        [&|disk, _| disk.crash_as(&mut |_| 0), &|disk, _| disk.crash_as(&mut |bound| bound - 1), &|disk, seed| {
            disk.crash(seed)
        }];
    for (seed, crash) in (0..10).flat_map(|seed| crashes.map(|crash| (seed, crash))) {
        let disk = SimDisk::new();
        conformance::check_durability(disk, |disk| {
            crash(&disk, seed);
            disk
        });
    }
}

/// A rule that a disk breaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fault {
    ListsNothing,
    OpenCreates,
    RemovesWhatIsNot,
    CreateKeepsContent,
    WritesAtTheEnd,
    ForgetsTheLastByte,
    ReadsZerosBeyondTheEnd,
    GapsAreFilled,
    ReserveClears,
    RenameCopies,
    ClonesApart,
    OneSalt,
    NoPath,
    SyncsNoData,
    SyncsNoNames,
    SyncsOneSector,
    TornByLaterWrites,
    LengthIsLost,
    RenameIsTwoActs,
    RemovesAreLost,
    SaltsStartAgain,
}

/// Where a disk keeps what it was to remove.
const HIDDEN: &str = "hidden";

/// A disk that does all as it should but for one thing.
#[derive(Debug)]
struct Broken {
    disk: SimDisk,
    fault: Fault,
    salt: u64,
}

impl Broken {
    fn new(fault: Fault) -> Self {
        Self { disk: SimDisk::new(), fault, salt: 0 }
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn shown(&self, file: &SimFile) -> Vec<u8> {
        let mut shown = vec![0; self.disk.len(file).unwrap() as usize];
        self.disk.read_at(file, &mut shown, 0).unwrap();
        shown
    }

    fn lose_power(mut self) -> Self {
        self.disk.crash_as(&mut |_| 0);
        let _ = self.disk.rename(HIDDEN, "removed");
        self.salt = 0;
        self
    }
}

impl Clone for Broken {
    fn clone(&self) -> Self {
        let disk = if self.is(Fault::ClonesApart) { self.disk.fork() } else { self.disk.clone() };
        Self { disk, fault: self.fault, salt: self.salt + 1000 }
    }
}

impl Disk for Broken {
    type File = SimFile;

    fn list(&mut self) -> io::Result<Vec<String>> {
        if self.is(Fault::ListsNothing) { Ok(Vec::new()) } else { self.disk.list() }
    }

    fn create(&mut self, name: &str) -> io::Result<SimFile> {
        if self.is(Fault::CreateKeepsContent) && self.disk.bytes(name).is_some() {
            return self.disk.open(name);
        }
        self.disk.create(name)
    }

    fn open(&mut self, name: &str) -> io::Result<SimFile> {
        match self.disk.open(name) {
            Err(_) if self.is(Fault::OpenCreates) => self.disk.create(name),
            opened => opened,
        }
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        if self.is(Fault::RenameIsTwoActs) {
            let _ = self.disk.remove(to);
            self.disk.sync_dir()?;
        }
        if self.is(Fault::RenameCopies) {
            let old = self.disk.open(from)?;
            let (bytes, new) = (self.shown(&old), self.disk.create(to)?);
            self.disk.write_at(&new, &bytes, 0)?;
            self.disk.sync_data(&new)?;
            return self.disk.remove(from);
        }
        self.disk.rename(from, to)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        if self.is(Fault::RemovesAreLost) {
            return self.disk.rename(name, HIDDEN);
        }
        match self.disk.remove(name) {
            Err(error) if error.kind() == ErrorKind::NotFound && self.is(Fault::RemovesWhatIsNot) => Ok(()),
            done => done,
        }
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        if self.is(Fault::SyncsNoNames) { Ok(()) } else { self.disk.sync_dir() }
    }

    fn preallocate(&mut self, file: &SimFile, bytes: u64) -> io::Result<()> {
        if self.is(Fault::ReserveClears) {
            self.disk.shorten(file, 0)?;
        }
        self.disk.preallocate(file, bytes)
    }

    fn shorten(&mut self, file: &SimFile, bytes: u64) -> io::Result<()> {
        self.disk.shorten(file, bytes)
    }

    fn len(&self, file: &SimFile) -> io::Result<u64> {
        self.disk.len(file)
    }

    fn read_at(&self, file: &SimFile, into: &mut [u8], offset: u64) -> io::Result<()> {
        match self.disk.read_at(file, into, offset) {
            Err(_) if self.is(Fault::ReadsZerosBeyondTheEnd) => {
                into.fill(0);
                Ok(())
            }
            done => done,
        }
    }

    fn write_at(&mut self, file: &SimFile, bytes: &[u8], offset: u64) -> io::Result<()> {
        let end = self.disk.len(file)?;
        let offset = if self.is(Fault::WritesAtTheEnd) { end } else { offset };
        if self.is(Fault::GapsAreFilled) && offset >= 40_000 && end == 0 {
            self.disk.write_at(file, &vec![1; (offset - end) as usize], end)?;
        }
        if self.is(Fault::TornByLaterWrites) && offset < end {
            // All that is behind it is written again, and is in doubt.
            let mut rest = self.shown(file).split_off(offset as usize);
            let upto = bytes.len().min(rest.len());
            rest[..upto].copy_from_slice(&bytes[..upto]);
            rest.extend(&bytes[upto..]);
            self.disk.shorten(file, 0)?;
            return self.disk.write_at(file, &rest, offset);
        }
        let bytes =
            if self.is(Fault::ForgetsTheLastByte) && bytes.len() > 512 { &bytes[..bytes.len() - 1] } else { bytes };
        self.disk.write_at(file, bytes, offset)
    }

    fn sync_data(&mut self, file: &SimFile) -> io::Result<()> {
        match self.fault {
            Fault::SyncsNoData => Ok(()),
            Fault::SyncsOneSector => {
                let shown = self.shown(file);
                self.disk.shorten(file, shown.len() as u64)?;
                self.disk.write_at(file, &shown[..shown.len().min(512)], 0)?;
                self.disk.sync_data(file)?;
                self.disk.write_at(file, &shown, 0)
            }
            Fault::LengthIsLost => {
                let shown = self.shown(file);
                let used = shown.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                self.disk.shorten(file, used as u64)?;
                self.disk.write_at(file, &shown[..used], 0)?;
                self.disk.sync_data(file)?;
                self.disk.preallocate(file, shown.len() as u64)
            }
            _ => self.disk.sync_data(file),
        }
    }

    fn salt(&mut self) -> u64 {
        match self.fault {
            Fault::OneSalt => 7,
            Fault::SaltsStartAgain => {
                self.salt += 1;
                self.salt
            }
            _ => self.disk.salt(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        if self.is(Fault::NoPath) { PathBuf::from("disk") } else { self.disk.path(name) }
    }
}

/// What the checks say of a broken disk, if they find anything.
fn found(check: impl FnOnce()) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(check)).err()?;
    let said = panic.downcast_ref::<String>().cloned();
    said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()))
}

#[test]
fn each_rule_that_a_disk_breaks_is_found() {
    use Fault::*;
    let standing = [
        (ListsNothing, "names:"),
        (OpenCreates, "not found: to open"),
        (RemovesWhatIsNot, "not found: to remove"),
        (CreateKeepsContent, "create: a new file is empty"),
        (WritesAtTheEnd, "create: nothing of the replaced"),
        (ForgetsTheLastByte, "bytes:"),
        (ReadsZerosBeyondTheEnd, "end: a read that ends beyond"),
        (GapsAreFilled, "zeros: a gap"),
        (ReserveClears, "reserve: what was written stays"),
        (RenameCopies, "rename: a file that was open"),
        (ClonesApart, "share: a clone"),
        (OneSalt, "salt:"),
        (NoPath, "path:"),
    ];
    for (fault, rule) in standing {
        let said = found(|| conformance::check(|| Broken::new(fault)));
        assert!(said.as_ref().is_some_and(|said| said.contains(rule)), "{fault:?}: {said:?}");
    }
    let losing = [
        (SyncsNoData, "durable: bytes are gone"),
        (SyncsNoNames, "durable: the name of a file is gone"),
        (SyncsOneSector, "durable: bytes are gone"),
        (TornByLaterWrites, "durable: a write that was not synced"),
        (LengthIsLost, "durable: the length"),
        (RenameIsTwoActs, "durable: a name that is being given"),
        (RemovesAreLost, "durable: a file is back"),
        (SaltsStartAgain, "salt:"),
    ];
    for (fault, rule) in losing {
        let said = found(|| conformance::check_durability(Broken::new(fault), Broken::lose_power));
        assert!(said.as_ref().is_some_and(|said| said.contains(rule)), "{fault:?}: {said:?}");
    }
}

/// The log itself, which loses power again and again: what it said was durable is there, and what it gave up is not.
#[test]
fn a_log_in_memory_finds_what_it_has_synced() {
    use bytes::Bytes;
    use vlot_log::log::{Identity, Log, Options};
    use vlot_log::record::{Entry, Write};
    use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId};

    let identity = Identity { cluster: 7, node: NodeId(1) };
    let options = Options { segment_bytes: 64 << 10, slack_bytes: 0, ..Options::default() };
    let (disk, group, mut rng) = (MemoryDisk::new(), GroupId(1), Rng::new(1));
    let mut durable = 0;
    for life in 0..20 {
        let (mut log, recovered) = Log::open(disk.open("log").unwrap(), identity, options).unwrap();
        let last = recovered.groups.get(&group).map_or(0, |state| state.runs.last_id().index.0);
        assert!(last >= durable, "life {life}: {last} entries, of which {durable} were durable");
        let mut next = last;
        for _ in 0..rng.below(60) + 1 {
            let payload = Bytes::from(vec![next as u8; rng.below(4000) as usize]);
            let entries = vec![Entry { id: LogId::new(1, next + 1), payload }];
            log.write(&[Write::Append { group, after: LogIndex(next), entries }]).unwrap();
            next += 1;
            if rng.below(3) == 0 {
                log.sync().unwrap();
                durable = next;
            }
            if rng.below(20) == 0 {
                let start = LogId::new(1, durable.max(1).min(next));
                log.write(&[Write::LogStart { group, after: start, note: Bytes::new() }]).unwrap();
                log.sync().unwrap();
                durable = next;
                while log.tidy().unwrap().more {}
            }
        }
        disk.lose_power();
    }
    assert!(durable > 100, "{durable}");
    assert!(disk.bytes() < 1 << 20, "{} bytes are kept", disk.bytes());
}
