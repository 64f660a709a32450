//! Operators: they change the members of groups, and replace what has lost its disk.
//!
//! Owns what operators have begun and not finished. A disk is lost only where that can be survived: see `may_lose`.

use super::{Event, Phase, World};
use crate::agenda::Span;
use crate::checks::has_had;
use crate::churn::{self, Scene, Spare};
use crate::host::Host;
use crate::place::{Place, Slot, node_at, place_of};
use crate::rng::Rng;
use crate::subject::Subject;
use crate::transcript::Note;
use vlot_node::members::MemberChange;
use vlot_node::payload::Payload;
use vlot_raft::configuration::Configuration;
use vlot_raft::id::{LogId, LogIndex, NodeId};

/// Something that an operator comes back to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Errand {
    /// Promote a learner of a group; not much oftener than so many times.
    Promote(Slot, Place, u32),
    /// Remove the node that has lost its disk.
    RemoveLost,
    /// Set a machine up again that has lost its disk, if that can be survived; after so many tries it stays away.
    SetUp(Place, u32),
    /// Let a node back into a group.
    Return(Slot, Place),
}

/// What operators have begun.
#[derive(Debug)]
pub(super) struct Operators {
    /// A machine whose disk is lost. It is down until its groups go on without it.
    lost: Option<Place>,
    /// Frames on their way that ask for a change of members.
    changes_under_way: u32,
    rng: Rng,
}

/// All members that a group had, as they were applied, and the entries that have set them. The first are the founders.
#[derive(Debug)]
pub(super) struct MembersHistory(Vec<(LogId, Configuration)>);

const PROMOTE_TRIES: u32 = 8;
const SET_UP_TRIES: u32 = 20;

impl Operators {
    pub(super) fn new(rng: Rng) -> Self {
        Self { lost: None, changes_under_way: 0, rng }
    }

    pub(super) fn has_lost_disk(&self) -> bool {
        self.lost.is_some()
    }
}

impl MembersHistory {
    pub(super) fn new(founders: Configuration) -> Self {
        Self(vec![(LogId::ZERO, founders)])
    }

    /// The newest members that were applied anywhere.
    pub(super) fn members(&self) -> &Configuration {
        &self.newest().1
    }

    fn newest(&self) -> &(LogId, Configuration) {
        // The founders are never forgotten.
        &self.0[self.0.len() - 1]
    }

    /// How often they have changed.
    pub(super) fn changes(&self) -> u64 {
        self.0.len() as u64 - 1
    }

    /// An entry was applied.
    pub(super) fn applied(&mut self, id: LogId, payload: &Payload) {
        if let Payload::Configuration(entry) = payload
            && id > self.newest().0
        {
            self.0.push((id, entry.members.configuration().clone()));
        }
    }
}

impl<S: Subject> World<S> {
    /// The machines that are not in a group.
    pub(super) fn spare(&self, slot: Slot) -> Vec<Spare> {
        let members = self.groups[slot].members.members();
        let outside = self.hosts.iter().filter(|host| !members.contains(host.node()) && !host.is_lost);
        outside.map(|host| Spare { place: host.place, is_witness: host.was_witness[slot] }).collect()
    }

    /// What operators see of a group; `spare` is what [`World::spare`] gives.
    pub(super) fn scene<'a>(&'a self, slot: Slot, spare: &'a [Spare]) -> Scene<'a> {
        let members = self.groups[slot].members.members();
        Scene { hosts: self.hosts.len(), slot, leader: self.leader(slot), members, spare }
    }

