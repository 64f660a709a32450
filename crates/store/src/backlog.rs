//! What waits for the engine, and the thread that takes it there.
//!
//! Owns the queue between the store and its background thread, its bound, how far history is durable, and when the index is saved
//! beside it. Must not know what commands do. No other file of the crate has a thread, and but for the rests
//! while the engine's file is cut off (`engine/redb/file.rs`) none looks at a clock.

mod thinning;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::engine::{Engine, EngineError, EngineView, Record, WriteBatch};
use crate::figures::Measures;
use crate::mvcc::history::{self, Block};
use crate::mvcc::key_index::KeyIndex;
use crate::mvcc::revision::Revision;
use crate::records::Standing;
use crate::saved_index::{self, Header};
use crate::store::Options;
use thinning::thinned;

/// With so many bytes waiting the thread does not wait for the interval to end.
const BATCH_BYTES: usize = 8 << 20;
/// With fewer bytes waiting it gathers for so many intervals: a transaction writes a dozen pages for the way to what it adds,
/// however little that is. The log has it all meanwhile. A compaction does not wait so long.
const SMALL_BATCH_BYTES: usize = 128 << 10;
const SMALL_BATCH_INTERVALS: u32 = 5;
/// How often it is looked whether there is room, while there is none.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(250);
/// How far the thread stands back behind those that somebody waits for: a third of their share where there are fewer cores
/// than there is work. No more, since those wait once too much waits for it.
const NICENESS: i32 = 5;
/// The index is saved once so many times more history has come since it was saved last than that took.
const HISTORY_FOR_INDEX: u64 = 4;
/// What a version counts for, in bytes of history, that compaction gives up.
const GIVEN_UP_BYTES: u64 = 64;
/// So many times less history is enough where there was a saved index and is none, or when the store is closed.
const LESS_HISTORY: u64 = 16;
/// So many times as long as a piece of work that nobody waits for has taken, the thread rests before the next: the log writes to
/// the same disk, and all members compact at the same time.
const RESTS: u32 = 3;
/// The longest of these rests.
const REST_MAX: Duration = Duration::from_millis(100);

/// The queue, and the thread if there is one.
#[derive(Debug)]
pub(crate) struct Backlog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    bytes_max: usize,
    /// The index is saved once so much history has come, at least.
    index_interval_bytes: u64,
}

struct Shared {
    engine: Arc<dyn Engine>,
    measures: Arc<Measures>,
    state: Mutex<State>,
    /// Rung when there is work for the thread, and when work is done.
    bell: Condvar,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        f.debug_struct("Shared")
            .field("standing", &state.standing)
            .field("durable", &state.durable)
            .finish_non_exhaustive()
    }
}

struct State {
    waiting: Vec<Arc<Block>>,
    waiting_bytes: usize,
    /// Handed to the engine; not durable until it says so.
    writing: Vec<Arc<Block>>,
    writing_bytes: usize,
    /// The newest of each name.
    records: BTreeMap<Vec<u8>, Vec<u8>>,
    standing: Standing,
    durable: Standing,
    /// Versions that compaction gave up and the thread has not seen yet, in no order.
    given_up: Vec<Vec<Revision>>,
    /// Those that are left of what it has seen, oldest first.
    dropped: VecDeque<Revision>,
    /// What the thread has seen, once more, each compaction by itself and oldest first: the store lets go of what is in memory of it.
    sorted: VecDeque<Arc<[Revision]>>,
    /// They are being put in order, and not in `dropped` meanwhile.
    is_sorting: bool,
    /// The compaction that gave them up. Only once that is durable may they leave the engine: after a crash the commands
    /// before it are applied again, and may read them.
    dropped_by: i64,
    thinning: bool,
    /// How long the thread rests before the next piece of that.
    rest: Duration,
    /// When it was begun to write what waited.
    written_at: Instant,
    /// Since when there is something to thin out.
    thinning_since: Option<Instant>,
    /// The engine is to give back what it does not use.
    defragment: bool,
    hurry: bool,
    stop: bool,
    /// The engine had no room when it was last asked. What waits is tried again soon.
    lacks_room: bool,
    failure: Option<EngineError>,
    /// The engine as it is since its last write, once it was asked for.
    view: Option<Arc<dyn EngineView>>,
    /// What the blocks in the engine take up.
    stored_bytes: u64,
    saving: Saving,
}

