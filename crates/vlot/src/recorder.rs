//! The flight recorder: the last minutes of what happened to a node and its groups, in memory, and written to a file when a
//! leader changes, a state machine or the node fails, or a program asks.
//!
//! Owns the ring, its bounds, and when a dump is due. What is recorded has a word each in `event.rs`, a dump's text is in
//! `text.rs`, its files are in `files.rs`. Nothing is recorded of a proposal, a read or a heartbeat. Must not know why any of
//! it happened: that is told by `vlot explain`, from the dumps of all nodes.

mod event;
mod files;
mod text;
mod utc;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use vlot_node::act::GroupEvent;
use vlot_raft::id::{GroupId, NodeId, Term};
use vlot_raft::time::Time;

pub use event::{FlightEvent, Kind};
pub(crate) use files::write;
pub use files::{DumpError, EXTENSION, FOLDER, find};
pub use text::{BadDump, BadLine, Dump, Origin, Why};
pub use utc::Utc;

/// The bounds of a flight recorder. Its files take at most about `dumps_max` times twice `bytes_max`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// What the node is called where it is told of; its number, if this is empty. At most 64 bytes of it are kept.
    pub label: String,
    /// How many bytes of events are kept in memory; the oldest go first.
    pub bytes_max: usize,
    /// How long an event is kept.
    pub age_max: Duration,
    /// How many dumps are kept in the folder `flight`; the oldest go first. Zero: none is ever written but on request.
    pub dumps_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { label: String::new(), bytes_max: 1 << 20, age_max: Duration::from_secs(15 * 60), dumps_max: 16 }
    }
}

/// How long after its cause a dump is written, so that it has what followed.
const SETTLING: Duration = Duration::from_secs(1);
/// How long after a dump the next is written, at least, whatever happens: thousands of groups may change their leaders at
/// once, and a group may change its leader again and again.
const PAUSE: Duration = Duration::from_secs(5);
/// The longest label that is kept, in bytes.
const LABEL_BYTES_MAX: usize = 64;

/// What has happened lately.
///
/// Invariant: `bytes` is the sum of the events' sizes, and at most `limits.bytes_max` unless there is one event alone.
#[derive(Debug)]
pub(crate) struct Recorder {
    limits: Limits,
    folder: PathBuf,
    origin: Origin,
    events: VecDeque<FlightEvent>,
    bytes: usize,
    next: u64,
    /// The moment of the turn that is being recorded.
    now: Time,
    /// For each group the last term in which a leader was known.
    led: BTreeMap<GroupId, Term>,
    due: Option<(Time, Why)>,
    dumped: Option<Time>,
}

impl Recorder {
    pub(crate) fn new(limits: Limits, folder: PathBuf, (cluster, node): (u64, NodeId), boot: u64) -> Self {
        let mut label = limits.label.clone();
        label.truncate(label.floor_char_boundary(LABEL_BYTES_MAX));
        Self {
            limits,
            folder,
            origin: Origin { node, cluster, label, boot },
            events: VecDeque::new(),
            bytes: 0,
            next: 1,
            now: Time::default(),
            led: BTreeMap::new(),
            due: None,
            dumped: None,
        }
    }

    /// What is recorded from here on happens at this moment.
    pub(crate) fn turn(&mut self, now: Time) {
        self.now = now;
    }

    /// When a dump is to be written.
    pub(crate) fn deadline(&self) -> Time {
        self.due.map_or(Time::NEVER, |(due, _)| due)
    }

    /// Takes the reason of the dump that is due, if one is.
    pub(crate) fn take_due(&mut self) -> Option<Why> {
        let (_, why) = self.due.take_if(|(due, _)| *due <= self.now)?;
        self.dumped = Some(self.now);
        Some(why)
    }

    /// Records something that is about the whole node.
    pub(crate) fn record(&mut self, kind: Kind) {
        self.put(None, kind);
    }

    /// Records something that has happened to a group.
    pub(crate) fn record_of(&mut self, group: GroupId, kind: Kind) {
        self.put(Some(group), kind);
    }

    /// Records what a group's consensus or state machine tells, if it has a place here.
    pub(crate) fn hear(&mut self, group: GroupId, event: &GroupEvent) {
        match event {
            GroupEvent::Became(state) if state.leader.is_some() && self.is_later(group, state.term) => {
                self.plan(Why::LeaderChange);
            }
            GroupEvent::Fenced(_) => self.plan(Why::Fenced),
            _ => {}
        }
        if let Some(kind) = Kind::of(event) {
            self.put(Some(group), kind);
        }
    }

    /// Takes note that a leader of this term is known, and tells whether it is later than the last one that was.
    fn is_later(&mut self, group: GroupId, term: Term) -> bool {
        self.led.insert(group, term).is_none_or(|before| before < term)
    }

