//! A node's log thread, on the real log over a simulated disk.
//!
//! Owns the jobs that wait for the disk, what was written and not synced, and what must be there after a crash. Like the
//! thread it stands for, it takes all that waits, writes it, and syncs once; what is refused for want of room waits in the
//! library's own `LogWriter`. Must not know of replicas or of messages.

use crate::agenda::Span;
use crate::rng::Rng;
use std::collections::VecDeque;
use std::rc::Rc;
use vlot::log_writer::{Durable, LogWriter};
use vlot::members::MembersAt;
use vlot::node::BatchId;
use vlot::payload::{self, Payload};
use vlot::replica::{LogRead, Purpose};
use vlot_log::damage::Damage;
use vlot_log::disk::Disk as _;
use vlot_log::disk::sim::SimDisk;
use vlot_log::error::{Failure, OpenError, ReadError, TidyError, WriteError};
use vlot_log::index::GroupState;
use vlot_log::log::{Identity, Log, Options};
use vlot_log::record::{Entry, Write};
use vlot_raft::id::{GroupId, LogIndex, NodeId};
use vlot_raft::invariants::Violation;
use vlot_raft::term_runs::TermRuns;

/// What outlives a node's processes: its disk, and what is known to be on it.
#[derive(Debug, Default)]
pub struct Disk {
    sim: SimDisk,
    /// What was synced.
    durable: GroupState,
    /// What was written after that, in order.
    unsynced: Vec<Rc<Vec<Write>>>,
    /// How many times slower than usual.
    pub slowness: u64,
    /// Entries are refused, as by a log whose last segment is full.
    pub has_no_room: bool,
    /// There are entries on it that cannot be read.
    pub has_rot: bool,
    /// The first and the last of them, once a process has found them.
    rotten: Option<(LogIndex, LogIndex)>,
}

/// The log thread of one process.
#[derive(Debug)]
pub struct LogThread {
    log: Log<SimDisk>,
    writer: LogWriter,
    /// As was last reported.
    is_full: bool,
    waiting: VecDeque<Job>,
    /// What is under way: the last batch, and what was read.
    working: Option<Done>,
    /// How many times it has begun something.
    begun: u64,
}

/// A log thread, what it has recovered, and the first and the last of the entries that it cannot read.
pub type Opened = (LogThread, GroupState, Option<(LogIndex, LogIndex)>);

/// Something to do, in order.
#[derive(Debug)]
pub enum Job {
    /// Make these durable.
    Write(BatchId, Rc<Vec<Write>>),
    /// Write what waits for room, if there is some.
    TryAgain,
    /// Read these.
    Read(GroupId, LogRead),
}

/// What has been done.
#[derive(Debug, Default)]
pub struct Done {
    /// Something was written.
    pub wrote: bool,
    /// How much is durable, if that is more than before.
    pub durable: Option<Durable>,
    /// Whether there is room for entries, if that is news.
    pub has_room: Option<bool>,
    /// These were read.
    pub fetched: Vec<(GroupId, Purpose, Vec<Entry>)>,
}

/// Why a process cannot go on.
#[derive(Debug)]
pub enum Broken {
    /// As a fault had it: the process stops, and may be started again.
    Storage,
    /// The disk did what it should, and yet the log is not what it should be.
    Wrong(Violation),
}

const PROPERTY: &str = "What Was Synced Stays";

/// How many bits are tried, to find one in a payload.
const ROT_ATTEMPTS: u64 = 20;

impl Disk {
    /// The simulated disk itself, for faults.
    #[must_use]
    pub fn sim(&self) -> &SimDisk {
        &self.sim
    }

