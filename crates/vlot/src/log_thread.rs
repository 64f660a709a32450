//! The one thread that waits for the disk: writes what has gathered, makes it durable at once, and reads what is asked
//! for.
//!
//! Owns the log, and notices that its disk is full and that it is not any more. What waits then is in `log_writer.rs`.
//! Must not know of groups' roles, of the network, or of the callers that wait.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use vlot_log::disk::any::AnyDisk;
use vlot_log::error::{ReadError, TidyError, WriteError};
use vlot_log::log::Log;
use vlot_log::record::Write;
use vlot_raft::id::GroupId;

use vlot_node::act::BatchId;
use vlot_node::input::Input;
use vlot_node::log_writer::{Durable, LogWriter};
use vlot_node::replica::LogRead;

use crate::end::LogFailed;
use crate::events::Event;
use crate::figures::Measures;
use crate::tasks::Spawner;

/// What the thread is asked.
#[derive(Debug)]
enum Task {
    Write(BatchId, Vec<Write>),
    Read(GroupId, LogRead),
}

impl Task {
    fn gives_something_up(&self) -> bool {
        matches!(self, Self::Write(_, writes) if writes.iter().any(|write| matches!(write, Write::LogStart { .. })))
    }
}

/// The way to the log. Dropping it lets the thread finish what it has, and ends it.
pub(crate) struct LogThread {
    way: Way,
    report: Arc<dyn Fn(Event) + Send + Sync>,
    spawner: Spawner,
}

/// Where the log is worked on.
enum Way {
    /// On a thread of its own.
    Thread(SyncSender<Task>, JoinHandle<()>),
    /// Where it is asked: nothing has to be waited for.
    Here(Box<LogWorker>),
    /// Nowhere any more.
    Gone,
}

/// Turns that may wait for the disk. More means that it has stalled; the driver then waits for it, as it must.
const TASKS_MAX: usize = 1024;

impl LogThread {
    /// Starts the thread, unless the disk keeps none waiting; the thread calls `report`.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn start(
        log: Log<AnyDisk>,
        headroom: Headroom,
        measures: Arc<Measures>,
        report: Arc<dyn Fn(Event) + Send + Sync>,
        spawner: &Spawner,
    ) -> std::io::Result<Self> {
        // To see whether there is room, some thread has to look now and then.
        let is_prompt = log.is_prompt() && headroom.bytes == 0;
        let writer = LogWriter::default();
        let worker = LogWorker { log, writer, headroom, is_full: false, untidy: None, measures };
        let mut thread = Self { way: Way::Gone, report, spawner: spawner.clone() };
        thread.way = if is_prompt { Way::Here(Box::new(worker)) } else { thread.start_thread(worker)? };
        Ok(thread)
    }

    /// Asks for these writes to be made durable, after all that was asked for before. What is done at once is told by `done`,
    /// and all else is reported.
    ///
    /// # Errors
    /// If the log is found to be unusable at once.
    pub(crate) fn write(&mut self, batch: BatchId, writes: Vec<Write>, done: &mut Vec<Input>) -> Result<(), LogFailed> {
        self.ask(Task::Write(batch, writes), done)
    }

    /// Asks for entries, as the log is after the writes that were asked for before. As [`LogThread::write`].
    ///
    /// # Errors
    /// As [`LogThread::write`].
    pub(crate) fn read(&mut self, group: GroupId, read: LogRead, done: &mut Vec<Input>) -> Result<(), LogFailed> {
        self.ask(Task::Read(group, read), done)
    }

    fn ask(&mut self, task: Task, done: &mut Vec<Input>) -> Result<(), LogFailed> {
        match &mut self.way {
            // A thread that is gone has reported why.
            Way::Thread(tasks, _) => match tasks.try_send(task) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => {}
                Err(TrySendError::Full(task)) => drop(tasks.send(task)),
            },
            Way::Here(worker) => {
                worker.carry_out_and_tidy(task, &mut |input| done.push(input))?;
                if worker.is_full {
                    self.move_to_thread();
                }
            }
            Way::Gone => {}
        }
        Ok(())
    }

    /// What waits for room on the disk is tried again by a thread.
    fn move_to_thread(&mut self) {
        if let Way::Here(worker) = std::mem::replace(&mut self.way, Way::Gone) {
            match self.start_thread(*worker) {
                Ok(thread) => self.way = thread,
                Err(error) => {
                    tracing::error!(%error, "cannot start a thread for the log, which waits for room on its disk")
                }
            }
        }
    }

    fn start_thread(&self, worker: LogWorker) -> std::io::Result<Way> {
        let (tasks, inbox) = sync_channel(TASKS_MAX);
        let report = Arc::clone(&self.report);
        let thread = self.spawner.spawn_thread("log", move || worker.run(&inbox, &*report))?;
        Ok(Way::Thread(tasks, thread))
    }
}

