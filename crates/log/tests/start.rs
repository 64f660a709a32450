//! A log is opened again after a crash: what was known before is known still, and nothing comes back that was gone.

mod model;

use bytes::Bytes;
use model::{IDENTITY, Model, SMALL};
use std::collections::BTreeMap;
use vlot_log::disk::sim::SimDisk;
use vlot_log::error::OpenError;
use vlot_log::index::GroupState;
use vlot_log::log::{Log, Options};
use vlot_log::record::{Entry, Write};
use vlot_log::recover::Recovered;
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};

const FIRST: &str = "0000000000000001.log";
const SECOND: &str = "0000000000000002.log";
const OPTIONS: Options = Options { segment_bytes: 32 * 1024, accept_damaged_entries: true, ..SMALL };

fn open(disk: &SimDisk, segment_bytes: u32) -> Result<(Log<SimDisk>, Recovered), OpenError> {
    Log::open(disk.clone(), IDENTITY, Options { segment_bytes, ..OPTIONS })
}

fn vote(group: u64, term: u64) -> Write {
    Write::Vote { group: GroupId(group), term: Term(term), vote: Some(NodeId(9)) }
}

/// One entry of group 1.
fn entry(index: u64, bytes: usize) -> Write {
    let entry = Entry { id: LogId::new(1, index), payload: Bytes::from(vec![b'p'; bytes]) };
    Write::Append { group: GroupId(1), after: LogIndex(index - 1), entries: vec![entry] }
}

/// Cuts the power; of what may be there or not, in order, only those are of which `is_left` says so by their number, from 1.
fn crash_with(disk: &SimDisk, is_left: impl Fn(u64) -> bool) {
    let mut n = 0;
    disk.crash_as(&mut |_| {
        n += 1;
        u64::from(is_left(n))
    });
}

/// Where a log ends.
fn end_of(log: &Log<SimDisk>) -> usize {
    4096 + log.sizes().record_bytes as usize
}

/// Damages the payload of the first entry; then, whatever act of a start power is lost at, and whatever of it is on the disk,
/// later starts find what one without loss of power finds, which is returned.
fn assert_stays_known(disk: &SimDisk, segment_bytes: u32, case: &str) -> BTreeMap<GroupId, GroupState> {
    disk.tamper(FIRST, |bytes| bytes[4096 + 64 + 5] ^= 1);
    let known = |disk: &SimDisk, case: &str| {
        let (_, recovered) = open(disk, segment_bytes).unwrap_or_else(|error| panic!("{case}: {error}"));
        (recovered.groups, recovered.damaged)
    };
    let expected = known(&disk.fork(), case);
    for (off_at, seed) in (0..10).flat_map(|off_at| (0..10).map(move |seed| (off_at, seed))) {
        let case = format!("{case}, power lost at act {off_at}, seed {seed}");
        let disk = disk.fork();
        disk.turn_off(off_at);
        let _ = open(&disk, segment_bytes);
        for crash in 0..2 {
            disk.crash(seed + crash);
            assert!(known(&disk, &case) == expected, "{case}, start {crash}");
        }
    }
    expected.0
}

/// An entry and a vote are durable, and the only thing that says so is the header of a write that was torn. The entry rots.
/// However often the log is opened and power is lost meanwhile: what is damaged stays known, and the vote is there. The header
/// lies in a sector, in two, in two pages, on the last page, or in the next segment.
#[test]
fn what_seals_damage_is_not_wiped() {
    let (first, on_two_pages, on_the_last) =
        ((4544..4616).step_by(8), (8144..8208).step_by(8), (6600..6664).step_by(8));
    let ends = first.chain(on_two_pages).map(|end| (32 * 1024, end)).chain(on_the_last.map(|end| (8192, end)));
    for (segment_bytes, end) in ends.chain([(8192, 7128)]) {
        for is_outlived in [false, true] {
            let case = format!("{segment_bytes}, end {end}, outlived {is_outlived}");
            let disk = SimDisk::new();
            let (mut log, _) = open(&disk, segment_bytes).expect("a new log");
            // Another entry in the place of the first, which is in no log then: its damage is not reported.
            let others = if is_outlived { vec![vote(2, 30), entry(1, 8)] } else { vec![vote(2, 30)] };
            let payload_bytes = end - 4096 - 64 - if is_outlived { 56 + 72 } else { 56 };
            log.write(&[vec![entry(1, payload_bytes)], others].concat()).expect("no fault");
            log.sync().expect("no fault");
            assert_eq!(end_of(&log), end, "{case}");
            log.write(&[entry(2, 1000)]).expect("no fault");
            crash_with(&disk, |n| n <= 2);
            let known = assert_stays_known(&disk, segment_bytes, &case);
            assert_eq!(known[&GroupId(2)].term, Term(30), "{case}");
        }
    }
}

