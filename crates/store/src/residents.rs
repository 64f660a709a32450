//! Which values are in memory, oldest first.
//!
//! Owns the order in which values leave memory when there are too many bytes of them. Must not know where the values
//! are; it names them by key and revision.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::mvcc::revision::Revision;

/// A value that is in memory, or was until its version was compacted.
#[derive(Clone, Debug)]
pub(crate) struct Resident {
    pub key: Bytes,
    pub revision: Revision,
}

/// The queue of values. A version that was compacted leaves its entry behind until [`Residents::sweep`] comes round.
#[derive(Debug, Default)]
pub(crate) struct Residents {
    /// Seen by the sweep that is under way; older than all in `queue`.
    swept: Queue,
    queue: Queue,
}

impl Residents {
    pub fn push(&mut self, resident: Resident) {
        self.queue.push(resident);
    }

    pub fn oldest(&self) -> Option<&Resident> {
        self.swept.first().or_else(|| self.queue.first())
    }

    pub fn pop_oldest(&mut self) -> Option<Resident> {
        self.swept.pop().or_else(|| self.queue.pop())
    }

    /// Looks at up to `count` entries and keeps those that `is_resident`. Returns whether the sweep has more to do.
    pub fn sweep(&mut self, count: usize, mut is_resident: impl FnMut(&Resident) -> bool) -> bool {
        for _ in 0..count {
            match self.queue.pop() {
                Some(resident) if is_resident(&resident) => self.swept.push(resident),
                Some(_) => {}
                None => {
                    self.queue = std::mem::take(&mut self.swept);
                    return false;
                }
            }
        }
        true
    }
}

/// A queue in pieces, so that a push never has to move millions of entries to a larger place.
#[derive(Debug, Default)]
struct Queue {
    /// None of them is empty.
    pieces: VecDeque<VecDeque<Resident>>,
}

impl Queue {
    const PIECE: usize = 1024;

    fn push(&mut self, resident: Resident) {
        match self.pieces.back_mut() {
            Some(last) if last.len() < Self::PIECE => last.push_back(resident),
            _ => {
                let mut piece = VecDeque::with_capacity(Self::PIECE);
                piece.push_back(resident);
                self.pieces.push_back(piece);
            }
        }
    }

    fn first(&self) -> Option<&Resident> {
        self.pieces.front()?.front()
    }

    fn pop(&mut self) -> Option<Resident> {
        let piece = self.pieces.front_mut()?;
        let oldest = piece.pop_front();
        if piece.is_empty() {
            self.pieces.pop_front();
        }
        oldest
    }
}
