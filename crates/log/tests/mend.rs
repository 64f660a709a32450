//! Damage that the owner accepts: what is lost is said, what is not lost is there, and it stays said until it is mended.

mod model;

use bytes::Bytes;
use model::{IDENTITY, Model, SMALL, append, begin, entries};
use std::collections::BTreeMap;
use vlot_log::damage::Damage;
use vlot_log::disk::Disk;
use vlot_log::disk::sim::{Rng, SimDisk};
use vlot_log::error::{OpenError, ReadError};
use vlot_log::log::{Log, Options};
use vlot_log::record::{Entry, Write};
use vlot_log::recover::Recovered;
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};

const NOTE: [u8; 300] = [7; 300];
const FIRST: &str = "0000000000000001.log";

fn open(disk: &SimDisk) -> Result<(Log<SimDisk>, Recovered), OpenError> {
    Log::open(disk.clone(), IDENTITY, Options { accept_damage: true, ..SMALL })
}

fn open_strictly(disk: &SimDisk) -> Result<(Log<SimDisk>, Recovered), OpenError> {
    Log::open(disk.clone(), IDENTITY, SMALL)
}

/// A log of two segments, each write synced by itself, and all the states it went through.
fn log_at_rest() -> (SimDisk, Vec<Model>) {
    let disk = SimDisk::new();
    let (mut log, _) = open_strictly(&disk).expect("a new log");
    let long = "x".repeat(200);
    let writes = [
        Write::Vote { group: GroupId(1), term: Term(1), vote: Some(NodeId(2)) },
        append(1, 0, 1, "abckef"),
        append(2, 0, 1, &long),
        append(1, 4, 2, "gh"),
        begin(1, 1, 2, "a snapshot"),
        Write::Rewrite { group: GroupId(1), entries: entries(4, 2, "g") },
        Write::Vote { group: GroupId(2), term: Term(5), vote: None },
        append(2, 150, 1, ""), // A cut alone.
        append(2, 150, 5, &"y".repeat(20)),
        append(1, 6, 2, "klm"),
    ];
    let mut states = vec![Model::default()];
    for write in writes {
        log.write(std::slice::from_ref(&write)).expect("no fault");
        log.sync().expect("no fault");
        let mut next = states[states.len() - 1].clone();
        next.apply(&write);
        states.push(next);
    }
    log.seal().expect("no fault");
    (disk, states)
}

/// An idle group was rewritten, and the segments in which it was are gone.
fn log_without_its_beginning() -> SimDisk {
    let disk = SimDisk::new();
    let (mut log, _) = open_strictly(&disk).expect("a new log");
    log.write(&[append(1, 0, 1, "idle"), begin(1, 1, 2, "note")]).expect("no fault");
    for n in 0..120 {
        let entry = Entry { id: LogId::new(1, n + 1), payload: Bytes::from(vec![n as u8; 300]) };
        log.write(&[Write::Append { group: GroupId(2), after: LogIndex(n), entries: vec![entry] }]).expect("no fault");
        if n % 30 == 29 {
            log.write(&[Write::LogStart { group: GroupId(2), after: LogId::new(1, n - 3), note: Bytes::new() }])
                .expect("no fault");
        }
        log.tidy().expect("no fault");
    }
    log.seal().expect("no fault");
    let names = disk.clone().list().expect("no fault");
    assert!(names.len() > 2 && !names.contains(&FIRST.to_owned()), "{names:?}");
    disk
}

/// Which entries are reported, by group.
fn damaged_entries(recovered: &Recovered) -> BTreeMap<GroupId, Vec<LogIndex>> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for damage in &recovered.damaged {
        if let Damage::Entries { group, first, last, .. } = damage {
            all.entry(*group).or_default().extend((first.0..=last.0).map(LogIndex));
        }
    }
    all
}

fn is_cut(recovered: &Recovered) -> bool {
    let cut = recovered.damaged.iter().filter(|damage| matches!(damage, Damage::Rest { .. })).count();
    assert!(cut <= 1);
    cut == 1
}

