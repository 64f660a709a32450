//! What happened, one event a line.
//!
//! Owns the notation. Keeps notes as values and makes text of them only for a reader, for a run that goes well has
//! none. Must not know why anything happens.

mod fault_shown;
mod frame_shown;

use crate::agenda::Moment;
use crate::faults::Fault;
use crate::network::Arrivals;
use crate::place::{Place, Slot};
use crate::subject::OpId;
use bytes::Bytes;
use frame_shown::{write_act, write_changes, write_sent};
use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::rc::Rc;
use vlot_log::record::Write;
use vlot_node::act::{Answer, GroupEvent};
use vlot_node::members::MemberChange;
use vlot_node::replica::LogRead;
use vlot_raft::effect::RoleState;
use vlot_raft::id::LogId;

/// How many notes are kept when only the end is of interest.
const END_NOTES: usize = 400;

/// Something that shows itself, of a type that only a subject knows.
pub type Shown = Rc<dyn fmt::Debug>;

/// What happened.
#[derive(Clone, Debug)]
pub enum Note {
    /// The world and its conditions.
    Begin(String),
    /// A process has started.
    Started(Place),
    /// A replica begins, with a log that begins after the first and ends with the second, and this state.
    Begun(Place, Slot, LogId, LogId, LogId),
    /// A process could not start: storage failed.
    NotStarted(Place),
    /// A process has ended.
    Ended(Place, &'static str),
    /// A fault strikes.
    Struck(&'static str, Fault),
    /// A fault is over.
    Over(&'static str),
    /// A frame is sent, and when it arrives.
    Sent(Place, Place, Bytes, Arrivals),
    /// A node keeps another out, which it knows by another disk.
    KeptOut(Place, Place),
    /// Two nodes are connected.
    Connected(Place, Place),
    /// They are not any more.
    Disconnected(Place, Place),
    /// A node asks its disk for these.
    Wrote(Place, u64, Rc<Vec<Write>>),
    /// A node asks its disk for entries.
    Reads(Place, Slot, LogRead),
    /// They are durable, or all of them but the entries, which wait for room.
    Synced(Place, u64, bool),
    /// Something has happened to a replica.
    Told(Place, Slot, GroupEvent),
    /// An operator asks a node for this.
    Asked(Place, Slot, Vec<MemberChange>),
    /// A node answers a call that is not a client's.
    Answered(Place, Slot, Answer),
    /// A machine has lost its disk.
    Lost(Place),
    /// A machine has an empty disk.
    Wiped(Place),
    /// A step of a snapshot's way.
    Snapshot(Place, Shown),
    /// A snapshot has come, and its file is durable.
    Staged(Place, Slot, LogId),
    /// A state machine has become a snapshot.
    Restored(Place, Slot, LogId),
    /// A state machine has saved itself.
    Saved(Place, Slot, LogId),
    /// Entries were applied, up to this one.
    Applied(Place, Slot, LogId),
    /// A group is closed.
    Closed(Place, Slot),
    /// A client begins an operation.
    Invoked(Place, Slot, OpId, Shown),
    /// An operation has ended.
    Done(Slot, OpId, Shown),
    /// All faults are over.
    Healed,
}

/// The notes of a run.
#[derive(Debug)]
pub struct Transcript {
    notes: VecDeque<(Moment, Note)>,
    whole: bool,
}

impl Transcript {
    /// An empty transcript; of the whole run, or of its end.
    #[must_use]
    pub fn new(whole: bool) -> Self {
        Self { notes: VecDeque::with_capacity(END_NOTES), whole }
    }

    /// Adds a note.
    pub fn note(&mut self, at: Moment, note: Note) {
        if !self.whole && self.notes.len() == END_NOTES {
            self.notes.pop_front();
        }
        self.notes.push_back((at, note));
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (at, note) in &self.notes {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{at}  {note}");
        }
        text
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin(conditions) => write!(f, "{conditions}"),
            Self::Started(place) => write!(f, "{} starts", Node(*place)),
            Self::Begun(place, slot, after, last, applied) => {
                write!(f, "{} begins, log {after} to {last}, applied {applied}", Replica(*place, *slot))
            }
            Self::NotStarted(place) => write!(f, "{} does not start: storage failed", Node(*place)),
            Self::Ended(place, why) => write!(f, "{} ends: {why}", Node(*place)),
            Self::Struck(kind, fault) => write!(f, "! {kind}: {fault}"),
            Self::Over(kind) => write!(f, "! {kind} is over"),
            Self::Sent(from, to, bytes, arrivals) => write_sent(f, *from, *to, bytes, *arrivals),
            Self::Connected(a, b) => write!(f, "{} == {}", Node(*a), Node(*b)),
            Self::Disconnected(a, b) => write!(f, "{} =/= {}", Node(*a), Node(*b)),
            Self::Wrote(place, batch, writes) => {
                write!(f, "{} write #{batch}", Node(*place))?;
                writes.iter().try_for_each(|act| write_act(f, act))
            }
            Self::Reads(place, slot, LogRead { purpose, after, upto, .. }) => {
                write!(f, "{} reads {after}..{upto} to {purpose:?}", Replica(*place, *slot))
            }
            Self::Synced(place, batch, true) => write!(f, "{} synced #{batch}", Node(*place)),
            Self::Synced(place, batch, false) => write!(f, "{} synced #{batch} but for entries", Node(*place)),
            Self::Told(place, slot, GroupEvent::Became(RoleState { term, role, leader })) => {
                write!(f, "{} {role:?} t{term}", Replica(*place, *slot))?;
                leader.map_or(Ok(()), |leader| write!(f, " of n{leader}"))
            }
            Self::Told(place, slot, event) => write!(f, "{} {event:?}", Replica(*place, *slot)),
            Self::Asked(place, slot, changes) => {
                write!(f, "{} <- change", Replica(*place, *slot))?;
                write_changes(f, changes)
            }
            Self::Answered(place, slot, answer) => write!(f, "{} answers {answer:?}", Replica(*place, *slot)),
            Self::KeptOut(by, place) => write!(f, "{} knows {} by another disk", Node(*by), Node(*place)),
            Self::Lost(place) => write!(f, "{} has lost its disk", Node(*place)),
            Self::Wiped(place) => write!(f, "{} has an empty disk", Node(*place)),
            Self::Snapshot(place, step) => write!(f, "{} snapshot: {step:?}", Node(*place)),
            Self::Staged(place, slot, id) => write!(f, "{} has the snapshot of {id}", Replica(*place, *slot)),
            Self::Restored(place, slot, id) => write!(f, "{} becomes the snapshot of {id}", Replica(*place, *slot)),
            Self::Saved(place, slot, id) => write!(f, "{} has saved a snapshot of {id}", Replica(*place, *slot)),
            Self::Applied(place, slot, id) => write!(f, "{} applied ..{id}", Replica(*place, *slot)),
            Self::Closed(place, slot) => write!(f, "{} is closed", Replica(*place, *slot)),
            Self::Invoked(place, slot, op, request) => {
                write!(f, "{} <- op{} {request:?}", Replica(*place, *slot), op.0)
            }
            Self::Done(slot, op, end) => write!(f, "{}op{} {end:?}", Group(*slot), op.0),
            Self::Healed => write!(f, "! all faults are over"),
        }
    }
}

struct Node(Place);

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0 + 1)
    }
}

/// A group that is not the first is named.
struct Group(Slot);

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { Ok(()) } else { write!(f, "g{} ", self.0 + 1) }
    }
}

struct Replica(Place, Slot);

impl fmt::Display for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.1 == 0 { write!(f, "n{}", self.0 + 1) } else { write!(f, "n{} g{}", self.0 + 1, self.1 + 1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_is_kept_unless_asked() {
        for (whole, kept) in [(true, END_NOTES + 5), (false, END_NOTES)] {
            let mut transcript = Transcript::new(whole);
            (0..END_NOTES as u64 + 5).for_each(|n| transcript.note(Moment(n), Note::Healed));
            assert_eq!(transcript.text().lines().count(), kept);
        }
    }
}
