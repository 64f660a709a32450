//! The one thread that waits for the disk: writes what has gathered, makes it durable at once, and reads what is asked
//! for.
//!
//! Owns the log. Must not know of groups' roles, of the network, or of who waits.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use vlot_log::disk::Disk;
use vlot_log::error::ReadError;
use vlot_log::log::Log;
use vlot_log::record::{Entry, Write};
use vlot_raft::id::GroupId;

use crate::node::BatchId;
use crate::replica::{LogRead, Purpose};

/// What the thread is asked.
#[derive(Debug)]
enum Task {
    Write(BatchId, Vec<Write>),
    Read(GroupId, LogRead),
}

impl Task {
    fn gives_something_up(&self) -> bool {
        matches!(self, Self::Write(_, writes) if writes.iter().any(|write| matches!(write, Write::Begin { .. })))
    }
}

/// What it reports.
#[derive(Debug)]
pub(crate) enum Done {
    /// This batch, and all before it, are durable.
    Written(BatchId),
    /// What was read.
    Fetched { group: GroupId, purpose: Purpose, entries: Vec<Entry> },
    /// The log is unusable. Nothing else will be reported.
    Failed(String),
}

/// The way to the thread. Dropping it lets the thread finish what it has, and ends it.
#[derive(Debug)]
pub(crate) struct LogThread {
    tasks: Option<SyncSender<Task>>,
    thread: Option<JoinHandle<()>>,
}

/// Turns that may wait for the disk. More means that it has stalled; the driver then waits for it, as it must.
const TASKS_MAX: usize = 1024;

impl LogThread {
    /// Starts the thread; `report` is called on it.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn start<D: Disk + Send + 'static>(
        log: Log<D>,
        report: Arc<dyn Fn(Done) + Send + Sync>,
    ) -> std::io::Result<Self>
    where
        Log<D>: Send,
    {
        let (tasks, inbox) = sync_channel(TASKS_MAX);
        let thread = std::thread::Builder::new().name("log".into()).spawn(move || run(log, &inbox, &*report))?;
        Ok(Self { tasks: Some(tasks), thread: Some(thread) })
    }

    /// Asks for these writes to be made durable, after all that was asked for before.
    pub(crate) fn write(&self, batch: BatchId, writes: Vec<Write>) {
        self.ask(Task::Write(batch, writes));
    }

    /// Asks for entries, as the log is after the writes that were asked for before.
    pub(crate) fn read(&self, group: GroupId, read: LogRead) {
        self.ask(Task::Read(group, read));
    }

    fn ask(&self, task: Task) {
        let Some(tasks) = &self.tasks else { return };
        // A thread that is gone has reported why.
        match tasks.try_send(task) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(task)) => drop(tasks.send(task)),
        }
    }
}

impl Drop for LogThread {
    fn drop(&mut self) {
        self.tasks = None;
        if let Some(thread) = self.thread.take() {
            // It panicked, if it did, with a message of its own.
            drop(thread.join());
        }
    }
}

/// How long the thread waits before it uses the quiet to vouch for what was written last, to make the next segment, and
/// to give space back.
const QUIET: Duration = Duration::from_millis(20);
/// How often the thread is asked for something before it gives space back although there is no quiet.
const BUSY_TASKS: u32 = 256;

fn run<D: Disk>(mut log: Log<D>, inbox: &Receiver<Task>, report: &(dyn Fn(Done) + Send + Sync)) {
    // Tasks since something was given up, if its space is not given back.
    let mut untidy: Option<u32> = None;
    loop {
        let first = match inbox.recv_timeout(QUIET) {
            Ok(task) => Some(task),
            Err(RecvTimeoutError::Disconnected) => {
                // What fails here was durable all the same.
                drop(log.vouch());
                return;
            }
            Err(RecvTimeoutError::Timeout) => None,
        };
        if first.is_none()
            && let Err(error) = log.vouch().and_then(|()| log.prepare())
        {
            tracing::warn!(%error, "cannot make the next log segment");
        }
        if untidy.is_some_and(|tasks| first.is_none() || tasks >= BUSY_TASKS) {
            untidy = tidy(&mut log).then_some(0);
        }
        let first = match first {
            Some(task) => task,
            // There is more to tidy up, unless something comes.
            None if untidy.is_some() => continue,
            None => match inbox.recv() {
                Ok(task) => task,
                Err(_) => return,
            },
        };
        let tasks: Vec<Task> = std::iter::once(first).chain(inbox.try_iter()).collect();
        if untidy.is_some() || tasks.iter().any(Task::gives_something_up) {
            untidy = Some(untidy.unwrap_or(0).saturating_add(1));
        }
        if let Err(failure) = carry_out(&mut log, tasks.into_iter(), report) {
            return report(Done::Failed(failure));
        }
    }
}

/// Gives space back. True if there is more to do.
fn tidy<D: Disk>(log: &mut Log<D>) -> bool {
    match log.tidy() {
        Ok(tidied) => {
            if tidied.segments_dropped > 0 {
                tracing::debug!(segments = tidied.segments_dropped, "dropped log segments");
            }
            tidied.more
        }
        Err(error) => {
            tracing::warn!(%error, "cannot give space of the log back");
            false
        }
    }
}

/// Carries out all that has gathered: one sync for every write in it.
fn carry_out<D: Disk>(
    log: &mut Log<D>,
    tasks: impl Iterator<Item = Task>,
    report: &(dyn Fn(Done) + Send + Sync),
) -> Result<(), String> {
    let mut written = None;
    let mut reads = Vec::new();
    for task in tasks {
        match task {
            Task::Write(batch, writes) => {
                log.write(&writes).map_err(|error| error.to_string())?;
                written = Some(batch);
            }
            Task::Read(group, read) => reads.push((group, read)),
        }
    }
    if let Some(batch) = written {
        log.sync().map_err(|error| error.to_string())?;
        report(Done::Written(batch));
    }
    for (group, LogRead { purpose, after, upto, bytes_max }) in reads {
        let entries = match log.read(group, after, upto, bytes_max) {
            Ok(entries) => entries,
            // They were given up after they were asked for; whoever needs them gets a snapshot.
            Err(ReadError::Compacted { .. }) => Vec::new(),
            Err(error) => return Err(error.to_string()),
        };
        report(Done::Fetched { group, purpose, entries });
    }
    Ok(())
}
