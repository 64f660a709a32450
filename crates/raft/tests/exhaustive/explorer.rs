//! What comes after a state of the group.
//!
//! The network is whatever has been sent and could still make a difference: a message may come at any time, any number of
//! times, or never. So neither loss nor repetition nor overtaking is an event, and any number may be under way.

use std::sync::Arc;

use vlot_raft::effect::RoleName;
use vlot_raft::id::{NodeId, Term};
use vlot_raft::message::{Body, Message};

use super::Broken;
use super::atlas::{Atlas, Known, PairMap, Seat};
use super::checks;
use super::mail;
use super::node::{Move, Moved, Node};
use super::place::{NODES_MAX, Place};
use super::rules::Rules;
use super::shown::Shown;

/// A move, and that it breaks something.
pub type Fault = (u32, Broken);

/// Finds what comes after a state. Remembers every step of a node, so that each is taken once.
pub struct Explorer<'a> {
    pub rules: &'a Rules,
    atlas: &'a Atlas,
    nodes: Known<Arc<Node>>,
    pasts: Known<Arc<Shown>>,
    cards: Known<Card>,
    steps: Known<Result<Box<[Step]>, Fault>>,
    /// Steps that begin with what another node knows or has.
    rumours: PairMap<Result<Step, Fault>>,
    outcomes: PairMap<Result<Outcome, Broken>>,
    posted: PairMap<u32>,
    seen: PairMap<Result<u32, Broken>>,
    forgotten: PairMap<u32>,
}

/// What is asked of a seat again and again.
#[derive(Clone, Copy)]
struct Card {
    node: u32,
    term: Term,
    disk_term: Term,
    is_busy: bool,
}

/// What becomes of a seat by a move.
#[derive(Clone, Copy, Debug)]
struct Step {
    by: u32,
    seat: u32,
    mail: Mail,
    /// Whether it leads or has committed what it had not.
    has_news: bool,
}

/// What becomes of a node by a move.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    node: u32,
    mail: Mail,
}

/// The messages that are sent: for each receiver, a set of them.
type Mail = [u32; NODES_MAX];

impl<'a> Explorer<'a> {
    pub fn new(rules: &'a Rules, atlas: &'a Atlas) -> Self {
        assert!(rules.nodes as usize <= NODES_MAX, "{} nodes at most", NODES_MAX);
        Self {
            rules,
            atlas,
            nodes: Known::default(),
            pasts: Known::default(),
            cards: Known::default(),
            steps: Known::default(),
            rumours: PairMap::default(),
            outcomes: PairMap::default(),
            posted: PairMap::default(),
            seen: PairMap::default(),
            forgotten: PairMap::default(),
        }
    }

    /// Where it begins: nobody has ever stood.
    pub fn first(&mut self) -> Place {
        let mut seats = [0; NODES_MAX];
        for (seat, name) in seats.iter_mut().zip(self.names()) {
            let node = self.atlas.nodes.number(Node::first(name, self.rules));
            *seat = self.atlas.seats.number(Seat { node, inbox: 0 });
        }
        Place { seats, shown: self.atlas.shown.number(Shown::default()) }
    }

    /// Visits every state that may come next, with the number of the move that leads there.
    pub fn successors(&mut self, place: &Place, visit: &mut impl FnMut(Place, u32)) -> Result<(), Fault> {
        for at in 0..self.rules.nodes as usize {
            let seat = place.seats[at];
            self.know_steps(seat);
            let count = self.steps.get(seat).as_ref().map_err(Clone::clone)?.len();
            for n in 0..count {
                let Ok(steps) = self.steps.get(seat) else { break };
                let step = steps[n];
                self.follow(place, at, step, visit)?;
            }
            for step in self.rumours(place, at)? {
                self.follow(place, at, step, visit)?;
            }
        }
        Ok(())
    }

    /// What must hold of a state, beside what each step has shown.
    pub fn check(&mut self, place: &Place) -> Result<(), Broken> {
        self.know_past(place.shown);
        // Behind the last node is seat 0, which is a node's too.
        let numbers = place.seats.map(|seat| self.card(seat).node);
        numbers.iter().for_each(|&number| self.know_node(number));
        let nodes: [&Node; NODES_MAX] = numbers.map(|number| &**self.nodes.get(number));
        checks::check(self.pasts.get(place.shown), &nodes[..self.rules.nodes as usize])
    }

