//! A segment that is dropped becomes one of those to come, with all that stands in it. None of that is taken for a part of
//! the log: not after a crash, not after damage, and not if somebody meant it to be.

mod model;

use bytes::Bytes;
use model::{IDENTITY, Model, SMALL, append, begin, open};
use vlot_log::disk::Disk;
use vlot_log::disk::sim::SimDisk;
use vlot_log::error::OpenError;
use vlot_log::log::{Log, Options};
use vlot_log::record::{Entry, Write};
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};

const GROUP: GroupId = GroupId(1);
const SEGMENT_BYTES: u32 = 32 * 1024;
const OPTIONS: Options = Options { segment_bytes: SEGMENT_BYTES, ..SMALL };
const FIRST: &str = "0000000000000001.log";
const SECOND: &str = "0000000000000002.log";
const THIRD: &str = "0000000000000003.log";

/// One group that writes entries and takes snapshots.
struct Writer {
    log: Log<SimDisk>,
    model: Model,
    last: u64,
    entry_bytes: usize,
}

impl Writer {
    fn new(disk: &SimDisk, options: Options) -> Self {
        let (log, _) = Log::open(disk.clone(), IDENTITY, options).expect("a new log");
        Self { log, model: Model::default(), last: 0, entry_bytes: options.segment_bytes as usize / 32 }
    }

    fn write(&mut self, write: Write) {
        self.model.apply(&write);
        self.log.write(&[write]).expect("no fault");
    }

    /// One entry, durable.
    fn add(&mut self, payload: impl Into<Bytes>) {
        let entry = Entry { id: LogId::new(1, self.last + 1), payload: payload.into() };
        self.write(Write::Append { group: GROUP, after: LogIndex(self.last), entries: vec![entry] });
        self.log.sync().expect("no fault");
        self.last += 1;
    }

    /// Entries until there is a segment of this name with such content.
    fn add_until(&mut self, disk: &SimDisk, name: &str, is_so: impl Fn(&[u8]) -> bool) {
        while !disk.bytes(name).is_some_and(|bytes| is_so(&bytes)) {
            self.add(vec![b'f'; self.entry_bytes]);
        }
    }

    fn snapshot(&mut self) {
        self.write(begin(GROUP.0, 1, self.last, "snapshot"));
        self.log.sync().expect("no fault");
    }
}

/// The first segment with one entry that has this payload, and others; then dropped, and written to again, as the third.
/// Two entries are in it then.
fn third_on_the_first(disk: &SimDisk, payload: Vec<u8>) -> Writer {
    let mut writer = Writer::new(disk, OPTIONS);
    writer.add(payload);
    writer.add_until(disk, SECOND, |second| second[4096] != 0);
    writer.snapshot();
    let first = disk.bytes(FIRST).expect("it is there");
    let tidied = writer.log.tidy().expect("no fault");
    assert_eq!(tidied.segments_dropped, 1);
    assert_eq!(disk.bytes(FIRST), None);
    let third = disk.bytes(THIRD).expect("it is made of the first");
    assert!(third[4096..] == first[4096..] && third[..64] != first[..64], "all but the header is left");
    writer.add_until(disk, THIRD, |third| third[4096..4200] != first[4096..4200]);
    writer.add(vec![b'n'; 100]);
    writer
}

/// What can be read without another word, and whether a torn tail was cut.
fn reopen(disk: &SimDisk) -> Result<(Model, bool), OpenError> {
    let (log, recovered) = Log::open(disk.clone(), IDENTITY, OPTIONS)?;
    Ok((Model::of(&log, &recovered), recovered.torn.is_some()))
}

#[test]
fn what_stood_in_a_segment_is_no_part_of_the_log() {
    let disk = SimDisk::new();
    let mut writer = third_on_the_first(&disk, vec![b'o'; 20_000]);
    for bytes in [1, 10, 400, 3000] {
        writer.add(vec![b'n'; bytes]);
        assert_eq!(reopen(&disk.fork()).expect("whole"), (writer.model.clone(), false));
        writer.log.seal().expect("no fault");
        assert_eq!(reopen(&disk.fork()).expect("whole"), (writer.model.clone(), false), "with a mark behind it");
    }
    // The next process goes on from there.
    let (log, _) = Log::open(disk.clone(), IDENTITY, OPTIONS).expect("whole");
    writer.log = log;
    writer.add_until(&disk, "0000000000000004.log", |fourth| fourth[4096] != 0);
    assert_eq!(reopen(&disk).expect("whole"), (writer.model, false));
}

