//! A group's log begins later: where, what stays, what is given back when it is opened again.

mod model;

use bytes::Bytes;
use model::{Model, append, begin, entries, open};
use vlot_log::disk::sim::SimDisk;
use vlot_log::error::{ReadError, WriteError};
use vlot_log::record::{NOTE_BYTES_MAX, Write};
use vlot_raft::id::{GroupId, LogId, LogIndex};

const GROUP: GroupId = GroupId(1);

/// Each row: the snapshot's last entry in a log of `abc` in term 1 and `de` in term 2; what is left of it.
#[test]
fn what_follows_the_entry_stays_if_the_entry_is_there() {
    for (term, index, left) in [
        (0, 0, "abcde"), // Before the first: only the note is new.
        (1, 2, "cde"),
        (1, 3, "de"),
        (2, 4, "e"),
        (2, 5, ""),
        (2, 6, ""),  // Beyond the end.
        (2, 90, ""), // Far beyond it.
        (3, 4, ""),  // An entry of another term is there.
        (1, 4, ""),
    ] {
        let disk = SimDisk::new();
        let (mut log, _) = open(&disk).expect("a new log");
        log.write(&[append(1, 0, 1, "abc"), append(1, 3, 2, "de"), begin(1, term, index, "note")]).expect("no fault");
        log.sync().expect("no fault");
        let (_, recovered) = open(&disk).expect("whole");
        for log in [log, open(&disk).expect("whole").0] {
            let found = log.read(GROUP, LogIndex(index), LogIndex(u64::MAX), 1000).expect("readable");
            let letters: String = found.iter().map(|entry| entry.payload[0] as char).collect();
            assert_eq!(letters, left, "after {index}@{term}");
        }
        let state = &recovered.groups[&GROUP];
        assert_eq!((state.runs.after(), &state.note[..]), (LogId::new(term, index), &b"note"[..]));
    }
}

#[test]
fn the_log_goes_on_after_the_snapshot() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    let writes = [append(1, 0, 1, "ab"), begin(1, 4, 100, "x"), append(1, 100, 4, "cd"), append(1, 101, 5, "e")];
    log.write(&writes).expect("no fault");
    let expected = [entries(100, 4, "c"), entries(101, 5, "e")].concat();
    assert_eq!(log.read(GROUP, LogIndex(100), LogIndex(200), 1000), Ok(expected));
}

#[test]
fn what_comes_before_is_compacted() {
    let (mut log, _) = open(&SimDisk::new()).expect("a new log");
    log.write(&[append(1, 0, 1, "abcde"), begin(1, 1, 3, "")]).expect("no fault");
    let compacted = Err(ReadError::Compacted { after: LogId::new(1, 3) });
    for (after, upto) in [(0, 1), (0, 5), (2, 3), (2, 9)] {
        assert_eq!(log.read(GROUP, LogIndex(after), LogIndex(upto), 100), compacted, "({after}, {upto}]");
    }
    assert_eq!(log.read(GROUP, LogIndex(2), LogIndex(2), 100), Ok(Vec::new()), "nothing was asked for");
    assert_eq!(log.read(GROUP, LogIndex(3), LogIndex(9), 100), Ok(entries(3, 1, "de")));
}

#[test]
fn a_straggler_does_nothing() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    log.write(&[append(1, 0, 1, "abcde"), begin(1, 1, 3, "new"), begin(1, 1, 2, "old")]).expect("no fault");
    log.sync().expect("no fault");
    let (_, recovered) = open(&disk).expect("whole");
    let state = &recovered.groups[&GROUP];
    assert_eq!((state.runs.after(), &state.note[..]), (LogId::new(1, 3), &b"new"[..]));
}

#[test]
#[should_panic(expected = "a log that begins after 3@1 is to begin after 3@2")]
fn two_histories_of_one_group_are_refused() {
    let (mut log, _) = open(&SimDisk::new()).expect("a new log");
    log.write(&[append(1, 0, 1, "abc"), begin(1, 1, 3, ""), begin(1, 2, 3, "")]).expect("no fault");
}

#[test]
fn a_note_has_a_bound() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    let with_note = |bytes| Write::LogStart { group: GROUP, after: LogId::ZERO, note: Bytes::from(vec![7; bytes]) };
    log.write(&[with_note(NOTE_BYTES_MAX)]).expect("as long as it may be");
    let error = log.write(&[append(1, 0, 1, "a"), with_note(NOTE_BYTES_MAX + 1)]).expect_err("too long");
    let (bytes, bytes_max) = (NOTE_BYTES_MAX + 1, NOTE_BYTES_MAX);
    assert_eq!(error, WriteError::NoteTooLong { group: GROUP, bytes, bytes_max });
    log.sync().expect("no fault");
    let (_, recovered) = open(&disk).expect("whole");
    let state = &recovered.groups[&GROUP];
    assert_eq!((state.note.len(), state.runs.last()), (NOTE_BYTES_MAX, LogIndex::ZERO), "nothing of it was written");
}

#[test]
fn what_the_owner_wants_to_see_is_handed_over() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    let mut model = Model::default();
    let turns = [
        (append(1, 0, 1, "kakakak"), "kkkk"),
        (append(1, 4, 2, "bk"), "kkk"), // The cut takes two, one is new.
        (begin(1, 1, 1, ""), "kk"),
        (append(1, 6, 2, "akb"), "kkk"),
        (begin(1, 9, 6, ""), ""), // All go.
        (append(1, 6, 9, "k"), "k"),
    ];
    for (write, kept) in turns {
        log.write(std::slice::from_ref(&write)).expect("no fault");
        log.sync().expect("no fault");
        model.apply(&write);
        let (log, recovered) = open(&disk).expect("whole");
        assert_eq!(recovered.groups[&GROUP].kept.len(), kept.len(), "after {write:?}");
        assert_eq!(Model::of(&log, &recovered), model, "after {write:?}");
    }
}
