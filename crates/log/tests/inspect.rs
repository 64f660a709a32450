//! A log that is only looked at: what is seen is what an open finds, whatever has happened to the bytes.

mod model;

use model::{SMALL, append, begin, open};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use vlot_log::disk::Disk;
use vlot_log::disk::sim::SimDisk;
use vlot_log::inspect::{self, Damage, OpenError, Sight, What};
use vlot_log::log::{Log, Options};
use vlot_log::record::Write;
use vlot_raft::id::{GroupId, LogId, NodeId, Term};

/// A directory that goes with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vlot-log-inspect-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).expect("a new directory");
        Self(path)
    }

    /// What the directory in memory holds.
    fn fill(&self, disk: &SimDisk) {
        disk.clone().list().expect("no fault").iter().for_each(|name| self.put(disk, name));
    }

    fn put(&self, disk: &SimDisk, name: &str) {
        fs::write(self.0.join(name), disk.bytes(name).expect("it is there")).expect("there is room");
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A log of two segments, each write synced by itself; the last is a mark.
fn log_at_rest() -> SimDisk {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    for write in [
        Write::Vote { group: GroupId(1), term: Term(1), vote: Some(NodeId(2)) },
        append(1, 0, 1, "abcdef"),
        append(2, 0, 1, &"x".repeat(220)),
        append(1, 4, 2, "gh"),
        begin(1, 1, 2, "a snapshot"),
        Write::Vote { group: GroupId(2), term: Term(5), vote: None },
        append(2, 220, 5, "j"),
    ] {
        log.write(&[write]).expect("no fault");
        log.sync().expect("no fault");
    }
    log.seal().expect("no fault");
    disk
}

fn seen(dir: &Path) -> Vec<String> {
    let mut seen = Vec::new();
    let done = inspect::walk(dir, &mut |sight| {
        seen.push(match sight {
            Sight::Segment { sequence, .. } => format!("segment {sequence}"),
            Sight::Refused { sequence, .. } => format!("refused {sequence}"),
            Sight::Unreadable { sequence, offset, .. } => format!("unreadable {sequence} {offset}"),
            Sight::Record(record) => match record.what {
                What::Vote { group, term, vote } => format!("vote {group} {term} {vote:?}"),
                What::Append { group, after, entries } => {
                    let flaws = entries.iter().filter(|entry| entry.flaw.is_some()).count();
                    let letters: String = entries.iter().map(|entry| entry.payload[0] as char).collect();
                    format!("append {group} {after} {letters:.8} {flaws}")
                }
                What::LogStart { group, after, stays, note } => format!("begin {group} {after} {stays} {}", note.len()),
                what => format!("{what:?}"),
            },
        });
        ControlFlow::Continue(())
    });
    done.expect("the system reads");
    seen
}

#[test]
fn a_log_is_seen_in_order() {
    let (scratch, disk) = (Scratch::new("order"), log_at_rest());
    scratch.fill(&disk);
    let seen = seen(&scratch.0);
    let expected = [
        "segment 1",
        "vote 1 1 Some(NodeId(2))",
        "append 1 0 abcdef 0",
        "append 2 0 xxxxxxxx 0",
        "End",
        "segment 2",
        "append 1 4 gh 0",
        "begin 1 2@1 true 10",
        "vote 2 5 None",
        "append 2 220 j 0",
    ];
    let seen: Vec<_> = seen.iter().map(String::as_str).collect();
    assert_eq!(&seen[..expected.len()], expected);

    let judgement = inspect::judge(&scratch.0).expect("whole");
    assert_eq!((judgement.torn, judgement.damaged), (None, vec![]));
    assert_eq!(judgement.groups[&GroupId(2)].state.runs.last_id(), LogId::new(5, 221));
    assert_eq!(judgement.groups[&GroupId(2)].payload_bytes, 221);
    let (log, _) = open(&disk).expect("whole");
    let sizes = log.sizes();
    const START_MARK_BYTES: u64 = 32;
    let sum = |number: fn(&inspect::SegmentSizes) -> u64| judgement.segments.iter().map(number).sum::<u64>();
    assert_eq!(sum(|segment| segment.live_bytes), sizes.live_bytes);
    assert_eq!(sum(|segment| segment.record_bytes.into()), sizes.record_bytes - START_MARK_BYTES);
}

/// What tells the records of a segment from other bytes is in its header.
#[test]
fn of_a_segment_without_a_header_nothing_is_seen() {
    let (scratch, disk) = (Scratch::new("header"), log_at_rest());
    disk.tamper("0000000000000001.log", |bytes| bytes[20] ^= 1);
    scratch.fill(&disk);
    let seen = seen(&scratch.0);
    assert_eq!(seen[..3], ["refused 1", "segment 2", "append 1 4 gh 0"]);
}

/// From somewhere on a segment is gone, its end included. There is more behind it, so that is seen.
#[test]
fn what_a_segment_lacks_at_its_end_is_seen() {
    let (scratch, disk) = (Scratch::new("end"), log_at_rest());
    // A vote and an append of six letters come before.
    let third = 4096 + 56 + (32 + 16 + 6 * 16 + 8);
    disk.tamper("0000000000000001.log", |bytes| bytes[third..].fill(0xa5));
    scratch.fill(&disk);
    let seen = seen(&scratch.0);
    assert_eq!(seen[..3], ["segment 1", "vote 1 1 Some(NodeId(2))", "append 1 0 abcdef 0"]);
    assert_eq!(seen[3..5], [&format!("unreadable 1 {third}"), "segment 2"]);
}

/// A mark that was left when there was quiet is seen behind the last record, as one that is no part of the log. What it
/// seals is missed if it is gone.
#[test]
fn a_mark_is_seen_and_what_it_seals_is_missed() {
    let (scratch, disk) = (Scratch::new("mark"), SimDisk::new());
    let options = Options { segment_bytes: 32768, ..SMALL };
    let (mut log, _) = Log::open(disk.clone(), model::IDENTITY, options).expect("a new log");
    for letters in ["a", "bc"] {
        log.write(&[append(1, letters.len() as u64 - 1, 1, letters)]).expect("no fault");
    }
    log.seal().expect("no fault");
    scratch.fill(&disk);
    let whole = ["segment 1", "append 1 0 a 0", "append 1 1 bc 0", "Mark"];
    assert_eq!(seen(&scratch.0), whole);
    let second = 4096 + 32 + 16 + 16 + 8;
    disk.tamper("0000000000000001.log", |bytes| bytes[second..second + 512].fill(0));
    scratch.fill(&disk);
    assert_eq!(seen(&scratch.0), ["segment 1", "append 1 0 a 0", &format!("unreadable 1 {second}"), "Mark"]);
    disk.tamper("0000000000000001.log", |bytes| bytes[8192..].fill(0));
    scratch.fill(&disk);
    assert_eq!(seen(&scratch.0), ["segment 1", "append 1 0 a 0"], "without the mark nothing is known of it");
}

/// To look never panics, and finds damage exactly where an open is refused.
#[test]
fn what_is_judged_is_what_an_open_finds() {
    let (scratch, disk) = (Scratch::new("judge"), log_at_rest());
    scratch.fill(&disk);
    let (mut intact, mut entries, mut left, mut rest) = (0, 0, 0, 0);
    for file in disk.clone().list().expect("no fault") {
        let bytes = disk.bytes(&file).expect("it is there");
        let written = bytes.iter().rposition(|&byte| byte != 0).expect("something is written") + 1;
        let flips = (0..written).step_by(5).map(|at| (at, true));
        for (at, is_flip) in flips.chain((0..bytes.len()).step_by(61).map(|at| (at, false))) {
            let case = format!("{file} {at} {is_flip}");
            let damaged = disk.fork();
            damaged.tamper(&file, |bytes| if is_flip { bytes[at] ^= 1 << (at % 8) } else { bytes.truncate(at) });
            scratch.put(&damaged, &file);
            seen(&scratch.0);
            let judged = inspect::judge(&scratch.0);
            let opened = open(&damaged);
            match (&judged, &opened) {
                (Ok(judgement), Ok((_, recovered))) => {
                    assert!(judgement.damaged.is_empty() && judgement.outlived.is_none(), "{case}: {judgement:?}");
                    let torn = |torn: &inspect::TornTail| (torn.offset, torn.bytes, torn.flaw);
                    assert_eq!(judgement.torn.as_ref().map(torn), recovered.torn.as_ref().map(torn), "{case}");
                    intact += 1;
                }
                (Ok(judgement), Err(OpenError::Corrupt { offset, .. })) => {
                    match (&judgement.damaged[..], &judgement.outlived) {
                        ([Damage::Entries { offset: found, .. }], None) => assert!(offset <= found, "{case}"),
                        ([], Some(outlived)) => {
                            assert_eq!(outlived.offset, *offset, "{case}");
                            let accepted = Options { accept_damaged_entries: true, ..SMALL };
                            let (_, recovered) = Log::open(damaged.clone(), model::IDENTITY, accepted).expect(&case);
                            assert_eq!(recovered.damaged, [], "{case}");
                            left += 1;
                        }
                        other => panic!("{case}: {other:?}"),
                    }
                    entries += 1;
                }
                (
                    Err(OpenError::Corrupt { offset, flaw, .. }),
                    Err(OpenError::Corrupt { offset: expected, flaw: same, .. }),
                ) => {
                    assert_eq!((offset, flaw), (expected, same), "{case}");
                    rest += 1;
                }
                _ => panic!("{case}: {judged:?} {:?}", opened.err()),
            }
        }
        scratch.put(&disk, &file);
    }
    assert!(intact > 10 && entries > 10 && left > 0 && rest > 100, "{intact} {entries} {left} {rest}");
}

/// What a node that runs writes meanwhile may be seen in part; it is never taken for damage.
#[test]
fn a_log_that_is_written_to_is_never_damaged() {
    use std::sync::atomic::{AtomicBool, Ordering};
    use vlot_log::disk::real::RealDisk;

    let done = AtomicBool::new(false);
    let scratch = Scratch::new("running");
    let (mut log, _) = Log::open(RealDisk::open(&scratch.0).expect("free"), model::IDENTITY, SMALL).expect("a new log");
    std::thread::scope(|scope| {
        let looks = scope.spawn(|| {
            let mut looks = 0;
            while !done.load(Ordering::Relaxed) {
                let judgement = inspect::judge(&scratch.0).expect("it can be read");
                assert_eq!(judgement.damaged, []);
                looks += 1;
            }
            looks
        });
        for n in 0..1500 {
            log.write(&[append(1, n, 1, "a"), append(2, n, 1, "b")]).expect("no fault");
            log.sync().expect("no fault");
            if n % 20 == 19 {
                log.write(&[begin(1, 1, n - 3, "note"), begin(2, 1, n - 3, "note")]).expect("no fault");
                log.tidy().expect("no fault");
            }
            log.prepare().expect("no fault");
        }
        done.store(true, Ordering::Relaxed);
        assert!(looks.join().expect("no look fails") > 3);
    });
    assert!(log.sizes().segments < 20, "segments come and go");
}
