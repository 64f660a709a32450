//! The store as a state machine, on an engine without thread or clock.
//!
//! Owns when something becomes durable: when [`StoreMachine::flush`] is called, and not before. A crash is to drop the
//! machine and to open another one on the same engine. What clients do to it is in `workload.rs`.

use std::io::{Read, Write};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use vlot_node::state_machine::{self, BadCommand, BadSnapshot, StateMachine};
use vlot_proto::etcdserverpb::TxnRequest;
use vlot_raft::id::LogId;
use vlot_store::command::Command;
use vlot_store::engine::{EngineError, OpenError};
use vlot_store::refusal::Refusal;
use vlot_store::revision::Position;
use vlot_store::store::{Applied, Failure, HistoryHash, Options, Store};
use vlot_store::watch::{Wake, WatchStream};

use super::history::{OpId, Reply, Request, Way, op_of};
use vlot_store::engine::memory::MemoryEngine;

/// A command of the store as the log has it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoreCommand {
    /// The client's operation, if it is one's.
    pub op: Option<OpId>,
    /// The command's bytes.
    bytes: Bytes,
    command: Command,
}

impl StoreCommand {
    /// What a client proposes; none if the request is a read.
    #[must_use]
    pub fn of(op: OpId, request: &Request) -> Option<Self> {
        let Way::Propose(bytes) = request.way(op) else { return None };
        let command = Command::decode(bytes.clone()).expect("a client's request is a command");
        Some(Self { op: Some(op), bytes, command })
    }

    /// A command that does not say whose it is.
    #[must_use]
    pub fn unsigned(command: Command) -> Self {
        Self { op: None, bytes: command.encode(), command }
    }

    /// What it does.
    #[must_use]
    pub fn command(&self) -> &Command {
        &self.command
    }

    /// A command of no client, which changes nothing.
    #[must_use]
    pub fn idle() -> Self {
        Self::unsigned(Command::Txn(TxnRequest::default()))
    }

    /// What its client has asked for; none if it is no client's.
    #[must_use]
    pub fn request(&self) -> Option<Request> {
        self.op?;
        Some(match self.command.clone() {
            Command::Put(request) => Request::Put(request),
            Command::DeleteRange(request) => Request::DeleteRange(request),
            Command::Txn(request) => Request::Txn(request),
            Command::Compact(request) => Request::Compact(request),
            // No client of this machine has leases or a user, nor sets an attribute or a quota.
            Command::SetAttribute { .. }
            | Command::LeaseGrant(_)
            | Command::LeaseRevoke(_)
            | Command::LeaseKeepAlive(_)
            | Command::LeaseTime(_)
            | Command::Alarm(_)
            | Command::Auth(_)
            | Command::SetQuota(_)
            | Command::RemoveQuota(_)
            | Command::By { .. } => return None,
        })
    }
}

impl state_machine::Command for StoreCommand {
    fn encode(&self, buffer: &mut BytesMut) {
        buffer.put_slice(&self.bytes);
    }

    fn decode(bytes: Bytes) -> Result<Self, BadCommand> {
        let command = Command::decode(bytes.clone()).map_err(|error| BadCommand(error.to_string()))?;
        Ok(Self { op: op_of(&bytes), bytes, command })
    }

    fn size_hint(&self) -> usize {
        self.bytes.len()
    }

    /// As the server's.
    fn shares_entry(&self) -> bool {
        matches!(self.command.plain(), Command::Put(_) | Command::DeleteRange(_) | Command::Txn(_))
    }
}

/// One command that a machine has applied.
#[derive(Clone, Debug, PartialEq)]
pub struct AppliedCommand {
    /// The entry.
    pub at: LogId,
    /// Which of the entry's commands it is.
    pub nth: u32,
    /// The client's operation, if it is one's.
    pub op: Option<OpId>,
    /// What it led to.
    pub reply: Result<Applied, Refusal>,
    /// The newest revision after it.
    pub revision: i64,
    /// The compacted revision after it.
    pub compacted: i64,
}

/// What a machine says of its state; equal at equal `at`, on all machines.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Report {
    /// The last entry whose effect it has.
    pub at: LogId,
    /// The digest of its history.
    pub hash: HistoryHash,
    /// A number that stands for its quotas, and for what it says is used of each.
    pub quotas: u64,
    /// Whether a look at all keys finds that much used.
    pub is_counted: bool,
}

/// The store, driven by a log.
#[derive(Debug)]
pub struct StoreMachine {
    store: Store,
    /// Not taken yet.
    applied: Vec<AppliedCommand>,
    /// Which command of its entry was the last.
    nth: u32,
    /// What was compacted may not be given up yet.
    is_compacting: bool,
}

