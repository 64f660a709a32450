use super::*;
use vlot_log::disk::sim::{Rng, SimDisk};
use vlot_log::log::{Identity, Log, Options};
use vlot_log::recover::Recovered;

const GROUPS: [GroupId; 2] = [GroupId(1), GroupId(2)];

fn open(disk: &SimDisk) -> (Log<SimDisk>, Recovered) {
    let options = Options { segment_bytes: 8192, slack_bytes: 8192, ..Options::default() };
    Log::open(disk.clone(), Identity { cluster: 1, node: NodeId(1) }, options).expect("no fault")
}

fn entries(after: u64, term: u64, count: u64, bytes: usize) -> Vec<Entry> {
    let payload = |index: u64| Bytes::from(vec![(index + term) as u8; bytes]);
    (after + 1..=after + count).map(|index| Entry { id: LogId::new(term, index), payload: payload(index) }).collect()
}

/// All that a log holds of its groups.
fn held(log: &Log<SimDisk>, recovered: &Recovered) -> Vec<(Term, Option<NodeId>, LogId, Vec<Entry>)> {
    let of = |group: &GroupId| {
        let state = recovered.groups.get(group).cloned().unwrap_or_default();
        let (after, last) = (state.runs.after(), state.runs.last());
        let entries = if last > after.index { log.read(*group, after.index, last, usize::MAX) } else { Ok(Vec::new()) };
        (state.term, state.vote, after, entries.expect("whole"))
    };
    GROUPS.iter().map(of).collect()
}

/// Random writes of the kind that consensus asks for, on a disk that is full most of the time. Once there is room the log
/// is what it is where there always was; until then a crash leaves a log whose votes and begins are those reported, and
/// whose entries are from its past.
#[test]
fn what_waits_comes_to_the_same() {
    let mut overtaken = 0;
    for seed in 0..200 {
        let rng = &mut Rng::new(seed);
        let (full, roomy) = (SimDisk::new(), SimDisk::new());
        let ((mut log, _), (mut twin, _)) = (open(&full), open(&roomy));
        let mut writer = LogWriter::default();
        // Of each group: term, beginning, and the terms of the entries behind it.
        let mut groups = [(1, 0, Vec::new()), (1, 0, Vec::new())];
        for batch in 1..60 {
            if rng.below(4) == 0 {
                full.limit_capacity(if rng.below(4) > 0 { Some(0) } else { None });
            }
            let which = rng.below(2) as usize;
            let writes = some_writes(GROUPS[which], &mut groups[which], rng);
            twin.write(&writes).expect("there is room");
            twin.sync().expect("no fault");
            let told: Vec<Term> = groups.iter().map(|(term, ..)| Term(*term)).collect();
            writer.write(BatchId(batch), writes, &mut |writes| log.write(writes)).expect("no fault");
            if rng.below(3) == 0 {
                writer.try_again(&mut |writes| log.write(writes)).expect("no fault");
            }
            log.sync().expect("no fault");
            match writer.synced() {
                Some(Durable::All(at)) => assert!(at == BatchId(batch) && !writer.waits()),
                Some(Durable::ButForEntries(at)) => {
                    assert!(at == BatchId(batch) && writer.waits());
                    overtaken += 1;
                    let (_, after_crash) = open(&full.fork());
                    for (group, term) in GROUPS.iter().zip(told) {
                        let found = after_crash.groups.get(group).map(|state| state.term).unwrap_or_default();
                        assert!(found == term || term == Term(1), "seed {seed}: {found} for {term}");
                    }
                }
                None => assert!(writer.waits()),
            }
            while log.tidy().is_ok_and(|tidied| tidied.more) {}
            while twin.tidy().expect("no fault").more {}
        }
        full.limit_capacity(None);
        writer.try_again(&mut |writes| log.write(writes)).expect("no fault");
        log.sync().expect("no fault");
        assert!(!writer.waits());
        drop((log, twin));
        let ((log, recovered), (twin, expected)) = (open(&full), open(&roomy));
        assert_eq!(held(&log, &recovered), held(&twin, &expected), "seed {seed}");
    }
    assert!(overtaken > 100, "{overtaken} times a vote or a begin has overtaken entries");
}

