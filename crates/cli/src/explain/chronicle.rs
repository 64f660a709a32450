//! The records of all nodes as one: each event once, in the order of one common clock.
//!
//! Owns how dumps of one process are joined and how the clocks of nodes are aligned: a vote was asked for before it was given,
//! and given before it was counted, whatever the clocks on the walls say. Must not know what a change of leader is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vlot::election::Poll;
use vlot::recorder::{Dump, FlightEvent, Kind, Utc};
use vlot::{GroupId, NodeId, RoleName, Term};

/// A moment of the common clock, in microseconds since the beginning of 1970.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Moment(pub(super) i64);

impl Moment {
    pub(super) fn before(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(micros(time)))
    }

    pub(super) fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(micros(time)))
    }

    /// How long after another; zero if it is not later.
    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0).max(0).unsigned_abs())
    }

    pub(super) fn utc(self) -> Utc {
        Utc(Duration::from_micros(self.0.max(0).unsigned_abs()))
    }
}

/// Everything that is on record.
pub(super) struct Chronicle {
    pub(super) nodes: BTreeMap<NodeId, NodeRecord>,
}

/// What is on record of one node.
pub(super) struct NodeRecord {
    pub(super) label: String,
    /// Its processes, in their order.
    pub(super) boots: Vec<Boot>,
    /// How far its clock runs ahead of the common one, in microseconds, and how certain that is.
    pub(super) ahead: i64,
    pub(super) aligned: Aligned,
}

/// How the clock of a node was aligned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Aligned {
    /// It agrees with the others, as far as can be told; or it is the one that counts.
    Agrees,
    /// By votes, which leave this much open, in microseconds; none if they bound it on one side alone.
    ByVotes(Option<i64>),
}

/// What is on record of one process.
pub(super) struct Boot {
    /// Its first event that is kept, and when its newest dump was written: nothing is known after that.
    pub(super) from: Moment,
    pub(super) upto: Moment,
    pub(super) events: Vec<Noted>,
}

/// An event at its moment.
#[derive(Clone, Debug)]
pub(super) struct Noted {
    pub(super) at: Moment,
    pub(super) group: Option<GroupId>,
    pub(super) kind: Kind,
}

impl Chronicle {
    /// Joins dumps of one cluster.
    pub(super) fn of(dumps: Vec<Dump>) -> Self {
        let mut nodes: BTreeMap<NodeId, Vec<Process>> = BTreeMap::new();
        let mut labels: BTreeMap<NodeId, (Duration, String)> = BTreeMap::new();
        for dump in dumps {
            let label = labels.entry(dump.origin.node).or_default();
            if dump.wall >= label.0 {
                *label = (dump.wall, dump.origin.label.clone());
            }
            let processes = nodes.entry(dump.origin.node).or_default();
            match processes.iter_mut().find(|process| process.boot == dump.origin.boot) {
                Some(process) => process.join(dump),
                None => processes.push(Process::of(dump)),
            }
        }
        let record = |(node, mut processes): (NodeId, Vec<Process>)| {
            processes.sort_by_key(|process| process.began());
            let label = labels.remove(&node).map(|(_, label)| label).unwrap_or_default();
            let boots = processes.into_iter().map(Process::into_boot).collect();
            (node, NodeRecord { label, boots, ahead: 0, aligned: Aligned::Agrees })
        };
        let mut chronicle = Self { nodes: nodes.into_iter().map(record).collect() };
        chronicle.align();
        chronicle
    }

    /// The groups of which something is on record.
    pub(super) fn groups(&self) -> BTreeSet<GroupId> {
        self.nodes.values().flat_map(NodeRecord::events).filter_map(|event| event.group).collect()
    }