/// How a simulated store behaves: its bounds are so low that a short run meets them.
#[must_use]
pub fn narrow_options() -> Options {
    Options { value_cache_bytes: 512, mailbox_bytes_max: 256, index_interval_bytes: 512, ..Options::default() }
}

impl StoreMachine {
    /// Opens the store that the engine durably has.
    ///
    /// # Errors
    /// What is there is damaged.
    pub fn open(engine: &MemoryEngine, options: Options) -> Result<Self, OpenError> {
        let store = Store::open_still(Arc::new(engine.clone()), options)?;
        Ok(Self { store, applied: Vec::new(), nth: 0, is_compacting: true })
    }

    /// Makes durable what was applied.
    ///
    /// # Errors
    /// The sync has failed. The process must end: nothing more is made durable.
    pub fn flush(&mut self) -> Result<(), EngineError> {
        self.store.flush()
    }

    /// Why the process must end, if it must. To be asked after each batch, before its replies go out.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        self.store.failure()
    }

    /// What was applied since the last call, in order.
    pub fn take_applied(&mut self) -> Vec<AppliedCommand> {
        std::mem::take(&mut self.applied)
    }

    /// Reads what is there. The caller has waited for the barrier, if one is needed.
    ///
    /// # Errors
    /// As the store.
    ///
    /// # Panics
    /// If the request is no read.
    pub fn read(&self, request: &Request) -> Result<Reply, Refusal> {
        match request {
            Request::Range(request) => self.store.range(request).map(Reply::Range),
            Request::Txn(request) => self.store.read_txn(request).map(Reply::Txn),
            _ => panic!("{request:?} is no read"),
        }
    }

    /// Opens a stream of watches.
    #[must_use]
    pub fn watch_stream(&self, wake: Wake) -> WatchStream {
        self.store.watch_stream(wake)
    }

    /// The store, for a watch stream to read.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The last entry whose effect it has.
    #[must_use]
    pub fn applied(&self) -> LogId {
        log_id(self.store.applied())
    }

    /// A number that stands for the state. It costs little: only at every so many revisions does it look at all of it.
    ///
    /// # Panics
    /// If the history cannot be read.
    #[must_use]
    pub fn digest(&self) -> u64 {
        const HASH_EVERY: i64 = 64;
        let (revision, compacted) = (self.store.revision(), self.store.compacted_revision());
        let hash = if revision % HASH_EVERY == 0 { self.store.hash(0).expect("its history").hash } else { 0 };
        let numbers = [revision as u64, compacted as u64, u64::from(hash), self.quotas()];
        numbers.into_iter().fold(self.store.applied().index, mixed)
    }

    /// What it says of its state. Looks at all of it.
    ///
    /// # Errors
    /// Its history cannot be read.
    pub fn report(&self) -> Result<Report, Refusal> {
        let is_counted = self.store.quotas().all(|(prefix, quota)| quota.used == self.store.count_below(prefix));
        Ok(Report { at: self.applied(), hash: self.store.hash(0)?, quotas: self.quotas(), is_counted })
    }

    fn quotas(&self) -> u64 {
        self.store.quotas().fold(0, |sum, (prefix, quota)| {
            let message = quota.message(prefix).encode_to_vec();
            message.into_iter().fold(sum, |sum, byte| mixed(sum, u64::from(byte)))
        })
    }
}

impl StateMachine for StoreMachine {
    type Command = StoreCommand;
    type Reply = Result<Applied, Refusal>;

    fn apply(&mut self, at: LogId, StoreCommand { op, command, .. }: StoreCommand) -> Self::Reply {
        let nth = if at == self.applied() { self.nth + 1 } else { 0 };
        self.nth = nth;
        let reply = self.store.apply(position(at), command);
        self.is_compacting |= matches!(reply, Ok(Applied::Compact(_)));
        // A store that has failed applies nothing; see `failure`.
        if reply != Err(Refusal::Unreadable) {
            let (revision, compacted) = (self.store.revision(), self.store.compacted_revision());
            self.applied.push(AppliedCommand { at, nth, op, reply: reply.clone(), revision, compacted });
        }
        reply
    }

    fn skip(&mut self, at: LogId) {
        self.store.skip(position(at));
    }

    fn end_batch(&mut self) {
        self.store.end_batch();
    }

    fn needs_maintenance(&self) -> bool {
        self.is_compacting
    }

    fn maintain(&mut self) -> bool {
        self.is_compacting = self.store.compact_step();
        self.is_compacting
    }

    fn durable(&self) -> LogId {
        log_id(self.store.durable())
    }

