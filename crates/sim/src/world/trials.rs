//! Trials: what is done to a group that is well, at the end of a run, to see whether it stays well.
//!
//! Owns who is tried, and how. Must not know what must hold then: see `checks/no_disruption.rs`.

use super::{DIAL_AGAIN, Event, Phase, World};
use crate::agenda::Moment;
use crate::checks::no_disruption::{self, Office};
use crate::faults::{self, Fault};
use crate::place::{Place, Slot, place_of};
use crate::subject::Subject;
use crate::transcript::Note;
use vlot_raft::invariants::Violation;

/// A trial under way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Trial {
    /// Of which group.
    slot: Slot,
    kind: Kind,
    /// Who is tried.
    place: Place,
    /// Who led when it began.
    before: Office,
    /// When it began; when the one who is tried came back, from then on.
    since: Moment,
    is_back: bool,
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
}

const TRIAL: &str = "trial";
/// How long a deaf leader may have no successor, in election timeouts. The two that are left of three stand at the same
/// moment, and in vain, once in three times where a frame takes a fifteenth of an election timeout.
const SUCCESSION: u64 = 20;
/// For so many election timeouts a voter is gone: long enough to stand for election.
const GONE: u64 = 3;
/// So many election timeouts after it is back it has unseated whom it could.
const BACK: u64 = 2;

impl<S: Subject> World<S> {
    /// Begins a trial, or ends the run if none would tell anything.
    pub(super) fn begin_trial(&mut self) {
        let mut rng = self.fault_rng.clone();
        let kind = rng.pick(&[Kind::Deaf, Kind::Deaf, Kind::CutOff, Kind::Reset, Kind::DeafLeader]);
        let slot = rng.below(self.groups.len() as u64) as Slot;
        let trial = self.office(slot).and_then(|before| {
            let places = self.who_may_be_gone(slot, kind, before);
            let place = (!places.is_empty()).then(|| rng.pick(&places))?;
            Some(Trial { slot, kind, place, before, since: self.agenda.now(), is_back: kind == Kind::Reset })
        });
        self.fault_rng = rng;
        let Some(trial) = trial else { return self.phase = Phase::Over };
        self.phase = Phase::Trial(trial);
        let (place, leader) = (trial.place, trial.before.leader);
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

    /// Who leads.
    fn office(&self, slot: Slot) -> Option<Office> {
        let leader = self.leader(slot)?;
        Some(Office { leader, term: self.hosts[leader].raft(slot)?.role_state().term })
    }

    /// Those without whom the others are a quorum, with somebody to lead it.
    fn who_may_be_gone(&self, slot: Slot, kind: Kind, Office { leader, .. }: Office) -> Vec<Place> {
        let members = self.groups[slot].members.members();
        let others_decide = |place: &Place| {
            let is_other = |node| place_of(node) != *place;
            members.is_quorum(is_other) && members.voters().any(|node| is_other(node) && !members.is_witness(node))
        };
        // A leader hands over to who should rather lead, and is not unseated then.
        let is_tried = |place: &Place| match kind {
            Kind::DeafLeader => *place == leader,
            Kind::Deaf | Kind::CutOff | Kind::Reset => *place != leader && self.conditions.priorities.is_empty(),
        };
        members.voters().map(place_of).filter(is_tried).filter(others_decide).collect()
    }

    fn directions_of(&self, Trial { kind, place, .. }: Trial) -> Vec<(Place, Place)> {
        faults::around(self.hosts.len(), place, true, kind == Kind::CutOff)
    }
}
