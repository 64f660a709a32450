//! Bytes change or go missing on a log at rest: that is refused with its place, or cut if nothing says that it was
//! durable, or harmless. It never becomes a wrong entry, and never a panic.

mod model;

use model::{IDENTITY, Model, SMALL, append, begin, open};
use vlot_log::disk::sim::SimDisk;
use vlot_log::error::OpenError;
use vlot_log::log::{Log, Options};
use vlot_log::record::Write;
use vlot_raft::id::{GroupId, LogIndex, NodeId, Term};

/// A log of two segments, each write synced by itself, and all the states it went through.
fn log_at_rest() -> (SimDisk, Vec<Model>) {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    let mut states = vec![Model::default()];
    let long = "x".repeat(220);
    let writes = [
        Write::Vote { group: GroupId(1), term: Term(1), vote: Some(NodeId(2)) },
        append(1, 0, 1, "abc"),
        append(2, 0, 1, &long),
        append(1, 2, 2, "de"),
        Write::Vote { group: GroupId(2), term: Term(5), vote: None },
        append(2, 220, 5, "f"),
        begin(1, 1, 2, "a snapshot"),
        append(1, 4, 2, "ghi"),
        begin(2, 7, 300, "a snapshot from elsewhere"),
        append(2, 300, 7, "j"),
    ];
    for write in writes {
        log.write(std::slice::from_ref(&write)).expect("no fault");
        log.sync().expect("no fault");
        let mut next = states[states.len() - 1].clone();
        next.apply(&write);
        states.push(next);
    }
    assert!(disk.bytes("0000000000000002.log").is_some() && disk.bytes("0000000000000003.log").is_none());
    (disk, states)
}

/// Opens a log that was changed at a byte of a file; how it was judged.
fn judge(disk: &SimDisk, states: &[Model], file: &str, at: u64) -> &'static str {
    match open(disk) {
        Ok((log, recovered)) => {
            let found = Model::of(&log, &recovered);
            let [.., before_last, last] = states else { unreachable!("there are several states") };
            match recovered.torn {
                Some(torn) => {
                    assert_eq!((torn.file.to_str(), torn.offset <= at), (Some(file), true), "{file} {at}");
                    assert!(torn.offset + torn.bytes > at, "{file} {at}: {torn:?}");
                    assert!(found == *last || found == *before_last, "{file} {at}: more is lost than the last write");
                    if found == *last { "blank" } else { "torn" }
                }
                None => {
                    assert!(found == *last, "{file} {at}: something is lost without a word");
                    "harmless"
                }
            }
        }
        Err(OpenError::Corrupt { file: found, offset, .. }) => {
            assert_eq!((found.to_str(), offset <= at), (Some(file), true), "{file} {at}: at {offset}");
            "corrupt"
        }
        Err(OpenError::OtherIdentity { .. } | OpenError::OtherVersion { .. }) => panic!("{file} {at}: not damage"),
        Err(error) => panic!("{file} {at}: {error}"),
    }
}

#[test]
fn every_flipped_byte_is_found_or_harmless() {
    let (disk, states) = log_at_rest();
    for file in ["0000000000000001.log", "0000000000000002.log"] {
        let bytes = disk.bytes(file).expect("it is there");
        let written = bytes.iter().rposition(|&byte| byte != 0).expect("something is written") + 1;
        for at in (0..written).chain((written..bytes.len()).step_by(97)) {
            let damaged = disk.fork();
            damaged.tamper(file, |bytes| bytes[at] ^= 1 << (at % 8));
            let judged = judge(&damaged, &states, file, at as u64);
            match at {
                0..64 => assert_eq!(judged, "corrupt", "{file} {at}: the header"),
                64..4096 => assert_eq!(judged, "harmless", "{file} {at}: nothing is here"),
                _ if file.ends_with("1.log") => assert!(["corrupt", "harmless"].contains(&judged), "{at}: {judged}"),
                _ => {}
            }
        }
    }
}

/// Only in a segment that others follow: zeros from somewhere on to the end of the log are what it looks like when
/// nothing has been written there.
#[test]
fn zeros_where_something_was_durable_are_found() {
    let (disk, states) = log_at_rest();
    let file = "0000000000000001.log";
    for at in (4096..8192).step_by(512) {
        let damaged = disk.fork();
        damaged.tamper(file, |bytes| bytes[at..at + 512].fill(0));
        let judged = judge(&damaged, &states, file, at as u64 + 511);
        assert!(judged == "corrupt" || damaged.bytes(file) == disk.bytes(file), "{at}: {judged}");
    }
}

#[test]
fn a_segment_cut_short_is_refused() {
    let (disk, _) = log_at_rest();
    for file in ["0000000000000001.log", "0000000000000002.log"] {
        let whole = disk.bytes(file).expect("it is there").len();
        for length in 0..whole {
            let damaged = disk.fork();
            damaged.tamper(file, |bytes| bytes.truncate(length));
            let error = open(&damaged).expect_err("a segment has its full length from the start");
            assert!(
                matches!(&error, OpenError::Corrupt { file: found, .. } if found.to_str() == Some(file)),
                "{error}"
            );
        }
    }
}