    fn snapshot(&self) -> Option<Box<dyn state_machine::Snapshot>> {
        let snapshot = self.store.snapshot().ok()?;
        Some(Box::new(StoreSnapshot(snapshot)))
    }

    fn restore(&mut self, at: LogId, from: &mut dyn Read) -> Result<(), BadSnapshot> {
        self.store.restore(from).map_err(|error| BadSnapshot(format!("{error:?}")))?;
        self.is_compacting = true;
        let applied = self.applied();
        if applied == at { Ok(()) } else { Err(BadSnapshot(format!("it is of {applied}"))) }
    }
}

fn mixed(sum: u64, number: u64) -> u64 {
    (sum ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

/// A durable moment of the store.
struct StoreSnapshot(vlot_store::snapshot::Snapshot);

impl state_machine::Snapshot for StoreSnapshot {
    fn at(&self) -> LogId {
        log_id(self.0.position())
    }

    fn write_to(&mut self, out: &mut dyn Write) -> std::io::Result<()> {
        self.0.write_to(out)
    }
}

fn log_id(Position { term, index }: Position) -> LogId {
    LogId::new(term, index)
}

fn position(at: LogId) -> Position {
    Position { term: at.term.0, index: at.index.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vlot_node::state_machine::Command as _;
    use vlot_proto::etcdserverpb::PutRequest;
    use vlot_store::engine::memory::FailedWrite;

    fn open(engine: &MemoryEngine) -> StoreMachine {
        engine.restart();
        StoreMachine::open(engine, narrow_options()).unwrap()
    }

    fn put(machine: &mut StoreMachine, index: u64) {
        let request = PutRequest { key: format!("k{index}").into(), value: "v".into(), ..Default::default() };
        let command = StoreCommand::of(OpId(index), &Request::Put(request)).unwrap();
        let mut bytes = BytesMut::new();
        command.encode(&mut bytes);
        assert_eq!(StoreCommand::decode(bytes.freeze()), Ok(command.clone()));
        assert_eq!(command.op, Some(OpId(index)));
        machine.apply(LogId::new(1, index), command).unwrap();
        machine.end_batch();
    }

    #[test]
    fn a_crash_leaves_what_was_flushed() {
        let engine = MemoryEngine::default();
        let mut machine = open(&engine);
        put(&mut machine, 1);
        machine.flush().unwrap();
        put(&mut machine, 2);
        assert_eq!((machine.durable(), machine.applied()), (LogId::new(1, 1), LogId::new(1, 2)));
        let hash = machine.report().unwrap();
        drop(machine);
        let mut machine = open(&engine);
        assert_eq!(machine.applied(), LogId::new(1, 1));
        put(&mut machine, 2);
        assert_eq!(machine.report(), Ok(hash));
    }

    #[test]
    fn a_failed_sync_ends_the_process_and_may_have_been_done() {
        for found in [FailedWrite::Lost, FailedWrite::Kept] {
            let engine = MemoryEngine::default();
            let mut machine = open(&engine);
            put(&mut machine, 1);
            engine.fail_next_write(found);
            assert!(machine.failure().is_none());
            assert!(machine.flush().is_err() && machine.flush().is_err());
            assert!(machine.failure().is_some());
            assert_eq!(machine.durable(), LogId::ZERO, "what is not known to be kept is not durable");
            drop(machine);
            let mut machine = open(&engine);
            assert_eq!(machine.applied(), if found == FailedWrite::Kept { LogId::new(1, 1) } else { LogId::ZERO });
            assert!(machine.flush().is_ok());
        }
    }

    #[test]
    fn a_snapshot_makes_the_same_machine_if_it_can_be_kept() {
        let mut machine = open(&MemoryEngine::default());
        put(&mut machine, 1);
        machine.flush().unwrap();
        let mut bytes = Vec::new();
        let mut snapshot = machine.snapshot().unwrap();
        snapshot.write_to(&mut bytes).unwrap();
        for found in [FailedWrite::Lost, FailedWrite::Kept] {
            let engine = MemoryEngine::default();
            let mut other = open(&engine);
            engine.fail_next_write(found);
            assert!(other.restore(snapshot.at(), &mut &bytes[..]).is_err());
            drop(other);
            let mut other = open(&engine);
            assert_eq!(other.applied(), if found == FailedWrite::Kept { snapshot.at() } else { LogId::ZERO });
            other.restore(snapshot.at(), &mut &bytes[..]).unwrap();
            assert_eq!(other.report(), machine.report());
            // Its engine is still a simulated one.
            put(&mut other, 2);
            engine.fail_next_write(FailedWrite::Lost);
            assert!(other.flush().is_err());
        }
    }
}
