//! The changes of leader of one group, each with what is on record of it, and its cause as far as that tells.
//!
//! Owns the judgement. Must not know how it is worded or drawn.

use std::collections::BTreeMap;
use std::time::Duration;

use vlot::election::{Cause, LeftOffice, Loss, Poll, TransferCause, VoteRefused};
use vlot::recorder::Kind;
use vlot::{GroupId, NodeId, RoleName, Term};

use super::chronicle::{Boot, Chronicle, Moment, Noted};

/// How long before an election what has led to it is looked for, where the record does not say how long a leader was silent.
const LOOK_BACK: Duration = Duration::from_secs(10);
/// By how much the moments of nodes may differ that belong together: what is left of clocks that are aligned, and the time that
/// a process takes to notice.
const SLACK: Duration = Duration::from_secs(2);

/// What the clocks of nodes differ by once they are aligned, and rounding.
const TICK: Duration = Duration::from_millis(5);

/// A leader that took the place of another, or was the first.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// When it came to lead, as it says itself or was first heard.
    pub(super) at: Moment,
    pub(super) term: Term,
    pub(super) leader: NodeId,
    /// The leader before; none if none is on record.
    pub(super) before: Option<Before>,
    /// How the new leader came to ask for votes; none if it has no record of that time.
    pub(super) campaign: Option<Campaign>,
    /// What voters said to the new leader, in the order of nodes.
    pub(super) votes: Vec<Vote>,
    /// Candidates in terms between the two that were not elected, or lost to the new leader.
    pub(super) rivals: Vec<(NodeId, Term)>,
    pub(super) cause: Reason,
}

/// The leader before.
#[derive(Clone, Debug)]
pub(super) struct Before {
    pub(super) leader: NodeId,
    pub(super) term: Term,
    pub(super) since: Moment,
    pub(super) end: End,
}

/// How the office of a leader ended, by its own record.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// It has no record of that time.
    NotOnRecord {
        /// How far its record goes before that time, if there is one.
        upto: Option<Moment>,
        /// When a later process of it began.
        restarted: Option<Moment>,
    },
    /// It heard of a later term.
    LaterTerm { at: Moment, term: Term, from: Option<NodeId> },
    /// It left by itself.
    Left { at: Moment, why: LeftOffice },
    /// Its process was stopped, or could not go on.
    Stopped { at: Moment, why: String },
    /// Its record ends while it leads.
    Open { upto: Moment },
}

/// How a node came to ask for votes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Campaign {
    pub(super) at: Moment,
    pub(super) cause: Cause,
    pub(super) silence: Duration,
    /// When it had lost the leader's connection, or taken its silence for a loss.
    pub(super) lost: Option<(Moment, Loss)>,
}

/// What a voter said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vote {
    pub(super) voter: NodeId,
    pub(super) poll: Poll,
    pub(super) granted: bool,
    /// Why it has refused, if it says so.
    pub(super) refused: Option<VoteRefused>,
}

/// Why the leader changed.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reason {
    /// No leader before it is on record.
    First,
    Transfer(Option<TransferCause>),
    Left(LeftOffice),
    Stopped(String),
    /// The process ended without a word.
    Died {
        restarted: Moment,
    },
    /// The process of the leader did nothing for a while.
    LeaderPaused {
        from: Moment,
        upto: Moment,
    },
    /// The process of the new leader did nothing for a while, and took that for the leader's silence.
    WinnerPaused {
        from: Moment,
        upto: Moment,
    },
    /// The leader went on, and lost connections to these nodes.
    CutOff {
        lost: Vec<NodeId>,
    },
    /// Connections stood, both went on, and messages did not come.
    MessagesLost,
    /// The connection to the leader was lost, and nothing is known of the leader.
    ConnectionLost,
    /// The leader fell silent, and nothing is known of it.
    FellSilent,
    /// What is on record does not tell.
    Unknown,
}

/// The changes of leader of a group, in their order.
pub(super) fn changes(chronicle: &Chronicle, group: GroupId) -> Vec<Change> {
    let mut before: Option<Before> = None;
    let mut changes = Vec::new();
    for (term, (leader, at)) in offices(chronicle, group) {
        let change = change(chronicle, group, (term, leader, at), before.take());
        let end = end_of_office(chronicle, group, (term, leader, at));
        before = Some(Before { leader, term, since: at, end });
        changes.push(change);
    }
    changes
}