/// The index on its way to where it is saved.
#[derive(Default)]
struct Saving {
    /// The index after a position, to be saved once that is durable.
    waiting: Option<(KeyIndex, Standing)>,
    is_under_way: bool,
    /// Whether there is one. A version that leaves the engine makes it useless.
    is_saved: bool,
    /// How long the last one was. Zero if there was none.
    bytes: u64,
    /// History that came since it was handed over.
    unsaved_bytes: u64,
}

impl State {
    fn is_durable(&self) -> bool {
        self.durable == self.standing && self.waiting.is_empty() && self.writing.is_empty()
    }

    fn has_dropped(&self) -> bool {
        !self.dropped.is_empty() || !self.given_up.is_empty() || self.is_sorting
    }

    /// How long it is gathered before the next transaction, by what waits so far.
    fn gathering(&self, interval: Duration) -> Duration {
        if self.has_dropped() { self.rest } else { self.batch_interval(interval) }
    }

    /// How long it is gathered for one transaction while there is nothing else to do.
    fn batch_interval(&self, interval: Duration) -> Duration {
        let is_small = self.waiting_bytes < SMALL_BATCH_BYTES && self.standing.compacted == self.durable.compacted;
        if is_small { interval * SMALL_BATCH_INTERVALS } else { interval }
    }

    /// Whether what waits is not to wait for more, now that the thread is up. Between two transactions that thin out old history it
    /// may.
    fn is_batch_due(&self, interval: Duration) -> bool {
        self.hurry
            || !self.may_thin_out()
            || self.waiting_bytes >= BATCH_BYTES
            || self.written_at.elapsed() >= self.batch_interval(interval)
    }

    fn may_thin_out(&self) -> bool {
        self.has_dropped() && self.failure.is_none() && self.durable.compacted >= self.dropped_by
    }

    fn bytes(&self) -> usize {
        self.waiting_bytes + self.writing_bytes
    }

    fn is_index_to_be_saved(&self) -> bool {
        self.saving.waiting.is_some() && self.failure.is_none()
    }
}

impl Backlog {
    pub fn new(engine: Arc<dyn Engine>, standing: Standing, options: &Options, measures: Arc<Measures>) -> Self {
        let state = State {
            waiting: Vec::new(),
            waiting_bytes: 0,
            writing: Vec::new(),
            writing_bytes: 0,
            records: BTreeMap::new(),
            standing,
            durable: standing,
            given_up: Vec::new(),
            dropped: VecDeque::new(),
            sorted: VecDeque::new(),
            is_sorting: false,
            dropped_by: -1,
            thinning: false,
            rest: Duration::ZERO,
            written_at: Instant::now(),
            thinning_since: None,
            defragment: false,
            hurry: false,
            stop: false,
            lacks_room: false,
            failure: None,
            view: None,
            stored_bytes: 0,
            saving: Saving::default(),
        };
        let shared = Arc::new(Shared { engine, measures, state: Mutex::new(state), bell: Condvar::new() });
        let Options { backlog_bytes_max: bytes_max, index_interval_bytes, .. } = *options;
        Self { shared, thread: None, bytes_max, index_interval_bytes }
    }

    /// Counts a block that was found in the engine.
    pub fn found(&self, block_bytes: usize) {
        let mut state = self.shared.state();
        state.stored_bytes += room_of(block_bytes);
        state.saving.unsaved_bytes += block_bytes as u64;
    }

    /// Counts what was found in an index that was saved, of so many bytes.
    pub fn found_index(&self, bytes: u64, stored_bytes: u64) {
        let mut state = self.shared.state();
        state.stored_bytes += stored_bytes;
        (state.saving.is_saved, state.saving.bytes) = (true, bytes);
    }

    /// What history takes up in the engine, and will once it has what waits for it.
    pub fn stored_bytes(&self) -> u64 {
        let state = self.shared.state();
        state.stored_bytes + state.bytes() as u64
    }