/// Each entry reads as it was written unless it is reported; those that are reported do not read.
fn assert_only_reported_are_lost(log: &Log<SimDisk>, recovered: &Recovered, expected: &Model, case: &str) {
    let damaged = damaged_entries(recovered);
    for (&id, group) in &expected.0 {
        assert_eq!(recovered.groups[&id].runs.last_id(), group.last(), "{case}");
        assert_eq!((recovered.groups[&id].term, recovered.groups[&id].vote), (group.term, group.vote), "{case}");
        for entry in &group.entries {
            let found = log.read(id, entry.id.index.prev(), entry.id.index, 1000);
            if damaged.get(&id).is_some_and(|damaged| damaged.contains(&entry.id.index)) {
                assert!(matches!(found, Err(ReadError::Corrupt { .. })), "{case}: {} {found:?}", entry.id);
            } else {
                assert_eq!(found.as_deref(), Ok(std::slice::from_ref(entry)), "{case}");
            }
        }
    }
}

/// Writes again what is reported, as a replica does with what its peers have.
fn mend_entries(log: &mut Log<SimDisk>, recovered: &Recovered, expected: &Model) {
    for (id, damaged) in damaged_entries(recovered) {
        for index in damaged {
            let entry = expected.0[&id].entries.iter().find(|entry| entry.id.index == index).expect("it is in the log");
            log.write(&[Write::Rewrite { group: id, entries: vec![entry.clone()] }]).expect("no fault");
        }
    }
    log.sync().expect("no fault");
}

#[test]
fn every_flipped_byte_costs_no_more_than_is_said() {
    let (disk, states) = log_at_rest();
    let last = &states[states.len() - 1];
    let mut seen = BTreeMap::new();
    for file in [FIRST, "0000000000000002.log"] {
        let bytes = disk.bytes(file).expect("it is there");
        let written = bytes.iter().rposition(|&byte| byte != 0).expect("something is written") + 1;
        for at in 0..written {
            let case = format!("{file} {at}");
            let disk = disk.fork();
            disk.tamper(file, |bytes| bytes[at] ^= 1 << (at % 8));
            let strictly = open_strictly(&disk.fork());
            let (mut log, recovered) = open(&disk).unwrap_or_else(|error| panic!("{case}: {error}"));
            let kind = if is_cut(&recovered) {
                let found = Model::of(&log, &recovered);
                assert!(states.contains(&found), "{case}: the log as it was once");
                assert!(matches!(open_strictly(&disk), Err(OpenError::Damaged { .. })), "{case}");
                let (mut log, again) = open(&disk).expect("it is cut");
                assert!(is_cut(&again), "{case}: it is said again");
                assert_eq!(Model::of(&log, &again), found, "{case}");
                log.mended().expect("no fault");
                let (log, recovered) = open_strictly(&disk).unwrap_or_else(|error| panic!("{case}: {error}"));
                assert_eq!(Model::of(&log, &recovered), found, "{case}");
                "cut"
            } else if !recovered.damaged.is_empty() {
                assert_only_reported_are_lost(&log, &recovered, last, &case);
                assert!(
                    matches!(open_strictly(&disk), Err(OpenError::Corrupt { .. })),
                    "{case}: only if it is accepted"
                );
                mend_entries(&mut log, &recovered, last);
                let (log, recovered) = open(&disk).unwrap_or_else(|error| panic!("{case}: {error}"));
                assert_eq!(recovered.damaged, [], "{case}");
                assert_eq!(&Model::of(&log, &recovered), last, "{case}");
                "entries"
            } else if strictly.is_ok() {
                "none"
            } else {
                // What is damaged is in no log any more.
                assert_eq!(&Model::of(&log, &recovered), last, "{case}");
                "dead"
            };
            *seen.entry(kind).or_insert(0) += 1;
        }
    }
    for kind in ["cut", "entries", "none", "dead"] {
        assert!(seen.get(kind).is_some_and(|&count| count >= 3), "{kind} in {seen:?}");
    }
}

