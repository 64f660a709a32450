//! Bytes change or go missing on a log at rest: that is refused with its place, or cut if nothing says that it was
//! durable, or harmless. It never becomes a wrong entry, and never a panic.

mod model;

use bytes::Bytes;
use model::{IDENTITY, Model, SMALL, append, begin, open};
use vlot_log::disk::sim::SimDisk;
use vlot_log::error::OpenError;
use vlot_log::log::{Log, Options};
use vlot_log::record::{Entry, Write};
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};

/// A log of two segments, each write synced by itself, and all the states it went through. Nothing has come after the last.
fn log_at_rest() -> (SimDisk, Vec<Model>) {
    let (disk, _, states) = written_log(8192);
    assert!(disk.bytes(LAST).is_some() && disk.bytes("0000000000000003.log").is_none());
    (disk, states)
}

/// The same in one segment, after a while of quiet; where its records end, and where the mark is that was left then.
fn log_after_quiet() -> (SimDisk, Vec<Model>, [usize; 2]) {
    let (disk, mut log, mut states) = written_log(32768);
    // For a vote the mark is a part of the log. The one after it is not.
    log.seal().expect("no fault");
    let write = append(2, 301, 7, "k");
    let mut next = states[states.len() - 1].clone();
    next.apply(&write);
    states.push(next);
    log.write(&[write]).expect("no fault");
    log.seal().expect("no fault");
    let acts = disk.acts();
    log.seal().expect("no fault");
    assert_eq!(disk.acts(), acts, "once is enough");
    let written = written(&disk, FIRST);
    assert_eq!(written % 4096, 32, "a mark on a page of its own");
    let end = 4096 + log.sizes().record_bytes as usize;
    assert!(end < written - 32 && written - end < 4096, "{end} {written}");
    (disk, states, [end, written - 32])
}

fn written_log(segment_bytes: u32) -> (SimDisk, Log<SimDisk>, Vec<Model>) {
    let disk = SimDisk::new();
    let (mut log, _) = Log::open(disk.clone(), IDENTITY, Options { segment_bytes, ..SMALL }).expect("a new log");
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
    (disk, log, states)
}

const FIRST: &str = "0000000000000001.log";
const LAST: &str = "0000000000000002.log";

/// Where the last byte ends that is not zero.
fn written(disk: &SimDisk, file: &str) -> usize {
    let bytes = disk.bytes(file).expect("it is there");
    bytes.iter().rposition(|&byte| byte != 0).expect("something is written") + 1
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

/// Changes one byte and judges. If a record has this byte, it is no harm only where it was zero: it may be padding, which
/// has no checksum.
fn flip(disk: &SimDisk, states: &[Model], file: &str, at: usize, end: usize) -> &'static str {
    let damaged = disk.fork();
    let mut was_zero = false;
    damaged.tamper(file, |bytes| {
        was_zero = bytes[at] == 0;
        bytes[at] ^= 1 << (at % 8);
    });
    let judged = judge(&damaged, states, file, at as u64);
    let is_free = was_zero || at >= end;
    assert!(is_free || judged != "harmless", "{file} {at}: something was written here");
    judged
}

/// While there is work, what was written last is in doubt, and nothing else is.
#[test]
fn every_flipped_byte_is_found_or_harmless() {
    let (disk, states) = log_at_rest();
    // An append of one letter: header, front, one row, the letter, and padding.
    let last_record = written(&disk, LAST).next_multiple_of(8) - (32 + 16 + 16 + 8);
    for file in [FIRST, LAST] {
        let end = disk.bytes(file).expect("it is there").len();
        let written = written(&disk, file);
        for at in (0..written).chain((written..end).step_by(97)) {
            let judged = flip(&disk, &states, file, at, written);
            match at {
                0..64 => assert_eq!(judged, "corrupt", "{file} {at}: the header"),
                64..4096 => assert_eq!(judged, "harmless", "{file} {at}: nothing is here"),
                _ if file == LAST && at >= last_record => assert_ne!(judged, "corrupt", "{file} {at}"),
                _ => assert!(["corrupt", "harmless"].contains(&judged), "{file} {at}: {judged}"),
            }
        }
    }
}

/// After quiet nothing is in doubt: damage to what is in the log is found, and damage to the mark costs nothing.
#[test]
fn after_quiet_every_flipped_byte_is_found_or_harmless() {
    let (disk, states, [end, mark]) = log_after_quiet();
    for at in 4096..mark + 32 {
        let judged = flip(&disk, &states, FIRST, at, end);
        let expected: &[_] = if at >= end { &["blank", "harmless"] } else { &["corrupt", "harmless"] };
        assert!(expected.contains(&judged), "{at}: {judged}");
    }
}

