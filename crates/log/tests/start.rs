//! A log is opened again after a crash: what was known before is known still, and nothing comes back that was gone.

mod model;

use bytes::Bytes;
use model::{IDENTITY, Model, SMALL};
use vlot_log::disk::sim::SimDisk;
use vlot_log::error::OpenError;
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

/// Cuts the power; of what may be there or not, only the choice of this number is.
fn crash_but_for(disk: &SimDisk, number: u64) {
    let mut n = 0;
    disk.crash_as(&mut |_| {
        n += 1;
        u64::from(n == number)
    });
}

/// An entry and a vote are durable, and the only thing that says so is the header of a write that was torn. The entry rots.
/// However often the log is opened and power is lost, also while it is opened: the entry is reported as damaged, and the vote
/// is there.
#[test]
fn what_vouches_for_damage_is_not_wiped() {
    // The vouching header lies behind them in one sector, or in two, or in the next segment.
    for (segment_bytes, payload_bytes, torn_bytes, sectors_left) in
        [(32 * 1024, 100, 2000, 1), (32 * 1024, 368, 2000, 2), (32 * 1024, 384, 2000, 2), (8192, 1500, 3000, 1)]
    {
        for (off_at, seed) in (0..12).flat_map(|off_at| (0..8).map(move |seed| (off_at, seed))) {
            let case = format!("{segment_bytes} {payload_bytes}, power lost at act {off_at}, seed {seed}");
            let disk = SimDisk::new();
            let (mut log, _) = open(&disk, segment_bytes).expect("a new log");
            log.write(&[entry(1, payload_bytes), vote(2, 30)]).expect("no fault");
            log.sync().expect("no fault");
            log.write(&[entry(2, torn_bytes)]).expect("no fault");
            let mut n = 0;
            disk.crash_as(&mut |_| {
                n += 1;
                u64::from(n <= sectors_left)
            });
            disk.tamper(FIRST, |bytes| bytes[4096 + 64 + 5] ^= 1);
            disk.turn_off(off_at);
            let _ = open(&disk, segment_bytes);
            disk.crash(seed);
            for turn in 0..2 {
                let (_, recovered) = open(&disk, segment_bytes).unwrap_or_else(|error| panic!("{case}: {error}"));
                assert_eq!(recovered.damaged.len(), 1, "{case}, turn {turn}");
                let state = recovered.groups.get(&GroupId(2)).map(|state| (state.term, state.vote));
                assert_eq!(state, Some((Term(30), Some(NodeId(9)))), "{case}, turn {turn}");
                disk.crash(turn);
            }
        }
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
    crash_but_for(&disk, 2);
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
        crash_but_for(&disk, number);
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
            let mut n = 0;
            disk.crash_as(&mut |_| {
                n += 1;
                u64::from(n > 1)
            });
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
