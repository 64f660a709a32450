//! What happened, one event a line.
//!
//! Owns the notation. Keeps notes as values and makes text of them only for those who read it, for a run that goes well
//! is read by nobody. Must not know why anything happens.

use crate::agenda::Moment;
use crate::faults::Fault;
use crate::network::{Arrivals, Place};
use crate::register::{Command, Condition, OpId, Value};
use bytes::Bytes;
use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::rc::Rc;
use vlot::wire::Parcel;
use vlot_log::record::Write;
use vlot_raft::effect::Standing;
use vlot_raft::id::LogId;
use vlot_raft::message::Body;

/// How many notes are kept when only the end is of interest.
const END_NOTES: usize = 400;

/// What happened.
#[derive(Clone, Debug)]
pub enum Note {
    /// The world and its conditions.
    Begin(String),
    /// A process has started, with this log and this state.
    Started(Place, LogId, LogId),
    /// A process could not start: storage failed.
    NotStarted(Place),
    /// A process has ended.
    Ended(Place, &'static str),
    /// A process goes on after a pause.
    Resumed(Place),
    /// A fault strikes.
    Struck(&'static str, Fault),
    /// A fault is over.
    Over(&'static str),
    /// A frame is sent, and when it arrives.
    Sent(Place, Place, Bytes, Arrivals),
    /// Two nodes are connected.
    Connected(Place, Place),
    /// They are not any more.
    Disconnected(Place, Place),
    /// A node asks its disk for these.
    Wrote(Place, u64, Rc<Vec<Write>>),
    /// They are durable.
    Synced(Place, u64),
    /// Term, role or leader have changed.
    Became(Place, Standing),
    /// Entries were applied, up to this one.
    Applied(Place, LogId),
    /// A client begins a write.
    Write(Place, Command),
    /// A client begins a read.
    Read(Place, OpId, u8),
    /// An operation has ended.
    Answered(OpId, Answer),
    /// All faults are over.
    Healed,
}

/// How an operation has ended for its client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// It has written.
    Written,
    /// It has not: the register held this.
    NotWritten(Value),
    /// The register held this.
    Held(Value),
    /// Its client knows nothing.
    Unknown,
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
            Self::Started(place, last, applied) => write!(f, "{} starts, log {last}, applied {applied}", Node(*place)),
            Self::NotStarted(place) => write!(f, "{} does not start: storage failed", Node(*place)),
            Self::Ended(place, why) => write!(f, "{} ends: {why}", Node(*place)),
            Self::Resumed(place) => write!(f, "{} goes on", Node(*place)),
            Self::Struck(kind, fault) => write!(f, "! {kind}: {fault}"),
            Self::Over(kind) => write!(f, "! {kind} is over"),
            Self::Sent(from, to, bytes, arrivals) => write_sent(f, *from, *to, bytes, *arrivals),
            Self::Connected(a, b) => write!(f, "{} == {}", Node(*a), Node(*b)),
            Self::Disconnected(a, b) => write!(f, "{} =/= {}", Node(*a), Node(*b)),
            Self::Wrote(place, batch, writes) => {
                write!(f, "{} write #{batch}", Node(*place))?;
                writes.iter().try_for_each(|act| write_act(f, act))
            }
            Self::Synced(place, batch) => write!(f, "{} synced #{batch}", Node(*place)),
            Self::Became(place, Standing { term, role, leader }) => {
                write!(f, "{} {role:?} t{term}", Node(*place))?;
                leader.map_or(Ok(()), |leader| write!(f, " of n{leader}"))
            }
            Self::Applied(place, id) => write!(f, "{} applied ..{id}", Node(*place)),
            Self::Write(place, Command { op, key, condition }) => {
                write!(f, "{} <- op{} key{key} ", Node(*place), op.0)?;
                match condition {
                    Condition::Always => write!(f, "put"),
                    Condition::Holds(value) => write!(f, "swap for {}", Shown(*value)),
                }
            }
            Self::Read(place, op, key) => write!(f, "{} <- op{} key{key} read", Node(*place), op.0),
            Self::Answered(op, Answer::Written) => write!(f, "op{} written", op.0),
            Self::Answered(op, Answer::NotWritten(value)) => write!(f, "op{} not written: {}", op.0, Shown(*value)),
            Self::Answered(op, Answer::Held(value)) => write!(f, "op{} read {}", op.0, Shown(*value)),
            Self::Answered(op, Answer::Unknown) => write!(f, "op{} unknown", op.0),
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

struct Shown(Value);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(op) => write!(f, "op{}", op.0),
            None => write!(f, "nothing"),
        }
    }
}