/// One turn's writes of a group: a later term, entries at the end or in the place of others, a log that begins later,
/// with what it has or beyond it.
fn some_writes(group: GroupId, state: &mut (u64, u64, Vec<u64>), rng: &mut Rng) -> Vec<Write> {
    let (term, begin, terms) = state;
    let mut writes = Vec::new();
    if rng.below(12) == 0 {
        (*term, *begin) = (0, 0);
        terms.clear();
        writes.push(Write::Remove { group });
    }
    if rng.below(3) == 0 || *term == 0 {
        *term += 1;
        let vote = (rng.below(2) == 0).then_some(NodeId(1 + rng.below(3)));
        writes.push(Write::Vote { group, term: Term(*term), vote });
    }
    if rng.below(3) > 0 {
        let kept = if rng.below(3) == 0 { rng.below(terms.len() as u64 + 1) } else { terms.len() as u64 };
        terms.truncate(kept as usize);
        let count = 1 + rng.below(4);
        terms.extend((0..count).map(|_| *term));
        let entries = entries(*begin + kept, *term, count, 100 + rng.below(900) as usize);
        writes.push(Write::Append { group, after: LogIndex(*begin + kept), entries });
    }
    let within = rng.below(terms.len() as u64 + 1);
    match rng.below(5) {
        0 if within > 0 => {
            let last = terms[within as usize - 1];
            *begin += within;
            terms.drain(..within as usize);
            writes.push(Write::LogStart { group, after: LogId::new(last, *begin), note: Bytes::from_static(b"cut") });
        }
        1 if rng.below(4) == 0 => {
            *begin += terms.len() as u64 + 1 + rng.below(10);
            terms.clear();
            writes.push(Write::LogStart { group, after: LogId::new(*term, *begin), note: Bytes::from_static(b"snap") });
        }
        _ => {}
    }
    writes
}

/// A log that takes what `takes` says, and what it was given.
struct Paper(Vec<Write>);

impl Paper {
    fn put(&mut self, writes: &[Write], takes: impl Fn(&Write) -> bool) -> Result<(), WriteError> {
        if !writes.iter().all(takes) {
            let kind = std::io::ErrorKind::StorageFull;
            let failure =
                vlot_log::error::Failure { act: "write", file: "log".into(), kind, message: "no space".to_owned() };
            return Err(WriteError::NoSpace(failure));
        }
        self.0.extend_from_slice(writes);
        Ok(())
    }
}

fn has_entries(write: &Write) -> bool {
    matches!(write, Write::Append { entries, .. } if !entries.is_empty())
}

fn append(after: u64, count: u64, bytes: usize) -> Write {
    Write::Append { group: GROUPS[0], after: LogIndex(after), entries: entries(after, 1, count, bytes) }
}

fn vote(term: u64) -> Write {
    Write::Vote { group: GROUPS[0], term: Term(term), vote: None }
}

fn log_start(index: u64) -> Write {
    Write::LogStart { group: GROUPS[0], after: LogId::new(1, index), note: Bytes::new() }
}

#[test]
fn what_has_waited_is_written_in_parts_as_far_as_there_is_room() {
    let (mut writer, mut paper) = (LogWriter::default(), Paper(Vec::new()));
    writer.write(BatchId(1), vec![append(0, 5, 3 << 20)], &mut |writes| paper.put(writes, |_| false)).unwrap();
    assert!(writer.waits() && paper.0.is_empty());
    // The first part goes, and then there is no room again.
    let first = |write: &Write| matches!(write, Write::Append { after: LogIndex(0), .. });
    writer.try_again(&mut |writes| paper.put(writes, first)).unwrap();
    assert!(writer.waits());
    assert_eq!(writer.synced(), Some(Durable::ButForEntries(BatchId(1))));
    assert_eq!(writer.synced(), None, "it is told once");
    writer.try_again(&mut |writes| paper.put(writes, |_| true)).unwrap();
    assert!(!writer.waits());
    assert_eq!(writer.synced(), Some(Durable::All(BatchId(1))));
    let written = |write: &Write| match write {
        Write::Append { after, entries, .. } => (after.0, entries.len()),
        other => panic!("{other:?}"),
    };
    assert_eq!(paper.0.iter().map(written).collect::<Vec<_>>(), [(0, 3), (3, 2)], "about eight mebibytes at once");
}

#[test]
fn nothing_is_durable_while_a_vote_or_a_beginning_waits() {
    for waits in [vote(2), log_start(9)] {
        let (mut writer, mut paper) = (LogWriter::default(), Paper(Vec::new()));
        let batch = vec![append(9, 1, 10), waits];
        writer.write(BatchId(1), batch, &mut |writes| paper.put(writes, |_| false)).unwrap();
        assert_eq!(writer.synced(), None);
        // There may be room for an entry alone: it comes after what goes before it.
        writer.try_again(&mut |writes| paper.put(writes, has_entries)).unwrap();
        assert!(paper.0.is_empty() && writer.synced().is_none());
        writer.try_again(&mut |writes| paper.put(writes, |_| true)).unwrap();
        assert_eq!(writer.synced(), Some(Durable::All(BatchId(1))));
        assert!(!has_entries(&paper.0[0]) && has_entries(&paper.0[1]));
    }
}

#[test]
fn a_log_that_is_to_begin_later_does_not_begin_earlier() {
    for (first, second, begins) in [(5, 9, 9), (9, 5, 9), (9, 9, 9)] {
        let (mut writer, mut paper) = (LogWriter::default(), Paper(Vec::new()));
        let batch = vec![log_start(first), log_start(second)];
        writer.write(BatchId(1), batch, &mut |writes| paper.put(writes, |_| false)).unwrap();
        writer.try_again(&mut |writes| paper.put(writes, |_| true)).unwrap();
        assert_eq!(paper.0, [log_start(begins)], "{first} {second}");
    }
}