/// The same where the mark seals that was left when there was quiet.
#[test]
fn the_mark_of_quiet_is_not_lost_to_that_of_a_start() {
    for end in (8128..8232).step_by(8) {
        let disk = SimDisk::new();
        let (mut log, _) = open(&disk, 32 * 1024).expect("a new log");
        log.write(&[entry(1, end - 4096 - 64 - 72), entry(2, 8)]).expect("no fault");
        log.seal().expect("no fault");
        assert_eq!(end_of(&log), end);
        let known = assert_stays_known(&disk, 32 * 1024, &format!("end {end}"));
        assert_eq!(known[&GroupId(1)].runs.last(), LogIndex(2), "end {end}");
    }
}

/// The mark of a start is damaged, or never got to the disk. The next one does not bring back what came after it.
#[test]
fn no_mark_of_a_start_is_like_another() {
    for is_lost in [false, true] {
        let disk = SimDisk::new();
        let (mut log, _) = open(&disk, 32 * 1024).expect("a new log");
        // The mark, a vote, and another of which the first eight bytes are in the same sector.
        let end = 4096 + 504 - 56 - 32;
        log.write(&[entry(1, end - 4096 - 64)]).expect("no fault");
        log.sync().expect("no fault");
        if is_lost {
            // What was written last is written again before.
            disk.lose_write(1);
        }
        let (mut log, _) = open(&disk, 32 * 1024).expect("whole");
        assert_eq!(end_of(&log), end + 32);
        log.write(&[vote(1, 20), vote(2, 30)]).expect("no fault");
        crash_with(&disk, |n| n == 2);
        if !is_lost {
            disk.tamper(FIRST, |bytes| bytes[end + 20] ^= 1);
        }
        let (mut log, recovered) = open(&disk, 32 * 1024).expect("nothing seals the mark");
        assert!(!recovered.groups.contains_key(&GroupId(2)));
        log.write(&[vote(1, 20), vote(3, 1)]).expect("no fault");
        crash_with(&disk, |n| n == 1);
        let (_, recovered) = open(&disk, 32 * 1024).expect("whole");
        assert!(!recovered.groups.contains_key(&GroupId(2)), "lost: {is_lost}, {recovered:?}");
    }
}

/// A log is cut because of damage, and a sync fails meanwhile. The next start reads zeros that are not on the disk. What was
/// behind them is gone all the same.
#[test]
fn what_was_cut_stays_cut() {
    let options = Options { segment_bytes: 32 * 1024, accept_damage: true, ..SMALL };
    for (mark_at, sync, is_mended) in [8192 - 32, 4096 + 3 * 512 - 32, 6096]
        .into_iter()
        .flat_map(|at| (0..8).flat_map(move |sync| [false, true].map(|is_mended| (at, sync, is_mended))))
    {
        let case = format!("the mark of a start at {mark_at} rots, sync {sync} fails, mended {is_mended}");
        let disk = SimDisk::new();
        let (mut log, _) = Log::open(disk.clone(), IDENTITY, options).expect("a new log");
        log.write(&[entry(1, mark_at - 4096 - 64)]).expect("no fault");
        log.sync().expect("no fault");
        let (mut log, _) = Log::open(disk.clone(), IDENTITY, options).expect("whole");
        for term in 1..60 {
            log.write(&[vote(2, term), entry(term + 1, 100)]).expect("no fault");
            log.sync().expect("no fault");
        }
        disk.tamper(FIRST, |bytes| bytes[mark_at + 30] ^= 1);
        disk.fail_sync(sync, 3);
        let _ = Log::open(disk.clone(), IDENTITY, options);
        disk.heal();
        let (mut log, recovered) = Log::open(disk.clone(), IDENTITY, options).expect(&case);
        if is_mended {
            log.mended().expect("no fault");
        }
        disk.crash(1);
        let options = Options { accept_damage: !is_mended, ..options };
        let (_, again) = Log::open(disk.clone(), IDENTITY, options).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(again.groups, recovered.groups, "{case}");
    }
}