    /// Flips a bit in the payload of an entry that was synced, if one is found. False if not.
    pub fn rot(&mut self, node: NodeId, segment_bytes: u32, rng: &mut Rng) -> bool {
        let names = self.sim.clone().list().unwrap_or_default();
        let logs: Vec<String> = names.into_iter().filter(|name| name.ends_with(".log")).collect();
        for _ in 0..ROT_ATTEMPTS {
            let Some(name) = logs.get(rng.below(logs.len().max(1) as u64) as usize) else { return false };
            let written = self.sim.bytes(name).and_then(|bytes| bytes.iter().rposition(|&byte| byte != 0));
            let (at, bit) = (rng.below(written.unwrap_or(0) as u64 + 1) as usize, rng.below(8));
            // Of a file that is not synced, nothing may be there without power.
            let flip = |disk: &SimDisk| {
                disk.tamper(name, |bytes| {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << bit;
                    }
                })
            };
            // Only what is synced rots here: what is not is lost by other faults. And only what hits a payload: what a vote
            // or a record's own bytes are is not made up for.
            let copy = self.sim.fork();
            copy.crash(0);
            flip(&copy);
            let opened = Log::open(copy, Identity { cluster: 1, node }, options(segment_bytes));
            if opened.is_ok_and(|(_, recovered)| !recovered.damaged.is_empty() && recovered.torn.is_none()) {
                flip(&self.sim);
                self.has_rot = true;
                return true;
            }
        }
        false
    }

    /// There is room for new segments.
    pub fn make_room(&mut self) {
        self.sim.limit_capacity(None);
        self.has_no_room = false;
    }

    /// Takes back all faults that are to come.
    pub fn heal(&mut self) {
        self.slowness = 1;
        self.has_no_room = false;
        forget_faults(&self.sim);
    }

    /// What is certainly on it.
    #[must_use]
    pub fn durable(&self) -> &GroupState {
        &self.durable
    }

    /// Who belongs to the group, as what is certainly on it says. None if it says nothing.
    #[must_use]
    pub fn members(&self) -> Option<MembersAt> {
        if let Some(Entry { id, payload }) = self.durable.kept.last()
            && let Ok(Payload::Configuration(entry)) = payload::decode(payload)
        {
            return Some(MembersAt { at: id.index, entry });
        }
        MembersAt::decode(self.durable.note.clone()).ok().filter(|_| !self.durable.note.is_empty())
    }

    /// Starts a process's log thread on it. Returns what it recovered, too.
    ///
    /// # Errors
    /// If that fails, or is not what was written.
    pub fn open(&mut self, node: NodeId, group: GroupId, segment_bytes: u32) -> Result<Opened, Broken> {
        let identity = Identity { cluster: 1, node };
        let (log, mut recovered) =
            Log::open(self.sim.clone(), identity, options(segment_bytes)).map_err(|error| match error {
                OpenError::Io(_) | OpenError::NoSpace(_) => Broken::Storage,
                error => wrong(format!("n{node} cannot open its log: {error:?}")),
            })?;
        let state = recovered.groups.remove(&group).unwrap_or_default();
        let damaged = damaged_in(&recovered.damaged);
        if !self.has_rot && damaged.is_some() {
            return Err(wrong(format!("n{node}: {damaged:?} are damaged, and nobody has done it")));
        }
        (self.has_rot, self.rotten) = (damaged.is_some(), damaged);
        self.recovered(&state, damaged).map_err(|shown_by| wrong(format!("n{node}: {shown_by}")))?;
        let (writer, waiting) = (LogWriter::default(), VecDeque::new());
        Ok((LogThread { log, writer, is_full: false, waiting, working: None, begun: 0 }, state, damaged))
    }

    /// What is recovered must be what was synced, followed by a first part of what was written after it. It is durable
    /// from then on.
    fn recovered(&mut self, found: &GroupState, damaged: Option<(LogIndex, LogIndex)>) -> Result<(), String> {
        // A configuration that is damaged is not told.
        let is_told =
            |entry: &Entry| damaged.is_none_or(|(first, last)| entry.id.index < first || entry.id.index > last);
        let told = |state: &GroupState| {
            let kept = state.kept.iter().filter(|entry| is_told(entry)).cloned().collect();
            GroupState { kept, ..state.clone() }
        };
        let (whole, found) = (found, &told(found));
        let synced = self.durable.clone();
        let unsynced = std::mem::take(&mut self.unsynced);
        let mut unsynced = unsynced.iter().flat_map(|writes| writes.iter());
        while told(&self.durable) != *found {
            let Some(write) = unsynced.next() else {
                return Err(format!("recovered {whole:?}, synced was {synced:?}"));
            };
            apply(&mut self.durable, write);
        }
        Ok(())
    }
}

impl LogThread {
    /// Gives the thread something to do.
    pub fn ask(&mut self, job: Job) {
        self.waiting.push_back(job);
    }

