//! A node's disk for its log: the real log over a simulated disk, and what must be there after a crash.
//!
//! Owns what was synced and what was written after that, of every group. Must not know of replicas or of messages.

pub mod log_thread;

use crate::place::{Slot, group_in, slot_of};
use crate::rng::Rng;
use log_thread::LogThread;
use std::rc::Rc;
use vlot_log::damage::Damage;
use vlot_log::disk::Disk as _;
use vlot_log::disk::sim::SimDisk;
use vlot_log::error::{Failure, OpenError, WriteError};
use vlot_log::index::GroupState;
use vlot_log::log::{Identity, Log, Options};
use vlot_log::record::{Entry, Write};
use vlot_node::members::MembersAt;
use vlot_node::payload::{self, Payload};
use vlot_raft::id::{GroupId, LogIndex, NodeId};
use vlot_raft::invariants::Violation;
use vlot_raft::term_runs::TermRuns;

/// The first and the last of entries that cannot be read.
pub type Damaged = Option<(LogIndex, LogIndex)>;

/// What outlives a node's processes: its disk, and what is known to be on it.
#[derive(Debug)]
pub struct Disk {
    sim: SimDisk,
    /// What was synced of each group.
    durable: Vec<GroupState>,
    /// What was written after that, in order.
    unsynced: Vec<Rc<Vec<Write>>>,
    /// How many times slower than usual.
    pub slowness: u64,
    /// Entries are refused, as by a log whose last segment is full.
    pub has_no_room: bool,
    /// There are entries on it that cannot be read.
    pub has_rot: bool,
    /// Which of them, of each group, once a process has found them.
    rotten: Vec<Damaged>,
}

/// A log thread, and what it has recovered of each group: the log, and what of it cannot be read.
pub type Opened = (LogThread, Vec<(GroupState, Damaged)>);

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
    /// An empty disk, for so many groups.
    #[must_use]
    pub fn new(groups: usize) -> Self {
        Self {
            sim: SimDisk::new(),
            durable: vec![GroupState::default(); groups],
            unsynced: Vec::new(),
            slowness: 1,
            has_no_room: false,
            has_rot: false,
            rotten: vec![None; groups],
        }
    }

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

    /// What is certainly on it of a group.
    #[must_use]
    pub fn durable(&self, slot: Slot) -> &GroupState {
        &self.durable[slot]
    }

    /// Whether something of the group was written and is not synced.
    #[must_use]
    pub fn has_unsynced(&self, slot: Slot) -> bool {
        self.unsynced.iter().flat_map(|writes| writes.iter()).any(|write| write.group() == group_in(slot))
    }

    /// The members of a group, as what is certainly on it says. None if it says nothing.
    #[must_use]
    pub fn members(&self, slot: Slot) -> Option<MembersAt> {
        let durable = &self.durable[slot];
        if let Some(Entry { id, payload }) = durable.kept.last()
            && let Ok(Payload::Configuration(entry)) = payload::decode(payload.clone())
        {
            return Some(MembersAt { at: id.index, entry: *entry });
        }
        MembersAt::decode(durable.note.clone()).ok().filter(|_| !durable.note.is_empty())
    }

    /// Starts a process's log thread on it. Returns what it recovered, too.
    ///
    /// # Errors
    /// If that fails, or is not what was written.
    pub fn open(&mut self, node: NodeId, segment_bytes: u32) -> Result<Opened, Broken> {
        let identity = Identity { cluster: 1, node };
        let (log, mut recovered) =
            Log::open(self.sim.clone(), identity, options(segment_bytes)).map_err(|error| match error {
                OpenError::Io(_) | OpenError::NoSpace(_) => Broken::Storage,
                error => wrong(format!("n{node} cannot open its log: {error:?}")),
            })?;
        let slots = 0..self.durable.len();
        let damaged: Vec<Damaged> = slots.clone().map(|slot| damaged_in(&recovered.damaged, group_in(slot))).collect();
        let is_damaged = damaged.iter().any(Option::is_some);
        if !self.has_rot && is_damaged {
            return Err(wrong(format!("n{node}: {damaged:?} are damaged, and nobody has done it")));
        }
        let found: Vec<(GroupState, Damaged)> = slots
            .map(|slot| recovered.groups.remove(&group_in(slot)).unwrap_or_default())
            .zip(damaged.clone())
            .collect();
        (self.has_rot, self.rotten) = (is_damaged, damaged);
        self.recovered(node, &found)?;
        Ok((LogThread::new(log), found))
    }

    /// What is recovered must be what was synced, followed by a first part of what was written after it. It is durable
    /// from then on.
    fn recovered(&mut self, node: NodeId, found: &[(GroupState, Damaged)]) -> Result<(), Broken> {
        let synced = self.durable.clone();
        let unsynced = std::mem::take(&mut self.unsynced);
        let mut unsynced = unsynced.iter().flat_map(|writes| writes.iter());
        let is_found = |durable: &[GroupState]| {
            durable
                .iter()
                .zip(found)
                .all(|(durable, (found, damaged))| told(durable, *damaged) == told(found, *damaged))
        };
        while !is_found(&self.durable) {
            let Some(write) = unsynced.next() else {
                return Err(wrong(format!("n{node}: recovered {found:?}, synced was {synced:?}")));
            };
            self.apply(write);
        }
        Ok(())
    }

    /// All that was written is durable.
    fn synced(&mut self) {
        for writes in std::mem::take(&mut self.unsynced) {
            writes.iter().for_each(|write| self.apply(write));
        }
        for (durable, rotten) in self.durable.iter().zip(&mut self.rotten) {
            let (begin, end) = (durable.runs.after().index, durable.runs.last());
            rotten.take_if(|(first, last)| begin >= *last || end < *first);
        }
        self.has_rot &= self.rotten.iter().any(Option::is_some);
    }

    /// Does to the obvious log what a write does to the real one.
    fn apply(&mut self, write: &Write) {
        apply(&mut self.durable[slot_of(write.group())], write);
    }
}