    /// Asks any node for a change, and sets up the nodes that are to come in.
    pub(super) fn ask_change(&mut self, slot: Slot, changes: Vec<MemberChange>) {
        for place in churn::who_comes(&changes).collect::<Vec<_>>() {
            let host = &mut self.hosts[place];
            if !std::mem::replace(&mut host.in_service, true) {
                self.agenda.after(self.operators.rng.span(Span::ZERO, Span::millis(100)), Event::Start(place));
            }
            if self.phase == Phase::Storm && self.operators.rng.below(3) > 0 {
                let again = self.operators.rng.span(Span::millis(100), Span::millis(1000));
                self.agenda.after(again, Event::Operate(Errand::Promote(slot, place, PROMOTE_TRIES)));
            }
        }
        for change in &changes {
            if let MemberChange::AddWitness { node, .. } = change {
                self.hosts[place_of(*node)].was_witness[slot] = true;
            }
        }
        let up = self.hosts.iter().filter(|host| host.raft(slot).is_some());
        let up: Vec<Place> = up.map(|host| host.place).collect();
        if up.is_empty() {
            return;
        }
        let place = self.operators.rng.pick(&up);
        self.note(Note::Asked(place, slot, changes.clone()));
        if let Some(process) = &mut self.hosts[place].process {
            process.change_members(slot, changes);
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
            Errand::RemoveLost => self.remove_lost(),
            Errand::SetUp(place, tries) => self.set_up(place, tries),
            Errand::Promote(slot, place, tries) if self.phase == Phase::Storm && tries > 0 => {
                self.promote(slot, place, tries);
            }
            Errand::Return(slot, place) if self.phase == Phase::Storm && !self.operators.has_lost_disk() => {
                // One that is lost again comes back when it is set up.
                if !self.groups[slot].members.members().contains(node_at(place)) && !self.hosts[place].is_lost {
                    let change = match self.hosts[place].was_witness[slot] {
                        // It has been let in already, and is out again.
                        true => churn::witness,
                        false if self.operators.rng.coin() => churn::voter,
                        false => churn::learner,
                    };
                    self.ask_change(slot, vec![change(node_at(place))]);
                }
            }
            Errand::Promote(..) | Errand::Return(..) => {}
        }
    }

    fn promote(&mut self, slot: Slot, place: Place, tries: u32) {
        let node = node_at(place);
        let members = self.groups[slot].members.members();
        if members.is_voter(node) {
            return;
        }
        if members.contains(node) && !self.operators.has_lost_disk() {
            self.ask_change(slot, vec![MemberChange::Promote(node)]);
        }
        let again = self.operators.rng.span(Span::millis(200), Span::millis(1500));
        self.agenda.after(again, Event::Operate(Errand::Promote(slot, place, tries - 1)));
    }

    /// A disk is lost, here or at the next machine where that can be survived. False if there is none.
    pub(super) fn lose_disk(&mut self, from: Place) -> bool {
        let count = self.hosts.len();
        let Some(place) = (0..count).map(|n| (from + n) % count).find(|&place| self.may_lose(place)) else {
            return false;
        };
        self.note(Note::Lost(place));
        self.end_process(place, "its disk is lost");
        (self.hosts[place].in_service, self.hosts[place].is_lost) = (false, true);
        let is_member = self.groups.iter().any(|group| group.members.members().contains(node_at(place)));
        if is_member {
            self.operators.lost = Some(place);
            self.agenda.after(Span::millis(100), Event::Operate(Errand::RemoveLost));
        } else {
            self.set_up(place, 1);
        }
        true
    }

    /// Whether all groups survive without a machine's disk, and can go on without the machine.
    pub(super) fn may_lose(&self, place: Place) -> bool {
        let may_go = self.hosts[place].in_service && !self.operators.has_lost_disk() && self.no_change_is_on_its_way();
        may_go && (0..self.groups.len()).all(|slot| self.may_lose_in(slot, place))
    }

    /// Whether a group survives without a machine's disk, and can go on without the machine: the others are a quorum,
    /// all of them know the same members, and no change is under way by which they could become too few.
    fn may_lose_in(&self, slot: Slot, place: Place) -> bool {
        let (set_by, members) = self.groups[slot].members.newest();
        let node = node_at(place);
        let knows = |node: NodeId| self.views(slot, place_of(node)).all(|at| at == set_by.index);
        if members.is_joint() || !members.nodes().all(knows) {
            return false;
        }
        if !members.contains(node) {
            return self.may_return_to(slot, place);
        }
        // What a witness stands in for is lost with the voter that had it (`docs/decisions/0007-membership.md`).
        let has_payloads = |node: NodeId| members.is_voter(node) && !members.is_witness(node);
        let has_stand_in = has_payloads(node) && members.nodes().any(|other| members.is_witness(other));
        !has_stand_in && members.is_quorum(|other| other != node)
    }