/// Nothing tells that the last write was durable: it is a torn tail, accepted or not.
#[test]
fn a_torn_tail_is_not_damage() {
    let disk = SimDisk::new();
    let (mut log, _) = open_strictly(&disk).expect("a new log");
    for write in [append(1, 0, 1, "a"), append(1, 1, 1, "z")] {
        log.write(&[write]).expect("no fault");
        log.sync().expect("no fault");
    }
    disk.tamper(FIRST, |bytes| {
        let at = bytes.iter().position(|&byte| byte == b'z').expect("it is written");
        bytes[at] ^= 1;
    });
    let (_, recovered) = open(&disk).expect("it is cut");
    assert_eq!(recovered.damaged, []);
    assert!(recovered.torn.is_some());
    assert_eq!(recovered.groups[&GroupId(1)].runs.last(), LogIndex(1));
}

#[test]
fn a_range_of_entries_is_reported_with_its_place() {
    let disk = SimDisk::new();
    let (mut log, _) = open_strictly(&disk).expect("a new log");
    log.write(&[append(1, 0, 1, "abcdefgh"), append(2, 0, 1, "ij")]).expect("no fault");
    log.seal().expect("no fault");
    let bytes = disk.bytes(FIRST).expect("it is there");
    let at = bytes.windows(8).position(|eight| eight == b"abcdefgh").expect("it is written");
    disk.tamper(FIRST, |bytes| [2, 3, 6].into_iter().for_each(|n| bytes[at + n] ^= 1));
    let (_, recovered) = open(&disk).expect("it is accepted");
    let ranges = recovered.damaged.iter().map(|damage| match damage {
        Damage::Entries { group, first, last, file, offset, .. } => {
            assert_eq!(file.to_str(), Some(FIRST));
            (group.0, first.0, last.0, *offset)
        }
        damage @ Damage::Rest { .. } => panic!("{damage:?}"),
    });
    let ranges = ranges.collect::<Vec<_>>();
    assert_eq!(ranges, [(1, 3, 4, at as u64 + 2), (1, 7, 7, at as u64 + 6)]);
}

/// The same in a log whose beginning is gone. What a cut loses there may be what an older record needs: then a group
/// ends where the gap is. It is a log of its own from then on.
#[test]
fn a_log_without_its_beginning_survives_a_cut() {
    let disk = log_without_its_beginning();
    let (mut cut, mut ended) = (0, 0);
    for file in disk.clone().list().expect("no fault") {
        let bytes = disk.bytes(&file).expect("it is there");
        let written = bytes.iter().rposition(|&byte| byte != 0).expect("something is written") + 1;
        for at in (0..64).chain(4096..written).step_by(7) {
            let case = format!("{file} {at}");
            let disk = disk.fork();
            disk.tamper(&file, |bytes| bytes[at] ^= 1 << (at % 8));
            let (mut log, recovered) = open(&disk).unwrap_or_else(|error| panic!("{case}: {error}"));
            if !is_cut(&recovered) {
                continue;
            }
            cut += 1;
            ended += usize::from(recovered.groups.values().any(|state| state.runs.is_empty()));
            let found = Model::of(&log, &recovered);
            log.mended().expect("no fault");
            let (mut log, recovered) = open_strictly(&disk).unwrap_or_else(|error| panic!("{case}: {error}"));
            let mut model = Model::of(&log, &recovered);
            assert_eq!(model, found, "{case}");
            for group in [1, 2, 3] {
                let last = model.0.get(&GroupId(group)).map_or(LogId::ZERO, |group| group.last());
                let write = append(group, last.index.0, last.term.0 + 1, "new");
                model.apply(&write);
                log.write(&[write]).expect("no fault");
            }
            log.sync().expect("no fault");
            while log.tidy().expect("no fault").more {}
            let (log, recovered) = open_strictly(&disk).unwrap_or_else(|error| panic!("{case}: {error}"));
            assert_eq!(Model::of(&log, &recovered), model, "{case}");
        }
    }
    assert!(cut > 100 && ended > 10, "{cut} cuts, {ended} with a group that ends");
}

#[test]
fn a_segment_cut_short_is_cut_off() {
    let (disk, states) = log_at_rest();
    for file in [FIRST, "0000000000000002.log"] {
        let whole = disk.bytes(file).expect("it is there").len();
        for length in (0..whole).step_by(37) {
            let disk = disk.fork();
            disk.tamper(file, |bytes| bytes.truncate(length));
            let (log, recovered) = open(&disk).expect("it is accepted");
            assert!(is_cut(&recovered), "{file} {length}");
            assert!(states.contains(&Model::of(&log, &recovered)), "{file} {length}");
        }
    }
}

