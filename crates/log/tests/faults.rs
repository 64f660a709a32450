//! Refusals: of a failed disk, a full one, someone else's log, a second owner, too much at once.

mod model;

use bytes::Bytes;
use model::{IDENTITY, Model, SMALL, append, begin, entries, open};
use vlot_log::disk::real::{DirError, RealDisk};
use vlot_log::disk::sim::SimDisk;
use vlot_log::error::{OpenError, ReadError, WriteError};
use vlot_log::log::{Identity, Log, Options, WRITE_BYTES_MAX};
use vlot_log::record::{Entry, Write};
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId};

const GROUP: GroupId = GroupId(1);

fn one_large(after: u64, bytes: usize) -> Write {
    let entry = Entry { id: LogId::new(1, after + 1), payload: Bytes::from(vec![7; bytes]) };
    Write::Append { group: GROUP, after: LogIndex(after), entries: vec![entry] }
}

#[test]
fn a_failed_sync_is_final() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    log.write(&[append(1, 0, 1, "a")]).expect("no fault yet");
    disk.fail_sync(0, 1);
    let Err(WriteError::Failed(failure)) = log.sync() else { panic!("the sync fails") };
    assert_eq!(failure.act, "sync");
    let acts = disk.acts();
    assert_eq!(log.sync(), Err(WriteError::Failed(failure.clone())));
    assert_eq!(log.write(&[append(1, 1, 1, "b")]), Err(WriteError::Failed(failure.clone())));
    assert_eq!(log.prepare(), Err(WriteError::Failed(failure.clone())));
    assert_eq!(log.read(GROUP, LogIndex(0), LogIndex(1), 1), Err(ReadError::Failed(failure)));
    assert_eq!(disk.acts(), acts, "the disk is left alone");
}

#[test]
fn a_failed_write_is_final() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    disk.fail_write(0, 1);
    let error = log.write(&[append(1, 0, 1, "a")]).expect_err("the write fails");
    assert!(matches!(error, WriteError::Failed(_)));
    assert_eq!(log.sync(), Err(error));
}

/// A disk says that it has written, and has not, or has written somewhere else. That shows when power is lost. What was there
/// before is found for what it is, also where it is a record of a segment that the file was once: the log is refused, or
/// it is as it was left, or it ends where nothing says that there was more.
#[test]
fn a_write_that_went_astray_is_found() {
    const WRITES: u64 = 60;
    let work = |disk: &SimDisk| {
        let (mut log, _) = open(disk).expect("a new log");
        let mut states = vec![Model::default()];
        for n in 0..WRITES {
            let snapshot = (n % 16 == 15).then(|| begin(1, 1, n - 1, "snapshot"));
            for write in [Some(one_large(n, 700)), snapshot].into_iter().flatten() {
                let mut next = states[states.len() - 1].clone();
                next.apply(&write);
                states.push(next);
                log.write(&[write]).expect("no fault that shows");
                log.sync().expect("no fault that shows");
            }
            log.tidy().expect("no fault that shows");
        }
        log.seal().expect("no fault that shows");
        states
    };
    let (mut refused, mut harmless, mut shorter) = (0, 0, 0);
    let count = {
        let disk = SimDisk::new();
        work(&disk);
        disk.acts()
    };
    for nth in 0..count {
        for seed in 0..4 {
            let disk = SimDisk::new();
            if seed == 0 {
                disk.lose_write(nth)
            } else {
                disk.misdirect_write(nth, seed)
            }
            let states = work(&disk);
            disk.crash_as(&mut |_| 0);
            match open(&disk) {
                Ok((log, recovered)) => {
                    let found = Model::of(&log, &recovered);
                    let place = states.iter().rposition(|state| *state == found);
                    let lost = states.len() - 1 - place.expect("it was so once");
                    // The last write, and the mark that would seal it.
                    assert!(lost <= 1, "write {nth} seed {seed}: {lost} are lost without notice");
                    if lost == 0 { harmless += 1 } else { shorter += 1 }
                }
                Err(OpenError::Corrupt { .. } | OpenError::Missing { .. }) => refused += 1,
                Err(error) => panic!("write {nth} seed {seed}: {error}"),
            }
        }
    }
    assert!(refused > 50 && harmless > 100, "{refused} refused, {harmless} harmless, {shorter} shorter");
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    log.write(&[one_large(0, 3000)]).expect("there is room in the first segment");
    disk.limit_capacity(Some(8192));
    for _ in 0..2 {
        assert!(matches!(log.write(&[one_large(1, 3000)]), Err(WriteError::NoSpace(_))));
    }
    log.write(&[append(1, 1, 1, "small")]).expect("what fits where there is room is written");
    log.sync().expect("no fault");
    disk.limit_capacity(None);
    log.write(&[one_large(6, 3000)]).expect("there is room again");
    log.sync().expect("no fault");
    let (_, recovered) = open(&disk).expect("whole");
    assert_eq!(recovered.groups[&GROUP].runs.last(), LogIndex(7));
}

#[test]
fn a_disk_too_full_to_begin_says_so() {
    let disk = SimDisk::new();
    disk.limit_capacity(Some(100));
    assert!(matches!(open(&disk), Err(OpenError::NoSpace(_))));
}

