//! A node's log thread.
//!
//! Owns the jobs that wait for the disk. Like the thread it stands for, it takes all that waits, writes it, and syncs once;
//! what is refused for want of room waits in the library's own `LogWriter`.

use super::{Broken, Disk, broken, put, wrong};
use crate::agenda::Span;
use crate::rng::Rng;
use std::collections::VecDeque;
use std::rc::Rc;
use vlot_log::disk::sim::SimDisk;
use vlot_log::error::{ReadError, TidyError, WriteError};
use vlot_log::log::Log;
use vlot_log::record::{Entry, Write};
use vlot_node::act::BatchId;
use vlot_node::log_writer::{Durable, LogWriter};
use vlot_node::replica::{LogRead, Purpose};
use vlot_raft::id::GroupId;

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

impl LogThread {
    pub(super) fn new(log: Log<SimDisk>) -> Self {
        Self { log, writer: LogWriter::default(), is_full: false, waiting: VecDeque::new(), working: None, begun: 0 }
    }

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
                // They were given up after they were asked for; a peer that needs them gets a snapshot.
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

    /// Whether something of the group waits to be written.
    #[must_use]
    pub fn has_waiting(&self, group: GroupId) -> bool {
        let is_of = |job: &Job| matches!(job, Job::Write(_, writes) if writes.iter().any(|it| it.group() == group));
        self.waiting.iter().any(is_of)
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
            disk.synced();
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
