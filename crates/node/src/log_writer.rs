//! What a node's log is asked to write, and what of it waits while the disk is full.
//!
//! Sans-IO: writing itself is the caller's. Owns what waits and in which order it is written. Must not know of threads,
//! of roles, or of what waits for a batch.
//!
//! A log that has no room refuses entries and still takes votes and begins (`vlot-log`, `log/room.rs`). So those
//! overtake entries, which a vote or a begin neither needs nor vouches for: a node that loses the entries in a crash is
//! one that never had them, and it has acknowledged none. Entries of a group keep their order, and are written once there
//! is room. That nothing more comes meanwhile is consensus's part, which is told that there is none.

use std::collections::BTreeMap;

use bytes::Bytes;
use vlot_log::error::WriteError;
use vlot_log::record::{Entry, Write};
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};

use crate::act::BatchId;

/// Writes batches, and keeps what is refused for want of room.
#[derive(Debug, Default)]
pub struct LogWriter {
    waiting: BTreeMap<GroupId, Waiting>,
    /// The last batch that it was given.
    last: BatchId,
    reported: Option<Durable>,
}

/// How much is durable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Durable {
    /// This batch, and all before it.
    All(BatchId),
    /// Of this batch and those before it everything but entries, some of which wait for room.
    ButForEntries(BatchId),
}

/// What of one group waits, in the order in which it will be written.
#[derive(Debug, Default)]
struct Waiting {
    /// The group is to be removed from the log before anything else.
    removed: bool,
    vote: Option<(Term, Option<NodeId>)>,
    /// Where the log is to begin.
    begin: Option<(LogId, Bytes)>,
    /// The entry after which the log is to be cut, and what follows it then.
    tail: Option<(LogIndex, Vec<Entry>)>,
}

/// How many bytes of what has waited are written at once.
const AGAIN_BYTES: u64 = 8 << 20;

impl LogWriter {
    /// Writes a batch with `put`, which is [`Log::write`](vlot_log::log::Log::write); without room, what of it needs
    /// none. Nothing is durable before a sync.
    ///
    /// # Errors
    /// Any but for want of room.
    pub fn write(
        &mut self,
        batch: BatchId,
        writes: Vec<Write>,
        put: &mut dyn FnMut(&[Write]) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        self.last = batch;
        if self.waiting.is_empty() && is_done(put(&writes))? {
            return Ok(());
        }
        for write in writes {
            self.waiting.entry(write.group()).or_default().take(write);
        }
        self.write_what_needs_no_room(put)
    }

    /// Writes what waits, as far as there is room.
    ///
    /// # Errors
    /// Any but for want of room.
    pub fn try_again(&mut self, put: &mut dyn FnMut(&[Write]) -> Result<(), WriteError>) -> Result<(), WriteError> {
        self.write_what_needs_no_room(put)?;
        while let Some((&group, waiting)) = self.waiting.iter_mut().next() {
            let Some(part) = waiting.next_part(group) else { break };
            if !is_done(put(std::slice::from_ref(&part)))? {
                break;
            }
            waiting.forget_part(&part);
            if waiting.is_empty() {
                self.waiting.remove(&group);
            }
        }
        Ok(())
    }

    /// Whether something waits for room.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// A sync is done. Gives back what is durable by it, if that is more than before.
    pub fn synced(&mut self) -> Option<Durable> {
        let durable = if self.waiting.is_empty() {
            Durable::All(self.last)
        } else if self
            .waiting
            .values()
            .all(|waiting| !waiting.removed && waiting.vote.is_none() && waiting.begin.is_none())
        {
            Durable::ButForEntries(self.last)
        } else {
            return None;
        };
        (self.reported.replace(durable) != Some(durable)).then_some(durable)
    }

