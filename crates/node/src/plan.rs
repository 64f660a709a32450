//! What a change of members would do, before it is asked for: which majorities decide before, meanwhile and after, which
//! failures each survives, why it would be refused, and what should be thought over.
//!
//! Pure. Owns no rule of consensus: what is a quorum and what may follow what is asked of
//! [`Configuration`]. Must not know of a log or of time.

use std::collections::BTreeSet;
use std::fmt;

use vlot_raft::configuration::{ChangeRefused, Configuration, Member, Seat};
use vlot_raft::id::NodeId;

use crate::members::{MemberChange, Members, is_too_large};

/// What is known of the nodes at the moment. Nothing at all: all are taken to be there and in step.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Observed {
    /// The leader.
    pub leader: Option<NodeId>,
    /// Members that are not reached.
    pub down: BTreeSet<NodeId>,
    /// Members that are not in step with the leader.
    pub behind: BTreeSet<NodeId>,
}

/// What a change of members would do. Its text is for an operator, a sentence a line.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Plan {
    /// As it is.
    pub before: Phase,
    /// While the change is under way; none if no voter changes.
    pub meanwhile: Option<Phase>,
    /// As it would be; none if the change is refused.
    pub after: Option<Phase>,
    /// Why it would be refused.
    pub refused: Option<PlanRefused>,
    /// What should be thought over before.
    pub warnings: Vec<Warning>,
}

/// One configuration, and what it stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Phase {
    /// Its members.
    pub configuration: Configuration,
    /// What a decision needs: a majority, or one of the old and one of the new voters, in this order.
    pub majorities: Vec<Majority>,
    /// How many voters keep no payloads.
    pub witnesses: usize,
    /// Whichever voters fail, if they are at most so many: the others are a quorum. They go on if one that keeps data is as
    /// far as any witness among them, which is so whenever nothing was being written.
    pub survives: usize,
    /// The same at the worst moment: what was acknowledged just before is certain to be on another voter that can lead.
    /// Less than `survives` only with witnesses.
    pub survives_at_worst: usize,
    /// What is acknowledged is on the disks of at least so many voters that keep data.
    pub copies: usize,
    /// The voters that are reached are a quorum.
    pub decides: bool,
    /// The voters that are reached and must not fail besides: without any of them the others are no quorum.
    pub needed: Vec<NodeId>,
}

/// So many of these voters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Majority {
    /// The voters.
    pub voters: Vec<NodeId>,
    /// How many of them are needed.
    pub needed: usize,
}

/// Why a change would be refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum PlanRefused {
    /// By consensus.
    Change(ChangeRefused),
    /// An address or what comes with it is longer than it may be.
    TooLarge,
}

/// What should be thought over.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Warning {
    /// Fewer failures are survived than before.
    SurvivesFewer {
        /// Before.
        before: usize,
        /// After.
        after: usize,
    },
    /// One voter less would survive as much.
    EvenVoters {
        /// How many there would be.
        voters: usize,
    },
    /// The voters that are reached would decide nothing.
    Stops {
        /// Meanwhile, and not after it.
        meanwhile: bool,
        /// The voters that are not reached.
        down: Vec<NodeId>,
    },
    /// Nothing more may fail.
    NothingToSpare {
        /// Meanwhile, and not after it.
        meanwhile: bool,
        /// The voters that are not reached.
        down: Vec<NodeId>,
        /// Those that must not fail besides.
        needed: Vec<NodeId>,
    },
    /// A node votes at once that has nothing of the log yet.
    VotesEmpty {
        /// The node.
        node: NodeId,
    },
    /// A node would come to vote that is not reached.
    VotesDown {
        /// The node.
        node: NodeId,
    },
    /// What is acknowledged may be on one disk with data alone, because a witness has stood in for others.
    OneCopy,
    /// The leader does not vote any more: it transfers the leadership first.
    LeaderLeaves {
        /// The leader.
        node: NodeId,
    },
}

impl Plan {
    /// What these changes would do to these members.
    #[must_use]
    pub fn new(members: &Members, changes: &[MemberChange], observed: &Observed) -> Self {
        let now = members.configuration();
        let before = Phase::new(now, observed);
        let seats: Vec<_> = changes.iter().map(MemberChange::seat).collect();
        let barred = || members.bars(changes).map(|node| PlanRefused::Change(ChangeRefused::Barred { node }));
        let refused = Some(PlanRefused::TooLarge).filter(|_| is_too_large(changes, &[])).or_else(barred);
        let next = refused.map_or_else(|| now.changed(&seats).map_err(PlanRefused::Change), Err);
        let next = next.and_then(|next| promoted_too_early(now, &next, observed).map_or(Ok(next), Err));
        let next = match next {
            Ok(next) => next,
            Err(why) => {
                return Self { before, meanwhile: None, after: None, refused: Some(why), warnings: Vec::new() };
            }
        };
        let meanwhile = next.is_joint().then(|| Phase::new(&next, observed));
        let after = Phase::new(&next.settled(), observed);
        let warnings = warnings(&before, meanwhile.as_ref(), &after, observed);
        Self { before, meanwhile, after: Some(after), refused: None, warnings }
    }
}

