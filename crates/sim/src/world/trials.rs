//! Trials: what is done to a group that is well, at the end of a run, to see whether it stays well.
//!
//! Owns which node is tried, and how. Must not know what must hold then: see `checks/no_disruption.rs`.

use super::{DIAL_AGAIN, Event, Phase, World};
use crate::agenda::Moment;
use crate::checks::no_disruption::{self, Office};
use crate::faults::{self, Failure, Fault};
use crate::place::{Place, Slot, node_at, place_of};
use crate::subject::Subject;
use crate::transcript::Note;
use vlot_raft::id::LogIndex;
use vlot_raft::invariants::Violation;

/// A trial under way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Trial {
    /// Of which group.
    slot: Slot,
    kind: Kind,
    /// The node that is tried.
    place: Place,
    /// The leader when it began.
    before: Office,
    /// When it began; when the node that is tried came back, from then on.
    since: Moment,
    is_back: bool,
    /// What was committed when it began.
    commit: LogIndex,
}

/// What is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// A voter hears no one, and is heard.
    Deaf,
    /// A voter hears no one, and no one hears it.
    CutOff,
    /// The connection of a voter to the leader breaks and is made again.
    Reset,
    /// The leader hears no one, and is heard.
    DeafLeader,
    /// A voter's state machine stands still. If it leads, another takes its place; if not, no other node notices.
    Stuck,
    /// A voter's state machine fails, with the same consequences.
    Failing,
}

const TRIAL: &str = "trial";
/// How long a deaf leader may have no successor, in election timeouts. The two that are left of three campaign at the
/// same moment, and in vain, once in three times where a frame takes a fifteenth of an election timeout.
const SUCCESSION: u64 = 20;
/// For so many election timeouts a voter is gone: long enough to campaign.
const GONE: u64 = 3;
/// So many election timeouts after it is back it has unseated the leaders that it could.
const BACK: u64 = 2;

impl<S: Subject> World<S> {
    /// Begins a trial, or ends the run if none would tell anything.
    pub(super) fn begin_trial(&mut self) {
        let mut rng = self.fault_rng.clone();
        let kind = rng.pick(&[
            Kind::Deaf,
            Kind::Deaf,
            Kind::CutOff,
            Kind::Reset,
            Kind::DeafLeader,
            Kind::Stuck,
            Kind::Failing,
        ]);
        let slot = rng.below(self.groups.len() as u64) as Slot;
        // A leader that leads more groups than another transfers one whenever that is there: no office stays what it was.
        let is_balanced = self.conditions.policies.balance_leaders && self.groups.len() > 1;
        let trial = self.office(slot).filter(|_| !is_balanced).and_then(|before| {
            let places = self.who_may_be_gone(slot, kind, before);
            let place = (!places.is_empty()).then(|| rng.pick(&places))?;
            Some(Trial {
                slot,
                kind,
                place,
                before,
                since: self.agenda.now(),
                is_back: kind == Kind::Reset,
                commit: self.commit(slot, before.leader),
            })
        });
        self.fault_rng = rng;
        let Some(trial) = trial else { return self.phase = Phase::Over };
        self.phase = Phase::Trial(trial);
        let (place, leader) = (trial.place, trial.before.leader);
        if let Kind::Stuck | Kind::Failing = kind {
            self.others = self.all_offices();
            return self.upset_machine(trial);
        }
        if kind == Kind::Reset {
            self.note(Note::Struck(TRIAL, Fault::Reset { a: place, b: leader }));
            self.disconnect(place, leader);
            self.agenda.after(DIAL_AGAIN, Event::Dial(place, leader));
            return;
        }
        let (directions, cut) = (self.directions_of(trial), self.election_timeout() * GONE);
        directions.iter().for_each(|&(from, to)| self.network.cut(from, to));
        self.note(Note::Struck(TRIAL, Fault::Cut { directions, breaks: false, cut }));
    }