/// The leader of each term and since when, as it says itself, or as it was first heard.
fn offices(chronicle: &Chronicle, group: GroupId) -> BTreeMap<Term, (NodeId, Moment)> {
    let mut own: BTreeMap<Term, (NodeId, Moment)> = BTreeMap::new();
    let mut heard: BTreeMap<Term, (NodeId, Moment)> = BTreeMap::new();
    for (node, record) in &chronicle.nodes {
        for event in record.of(group) {
            let Kind::Became { term, role, leader: Some(leader) } = event.kind else { continue };
            let offices = if role == RoleName::Leader && leader == *node { &mut own } else { &mut heard };
            let office = offices.entry(term).or_insert((leader, event.at));
            office.1 = office.1.min(event.at);
        }
    }
    for (term, office) in heard {
        own.entry(term).or_insert(office);
    }
    own
}

fn change(
    chronicle: &Chronicle,
    group: GroupId,
    (term, leader, at): (Term, NodeId, Moment),
    before: Option<Before>,
) -> Change {
    let campaign = campaign(chronicle, group, leader, at);
    let votes = votes(chronicle, group, (term, leader, at), campaign.as_ref());
    let rivals = rivals(chronicle, group, leader, before.as_ref().map_or(Term::ZERO, |before| before.term), term);
    let mut change = Change { at, term, leader, before, campaign, votes, rivals, cause: Reason::Unknown };
    change.cause = cause(chronicle, group, &change);
    change
}

/// How an office ended, by the record of the leader.
fn end_of_office(chronicle: &Chronicle, group: GroupId, (term, leader, at): (Term, NodeId, Moment)) -> End {
    let record = chronicle.nodes.get(&leader);
    let began = |boot: &&Boot| boot.events.iter().any(|event| is_office(event, group, term));
    let Some((record, boot)) = record.and_then(|record| Some((record, record.boots.iter().find(began)?))) else {
        let boots = || record.into_iter().flat_map(|record| &record.boots);
        let restarted = boots().filter(|boot| has_started(boot)).map(|boot| boot.from).find(|from| *from > at);
        let upto = boots().map(|boot| boot.upto).filter(|upto| *upto < at).max();
        return End::NotOnRecord { upto, restarted };
    };
    let office = boot.events.iter().position(|event| is_office(event, group, term)).unwrap_or_default();
    let (mut left, mut later) = (None, None);
    for event in &boot.events[office + 1..] {
        match &event.kind {
            Kind::Stop { why } => return End::Stopped { at: event.at, why: why.clone() },
            Kind::LeftOffice { why } if event.group == Some(group) => left = Some((event.at, *why)),
            Kind::LaterTerm { term, from } if event.group == Some(group) => later = Some((*term, *from)),
            Kind::Became { role: RoleName::Leader, .. } => {}
            Kind::Became { term: new, .. } if event.group == Some(group) => {
                return match (left, later) {
                    (Some((at, why)), _) => End::Left { at, why },
                    (None, Some((term, from))) => End::LaterTerm { at: event.at, term, from: Some(from) },
                    (None, None) => End::LaterTerm { at: event.at, term: *new, from: None },
                };
            }
            _ => {}
        }
    }
    let restarted = record.boots.iter().filter(|next| has_started(next)).map(|next| next.from);
    match restarted.filter(|from| *from > boot.upto).min() {
        Some(restarted) => End::NotOnRecord { upto: Some(boot.upto), restarted: Some(restarted) },
        None => End::Open { upto: boot.upto },
    }
}

/// Whether a node comes to lead a term by this.
fn is_office(event: &Noted, group: GroupId, term: Term) -> bool {
    let is_its = matches!(event.kind, Kind::Became { term: of, role: RoleName::Leader, .. } if of == term);
    event.group == Some(group) && is_its
}

/// Whether the beginning of the process is on record.
fn has_started(boot: &Boot) -> bool {
    boot.events.iter().any(|event| matches!(event.kind, Kind::Start { .. }))
}