/// A file that was dropped is taken rather than one whose blocks were never written, and no more of them than one.
#[test]
fn one_segment_is_ready_and_its_blocks_have_been_written() {
    let disk = SimDisk::new();
    // A segment that is made has 256 KiB of zeros laid down; this is longer.
    let mut writer = Writer::new(&disk, Options { segment_bytes: 1024 * 1024, ..SMALL });
    writer.add_until(&disk, "0000000000000004.log", |fourth| fourth[4096] != 0);
    writer.add_until(&disk, "0000000000000005.log", |fifth| !fifth.is_empty());
    let blank = disk.bytes("0000000000000005.log").expect("it was made ahead");
    assert!(blank[4096..].iter().all(|&byte| byte == 0));
    writer.snapshot();
    assert_eq!(writer.log.tidy().expect("no fault").segments_dropped, 3);
    let taken = disk.bytes("0000000000000005.log").expect("another in its place");
    assert!(taken[4096..].iter().any(|&byte| byte != 0));
    let names = disk.clone().list().expect("no fault");
    assert_eq!(names, ["0000000000000004.log", "0000000000000005.log"]);
    assert_eq!(reopen(&disk).expect("whole"), (writer.model, false));
}

/// However many are dropped at once, one of them is used again: the one with the most blocks that have been written.
#[test]
fn one_of_many_is_used_again() {
    let disk = SimDisk::new();
    let options = Options { segment_bytes: 512 * 1024, ..SMALL };
    let mut writer = Writer::new(&disk, options);
    for n in 0..17 {
        // Each to a segment, the longest somewhere between.
        writer.add(vec![b'0' + n; 300_000 + 1000 * usize::from(n * 7 % 17)]);
    }
    // What is known of blocks is forgotten.
    let (log, _) = Log::open(disk.clone(), IDENTITY, options).expect("whole");
    writer.log = log;
    writer.log.seal().expect("no fault");
    writer.snapshot();
    let acts = disk.acts();
    assert_eq!(writer.log.tidy().expect("no fault").segments_dropped, 16);
    assert!(disk.acts() - acts <= 8, "{} writes and syncs", disk.acts() - acts);
    let names = disk.clone().list().expect("no fault");
    let next = disk.bytes(&names[names.len() - 1]).expect("it is there");
    assert_eq!(next[5000], b'0' + 12, "the longest of the first 16");
    assert_eq!(Model::of(&writer.log, &Log::open(disk.fork(), IDENTITY, options).expect("whole").1), writer.model);
}

/// The next segment is there already, and was used before: it stays as it is.
#[test]
fn what_is_recycled_already_is_left_alone() {
    const FOURTH: &str = "0000000000000004.log";
    let disk = SimDisk::new();
    let mut writer = Writer::new(&disk, OPTIONS);
    let mut ends = Vec::new();
    for next in [SECOND, THIRD] {
        writer.add_until(&disk, next, |next| next[4096] != 0);
        ends.push(writer.last - 1);
    }
    let mut drop_upto = |last| {
        writer.write(begin(GROUP.0, 1, last, "snapshot"));
        assert_eq!(writer.log.tidy().expect("no fault").segments_dropped, 1);
        disk.bytes(FOURTH).expect("it is made of the first")
    };
    let fourth = drop_upto(ends[0]);
    assert!(drop_upto(ends[1]) == fourth);
    assert_eq!(disk.clone().list().expect("no fault"), [THIRD, FOURTH]);
}

/// To write a file again takes space on some file systems. Then the segment is dropped as if it were not wanted.
#[test]
fn a_full_disk_drops_what_it_cannot_use_again() {
    let disk = SimDisk::new();
    let mut writer = Writer::new(&disk, OPTIONS);
    writer.add_until(&disk, SECOND, |second| second[4096] != 0);
    writer.snapshot();
    // The record of the first segment is the first write.
    disk.refuse_write(1);
    assert_eq!(writer.log.tidy().expect("that is no failure").segments_dropped, 1);
    assert_eq!(disk.clone().list().expect("no fault"), [SECOND]);
    writer.add_until(&disk, THIRD, |third| third[4096] != 0);
    assert_eq!(reopen(&disk).expect("whole"), (writer.model, false));
}

/// The same salt is drawn again: another takes its place.
#[test]
fn no_segment_has_the_salt_of_its_file_before() {
    let disk = SimDisk::new();
    disk.salt_from(1);
    let mut writer = Writer::new(&disk, OPTIONS);
    writer.add_until(&disk, SECOND, |second| second[4096] != 0);
    writer.snapshot();
    disk.salt_from(1);
    let first = disk.bytes(FIRST).expect("it is there");
    assert_eq!(writer.log.tidy().expect("no fault").segments_dropped, 1);
    let third = disk.bytes(THIRD).expect("it is made of the first");
    assert_ne!(first[48..56], third[48..56]);
    assert_eq!(reopen(&disk).expect("whole"), (writer.model, false));
}