    /// The nodes of a group, whether or not they have a record: its members, those that lead or ask, and those that have it.
    pub(super) fn nodes_of(&self, group: GroupId) -> BTreeSet<NodeId> {
        let mut nodes = BTreeSet::new();
        for (node, record) in &self.nodes {
            for event in record.of(group) {
                nodes.insert(*node);
                match &event.kind {
                    Kind::Became { leader: Some(other), .. }
                    | Kind::WasAsked { candidate: other, .. }
                    | Kind::Answered { voter: other, .. } => _ = nodes.insert(*other),
                    Kind::Members { all } => nodes.extend(members(all).map(|(node, _)| node)),
                    _ => {}
                }
            }
        }
        nodes
    }

    /// What a node is called.
    pub(super) fn name(&self, node: NodeId) -> String {
        match self.nodes.get(&node) {
            Some(NodeRecord { label, .. }) if !label.is_empty() => label.clone(),
            _ => format!("n{:x}", node.0),
        }
    }

    /// Where a node listens, as members' lists say.
    pub(super) fn address(&self, node: NodeId) -> Option<&str> {
        let events = self.nodes.values().flat_map(NodeRecord::events);
        let lists = events.filter_map(|event| if let Kind::Members { all } = &event.kind { Some(all) } else { None });
        let mut addresses = lists.flat_map(|all| members(all)).filter(|(member, _)| *member == node);
        addresses.find_map(|(_, address)| Some(address).filter(|address| !address.is_empty()))
    }

    /// Moves the clocks of nodes to that of the one which has most in common with the others.
    fn align(&mut self) {
        let bounds = self.bounds();
        let degree = |node: NodeId| bounds.keys().filter(|(one, other)| *one == node || *other == node).count();
        let Some(reference) = self.nodes.keys().copied().max_by_key(|node| (degree(*node), std::cmp::Reverse(*node)))
        else {
            return;
        };
        let mut known = BTreeMap::from([(reference, (0, Aligned::Agrees))]);
        // What is bounded on both sides is told before what is bounded on one.
        for is_sure in [true, false] {
            loop {
                let next = bounds.iter().find_map(|((from, to), bounds)| {
                    let (from, to, bounds) = match (known.contains_key(from), known.contains_key(to)) {
                        (true, false) => (*from, *to, *bounds),
                        (false, true) => (*to, *from, bounds.reversed()),
                        _ => return None,
                    };
                    let is_tight = bounds.least.is_some() && bounds.most.is_some();
                    (is_tight || !is_sure).then_some((from, to, bounds))
                });
                let Some((from, to, bounds)) = next else { break };
                let (ahead, aligned) = bounds.moved(known[&from].0);
                known.insert(to, (ahead, aligned));
            }
        }
        for (node, (ahead, aligned)) in known {
            if let Some(record) = self.nodes.get_mut(&node) {
                (record.ahead, record.aligned) = (ahead, aligned);
                record.boots.iter_mut().for_each(|boot| boot.shift(-ahead));
            }
        }
    }

    /// For pairs of nodes, how far the clock of the second can run ahead of that of the first.
    fn bounds(&self) -> BTreeMap<(NodeId, NodeId), Bounds> {
        let mut all: BTreeMap<(NodeId, NodeId), Bounds> = BTreeMap::new();
        let mut bound = |first: NodeId, then: NodeId, ahead_at_most: i64| {
            if first != then {
                let (pair, is_turned) = if first < then { ((first, then), false) } else { ((then, first), true) };
                let bounds = all.entry(pair).or_default();
                // What is told of the one is told of the other the other way round.
                if is_turned { bounds.is_at_least(-ahead_at_most) } else { bounds.is_at_most(ahead_at_most) }
            }
        };
        let asked: BTreeMap<NodeId, Vec<Ask>> =
            self.nodes.iter().map(|(node, record)| (*node, record.asks())).collect();
        let led: BTreeMap<(GroupId, Term), (NodeId, Moment)> = self.offices();
        for (voter, record) in &self.nodes {
            for event in record.events() {
                let Some(group) = event.group else { continue };
                match &event.kind {
                    Kind::WasAsked { poll: Poll::Vote, candidate, term, .. } => {
                        let asks = asked.get(candidate).into_iter().flatten();
                        for ask in asks.filter(|ask| (ask.group, ask.term) == (group, *term)) {
                            // It was asked before it answered, and had answered before that was counted.
                            bound(*candidate, *voter, event.at.0 - ask.at.0);
                            if let Some((_, counted)) = ask.counted.iter().find(|(by, _)| by == voter) {
                                bound(*voter, *candidate, counted.0 - event.at.0);
                            }
                        }
                    }
                    Kind::Became { term, role: RoleName::Follower, leader: Some(leader) } => {
                        // It led before that was heard.
                        if let Some((_, since)) = led.get(&(group, *term)).filter(|(led_by, _)| led_by == leader) {
                            bound(*leader, *voter, event.at.0 - since.0);
                        }
                    }
                    _ => {}
                }
            }
        }
        all
    }

