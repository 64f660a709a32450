//! Operators: they change the members, replace what has lost its disk, and cut logs.
//!
//! Owns what operators have begun and not finished. A disk is lost only where that can be survived: see `may_lose`.

use super::{Event, Phase, World};
use crate::agenda::Span;
use crate::chance::Chance;
use crate::churn::{self, Scene, Spare};
use crate::host::{GROUP, Host};
use crate::network::{Place, node_at, place_of};
use crate::transcript::Note;
use vlot::MemberChange;
use vlot::node::Input;
use vlot::payload::Payload;
use vlot_raft::id::{LogId, LogIndex, NodeId};
use vlot_raft::membership::{Membership, Memberships};

/// Something that an operator comes back to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Errand {
    /// Promote a learner; not much oftener than so many times.
    Promote(Place, u32),
    /// Remove who has lost its disk, and set it up again.
    ReplaceLost,
    /// Let a node back in.
    Return(Place),
}

/// What operators know, and have begun.
#[derive(Debug)]
pub(super) struct Operators {
    /// The newest members that were applied anywhere, and the entry that has set them.
    group: (LogIndex, Membership),
    lost: Option<Lost>,
    /// Frames on their way that ask for a change of members.
    changes_under_way: u32,
    chance: Chance,
}

/// A member whose disk is lost. It is down until the group goes on without it.
#[derive(Clone, Copy, Debug)]
struct Lost {
    place: Place,
    /// It will be set up again with an empty disk. Otherwise it stays away.
    returns: bool,
}

const PROMOTE_TRIES: u32 = 8;

impl Operators {
    pub(super) fn new(founders: Membership, chance: Chance) -> Self {
        Self { group: (LogIndex::ZERO, founders), lost: None, changes_under_way: 0, chance }
    }

    pub(super) fn members(&self) -> &Membership {
        &self.group.1
    }

    pub(super) fn has_lost_disk(&self) -> bool {
        self.lost.is_some()
    }

    /// An entry was applied.
    pub(super) fn applied(&mut self, id: LogId, payload: &Payload) {
        if let Payload::Membership(entry) = payload
            && id.index > self.group.0
        {
            self.group = (id.index, entry.members.membership().clone());
        }
    }
}

impl World {
    /// The machines that are not in the group.
    pub(super) fn spare(&self) -> Vec<Spare> {
        let members = self.operators.members();
        let outside = self.hosts.iter().filter(|host| !members.contains(host.node()));
        outside.map(|host| Spare { place: host.place, is_witness: host.was_witness }).collect()
    }

    /// What operators see; `spare` is what [`World::spare`] gives.
    pub(super) fn scene<'a>(&'a self, spare: &'a [Spare]) -> Scene<'a> {
        Scene { hosts: self.hosts.len(), leader: self.leader(), members: self.operators.members(), spare }
    }

    /// Asks any node for a change, and sets up whoever is to come in.
    pub(super) fn ask_change(&mut self, changes: Vec<MemberChange>) {
        for place in churn::who_comes(&changes).collect::<Vec<_>>() {
            let host = &mut self.hosts[place];
            if !std::mem::replace(&mut host.in_service, true) {
                self.agenda.after(self.operators.chance.span(Span::ZERO, Span::millis(100)), Event::Start(place));
            }
            if self.phase == Phase::Storm && self.operators.chance.below(3) > 0 {
                let again = self.operators.chance.span(Span::millis(100), Span::millis(1000));
                self.agenda.after(again, Event::Operate(Errand::Promote(place, PROMOTE_TRIES)));
            }
        }
        for change in &changes {
            if let MemberChange::AddWitness { node, .. } = change {
                self.hosts[place_of(*node)].was_witness = true;
            }
        }
        let up: Vec<Place> = self.hosts.iter().filter(|host| host.process.is_some()).map(|host| host.place).collect();
        if up.is_empty() {
            return;
        }
        let place = self.operators.chance.pick(&up);
        self.note(Note::Asked(place, changes.clone()));
        if let Some(process) = &mut self.hosts[place].process {
            process.change_members(changes);
            self.wake(place);
        }
    }