/// A small write to a block that was never written has the blocks around it laid down as zeros. A large one has not, nor has
/// any in a file that was a segment before.
#[test]
fn no_zeros_are_laid_down_twice() {
    const FILL_BYTES: u64 = 256 * 1024;
    const SECTOR_BYTES: u64 = 512;
    let disk = SimDisk::new();
    let mut writer = Writer::new(&disk, Options { segment_bytes: 1024 * 1024, ..SMALL });
    let written = |writer: &mut Writer, bytes: usize| {
        let before = disk.bytes_written();
        writer.add(vec![b'w'; bytes]);
        (disk.bytes_written() - before, bytes as u64 + 32 + 16 + 16)
    };
    // Whole sectors are written: what the first one has already, and zeros in the last.
    let is_all = |found, record| (record..record + 8 + 2 * SECTOR_BYTES).contains(&found);
    // Its front was laid down when the segment was made.
    for (bytes, zeros) in [(200_000, 0), (40_000, 0), (40_000, FILL_BYTES), (300_000, 0), (1000, FILL_BYTES)] {
        let (found, record) = written(&mut writer, bytes);
        assert!(is_all(found, record) == (zeros == 0), "{bytes}: {found}");
        assert!(found <= record + 8 + 2 * SECTOR_BYTES + zeros, "{bytes}: {found}");
    }
    writer.add_until(&disk, SECOND, |second| second[4096] != 0);
    writer.snapshot();
    let first = disk.bytes(FIRST).expect("it is there");
    while writer.log.tidy().expect("no fault").more {}
    writer.add_until(&disk, THIRD, |third| third[4096..4200] != first[4096..4200]);
    for bytes in [1000, 40_000, 200_000, 1000] {
        let (found, record) = written(&mut writer, bytes);
        assert!(is_all(found, record), "{bytes}: {found}");
    }
}

/// A client knows the format, the names of cluster and node, and where its value will lie. It puts a record there that says
/// that more was durable than is, for the time when the segment is used again. Only with the salt would it be believed.
#[test]
fn no_value_passes_for_a_record() {
    const VALUE_BYTES: usize = 20_000;
    const AT: usize = 4096 + 32 + 16 + 16;
    let rehearsal = SimDisk::new();
    rehearsal.salt_from(1);
    let mut writer = third_on_the_first(&rehearsal, vec![b'o'; VALUE_BYTES]);
    (0..15).for_each(|_| writer.add(vec![b'n'; 1000]));
    let forged = rehearsal.bytes(THIRD).expect("it is there")[AT..AT + VALUE_BYTES].to_vec();

    for (salt, is_believed) in [(1, true), (2, false)] {
        let disk = SimDisk::new();
        disk.salt_from(salt);
        let writer = third_on_the_first(&disk, forged.clone());
        disk.crash_as(&mut |_| 0);
        match reopen(&disk) {
            Err(OpenError::Corrupt { .. }) => assert!(is_believed, "it was taken for a record"),
            found => {
                assert!(!is_believed, "the value is a forgery");
                assert_eq!(found.expect("whole"), (writer.model, false));
            }
        }
    }
}