/// How `node` came to ask for the votes by which it leads since `at`.
fn campaign(chronicle: &Chronicle, group: GroupId, node: NodeId, at: Moment) -> Option<Campaign> {
    let record = chronicle.nodes.get(&node)?;
    let events: Vec<&Noted> = record.of(group).filter(|event| event.at <= at).collect();
    // The votes were asked for in the poll after the last time that it followed or led; the first pre-vote of a row says for how
    // long a leader had been silent.
    let mut found: Option<Campaign> = None;
    let mut lost = None;
    for event in events {
        match event.kind {
            Kind::LeaderLost { how, .. } => lost = Some((event.at, how)),
            Kind::Became { leader: Some(_), .. } if event.at < at => (found, lost) = (None, None),
            Kind::Asks { cause, silence, .. } if found.is_none() || cause == Cause::Transfer => {
                // A leader that was heard since then was not lost for good.
                let lost = lost.filter(|(when, _)| *when >= event.at.before(silence + TICK));
                found = Some(Campaign { at: event.at, cause, silence, lost });
            }
            _ => {}
        }
    }
    found
}

/// What voters said to `leader` before it led in `term`: by its own record, and why by theirs.
fn votes(
    chronicle: &Chronicle,
    group: GroupId,
    (term, leader, at): (Term, NodeId, Moment),
    campaign: Option<&Campaign>,
) -> Vec<Vote> {
    let mut votes: BTreeMap<(NodeId, bool), Vote> = BTreeMap::new();
    let key = |voter, poll| (voter, poll == Poll::Vote);
    let from = campaign.map_or(at.before(LOOK_BACK), |campaign| campaign.at);
    for event in chronicle.nodes.get(&leader).into_iter().flat_map(|record| record.of(group)) {
        if let Kind::Answered { poll, voter, granted } = event.kind
            && from <= event.at
            && event.at <= at
        {
            votes.insert(key(voter, poll), Vote { voter, poll, granted, refused: None });
        }
    }
    for (voter, record) in &chronicle.nodes {
        for event in record.of(group) {
            if let Kind::WasAsked { poll, candidate, term: of, refused } = event.kind
                && (candidate, of) == (leader, term)
                && event.at <= at.after(TICK)
            {
                let granted = refused.is_none();
                let vote = votes.entry(key(*voter, poll)).or_insert(Vote { voter: *voter, poll, granted, refused });
                // A pre-vote may be refused first and granted later.
                if !vote.granted {
                    *vote = Vote { refused, granted, ..*vote };
                }
            }
        }
    }
    votes.into_values().collect()
}

/// Other candidates of terms after `before`, up to `term`.
fn rivals(chronicle: &Chronicle, group: GroupId, leader: NodeId, before: Term, term: Term) -> Vec<(NodeId, Term)> {
    let mut rivals = Vec::new();
    let mut add = |node, of: Term| {
        if before < of && of <= term && (node, of) != (leader, term) && !rivals.contains(&(node, of)) {
            rivals.push((node, of));
        }
    };
    for (node, record) in &chronicle.nodes {
        for event in record.of(group) {
            match event.kind {
                Kind::Became { term, role: RoleName::Candidate, .. } => add(*node, term),
                Kind::WasAsked { poll: Poll::Vote, candidate, term, .. } => add(candidate, term),
                _ => {}
            }
        }
    }
    rivals.sort_by_key(|(node, term)| (*term, *node));
    rivals
}

