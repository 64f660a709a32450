//! What members agree on: commands of the store on their way into the log and out of it, and the state they change.
//!
//! The only file that knows how the store is a state machine. Must not know how agreement is reached, or of calls.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::{mpsc, watch};
use tracing::{error, warn};
use vlot::{BadCommand, BadSnapshot, Class, LogId, Members, StateMachine, Viewed};
use vlot_store::alarms::Alarms;
use vlot_store::auth::{Asker, Auth};
use vlot_store::command::{Command, Tag};
use vlot_store::refusal::Refusal;
use vlot_store::revision::Position;
use vlot_store::store::{Applied, Store};
use vlot_store::view::View;

use crate::members::member;
use crate::telemetry::metrics::{Act, Metrics};

/// How long compaction is at work in memory before commands have their turn: less than one waits for the log.
const MAINTENANCE: Duration = Duration::from_micros(250);
/// How many steps that is at most, where there is nothing to do in them yet.
const MAINTENANCE_STEPS_MAX: usize = 64;

/// What members agree on applying: the store, and what must happen beside it.
pub(crate) struct StoreMachine {
    store: Store,
    /// Whether compacted history waits to be given up.
    compacting: watch::Sender<bool>,
    /// The facts beside the keys, for readers that must not wait for the store.
    facts: watch::Sender<Arc<Facts>>,
    metrics: Arc<Metrics>,
    /// A command that takes longer is logged.
    slow_apply: Duration,
    alarms: watch::Sender<Alarms>,
    auth: watch::Sender<Arc<Auth>>,
    asks_who_calls: Arc<AtomicBool>,
    stored_bytes: Arc<AtomicU64>,
    compactions: mpsc::Sender<BeforeCompaction>,
}

/// History as it was just before a compaction, which has taken place.
pub(crate) struct BeforeCompaction {
    pub(crate) view: View,
    pub(crate) revision: i64,
}

/// What is remembered beside the keys: members' names and URLs, say.
pub(crate) type Facts = BTreeMap<Bytes, Bytes>;

/// What a state machine tells beside its state.
pub(crate) struct Told {
    /// Whether compacted history waits to be given up.
    pub(crate) compacting: watch::Receiver<bool>,
    pub(crate) facts: watch::Receiver<Arc<Facts>>,
    pub(crate) alarms: watch::Receiver<Alarms>,
    /// Users and roles, for what must not wait for the store.
    pub(crate) auth: watch::Receiver<Arc<Auth>>,
    /// Whether they count.
    pub(crate) asks_who_calls: Arc<AtomicBool>,
    /// What history took up at the end of the last batch.
    pub(crate) stored_bytes: Arc<AtomicU64>,
}

impl StoreMachine {
    /// Takes over a store. Compactions are told as far as they are taken: one that comes too soon after another is left
    /// out.
    pub(crate) fn new(
        store: Store,
        metrics: Arc<Metrics>,
        slow_apply: Duration,
    ) -> (StoreMachine, Told, mpsc::Receiver<BeforeCompaction>) {
        let (compacting, pending) = watch::channel(true);
        let (facts, told) = watch::channel(facts_of(&store));
        // A view that waits costs memory.
        let (compactions, taken) = mpsc::channel(1);
        let (alarms, raised) = watch::channel(store.alarms().clone());
        let (auth, users) = watch::channel(store.auth_now());
        let stored_bytes = Arc::new(AtomicU64::new(store.stored_bytes()));
        let asks_who_calls = Arc::new(AtomicBool::new(store.auth().is_enabled()));
        let told = Told {
            compacting: pending,
            facts: told,
            alarms: raised,
            auth: users,
            asks_who_calls: asks_who_calls.clone(),
            stored_bytes: stored_bytes.clone(),
        };
        let machine = StoreMachine {
            store,
            compacting,
            facts,
            metrics,
            slow_apply,
            alarms,
            auth,
            asks_who_calls,
            stored_bytes,
            compactions,
        };
        (machine, told, taken)
    }

    fn before(&self, command: &Command) -> Option<BeforeCompaction> {
        match command.plain() {
            Command::Compact(request) if self.compactions.capacity() > 0 => {
                Some(BeforeCompaction { view: self.store.view(), revision: request.revision })
            }
            _ => None,
        }
    }