/// A torn write over what stood there: each sector of it is there or not.
#[test]
fn a_torn_write_over_remains_leaves_whole_writes() {
    let disk = SimDisk::new();
    let mut writer = third_on_the_first(&disk, vec![b'o'; 20_000]);
    let mut states = vec![writer.model.clone()];
    for n in 0..3 {
        let after = writer.last + 5 * n;
        let entry = Entry { id: LogId::new(1, after + 5), payload: Bytes::from(vec![b't'; 900]) };
        for write in [
            append(GROUP.0, after, 1, "torn"),
            Write::Vote { group: GROUP, term: Term(n), vote: Some(NodeId(n)) },
            Write::Append { group: GROUP, after: LogIndex(after + 4), entries: vec![entry] },
        ] {
            writer.write(write);
            states.push(writer.model.clone());
        }
    }
    let mut torn = 0;
    for seed in 0..300 {
        let disk = disk.fork();
        disk.crash(seed);
        let (found, is_torn) = reopen(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(states.contains(&found), "seed {seed}");
        torn += u64::from(is_torn);
        disk.crash(seed);
        assert_eq!(reopen(&disk).expect("whole"), (found, false), "seed {seed}: what was cut is gone");
    }
    assert!(torn > 30, "{torn} were torn");
}

/// One byte changes in a segment that was used before: it is found, or it is of the time before. What was written last may
/// be lost with it, as nothing seals it, but not without a word.
#[test]
fn every_flipped_byte_is_found_or_is_old() {
    let disk = SimDisk::new();
    let mut writer = third_on_the_first(&disk, vec![b'o'; 20_000]);
    let before_last = writer.model.clone();
    writer.add(vec![b'l'; 100]);
    let third = disk.bytes(THIRD).expect("it is there");
    let payload = third.windows(100).rposition(|bytes| bytes == [b'l'; 100]).expect("it is written");
    let (last, end) = (payload - (32 + 16 + 16), payload + 104);
    let states = [&before_last, &writer.model];
    for at in (4096..end).chain((end..SEGMENT_BYTES as usize).step_by(13)) {
        let damaged = disk.fork();
        damaged.tamper(THIRD, |bytes| bytes[at] ^= 1 << (at % 8));
        let is_padding = at < end && third[at] == 0;
        match reopen(&damaged) {
            Err(OpenError::Corrupt { offset, .. }) => assert!(at < last && offset <= at as u64, "{at}: at {offset}"),
            Err(error) => panic!("{at}: {error}"),
            Ok((found, true)) => assert!(at >= last && states.contains(&&found), "{at}: torn"),
            Ok((found, false)) => assert!((at >= end || is_padding) && found == writer.model, "{at}: not noticed"),
        }
    }
}

/// A write ends in the mark that was left when there was quiet. What is left of the mark is nothing, with a salt and without.
#[test]
fn half_a_mark_is_not_torn() {
    for version in [1, 2] {
        for over in [8, 16, 24] {
            let disk = SimDisk::new();
            drop(Writer::new(&disk, OPTIONS));
            if version == 1 {
                disk.tamper(FIRST, |bytes| {
                    bytes[8] = 1;
                    bytes[48..56].fill(0);
                    let crc = crc32c::crc32c(&bytes[..60]);
                    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
                });
            }
            let mut writer = Writer::new(&disk, OPTIONS);
            writer.add(vec![b'a'; 100]);
            writer.log.seal().expect("no fault");
            let end = 4096 + writer.log.sizes().record_bytes as usize;
            writer.add(vec![b'b'; 8192 + over - end - 64]);
            assert_eq!(4096 + writer.log.sizes().record_bytes as usize, 8192 + over);
            assert_eq!(reopen(&disk).expect("whole"), (writer.model, false), "version {version}, {over} over");
        }
    }
}

/// A log of the version without salt opens, goes on, and gets segments of this version.
#[test]
fn a_log_of_version_1_goes_on() {
    let disk = SimDisk::new();
    for (name, bytes) in [
        (FIRST, include_bytes!("version-1/0000000000000001.log")),
        (SECOND, include_bytes!("version-1/0000000000000002.log")),
        (THIRD, include_bytes!("version-1/0000000000000003.log")),
    ] {
        let file = disk.clone().create(name).expect("no fault");
        disk.clone().write_at(&file, bytes, 0).expect("no fault");
        disk.clone().sync_data(&file).expect("no fault");
    }
    disk.clone().sync_dir().expect("no fault");
    let mut model = Model::default();
    for write in [
        Write::Vote { group: GroupId(1), term: Term(1), vote: Some(NodeId(2)) },
        append(1, 0, 1, "abc"),
        append(2, 0, 1, &"x".repeat(220)),
        append(1, 2, 2, "de"),
        begin(1, 1, 2, "a snapshot"),
        append(1, 4, 2, "ghi"),
    ] {
        model.apply(&write);
    }
    let (mut log, recovered) = open(&disk).expect("it is read");
    assert_eq!((Model::of(&log, &recovered), recovered.torn), (model.clone(), None));
    let version = |name: &str| disk.bytes(name).map(|bytes| bytes[8]);
    for n in 0..40 {
        let write = append(1, 7 + n, 2, "n");
        model.apply(&write);
        log.write(&[write]).expect("no fault");
        log.sync().expect("no fault");
        let (again, recovered) = open(&disk.fork()).expect("whole");
        assert_eq!((Model::of(&again, &recovered), recovered.torn), (model.clone(), None));
        log.seal().expect("no fault");
    }
    assert_eq!(version(THIRD), Some(1));
    let versions: Vec<_> = disk.clone().list().expect("no fault").into_iter().map(|name| version(&name)).collect();
    assert_eq!(versions.last(), Some(&Some(3)), "{versions:?}");
}