    /// When nodes came to lead, as they say themselves.
    fn offices(&self) -> BTreeMap<(GroupId, Term), (NodeId, Moment)> {
        let mut offices = BTreeMap::new();
        for (node, record) in &self.nodes {
            for event in record.events() {
                if let (Some(group), Kind::Became { term, role: RoleName::Leader, .. }) = (event.group, &event.kind) {
                    offices.entry((group, *term)).or_insert((*node, event.at));
                }
            }
        }
        offices
    }
}

/// The members of a list as it is recorded: `NODE:SEAT@ADDRESS`, with spaces between them.
fn members(all: &str) -> impl Iterator<Item = (NodeId, &str)> {
    all.split(' ').filter_map(|member| {
        let (node, rest) = member.split_once(':')?;
        Some((NodeId(u64::from_str_radix(node, 16).ok()?), rest.split_once('@')?.1))
    })
}

/// A call for votes.
struct Ask {
    group: GroupId,
    term: Term,
    at: Moment,
    /// Which answers were counted, and when.
    counted: Vec<(NodeId, Moment)>,
}

impl NodeRecord {
    pub(super) fn events(&self) -> impl Iterator<Item = &Noted> {
        self.boots.iter().flat_map(|boot| &boot.events)
    }

    /// Its events of a group alone.
    pub(super) fn of(&self, group: GroupId) -> impl Iterator<Item = &Noted> {
        self.events().filter(move |event| event.group == Some(group))
    }

    /// The process that is on record at a moment.
    pub(super) fn boot_at(&self, at: Moment) -> Option<&Boot> {
        self.boots.iter().find(|boot| boot.from <= at && at <= boot.upto)
    }

    fn asks(&self) -> Vec<Ask> {
        let mut terms: BTreeMap<GroupId, Term> = BTreeMap::new();
        let mut asks: Vec<Ask> = Vec::new();
        for event in self.events() {
            let Some(group) = event.group else { continue };
            match &event.kind {
                Kind::Became { term, .. } | Kind::LaterTerm { term, .. } => _ = terms.insert(group, *term),
                // It is put on record before the candidate enters the term.
                Kind::Asks { poll: Poll::Vote, .. } => {
                    let term = terms.get(&group).copied().unwrap_or(Term::ZERO).next();
                    asks.push(Ask { group, term, at: event.at, counted: Vec::new() });
                }
                Kind::Answered { poll: Poll::Vote, voter, .. } => {
                    if let Some(ask) = asks.iter_mut().rev().find(|ask| ask.group == group) {
                        ask.counted.push((*voter, event.at));
                    }
                }
                _ => {}
            }
        }
        asks
    }
}

impl Boot {
    fn shift(&mut self, micros: i64) {
        let shift = |moment: &mut Moment| moment.0 = moment.0.saturating_add(micros);
        shift(&mut self.from);
        shift(&mut self.upto);
        self.events.iter_mut().for_each(|event| shift(&mut event.at));
    }
}

/// How far one clock can run ahead of another, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Bounds {
    least: Option<i64>,
    most: Option<i64>,
}

impl Bounds {
    fn is_at_most(&mut self, ahead: i64) {
        self.most = Some(self.most.map_or(ahead, |most| most.min(ahead)));
    }

