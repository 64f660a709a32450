//! A replica of tikv's `raft`, driven as its example `five_mem_node` drives it, on its own `MemStorage`.

use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, Message, MessageType};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};

use super::{HEARTBEATS_PER_ELECTION, INFLIGHT_MAX, KEPT_ENTRIES, MESSAGE_BYTES_MAX, Machine, REPLICAS, Replica};

pub(crate) struct TikvReplica {
    node: RawNode<MemStorage>,
    store: MemStorage,
    machine: Machine,
    /// The last entry applied, and the oldest that is kept.
    applied: u64,
    oldest: u64,
}

impl Replica for TikvReplica {
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

    fn campaign(&mut self) {
        self.node.campaign().expect("a follower may stand");
    }

    fn beat(&mut self) {
        self.node.tick();
    }

    /// One message for all of a batch; `RawNode::propose` makes one for each entry, and is slower.
    fn propose(&mut self, payloads: Vec<Bytes>) {
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.node.raft.id;
        let entries: Vec<Entry> = payloads.into_iter().map(|data| Entry { data, ..Entry::default() }).collect();
        message.set_entries(entries.into());
        self.node.step(message).expect("a leader takes proposals");
    }

    fn receive(&mut self, message: Message) {
        self.node.step(message).expect("a peer's message is in order");
    }

    fn end_turn(&mut self, sent: &mut Vec<(usize, Message)>) {
        if !self.node.has_ready() {
            return;
        }
        let mut ready = self.node.ready();
        send(ready.take_messages(), sent);
        self.apply(ready.take_committed_entries());
        self.store.wl().append(ready.entries()).expect("entries follow what is stored");
        if let Some(state) = ready.hs() {
            self.store.wl().set_hardstate(state.clone());
        }
        send(ready.take_persisted_messages(), sent);
        let mut light = self.node.advance(ready);
        if let Some(commit) = light.commit_index() {
            self.store.wl().mut_hard_state().set_commit(commit);
        }
        send(light.take_messages(), sent);
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

impl TikvReplica {
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
        let kept = KEPT_ENTRIES as u64;
        if self.applied >= self.oldest + 2 * kept {
            self.oldest = self.applied - kept;
            self.store.wl().compact(self.oldest).expect("what is forgotten is applied");
        }
    }
}

fn send(messages: Vec<Message>, sent: &mut Vec<(usize, Message)>) {
    sent.extend(messages.into_iter().map(|message| (message.to as usize - 1, message)));
}
