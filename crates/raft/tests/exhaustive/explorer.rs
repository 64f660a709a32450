//! What comes after a state of the group.
//!
//! The network is whatever has been sent and could still make a difference: a message may come at any time, any number of
//! times, or never. So neither loss nor repetition nor overtaking is an event, and any number may be under way.

use std::sync::Arc;

use vlot_raft::id::{NodeId, Term};
use vlot_raft::message::{Body, Envelope, Message};

use super::Broken;
use super::atlas::{Atlas, Known, Life, PairMap, Seat, Turning};
use super::cards::Cards;
use super::checks;
use super::mail;
use super::names::Images;
use super::node::{Move, Moved, Node};
use super::place::{NODES_MAX, Place};
use super::rules::Rules;
use super::shown::Shown;
use super::symmetry::Renaming;

/// A move, and that it breaks something.
pub type Fault = (u32, Broken);

/// A move, and whether the node crashed in the middle of it.
pub type By = (u32, Option<u8>);

/// Finds what comes after a state. Remembers every step of a node, so that each is taken once.
pub struct Explorer<'a> {
    pub rules: &'a Rules,
    pub atlas: &'a Atlas,
    pub renamings: Vec<Renaming>,
    pub images: Images,
    pub cards: Cards<'a>,
    nodes: Known<Arc<Life>>,
    pasts: Known<Arc<Shown>>,
    steps: Known<Result<Box<[Step]>, Fault>>,
    /// Steps that begin with what another node knows or has.
    rumours: PairMap<Result<Arc<[Step]>, Fault>>,
    outcomes: PairMap<Result<Arc<[Outcome]>, Broken>>,
    posted: PairMap<u32>,
    seen: PairMap<Result<u32, Broken>>,
    forgotten: PairMap<u32>,
    /// The past with one crash more, if there may be one.
    crashed: Known<Option<u32>>,
}

/// What becomes of a seat by a move.
#[derive(Clone, Copy, Debug)]
struct Step {
    by: By,
    seat: u32,
    mail: Mail,
    crashes: bool,
    /// The replica, if it leads or has committed what it had not.
    news: Option<u32>,
}

/// What becomes of a node by a move.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    pub node: u32,
    mail: Mail,
    crashed: Option<u8>,
    news: Option<u32>,
}

/// The messages that are sent: for each receiver, a set of them.
type Mail = [u32; NODES_MAX];

impl<'a> Explorer<'a> {
    pub fn new(rules: &'a Rules, atlas: &'a Atlas) -> Self {
        assert!(rules.nodes as usize <= NODES_MAX, "{} nodes at most", NODES_MAX);
        Self {
            rules,
            atlas,
            renamings: Renaming::all(rules),
            images: Images::default(),
            cards: Cards::new(rules, atlas),
            nodes: Known::default(),
            pasts: Known::default(),
            steps: Known::default(),
            rumours: PairMap::default(),
            outcomes: PairMap::default(),
            posted: PairMap::default(),
            seen: PairMap::default(),
            forgotten: PairMap::default(),
            crashed: Known::default(),
        }
    }

    /// Where it begins: nobody has ever stood.
    pub fn first(&mut self) -> Place {
        let mut seats = [0; NODES_MAX];
        for (seat, name) in seats.iter_mut().zip(self.names()) {
            let node = self.atlas.nodes.number(Life { node: Node::first(name, self.rules), by: None });
            *seat = self.atlas.seats.number(Seat { node, inbox: 0 });
        }
        Place { seats, shown: self.atlas.shown.number(Shown::default()) }
    }

    /// Visits every state that may come next, with the move that leads there.
    pub fn successors(&mut self, place: &Place, visit: &mut impl FnMut(Place, By)) -> Result<(), Fault> {
        for at in 0..self.rules.nodes as usize {
            let seat = place.seats[at];
            self.know_steps(seat);
            let count = self.steps.get(seat).as_ref().map_err(Clone::clone)?.len();
            for n in 0..count {
                let Ok(steps) = self.steps.get(seat) else { break };
                let step = steps[n];
                self.follow(place, at, step, visit)?;
            }
            self.follow_rumours(place, at, visit)?;
        }
        Ok(())
    }