    /// Begins all that waits, if nothing is under way. Returns how long it takes.
    ///
    /// # Errors
    /// If storage fails.
    pub fn begin(&mut self, disk: &mut Disk, sync: Span, rng: &mut Rng) -> Result<Option<Span>, Broken> {
        if self.working.is_some() || self.waiting.is_empty() {
            return Ok(None);
        }
        let mut done = Done::default();
        let mut reads = Vec::new();
        while let Some(job) = self.waiting.pop_front() {
            match job {
                Job::Write(batch, writes) => {
                    let writes = Rc::unwrap_or_clone(writes);
                    let put = &mut |writes: &[Write]| put(&mut self.log, disk, writes);
                    self.writer.write(batch, writes, put).map_err(broken)?;
                    done.wrote = true;
                }
                Job::TryAgain => {
                    let put = &mut |writes: &[Write]| put(&mut self.log, disk, writes);
                    self.writer.try_again(put).map_err(broken)?;
                    done.wrote = true;
                }
                Job::Read(group, read) => reads.push((group, read)),
            }
        }
        for (group, LogRead { purpose, after, upto, bytes_max }) in reads {
            let entries = match self.log.read(group, after, upto, bytes_max) {
                Ok(entries) => entries,
                // They were given up after they were asked for; whoever needs them gets a snapshot.
                Err(ReadError::Compacted { .. }) => Vec::new(),
                Err(ReadError::Failed(_) | ReadError::Io(_)) => return Err(Broken::Storage),
                Err(ReadError::Corrupt { .. }) if disk.has_rot => return Err(Broken::Storage),
                Err(error) => return Err(wrong(format!("{error:?}"))),
            };
            done.fetched.push((group, purpose, entries));
        }
        let took = if done.wrote { rng.skewed(sync) } else { Span(sync.0 / 10) };
        self.working = Some(done);
        self.begun += 1;
        Ok(Some((took + Span(1)) * disk.slowness.max(1)))
    }

    /// The number of what is under way, if anything is.
    #[must_use]
    pub fn under_way(&self) -> Option<u64> {
        self.working.as_ref().map(|_| self.begun)
    }

    /// Whether something waits for room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// Ends what is under way: it is durable.
    ///
    /// # Errors
    /// If storage fails.
    pub fn finish(&mut self, disk: &mut Disk) -> Result<Done, Broken> {
        let mut done = self.working.take().unwrap_or_default();
        if done.wrote {
            self.log.sync().map_err(|_| Broken::Storage)?;
            for writes in disk.unsynced.drain(..) {
                writes.iter().for_each(|write| apply(&mut disk.durable, write));
            }
            let (begin, end) = (disk.durable.runs.after().index, disk.durable.runs.last());
            if disk.rotten.is_some_and(|(first, last)| begin >= last || end < first) {
                (disk.has_rot, disk.rotten) = (false, None);
            }
            done.durable = self.writer.synced();
            let is_full = self.writer.waits();
            let is_news = std::mem::replace(&mut self.is_full, is_full) != is_full;
            done.has_room = is_news.then_some(!is_full);
            if let Err(TidyError::Write(WriteError::Failed(_))) = self.log.tidy() {
                return Err(Broken::Storage);
            }
            // A disk that is full is noticed by the next write, too.
            if let Err(WriteError::Failed(_)) = self.log.prepare() {
                return Err(Broken::Storage);
            }
        }
        Ok(done)
    }
}

/// Writes, and notes what must be there once it is synced. A write that fails may have happened in part; one that there is
/// no room for has not.
fn put(log: &mut Log<SimDisk>, disk: &mut Disk, writes: &[Write]) -> Result<(), WriteError> {
    let has_entries = |write: &Write| matches!(write, Write::Append { entries, .. } if !entries.is_empty());
    if disk.has_no_room && writes.iter().any(has_entries) {
        let (kind, message) = (std::io::ErrorKind::StorageFull, "a fault has it".into());
        return Err(WriteError::NoSpace(Failure { act: "create", file: "a segment".into(), kind, message }));
    }
    disk.unsynced.push(Rc::new(writes.to_vec()));
    let done = log.write(writes);
    if let Err(WriteError::NoSpace(_)) = done {
        disk.unsynced.pop();
    }
    done
}

fn broken(error: WriteError) -> Broken {
    match error {
        WriteError::Failed(_) | WriteError::NoSpace(_) => Broken::Storage,
        error @ (WriteError::TooLarge { .. } | WriteError::NoteTooLong { .. }) => wrong(format!("{error:?}")),
    }
}

/// Takes back all faults that are to come to a disk.
pub fn forget_faults(sim: &SimDisk) {
    sim.limit_capacity(None);
    // Later than any write or sync that will ever be.
    sim.fail_write(u64::MAX, 0);
    sim.fail_sync(u64::MAX, 0);
}