    pub fn what(&self, by: u32) -> Arc<Move> {
        self.atlas.moves.get(by)
    }

    fn names(&self) -> impl Iterator<Item = NodeId> + use<> {
        (1..=self.rules.nodes).map(NodeId)
    }

    fn follow(&mut self, place: &Place, at: usize, step: Step, visit: &mut impl FnMut(Place, u32)) -> Result<(), Fault> {
        let mut next = *place;
        next.seats[at] = step.seat;
        for (to, &letters) in step.mail.iter().enumerate().filter(|(_, letters)| **letters != 0) {
            next.seats[to] = self.post(next.seats[to], letters);
        }
        if step.has_news {
            let node = self.card(step.seat).node;
            next.shown = self.see(place.shown, node).map_err(|broken| (step.by, broken))?;
        }
        next.shown = self.forget(&next);
        visit(next, step.by);
        Ok(())
    }

    /// All a seat may do on its own or by a message that may come to it.
    fn know_steps(&mut self, seat: u32) {
        if self.steps.has(seat) {
            return;
        }
        let Seat { node, inbox } = *self.atlas.seats.get(seat);
        self.know_node(node);
        let (state, inbox) = (self.nodes.get(node).clone(), self.atlas.inboxes.get(inbox));
        let own: Vec<u32> = state.moves(self.rules).into_iter().map(|what| self.atlas.moves.number(what)).collect();
        let letters = if state.is_busy(self.rules) { &[] } else { inbox.as_slice() };
        let steps: Result<Vec<Step>, Fault> = own.iter().chain(letters).map(|&by| self.step(seat, by)).collect();
        let changes = |step: &Step| step.seat != seat || step.mail != Mail::default();
        let steps = steps.map(|steps| steps.into_iter().filter(changes).collect());
        self.steps.put(seat, steps);
    }

    fn step(&mut self, seat: u32, by: u32) -> Result<Step, Fault> {
        let Seat { node, inbox } = *self.atlas.seats.get(seat);
        let Outcome { node: after, mail } = self.outcome(node, by).map_err(|broken| (by, broken))?;
        let inbox = self.atlas.inboxes.get(inbox);
        let seat = self.seat(after, &inbox);
        self.know_node(node);
        self.know_node(after);
        let (was, is) = (&self.nodes.get(node).raft, &self.nodes.get(after).raft);
        let has_news = is.commit() > was.commit() || is.standing() != was.standing() && is.standing().role == RoleName::Leader;
        Ok(Step { by, seat, mail, has_news })
    }

    /// What a node may hear or get without a message that is under way: a later term, or a snapshot.
    fn rumours(&mut self, place: &Place, at: usize) -> Result<Vec<Step>, Fault> {
        let own = self.card(place.seats[at]);
        let mut steps = Vec::new();
        if own.is_busy {
            return Ok(steps);
        }
        let mut heard = Term::ZERO;
        for other in (0..self.rules.nodes as usize).filter(|&other| other != at) {
            let from = self.card(place.seats[other]);
            let term = from.disk_term;
            if !self.rules.refusals && term > own.term && term != heard {
                heard = term;
                steps.push(self.rumour(place.seats[at], at, NodeId(other as u64 + 1), term)?);
            }
            if self.rules.compaction {
                self.know_node(own.node);
                self.know_node(from.node);
                let (mine, theirs) = (&self.nodes.get(own.node).raft, &self.nodes.get(from.node).raft);
                let id = theirs.log().after();
                if id.index > mine.commit() {
                    let membership = theirs.memberships().at(id.index).clone();
                    let by = self.atlas.moves.number(Move::Install { to: mine.node(), id, membership });
                    steps.push(self.step(place.seats[at], by)?);
                }
            }
        }
        Ok(steps)
    }

    fn rumour(&mut self, seat: u32, at: usize, from: NodeId, term: Term) -> Result<Step, Fault> {
        if let Some(step) = self.rumours.get(&(seat, term.0 as u32)) {
            return step.clone();
        }
        let message = Message { term, body: Body::TermIsOver };
        let by = self.atlas.moves.number(Move::Receive { from, to: NodeId(at as u64 + 1), message });
        let step = self.step(seat, by);
        self.rumours.insert((seat, term.0 as u32), step.clone());
        step
    }

