//! Snapshots on a disk that loses, tears and refuses.

use std::io::{self, Read, Write};

use vlot_log::disk::Disk;
use vlot_log::disk::real::RealDisk;
use vlot_log::disk::sim::{Rng, SimDisk};
use vlot_raft::id::{GroupId, LogId, LogIndex};

use super::dir::{SYNC_BYTES, SnapshotDir};
use super::{Flaw, Header, SnapshotError, SnapshotInfo, write};
use crate::members::MembersAt;
use crate::state_machine::Snapshot;

const GROUP: GroupId = GroupId(5);

/// A state of so many bytes, drawn from the index of its entry.
struct State(u64, usize);

impl State {
    fn bytes(&self) -> Vec<u8> {
        let mut rng = Rng::new(self.0);
        (0..self.1).map(|_| rng.draw() as u8).collect()
    }
}

impl Snapshot for State {
    fn at(&self) -> LogId {
        id(self.0)
    }

    fn write_to(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.bytes().chunks(777).try_for_each(|some| out.write_all(some))
    }
}

fn id(index: u64) -> LogId {
    LogId::new(3, index)
}

fn header(index: u64) -> Header {
    let members = MembersAt { at: LogIndex(2), ..MembersAt::default() };
    Header { group: GROUP, id: id(index), members }
}

fn file(index: u64, bytes: usize) -> (SnapshotInfo, Vec<u8>) {
    let mut out = Vec::new();
    let info = write(&header(index), &mut State(index, bytes), &mut out).expect("memory takes it");
    (info, out)
}

fn open(disk: &SimDisk) -> SnapshotDir<SimDisk> {
    SnapshotDir::open(disk.clone()).expect("no fault")
}

fn save(dir: &SnapshotDir<SimDisk>, index: u64, bytes: usize) -> io::Result<SnapshotInfo> {
    dir.save(&header(index), &mut State(index, bytes))
}

/// Receives a whole file, in chunks.
fn receive(
    dir: &SnapshotDir<SimDisk>,
    info: &SnapshotInfo,
    bytes: &[u8],
    chunk: usize,
) -> Result<Header, SnapshotError> {
    let io = |error| SnapshotError::Io { file: "part".into(), error };
    let mut at = dir.part(GROUP, info).map_err(io)? as usize;
    while at < bytes.len() {
        let end = bytes.len().min(at + chunk);
        at = dir.write_chunk(GROUP, info, at as u64, &bytes[at..end]).map_err(io)? as usize;
    }
    dir.finish_part(GROUP, info)
}

fn newest(dir: &SnapshotDir<SimDisk>) -> Option<LogId> {
    let newest = dir.newest(GROUP, |_| true).expect("no fault");
    assert!(newest.unusable.is_empty(), "{:?}", newest.unusable);
    newest.saved.map(|saved| saved.header.id)
}

#[test]
fn what_is_saved_is_found_and_replaced_by_a_newer_one() {
    let disk = SimDisk::new();
    let dir = open(&disk);
    assert_eq!(newest(&dir), None);
    let info = save(&dir, 7, 600_000).expect("no fault");
    assert_eq!(info, file(7, 600_000).0);
    let saved = dir.newest(GROUP, |_| true).expect("no fault").saved.expect("it is there");
    assert_eq!((&saved.header, saved.info), (&header(7), info));
    let mut state = Vec::new();
    saved.state().and_then(|mut state_of| state_of.read_to_end(&mut state)).expect("no fault");
    assert_eq!(state, State(7, 600_000).bytes());
    assert!(dir.newest(GroupId(6), |_| true).expect("no fault").saved.is_none());
    assert_eq!(dir.groups().expect("no fault"), [GROUP]);
    dir.remove_before(GROUP, id(7)).expect("no fault");
    assert_eq!(newest(&dir), Some(id(7)), "it is not before itself");
    dir.remove_before(GROUP, id(8)).expect("no fault");
    assert_eq!(newest(&dir), None);
}

/// The bytes of the form are fixed: this file was written by hand from docs/disk-format.md.
#[test]
fn the_form_is_the_documented_one() {
    let (info, bytes) = file(7, 0);
    let members = header(7).members.encode();
    let mut expected = b"vlotsnap\x01\0\0\0".to_vec();
    expected.extend_from_slice(&(members.len() as u32).to_le_bytes());
    expected.extend_from_slice(b"\x05\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0");
    expected.extend_from_slice(&members);
    let crc = crc32c::crc32c(&expected);
    expected.extend_from_slice(&crc.to_le_bytes());
    expected.extend_from_slice(&[0; 12]);
    assert_eq!(bytes, expected);
    assert_eq!(info.checksum, crc32c::crc32c_append(crc, &[0; 12]));
}