impl Drop for LogThread {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.way, Way::Gone) {
            Way::Thread(tasks, thread) => {
                drop(tasks);
                // It panicked, if it did, with a message of its own.
                drop(thread.join());
            }
            Way::Here(mut worker) => worker.part(),
            Way::Gone => {}
        }
    }
}

/// How long the thread waits before it uses the quiet to seal what was written last, to make the next segment, and to
/// give space back.
const QUIET: Duration = Duration::from_millis(20);
/// How often the thread is asked for something before it gives space back although there is no quiet.
const BUSY_TASKS: u32 = 256;
/// How often it looks whether there is room.
const LOOK: Duration = Duration::from_millis(250);
/// So much of what several turns have asked for is written with one call, and what one more adds.
const GATHERED_BYTES: usize = 512 << 10;

/// What turns have asked for while the disk was at work. It is written with one call, as each is a way to the disk and back.
struct Gathered {
    last: BatchId,
    writes: Vec<Write>,
    /// How long the payloads are.
    bytes: usize,
}

impl Gathered {
    fn new(batch: BatchId, writes: Vec<Write>) -> Self {
        Self { last: batch, bytes: payload_bytes(&writes), writes }
    }

    fn add(&mut self, batch: BatchId, writes: Vec<Write>) {
        self.last = batch;
        self.bytes += payload_bytes(&writes);
        self.writes.extend(writes);
    }
}

fn payload_bytes(writes: &[Write]) -> usize {
    let entries = writes.iter().flat_map(|write| match write {
        Write::Append { entries, .. } | Write::Rewrite { entries, .. } => &entries[..],
        Write::Vote { .. } | Write::LogStart { .. } | Write::Remove { .. } => &[],
    });
    entries.map(|entry| entry.payload.len()).sum()
}

/// How much of a file system must be free, so that what else is kept there has room too.
pub(crate) struct Headroom {
    bytes: u64,
    /// How many bytes are free; none if that cannot be told.
    free: Box<dyn FnMut() -> Option<u64> + Send>,
    looked: Option<Instant>,
    lacks: bool,
}

impl Headroom {
    pub(crate) fn new(bytes: u64, free: impl FnMut() -> Option<u64> + Send + 'static) -> Self {
        Self { bytes, free: Box::new(free), looked: None, lacks: false }
    }

    /// Whether too little is free. Looks now and then.
    fn lacks(&mut self) -> bool {
        if self.bytes > 0 && self.looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
            self.looked = Some(Instant::now());
            // A little more is wanted before it is taken for enough, so that not every segment that comes and goes
            // counts.
            let wanted = if self.lacks { self.bytes + self.bytes / 4 } else { self.bytes };
            self.lacks = (self.free)().is_some_and(|free| free < wanted);
        }
        self.lacks
    }
}

/// The log, in the hands of its thread.
struct LogWorker {
    log: Log<AnyDisk>,
    writer: LogWriter,
    headroom: Headroom,
    /// As was last reported.
    is_full: bool,
    /// Tasks since something was given up, if its space is not given back.
    untidy: Option<u32>,
    measures: Arc<Measures>,
}

/// Takes what has become of what was asked for.
type Report<'r> = &'r mut dyn FnMut(Input);

impl LogWorker {
    fn run(mut self, inbox: &Receiver<Task>, report: &dyn Fn(Event)) {
        if let Err(failure) = self.carry_out_all(inbox, &mut |input| report(input.into())) {
            report(Event::LogFailed(failure));
        }
    }

    /// Until no sender of tasks is left, or storage fails.
    fn carry_out_all(&mut self, inbox: &Receiver<Task>, report: Report<'_>) -> Result<(), LogFailed> {
        loop {
            let mut first = match inbox.recv_timeout(QUIET) {
                Ok(task) => Some(task),
                Err(RecvTimeoutError::Disconnected) => {
                    self.part();
                    return Ok(());
                }
                Err(RecvTimeoutError::Timeout) => None,
            };
            if first.is_none() && !self.is_full {
                self.prepare();
            }
            if self.untidy.is_some_and(|tasks| first.is_none() || tasks >= BUSY_TASKS) {
                self.tidy();
            }
            self.look_for_room(report)?;
            // There may be more to tidy up, unless something comes.
            while first.is_none() && self.untidy.is_none() {
                first = match self.wait(inbox) {
                    Ok(task) => Some(task),
                    Err(RecvTimeoutError::Disconnected) => {
                        self.part();
                        return Ok(());
                    }
                    Err(RecvTimeoutError::Timeout) => {
                        // What was given up while the disk was full could not all be given back then.
                        if self.is_full {
                            self.tidy();
                        }
                        self.look_for_room(report)?;
                        None
                    }
                };
            }
            let Some(first) = first else { continue };
            let tasks: Vec<Task> = std::iter::once(first).chain(inbox.try_iter()).collect();
            self.carry_out(tasks, report)?;
        }
    }

