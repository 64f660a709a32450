//! The files of snapshots: what the node asks of them, off the driver's thread.
//!
//! Owns the order: what is asked of one group's files is done in turn, and groups do not wait for each other.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use vlot_node::input::{Input, TransferDone};
use vlot_node::snapshot::dir::SnapshotDir;
use vlot_node::transfer::TransferAct;
use vlot_raft::id::{GroupId, LogId};

use crate::events::Events;
use crate::figures::Measures;
use crate::storage::AnyDisk;
use crate::tasks::Spawner;

/// The folder of snapshots, and where blocking work is done.
#[derive(Clone)]
pub(crate) struct Snapshots {
    pub(crate) dir: Arc<SnapshotDir<AnyDisk>>,
    pub(crate) spawner: Spawner,
    events: Arc<Events>,
    pub(crate) measures: Arc<Measures>,
    /// What is yet to be done, for each group whose files a thread is working on.
    jobs: Arc<Mutex<BTreeMap<GroupId, VecDeque<Job>>>>,
    /// Gone with the last clone, after `dir`.
    _released: Arc<oneshot::Sender<()>>,
}

enum Job {
    Remove(LogId),
    Transfer(TransferAct),
}

impl Snapshots {
    /// Also gives what ends when nothing uses the folder any more.
    pub(crate) fn new(
        dir: SnapshotDir<AnyDisk>,
        spawner: Spawner,
        events: Arc<Events>,
        measures: Arc<Measures>,
    ) -> (Self, oneshot::Receiver<()>) {
        let (released, is_released) = oneshot::channel();
        let (dir, jobs) = (Arc::new(dir), Arc::default());
        (Self { dir, spawner, events, measures, jobs, _released: Arc::new(released) }, is_released)
    }

    /// Removes a group's snapshots of entries before this one.
    pub(crate) fn remove(&self, group: GroupId, before: LogId) {
        self.ask(group, Job::Remove(before));
    }

    /// Does a step of a snapshot's way between nodes.
    pub(crate) fn transfer(&self, act: TransferAct) {
        self.ask(act.group(), Job::Transfer(act));
    }

    fn ask(&self, group: GroupId, job: Job) {
        let mut jobs = self.jobs();
        let is_idle = !jobs.contains_key(&group);
        jobs.entry(group).or_default().push_back(job);
        drop(jobs);
        if is_idle {
            let this = self.clone();
            self.spawner.spawn_blocking(move || while this.work_off(group) {});
        }
    }

    /// Does the next job of a group. False if there is none.
    fn work_off(&self, group: GroupId) -> bool {
        let mut jobs = self.jobs();
        let Some(job) = jobs.get_mut(&group).and_then(VecDeque::pop_front) else {
            jobs.remove(&group);
            return false;
        };
        drop(jobs);
        match job {
            Job::Remove(before) => {
                // What cannot be removed takes room, and does no other harm.
                if let Err(error) = self.dir.remove_before(group, before) {
                    tracing::warn!(%group, %error, "cannot remove old snapshots");
                }
            }
            Job::Transfer(act) => {
                let done = self.carry_out(act);
                self.events.report(Input::TransferDone(done));
            }
        }
        true
    }

    fn carry_out(&self, act: TransferAct) -> TransferDone {
        let dir = &self.dir;
        match act {
            TransferAct::FindSnapshot { group, to, attempt, reach, preferred } => {
                let found = dir.find(group, reach, preferred).unwrap_or_else(|error| {
                    tracing::warn!(%group, %error, "cannot look for snapshots");
                    None
                });
                TransferDone::Found { group, to, attempt, found }
            }
            TransferAct::ReadChunk { group, to, attempt, info, offset, bytes } => {
                self.measures.sent.begun(group, to);
                let read = dir.read_chunk(group, &info, offset, bytes);
                TransferDone::ChunkRead { group, to, attempt, offset, read }
            }
            TransferAct::OpenPart { group, from, attempt, info } => {
                self.measures.received.begun(group, from);
                TransferDone::PartOpened { group, attempt, opened: dir.part(group, &info) }
            }
            TransferAct::WriteChunk { group, attempt, info, offset, bytes } => {
                let written = dir.write_chunk(group, &info, offset, &bytes);
                TransferDone::ChunkWritten { group, attempt, written }
            }
            TransferAct::FinishPart { group, from, attempt, info } => {
                let finished = self.measures.finishes.time(|| dir.finish_part(group, &info));
                // That it is none is told by the node, with all other failures.
                if finished.is_ok() {
                    self.measures.received.succeeded(group, from);
                }
                TransferDone::PartFinished { group, attempt, finished }
            }
        }
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeMap<GroupId, VecDeque<Job>>> {
        // Only moves of whole values happen under the lock.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
