//! Space comes back: segments that hold nothing that is needed go, and what is needed of old ones is rewritten.

mod model;

use bytes::Bytes;
use model::{IDENTITY, Model, SMALL, append, begin, entries, open};
use vlot_log::disk::Disk;
use vlot_log::disk::sim::{Rng, SimDisk};
use vlot_log::error::{OpenError, ReadError, TidyError, WriteError};
use vlot_log::log::tidy::{Sizes, Tidied};
use vlot_log::log::{Log, Options};
use vlot_log::record::{Entry, Write};
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};

const IDLE: u64 = 1;
const BUSY: u64 = 2;
const START_MARK_BYTES: u64 = 32;

fn segments(disk: &SimDisk) -> Vec<u64> {
    let names = disk.clone().list().expect("no fault");
    let mut all: Vec<_> =
        names.iter().filter_map(|name| u64::from_str_radix(name.strip_suffix(".log")?, 16).ok()).collect();
    all.sort_unstable();
    all
}

/// Writes to the log and to the model.
fn write(log: &mut Log<SimDisk>, model: &mut Model, writes: &[Write]) -> Result<(), WriteError> {
    writes.iter().for_each(|write| model.apply(write));
    log.write(writes)?;
    log.sync()
}

/// What an idle group leaves behind: a vote, a beginning and entries, one of which its owner wants to see again.
fn idle_group() -> [Write; 4] {
    [
        append(IDLE, 0, 1, "ab"),
        Write::Vote { group: GroupId(IDLE), term: Term(3), vote: Some(NodeId(2)) },
        begin(IDLE, 2, 7, "the idle group's snapshot"),
        append(IDLE, 7, 3, "kept"),
    ]
}

/// One entry of 1000 bytes of a group that takes a snapshot every ten.
fn busy_writes(n: u64) -> Vec<Write> {
    let group = GroupId(BUSY);
    let entry = Entry { id: LogId::new(1, n + 1), payload: Bytes::from(vec![n as u8; 1000]) };
    let mut writes = vec![Write::Append { group, after: LogIndex(n), entries: vec![entry] }];
    if n % 10 == 9 {
        writes.push(Write::LogStart { group, after: LogId::new(1, n - 2), note: Bytes::from_static(b"snapshot") });
    }
    writes
}

fn tidy_up(log: &mut Log<SimDisk>) -> Vec<Tidied> {
    let mut done = Vec::new();
    loop {
        done.push(log.tidy().expect("no fault"));
        assert!(done.len() < 10_000, "it comes to an end");
        if !done[done.len() - 1].more {
            return done;
        }
    }
}

#[test]
fn segments_go_when_nothing_in_them_is_needed() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    let mut model = Model::default();
    for n in 0..100 {
        write(&mut log, &mut model, &busy_writes(n)).expect("no fault");
    }
    assert!(segments(&disk).len() > 12);
    let tidied = log.tidy().expect("no fault");
    assert!(tidied.segments_dropped > 10, "{tidied:?}");
    assert_eq!(tidied.bytes_rewritten, 0, "the group's own snapshots have made room");
    tidy_up(&mut log);
    let left = segments(&disk);
    assert!(left[0] > 1 && left.len() <= 3, "{left:?}");
    assert_eq!(log.sizes().segments, left.len());
    assert_eq!(log.sizes().disk_bytes, left.len() as u64 * 8192);
    let (again, recovered) = open(&disk).expect("whole");
    assert_eq!(Model::of(&again, &recovered), model);
    let record_bytes = log.sizes().record_bytes + START_MARK_BYTES;
    assert_eq!(again.sizes(), Sizes { record_bytes, ..log.sizes() });
}

#[test]
fn a_group_that_lags_is_rewritten_and_the_log_stays_small() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    let mut model = Model::default();
    write(&mut log, &mut model, &idle_group()).expect("no fault");
    for n in 0..1000 {
        write(&mut log, &mut model, &busy_writes(n)).expect("no fault");
        log.prepare().expect("no fault");
        let tidied = log.tidy().expect("no fault");
        assert!(tidied.bytes_rewritten <= 2048, "a bounded piece of work: {tidied:?}");
        let sizes = log.sizes();
        assert!(sizes.disk_bytes <= 20 * 8192, "after {n}: {sizes:?}");
    }
    assert!(segments(&disk)[0] > 100);
    let (again, recovered) = open(&disk).expect("whole");
    assert_eq!(Model::of(&again, &recovered), model);
    let state = &recovered.groups[&GroupId(IDLE)];
    assert_eq!(
        (state.term, state.vote, &state.note[..]),
        (Term(3), Some(NodeId(2)), &b"the idle group's snapshot"[..])
    );
    assert_eq!(state.kept.len(), 1);
}