    /// A group is open on this node no more.
    pub(crate) fn forget(&mut self, group: GroupId) {
        self.led.remove(&group);
    }

    /// All that is kept, to be written.
    pub(crate) fn dump(&mut self, why: Why) -> Dump {
        self.drop_old();
        let dropped = self.next - 1 - self.events.len() as u64;
        let (origin, events) = (self.origin.clone(), self.events.iter().cloned().collect());
        Dump { origin, why, at: self.now.since_origin(), wall: wall(), dropped, events }
    }

    /// Where dumps are kept, and how many.
    pub(crate) fn place(&self) -> (PathBuf, usize) {
        (self.folder.clone(), self.limits.dumps_max)
    }

    fn plan(&mut self, why: Why) {
        if self.limits.dumps_max > 0 && self.due.is_none() {
            let due = self.now + SETTLING;
            self.due = Some((self.dumped.map_or(due, |dumped| due.max(dumped + PAUSE)), why));
        }
    }

    fn put(&mut self, group: Option<GroupId>, kind: Kind) {
        let event = FlightEvent { sequence: self.next, at: self.now.since_origin(), wall: wall(), group, kind };
        self.next += 1;
        self.bytes += event.bytes();
        self.events.push_back(event);
        while self.bytes > self.limits.bytes_max && self.events.len() > 1 {
            self.drop_oldest();
        }
        self.drop_old();
    }

    fn drop_old(&mut self) {
        let oldest = self.now.since_origin().saturating_sub(self.limits.age_max);
        while self.events.front().is_some_and(|event| event.at < oldest) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        self.bytes -= self.events.pop_front().map_or(0, |event| event.bytes());
    }
}

/// What the clock on the wall says, since the beginning of 1970.
fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use vlot_raft::effect::{RoleName, RoleState};

    fn recorder(limits: Limits) -> Recorder {
        Recorder::new(limits, PathBuf::from("flight"), (1, NodeId(2)), 7)
    }

    fn leads(term: u64) -> GroupEvent {
        GroupEvent::Became(RoleState { term: Term(term), role: RoleName::Follower, leader: Some(NodeId(1)) })
    }

    #[test]
    fn the_oldest_goes_when_there_is_too_much_or_it_is_too_old() {
        let size = FlightEvent::size_of(&Kind::Connected { peer: NodeId(1), disk: 0 });
        let limits = Limits { bytes_max: 10 * size, age_max: Duration::from_secs(60), ..Limits::default() };
        let mut recorder = recorder(limits);
        for second in 0..25 {
            recorder.turn(Time::from_millis(1000 * second));
            recorder.record(Kind::Connected { peer: NodeId(second), disk: 0 });
        }
        let dump = recorder.dump(Why::Asked);
        let kept: Vec<u64> = dump.events.iter().map(|event| event.sequence).collect();
        assert_eq!((kept, dump.dropped), ((16..=25).collect(), 15));
        recorder.turn(Time::from_millis(82_000));
        let dump = recorder.dump(Why::Asked);
        assert_eq!((dump.events.len(), dump.dropped), (3, 22), "those of the last minute");
        recorder.record(Kind::Stop { why: "x".repeat(20 * size) });
        assert_eq!(recorder.dump(Why::Asked).events.len(), 1, "one that is too large by itself is kept alone");
    }

    #[test]
    fn a_dump_is_due_a_while_after_a_leader_changes_and_not_soon_again() {
        let group = GroupId(1);
        let mut recorder = recorder(Limits::default());
        recorder.turn(Time::from_millis(10_000));
        recorder.hear(group, &leads(3));
        assert_eq!(recorder.deadline(), Time::from_millis(11_000));
        recorder.turn(Time::from_millis(10_500));
        recorder.hear(GroupId(2), &leads(9));
        assert_eq!(recorder.deadline(), Time::from_millis(11_000), "one dump tells of both");
        assert_eq!(recorder.take_due(), None);
        recorder.turn(Time::from_millis(11_000));
        assert_eq!((recorder.take_due(), recorder.take_due()), (Some(Why::LeaderChange), None));
        recorder.hear(group, &leads(3));
        assert_eq!(recorder.deadline(), Time::NEVER, "it is the same leader");
        recorder.hear(group, &leads(4));
        assert_eq!(recorder.deadline(), Time::from_millis(16_000), "not soon again");
    }

    #[test]
    fn without_room_for_dumps_none_is_due() {
        let mut recorder = recorder(Limits { dumps_max: 0, ..Limits::default() });
        recorder.hear(GroupId(1), &leads(3));
        assert_eq!(recorder.deadline(), Time::NEVER);
        assert_eq!(recorder.dump(Why::Asked).events.len(), 1);
    }
}