/// A learner that is to vote and is known not to be in step.
fn promoted_too_early(now: &Configuration, next: &Configuration, observed: &Observed) -> Option<PlanRefused> {
    let mut promoted = next.members().iter().filter(|member| member.seat == Seat::Joining && now.contains(member.node));
    let late = promoted.find(|member| observed.behind.contains(&member.node))?;
    Some(PlanRefused::Change(ChangeRefused::NotCaughtUp { node: late.node }))
}

fn warnings(before: &Phase, meanwhile: Option<&Phase>, after: &Phase, observed: &Observed) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let was_voter = |node| before.configuration.is_voter(node);
    if after.survives < before.survives {
        warnings.push(Warning::SurvivesFewer { before: before.survives, after: after.survives });
    }
    let voters = after.voters().count();
    if voters.is_multiple_of(2) && meanwhile.is_some() {
        warnings.push(Warning::EvenVoters { voters });
    }
    for node in after.voters().filter(|node| !was_voter(*node)) {
        if !before.configuration.contains(node) && !after.configuration.is_witness(node) {
            warnings.push(Warning::VotesEmpty { node });
        }
        if observed.down.contains(&node) {
            warnings.push(Warning::VotesDown { node });
        }
    }
    for (phase, meanwhile) in meanwhile.map(|phase| (phase, true)).into_iter().chain([(after, false)]) {
        let down: Vec<NodeId> = phase.voters().filter(|node| observed.down.contains(node)).collect();
        if !phase.decides {
            warnings.push(Warning::Stops { meanwhile, down });
        } else if !down.is_empty() && !phase.needed.is_empty() {
            warnings.push(Warning::NothingToSpare { meanwhile, down, needed: phase.needed.clone() });
        }
    }
    if after.copies == 1 && before.copies > 1 {
        warnings.push(Warning::OneCopy);
    }
    if let Some(node) = observed.leader.filter(|leader| was_voter(*leader) && !after.configuration.is_voter(*leader)) {
        warnings.push(Warning::LeaderLeaves { node });
    }
    warnings
}

impl Phase {
    fn new(configuration: &Configuration, observed: &Observed) -> Self {
        let majorities = majorities(configuration);
        let witnesses = configuration.voters().filter(|node| configuration.is_witness(*node)).count();
        let survives = majorities.iter().map(|it| it.voters.len() - it.needed).min().unwrap_or_default();
        let copies = copies(configuration, &majorities);
        let is_up = |node: NodeId| !observed.down.contains(&node);
        let decides = configuration.is_quorum(is_up);
        let is_needed = |lost: &NodeId| !configuration.is_quorum(|node| node != *lost && is_up(node));
        let needed = configuration.voters().filter(|node| decides && is_up(*node)).filter(is_needed).collect();
        Self {
            configuration: configuration.clone(),
            majorities,
            witnesses,
            survives,
            survives_at_worst: survives.min(copies.saturating_sub(1)),
            copies,
            decides,
            needed,
        }
    }

    fn voters(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.configuration.voters()
    }
}

fn majorities(configuration: &Configuration) -> Vec<Majority> {
    let of = |votes: fn(Seat) -> bool| {
        let voters = configuration.members().iter().filter(|member| votes(member.seat));
        let voters: Vec<NodeId> = voters.map(|member| member.node).collect();
        let needed = if voters.is_empty() { 0 } else { voters.len() / 2 + 1 };
        Majority { voters, needed }
    };
    let mut all = Vec::new();
    if configuration.is_joint() {
        all.push(of(|seat| matches!(seat, Seat::Voter | Seat::Leaving | Seat::Retiring)));
    }
    all.push(of(|seat| matches!(seat, Seat::Voter | Seat::Joining)));
    all
}