/// However it came about, the bound holds when there is no more to do, and what is alive is reckoned exactly.
#[test]
fn the_bound_holds() {
    for seed in 0..60 {
        let mut rng = Rng::new(seed);
        let disk = SimDisk::new();
        let slack_bytes = [0, 20_000, 100_000][rng.below(3) as usize];
        let (mut log, _) = Log::open(disk.clone(), IDENTITY, Options { slack_bytes, ..SMALL }).expect("a new log");
        let mut model = Model::default();
        for _ in 0..rng.below(300) {
            let draw = model.draw(&mut rng);
            write(&mut log, &mut model, &[draw]).expect("no fault");
            if rng.below(4) == 0 {
                log.tidy().expect("no fault");
            }
        }
        tidy_up(&mut log);
        let sizes = log.sizes();
        let last_segment = 9000 * 6;
        let bound = 2 * sizes.live_bytes + slack_bytes.max(8192) + last_segment;
        assert!(sizes.record_bytes <= bound, "seed {seed}: {sizes:?}");
        let (again, recovered) = open(&disk).expect("whole");
        assert_eq!(Model::of(&again, &recovered), model, "seed {seed}");
        assert_eq!(again.sizes().live_bytes, log.sizes().live_bytes, "seed {seed}");
        let more = again.sizes().record_bytes - log.sizes().record_bytes;
        assert!(
            [START_MARK_BYTES, 32 + START_MARK_BYTES].contains(&more),
            "seed {seed}: maybe in a segment of its own"
        );
    }
}

/// A workload in which everything happens: rolls, votes, cuts, snapshots, drops and rewrites.
fn workload(log: &mut Log<SimDisk>, states: &mut Vec<Model>, seen: &mut Tidied) -> Result<(), WriteError> {
    let mut rng = Rng::new(3);
    let mut n = 0;
    let mut step = |log: &mut Log<SimDisk>, writes: Vec<Write>| {
        for write in &writes {
            let mut next = states[states.len() - 1].clone();
            next.apply(write);
            states.push(next);
        }
        log.write(&writes)?;
        log.sync()?;
        states.drain(..states.len() - 1);
        Ok(())
    };
    step(log, idle_group().to_vec())?;
    while n < 90 {
        if rng.below(3) == 0 {
            let vote = (rng.below(2) == 0).then_some(NodeId(1));
            step(log, vec![Write::Vote { group: GroupId(BUSY), term: Term(n), vote }])?;
        }
        if rng.below(6) == 0 && n % 10 < 7 {
            step(log, vec![append(BUSY, n - n.min(2), 1, "cut")])?;
            n = n - n.min(2) + 3;
        }
        step(log, busy_writes(n))?;
        n += 1;
        match log.tidy() {
            Ok(tidied) => {
                seen.segments_dropped += tidied.segments_dropped;
                seen.bytes_rewritten += tidied.bytes_rewritten;
            }
            Err(TidyError::Write(error)) => return Err(error),
            Err(TidyError::Read(error)) => panic!("{error}"),
        }
        if n % 3 == 0 {
            log.prepare()?;
        }
    }
    Ok(())
}

/// Storage fails and power is lost at each write and sync of a workload; then again while the log is opened.
#[test]
fn every_crash_point_of_a_workload() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    let begun = disk.acts();
    let (mut states, mut seen) = (vec![Model::default()], Tidied::default());
    workload(&mut log, &mut states, &mut seen).expect("no fault");
    assert!(seen.segments_dropped >= 8 && seen.bytes_rewritten > 500, "all of it happens: {seen:?}");
    let mut gaps = 0;
    for act in 0..disk.acts() - begun {
        for seed in 0..4 {
            let disk = SimDisk::new();
            let (mut log, _) = open(&disk).expect("a new log");
            let mut states = vec![Model::default()];
            disk.fail_act(act, seed);
            workload(&mut log, &mut states, &mut Tidied::default()).expect_err("storage fails");
            disk.crash(seed);
            let left = segments(&disk);
            gaps += usize::from(left.windows(2).any(|pair| pair[1] != pair[0] + 1));
            disk.fail_act(seed, seed);
            let _ = open(&disk);
            disk.heal();
            disk.crash(seed);
            let (log, recovered) = open(&disk).unwrap_or_else(|error| panic!("act {act} seed {seed}: {error}"));
            let found = Model::of(&log, &recovered);
            assert!(states.contains(&found), "act {act} seed {seed}");
            let left = segments(&disk);
            assert_eq!(left.len(), log.sizes().segments, "act {act} seed {seed}: {left:?}");
        }
    }
    assert!(gaps > 0, "a segment that was dropped came back without its neighbour");
}

#[test]
fn a_segment_that_is_needed_is_missed_and_one_that_is_not_is_not() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    let mut model = Model::default();
    for n in 0..40 {
        write(&mut log, &mut model, &busy_writes(n)).expect("no fault");
    }
    let full = disk.fork();
    tidy_up(&mut log);
    let mut left = segments(&disk);
    assert!(left.pop() > segments(&full).pop(), "one that was dropped comes next, and holds nothing yet");
    let (_, recovered) = open(&disk).expect("what is gone is not needed");
    assert_eq!(recovered.torn, None);
    // Before they were dropped, all were needed.
    for (disk, needed) in [(&full, segments(&full)), (&disk, left)] {
        for name in needed.into_iter().map(|gone| format!("{gone:016x}.log")) {
            let mut disk = disk.fork();
            disk.remove(&name).expect("it is there");
            let error = open(&disk).expect_err("it is needed");
            assert!(matches!(&error, OpenError::Missing { file } if file.ends_with(&name)), "{name}: {error}");
        }
    }
}