    fn tell_facts(&self) {
        self.facts.send_replace(facts_of(&self.store));
        let is_new = |alarms: &mut Alarms| {
            let changed = alarms != self.store.alarms();
            alarms.clone_from(self.store.alarms());
            changed
        };
        self.alarms.send_if_modified(is_new);
    }

    fn tell_auth(&self) {
        self.auth.send_replace(self.store.auth_now());
        // Who sees this sees the users too.
        self.asks_who_calls.store(self.store.auth().is_enabled(), Release);
    }

    fn tell_size(&self) {
        self.stored_bytes.store(self.store.stored_bytes(), Relaxed);
    }

    /// Applies a command, and counts how long that takes.
    fn apply_measured(&mut self, at: LogId, command: Command) -> Result<Applied, Refusal> {
        let Some(act) = act_of(&command) else { return self.store.apply(position(at), command) };
        let span = self.metrics.applies.begin(act);
        let applied = self.store.apply(position(at), command);
        // As in etcd, a compaction that comes late has had its way all the same.
        let has_succeeded = matches!(applied, Ok(_) | Err(Refusal::Compacted { .. }));
        let took = span.end(has_succeeded);
        if took > self.slow_apply {
            self.metrics.slow_applies.fetch_add(1, Relaxed);
            warn!(command = act.name(), ?took, "slow apply");
        }
        applied
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }
}

/// A command of the store on its way into the log, or out of it.
pub(crate) enum Proposal {
    /// A client's request, byte for byte as it came.
    Request {
        /// The client, if it has said who it is.
        asker: Option<Asker>,
        tag: Tag,
        request: Bytes,
    },
    /// What the log holds.
    Command(Command),
}

impl Proposal {
    fn changes_keys(&self) -> bool {
        match self {
            Proposal::Request { tag, .. } => matches!(tag, Tag::Put | Tag::DeleteRange | Tag::Txn),
            Proposal::Command(command) => {
                matches!(command.plain(), Command::Put(_) | Command::DeleteRange(_) | Command::Txn(_))
            }
        }
    }
}

impl vlot::Command for Proposal {
    fn encode(&self, buffer: &mut BytesMut) {
        match self {
            Proposal::Request { asker, tag, request } => {
                if let Some(asker) = asker {
                    asker.encode(buffer);
                }
                buffer.put_u8(*tag as u8);
                buffer.put_slice(request);
            }
            Proposal::Command(command) => buffer.put_slice(&command.encode()),
        }
    }

    fn decode(bytes: Bytes) -> Result<Proposal, BadCommand> {
        Command::decode(bytes).map(Proposal::Command).map_err(|error| BadCommand(error.to_string()))
    }

    fn check(_: &Bytes) -> Result<(), BadCommand> {
        // Services propose only what they have decoded, and what this program makes itself is sound.
        Ok(())
    }

    fn size_hint(&self) -> usize {
        match self {
            Proposal::Request { asker, request, .. } => asker.as_ref().map_or(0, Asker::size_hint) + 1 + request.len(),
            Proposal::Command(_) => 64,
        }
    }

    fn class(&self) -> Class {
        if self.changes_keys() { Class::Bulk } else { Class::Urgent }
    }

    /// What is frequent shares entries. The rest must not: the store ends a batch before it changes users, and an entry that is
    /// written down in part would be taken for whole.
    fn shares_entry(&self) -> bool {
        self.changes_keys()
    }
}

impl StateMachine for StoreMachine {
    type Command = Proposal;
    type Reply = Result<Applied, Refusal>;

    fn apply(&mut self, at: LogId, proposal: Proposal) -> Result<Applied, Refusal> {
        let command = match proposal {
            Proposal::Command(command) => command,
            // Services propose only what they have decoded, and what is applied comes from the log.
            Proposal::Request { tag, .. } => {
                unreachable!("a {tag:?} request is applied that was not read from the log")
            }
        };
        if member::is_of_the_removed(command.plain(), &self.facts.borrow()) {
            self.store.skip(position(at));
            return Ok(Applied::SetAttribute);
        }
        let before = self.before(&command);
        let applied = self.apply_measured(at, command);
        match &applied {
            Ok(Applied::Compact(_)) => {
                self.compacting.send_replace(true);
                // If nobody takes it, nothing compares what it was.
                before.map(|before| self.compactions.try_send(before));
            }
            Ok(Applied::SetAttribute | Applied::Alarm(_)) => self.tell_facts(),
            Ok(Applied::Auth { .. }) => self.tell_auth(),
            Err(Refusal::Unreadable) => stop_at_once(&self.store),
            _ => {}
        }
        applied
    }

