//! What is put to the test: a state machine, what its clients do, and what must hold of what they saw.
//!
//! Owns the trait by which any state machine comes into the simulated world, and the words of a client's history. Must
//! not know of nodes, of faults or of how a world is simulated.

use crate::agenda::{Moment, Span};
use crate::conditions::Conditions;
use crate::fault_kind::FaultKind;
use crate::place::Place;
use crate::rng::Rng;
use std::fmt::Debug;
use std::time::Duration;
use vlot_node::state_machine::StateMachine;
use vlot_raft::id::Term;
use vlot_raft::invariants::Violation;

/// Names an operation of a client of one group; never used twice. The `n`th operation of a history is `OpId(n)`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct OpId(pub u64);

/// A state machine under test, with the clients of one group that has it.
///
/// There is one value of this for each group of a world; it is the clients' side. The state machines themselves are
/// made by [`Subject::machine`], one for each replica and each life of it.
pub trait Subject: Sized + 'static {
    /// The state machine.
    type Machine: StateMachine<Command: Clone + Debug + 'static, Reply: Clone + Debug + PartialEq + Send + Sync + 'static>;
    /// What is asked of it without changing it.
    type Query: Clone + Debug + 'static;
    /// How many times longer its snapshots are than some hundred bytes. Transfers are faster by as much, or none would
    /// arrive while the log is cut behind it.
    const SNAPSHOT_SCALE: u32 = 1;

    /// How often [`Subject::look_after`] is called on each node, if it is.
    const LOOKED_AFTER_EVERY: Option<Span> = None;
    /// Faults that its contract rules out.
    const RULED_OUT: &'static [FaultKind] = &[];

    /// What it answers.
    type Answer: Clone + Debug + PartialEq + 'static;

    /// The clients of a group that have done nothing yet. What they are like may depend on the conditions and on chance.
    fn new(conditions: &Conditions, rng: &mut Rng) -> Self;

    /// A state machine that has applied nothing.
    fn machine(&self) -> Self::Machine;

    /// What a client asks for next.
    fn next(&mut self, op: OpId, rng: &mut Rng) -> Request<Command<Self>, Self::Query>;

    /// A client has come to know how its operation has ended. For clients that build on what they saw.
    fn ended(&mut self, op: OpId, request: &Request<Command<Self>, Self::Query>, end: &EndOf<Self>) {
        let _ = (op, request, end);
    }

    /// A command, the `n`th, for which no client waits and which no check of the history would miss: it changes nothing
    /// that a client sees. None if there is no such command.
    fn idle(&mut self, n: u64) -> Option<Command<Self>> {
        let _ = n;
        None
    }

    /// What a node does for its state machine without being asked: what it proposes, if anything. `local` is what the node's
    /// clock shows, and `leads_in` the term in which it leads.
    fn look_after(machine: &Self::Machine, local: Duration, leads_in: Option<Term>) -> Option<Command<Self>> {
        let _ = (machine, local, leads_in);
        None
    }

    /// Answers a linearizable read.
    fn read(machine: &Self::Machine, query: &Self::Query) -> Self::Answer;

    /// A number that stands for the state, and hardly ever for another: replicas that have applied the same must have the
    /// same. Asked after each entry, so it should cost little.
    fn digest(machine: &Self::Machine) -> u64;

    /// The replicated time of a state machine that asks for it, as it counts it; none for others.
    fn time(machine: &Self::Machine) -> Option<Duration> {
        let _ = machine;
        None
    }

    /// Whether the history of a group is one that its clients may see. Called once, at the end.
    ///
    /// # Errors
    /// What must not be.
    fn check(&self, history: &[OperationOf<Self>]) -> Result<(), Violation>;
}

/// The commands of a subject's state machine.
pub type Command<S> = <<S as Subject>::Machine as StateMachine>::Command;

/// The replies of a subject's state machine.
pub type Reply<S> = <<S as Subject>::Machine as StateMachine>::Reply;

/// How an operation on a subject has ended.
pub type EndOf<S> = End<Reply<S>, <S as Subject>::Answer>;

/// An operation on a subject.
pub type OperationOf<S> = Operation<Command<S>, <S as Subject>::Query, Reply<S>, <S as Subject>::Answer>;

/// What a client asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Request<C, Q> {
    /// A command is proposed.
    Propose(C),
    /// A linearizable read.
    Read(Q),
}

/// How an operation has ended for its client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum End<R, A> {
    /// The command was applied, and the state machine has replied this.
    Replied(R),
    /// The read was answered.
    Answered(A),
    /// It was not taken: it is never applied, or never answered.
    Refused,
    /// Its client knows nothing: it may take effect at any later time, or never.
    Unknown,
}

/// One operation of a history.
#[derive(Clone, Debug)]
pub struct Operation<C, Q, R, A> {
    /// What was asked for.
    pub request: Request<C, Q>,
    /// Of which node.
    pub place: Place,
    /// When it began.
    pub invoked: Moment,
    /// When and how it ended; nothing while its client waits.
    pub ended: Option<(Moment, End<R, A>)>,
}
