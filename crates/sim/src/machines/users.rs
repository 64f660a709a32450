//! The users and roles of the store in the simulated world: an administrator that adds, grants and revokes, and users that
//! put, delete, read and use leases meanwhile, in transactions of any depth, and watch.
//!
//! Owns what clients do, and the machine: the store beside a plain model of who may do what (`model.rs`), which is asked
//! before each command and each read, and of each watch (`watches.rs`). That all members decide alike, refusals included, is
//! *State Machine Safety*.

mod changes;
mod draw;
mod ledger;
mod model;
mod watches;

use std::io::Read;

use bytes::Bytes;
use vlot_node::members::Members;
use vlot_node::state_machine::{self, BadSnapshot, StateMachine};
use vlot_proto::etcdserverpb::{RangeRequest, TxnRequest};
use vlot_raft::id::LogId;
use vlot_raft::invariants::Violation;
use vlot_store::auth::{Asked, Asker, Caller};
use vlot_store::command::Command;
use vlot_store::engine::memory::MemoryEngine;
use vlot_store::refusal::Refusal;
use vlot_store::store::Applied;

use super::store::machine::{StoreCommand, StoreMachine, narrow_options};
use crate::conditions::Conditions;
use crate::rng::Rng;
use crate::subject::{End, EndOf, OpId, OperationOf, Request, Subject};
use changes::{Change, Keys};
use ledger::Ledger;
use model::Model;
use watches::Watches;

const PROPERTY: &str = "Users May What Is Granted";

/// The clients.
pub struct UsersUsed {
    /// How much of what is done first is done.
    begun: u64,
    /// The auth revision that was seen last.
    revision: u64,
    /// Leases that may be there.
    leases: Vec<i64>,
    ledger: Ledger,
}

/// What a command has come to, and what is wrong with that, if the model says something else.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    outcome: Result<Applied, Refusal>,
    flaw: Option<String>,
}

/// What a client reads, and as whom.
#[derive(Clone, Debug)]
pub struct Query {
    caller: Option<Caller>,
    /// One range, or a transaction of ranges.
    txn: TxnRequest,
}

/// What a client is answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    revision: u64,
    refused: Option<Refusal>,
    flaw: Option<String>,
}

/// A store, the model of its users, and what they watch.
#[derive(Debug)]
pub struct Machine {
    store: StoreMachine,
    model: Model,
    keys: Keys,
    watches: Watches,
    ledger: Ledger,
}

impl Machine {
    /// What a command has changed is known to all who check watches, if it has changed something.
    fn note_changes(&mut self, before: i64, changes: Vec<Change>) {
        let revision = self.store.store().revision();
        let is_counted = revision == before + i64::from(!changes.is_empty());
        self.ledger.found(if !is_counted {
            let shown_by = format!("{changes:?} came to revision {revision} after {before}");
            Err(Violation { property: "A Change Is A Revision", shown_by })
        } else if revision == before {
            Ok(())
        } else {
            self.ledger.changed(revision, changes)
        });
    }
}

impl StateMachine for Machine {
    type Command = StoreCommand;
    type Reply = Told;

    fn apply(&mut self, at: LogId, command: StoreCommand) -> Told {
        let expected = self.model.expect(self.store.store(), command.command());
        let shown = format!("{:?}", command.command());
        let (before, plain) = (self.store.store().revision(), command.command().clone());
        let on_lease = changes::on_lease(self.store.store(), &plain);
        let outcome = self.store.apply(at, command);
        if let Ok(applied) = &outcome {
            let changes = self.keys.changed(&plain, applied, &on_lease);
            self.note_changes(before, changes);
        }
        let differs = expected.differs_from(&outcome);
        let flaw = differs.map(|expected| format!("{shown} came to {outcome:?}, not to {expected}"));
        let now = Model::of(self.store.store());
        let flaw = flaw.or_else(|| {
            (now != self.model).then(|| format!("after {shown} users are {now:?}, and not {:?}", self.model))
        });
        // One flaw is told once.
        self.model = now;
        self.watches.users_changed(&self.model, before);
        self.watches.command_applied(self.store.store(), &self.model);
        Told { outcome, flaw }
    }

    fn skip(&mut self, at: LogId) {
        self.store.skip(at);
    }