/// Whatever has happened to the files, there is a log afterwards, and it is one that can be used.
#[test]
fn no_damage_leaves_less_than_a_log() {
    let disk = log_without_its_beginning();
    let files = disk.clone().list().expect("no fault");
    let mut missing = 0;
    for seed in 0..600 {
        let mut rng = Rng::new(seed);
        let disk = disk.fork();
        for _ in 0..=rng.below(4) {
            let file = &files[rng.below(files.len() as u64) as usize];
            disturb(&disk, file, &mut rng);
        }
        let (mut log, recovered) = match open(&disk) {
            Ok(opened) => opened,
            Err(OpenError::Missing { .. }) => {
                missing += 1;
                continue;
            }
            Err(error) => panic!("seed {seed}: {error}"),
        };
        for (group, damaged) in damaged_entries(&recovered) {
            for index in damaged {
                let term = recovered.groups[&group].runs.term_at(index).expect("it is in the log");
                let entries = vec![Entry { id: LogId { term, index }, payload: Bytes::from_static(b"mended") }];
                log.write(&[Write::Rewrite { group, entries }]).expect("no fault");
            }
        }
        let mut model = Model::of(&log, &recovered);
        log.mended().expect("no fault");
        for group in [1, 2, 3] {
            let last = model.0.get(&GroupId(group)).map_or(LogId::ZERO, |group| group.last());
            let write = append(group, last.index.0, last.term.0 + 1, "new");
            model.apply(&write);
            log.write(&[write]).expect("no fault");
        }
        log.sync().expect("no fault");
        while log.tidy().expect("no fault").more {}
        // What was damaged and not needed may still be there.
        let (log, recovered) = open(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!((Model::of(&log, &recovered), recovered.damaged), (model, vec![]), "seed {seed}");
    }
    assert!(missing > 10 && missing < 300, "{missing} of 600 miss a segment");
}

/// Flips, clears, copies, cuts short or removes something.
fn disturb(disk: &SimDisk, file: &str, rng: &mut Rng) {
    let Some(length) = disk.bytes(file).map(|bytes| bytes.len() as u64).filter(|&length| length > 0) else { return };
    let sector = (rng.below(length) / 512 * 512) as usize;
    let upto = (sector + 512).min(length as usize);
    match rng.below(20) {
        0 => disk.clone().remove(file).expect("it is there"),
        1 => disk.tamper(file, |bytes| bytes.truncate(sector)),
        2..5 => disk.tamper(file, |bytes| bytes[sector..upto].fill(0)),
        5..8 => disk.tamper(file, |bytes| bytes[sector..upto].iter_mut().for_each(|byte| *byte = rng.draw() as u8)),
        8..11 => {
            let to = rng.below(length - (upto - sector) as u64 + 1) as usize / 8 * 8;
            disk.tamper(file, |bytes| bytes.copy_within(sector..upto, to));
        }
        _ => {
            let at = rng.below(length) as usize;
            disk.tamper(file, |bytes| bytes[at] ^= 1 << rng.below(8));
        }
    }
}

/// Storage fails and power is lost at each act of a cut. It never looks whole afterwards.
#[test]
fn a_crash_while_it_is_cut() {
    let (disk, states) = log_at_rest();
    let long = disk.fork();
    let (mut log, _) = open_strictly(&long).expect("whole");
    log.write(&[append(1, 9, 3, "n")]).expect("no fault");
    for n in 1..50 {
        let note = Bytes::from_static(&NOTE);
        log.write(&[Write::LogStart { group: GroupId(3), after: LogId::new(1, n), note }]).expect("no fault");
        log.sync().expect("no fault");
    }
    assert!(long.clone().list().expect("no fault").len() >= 5);
    for (disk, file, at) in [
        (&disk, FIRST, 4100),
        (&disk, FIRST, 4156),
        (&disk, "0000000000000002.log", 20),
        (&disk, "0000000000000002.log", 4100),
        (&long, FIRST, 4156),
        (&long, "0000000000000002.log", 20),
    ] {
        let damaged = disk.fork();
        damaged.tamper(file, |bytes| bytes[at] ^= 1);
        let before = damaged.acts();
        let whole = damaged.fork();
        let (log, recovered) = open(&whole).expect("it is accepted");
        assert!(is_cut(&recovered), "{file} {at}");
        let expected = Model::of(&log, &recovered);
        for act in 0..whole.acts() - before {
            for seed in 0..20 {
                let case = format!("{file} {at} act {act} seed {seed}");
                let disk = damaged.fork();
                disk.fail_act(act, seed);
                let _ = open(&disk);
                disk.heal();
                disk.crash(seed);
                assert!(open_strictly(&disk.fork()).is_err(), "{case}: it looks whole");
                let (log, recovered) = open(&disk).unwrap_or_else(|error| panic!("{case}: {error}"));
                assert!(is_cut(&recovered), "{case}");
                let found = Model::of(&log, &recovered);
                assert!(states.contains(&found), "{case}");
                assert!(found == expected || act > 0, "{case}");
            }
        }
    }
}

#[test]
fn a_note_without_a_log_is_not_overlooked() {
    let mut disk = SimDisk::new();
    let file = disk.create("DAMAGED").expect("no fault");
    disk.write_at(&file, b"\xff no note", 0).expect("no fault");
    assert!(matches!(open_strictly(&disk), Err(OpenError::Damaged { .. })));
    let (mut log, recovered) = open(&disk).expect("it is accepted");
    assert!(is_cut(&recovered));
    log.mended().expect("no fault");
    log.mended().expect("twice is once");
    drop(log);
    open_strictly(&disk).expect("a log like any other");
}

/// The last record of a segment was not durable when the segment ended. What comes in the next one says that it is since; a
/// next segment that holds nothing says nothing, be it new or used before.
#[test]
fn a_later_segment_seals_if_something_is_in_it() {
    for (is_used_before, is_begun) in [(false, false), (false, true), (true, false), (true, true)] {
        let case = format!("used before: {is_used_before}, begun: {is_begun}");
        let disk = SimDisk::new();
        let (mut log, _) = open_strictly(&disk).expect("a new log");
        let mut last = 0;
        let mut add = |log: &mut Log<SimDisk>, letter: u8, bytes: usize| {
            let entry = Entry { id: LogId::new(1, last + 1), payload: Bytes::from(vec![letter; bytes]) };
            let write = Write::Append { group: GroupId(1), after: LogIndex(last), entries: vec![entry] };
            log.write(&[write]).expect("no fault");
            last += 1;
            LogIndex(last)
        };
        add(&mut log, b'x', 3000);
        if is_used_before {
            add(&mut log, b'x', 3000);
            log.write(&[begin(1, 1, 2, "note")]).expect("no fault");
            assert_eq!(log.tidy().expect("no fault").segments_dropped, 1);
        }
        let index = add(&mut log, b'v', 500);
        if is_begun {
            add(&mut log, b'x', 6000);
        } else {
            log.prepare().expect("no fault");
        }
        log.sync().expect("no fault");

        let names = disk.clone().list().expect("no fault");
        let find = |name: &String| {
            let bytes = disk.bytes(name).expect("it is there");
            bytes.windows(500).position(|bytes| bytes == [b'v'; 500]).map(|at| (name.clone(), at))
        };
        let (name, at) = names.iter().find_map(find).expect("it is written");
        assert!(names.last() > Some(&name), "{case}: there is a next segment");
        disk.tamper(&name, |bytes| bytes[at] ^= 1);
        let (_, recovered) = open(&disk).expect(&case);
        let damaged = if is_begun { BTreeMap::from([(GroupId(1), vec![index])]) } else { BTreeMap::new() };
        assert_eq!(damaged_entries(&recovered), damaged, "{case}");
        assert_eq!((recovered.torn.is_some(), is_cut(&recovered)), (!is_begun, false), "{case}");
        let end = recovered.groups[&GroupId(1)].runs.last();
        assert_eq!(end, if is_begun { index.next() } else { index.prev() }, "{case}");
    }
}