    fn outcome(&mut self, number: u32, by: u32) -> Result<Outcome, Broken> {
        if let Some(outcome) = self.outcomes.get(&(number, by)) {
            return outcome.clone();
        }
        self.know_node(number);
        let (node, what) = (self.nodes.get(number).clone(), self.what(by));
        let outcome = node.after(&what, self.rules).map(|Moved { node: after, sent }| {
            let mut letters: [Vec<u32>; NODES_MAX] = Default::default();
            for envelope in sent {
                let (from, to, message) = (node.name(), envelope.to, envelope.message);
                letters[to.0 as usize - 1].push(self.atlas.moves.number(Move::Receive { from, to, message }));
            }
            let mail = letters.map(|letters| self.inbox(letters));
            Outcome { node: self.atlas.nodes.number(after), mail }
        });
        self.outcomes.insert((number, by), outcome.clone());
        outcome
    }

    /// A seat to which more messages may come.
    fn post(&mut self, seat: u32, letters: u32) -> u32 {
        if let Some(&posted) = self.posted.get(&(seat, letters)) {
            return posted;
        }
        let Seat { node, inbox } = *self.atlas.seats.get(seat);
        let all = [self.atlas.inboxes.get(inbox).as_slice(), &self.atlas.inboxes.get(letters)].concat();
        let posted = self.seat(node, &all);
        self.posted.insert((seat, letters), posted);
        posted
    }

    /// The seat of a node to which these messages may come, less those that cannot matter to it.
    fn seat(&mut self, node: u32, letters: &[u32]) -> u32 {
        self.know_node(node);
        let state = self.nodes.get(node).clone();
        let mut live = Vec::new();
        for &by in letters {
            let Move::Receive { message, .. } = &*self.what(by) else { continue };
            let changes_nothing = |explorer: &mut Self| {
                matches!(explorer.outcome(node, by), Ok(then) if then.node == node && then.mail == Mail::default())
            };
            if mail::may_matter(message, &state, self.rules, || changes_nothing(self)) {
                live.push(by);
            }
        }
        let inbox = self.inbox(live);
        self.atlas.seats.number(Seat { node, inbox })
    }

    fn inbox(&self, mut letters: Vec<u32>) -> u32 {
        letters.sort_unstable();
        letters.dedup();
        self.atlas.inboxes.number(letters)
    }

    fn see(&mut self, shown: u32, node: u32) -> Result<u32, Broken> {
        if let Some(seen) = self.seen.get(&(shown, node)) {
            return seen.clone();
        }
        self.know_node(node);
        let seen = self.atlas.shown.get(shown).with(self.nodes.get(node)).map(|next| self.atlas.shown.number(next));
        self.seen.insert((shown, node), seen.clone());
        seen
    }

    /// Once every disk knows a term, nobody can come to lead an earlier one.
    fn forget(&mut self, place: &Place) -> u32 {
        let mut least = u64::MAX;
        for at in 0..self.rules.nodes as usize {
            least = least.min(self.card(place.seats[at]).disk_term.0);
        }
        let atlas = self.atlas;
        *self.forgotten.entry((place.shown, least as u32)).or_insert_with(|| {
            let past = atlas.shown.get(place.shown).since(Term(least));
            atlas.shown.number(past)
        })
    }

    fn card(&mut self, seat: u32) -> Card {
        if !self.cards.has(seat) {
            let Seat { node, .. } = *self.atlas.seats.get(seat);
            self.know_node(node);
            let state = self.nodes.get(node);
            let (term, disk_term, is_busy) = (state.term(), state.disk.term, state.is_busy(self.rules));
            self.cards.put(seat, Card { node, term, disk_term, is_busy });
        }
        *self.cards.get(seat)
    }

    fn know_node(&mut self, number: u32) {
        if !self.nodes.has(number) {
            self.nodes.put(number, self.atlas.nodes.get(number));
        }
    }

    fn know_past(&mut self, number: u32) {
        if !self.pasts.has(number) {
            self.pasts.put(number, self.atlas.shown.get(number));
        }
    }
}