/// The log begins after the first; the second has come, and the node stopped before the log was told.
#[test]
fn a_newer_one_does_not_hide_the_one_that_is_wanted() {
    let dir = open(&SimDisk::new());
    for index in [7, 9] {
        save(&dir, index, 10).expect("no fault");
    }
    let found = |is_wanted: fn(LogId) -> bool| {
        dir.newest(GROUP, is_wanted).expect("no fault").saved.map(|saved| saved.header.id.index.0)
    };
    assert_eq!((found(|_| true), found(|it| it == id(7)), found(|_| false)), (Some(9), Some(7), None));
    dir.remove_before(GROUP, id(8)).expect("no fault");
    assert_eq!(found(|_| true), Some(9));
    assert_eq!(dir.saved(GROUP, id(9)).expect("whole").expect("it is there").info, file(9, 10).0);
    assert!(dir.saved(GROUP, id(7)).expect("no fault").is_none());
}

#[test]
fn what_is_sent_is_the_preferred_one_if_it_reaches_far_enough() {
    let dir = open(&SimDisk::new());
    let [old, new] = [7, 9].map(|index| save(&dir, index, 10).expect("no fault"));
    let other = SnapshotInfo { checksum: old.checksum ^ 1, ..old };
    for (reach, preferred, found) in [
        (1, None, Some(new)),
        (1, Some(old), Some(old)),
        (7, Some(old), Some(old)),
        (8, Some(old), Some(new)),
        (1, Some(other), Some(new)),
        (9, None, Some(new)),
        (10, Some(old), None),
    ] {
        assert_eq!(dir.find(GROUP, LogId::new(1, reach), preferred).expect("no fault"), found, "{reach} {preferred:?}");
    }
    let (_, bytes) = file(9, 10);
    assert_eq!(dir.read_chunk(GROUP, &new, 3, 20).expect("no fault"), bytes[3..23]);
    assert_eq!(dir.read_chunk(GROUP, &new, 3, 2000).expect("no fault"), bytes[3..]);
    assert_eq!(dir.read_chunk(GROUP, &other, 0, 20).expect_err("another").kind(), io::ErrorKind::NotFound);
    assert_eq!(
        dir.read_chunk(GROUP, &new, new.bytes + 1, 20).expect_err("too far").kind(),
        io::ErrorKind::InvalidInput
    );
}

/// A file with a changed byte or a missing end is refused, where it is saved and where it is received.
#[test]
fn anything_but_the_whole_is_refused() {
    let (info, whole) = file(7, 30);
    let damaged = |bytes: &[u8]| {
        let disk = SimDisk::new();
        save(&open(&disk), 7, 30).expect("no fault");
        disk.tamper("0000000000000005-0000000000000003-0000000000000007.snapshot", |file| *file = bytes.to_vec());
        let dir = open(&disk);
        let newest = dir.newest(GROUP, |_| true).expect("no fault");
        assert_eq!(newest.saved.is_none(), newest.unusable.iter().any(SnapshotError::is_damage));
        assert_eq!(newest.saved.is_none(), dir.saved(GROUP, id(7)).is_err());
        let told = SnapshotInfo { bytes: bytes.len() as u64, ..info };
        let received = receive(&dir, &told, bytes, 13);
        assert_eq!(newest.saved.is_none(), received.is_err_and(|error| error.is_damage()));
        assert_eq!(dir.parts().len(), 0, "it was finished or removed");
        newest.saved.is_none()
    };
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        assert!(damaged(&changed), "byte {at} is another");
        assert!(damaged(&whole[..at]), "cut to {at} bytes");
    }
    assert!(damaged(&[&whole[..], b"x"].concat()));
    assert!(!damaged(&whole));
}

#[test]
fn another_content_than_was_told_is_refused() {
    let dir = open(&SimDisk::new());
    let (info, bytes) = file(7, 30);
    let told = SnapshotInfo { checksum: info.checksum ^ 1, ..info };
    let refused = receive(&dir, &told, &bytes, 13).expect_err("another checksum");
    assert!(matches!(refused, SnapshotError::Damaged { flaw: Flaw::OtherContent, .. }), "{refused}");
    let told = SnapshotInfo { id: id(8), ..info };
    assert!(receive(&dir, &told, &bytes, 13).expect_err("another entry").is_damage());
    assert_eq!(newest(&dir), None);
    assert_eq!(receive(&dir, &info, &bytes, 13).expect("whole"), header(7));
}