    /// Starts the thread, which writes what waits about once an interval.
    pub fn spawn(&mut self, interval: Duration) -> std::io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let run = move || {
            // Where the system does not let it stand back, it works like all others.
            let _ = rustix::process::nice(NICENESS);
            while shared.work(interval) {}
        };
        self.thread = Some(std::thread::Builder::new().name("vlot-store".into()).spawn(run)?);
        Ok(())
    }

    /// Whether a thread takes what waits to the engine.
    pub fn has_thread(&self) -> bool {
        self.thread.is_some()
    }

    /// Takes over a batch's history and where it led. Blocks while too much waits, unless no thread would take it: then
    /// it is the owner's to see that no more comes. Returns whether it is time to save the index.
    pub fn push(&self, blocks: &[Arc<Block>], records: &mut Vec<Record>, standing: Standing) -> bool {
        let mut state = self.shared.state();
        let takes = |state: &State| state.failure.is_none() && !state.lacks_room;
        while self.thread.is_some() && state.bytes() > self.bytes_max && takes(&state) {
            state = self.shared.wait(state);
        }
        let was_idle = state.is_durable();
        let bytes = blocks.iter().map(|block| block.len()).sum::<usize>();
        state.waiting_bytes += bytes;
        state.saving.unsaved_bytes += bytes as u64;
        state.waiting.extend_from_slice(blocks);
        state.records.extend(records.drain(..));
        state.standing = standing;
        if was_idle || state.waiting_bytes > BATCH_BYTES {
            self.shared.bell.notify_all();
        }
        state.saving.is_due(self.index_interval_bytes)
    }

    /// Hands over the index as it is after what was pushed last. Nothing may be given up of it that is still in the engine:
    /// what is loaded with a saved index would stay there for ever.
    pub fn save_index(&self, index: KeyIndex, standing: Standing) {
        let mut state = self.shared.state();
        state.saving.waiting = Some((index, standing));
        state.saving.unsaved_bytes = 0;
        self.shared.bell.notify_all();
    }

    /// Whether saving the index would spare the next start some work.
    pub fn is_worth_saving(&self) -> bool {
        self.shared.state().saving.is_worth_it(self.index_interval_bytes)
    }

    /// Hands over versions that no reader can ask for since the compaction at `compacted`, to be taken out of the engine.
    pub fn drop_versions(&self, mut given_up: Vec<Vec<Revision>>, compacted: i64) {
        if given_up.is_empty() {
            self.shared.measures.compacted(Duration::ZERO);
            return;
        }
        let mut state = self.shared.state();
        state.thinning_since.get_or_insert_with(Instant::now);
        let versions = given_up.iter().map(Vec::len).sum::<usize>() as u64;
        state.saving.unsaved_bytes += versions * GIVEN_UP_BYTES;
        state.given_up.append(&mut given_up);
        state.dropped_by = compacted;
        self.shared.bell.notify_all();
        drop(state);
        if self.thread.is_none() {
            self.shared.sort_given_up();
        }
    }

    /// Versions that were handed over, in order: those of the oldest compaction that were not asked for yet.
    pub fn next_sorted(&self) -> Option<Arc<[Revision]>> {
        self.shared.state().sorted.pop_front()
    }

    /// Whether there are more, or will be.
    pub fn has_unsorted(&self) -> bool {
        let state = self.shared.state();
        let will_be = state.is_sorting || !state.given_up.is_empty();
        !state.sorted.is_empty() || (will_be && state.failure.is_none())
    }

    /// Has the engine give back the space that it does not use. Without a thread, does the work itself.
    pub fn defragment(&self) {
        self.shared.state().defragment = true;
        self.shared.bell.notify_all();
        if self.thread.is_none() {
            self.shared.defragment();
        }
    }

    /// Whether versions that were handed over are still in the engine.
    pub fn is_thinning(&self) -> bool {
        let state = self.shared.state();
        state.failure.is_none() && (state.thinning || state.has_dropped())
    }

    /// Waits until all that was handed over is durable. Without a thread, does the work itself.
    ///
    /// # Errors
    /// If the engine has failed, or has no room.
    pub fn flush(&self) -> Result<(), EngineError> {
        if self.thread.is_none() {
            self.shared.write_waiting();
            while self.shared.thin_out() {}
            self.shared.save_index(false);
        }
        let state = self.wait_until(State::is_durable);
        let lacks_room = state.lacks_room && !state.is_durable();
        let no_room = lacks_room.then_some(EngineError::NoRoom);
        state.failure.clone().or(no_room).map_or(Ok(()), Err)
    }

    /// Waits until an index that was handed over is saved, if it can be, and what was handed over before is durable.
    pub fn finish_saving(&self) {
        if self.thread.is_none() {
            self.shared.save_index(false);
            return;
        }
        drop(self.wait_until(|state| !state.is_index_to_be_saved() && !state.saving.is_under_way));
    }

    /// Has the thread hurry until something is so, or cannot be.
    fn wait_until(&self, is_so: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let mut state = self.shared.state();
        state.hurry = true;
        self.shared.bell.notify_all();
        while !is_so(&state) && state.failure.is_none() && !state.lacks_room {
            state = self.shared.wait(state);
        }
        state.hurry = false;
        state
    }

    pub fn durable(&self) -> Standing {
        self.shared.state().durable
    }

    pub fn failure(&self) -> Option<EngineError> {
        self.shared.state().failure.clone()
    }

    pub fn bytes(&self) -> usize {
        self.shared.state().bytes()
    }

    /// Whether [`Backlog::push`] would take a batch at once, and many more.
    pub fn has_room(&self) -> bool {
        let state = self.shared.state();
        state.failure.is_none() && !state.lacks_room && state.bytes() <= self.bytes_max / 2
    }

    /// The engine as it is now: it has all that is durable, and all that compaction had not given up when the last write
    /// ended. Opened once after each write, however many ask.
    pub fn engine_view(&self) -> Result<Arc<dyn EngineView>, EngineError> {
        let mut state = self.shared.state();
        if let Some(view) = &state.view {
            return Ok(Arc::clone(view));
        }
        let view = self.shared.engine.view()?;
        state.view = Some(Arc::clone(&view));
        Ok(view)
    }
}