/// Power is lost when the names of dropped segments are gone in part. They are removed when the log is opened.
#[test]
fn a_dropped_segment_that_came_back_is_removed() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    let mut model = Model::default();
    for n in 0..40 {
        write(&mut log, &mut model, &busy_writes(n)).expect("no fault");
    }
    let dropped: Vec<_> = segments(&disk).into_iter().map(|n| format!("{n:016x}.log")).collect();
    let old: Vec<_> = dropped.iter().map(|name| disk.bytes(name).expect("it is there")).collect();
    tidy_up(&mut log);
    let left = segments(&disk);
    for back in 0..left[0] as usize - 1 {
        let mut disk = disk.fork();
        let file = disk.create(&dropped[back]).expect("no fault");
        disk.write_at(&file, &old[back], 0).expect("no fault");
        disk.sync_data(&file).expect("no fault");
        disk.sync_dir().expect("no fault");
        let (log, recovered) = open(&disk).expect("whole");
        assert_eq!(Model::of(&log, &recovered), model, "{back}");
        assert_eq!(segments(&disk), left, "{back}");
    }
}

/// What cannot be read is not rewritten, and its segment stays until the owner writes it again.
#[test]
fn damage_keeps_a_segment_until_it_is_mended() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    let mut model = Model::default();
    write(&mut log, &mut model, &idle_group()).expect("no fault");
    for n in 0..60 {
        write(&mut log, &mut model, &busy_writes(n)).expect("no fault");
    }
    let payload = b"kept";
    let first = "0000000000000001.log";
    let at = disk.bytes(first).expect("it is there").windows(4).position(|four| four == payload).expect("written");
    disk.tamper(first, |bytes| bytes[at] ^= 1);
    for _ in 0..2 {
        let error = log.tidy().expect_err("it cannot be read");
        let TidyError::Read(ReadError::Corrupt { file, offset, .. }) = error else { panic!("{error}") };
        assert_eq!((file.to_str(), offset), (Some(first), at as u64));
    }
    let again = Write::Rewrite { group: GroupId(IDLE), entries: entries(7, 3, "kept")[..1].to_vec() };
    write(&mut log, &mut model, &[again]).expect("no fault");
    assert_eq!(log.read(GroupId(IDLE), LogIndex(7), LogIndex(8), 9), Ok(entries(7, 3, "k")));
    tidy_up(&mut log);
    assert!(segments(&disk)[0] > 1);
    let (again, recovered) = open(&disk).expect("whole");
    assert_eq!(Model::of(&again, &recovered), model);
}

/// What little is needed of an idle group keeps no more segments than it is worth: it is written again long before there is
/// too much.
#[test]
fn what_is_little_keeps_few_segments() {
    for count in [0, 2, 20, 60] {
        let disk = SimDisk::new();
        let options = Options { slack_bytes: 1 << 30, ..SMALL };
        let (mut log, _) = Log::open(disk.clone(), IDENTITY, options).expect("a new log");
        let mut model = Model::default();
        let vote = Write::Vote { group: GroupId(IDLE), term: Term(3), vote: Some(NodeId(2)) };
        write(&mut log, &mut model, &[vote, append(IDLE, 0, 1, &"i".repeat(count))]).expect("no fault");
        let idle_bytes = log.sizes().live_bytes as usize;
        let mut most = 0;
        for n in 0..300 {
            write(&mut log, &mut model, &busy_writes(n)).expect("no fault");
            tidy_up(&mut log);
            most = most.max(segments(&disk).len());
        }
        // Beside those that are free: up to ten entries of the busy group, three to a segment, and the next one. Marks behind
        // a vote are reckoned, too.
        let least = 32 * (idle_bytes + 4160) / 8192;
        let bound = least + 7;
        assert!((least..=bound).contains(&most), "{count} entries, {idle_bytes} bytes: {most} segments");
        let (again, recovered) = open(&disk).expect("whole");
        assert_eq!(Model::of(&again, &recovered), model);
    }
}

/// The marks behind a vote that is written again do not fit beside it, in so short a segment. That comes to an end.
#[test]
fn a_vote_is_not_rewritten_for_ever() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    let mut model = Model::default();
    for term in 0..200 {
        let vote = |group| Write::Vote { group: GroupId(group), term: Term(term), vote: Some(NodeId(2)) };
        write(&mut log, &mut model, &[vote(IDLE), vote(BUSY)]).expect("no fault");
        tidy_up(&mut log);
    }
    let (again, recovered) = open(&disk).expect("whole");
    assert_eq!(Model::of(&again, &recovered), model);
}

#[test]
fn a_log_that_is_small_is_left_alone() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    let mut model = Model::default();
    write(&mut log, &mut model, &idle_group()).expect("no fault");
    log.seal().expect("no fault");
    let acts = disk.acts();
    assert_eq!(log.tidy(), Ok(Tidied::default()));
    assert_eq!(disk.acts(), acts);
}