    /// A frame that asks for a change has arrived, or was lost.
    pub(super) fn change_arrives(&mut self, to: Place, incarnation: u32, is_lost: bool) {
        self.operators.changes_under_way -= 1;
        let host = &mut self.hosts[to];
        if let Some(process) = host.process.as_mut().filter(|_| host.incarnation == incarnation && !is_lost) {
            process.changes_in_inbox += 1;
        }
    }

    /// A frame that asks for a change is on its way.
    pub(super) fn change_leaves(&mut self) {
        self.operators.changes_under_way += 1;
    }

    pub(super) fn operate(&mut self, errand: Errand) {
        match errand {
            Errand::ReplaceLost => self.replace_lost(),
            Errand::Promote(place, tries) if self.phase == Phase::Storm && tries > 0 => self.promote(place, tries),
            Errand::Return(place) if self.phase == Phase::Storm && !self.operators.has_lost_disk() => {
                if !self.operators.members().contains(node_at(place)) {
                    let change = if self.operators.chance.coin() { churn::voter } else { churn::learner };
                    self.ask_change(vec![change(node_at(place))]);
                }
            }
            Errand::Promote(..) | Errand::Return(_) => {}
        }
    }

    fn promote(&mut self, place: Place, tries: u32) {
        let node = node_at(place);
        let members = self.operators.members();
        if members.is_voter(node) {
            return;
        }
        if members.contains(node) && !self.operators.has_lost_disk() {
            self.ask_change(vec![MemberChange::Promote(node)]);
        }
        let again = self.operators.chance.span(Span::millis(200), Span::millis(1500));
        self.agenda.after(again, Event::Operate(Errand::Promote(place, tries - 1)));
    }

    /// A disk is lost, here or at the next machine where that can be survived. False if there is none.
    pub(super) fn lose_disk(&mut self, from: Place) -> bool {
        let count = self.hosts.len();
        let Some(place) = (0..count).map(|n| (from + n) % count).find(|&place| self.may_lose(place)) else {
            return false;
        };
        let returns = self.may_return(place);
        self.note(Note::Lost(place, returns));
        self.end_process(place, "its disk is lost");
        self.hosts[place].in_service = false;
        if self.operators.members().contains(node_at(place)) {
            self.operators.lost = Some(Lost { place, returns });
            self.agenda.after(Span::millis(100), Event::Operate(Errand::ReplaceLost));
        } else {
            self.set_up_again(place);
        }
        true
    }

    /// Whether the group survives without a machine's disk, and can go on without the machine: the others are a quorum,
    /// all of them know the same members, and no change is under way by which they could become too few.
    fn may_lose(&self, place: Place) -> bool {
        let (set_at, members) = &self.operators.group;
        let (node, host) = (node_at(place), &self.hosts[place]);
        if !host.in_service || self.operators.has_lost_disk() || members.is_joint() {
            return false;
        }
        if !members.contains(node) {
            return self.may_return(place);
        }
        // What a witness stands in for is lost with the voter that had it (`docs/decisions/0007-membership.md`).
        let has_payloads = |node: NodeId| members.is_voter(node) && !members.is_witness(node);
        if has_payloads(node) && members.nodes().any(|other| members.is_witness(other)) {
            return false;
        }
        let changes_in_inbox = |host: &Host| host.process.as_ref().map_or(0, |process| process.changes_in_inbox);
        let is_quiet =
            self.operators.changes_under_way == 0 && self.hosts.iter().all(|host| changes_in_inbox(host) == 0);
        let knows = |node: NodeId| self.views(place_of(node)).all(|(at, _)| at == *set_at);
        is_quiet && members.nodes().all(knows) && members.is_quorum(|other| other != node)
    }

