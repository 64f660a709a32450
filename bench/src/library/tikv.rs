//! Three nodes of tikv's `raft` in one process, driven as its example `five_mem_node` drives them: a thread for each, channels
//! between them, `MemStorage`, and a loop that ends in a `Ready`.
//!
//! What the example leaves to its reader is done as well as can be without touching the library: a turn takes all that waits,
//! each call waits on a channel of its own, and applied entries are forgotten.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use raft::eraftpb::{ConfState, Entry, Message};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};
use tokio::sync::oneshot;

use super::{REPLICAS, load};
use crate::Outcome;

const TICK: Duration = Duration::from_millis(50);
const TICKS_PER_ELECTION: usize = 10;
/// Messages with entries that may be under way to one peer, and the bytes of one.
const INFLIGHT_MAX: usize = 256;
const MESSAGE_BYTES_MAX: u64 = 1024 * 1024;
/// So many entries are cut off the beginning of the log at once, and so many applied ones are kept for peers that lag.
const FORGOTTEN_AT_ONCE: u64 = 4096;
const KEPT_ENTRIES: u64 = 1000;

/// What comes to a node.
enum Input {
    Propose(oneshot::Sender<()>),
    Message(Message),
    Campaign,
    Stop,
}

/// Three nodes, the first of which leads.
pub(super) struct Cluster {
    inputs: Vec<Sender<Input>>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Clone)]
pub(super) struct Leader(Sender<Input>);

impl load::Leader for Leader {
    async fn write(&self) -> Outcome<()> {
        let (done, is_done) = oneshot::channel();
        self.0.send(Input::Propose(done)).map_err(|_| "the leader has ended")?;
        is_done.await.map_err(|_| "the leader has lost its office".into())
    }
}

impl Cluster {
    /// Starts three nodes and makes the first lead.
    pub(super) fn start() -> Outcome<Self> {
        let (inputs, inboxes): (Vec<_>, Vec<_>) = (0..REPLICAS).map(|_| channel()).unzip();
        let nodes =
            (1..=REPLICAS).zip(inboxes).map(|(id, inbox)| Node::new(id, inputs.clone()).map(|node| (node, inbox)));
        let nodes: Vec<(Node, Receiver<Input>)> = nodes.collect::<Outcome<_>>()?;
        let threads = nodes.into_iter().map(|(node, inbox)| std::thread::spawn(move || node.run(&inbox))).collect();
        inputs[0].send(Input::Campaign)?;
        Ok(Self { inputs, threads })
    }

    pub(super) fn leader(&self) -> Leader {
        Leader(self.inputs[0].clone())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for input in &self.inputs {
            // One that has ended needs no word.
            let _ = input.send(Input::Stop);
        }
        for thread in self.threads.drain(..) {
            // It panicked, if it did, with a message of its own.
            let _ = thread.join();
        }
    }
}

/// One node on its thread.
struct Node {
    raw: RawNode<MemStorage>,
    store: MemStorage,
    peers: Vec<Sender<Input>>,
    /// Calls that wait, by the numbers that their entries hold.
    waiting: HashMap<u64, oneshot::Sender<()>>,
    next: u64,
    /// Calls that came while this node did not lead.
    early: Vec<oneshot::Sender<()>>,
    applied: u64,
    oldest: u64,
}

impl Node {
    fn new(id: u64, peers: Vec<Sender<Input>>) -> Outcome<Self> {
        let voters: Vec<u64> = (1..=REPLICAS).collect();
        let store = MemStorage::new_with_conf_state(ConfState::from((voters, vec![])));
        let config = Config {
            id,
            election_tick: TICKS_PER_ELECTION,
            heartbeat_tick: 1,
            pre_vote: true,
            check_quorum: true,
            max_inflight_msgs: INFLIGHT_MAX,
            max_size_per_msg: MESSAGE_BYTES_MAX,
            ..Config::default()
        };
        let silent = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&config, store.clone(), &silent)?;
        Ok(Self { raw, store, peers, waiting: HashMap::new(), next: 1, early: Vec::new(), applied: 0, oldest: 1 })
    }

    fn run(mut self, inbox: &Receiver<Input>) {
        let mut beat = Instant::now() + TICK;
        loop {
            let first = match inbox.recv_timeout(beat.saturating_duration_since(Instant::now())) {
                Ok(input) => Some(input),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            for input in first.into_iter().chain(inbox.try_iter()) {
                match input {
                    Input::Propose(done) => self.propose(done),
                    // What a peer sends out of place is dropped, as in the example.
                    Input::Message(message) => drop(self.raw.step(message)),
                    Input::Campaign => self.raw.campaign().expect("a follower may stand"),
                    Input::Stop => return,
                }
            }
            if Instant::now() >= beat {
                self.raw.tick();
                beat += TICK;
            }
            if !self.early.is_empty() && self.leads() {
                std::mem::take(&mut self.early).into_iter().for_each(|done| self.propose(done));
            }
            self.end_turn();
        }
    }

    fn leads(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    fn propose(&mut self, done: oneshot::Sender<()>) {
        if !self.leads() {
            return self.early.push(done);
        }
        let number = self.next;
        self.next += 1;
        // What is not taken is let go.
        if self.raw.propose(Vec::new(), number.to_le_bytes().to_vec()).is_ok() {
            self.waiting.insert(number, done);
        }
    }

    fn end_turn(&mut self) {
        if !self.raw.has_ready() {
            return;
        }
        let mut ready = self.raw.ready();
        self.send(ready.take_messages());
        self.apply(ready.take_committed_entries());
        self.store.wl().append(ready.entries()).expect("entries follow what is stored");
        if let Some(state) = ready.hs() {
            self.store.wl().set_hardstate(state.clone());
        }
        self.send(ready.take_persisted_messages());
        let mut light = self.raw.advance(ready);
        if let Some(commit) = light.commit_index() {
            self.store.wl().mut_hard_state().set_commit(commit);
        }
        self.send(light.take_messages());
        self.apply(light.take_committed_entries());
        self.raw.advance_apply();
        self.forget();
    }

    fn send(&self, messages: Vec<Message>) {
        for message in messages {
            // One that has ended hears nothing.
            let _ = self.peers[message.to as usize - 1].send(Input::Message(message));
        }
    }

    /// Answers the calls whose entries these are.
    fn apply(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            self.applied = entry.index;
            let number = <[u8; 8]>::try_from(&*entry.data).map(u64::from_le_bytes);
            if let Some(done) = number.ok().filter(|_| self.leads()).and_then(|number| self.waiting.remove(&number)) {
                // A client that has gone does not want it.
                let _ = done.send(());
            }
        }
    }

    /// Forgets all but the newest of the applied entries.
    fn forget(&mut self) {
        if self.applied >= self.oldest + KEPT_ENTRIES + FORGOTTEN_AT_ONCE {
            self.oldest = self.applied - KEPT_ENTRIES;
            self.store.wl().compact(self.oldest).expect("what is forgotten is applied");
        }
    }
}