    fn is_prompt(&self, proposal: &Proposal) -> bool {
        match proposal {
            Proposal::Command(command) => self.store.is_prompt(command),
            Proposal::Request { .. } => false,
        }
    }

    fn skip(&mut self, at: LogId) {
        self.store.skip(position(at));
    }

    fn members_changed(&mut self, at: LogId, members: &Members, context: Bytes) {
        for fact in member::facts_after(members, &context) {
            // To remember a fact is never refused.
            let _ = self.store.apply(position(at), fact.by(Asker::Server));
        }
        self.store.skip(position(at));
        self.tell_facts();
    }

    fn end_batch(&mut self) {
        self.store.end_batch();
        self.tell_size();
    }

    fn needs_maintenance(&self) -> bool {
        *self.compacting.borrow()
    }

    fn maintain(&mut self) -> bool {
        let more = self.metrics.compaction_steps.time(|| compact_for_a_while(&mut self.store));
        self.tell_size();
        // Between commands: a compaction that is applied later is not taken for done.
        self.compacting.send_replace(more);
        more
    }

    fn close(&mut self) {
        if let Err(failure) = self.store.finish() {
            warn!(%failure, "the store was not written down; the log has everything");
        }
    }

    fn durable(&self) -> LogId {
        log_id(self.store.durable())
    }

    fn snapshot(&self) -> Option<Box<dyn vlot::Snapshot>> {
        match self.store.snapshot() {
            Ok(snapshot) => Some(Box::new(StoreSnapshot(snapshot))),
            // A store that cannot be read says so to its owner, which stops.
            Err(failure) => {
                error!(%failure, "no snapshot can be made of the store");
                None
            }
        }
    }

    fn restore(&mut self, at: LogId, from: &mut dyn Read) -> Result<(), BadSnapshot> {
        self.store.restore(from).map_err(|error| BadSnapshot(error.to_string()))?;
        let applied = log_id(self.store.applied());
        if applied != at {
            return Err(BadSnapshot(format!("it is of {applied}")));
        }
        // History that is compacted may have come along.
        self.compacting.send_replace(true);
        self.tell_facts();
        self.tell_auth();
        Ok(())
    }
}

impl Viewed for StoreMachine {
    type View = View;

    fn view(&self) -> View {
        self.store.view()
    }
}

/// A moment of the store, on its way to another member.
struct StoreSnapshot(vlot_store::snapshot::Snapshot);

impl vlot::Snapshot for StoreSnapshot {
    fn at(&self) -> LogId {
        log_id(self.0.position())
    }

    fn write_to(&mut self, out: &mut dyn Write) -> std::io::Result<()> {
        self.0.write_to(out)
    }
}

fn facts_of(store: &Store) -> Arc<Facts> {
    Arc::new(store.attributes().map(|(name, value)| (name.clone(), value.clone())).collect())
}

fn log_id(Position { term, index }: Position) -> LogId {
    LogId::new(term, index)
}

/// What a client's command counts as. What members tell each other is no client's.
fn act_of(command: &Command) -> Option<Act> {
    match command.plain() {
        Command::Put(_) => Some(Act::Put),
        Command::DeleteRange(_) => Some(Act::DeleteRange),
        Command::Txn(_) => Some(Act::Txn),
        Command::Compact(_) => Some(Act::Compaction),
        Command::LeaseGrant(_) => Some(Act::LeaseGrant),
        Command::LeaseRevoke(_) => Some(Act::LeaseRevoke),
        _ => None,
    }
}

/// Returns whether there is more to do.
fn compact_for_a_while(store: &mut Store) -> bool {
    let begun = Instant::now();
    for _ in 0..MAINTENANCE_STEPS_MAX {
        if !store.compact_step() {
            return false;
        }
        if begun.elapsed() >= MAINTENANCE {
            break;
        }
    }
    true
}

/// Ends the process where a decided command cannot be applied: what is read after it would be stale. All that was
/// acknowledged is in the log.
fn stop_at_once(store: &Store) -> ! {
    let failure = store.failure().map_or_else(|| "a value cannot be read".to_owned(), |error| error.to_string());
    error!(failure, "stopping at once: the store has failed");
    std::process::exit(1)
}

fn position(at: LogId) -> Position {
    Position { term: at.term.0, index: at.index.0 }
}
