//! A replica of tikv's `raft`, driven as its example `five_mem_node` drives it, on its own `MemStorage`.

use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, Message, MessageType};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};

use super::{
    FORGOTTEN_AT_ONCE, HEARTBEATS_PER_ELECTION, INFLIGHT_MAX, KEPT_ENTRIES, MESSAGE_BYTES_MAX, Machine, REPLICAS,
    Replica, Wire,
};

/// With `WHOLE_BATCHES` all entries of a batch go into one message, as `RawNode::step` allows. Otherwise each is given to
/// `RawNode::propose`, as in the library's examples and benches.
pub(crate) struct TikvReplica<const WHOLE_BATCHES: bool> {
    node: RawNode<MemStorage>,
    store: MemStorage,
    machine: Machine,
    /// The last entry applied, and the oldest that is kept.
    applied: u64,
    oldest: u64,
}

impl<const WHOLE_BATCHES: bool> Replica for TikvReplica<WHOLE_BATCHES> {
    type Message = Message;

    fn new(number: usize) -> Self {
        let voters: Vec<u64> = (1..=REPLICAS as u64).collect();
        let store = MemStorage::new_with_conf_state(ConfState::from((voters, vec![])));
        let config = Config {
            id: number as u64 + 1,
            election_tick: HEARTBEATS_PER_ELECTION as usize,
            heartbeat_tick: 1,
            pre_vote: true,
            check_quorum: true,
            max_inflight_msgs: INFLIGHT_MAX,
            max_size_per_msg: MESSAGE_BYTES_MAX as u64,
            ..Config::default()
        };
        let silent = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&config, store.clone(), &silent).expect("the configuration is valid");
        Self { node, store, machine: Machine::default(), applied: 0, oldest: 1 }
    }

    fn campaign(&mut self, _: &mut Wire<Message>) {
        self.node.campaign().expect("a follower may stand");
    }

    fn beat(&mut self, _: &mut Wire<Message>) {
        self.node.tick();
    }

    fn propose(&mut self, payloads: Vec<Bytes>, _: &mut Wire<Message>) {
        let entries = payloads.into_iter().map(|payload| {
            // The conversion costs nothing with the protobuf codec; prost's entries cannot share.
            #[allow(clippy::useless_conversion)]
            let data = payload.into();
            Entry { data, ..Entry::default() }
        });
        if WHOLE_BATCHES {
            self.propose_entries(entries.collect());
        } else {
            entries.for_each(|entry| self.propose_entries(vec![entry]));
        }
    }

    fn receive(&mut self, message: Message, _: &mut Wire<Message>) {
        self.node.step(message).expect("a peer's message is in order");
    }

    fn end_turn(&mut self, wire: &mut Wire<Message>) {
        if !self.node.has_ready() {
            return;
        }
        let mut ready = self.node.ready();
        send(ready.take_messages(), wire);
        self.apply(ready.take_committed_entries());
        self.store.wl().append(ready.entries()).expect("entries follow what is stored");
        if let Some(state) = ready.hs() {
            self.store.wl().set_hardstate(state.clone());
        }
        send(ready.take_persisted_messages(), wire);
        let mut light = self.node.advance(ready);
        if let Some(commit) = light.commit_index() {
            self.store.wl().mut_hard_state().set_commit(commit);
        }
        send(light.take_messages(), wire);
        self.apply(light.take_committed_entries());
        self.node.advance_apply();
        self.forget();
    }

    fn leads(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    fn machine(&self) -> &Machine {
        &self.machine
    }
}

impl<const WHOLE_BATCHES: bool> TikvReplica<WHOLE_BATCHES> {
    /// What `RawNode::propose` does, without copying the payload into a vector first.
    fn propose_entries(&mut self, entries: Vec<Entry>) {
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.node.raft.id;
        message.set_entries(entries.into());
        self.node.step(message).expect("a leader takes proposals");
    }

    /// Hands entries to the state machine, all but the blank one of a new leader.
    fn apply(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            self.applied = entry.index;
            if !entry.data.is_empty() {
                self.machine.apply(&entry.data);
            }
        }
    }

    /// Forgets all but the newest of the applied entries.
    fn forget(&mut self) {
        let [kept, forgotten] = [KEPT_ENTRIES, FORGOTTEN_AT_ONCE].map(|count| count as u64);
        if self.applied >= self.oldest + kept + forgotten {
            self.oldest = self.applied - kept;
            self.store.wl().compact(self.oldest).expect("what is forgotten is applied");
        }
    }
}

fn send(messages: Vec<Message>, wire: &mut Wire<Message>) {
    for message in messages {
        wire.send(message.to as usize - 1, message);
    }
}