fn cause(chronicle: &Chronicle, group: GroupId, change: &Change) -> Reason {
    let Some(before) = &change.before else { return Reason::First };
    if let Some(why) = transfer(chronicle, group, before, change) {
        return why;
    }
    match &before.end {
        End::Stopped { at, why } if *at <= change.at.after(SLACK) => return Reason::Stopped(why.clone()),
        End::Left { at, why: why @ LeftOffice::Unfit(_) } if *at <= change.at.after(SLACK) => {
            return Reason::Left(*why);
        }
        _ => {}
    }
    // What may have kept the two from hearing each other began with the last word that came, and was over when the new leader
    // asked.
    let (asked, silent_since) = match &change.campaign {
        Some(Campaign { at, silence, .. }) => (*at, at.before(*silence)),
        None => (change.at, change.at.before(LOOK_BACK)),
    };
    let lost = change.campaign.and_then(|campaign| campaign.lost);
    // A winner that lost its connection to the leader did not wait for its silence, whatever was slow besides.
    let is_cut = change.campaign.is_some_and(|campaign| campaign.cause == Cause::LostLeader)
        || matches!(lost, Some((_, Loss::Connection)));
    if !is_cut {
        if let Some((from, upto)) = pause(chronicle, change.leader, silent_since, asked) {
            return Reason::WinnerPaused { from, upto };
        }
        if let Some((from, upto)) = pause(chronicle, before.leader, silent_since, asked) {
            return Reason::LeaderPaused { from, upto };
        }
    }
    if let End::NotOnRecord { restarted: Some(restarted), .. } = before.end {
        return Reason::Died { restarted };
    }
    let leader_went_on = chronicle.nodes.get(&before.leader).and_then(|record| record.boot_at(asked)).is_some();
    if leader_went_on {
        let mut broken = connections_lost(chronicle, before.leader, silent_since, change.at);
        let has_left = matches!(before.end, End::Left { why: LeftOffice::NoQuorum, .. });
        // A winner that waited for an election timeout had a connection all the time.
        return if is_cut || (change.campaign.is_none() && !broken.is_empty()) {
            if broken.is_empty() {
                broken.push(change.leader);
            }
            Reason::CutOff { lost: broken }
        } else if change.campaign.is_some() || has_left {
            Reason::MessagesLost
        } else {
            Reason::Unknown
        };
    }
    match (lost, change.campaign) {
        (Some((_, Loss::Connection)), _) => Reason::ConnectionLost,
        (_, Some(Campaign { cause: Cause::LostLeader, .. })) => Reason::ConnectionLost,
        (_, Some(Campaign { cause: Cause::Silence, .. })) => Reason::FellSilent,
        _ => Reason::Unknown,
    }
}

/// Whether the leadership was handed over, and why, if the leader before says so.
fn transfer(chronicle: &Chronicle, group: GroupId, before: &Before, change: &Change) -> Option<Reason> {
    let by_winner = change.campaign.is_some_and(|campaign| campaign.cause == Cause::Transfer);
    let events = chronicle.nodes.get(&before.leader).into_iter().flat_map(|record| record.of(group));
    let its = events.filter(|event| before.since <= event.at && event.at <= change.at.after(SLACK));
    let transfers = its.filter_map(|event| match event.kind {
        Kind::Transfers { to, why } if to == change.leader => Some(why),
        _ => None,
    });
    match transfers.last() {
        // A winner that waited for silence was not told to campaign, whatever was begun.
        Some(why) if by_winner || change.campaign.is_none() => Some(Reason::Transfer(Some(why))),
        _ => by_winner.then_some(Reason::Transfer(None)),
    }
}

/// A time in which a node did nothing, of most of what lies between two moments.
fn pause(chronicle: &Chronicle, node: NodeId, from: Moment, upto: Moment) -> Option<(Moment, Moment)> {
    let events = chronicle.nodes.get(&node)?.events();
    let pauses = events.filter_map(|event| match event.kind {
        Kind::LateTurn { late } => Some((event.at.before(late), event.at)),
        _ => None,
    });
    let common = |(began, ended): &(Moment, Moment)| (*ended).min(upto).since((*began).max(from));
    let whole = upto.since(from);
    pauses.max_by_key(common).filter(|pause| 2 * common(pause) > whole)
}

/// The nodes to which a node lost its connection in this time.
fn connections_lost(chronicle: &Chronicle, node: NodeId, from: Moment, upto: Moment) -> Vec<NodeId> {
    let events = chronicle.nodes.get(&node).into_iter().flat_map(|record| record.events());
    let its = events.filter(|event| from.before(SLACK) <= event.at && event.at <= upto.after(SLACK));
    let mut lost: Vec<NodeId> =
        its.filter_map(|event| if let Kind::Lost { peer } = event.kind { Some(peer) } else { None }).collect();
    lost.sort_unstable();
    lost.dedup();
    lost
}