    /// Votes, begins, and cuts alone.
    fn write_what_needs_no_room(
        &mut self,
        put: &mut dyn FnMut(&[Write]) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        let small: Vec<Write> =
            self.waiting.iter().flat_map(|(group, waiting)| waiting.what_needs_no_room(*group)).collect();
        // Even what is held back for them may be used up; then all waits.
        if !small.is_empty() && is_done(put(&small))? {
            self.waiting.retain(|_, waiting| {
                (waiting.removed, waiting.vote, waiting.begin) = (false, None, None);
                waiting.tail.as_ref().is_some_and(|(_, entries)| !entries.is_empty())
            });
        }
        Ok(())
    }
}

impl Waiting {
    /// Takes in what comes after all that waits.
    fn take(&mut self, write: Write) {
        match write {
            Write::Vote { term, vote, .. } => self.vote = Some((term, vote)),
            Write::LogStart { after, note, .. } => self.begin_after(after, note),
            Write::Append { after, entries, .. } => self.append(after, entries),
            // What cannot be read is not written again while there is no room; and it is asked for again.
            Write::Rewrite { .. } => {}
            Write::Remove { .. } => *self = Self { removed: true, ..Self::default() },
        }
    }

    fn append(&mut self, after: LogIndex, mut entries: Vec<Entry>) {
        match &mut self.tail {
            Some((begin, waiting)) if after >= *begin => {
                let kept = after.since(*begin);
                assert!(kept <= waiting.len() as u64, "entries follow {after}, and {begin} and {} wait", waiting.len());
                waiting.truncate(kept as usize);
                waiting.append(&mut entries);
            }
            _ => self.tail = Some((after, entries)),
        }
    }

    /// The log is to begin after an entry: it is what it would be if that came after all that waits.
    fn begin_after(&mut self, id: LogId, note: Bytes) {
        if let Some((begin, waiting)) = &mut self.tail
            && id.index > *begin
        {
            let at = id.index.since(*begin) as usize - 1;
            if waiting.get(at).is_some_and(|entry| entry.id == id) {
                waiting.drain(..=at);
            } else {
                // Another history, or one that goes further. The log may hold more than what waits lets it have.
                waiting.clear();
            }
            *begin = id.index;
        }
        if self.begin.as_ref().is_none_or(|(earlier, _)| earlier.index <= id.index) {
            self.begin = Some((id, note));
        }
    }

    fn is_empty(&self) -> bool {
        !self.removed && self.vote.is_none() && self.begin.is_none() && self.tail.is_none()
    }

    fn what_needs_no_room(&self, group: GroupId) -> Vec<Write> {
        let removal = self.removed.then_some(Write::Remove { group });
        let vote = self.vote.map(|(term, vote)| Write::Vote { group, term, vote });
        let begin = self.begin.clone().map(|(after, note)| Write::LogStart { group, after, note });
        let cut = self.tail.as_ref().filter(|(_, entries)| entries.is_empty());
        let cut = cut.map(|&(after, _)| Write::Append { group, after, entries: Vec::new() });
        removal.into_iter().chain(vote).chain(begin).chain(cut).collect()
    }

    /// The first entries, if nothing else waits that goes before them.
    fn next_part(&self, group: GroupId) -> Option<Write> {
        let (after, entries) =
            self.tail.as_ref().filter(|_| !self.removed && self.vote.is_none() && self.begin.is_none())?;
        let mut bytes = 0;
        let few = entries.iter().take_while(|entry| {
            let is_room = bytes < AGAIN_BYTES;
            bytes += entry.payload.len() as u64 + 16;
            is_room
        });
        Some(Write::Append { group, after: *after, entries: few.cloned().collect() })
    }

    fn forget_part(&mut self, part: &Write) {
        let (Write::Append { entries: done, .. }, Some((begin, waiting))) = (part, &mut self.tail) else { return };
        waiting.drain(..done.len());
        *begin = LogIndex(begin.0 + done.len() as u64);
        if waiting.is_empty() {
            self.tail = None;
        }
    }
}

/// False if there was no room.
fn is_done(put: Result<(), WriteError>) -> Result<bool, WriteError> {
    match put {
        Ok(()) => Ok(true),
        Err(WriteError::NoSpace(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