    fn members_changed(&mut self, at: LogId, members: &Members, context: Bytes) {
        self.store.members_changed(at, members, context);
    }

    fn end_batch(&mut self) {
        self.store.end_batch();
        self.store.flush().expect("nothing has failed");
        self.store.take_applied();
        self.watches.batch_ended(self.store.store(), &self.model);
    }

    fn durable(&self) -> LogId {
        self.store.durable()
    }

    fn snapshot(&self) -> Option<Box<dyn state_machine::Snapshot>> {
        self.store.snapshot()
    }

    fn restore(&mut self, at: LogId, from: &mut dyn Read) -> Result<(), BadSnapshot> {
        let before = self.store.store().revision();
        self.store.restore(at, from)?;
        self.model = Model::of(self.store.store());
        self.keys = Keys::of(self.store.store());
        self.watches.users_changed(&self.model, before);
        Ok(())
    }
}

impl Subject for UsersUsed {
    const SNAPSHOT_SCALE: u32 = 200;

    type Machine = Machine;
    type Query = Query;
    type Answer = Answer;

    fn new(_: &Conditions, rng: &mut Rng) -> Self {
        Self { begun: 0, revision: 1, leases: Vec::new(), ledger: Ledger::new(rng.draw()) }
    }

    fn machine(&self) -> Machine {
        let engine = MemoryEngine::default();
        let store = StoreMachine::open(&engine, narrow_options()).expect("an empty engine can be opened");
        let (model, keys) = (Model::of(store.store()), Keys::of(store.store()));
        let watches = Watches::of(store.store(), self.ledger.clone());
        Machine { store, model, keys, watches, ledger: self.ledger.clone() }
    }

    fn next(&mut self, op: OpId, rng: &mut Rng) -> Request<StoreCommand, Query> {
        if let Some(first) = self.first() {
            return Request::Propose(first);
        }
        let caller = draw::caller(self.revision, rng);
        if rng.below(4) == 0 {
            return Request::Read(Query { caller, txn: draw::reads(rng) });
        }
        if rng.below(3) == 0 {
            let root = Caller { user: "root".into(), revision: self.revision };
            let change = Command::Auth(draw::change(rng));
            // As a rule it is root who changes users; others try.
            let asker = if rng.below(8) == 0 { caller } else { Some(root) };
            return Request::Propose(by(asker, change));
        }
        Request::Propose(by(caller, draw::command(op.0 as i64, &self.leases, rng)))
    }

    fn ended(&mut self, _: OpId, request: &Request<StoreCommand, Query>, end: &EndOf<Self>) {
        if let (Request::Propose(command), End::Replied(_)) = (request, end) {
            self.begun += u64::from(self.first().as_ref() == Some(command));
        }
        match end {
            // It may be an earlier one: what was counted meanwhile is a guess.
            End::Answered(answer) => self.revision = answer.revision,
            // What was changed has raised it, as a rule.
            End::Replied(Told { outcome: Ok(Applied::Auth { .. }), .. }) => self.revision += 1,
            End::Replied(Told { outcome: Ok(Applied::LeaseGrant(granted)), .. }) => self.leases.push(granted.id),
            _ => {}
        }
    }

    fn idle(&mut self, _: u64) -> Option<StoreCommand> {
        Some(StoreCommand::idle())
    }

    fn read(machine: &Machine, query: &Query) -> Answer {
        let store = machine.store.store();
        let expected = machine.model.expect_read(store, query.caller.as_ref(), &query.txn);
        let authorised = store.authorise(query.caller.as_ref(), Asked::Txn(&query.txn));
        let found = authorised.clone().and_then(|()| store.read_txn(&query.txn));
        let flaw = (authorised != expected).then(|| format!("{query:?} is {authorised:?}, and not {expected:?}"));
        Answer { revision: store.auth().revision(), refused: found.err(), flaw }
    }

    fn digest(machine: &Machine) -> u64 {
        let fold = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        let records = machine.store.store().auth().records();
        let bytes = records.iter().flat_map(|(name, value)| name.iter().chain(value));
        bytes.fold(machine.store.digest(), |sum, byte| fold(sum, *byte))
    }