/// Small segments, and little room for what one group keeps alone, so that both are seen often.
fn options(segment_bytes: u32) -> Options {
    let slack_bytes = u64::from(segment_bytes);
    let keep = payload::sets_configuration;
    Options { segment_bytes, slack_bytes, keep, accept_damaged_entries: true, ..Options::default() }
}

/// The first and the last entry that is damaged.
fn damaged_in(all: &[Damage]) -> Option<(LogIndex, LogIndex)> {
    let entries = all.iter().filter_map(|damage| match damage {
        Damage::Entries { first, last, .. } => Some((*first, *last)),
        Damage::Rest { .. } => None,
    });
    entries.reduce(|(first, last), (other_first, other_last)| (first.min(other_first), last.max(other_last)))
}

/// Does to the obvious log what a write does to the real one.
fn apply(state: &mut GroupState, write: &Write) {
    match write {
        Write::Vote { term, vote, .. } => (state.term, state.vote) = (*term, *vote),
        Write::Append { after, entries, .. } => {
            state.runs.cut_after(*after);
            state.kept.retain(|entry| entry.id.index <= *after);
            entries.iter().for_each(|entry| state.runs.push(entry.id.term, 1));
            state.kept.extend(entries.iter().filter(|entry| payload::sets_configuration(&entry.payload)).cloned());
        }
        Write::LogStart { after, note, .. } => {
            if state.runs.contains(*after) {
                state.runs.begin_after(after.index);
            } else {
                state.runs = TermRuns::empty(*after);
            }
            state.kept.retain(|entry| entry.id.index > after.index && state.runs.contains(entry.id));
            state.note = note.clone();
        }
        // The entries are as they were.
        Write::Rewrite { .. } => {}
        Write::Remove { .. } => *state = GroupState::default(),
    }
}

fn wrong(shown_by: String) -> Broken {
    Broken::Wrong(Violation { property: PROPERTY, shown_by })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use vlot_raft::id::{LogId, LogIndex, Term};

    fn vote(term: u64) -> Write {
        Write::Vote { group: GroupId(1), term: Term(term), vote: Some(NodeId(1)) }
    }

    fn append(index: u64) -> Write {
        let entries = vec![Entry { id: LogId::new(1, index), payload: Bytes::from_static(b"x") }];
        Write::Append { group: GroupId(1), after: LogIndex(index - 1), entries }
    }

    fn state(writes: &[Write]) -> GroupState {
        let mut state = GroupState::default();
        writes.iter().for_each(|write| apply(&mut state, write));
        state
    }

    #[test]
    fn what_was_synced_must_be_there_and_the_rest_in_order() {
        let writes = [vote(1), append(1), append(2), vote(2)];
        let disk =
            || Disk { durable: state(&writes[..2]), unsynced: vec![Rc::new(writes[2..].to_vec())], ..Disk::default() };
        for kept in 2..=4 {
            assert_eq!(disk().recovered(&state(&writes[..kept]), None), Ok(()), "{kept} writes kept");
        }
        assert!(disk().recovered(&state(&writes[..1]), None).is_err(), "what was synced is gone");
        assert!(disk().recovered(&state(&[vote(1), append(1), vote(2)]), None).is_err(), "a write in between is gone");
    }

    #[test]
    fn a_power_loss_between_write_and_sync() {
        for seed in 0..20 {
            let mut disk = Disk::default();
            let rng = &mut Rng::new(seed, 1);
            let (mut thread, ..) = disk.open(NodeId(1), GroupId(1), 8192).unwrap();
            thread.ask(Job::Write(BatchId(1), Rc::new(vec![vote(1), append(1)])));
            assert!(thread.begin(&mut disk, Span::millis(1), rng).unwrap().is_some());
            assert_eq!(thread.finish(&mut disk).unwrap().durable, Some(Durable::All(BatchId(1))));
            thread.ask(Job::Write(BatchId(2), Rc::new(vec![append(2)])));
            thread.ask(Job::Write(BatchId(3), Rc::new(vec![append(3)])));
            assert!(thread.begin(&mut disk, Span::millis(1), rng).unwrap().is_some());
            disk.sim().crash(seed);
            let (_, recovered, _) = disk.open(NodeId(1), GroupId(1), 8192).unwrap();
            assert!((1..=3).contains(&recovered.runs.last().0));
        }
    }
}