fn write_sent(f: &mut fmt::Formatter<'_>, from: Place, to: Place, bytes: &Bytes, arrivals: Arrivals) -> fmt::Result {
    let arrow = match arrivals {
        Arrivals { first: None, .. } => "-x",
        Arrivals { second: None, .. } => "->",
        Arrivals { .. } => "=>",
    };
    write!(f, "{} {arrow} {} ", Node(from), Node(to))?;
    match Parcel::decode(bytes.clone()) {
        Ok((_, Parcel::Raft { message, .. })) => {
            write!(f, "t{} ", message.term)?;
            match message.body {
                Body::AppendEntries { entries, commit, .. } => {
                    write!(f, "AppendEntries after={}", entries.after())?;
                    for (term, first, last) in entries.iter() {
                        write!(f, " {first}..{last}@{term}")?;
                    }
                    write!(f, " commit={commit}")
                }
                body => write!(f, "{body:?}"),
            }
        }
        Ok((_, Parcel::Propose { term, payloads })) => write!(f, "t{term} Propose count={}", payloads.len()),
        Ok((_, Parcel::Change { term, request })) => write!(f, "t{term} Change {:?}", request.changes),
        Ok((_, Parcel::ChangeRefused { why, .. })) => write!(f, "ChangeRefused {why:?}"),
        Err(bad) => write!(f, "{bad}"),
    }
}

fn write_act(f: &mut fmt::Formatter<'_>, act: &Write) -> fmt::Result {
    match act {
        Write::Vote { term, vote, .. } => {
            write!(f, " term {term}")?;
            vote.map_or(Ok(()), |vote| write!(f, " vote n{vote}"))
        }
        Write::Begin { after, .. } => write!(f, " begin after {after}"),
        Write::Append { after, entries, .. } => {
            write!(f, " cut {after}")?;
            entries.first().map_or(Ok(()), |first| write!(f, " append {}", first.id))?;
            entries.last().map_or(Ok(()), |last| write!(f, "..{}", last.id))
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash { place, how, down } => write!(f, "{} {how:?}, down for {down}", Node(*place)),
            Self::Pause { place, pause } => write!(f, "{} for {pause}", Node(*place)),
            Self::DiskError { place, after, sync } => {
                write!(f, "{} {} {after} more", Node(*place), if *sync { "sync after" } else { "write after" })
            }
            Self::DiskFull { place, full } => write!(f, "{} for {full}", Node(*place)),
            Self::SlowDisk { place, times, slow } => write!(f, "{} {times} times for {slow}", Node(*place)),
            Self::Cut { directions, breaks, cut } => {
                let how = if *breaks { "breaks" } else { "loses" };
                write!(f, "{how} for {cut}:")?;
                directions.iter().try_for_each(|(from, to)| write!(f, " {}-x{}", Node(*from), Node(*to)))
            }
            Self::Reset { a, b } => write!(f, "{} {}", Node(*a), Node(*b)),
            Self::SlowLink { from, to, times, slow } => {
                write!(f, "{} -> {} {times} times for {slow}", Node(*from), Node(*to))
            }
            Self::Loss { per_million, storm } => write!(f, "{per_million} of a million for {storm}"),
        }
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