    fn is_at_least(&mut self, ahead: i64) {
        self.least = Some(self.least.map_or(ahead, |least| least.max(ahead)));
    }

    fn reversed(self) -> Self {
        Self { least: self.most.map(|most| -most), most: self.least.map(|least| -least) }
    }

    /// How far the second clock runs ahead of the common one, if the first runs ahead by so much. One that may agree does.
    fn moved(self, first: i64) -> (i64, Aligned) {
        let Self { least, most } = self;
        let [least, most] = [least, most].map(|bound| bound.map(|bound| bound.saturating_add(first)));
        match (least, most) {
            (Some(least), Some(most)) if least > 0 || most < 0 => {
                // A clock that was set meanwhile leaves no room between them.
                let (least, most) = (least.min(most), least.max(most));
                (least + (most - least) / 2, Aligned::ByVotes(Some((most - least + 1) / 2)))
            }
            (Some(least), None) if least > 0 => (least, Aligned::ByVotes(None)),
            (None, Some(most)) if most < 0 => (most, Aligned::ByVotes(None)),
            _ => (0, Aligned::Agrees),
        }
    }
}

/// The dumps of one process.
struct Process {
    boot: u64,
    /// What the clock on the wall said at its start, as of its newest dump: between two events of a process time is that of
    /// its own clock, which is never set.
    start: i64,
    upto: Duration,
    events: BTreeMap<u64, FlightEvent>,
}

impl Process {
    fn of(dump: Dump) -> Self {
        let mut process = Self { boot: dump.origin.boot, start: 0, upto: Duration::ZERO, events: BTreeMap::new() };
        process.join(dump);
        process
    }

    fn join(&mut self, dump: Dump) {
        if self.events.is_empty() || dump.at > self.upto {
            self.start = micros(dump.wall).saturating_sub(micros(dump.at));
            self.upto = dump.at;
        }
        self.events.extend(dump.events.into_iter().map(|event| (event.sequence, event)));
    }

    fn began(&self) -> Moment {
        Moment(self.start)
    }

    fn into_boot(self) -> Boot {
        let Self { start, upto, events, .. } = self;
        let at = |time| Moment(start.saturating_add(micros(time)));
        let noted = |event: FlightEvent| Noted { at: at(event.at), group: event.group, kind: event.kind };
        let events: Vec<Noted> = events.into_values().map(noted).collect();
        let upto = at(upto);
        Boot { from: events.first().map_or(upto, |event| event.at), upto, events }
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_may_agree_is_left_alone_and_another_is_moved_to_the_middle() {
        let bounds = |least, most| Bounds { least, most };
        let rows = [
            (bounds(Some(-5), Some(7)), 0, (0, Aligned::Agrees)),
            (bounds(None, Some(7)), 0, (0, Aligned::Agrees)),
            (bounds(Some(100), Some(120)), 0, (110, Aligned::ByVotes(Some(10)))),
            (bounds(Some(-120), Some(-100)), 0, (-110, Aligned::ByVotes(Some(10)))),
            (bounds(Some(100), Some(120)), -110, (0, Aligned::Agrees)),
            (bounds(Some(100), None), 0, (100, Aligned::ByVotes(None))),
            (bounds(None, Some(-100)), 0, (-100, Aligned::ByVotes(None))),
            (bounds(Some(120), Some(100)), 0, (110, Aligned::ByVotes(Some(10)))),
        ];
        for (bounds, first, expected) in rows {
            assert_eq!(bounds.moved(first), expected, "{bounds:?} beside a clock that is {first} ahead");
            let (ahead, aligned) = bounds.reversed().moved(-first);
            assert_eq!((-ahead, aligned), expected, "the other way round");
        }
    }

    #[test]
    fn members_are_read_as_they_are_recorded() {
        let all: Vec<_> = members("1:voter@a:1 8e9e:learner@ nonsense 3:voter-witness@b@c:2").collect();
        assert_eq!(all, [(NodeId(1), "a:1"), (NodeId(0x8e9e), ""), (NodeId(3), "b@c:2")]);
    }
}