#[test]
fn a_segment_that_is_gone_is_missed() {
    for file in ["0000000000000001.log", "0000000000000002.log"] {
        use vlot_log::disk::Disk;
        let (mut disk, _) = log_at_rest();
        disk.remove(file).expect("it is there");
        let error = open(&disk).expect_err("a part of the log is gone");
        assert!(matches!(&error, OpenError::Missing { file: found } if found.to_str() == Some(file)), "{error}");
    }
}

/// The header of a record in another place does not match, even within its own segment.
#[test]
fn a_record_in_the_wrong_place_is_found() {
    let (disk, states) = log_at_rest();
    let damaged = disk.fork();
    damaged.tamper("0000000000000001.log", |bytes| bytes.copy_within(4096..4152, 4152));
    assert_eq!(judge(&damaged, &states, "0000000000000001.log", 4152), "corrupt");
}

#[test]
fn damage_after_opening_is_found_when_it_is_read() {
    let (disk, _) = log_at_rest();
    let (log, _) = open(&disk).expect("undamaged");
    for file in ["0000000000000001.log", "0000000000000002.log"] {
        disk.tamper(file, |bytes| bytes[4096..].iter_mut().for_each(|byte| *byte ^= 0x10));
    }
    for (group, after) in [(1, 2), (2, 300)] {
        let error = log.read(GroupId(group), LogIndex(after), LogIndex(after + 1), 100).expect_err("damaged");
        assert!(matches!(error, vlot_log::error::ReadError::Corrupt { .. }), "{error}");
    }
}

/// Two records of equal length went to the same place, one in each of two lives. What followed the first does not
/// follow the second.
#[test]
fn a_record_of_another_life_is_not_taken() {
    let file = "0000000000000001.log";
    let life = |letters: [&str; 2]| {
        let disk = SimDisk::new();
        let (mut log, _) = open(&disk).expect("a new log");
        for (after, letter) in (0..).zip(letters) {
            log.write(&[append(1, after, 1, letter)]).expect("no fault");
        }
        log.sync().expect("no fault");
        disk
    };
    // An append of one letter: header, front, one row, the letter, and padding.
    let second = 4096 + 32 + 16 + 16 + 8..4096 + 2 * (32 + 16 + 16 + 8);
    let other = life(["a", "b"]).bytes(file).expect("it is there");
    let disk = life(["c", "d"]);
    disk.tamper(file, |bytes| bytes[second.clone()].copy_from_slice(&other[second.clone()]));

    let (_, recovered) = open(&disk).expect("nothing says that the second was durable");
    assert_eq!(recovered.groups[&GroupId(1)].runs.last(), LogIndex(1));
    let torn = recovered.torn.expect("it is reported");
    assert!(matches!(torn.flaw, vlot_log::error::Flaw::Chain { .. }), "{torn:?}");
    assert_eq!(torn.offset, second.start as u64);

    let rest = disk.bytes(file).expect("it is there").split_off(second.start);
    assert!(rest.iter().all(|&byte| byte == 0), "what was cut is gone");
    assert_eq!(open(&disk).expect("whole").1.torn, None);
}

/// The last record of a log is a vote. Once the log was tidied, whatever happens to a page of it is noticed.
#[test]
fn a_vote_is_not_lost_with_one_page() {
    let file = "0000000000000001.log";
    let vote = |term| Write::Vote { group: GroupId(1), term: Term(term), vote: Some(NodeId(2)) };
    for before in [0, 1, 30, 60, 70] {
        for (tidied, segment_bytes) in [(true, 8192), (true, 65536), (false, 65536)] {
            let disk = SimDisk::new();
            let options = Options { segment_bytes, ..SMALL };
            let (mut log, _) = Log::open(disk.clone(), IDENTITY, options).expect("a new log");
            let writes: Vec<_> = (0..before).map(vote).collect();
            for write in writes.into_iter().chain([vote(before), vote(90)]) {
                log.write(&[write]).expect("no fault");
                log.sync().expect("no fault");
            }
            if tidied {
                log.tidy().expect("no fault");
                let acts = disk.acts();
                log.tidy().expect("no fault");
                assert_eq!(disk.acts(), acts, "once is enough");
            }
            let last = 4096 + 56 * (before as usize + 1);
            let mut lost = 0;
            for bytes in [8, 512, 4096] {
                for fill in [0, 0xff] {
                    let damaged = disk.fork();
                    let from = last / bytes * bytes;
                    damaged.tamper(file, |all| all[from..from + bytes].fill(fill));
                    match open(&damaged) {
                        Ok((_, recovered)) => {
                            let term = recovered.groups.get(&GroupId(1)).map(|group| group.term);
                            lost += usize::from(term != Some(Term(90)));
                        }
                        Err(error) => assert!(matches!(error, OpenError::Corrupt { .. }), "{error}"),
                    }
                }
            }
            assert_eq!(lost > 0, !tidied, "{before} votes before, tidied {tidied}: {lost} lost");
        }
    }
}