impl Saving {
    fn is_due(&self, interval_bytes: u64) -> bool {
        let enough = if self.is_missing() {
            (interval_bytes / LESS_HISTORY).max(self.bytes / HISTORY_FOR_INDEX)
        } else {
            interval_bytes.max(self.bytes * HISTORY_FOR_INDEX)
        };
        self.waiting.is_none() && !self.is_under_way && self.unsaved_bytes > enough
    }

    fn is_worth_it(&self, interval_bytes: u64) -> bool {
        self.is_missing() || self.unsaved_bytes > interval_bytes / LESS_HISTORY
    }

    /// Whether there was one, and is none.
    fn is_missing(&self) -> bool {
        self.bytes > 0 && !self.is_saved
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Backlog {
    /// Stops the thread. What waits is not written any more.
    pub fn stop(&mut self) {
        self.shared.state().stop = true;
        self.shared.bell.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by its own hook.
            thread.join().ok();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // The lock is only held for moves between fields; a panic cannot leave them half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.bell.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// One round of the thread: wait for work, gather for an interval, write. False when it should end.
    fn work(&self, interval: Duration) -> bool {
        let mut state = self.state();
        let has_work = |state: &State| {
            !state.is_durable() || state.has_dropped() || state.defragment || state.is_index_to_be_saved()
        };
        while !state.stop && !has_work(&state) {
            state = self.wait(state);
        }
        let begun = Instant::now();
        while !state.stop && !state.hurry && state.waiting_bytes < BATCH_BYTES {
            let left = state.gathering(interval).saturating_sub(begun.elapsed());
            if left.is_zero() {
                break;
            }
            // What comes meanwhile may be much.
            let left = left.min(interval);
            state = self.bell.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.stop || state.failure.is_some() {
            return false;
        }
        let is_batch_due = state.is_batch_due(interval);
        drop(state);
        self.sort_given_up();
        if !self.has_room() {
            let state = self.state();
            // Rung when it is to end, too.
            drop(self.bell.wait_timeout(state, LOOK_FOR_ROOM).unwrap_or_else(PoisonError::into_inner));
            return true;
        }
        if is_batch_due {
            self.write_waiting();
        }
        self.thin_out();
        self.defragment();
        self.save_index(true);
        self.free_replaced();
        true
    }

    /// Saves the index that was handed over, if what it is of is durable. If it cannot be saved, the next start reads history.
    fn save_index(&self, rests: bool) {
        let mut state = self.state();
        if state.failure.is_some() {
            return;
        }
        let durable = state.durable.position.index;
        let Some((index, of)) = state.saving.waiting.take_if(|(_, of)| of.position.index <= durable) else { return };
        let header = Header {
            identity: self.engine.identity(),
            position: of.position,
            revision: of.revision,
            stored_bytes: state.stored_bytes,
            counted: state.durable.revision,
        };
        state.saving.is_under_way = true;
        drop(state);

        let mut bytes = 0;
        let saved = self.engine.save_beside(&mut |out| {
            let mut begun = Instant::now();
            bytes = saved_index::write(&header, &index, out, &mut || {
                self.write_meanwhile(begun.elapsed(), rests)?;
                begun = Instant::now();
                Ok(())
            })?;
            Ok(())
        });
        drop(index);
        let mut state = self.state();
        state.saving.is_under_way = false;
        if saved.is_ok() {
            (state.saving.is_saved, state.saving.bytes) = (true, bytes);
        }
        self.bell.notify_all();
    }

    /// Between two pieces of work that nobody waits for, the first of which took so long: writes what waits, if that is much,
    /// and rests.
    fn write_meanwhile(&self, took: Duration, rests: bool) -> io::Result<()> {
        let state = self.state();
        let (is_much, in_a_hurry) = (state.waiting_bytes >= BATCH_BYTES / 2, state.hurry);
        if state.stop || state.failure.is_some() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        drop(state);
        if rests && is_much && self.has_room() {
            self.write_waiting();
        }
        if rests && !in_a_hurry {
            std::thread::sleep(rest_after(took));
        }
        Ok(())
    }

    /// Gives back the space of files that were replaced, once nobody reads them.
    fn free_replaced(&self) {
        let mut begun = Instant::now();
        self.engine.free_replaced(&mut || self.rest(&mut begun));
    }

    /// Rests after a piece of work that nobody waits for, unless somebody does by now. Sets when the next has begun.
    fn rest(&self, begun: &mut Instant) {
        let state = self.state();
        let in_a_hurry = state.stop || state.hurry || state.waiting_bytes >= BATCH_BYTES;
        drop(state);
        if !in_a_hurry {
            std::thread::sleep(rest_after(begun.elapsed()));
        }
        *begun = Instant::now();
    }

    /// Has the engine written anew, if that is asked for and nothing waits to be taken out of it.
    fn defragment(&self) {
        let mut state = self.state();
        if !state.defragment || state.has_dropped() || state.failure.is_some() {
            return;
        }
        state.defragment = false;
        drop(state);
        let mut begun = Instant::now();
        let done = self.engine.defragment(&mut || self.rest(&mut begun));
        let mut state = self.state();
        // One that was opened before keeps the space that was given back.
        state.view = None;
        state.failure = done.err().or(state.failure.take());
    }

    /// Whether the engine has room for what waits, and for thinning out.
    fn has_room(&self) -> bool {
        let bytes = self.state().bytes();
        let has_room = self.engine.has_room_for(bytes);
        let mut state = self.state();
        if state.lacks_room == has_room {
            state.lacks_room = !has_room;
            // A thread that waits for what is not written soon goes on.
            self.bell.notify_all();
        }
        has_room
    }

    /// Writes all that waits in one transaction.
    fn write_waiting(&self) {
        let mut state = self.state();
        if state.is_durable() || state.failure.is_some() {
            return;
        }
        // A reader that still holds the view keeps it; the engine may use the space that others do not need.
        state.view = None;
        state.written_at = Instant::now();
        state.writing = std::mem::take(&mut state.waiting);
        state.writing_bytes = std::mem::take(&mut state.waiting_bytes);
        let standing = state.standing;
        let mut records: Vec<Record> = std::mem::take(&mut state.records).into_iter().collect();
        let blocks = state.writing.clone();
        drop(state);

        records.push(standing.record());
        let batch = WriteBatch { blocks: history::stored_blocks(&blocks), removed: Vec::new(), records };
        let written = self.measures.commits.time(|| self.engine.write(&batch));

        let mut state = self.state();
        // In one step with `durable`: what the store lets go of because it is durable must be in the next view.
        state.view = None;
        match written {
            Ok(()) => {
                state.writing.clear();
                state.writing_bytes = 0;
                state.durable = standing;
                state.stored_bytes += room_of_all(&batch.blocks);
            }
            Err(error) => state.failure = Some(error),
        }
        self.bell.notify_all();
    }

    /// Puts in order what compaction has given up.
    fn sort_given_up(&self) {
        let mut state = self.state();
        if state.given_up.is_empty() || state.failure.is_some() {
            return;
        }
        let given_up = std::mem::take(&mut state.given_up);
        let mut dropped = std::mem::take(&mut state.dropped);
        state.is_sorting = true;
        drop(state);

        let mut sorted: Vec<Revision> = given_up.into_iter().flatten().collect();
        sorted.sort_unstable();
        // What is left of an earlier compaction is merged in, so that each block is rewritten once.
        let is_left = !dropped.is_empty();
        dropped.extend(&sorted);
        if is_left {
            dropped.make_contiguous().sort_unstable();
        }

        let mut state = self.state();
        state.is_sorting = false;
        state.dropped = dropped;
        state.sorted.push_back(sorted.into());
    }

    /// Takes given-up versions out of some blocks, in a transaction of its own. Returns whether there are more.
    fn thin_out(&self) -> bool {
        self.sort_given_up();
        let mut state = self.state();
        if !state.may_thin_out() {
            return false;
        }
        // It has versions that will not be there.
        state.saving.waiting = None;
        if std::mem::take(&mut state.saving.is_saved) {
            drop(state);
            if let Err(error) = self.engine.forget_beside() {
                self.state().failure = Some(EngineError::Failed(error.to_string()));
                return false;
            }
            state = self.state();
            // A later compaction, which is not durable, may have given up more meanwhile.
            if !state.may_thin_out() {
                return false;
            }
        }
        let mut dropped = std::mem::take(&mut state.dropped);
        state.thinning = true;
        state.view = None;
        drop(state);

        let (versions, begun) = (dropped.len(), Instant::now());
        let done = self.measures.thinnings.time(|| {
            let (batch, freed) = thinned(&*self.engine, &mut dropped)?;
            self.measures.commits.time(|| self.engine.write(&batch))?;
            Ok((room_of_all(&batch.blocks), freed))
        });
        self.measures.thinned(versions - dropped.len());

        let mut state = self.state();
        state.thinning = false;
        state.rest = rest_after(begun.elapsed());
        state.view = None;
        state.dropped = dropped;
        match done {
            Ok((taken, freed)) => state.stored_bytes = (state.stored_bytes + taken).saturating_sub(freed),
            Err(error) => state.failure = Some(error),
        }
        if !state.has_dropped()
            && let Some(since) = state.thinning_since.take()
        {
            self.measures.compacted(since.elapsed());
        }
        self.bell.notify_all();
        state.has_dropped() && state.failure.is_none()
    }
}

/// How long the thread rests after a piece of work that took so long.
fn rest_after(took: Duration) -> Duration {
    (took * RESTS).min(REST_MAX)
}

/// A block shorter than this shares a page with others.
const PAGE_BYTES: u64 = 4 << 10;

/// How much a block takes up in the engine: pages are as long as a power of two.
fn room_of(block_bytes: usize) -> u64 {
    let bytes = block_bytes as u64 + 64;
    if bytes < PAGE_BYTES / 2 { bytes } else { bytes.next_power_of_two() }
}

fn room_of_all(blocks: &[(Revision, Vec<u8>)]) -> u64 {
    blocks.iter().map(|(_, block)| room_of(block.len())).sum()
}