    /// Whether a node may come back under its name with an empty disk, in all groups.
    fn may_return(&self, place: Place) -> bool {
        (0..self.groups.len()).all(|slot| self.may_return_to(slot, place))
    }

    /// Whether a node may come back under its name with an empty disk. It has forgotten what it has promised, and so
    /// have others perhaps that came back before, or they have not heard of it yet: together they must not be a quorum
    /// of any members that there were, and decide once more what was decided already.
    fn may_return_to(&self, slot: Slot, place: Place) -> bool {
        let node = node_at(place);
        let has = |node: NodeId, id: LogId| has_had(&self.hosts[place_of(node)].disk.durable(slot).runs, id);
        let history = &self.groups[slot].members.0;
        history.iter().enumerate().all(|(n, (_, members))| {
            let Some((next, _)) = history.get(n + 1) else { return !members.contains(node) };
            let is_behind = |other| other == node || (self.hosts[place_of(other)].in_service && !has(other, *next));
            !members.is_voter(node) || !(members.is_quorum(is_behind) || members.settled().is_quorum(is_behind))
        })
    }

    /// Whether every change that was asked for has come to a leader, or is lost.
    pub(super) fn no_change_is_on_its_way(&self) -> bool {
        let in_inbox = |host: &Host<S>| host.process.as_ref().map_or(0, |process| process.changes_in_inbox);
        self.operators.changes_under_way == 0 && self.hosts.iter().all(|host| in_inbox(host) == 0)
    }

    /// What a machine takes for the entry that sets the members: what its log says on disk, and what it says in memory.
    fn views(&self, slot: Slot, place: Place) -> impl Iterator<Item = LogIndex> {
        let host = &self.hosts[place];
        let on_disk = host.disk.members(slot).map_or(LogIndex::ZERO, |set| set.at);
        [Some(on_disk), host.raft(slot).map(|raft| raft.configurations().newest_at())].into_iter().flatten()
    }

    /// Removes the node that has lost its disk, from all groups.
    fn remove_lost(&mut self) {
        let Some(place) = self.operators.lost else { return };
        let mut is_out = true;
        for slot in 0..self.groups.len() {
            let members = self.groups[slot].members.members();
            if members.is_joint() || members.contains(node_at(place)) {
                is_out = false;
                self.ask_change(slot, vec![MemberChange::Remove(node_at(place))]);
            }
        }
        if !is_out {
            let again = self.operators.rng.span(Span::millis(200), Span::millis(800));
            return self.agenda.after(again, Event::Operate(Errand::RemoveLost));
        }
        self.operators.lost = None;
        self.set_up(place, SET_UP_TRIES);
    }

    /// A machine gets empty disks, and its process starts.
    fn set_up(&mut self, place: Place, tries: u32) {
        if !self.may_return(place) {
            if tries > 0 {
                self.agenda.after(Span::seconds(1), Event::Operate(Errand::SetUp(place, tries - 1)));
            }
            return;
        }
        self.note(Note::Wiped(place));
        self.groups.iter_mut().for_each(|group| group.checks.wiped(place));
        let host = &mut self.hosts[place];
        host.wipe(self.operators.rng.draw());
        host.in_service = true;
        self.agenda.after(self.operators.rng.span(Span::ZERO, Span::seconds(1)), Event::Start(place));
        for slot in 0..self.groups.len() {
            let soon = self.operators.rng.span(Span::millis(100), Span::seconds(3));
            self.agenda.after(soon, Event::Operate(Errand::Return(slot, place)));
        }
    }

    /// Asks the leader of a group to hand its leadership over.
    pub(super) fn ask_transfer(&mut self, slot: Slot, to: Option<Place>) {
        let Some(leader) = self.leader(slot) else { return };
        if let Some(process) = &mut self.hosts[leader].process {
            process.transfer(slot, to.map(node_at));
            self.wake(leader);
        }
    }
}