/// What is written after quiet stands in front of the mark that was left, and is in doubt as if there were none.
#[test]
fn a_mark_hides_nothing_in_front_of_it() {
    let (disk, mut states, [end, mark]) = log_after_quiet();
    let write = append(2, 302, 7, "z");
    let mut next = states[states.len() - 1].clone();
    next.apply(&write);
    states.push(next);
    let (mut log, _) = open(&disk).expect("whole");
    log.write(&[write]).expect("no fault");
    log.sync().expect("no fault");
    // The mark of a start is in front of it.
    let upto = end + 32 + (32 + 16 + 16 + 8);
    assert!(upto < mark && open(&disk.fork()).expect("whole").1.torn.is_none());
    for at in end + 32..upto {
        let judged = flip(&disk, &states, FIRST, at, upto);
        assert!(["torn", "blank", "harmless"].contains(&judged), "{at}: {judged}");
    }
}

/// In a segment that others follow, or after quiet: otherwise zeros from somewhere on to the end of the log are what it
/// looks like when nothing has been written there.
#[test]
fn zeros_where_something_was_durable_are_found() {
    let (quiet, quiet_states, [_, mark]) = log_after_quiet();
    let (followed, states) = log_at_rest();
    for (disk, states, end) in [(&quiet, &quiet_states, mark), (&followed, &states, 8192)] {
        for bytes in [8, 512, 4096] {
            for at in (4096..end).step_by(bytes) {
                let damaged = disk.fork();
                damaged.tamper(FIRST, |all| all[at..(at + bytes).min(end)].fill(0));
                let is_changed = damaged.bytes(FIRST) != disk.bytes(FIRST);
                let judged = judge(&damaged, states, FIRST, (at + bytes) as u64 - 1);
                assert!(judged == "corrupt" || !is_changed, "{at} {bytes}: {judged}");
            }
        }
    }
    quiet.tamper(FIRST, |all| all[mark..].fill(0));
    assert_eq!(judge(&quiet, &quiet_states, FIRST, mark as u64), "harmless", "without its mark");
}

/// Whatever is written after a mark, up to it or over it: the log ends where it ends, and nothing is torn.
#[test]
fn a_mark_is_no_part_of_the_log() {
    let mut ends_at_mark = [0; 5];
    for bytes in (3900..4100).step_by(4) {
        let disk = SimDisk::new();
        let mut model = Model::default();
        let options = Options { segment_bytes: 32768, ..SMALL };
        let (mut log, _) = Log::open(disk.clone(), IDENTITY, options).expect("a new log");
        for (after, bytes) in [(0, 1), (1, bytes), (2, 1)] {
            let entry = Entry { id: LogId::new(1, after + 1), payload: Bytes::from(vec![7; bytes]) };
            let write = Write::Append { group: GroupId(1), after: LogIndex(after), entries: vec![entry] };
            model.apply(&write);
            log.write(&[write]).expect("no fault");
            log.sync().expect("no fault");
            if let Some(over) = log.sizes().record_bytes.checked_sub(4096).filter(|over| *over <= 32) {
                ends_at_mark[over as usize / 8] += 1;
            }
            for is_sealed in [false, true] {
                let (again, recovered) = open(&disk.fork()).unwrap_or_else(|error| panic!("{bytes}: {error}"));
                let found = (Model::of(&again, &recovered), recovered.torn);
                assert_eq!(found, (model.clone(), None), "{bytes} bytes, sealed {is_sealed}");
                log.seal().expect("no fault");
            }
        }
    }
    assert!(!ends_at_mark.contains(&0), "records end where the mark begins, in it and with it: {ends_at_mark:?}");
}

#[test]
fn a_segment_cut_short_is_refused() {
    let (disk, _) = log_at_rest();
    for file in [FIRST, LAST] {
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
    for file in [FIRST, LAST] {
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
    for file in [FIRST, LAST] {
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
    assert_eq!(torn.bytes, 32 + 16 + 16 + 1);

    let rest = disk.bytes(file).expect("it is there").split_off(second.start + 32);
    assert!(rest.iter().all(|&byte| byte == 0), "what was cut is gone, and a mark stands there");
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
                let is_done = !log.tidy().expect("no fault").more;
                let acts = disk.acts();
                if is_done {
                    log.tidy().expect("no fault");
                }
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
