//! A group is removed from the log: nothing of it is needed any more, and another may begin under its number.

mod model;

use bytes::Bytes;
use model::{IDENTITY, Model, append, begin, open, remove};
use std::ops::ControlFlow;
use vlot_log::disk::Disk;
use vlot_log::disk::real::RealDisk;
use vlot_log::disk::sim::{Rng, SimDisk};
use vlot_log::error::WriteError;
use vlot_log::inspect::{self, Sight, What};
use vlot_log::log::{Log, Options};
use vlot_log::record::{Entry, Write};
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};

const FIRST: &str = "0000000000000001.log";
const SECOND: &str = "0000000000000002.log";

fn vote(group: u64, term: u64) -> Write {
    Write::Vote { group: GroupId(group), term: Term(term), vote: Some(NodeId(2)) }
}

/// An entry of 3000 bytes, so that a segment has room for two.
fn long(group: u64, index: u64) -> Write {
    let entry = Entry { id: LogId::new(1, index), payload: Bytes::from(vec![index as u8; 3000]) };
    Write::Append { group: GroupId(group), after: LogIndex(index - 1), entries: vec![entry] }
}

fn groups(log: &Log<SimDisk>) -> Vec<u64> {
    log.groups().map(|group| group.0).collect()
}

#[test]
fn a_group_is_gone_and_may_begin_again() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    log.write(&[vote(1, 3), append(1, 0, 3, "abc"), begin(1, 3, 2, "a snapshot"), append(2, 0, 1, "x")]).expect("room");
    assert_eq!(groups(&log), [1, 2]);
    log.write(&[remove(1), remove(7)]).expect("room");
    log.sync().expect("no fault");
    assert_eq!(groups(&log), [2]);
    assert_eq!(log.read(GroupId(1), LogIndex(0), LogIndex(9), 100), Ok(Vec::new()));
    let (_, recovered) = open(&disk.fork()).expect("whole");
    assert_eq!(recovered.groups.keys().map(|group| group.0).collect::<Vec<_>>(), [2]);
    // Earlier terms and indices than before: it is another group.
    log.write(&[append(1, 0, 1, "d"), vote(1, 1)]).expect("room");
    log.sync().expect("no fault");
    let (log, recovered) = open(&disk.fork()).expect("whole");
    let state = &recovered.groups[&GroupId(1)];
    assert_eq!((state.term, state.runs.after(), state.runs.last_id()), (Term(1), LogId::ZERO, LogId::new(1, 1)));
    assert_eq!((state.note.len(), groups(&log)), (0, vec![1, 2]));
}

#[test]
fn the_segments_of_a_removed_group_go() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    for index in 1..=20 {
        log.write(&[long(1, index)]).expect("room");
    }
    assert!(log.sizes().segments >= 10);
    log.write(&[remove(1), vote(2, 1)]).expect("room");
    log.sync().expect("no fault");
    assert!(log.sizes().live_bytes < 100);
    while log.tidy().expect("no fault").more {}
    assert!(log.sizes().segments <= 2, "{:?}", log.sizes());
    let (again, recovered) = open(&disk).expect("whole");
    assert_eq!((groups(&again), recovered.groups.len()), (vec![2], 1));
}

/// What a workload does that removes groups, begins them again, and tidies in between.
fn workload(log: &mut Log<SimDisk>, states: &mut Vec<Model>) -> Result<(), WriteError> {
    for round in 0..4 {
        let turns = [
            vec![vote(1, 1), append(1, 0, 1, "abk"), vote(2, round + 1)],
            vec![long(1, 4)],
            vec![begin(1, 1, 2, "a snapshot"), long(1, 5)],
            vec![remove(1), append(1, 0, 1, "d")],
            vec![long(1, 2)],
            vec![remove(1)],
        ];
        for writes in turns {
            // A first part of them may have happened.
            for write in &writes {
                let mut next = states.last().expect("there is always one").clone();
                next.apply(write);
                states.push(next);
            }
            log.write(&writes)?;
            log.sync()?;
            states.drain(..states.len() - 1);
            log.tidy().map_err(|error| match error {
                vlot_log::error::TidyError::Write(error) => error,
                vlot_log::error::TidyError::Read(error) => panic!("{error}"),
            })?;
        }
    }
    Ok(())
}

