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
use vlot::MemberChange;
use vlot::wire::PeerMessage;
use vlot_log::record::Write;
use vlot_raft::configuration::{ChangeRefused, Configuration, Seat};
use vlot_raft::effect::{Event, RoleState, TransferRefused};
use vlot_raft::id::LogId;
use vlot_raft::message::Body;

/// How many notes are kept when only the end is of interest.
const END_NOTES: usize = 400;

/// What happened.
#[derive(Clone, Debug)]
pub enum Note {
    /// The world and its conditions.
    Begin(String),
    /// A process has started, with a log that begins after the first and ends with the second, and this state.
    Started(Place, LogId, LogId, LogId),
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
    /// A node keeps another out, which it knows by another disk.
    KeptOut(Place, Place),
    /// Two nodes are connected.
    Connected(Place, Place),
    /// They are not any more.
    Disconnected(Place, Place),
    /// A node asks its disk for these.
    Wrote(Place, u64, Rc<Vec<Write>>),
    /// They are durable, or all of them but the entries, which wait for room.
    Synced(Place, u64, bool),
    /// Term, role or leader have changed.
    Became(Place, RoleState),
    /// What else has happened to a replica.
    Happened(Place, Event),
    /// An operator asks a node for this.
    Asked(Place, Vec<MemberChange>),
    /// A node hears that a change of members is not begun.
    ChangeRefused(Place, ChangeRefused),
    /// A hand-over is begun or not.
    Transfer(Place, Result<(), TransferRefused>),
    /// A machine has lost its disk.
    Lost(Place),
    /// A machine has an empty disk.
    Wiped(Place),
    /// A node gets a snapshot from another, which must reach this.
    Fetches(Place, Place, LogId),
    /// A snapshot of this entry is sent; it may be lost.
    SendsSnapshot(Place, Place, LogId, bool),
    /// A snapshot has come, and its file is durable.
    Staged(Place, LogId),
    /// A state machine has become a snapshot.
    Restored(Place, LogId),
    /// A state machine has saved itself.
    Saved(Place, LogId),
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
    /// It was not taken, for want of room: it is never applied.
    Refused,
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
            Self::Started(place, after, last, applied) => {
                write!(f, "{} starts, log {after} to {last}, applied {applied}", Node(*place))
            }
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
            Self::Synced(place, batch, true) => write!(f, "{} synced #{batch}", Node(*place)),
            Self::Synced(place, batch, false) => write!(f, "{} synced #{batch} but for entries", Node(*place)),
            Self::Became(place, RoleState { term, role, leader }) => {
                write!(f, "{} {role:?} t{term}", Node(*place))?;
                leader.map_or(Ok(()), |leader| write!(f, " of n{leader}"))
            }
            Self::Happened(place, event) => write!(f, "{} {event:?}", Node(*place)),
            Self::Asked(place, changes) => {
                write!(f, "{} <- change", Node(*place))?;
                write_changes(f, changes)
            }
            Self::ChangeRefused(place, why) => write!(f, "{} change refused: {why:?}", Node(*place)),
            Self::Transfer(place, Ok(())) => write!(f, "{} <- hands over", Node(*place)),
            Self::Transfer(place, Err(why)) => write!(f, "{} <- does not hand over: {why:?}", Node(*place)),
            Self::KeptOut(by, place) => write!(f, "{} knows {} by another disk", Node(*by), Node(*place)),
            Self::Lost(place) => write!(f, "{} has lost its disk", Node(*place)),
            Self::Wiped(place) => write!(f, "{} has an empty disk", Node(*place)),
            Self::Fetches(place, from, reach) => {
                write!(f, "{} asks {} for a snapshot of {reach} or later", Node(*place), Node(*from))
            }
            Self::SendsSnapshot(from, to, id, is_lost) => {
                let arrow = if *is_lost { "-x" } else { "->" };
                write!(f, "{} {arrow} {} snapshot of {id}", Node(*from), Node(*to))
            }
            Self::Staged(place, id) => write!(f, "{} has the snapshot of {id}", Node(*place)),
            Self::Restored(place, id) => write!(f, "{} becomes the snapshot of {id}", Node(*place)),
            Self::Saved(place, id) => write!(f, "{} has saved a snapshot of {id}", Node(*place)),
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
            Self::Answered(op, Answer::Refused) => write!(f, "op{} refused", op.0),
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
    match PeerMessage::decode(bytes.clone()) {
        Ok((_, PeerMessage::Raft { message, .. })) => {
            write!(f, "t{} ", message.term)?;
            match message.body {
                Body::AppendEntries { session, entries, configurations, commit } => {
                    write!(f, "AppendEntries after={}", entries.after())?;
                    for (term, first, last) in entries.iter() {
                        write!(f, " {first}..{last}@{term}")?;
                    }
                    for (at, configuration) in configurations {
                        write!(f, " {at}:")?;
                        write_configuration(f, &configuration)?;
                    }
                    write!(f, " commit={commit} session={}", session.0)
                }
                body => write!(f, "{body:?}"),
            }
        }
        Ok((_, PeerMessage::Propose { term, payloads })) => write!(f, "t{term} Propose count={}", payloads.len()),
        Ok((_, PeerMessage::Change { term, request })) => {
            write!(f, "t{term} Change")?;
            write_changes(f, &request.changes)
        }
        Ok((_, PeerMessage::ChangeRefused { why, .. })) => write!(f, "ChangeRefused {why:?}"),
        Ok((_, PeerMessage::ProposalsRefused { term, sequences })) => {
            write!(f, "t{term} ProposalsRefused count={}", sequences.len())
        }
        Err(bad) => write!(f, "{bad}"),
    }
}