    /// What must hold of a state, beside what each step has shown.
    pub fn check(&mut self, place: &Place) -> Result<(), Broken> {
        self.know_past(place.shown);
        // Behind the last node is seat 0, which is a node's too.
        let numbers = place.seats.map(|seat| self.cards.of(seat).node);
        numbers.iter().for_each(|&number| self.know_node(number));
        let nodes: [&Node; NODES_MAX] = numbers.map(|number| &self.nodes.get(number).node);
        checks::check(self.pasts.get(place.shown), &nodes[..self.rules.nodes as usize])
    }

    pub fn what(&self, by: u32) -> Arc<Move> {
        self.atlas.moves.get(by)
    }

    fn names(&self) -> impl Iterator<Item = NodeId> + use<> {
        (1..=self.rules.nodes).map(NodeId)
    }

    fn follow(&mut self, place: &Place, at: usize, step: Step, visit: &mut impl FnMut(Place, By)) -> Result<(), Fault> {
        let mut next = *place;
        next.seats[at] = step.seat;
        if step.crashes {
            let Some(shown) = self.crash(place.shown) else { return Ok(()) };
            next.shown = shown;
        }
        for (to, &letters) in step.mail.iter().enumerate().filter(|(_, letters)| **letters != 0) {
            next.seats[to] = self.post(next.seats[to], letters);
        }
        if let Some(news) = step.news {
            next.shown = self.see(next.shown, news).map_err(|broken| (step.by.0, broken))?;
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
        let steps = self.find_steps(seat);
        self.steps.put(seat, steps);
    }

    fn find_steps(&mut self, seat: u32) -> Result<Box<[Step]>, Fault> {
        let Seat { node, inbox } = *self.atlas.seats.get(seat);
        self.know_node(node);
        let own = self.nodes.get(node).node.moves(self.rules);
        let own = own.into_iter().map(|what| self.atlas.moves.number(what));
        let inbox = self.atlas.inboxes.get(inbox);
        let letters = if self.cards.of(seat).is_busy { &[] } else { inbox.as_slice() };
        let all: Vec<u32> = own.chain(letters.iter().copied()).collect();
        let mut steps = Vec::new();
        for by in all {
            steps.extend_from_slice(&self.steps_by(seat, by)?);
        }
        steps.retain(|step| step.seat != seat || step.mail != Mail::default());
        Ok(steps.into())
    }

    fn steps_by(&mut self, seat: u32, by: u32) -> Result<Arc<[Step]>, Fault> {
        let Seat { node, inbox } = *self.atlas.seats.get(seat);
        let outcomes = self.outcomes(node, by).map_err(|broken| (by, broken))?;
        let inbox = self.atlas.inboxes.get(inbox);
        let what = self.what(by);
        let steps = outcomes.iter().map(|&Outcome { node: after, mail, crashed, news }| {
            let crashes = crashed.is_some() || matches!(&*what, Move::Crash { .. });
            Step { by: (by, crashed), seat: self.seat(after, &inbox), mail, crashes, news }
        });
        Ok(steps.collect())
    }

    /// What a node may hear or get without a message that is under way: a later term, or a snapshot.
    fn follow_rumours(&mut self, place: &Place, at: usize, visit: &mut impl FnMut(Place, By)) -> Result<(), Fault> {
        let own = *self.cards.of(place.seats[at]);
        if own.is_busy {
            return Ok(());
        }
        let mut heard = Term::ZERO;
        for other in (0..self.rules.nodes as usize).filter(|&other| other != at) {
            let from = *self.cards.of(place.seats[other]);
            let term = Term(u64::from(from.disk_term));
            if !self.rules.refusals && from.disk_term > own.term && term != heard {
                heard = term;
                for &step in &*self.rumour(place.seats[at], at, NodeId(other as u64 + 1), term)? {
                    self.follow(place, at, step, visit)?;
                }
            }
            if let Some(by) = self.snapshot_for(own.node, from.node) {
                for &step in &*self.steps_by(place.seats[at], by)? {
                    self.follow(place, at, step, visit)?;
                }
            }
        }
        Ok(())
    }

    /// The snapshot with which another's log begins, if it helps.
    fn snapshot_for(&mut self, own: u32, other: u32) -> Option<u32> {
        if !self.rules.compaction {
            return None;
        }
        self.know_node(own);
        self.know_node(other);
        let (mine, theirs) = (&self.nodes.get(own).node.raft, &self.nodes.get(other).node.raft);
        let id = theirs.log().after();
        let configuration = theirs.configurations().at(id.index).clone();
        let helps = id.index > mine.commit();
        helps.then(|| self.atlas.moves.number(Move::Install { to: mine.node(), id, configuration }))
    }

    fn rumour(&mut self, seat: u32, at: usize, from: NodeId, term: Term) -> Result<Arc<[Step]>, Fault> {
        if let Some(steps) = self.rumours.get(&(seat, term.0 as u32)) {
            return steps.clone();
        }
        let message = Message { term, body: Body::StaleTerm };
        let by = self.atlas.moves.number(Move::Receive { from, to: NodeId(at as u64 + 1), message });
        let steps = self.steps_by(seat, by);
        self.rumours.insert((seat, term.0 as u32), steps.clone());
        steps
    }

    pub fn outcomes(&mut self, number: u32, by: u32) -> Result<Arc<[Outcome]>, Broken> {
        if let Some(outcomes) = self.outcomes.get(&(number, by)) {
            return outcomes.clone();
        }
        self.know_node(number);
        let (life, what) = (self.nodes.get(number).clone(), self.what(by));
        let outcomes = life.node.after(&what, self.rules).map(|cases| {
            let outcomes = cases.into_iter().enumerate().map(|(case, Moved { node, sent, crashed })| {
                let mail = self.mail(life.node.name(), sent);
                let shows = crashed.as_ref().map_or(&node.raft, |crashed| &crashed.was);
                let is_news = Shown::is_news(&life.node.raft, shows);
                let news = is_news.then(|| self.atlas.news.number(shows.clone()));
                let crashed = crashed.map(|crashed| crashed.done);
                let life = Life { node, by: Some(Turning { before: number, by, case }) };
                Outcome { node: self.atlas.nodes.number(life), mail, crashed, news }
            });
            outcomes.collect()
        });
        self.outcomes.insert((number, by), outcomes);
        self.outcomes[&(number, by)].clone()
    }

    fn mail(&self, from: NodeId, sent: Vec<Envelope>) -> Mail {
        let mut letters: [Vec<u32>; NODES_MAX] = Default::default();
        for Envelope { to, message } in sent {
            letters[to.0 as usize - 1].push(self.atlas.moves.number(Move::Receive { from, to, message }));
        }
        letters.map(|letters| self.inbox(letters))
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
        let life = self.nodes.get(node).clone();
        let mut live = Vec::new();
        for &by in letters {
            let Move::Receive { message, .. } = &*self.what(by) else { continue };
            let changes_nothing = |explorer: &mut Self| {
                let nothing = |then: &Outcome| then.node == node && then.mail == Mail::default();
                explorer.outcomes(node, by).is_ok_and(|cases| cases.iter().all(nothing))
            };
            if mail::may_matter(message, &life.node, self.rules, || changes_nothing(self)) {
                live.push(by);
            }
        }
        let inbox = self.inbox(live);
        self.atlas.seats.number(Seat { node, inbox })
    }

    pub fn inbox(&self, mut letters: Vec<u32>) -> u32 {
        letters.sort_unstable();
        letters.dedup();
        self.atlas.inboxes.number(letters)
    }

    fn see(&mut self, shown: u32, news: u32) -> Result<u32, Broken> {
        let atlas = self.atlas;
        let see = || atlas.shown.get(shown).with(&atlas.news.get(news)).map(|next| atlas.shown.number(next));
        self.seen.entry((shown, news)).or_insert_with(see).clone()
    }

    fn crash(&mut self, shown: u32) -> Option<u32> {
        if self.rules.crashes == Rules::ANY {
            return Some(shown);
        }
        if !self.crashed.has(shown) {
            let next = self.atlas.shown.get(shown).crashed(self.rules);
            self.crashed.put(shown, next.map(|next| self.atlas.shown.number(next)));
        }
        *self.crashed.get(shown)
    }

    /// Once every disk knows a term, nobody can come to lead an earlier one.
    fn forget(&mut self, place: &Place) -> u32 {
        let mut least = u8::MAX;
        for at in 0..self.rules.nodes as usize {
            least = least.min(self.cards.of(place.seats[at]).disk_term);
        }
        let atlas = self.atlas;
        *self.forgotten.entry((place.shown, u32::from(least))).or_insert_with(|| {
            let past = atlas.shown.get(place.shown).since(Term(u64::from(least)));
            atlas.shown.number(past)
        })
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