#[test]
fn a_part_takes_what_continues_it_and_nothing_else() {
    let dir = open(&SimDisk::new());
    let (info, bytes) = file(7, 3000);
    let kind = |done: io::Result<u64>| done.expect_err("refused").kind();
    assert_eq!(kind(dir.write_chunk(GROUP, &info, 0, &bytes[..10])), io::ErrorKind::InvalidInput, "none was begun");
    assert_eq!(dir.part(GROUP, &info).expect("no fault"), 0);
    assert_eq!(dir.write_chunk(GROUP, &info, 0, &bytes[..10]).expect("no fault"), 10);
    for offset in [0, 9, 11, u64::MAX] {
        assert_eq!(kind(dir.write_chunk(GROUP, &info, offset, &bytes[..10])), io::ErrorKind::InvalidInput);
    }
    assert_eq!(kind(dir.write_chunk(GROUP, &info, 10, &[0; 4000])), io::ErrorKind::InvalidInput, "too long");
    assert!(!dir.finish_part(GROUP, &info).expect_err("not complete").is_damage());
    assert_eq!(dir.part(GROUP, &info).expect("no fault"), 10, "nothing was lost");
    let (newer, _) = file(9, 3000);
    assert_eq!(dir.part(GROUP, &newer).expect("no fault"), 0);
    assert_eq!(dir.parts(), [(GROUP, newer)].into());
    assert_eq!(dir.part(GROUP, &info).expect("no fault"), 0, "only one is kept");
    assert_eq!(dir.groups().expect("no fault"), [GROUP]);
    dir.remove_before(GROUP, id(8)).expect("no fault");
    assert_eq!(dir.parts().len(), 0);
}

/// A way to get a newer snapshot; false if it fails.
type Way<'a> = &'a dyn Fn(&SnapshotDir<SimDisk>) -> bool;