/// Power is lost after each act, and again while the log is opened.
#[test]
fn every_crash_point_leaves_the_group_or_none_of_it() {
    for act in 0.. {
        let disk = SimDisk::new();
        let (mut log, _) = open(&disk).expect("a new log");
        let mut states = vec![Model::default()];
        disk.turn_off(act);
        let worked = workload(&mut log, &mut states);
        for seed in 0..30 {
            let disk = disk.fork();
            disk.crash(seed);
            let again = disk.fork();
            let (log, recovered) = open(&disk).unwrap_or_else(|error| panic!("act {act} seed {seed}: {error}"));
            let found = Model::of(&log, &recovered);
            assert!(states.contains(&found), "act {act} seed {seed}: {found:?}");
            let mut rng = Rng::new(seed);
            again.turn_off(rng.below(disk.acts() - again.acts()));
            assert!(open(&again).is_err(), "act {act}: power is lost while it is opened");
            again.crash(seed);
            let (log, recovered) = open(&again).unwrap_or_else(|error| panic!("act {act} seed {seed}: {error}"));
            assert!(found == Model::of(&log, &recovered), "act {act} seed {seed}: a second crash changes nothing");
        }
        if worked.is_ok() {
            assert!(act > 60, "{act} acts");
            return;
        }
    }
}

/// Programs that read version 2 do not know removals and would take the last one for a torn write. So it stands in a segment
/// that they refuse.
#[test]
fn a_removal_begins_a_segment_of_version_3() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    log.write(&[append(1, 0, 1, "abc"), append(2, 0, 1, "x")]).expect("room");
    log.sync().expect("no fault");
    drop(log);
    // The header's checksum is a part of each record's. So the log is written anew under the older header.
    let header = |disk: &SimDisk| {
        disk.tamper(FIRST, |bytes| {
            bytes.truncate(4096);
            bytes.resize(8192, 0);
            bytes[8] = 2;
            let crc = crc32c::crc32c(&bytes[..60]);
            bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        });
    };
    header(&disk);
    let (mut log, _) = open(&disk).expect("a log of version 2");
    log.write(&[append(1, 0, 1, "abc"), append(2, 0, 1, "x")]).expect("room");
    log.sync().expect("no fault");
    let version = |name: &str| disk.bytes(name).map(|bytes| bytes[8]);
    assert_eq!((version(FIRST), version(SECOND)), (Some(2), None), "it is written to until it is full");
    log.write(&[remove(1)]).expect("room");
    log.sync().expect("no fault");
    assert_eq!((version(FIRST), version(SECOND)), (Some(2), Some(3)));
    let (log, _) = open(&disk).expect("whole");
    assert_eq!(groups(&log), [2]);
}

#[test]
fn a_removal_is_seen_in_a_log() {
    let dir = std::env::temp_dir().join(format!("vlot-log-remove-{}", std::process::id()));
    let (mut log, _) = Log::open(RealDisk::open(&dir).expect("ours"), IDENTITY, Options::default()).expect("a new log");
    log.write(&[append(1, 0, 1, "abc"), remove(1)]).expect("room");
    log.sync().expect("no fault");
    let mut removed = Vec::new();
    let mut see = |sight: Sight<'_>| {
        if let Sight::Record(inspect::Record { what: What::Remove { group }, .. }) = sight {
            removed.push(group);
        }
        ControlFlow::Continue(())
    };
    inspect::walk(&dir, &mut see).expect("readable");
    assert_eq!(removed, [GroupId(1)]);
    let judgement = inspect::judge(&dir).expect("whole");
    assert!(judgement.groups.is_empty() && judgement.damaged.is_empty() && judgement.torn.is_none());
    drop(log);
    std::fs::remove_dir_all(&dir).expect("ours");
}

/// A full disk still takes a removal, which is what frees space.
#[test]
fn a_full_disk_takes_a_removal() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    disk.limit_capacity(Some(5 * 8192));
    let mut index = 0;
    while log.write(&[long(1, index + 1)]).is_ok() {
        index += 1;
    }
    assert!(matches!(log.write(&[long(1, index + 1)]), Err(WriteError::NoSpace(_))));
    log.write(&[remove(1)]).expect("what is held back is for it");
    while log.tidy().expect("no fault").more {}
    log.write(&[long(2, 1)]).expect("there is room again");
    assert!(disk.clone().list().expect("no fault").len() <= 4);
}