/// Of a torn batch, half a header is left that nothing tells from other bytes. Later the same batch but for its end is written
/// at the same place, and its own half of that header is what is left of it.
#[test]
fn two_torn_writes_do_not_make_a_whole_one() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, 32 * 1024).expect("a new log");
    let mut base = Model::default();
    for term in 0..8 {
        base.apply(&vote(1, term));
        log.write(&[vote(1, term)]).expect("no fault");
        log.sync().expect("no fault");
    }
    // The header of the second begins eight bytes before the end of a sector.
    log.write(&[vote(1, 20), vote(2, 30)]).expect("no fault");
    crash_with(&disk, |n| n == 2);
    let (mut log, recovered) = open(&disk, 32 * 1024).expect("whole");
    assert_eq!(Model::of(&log, &recovered), base, "all of it is lost");

    let mut possible = vec![base];
    for write in [vote(1, 20), vote(3, 1)] {
        let mut next = possible[possible.len() - 1].clone();
        next.apply(&write);
        possible.push(next);
    }
    log.write(&[vote(1, 20), vote(3, 1)]).expect("no fault");
    for seed in 0..200 {
        let disk = disk.fork();
        disk.crash(seed);
        let (log, recovered) = open(&disk, 32 * 1024).expect("whole");
        assert!(possible.contains(&Model::of(&log, &recovered)), "seed {seed}: {:?}", recovered.groups);
    }
    for number in 1..6 {
        let disk = disk.fork();
        crash_with(&disk, |n| n == number);
        let (log, recovered) = open(&disk, 32 * 1024).expect("whole");
        assert!(possible.contains(&Model::of(&log, &recovered)), "choice {number}: {:?}", recovered.groups);
    }
}

/// Remains of a torn write are wiped, and the sync of it fails. The next start reads zeros that are not on the disk. What was
/// cut does not come back when the write in front of it is made again.
#[test]
fn what_was_wiped_in_memory_alone_does_not_come_back() {
    const SEGMENT_BYTES: u32 = 256 * 1024;
    for seed in 0..40 {
        for sync in 0..4 {
            let disk = SimDisk::new();
            let (mut log, _) = open(&disk, SEGMENT_BYTES).expect("a new log");
            // It ends with a sector.
            let first = entry(1, 140 * 512 - 64);
            log.write(&[first.clone(), vote(2, 30)]).expect("no fault");
            crash_with(&disk, |n| n > 1);
            disk.fail_sync(sync, seed);
            let _ = open(&disk, SEGMENT_BYTES);
            disk.heal();
            let (mut log, recovered) = open(&disk, SEGMENT_BYTES).expect("whole");
            assert!(recovered.groups.is_empty());
            log.write(&[first]).expect("no fault");
            log.sync().expect("no fault");
            disk.crash(seed);
            let (_, recovered) = open(&disk, SEGMENT_BYTES).expect("whole");
            assert!(!recovered.groups.contains_key(&GroupId(2)), "seed {seed}: {recovered:?}");
        }
    }
}

/// There is no room for a mark in the last segment, and none for another segment: the log opens, and goes on where there is
/// room.
#[test]
fn a_full_disk_needs_no_mark() {
    let disk = SimDisk::new();
    disk.limit_capacity(Some(8192));
    let (mut log, _) = open(&disk, 8192).expect("a new log");
    // All that is held back is for votes.
    let mut term = 0;
    while log.write(&[vote(1, term)]).is_ok() {
        term += 1;
    }
    log.sync().expect("no fault");
    for _ in 0..3 {
        let (mut log, recovered) = open(&disk, 8192).expect("it is full, and whole");
        assert_eq!(recovered.groups[&GroupId(1)].term, Term(term - 1));
        assert!(log.write(&[vote(1, term)]).is_err());
    }
    disk.limit_capacity(None);
    let (mut log, _) = open(&disk, 8192).expect("whole");
    log.write(&[vote(1, term)]).expect("there is room again");
    log.sync().expect("no fault");
    assert!(disk.bytes(SECOND).is_some());
    assert_eq!(open(&disk, 8192).expect("whole").1.groups[&GroupId(1)].term, Term(term));
}