/// Power is lost after each act of a save, a transfer, a removal: the old newest or the new one is there, whole.
#[test]
fn every_crash_point_leaves_the_old_one_or_the_new_one() {
    let (info, bytes) = file(9, 20_000);
    let write: [Way<'_>; 2] = [&|dir| save(dir, 9, 20_000).is_ok(), &|dir| receive(dir, &info, &bytes, 3000).is_ok()];
    let mut seen = [0; 2];
    for (way, write) in write.iter().enumerate() {
        for act in 0.. {
            let disk = SimDisk::new();
            let dir = open(&disk);
            save(&dir, 7, 10).expect("no fault");
            disk.turn_off(act);
            let is_done = write(&dir);
            if is_done {
                let _ = dir.remove_before(GROUP, id(9));
            }
            for seed in 0..40 {
                let disk = disk.fork();
                disk.crash(seed);
                let dir = open(&disk);
                let found = newest(&dir).expect("one of them");
                assert!(found == id(9) || (found == id(7) && !is_done), "way {way} act {act} seed {seed}: {found}");
                seen[usize::from(found == id(9))] += 1;
                // And it goes on.
                assert_eq!(receive(&dir, &info, &bytes, 3000).expect("no fault"), header(9));
                assert_eq!(newest(&dir), Some(id(9)));
            }
            if is_done {
                break;
            }
        }
    }
    assert!(seen.iter().all(|seen| *seen > 40), "{seen:?}");
}

/// A disk that fails once at any act leaves the old newest or the new one, and the next try succeeds.
#[test]
fn every_failing_act_is_told_and_can_be_tried_again() {
    let (info, bytes) = file(9, 20_000);
    for act in 0.. {
        let disk = SimDisk::new();
        let dir = open(&disk);
        save(&dir, 7, 10).expect("no fault");
        disk.fail_act(act, act);
        let saved = save(&dir, 8, 20_000);
        let received = receive(&dir, &info, &bytes, 3000);
        disk.heal();
        if saved.is_ok() && received.is_ok() {
            assert!(act > 8, "{act} acts");
            return;
        }
        assert!(newest(&dir).is_some(), "act {act}");
        assert_eq!(receive(&dir, &info, &bytes, 3000).expect("no fault"), header(9), "act {act}");
        disk.crash(act);
        assert_eq!(newest(&open(&disk)), Some(id(9)), "act {act}");
    }
}

/// What was durable of a part is there after a loss of power, and all of it if only the process ended.
#[test]
fn a_part_goes_on_after_a_crash() {
    /// An eighth of what is synced at once.
    const PIECE: usize = SYNC_BYTES as usize / 8;
    let (info, bytes) = file(9, 20 * PIECE);
    let disk = SimDisk::new();
    let dir = open(&disk);
    assert_eq!(dir.part(GROUP, &info).expect("no fault"), 0);
    let mut at = 0;
    while at < 19 * PIECE {
        at = dir.write_chunk(GROUP, &info, at as u64, &bytes[at..at + PIECE / 2]).expect("no fault") as usize;
    }
    for seed in 0..4 {
        let disk = disk.fork();
        disk.crash(seed);
        let dir = open(&disk);
        let resumed = dir.part(GROUP, &info).expect("no fault") as usize;
        assert!([0, 8 * PIECE, 16 * PIECE].contains(&resumed), "seed {seed}: {resumed}");
        assert_eq!(receive(&dir, &info, &bytes, PIECE / 2).expect("whole"), header(9), "seed {seed}");
    }
    let resumed = open(&disk).part(GROUP, &info).expect("no fault") as usize;
    assert_eq!(resumed, 16 * PIECE, "what may not be on the disk is not relied on");
}

#[test]
fn what_was_never_finished_is_removed() {
    let disk = SimDisk::new();
    let (old, new) = (file(7, 10).0, file(9, 10).0);
    let part = |info: &SnapshotInfo, durable: u64| {
        let SnapshotInfo { id, bytes, checksum } = info;
        format!("{:016x}-{:016x}-{:016x}-{bytes:016x}-{checksum:08x}-{durable:016x}.part", 5, id.term.0, id.index.0)
    };
    let names = [
        "0000000000000005-saved.part".to_owned(),
        "0000000000000005-received.part".to_owned(),
        part(&old, 0),
        part(&old, 20),
        part(&new, 10),
        part(&new, 5000),
        "LOCK".to_owned(),
    ];
    for name in &names {
        let mut disk = disk.clone();
        let file = disk.create(name).expect("no fault");
        disk.write_at(&file, &[0; 30], 0).expect("no fault");
    }
    assert_eq!(open(&disk).parts(), [(GROUP, old)].into(), "the longest");
    let mut left = disk.clone().list().expect("no fault");
    left.sort();
    assert_eq!(left, [part(&old, 20), "LOCK".to_owned()]);
}

#[test]
fn a_group_is_removed_for_good() {
    let disk = SimDisk::new();
    let dir = open(&disk);
    save(&dir, 7, 10).expect("no fault");
    dir.part(GROUP, &file(9, 10).0).expect("no fault");
    let other = Header { group: GroupId(6), ..header(7) };
    dir.save(&other, &mut State(7, 10)).expect("no fault");
    dir.remove_group(GROUP).expect("no fault");
    for seed in 0..20 {
        let disk = disk.fork();
        disk.crash(seed);
        assert_eq!(open(&disk).groups().expect("no fault"), [GroupId(6)], "seed {seed}");
    }
}

#[test]
fn a_full_disk_is_told_and_its_space_comes_back() {
    let disk = SimDisk::new();
    let dir = open(&disk);
    save(&dir, 7, 10).expect("no fault");
    disk.refuse_write(0);
    assert_eq!(save(&dir, 9, 3000).expect_err("no space").kind(), io::ErrorKind::StorageFull);
    assert_eq!(disk.clone().list().expect("no fault").len(), 1);
    let (info, bytes) = file(9, 3000);
    dir.part(GROUP, &info).expect("no fault");
    dir.write_chunk(GROUP, &info, 0, &bytes[..100]).expect("no fault");
    disk.refuse_write(0);
    let full = dir.write_chunk(GROUP, &info, 100, &bytes[100..200]).expect_err("no space");
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    assert_eq!(receive(&dir, &info, &bytes, 1000).expect("there is room again"), header(9));
}

/// The same on a file system, from two threads' handles.
#[test]
fn a_real_directory_does_the_same() {
    let path = std::env::temp_dir().join(format!("vlot-snapshots-{}", std::process::id()));
    let dir = SnapshotDir::open(RealDisk::open(&path).expect("a new directory")).expect("no fault");
    let info = dir.save(&header(7), &mut State(7, 600_000)).expect("room");
    let other = SnapshotDir::open(dir.disk().clone()).expect("no fault");
    drop(dir);
    let (told, bytes) = file(9, 600_000);
    assert_eq!(other.part(GROUP, &told).expect("room"), 0);
    assert_eq!(other.write_chunk(GROUP, &told, 0, &bytes).expect("room"), told.bytes);
    assert_eq!(other.finish_part(GROUP, &told).expect("whole"), header(9));
    assert_eq!(other.find(GROUP, id(1), Some(info)).expect("no fault"), Some(info));
    assert_eq!(other.find(GROUP, id(1), None).expect("no fault"), Some(told));
    other.remove_group(GROUP).expect("no fault");
    drop(other);
    RealDisk::open(&path).expect("it is free").remove("LOCK").expect("it is there");
}