    /// Carries out a task where it is asked for.
    fn carry_out_and_tidy(&mut self, task: Task, report: Report<'_>) -> Result<(), LogFailed> {
        if self.untidy.is_some_and(|tasks| tasks >= BUSY_TASKS) {
            self.tidy();
        }
        self.carry_out([task], report)
    }

    /// Waits for a task; not for ever, if there may be less room by then, or more.
    fn wait(&self, inbox: &Receiver<Task>) -> Result<Task, RecvTimeoutError> {
        if self.is_full || self.headroom.bytes > 0 {
            inbox.recv_timeout(LOOK)
        } else {
            inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
        }
    }

    /// Carries out all that has gathered: one sync for every write in it.
    fn carry_out<T: IntoIterator<Item = Task> + AsRef<[Task]>>(
        &mut self,
        tasks: T,
        report: Report<'_>,
    ) -> Result<(), LogFailed> {
        if self.untidy.is_some() || tasks.as_ref().iter().any(Task::gives_something_up) {
            self.untidy = Some(self.untidy.unwrap_or(0).saturating_add(1));
        }
        let mut reads = Vec::new();
        let mut gathered: Option<Gathered> = None;
        for task in tasks {
            match task {
                Task::Write(batch, writes) => match &mut gathered {
                    Some(earlier) if earlier.bytes < GATHERED_BYTES => earlier.add(batch, writes),
                    none_or_enough => {
                        let enough = none_or_enough.replace(Gathered::new(batch, writes));
                        enough.map_or(Ok(()), |enough| self.write(enough))?;
                    }
                },
                Task::Read(group, read) => reads.push((group, read)),
            }
        }
        if let Some(gathered) = gathered {
            self.write(gathered)?;
            self.sync(report)?;
            self.look_for_room(report)?;
        }
        for (group, LogRead { purpose, after, upto, bytes_max }) in reads {
            let entries = match self.log.read(group, after, upto, bytes_max) {
                Ok(entries) => entries,
                // They were given up after they were asked for; a peer that needs them gets a snapshot.
                Err(ReadError::Compacted { .. }) => Vec::new(),
                Err(error) => return Err(error.into()),
            };
            report(Input::Fetched { group, purpose, entries });
        }
        Ok(())
    }

    /// No sender of tasks is left.
    fn part(&mut self) {
        // What fails here was durable all the same.
        drop(self.log.seal());
    }

    fn write(&mut self, gathered: Gathered) -> Result<(), LogFailed> {
        let Self { log, measures, .. } = self;
        let Gathered { last, writes, .. } = gathered;
        Ok(self.writer.write(last, writes, &mut |writes| measures.log_writes.time(|| log.write(writes)))?)
    }

    fn sync(&mut self, report: Report<'_>) -> Result<(), LogFailed> {
        let log = &mut self.log;
        self.measures.log_syncs.time(|| log.sync())?;
        self.measures.log_bytes.store(log.written_bytes(), Relaxed);
        match self.writer.synced() {
            Some(Durable::All(batch)) => report(Input::Written { batch }),
            Some(Durable::ButForEntries(batch)) => report(Input::VotesWritten { batch }),
            None => {}
        }
        Ok(())
    }

    /// Writes what waits for room if there is some, and reports whether there is.
    fn look_for_room(&mut self, report: Report<'_>) -> Result<(), LogFailed> {
        let lacks = self.headroom.lacks();
        if self.writer.waits() {
            let Self { log, measures, .. } = self;
            self.writer.try_again(&mut |writes| measures.log_writes.time(|| log.write(writes)))?;
            self.sync(report)?;
        }
        let is_full = lacks || self.writer.waits();
        if std::mem::replace(&mut self.is_full, is_full) != is_full {
            if is_full {
                tracing::error!("the disk of the log is full: no entries are taken until there is room");
            } else {
                tracing::info!("the disk of the log has room again");
            }
            report(Input::Room { is_there: !is_full });
        }
        Ok(())
    }

    fn prepare(&mut self) {
        match self.log.seal().and_then(|()| self.log.prepare()) {
            Ok(()) => {}
            // It is told when something has to wait for it.
            Err(WriteError::NoSpace(failure)) => tracing::debug!(%failure, "cannot make the next log segment"),
            Err(error) => tracing::warn!(%error, "cannot seal the end of the log, or make its next segment"),
        }
    }

    /// Gives space back.
    fn tidy(&mut self) {
        let has_more = match self.log.tidy() {
            Ok(tidied) => {
                if tidied.segments_dropped > 0 {
                    tracing::debug!(segments = tidied.segments_dropped, "dropped log segments");
                }
                tidied.more
            }
            // On a full disk that is tried again and again.
            Err(TidyError::Write(WriteError::NoSpace(failure))) => {
                tracing::debug!(%failure, "cannot give space of the log back");
                false
            }
            Err(error) => {
                tracing::warn!(%error, "cannot give space of the log back");
                false
            }
        };
        self.untidy = has_more.then_some(0);
    }
}