/// What is told of a log: a configuration that is damaged is not.
#[must_use]
pub fn told(state: &GroupState, damaged: Damaged) -> GroupState {
    let is_told = |entry: &Entry| damaged.is_none_or(|(first, last)| entry.id.index < first || entry.id.index > last);
    GroupState { kept: state.kept.iter().filter(|entry| is_told(entry)).cloned().collect(), ..state.clone() }
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

/// The first and the last entry of a group that is damaged.
fn damaged_in(all: &[Damage], of: GroupId) -> Damaged {
    let entries = all.iter().filter_map(|damage| match damage {
        Damage::Entries { group, first, last, .. } if *group == of => Some((*first, *last)),
        Damage::Entries { .. } | Damage::Rest { .. } => None,
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
    use super::log_thread::Job;
    use super::*;
    use crate::agenda::Span;
    use bytes::Bytes;
    use vlot_node::act::BatchId;
    use vlot_node::log_writer::Durable;
    use vlot_raft::id::{LogId, Term};

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
        let recovered = |found: &[Write]| {
            let unsynced = vec![Rc::new(writes[2..].to_vec())];
            let mut disk = Disk { durable: vec![state(&writes[..2])], unsynced, ..Disk::new(1) };
            disk.recovered(NodeId(1), &[(state(found), None)])
        };
        for kept in 2..=4 {
            assert!(recovered(&writes[..kept]).is_ok(), "{kept} writes kept");
        }
        assert!(recovered(&writes[..1]).is_err(), "what was synced is gone");
        assert!(recovered(&[vote(1), append(1), vote(2)]).is_err(), "a write in between is gone");
    }

    #[test]
    fn a_power_loss_between_write_and_sync() {
        for seed in 0..20 {
            let mut disk = Disk::new(1);
            let rng = &mut Rng::new(seed, 1);
            let (mut thread, ..) = disk.open(NodeId(1), 8192).unwrap();
            thread.ask(Job::Write(BatchId(1), Rc::new(vec![vote(1), append(1)])));
            assert!(thread.begin(&mut disk, Span::millis(1), rng).unwrap().is_some());
            assert_eq!(thread.finish(&mut disk).unwrap().durable, Some(Durable::All(BatchId(1))));
            thread.ask(Job::Write(BatchId(2), Rc::new(vec![append(2)])));
            thread.ask(Job::Write(BatchId(3), Rc::new(vec![append(3)])));
            assert!(thread.begin(&mut disk, Span::millis(1), rng).unwrap().is_some());
            assert!(disk.has_unsynced(0));
            disk.sim().crash(seed);
            let (_, recovered) = disk.open(NodeId(1), 8192).unwrap();
            assert!((1..=3).contains(&recovered[0].0.runs.last().0));
        }
    }
}