/// How few voters that keep data can be in a quorum: each majority takes all its witnesses, and voters with data that it
/// shares with the other before those that it has alone.
fn copies(configuration: &Configuration, majorities: &[Majority]) -> usize {
    let keeps_data = |node: &&NodeId| !configuration.is_witness(**node);
    let of = |majority: &Majority| majority.voters.iter().filter(keeps_data).count();
    let lacks = |majority: &Majority| majority.needed - (majority.voters.len() - of(majority)).min(majority.needed);
    match majorities {
        [one] => lacks(one),
        [old, new] => {
            let shared = old.voters.iter().filter(|node| new.voters.contains(node)).filter(keeps_data).count();
            let (alone_old, alone_new) = (of(old) - shared, of(new) - shared);
            let counts = (0..=shared).filter_map(|taken| {
                let (more_old, more_new) = (lacks(old).saturating_sub(taken), lacks(new).saturating_sub(taken));
                (more_old <= alone_old && more_new <= alone_new).then_some(taken + more_old + more_new)
            });
            counts.min().unwrap_or_default()
        }
        _ => 0,
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Now {}", self.before)?;
        if let Some(why) = self.refused {
            return write!(f, "\nThe change would be refused: {why}.");
        }
        if let Some(meanwhile) = &self.meanwhile {
            write!(f, "\nWhile it changes, {meanwhile}")?;
        }
        if let Some(after) = &self.after {
            write!(f, "\nAfterwards {after}")?;
        }
        self.warnings.iter().try_for_each(|warning| write!(f, "\nWarning: {warning}."))
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, Majority { voters, needed }) in self.majorities.iter().enumerate() {
            let and = if n > 0 { " and " } else { "" };
            match voters.as_slice() {
                [only] => write!(f, "{and}voter {only} decides")?,
                _ => write!(f, "{and}{needed} of the voters {} decide", List(voters))?,
            }
        }
        match self.survives {
            0 => f.write_str("; no voter may fail")?,
            most => write!(f, "; any {} may fail", counted(most, "voter", "voters"))?,
        }
        if self.survives_at_worst < self.survives {
            write!(
                f,
                ", if those with data are in step, for witnesses keep none: at the worst moment {}",
                if self.survives_at_worst == 0 { "none".to_owned() } else { self.survives_at_worst.to_string() }
            )?;
        }
        let copies = counted(self.copies, "disk", "disks");
        write!(f, ". What is acknowledged is on at least {copies} with data.")?;
        let learners: Vec<NodeId> = self.configuration.members().iter().filter(is_learner).map(|it| it.node).collect();
        if !learners.is_empty() {
            let verb = if learners.len() == 1 { "learns" } else { "learn" };
            write!(f, " {} {} {verb}.", if learners.len() == 1 { "Node" } else { "Nodes" }, List(&learners))?;
        }
        Ok(())
    }
}

fn is_learner(member: &&Member) -> bool {
    member.seat == Seat::Learner
}

impl fmt::Display for PlanRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("an address is longer than it may be"),
            Self::Change(ChangeRefused::InProgress) => f.write_str("another change is not finished; wait for it"),
            Self::Change(ChangeRefused::NotCaughtUp { node }) => {
                write!(f, "node {node} has not caught up with the log; wait for it")
            }
            Self::Change(ChangeRefused::NoVoters) => f.write_str("there would be no voter left"),
            Self::Change(ChangeRefused::TooManyWitnesses) => {
                f.write_str("witnesses alone would be a majority, and none of them has the data")
            }
            Self::Change(ChangeRefused::NotAMember { node }) => write!(f, "node {node} is no member"),
            Self::Change(ChangeRefused::KeepsItsKind { node }) => write!(
                f,
                "node {node} cannot change between a witness and a voter with data; remove it and add it again with an \
                 empty directory"
            ),
            Self::Change(ChangeRefused::Barred { node }) => write!(
                f,
                "node {node} was a member before the quorum was lost; give the node a new number and an empty directory"
            ),
            Self::Change(ChangeRefused::NothingToDo) => f.write_str("it is so already"),
            // What only a leader knows.
            Self::Change(why) => write!(f, "{why:?}"),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = |meanwhile: bool| if meanwhile { "while it changes" } else { "afterwards" };
        match self {
            Self::SurvivesFewer { before, after } => {
                let fewer = if *after == 0 { "none".to_owned() } else { after.to_string() };
                write!(f, "any {} may fail now, and {fewer} afterwards", counted(*before, "voter", "voters"))
            }
            Self::EvenVoters { voters } => {
                write!(f, "an even number of voters, {voters}, survives no more failures than {}", voters - 1)
            }
            Self::Stops { meanwhile, down } => {
                write!(f, "with {} down, no write would succeed {}", Nodes(down), when(*meanwhile))
            }
            Self::NothingToSpare { meanwhile, down, needed } => write!(
                f,
                "with {} down, losing any of {} stops writes {}",
                Nodes(down),
                List(needed),
                when(*meanwhile)
            ),
            Self::VotesEmpty { node } => write!(
                f,
                "node {node} would count at once and has nothing of the log yet; add it as a learner first, and promote it \
                 when it has caught up"
            ),
            Self::VotesDown { node } => write!(f, "node {node} would count and is not reached"),
            Self::OneCopy => f.write_str(
                "what is acknowledged may be on the disk of one member alone, because witnesses keep no data; if that disk \
                 is lost, so is what was written last",
            ),
            Self::LeaderLeaves { node } => write!(f, "node {node} leads; it transfers the leadership first"),
        }
    }
}

fn counted(count: usize, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

struct List<'a>(&'a [NodeId]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, node) in self.0.iter().enumerate() {
            write!(f, "{}{node}", if n > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

struct Nodes<'a>(&'a [NodeId]);

impl fmt::Display for Nodes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", if self.0.len() == 1 { "node" } else { "nodes" }, List(self.0))
    }
}

#[cfg(test)]
mod tests;