    /// Goes on with a trial.
    ///
    /// # Errors
    /// If what must hold does not.
    pub(super) fn try_on(&mut self, trial: Trial) -> Result<(), Violation> {
        let (now, timeout, office) = (self.agenda.now(), self.election_timeout(), self.office(trial.slot));
        let gone = now - trial.since;
        match trial {
            Trial { kind: Kind::Stuck | Kind::Failing, .. } => self.watch_upset(trial, office),
            Trial { kind: Kind::DeafLeader, before, since, .. } => {
                if office.is_some_and(|office| office.term > before.term) {
                    self.phase = Phase::Over;
                    return Ok(());
                }
                no_disruption::check_successor(before, since, now, timeout * SUCCESSION)
            }
            Trial { is_back: false, .. } => {
                if gone >= timeout * GONE {
                    self.directions_of(trial).into_iter().for_each(|(from, to)| self.network.mend(from, to));
                    self.note(Note::Over(TRIAL));
                    self.phase = Phase::Trial(Trial { since: now, is_back: true, ..trial });
                }
                Ok(())
            }
            Trial { is_back: true, .. } if gone >= timeout * BACK => {
                self.phase = Phase::Over;
                no_disruption::check_return(trial.before, office, trial.place)
            }
            Trial { is_back: true, .. } => Ok(()),
        }
    }

    /// A state machine stands still or fails at the next command, and there are some.
    fn upset_machine(&mut self, Trial { slot, kind, place, before, since, .. }: Trial) {
        let stuck = self.election_timeout() * SUCCESSION * 2;
        let fault = match kind {
            Kind::Stuck => {
                self.hosts[place].stuck_until[slot] = since + stuck;
                Fault::StuckApply { place, slot, stuck }
            }
            _ => {
                self.break_program(place, slot, Failure::Panic);
                Fault::FailingApply { place, slot, how: Failure::Panic, repaired: stuck }
            }
        };
        self.note(Note::Struck(TRIAL, fault));
        self.write_much(before.leader, slot, 3);
    }

    /// A leader whose state machine does nothing leaves its office to another. One that follows holds no other node up.
    /// And no other group notices.
    fn watch_upset(&mut self, trial: Trial, office: Option<Office>) -> Result<(), Violation> {
        let Trial { slot, place, before, since, commit, .. } = trial;
        let (now, timeout) = (self.agenda.now(), self.election_timeout());
        let is_over = if place == before.leader {
            no_disruption::check_successor(before, since, now, timeout * SUCCESSION)?;
            office.is_some_and(|office| office.term > before.term && office.leader != place)
        } else {
            now - since >= timeout * GONE
        };
        if !is_over {
            return Ok(());
        }
        self.phase = Phase::Over;
        for (other, before) in self.others.iter().enumerate().filter(|(other, _)| *other != slot) {
            if let Some(before) = before {
                no_disruption::check_return(*before, self.office(other), place)?;
            }
        }
        if place != before.leader {
            no_disruption::check_return(before, office, place)?;
            no_disruption::check_commit(place, commit, self.commit(slot, before.leader))?;
        }
        Ok(())
    }

    fn all_offices(&self) -> Vec<Option<Office>> {
        (0..self.groups.len()).map(|slot| self.office(slot)).collect()
    }

    fn commit(&self, slot: Slot, leader: Place) -> LogIndex {
        self.hosts[leader].raft(slot).map(|raft| raft.commit()).unwrap_or_default()
    }

    /// The leader, and its term.
    fn office(&self, slot: Slot) -> Option<Office> {
        let leader = self.leader(slot)?;
        Some(Office { leader, term: self.hosts[leader].raft(slot)?.role_state().term })
    }

    /// The nodes without which the others are a quorum, with a node to lead it.
    fn who_may_be_gone(&self, slot: Slot, kind: Kind, Office { leader, .. }: Office) -> Vec<Place> {
        let members = self.groups[slot].members.members();
        let others_decide = |place: &Place| {
            let is_other = |node| place_of(node) != *place;
            members.is_quorum(is_other) && members.voters().any(|node| is_other(node) && !members.is_witness(node))
        };
        // A leader transfers its leadership to a node that should rather lead, and is not unseated then.
        let is_tried = |place: &Place| match kind {
            Kind::DeafLeader => *place == leader,
            // Without commands there is nothing to stand still with. A node that is to be fit is no witness.
            Kind::Stuck | Kind::Failing => {
                let has_commands = self.groups[slot].workload.subject_has_idle();
                has_commands && self.conditions.priorities.is_empty() && !members.is_witness(node_at(*place))
            }
            Kind::Deaf | Kind::CutOff | Kind::Reset => *place != leader && self.conditions.priorities.is_empty(),
        };
        members.voters().map(place_of).filter(is_tried).filter(others_decide).collect()
    }

    fn directions_of(&self, Trial { kind, place, .. }: Trial) -> Vec<(Place, Place)> {
        faults::around(self.hosts.len(), place, true, kind == Kind::CutOff)
    }
}
