//! The disk is full: what is refused, what still goes through, and how the log comes out of it without being opened
//! again.

mod model;

use bytes::Bytes;
use model::{Model, append, open};
use vlot_log::disk::sim::SimDisk;
use vlot_log::error::{TidyError, WriteError};
use vlot_log::log::Log;
use vlot_log::record::{Entry, Write};
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};

const GROUP: GroupId = GroupId(1);

fn large(after: u64) -> Write {
    entry(after, 500)
}

fn entry(after: u64, bytes: usize) -> Write {
    let entry = Entry { id: LogId::new(1, after + 1), payload: Bytes::from(vec![7; bytes]) };
    Write::Append { group: GROUP, after: LogIndex(after), entries: vec![entry] }
}

fn vote(term: u64) -> Write {
    Write::Vote { group: GROUP, term: Term(term), vote: Some(NodeId(1)) }
}

fn snapshot(after: u64) -> Write {
    Write::LogStart { group: GROUP, after: LogId::new(1, after), note: Bytes::from_static(b"snapshot") }
}

/// Fills a disk with room for three segments, to the last byte that is not held back; returns how many entries there
/// are.
fn fill(log: &mut Log<SimDisk>, disk: &SimDisk, model: &mut Model) -> u64 {
    disk.limit_capacity(Some(3 * 8192));
    let mut n = model.0.get(&GROUP).map_or(0, |group| group.last().index.0);
    for bytes in [500, 1] {
        loop {
            let write = entry(n, bytes);
            match log.write(std::slice::from_ref(&write)) {
                Ok(()) => model.apply(&write),
                Err(error) => {
                    assert!(matches!(error, WriteError::NoSpace(_)), "{error}");
                    break;
                }
            }
            n += 1;
        }
    }
    log.sync().expect("no fault");
    n
}

fn assert_holds(log: &Log<SimDisk>, disk: &SimDisk, model: &Model) {
    let group = &model.0[&GROUP];
    let found = log.read(GROUP, group.after.index, LogIndex(u64::MAX), usize::MAX);
    assert_eq!(found.as_ref(), Ok(&group.entries), "reads go on");
    let after_crash = disk.fork();
    after_crash.crash(1);
    let (log, recovered) = open(&after_crash).expect("whole");
    assert_eq!(&Model::of(&log, &recovered), model, "what was acknowledged stays");
}

#[test]
fn votes_and_begins_go_through_and_appends_when_there_is_room_again() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    let mut model = Model::default();
    let mut n = fill(&mut log, &disk, &mut model);
    assert_holds(&log, &disk, &model);

    for turn in 0..10 {
        let acts = disk.acts();
        for refused in [vec![large(n)], vec![vote(50), large(n)]] {
            assert!(matches!(log.write(&refused), Err(WriteError::NoSpace(_))));
        }
        assert_eq!(disk.acts(), acts, "nothing is changed");
        let few = [vote(turn + 1), snapshot(n - 1)];
        for write in few {
            log.write(std::slice::from_ref(&write)).expect("room is held back for it");
            log.sync().expect("no fault");
            model.apply(&write);
            assert_holds(&log, &disk, &model);
        }
        assert!(log.tidy().expect("no fault").segments_dropped > 0);
        let filled = fill(&mut log, &disk, &mut model);
        assert!(filled > n + 5, "turn {turn}: there was room again");
        n = filled;
    }
    disk.limit_capacity(None);
    log.write(&[large(n)]).expect("there is room");
    log.sync().expect("no fault");
    model.apply(&large(n));
    assert_holds(&log, &disk, &model);
}

#[test]
fn what_is_held_back_has_an_end_too() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    let mut model = Model::default();
    fill(&mut log, &disk, &mut model);
    let mut term = 1;
    while log.write(&[vote(term)]).is_ok() {
        log.sync().expect("no fault");
        model.apply(&vote(term));
        term += 1;
    }
    assert!(term > 2048 / 56, "a quarter of a segment is held back: {term} votes");
    assert!(matches!(log.write(&[vote(term)]), Err(WriteError::NoSpace(_))));
    assert_holds(&log, &disk, &model);
    disk.limit_capacity(None);
    log.write(&[vote(term)]).expect("there is room again");
}

/// An idle group's entries keep the oldest segment. They are rewritten into what is held back, so that it can go.
#[test]
fn a_group_that_lags_does_not_keep_a_disk_full() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    let mut model = Model::default();
    log.write(&[append(2, 0, 1, "idle")]).expect("no fault");
    model.apply(&append(2, 0, 1, "idle"));
    let n = fill(&mut log, &disk, &mut model);
    log.write(&[snapshot(n)]).expect("room is held back for it");
    model.apply(&snapshot(n));
    let mut freed = 0;
    loop {
        let tidied = log.tidy().expect("no fault");
        freed += tidied.segments_dropped;
        if !tidied.more {
            break;
        }
    }
    assert!(freed > 0);
    assert_holds(&log, &disk, &model);
    log.write(&[large(n)]).expect("there is room again");
}

/// There is more to rewrite than fits: that is said, and is no failure.
#[test]
fn what_does_not_fit_is_not_rewritten() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    let mut model = Model::default();
    let idle = |index| Entry { id: LogId::new(1, index), payload: Bytes::from_static(&[7; 100]) };
    let many = Write::Append { group: GroupId(2), after: LogIndex::ZERO, entries: (1..=18).map(idle).collect() };
    log.write(std::slice::from_ref(&many)).expect("no fault");
    model.apply(&many);
    let n = fill(&mut log, &disk, &mut model);
    let write = snapshot(n);
    log.write(std::slice::from_ref(&write)).expect("room is held back for it");
    model.apply(&write);
    for n in 0.. {
        match log.tidy() {
            Ok(tidied) => assert!(tidied.more && n < 100),
            Err(error) => {
                assert!(matches!(error, TidyError::Write(WriteError::NoSpace(_))), "{error}");
                break;
            }
        }
    }
    for term in 1..=1024 / 56 {
        log.write(&[vote(term)]).expect("half of what is held back is left for votes");
        model.apply(&vote(term));
    }
    log.sync().expect("no fault");
    assert_holds(&log, &disk, &model);
    disk.limit_capacity(None);
    while log.tidy().expect("no fault").more {}
    assert_holds(&log, &disk, &model);
}