    fn check(&self, history: &[OperationOf<Self>]) -> Result<(), Violation> {
        let flaws = history.iter().filter_map(|operation| match &operation.ended {
            Some((_, End::Replied(Told { flaw, .. }) | End::Answered(Answer { flaw, .. }))) => flaw.clone(),
            _ => None,
        });
        match flaws.into_iter().next() {
            Some(shown_by) => Err(Violation { property: PROPERTY, shown_by }),
            None => self.ledger.told().violation.clone().map_or(Ok(()), Err),
        }
    }
}

impl UsersUsed {
    /// What has to be done before anything else. It is proposed until it is known to be done: without root users would not
    /// count for as long as the world stands.
    fn first(&self) -> Option<StoreCommand> {
        draw::first(self.begun).map(|change| StoreCommand::unsigned(Command::Auth(change)))
    }
}

/// On behalf of a client, if it has said who it is.
fn by(caller: Option<Caller>, command: Command) -> StoreCommand {
    StoreCommand::unsigned(match caller {
        Some(caller) => command.by(Asker::Client(caller)),
        None => command,
    })
}

/// A range of this key and end.
fn range(key: Bytes, range_end: Bytes) -> RangeRequest {
    RangeRequest { key, range_end, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditions::Options;
    use crate::world::run_with;

    #[test]
    fn users_may_what_is_granted_in_every_storm() {
        for seed in 1..=3 {
            let outcome = run_with::<UsersUsed>(seed, &Options::default());
            assert_eq!(outcome.violation, None, "seed {seed}");
        }
    }

    /// Two machines and many commands, without a world: each kind of outcome comes up. The second takes many commands at a
    /// time, and at times becomes a snapshot of the first in place of them.
    #[test]
    fn the_model_and_the_store_agree_command_by_command() {
        let mut outcomes = std::collections::BTreeMap::<String, u64>::new();
        let mut sums = ledger::Sums::default();
        for seed in 0..20 {
            let mut rng = Rng::new(seed, 7);
            let mut clients = UsersUsed::new(&Conditions::calm(1), &mut rng);
            let (mut machine, mut follower) = (clients.machine(), clients.machine());
            for index in 0..1_500 {
                let op = OpId(index);
                let at = LogId::new(1, index + 1);
                match clients.next(op, &mut rng) {
                    Request::Propose(command) => {
                        let told = machine.apply(at, command.clone());
                        assert_eq!(told.flaw, None, "seed {seed}");
                        let kind =
                            told.outcome.as_ref().map_or_else(|refusal| format!("{refusal:?}"), |_| "done".into());
                        *outcomes.entry(kind).or_default() += 1;
                        if !is_behind(index) {
                            assert_eq!(follower.apply(at, command.clone()), told, "seed {seed}");
                        }
                        clients.ended(op, &Request::Propose(command), &End::Replied(told));
                        machine.end_batch();
                    }
                    Request::Read(query) => {
                        let answer = UsersUsed::read(&machine, &query);
                        assert_eq!(answer.flaw, None, "seed {seed}");
                        clients.ended(op, &Request::Read(query), &End::Answered(answer));
                    }
                }
                if !is_behind(index) && index % 6 == 0 {
                    follower.end_batch();
                }
                if is_behind(index) && !is_behind(index + 1) {
                    become_that_of(&mut follower, &machine);
                }
            }
            assert_eq!(clients.check(&[]), Ok(()), "seed {seed}");
            sums.add(clients.ledger.told().sums);
        }
        let kinds = [
            "done",
            "PermissionDenied",
            "AuthOldRevision",
            "UserEmpty",
            "UserNotFound",
            "UserExists",
            "RoleNotFound",
            "RoleNotGranted",
            "PermissionNotGranted",
            "InvalidAuthMgmt",
        ];
        for kind in kinds {
            assert!(outcomes.get(kind).is_some_and(|count| *count > 20), "{kind}: {outcomes:?}");
        }
        assert!(sums.least() > 20, "{sums:?}");
    }

    /// Whether the second machine is left behind at this command.
    fn is_behind(index: u64) -> bool {
        index % 100 >= 80
    }

    fn become_that_of(follower: &mut Machine, machine: &Machine) {
        let mut snapshot = machine.snapshot().unwrap();
        let mut bytes = Vec::new();
        snapshot.write_to(&mut bytes).unwrap();
        follower.end_batch();
        follower.restore(snapshot.at(), &mut &bytes[..]).unwrap();
        follower.end_batch();
    }
}