    /// Whether a node may come back under its name with an empty disk. Nobody but those who know the present members
    /// may take it for a voter: it has forgotten what it has promised them.
    fn may_return(&self, place: Place) -> bool {
        let (set_at, _) = &self.operators.group;
        let others = (0..self.hosts.len()).filter(|&other| other != place);
        others
            .flat_map(|other| self.views(other))
            .all(|(at, members)| at == *set_at || !members.is_voter(node_at(place)))
    }

    /// What a machine takes for the members: what its log says on disk, and what it says in memory.
    fn views(&self, place: Place) -> impl Iterator<Item = (LogIndex, Membership)> {
        let host = &self.hosts[place];
        let on_disk = host.disk.members().map(|set| (set.at, set.entry.members.membership().clone()));
        let newest = |all: &Memberships| (all.newest_at(), all.newest().clone());
        let in_memory = host.raft().map(|raft| newest(raft.memberships()));
        // What a first member's disk does not say yet, it will be told at its start.
        let founders = (on_disk.is_none() && host.is_founder)
            .then(|| (LogIndex::ZERO, Membership::of_voters((0..self.conditions.nodes).map(node_at))));
        [on_disk, in_memory, founders].into_iter().flatten()
    }

    /// Removes who has lost its disk; once that is done, sets it up again.
    fn replace_lost(&mut self) {
        let Some(Lost { place, returns }) = self.operators.lost else { return };
        let members = self.operators.members();
        if members.is_joint() || members.contains(node_at(place)) {
            self.ask_change(vec![MemberChange::Remove(node_at(place))]);
            let again = self.operators.chance.span(Span::millis(200), Span::millis(800));
            return self.agenda.after(again, Event::Operate(Errand::ReplaceLost));
        }
        self.operators.lost = None;
        if returns {
            self.set_up_again(place);
            let soon = self.operators.chance.span(Span::ZERO, Span::seconds(2));
            self.agenda.after(soon, Event::Operate(Errand::Return(place)));
        }
    }

    /// A machine gets empty disks, and its process starts.
    fn set_up_again(&mut self, place: Place) {
        self.note(Note::Wiped(place));
        self.checks.wiped(place);
        let host = &mut self.hosts[place];
        host.wipe();
        host.in_service = true;
        self.agenda.after(self.operators.chance.span(Span::ZERO, Span::seconds(1)), Event::Start(place));
    }

    /// Asks the leader to hand over.
    pub(super) fn ask_transfer(&mut self, to: Option<Place>) {
        let Some(leader) = self.leader() else { return };
        if let Some(process) = &mut self.hosts[leader].process {
            process.transfer(to.map(node_at));
            self.wake(leader);
        }
    }

    /// Cuts so many thousandths of what a log could lose: nothing that its state machine has not durably.
    pub(super) fn cut_log(&mut self, place: Place, part: u64) {
        let host = &self.hosts[place];
        let Some(begin) = host.raft().map(|raft| raft.log().after().index) else { return };
        let upto = LogIndex(begin.0 + host.durably_applied().index.since(begin) * part / 1000);
        if upto > begin {
            let incarnation = host.incarnation;
            self.give(place, incarnation, Input::Compact { group: GROUP, upto });
        }
    }

    /// Cuts a log that has grown long, as the library's rule has it (`vlot/src/retention.rs`).
    pub(super) fn cut_long_log(&mut self, place: Place) {
        let host = &self.hosts[place];
        let (Some(kept), Some(process)) = (self.conditions.entries_kept, &host.process) else { return };
        let Some(begin) = host.raft().map(|raft| raft.log().after().index) else { return };
        let applied = process.registers.applied.index;
        let upto = LogIndex(applied.0.saturating_sub(kept)).min(host.durably_applied().index);
        if applied.since(begin) >= 2 * kept && upto.since(begin) >= (kept / 2).max(1) {
            let incarnation = host.incarnation;
            self.give(place, incarnation, Input::Compact { group: GROUP, upto });
        }
    }
}