fn write_changes(f: &mut fmt::Formatter<'_>, changes: &[MemberChange]) -> fmt::Result {
    changes.iter().try_for_each(|change| match change {
        MemberChange::AddVoter { node, .. } => write!(f, " +n{node}"),
        MemberChange::AddLearner { node, .. } => write!(f, " +n{node}?"),
        MemberChange::AddWitness { node, .. } => write!(f, " +n{node}w"),
        MemberChange::Promote(node) => write!(f, " n{node}!"),
        MemberChange::Demote(node) => write!(f, " n{node}?"),
        MemberChange::Remove(node) => write!(f, " -n{node}"),
        MemberChange::Move { node, address } => write!(f, " n{node} at {address}"),
        MemberChange::BindDisk { node, disk } => write!(f, " n{node} by disk {disk:x}"),
    })
}

/// Nodes with their seats: `n1` votes, `+n2` joins, `-n3` leaves, `~n4` retires, `n5?` learns; `w` is a witness.
fn write_configuration(f: &mut fmt::Formatter<'_>, configuration: &Configuration) -> fmt::Result {
    for (n, member) in configuration.members().iter().enumerate() {
        let (before, after) = match member.seat {
            Seat::Voter => ("", ""),
            Seat::Joining => ("+", ""),
            Seat::Leaving => ("-", ""),
            Seat::Retiring => ("~", ""),
            Seat::Learner => ("", "?"),
        };
        let (comma, witness) = (if n == 0 { "" } else { "," }, if member.witness { "w" } else { "" });
        write!(f, "{comma}{before}n{}{after}{witness}", member.node)?;
    }
    Ok(())
}

fn write_act(f: &mut fmt::Formatter<'_>, act: &Write) -> fmt::Result {
    match act {
        Write::Vote { term, vote, .. } => {
            write!(f, " term {term}")?;
            vote.map_or(Ok(()), |vote| write!(f, " vote n{vote}"))
        }
        Write::LogStart { after, .. } => write!(f, " begin after {after}"),
        Write::Rewrite { entries, .. } => write!(f, " rewrite {}", entries.len()),
        Write::Remove { .. } => write!(f, " remove"),
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
            Self::CrashInInstall { place, how, step, down } => {
                write!(f, "{} {how:?} when a snapshot is {step:?}, down for {down}", Node(*place))
            }
            Self::PauseInTurn { place, pause } => write!(f, "{} for {pause}, before it sends", Node(*place)),
            Self::Clock { place, leap, rate } => write!(f, "{} leaps {leap}, rate {rate}", Node(*place)),
            Self::Unfit { place, unfit } => write!(f, "{} for {unfit}", Node(*place)),
            Self::LostDisk { place } => write!(f, "{} or another", Node(*place)),
            Self::Change { changes } => write_changes(f, changes),
            Self::Transfer { to: Some(to) } => write!(f, "to {}", Node(*to)),
            Self::Transfer { to: None } => write!(f, "to anyone"),
            Self::Compact { place, part } => write!(f, "{} {part} thousandths", Node(*place)),
            Self::Burst { place, writes } => write!(f, "{writes} writes at {}", Node(*place)),
            Self::DiskError { place, of_snapshots, after, sync } => {
                let what = if *sync { "sync" } else { "write" };
                let of = if *of_snapshots { " of snapshots" } else { "" };
                write!(f, "{} {what}{of} after {after} more", Node(*place))
            }
            Self::Rot { place, down } => write!(f, "{} down for {down}", Node(*place)),
            Self::DiskFull { place, at_once, full } => {
                write!(f, "{}{} for {full}", Node(*place), if *at_once { " at once" } else { "" })
            }
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
