//! What members agree on: commands of the store on their way into the log and out of it, and the state they change.
//!
//! The only file that knows how the store is a state machine. Must not know how agreement is reached, or of calls.

use std::io::{Read, Write};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::watch;
use tracing::error;
use vlot::{BadCommand, BadSnapshot, LogId, Members, StateMachine};
use vlot_store::command::{Command, Tag};
use vlot_store::refusal::Refusal;
use vlot_store::revision::Position;
use vlot_store::store::{Applied, Store};

use crate::member;

/// What members agree on applying: the store, and what must happen beside it.
pub(crate) struct StoreMachine {
    store: Store,
    /// Whether compacted history waits to be given up.
    compacting: watch::Sender<bool>,
}

impl StoreMachine {
    /// Takes over a store; the second half tells whether compacted history waits to be given up.
    pub(crate) fn new(store: Store) -> (StoreMachine, watch::Receiver<bool>) {
        let (compacting, pending) = watch::channel(true);
        (StoreMachine { store, compacting }, pending)
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Gives up a piece of compacted history. Returns whether there is more.
    pub(crate) fn compact_a_little(&mut self) -> bool {
        let more = self.store.compact_step();
        if !more {
            // Not after the owner has let go of the keeper: a compaction applied right then would be taken for done.
            self.compacting.send_replace(false);
        }
        more
    }

    /// Writes everything down, and ends.
    pub(crate) fn flush(&mut self) -> Result<(), String> {
        self.store.flush().map_err(|error| error.to_string())
    }
}

/// A command of the store on its way into the log, or out of it.
pub(crate) enum Proposal {
    /// A client's request, byte for byte as it came.
    Request(Tag, Bytes),
    /// What the log holds.
    Command(Command),
}

impl vlot::Command for Proposal {
    fn encode(&self, buffer: &mut BytesMut) {
        match self {
            Proposal::Request(tag, request) => {
                buffer.put_u8(*tag as u8);
                buffer.put_slice(request);
            }
            Proposal::Command(command) => buffer.put_slice(&command.encode()),
        }
    }

    fn decode(bytes: Bytes) -> Result<Proposal, BadCommand> {
        Command::decode(bytes).map(Proposal::Command).map_err(|error| BadCommand(error.to_string()))
    }

    fn size_hint(&self) -> usize {
        match self {
            Proposal::Request(_, request) => 1 + request.len(),
            Proposal::Command(_) => 64,
        }
    }
}

impl StateMachine for StoreMachine {
    type Command = Proposal;
    type Reply = Result<Applied, Refusal>;

    fn apply(&mut self, at: LogId, proposal: Proposal) -> Result<Applied, Refusal> {
        let command = match proposal {
            Proposal::Command(command) => command,
            // Services propose only what they have decoded, and what is applied comes from the log.
            Proposal::Request(tag, _) => unreachable!("a {tag:?} request is applied that was not read from the log"),
        };
        if member::is_of_the_removed(&command, &self.store) {
            self.store.skip(position(at));
            return Ok(Applied::SetAttribute);
        }
        let applied = self.store.apply(position(at), command);
        match &applied {
            Ok(Applied::Compact(_)) => drop(self.compacting.send_replace(true)),
            Err(Refusal::Unreadable) => stop_at_once(&self.store),
            _ => {}
        }
        applied
    }

    fn skip(&mut self, at: LogId) {
        self.store.skip(position(at));
    }

    fn members_changed(&mut self, at: LogId, members: &Members, context: Bytes) {
        for fact in member::facts_after(members, &context) {
            // To remember a fact is never refused.
            let _ = self.store.apply(position(at), fact);
        }
        self.store.skip(position(at));
    }

    fn end_batch(&mut self) {
        self.store.end_batch();
    }

    fn durable(&self) -> LogId {
        log_id(self.store.durable())
    }

    fn snapshot(&self) -> Option<Box<dyn vlot::Snapshot>> {
        match self.store.snapshot() {
            Ok(snapshot) => Some(Box::new(StoreSnapshot(snapshot))),
            // A store that cannot be read says so to its owner, who stops.
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
        Ok(())
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

fn log_id(Position { term, index }: Position) -> LogId {
    LogId::new(term, index)
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