#[test]
fn more_than_a_write_may_hold_is_refused() {
    let (mut log, _) = open(&SimDisk::new()).expect("a new log");
    let error = log.write(&[one_large(0, WRITE_BYTES_MAX as usize)]).expect_err("too large");
    assert!(matches!(error, WriteError::TooLarge { bytes_max: WRITE_BYTES_MAX, .. }));
    log.write(&[append(1, 0, 1, "a")]).expect("nothing has happened");
}

#[test]
fn a_write_longer_than_a_segment_gets_a_longer_one() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    let mut model = Model::default();
    for (after, bytes) in [(0, 10), (1, 100_000), (2, 5000), (3, 40_000)] {
        let write = one_large(after, bytes);
        log.write(std::slice::from_ref(&write)).expect("no fault");
        log.prepare().expect("no fault");
        log.sync().expect("no fault");
        model.apply(&write);
    }
    let (log, recovered) = open(&disk).expect("whole");
    assert_eq!(Model::of(&log, &recovered), model);
}

#[test]
fn the_log_of_another_is_refused() {
    let disk = SimDisk::new();
    drop(open(&disk).expect("a new log"));
    for other in [Identity { cluster: 1, ..IDENTITY }, Identity { node: NodeId(4), ..IDENTITY }] {
        let error = Log::open(disk.clone(), other, SMALL).expect_err("not theirs");
        assert!(
            matches!(error, OpenError::OtherIdentity { expected, found, .. } if (expected, found) == (other, IDENTITY))
        );
        let text = error.to_string();
        assert!(text.contains(&other.to_string()) && text.contains(&IDENTITY.to_string()), "{text}");
    }
}

#[test]
fn a_directory_has_one_owner() {
    let dir = std::env::temp_dir().join(format!("vlot-log-owner-{}", std::process::id()));
    let first = RealDisk::open(dir.join("below")).expect("a new directory");
    let error = RealDisk::open(dir.join("below")).expect_err("it is taken");
    assert!(matches!(error, DirError::Locked { .. }), "{error}");
    drop(first);
    RealDisk::open(dir.join("below")).expect("it is free again");
    std::fs::remove_dir_all(dir).expect("it is ours");
}

#[test]
fn a_directory_on_a_file_system_holds_a_log() {
    let dir = std::env::temp_dir().join(format!("vlot-log-real-{}", std::process::id()));
    let mut expected = Vec::new();
    for turn in 0..3 {
        let (mut log, recovered) = Log::open(RealDisk::open(&dir).expect("free"), IDENTITY, SMALL).expect("whole");
        assert_eq!(recovered.torn, None);
        let last = recovered.groups.get(&GROUP).map_or(LogIndex::ZERO, |group| group.runs.last());
        assert_eq!(last.0, expected.len() as u64);
        for n in 0..10 {
            let after = turn * 10 + n;
            let write = one_large(after, 1000);
            let Write::Append { entries, .. } = &write else { unreachable!("it is an append") };
            expected.extend_from_slice(entries);
            log.write(&[write]).expect("no fault");
            log.sync().expect("no fault");
            log.prepare().expect("no fault");
        }
        assert_eq!(log.read(GROUP, LogIndex(0), LogIndex(100), usize::MAX).as_ref(), Ok(&expected));
    }
    std::fs::remove_dir_all(dir).expect("it is ours");
}

#[test]
fn reading_stops_at_its_limits() {
    let (mut log, _) = open(&SimDisk::new()).expect("a new log");
    log.write(&[append(1, 0, 1, "abcdef"), append(2, 0, 1, "xyz"), append(1, 6, 2, "gh")]).expect("no fault");
    let all: Vec<Entry> = [entries(0, 1, "abcdef"), entries(6, 2, "gh")].concat();
    for (after, upto, bytes_max, from, to) in [
        (0, 8, 100, 0, 8),
        (0, 99, 100, 0, 8),
        (0, 8, 3, 0, 3),
        (0, 8, 0, 0, 1), // One at least.
        (5, 7, 100, 5, 7),
        (7, 8, 1, 7, 8),
        (3, 3, 100, 0, 0),
        (8, 9, 100, 0, 0),
        (u64::MAX, u64::MAX, 100, 0, 0),
        (5, 2, 100, 0, 0),
    ] {
        let found = log.read(GROUP, LogIndex(after), LogIndex(upto), bytes_max).expect("no fault");
        assert_eq!(found, all[from..to], "({after}, {upto}] in {bytes_max} bytes");
    }
    assert_eq!(log.read(GroupId(9), LogIndex(0), LogIndex(9), 9), Ok(Vec::new()), "a group that is not there");
}

#[test]
fn options_out_of_bounds_are_brought_within() {
    for segment_bytes in [0, 1, 8193] {
        let disk = SimDisk::new();
        let (mut log, _) =
            Log::open(disk.clone(), IDENTITY, Options { segment_bytes, ..Options::default() }).expect("a new log");
        log.write(&[append(1, 0, 1, "a")]).expect("no fault");
        drop(log);
        Log::open(disk, IDENTITY, Options { segment_bytes, ..Options::default() }).expect("whole");
    }
}
