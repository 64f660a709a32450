//! One node of a group: its replica, its disk, and what waits for the disk. A value, like the replica.
//!
//! Owns what a host does between two inputs, and every check for which one node is enough. Must not know of the other
//! nodes' states.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use vlot_raft::canonical::forget_time;
use vlot_raft::configuration::{Change, Configuration};
use vlot_raft::effect::{Effect, Effects, Input, RoleName, WriteId};
use vlot_raft::id::{LogId, LogIndex, NodeId, Term};
use vlot_raft::invariants::{check_one, check_step};
use vlot_raft::message::{Body, Envelope, Message};
use vlot_raft::raft::Raft;
use vlot_raft::state::Config;
use vlot_raft::time::{Rng, Time};

use super::disk::{Disk, Write};
use super::rules::{Forgets, Rules};
use super::{Broken, broken, held, require};

/// When everything happens but the end of an office.
const NOW: Time = Time::from_millis(60_000);
/// When a leader has not heard its peers for long.
const LATER: Time = Time::from_millis(120_000);

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Node {
    pub raft: Raft,
    pub disk: Disk,
    /// Asked for and not durable. The first has number 1.
    pending: Vec<Write>,
    /// How often it has announced sleep in this office.
    announced: u64,
}

/// What may happen to a node.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Move {
    /// Its election timeout ends. Unless pre-votes are asked for by message, it wins one at once.
    Stand,
    /// It has led and heard no quorum for an election timeout.
    LoseOffice,
    /// Its heartbeats are due.
    Beat,
    Propose,
    Change(Vec<Change>),
    /// Its oldest write becomes durable.
    Persist,
    /// It stops and starts again. Of its writes so many were durable that nobody was told of.
    Crash {
        survive: usize,
    },
    /// A message comes.
    Receive {
        from: NodeId,
        to: NodeId,
        message: Message,
    },
    /// What was under way to a peer may be lost.
    Reconnect {
        peer: NodeId,
    },
    /// It sleeps, and its host says that nothing is heard of this node.
    Silent {
        peer: NodeId,
    },
    /// Its state machine makes durable all it may apply, and its log is cut before that.
    Compact,
    /// It has got a snapshot.
    Install {
        to: NodeId,
        id: LogId,
        configuration: (LogIndex, Configuration),
    },
}

/// A node after a move, and what it has sent.
pub struct Moved {
    pub node: Node,
    pub sent: Vec<Envelope>,
    /// That it crashed in the middle.
    pub crashed: Option<Crashed>,
}

/// A crash in the middle of a turn.
pub struct Crashed {
    /// So many of its writes were durable.
    pub done: u8,
    /// The replica as it was: it may have led or committed, and told so.
    pub was: Raft,
}

impl Node {
    /// A node that starts for the first time.
    pub fn first(name: NodeId, rules: &Rules) -> Self {
        let is_member = rules.members.contains(name);
        let disk = Disk::of_members(if is_member { rules.members.clone() } else { Configuration::default() });
        Self { raft: start(name, &disk, rules), disk, pending: Vec::new(), announced: 0 }
    }

    pub fn name(&self) -> NodeId {
        self.raft.node()
    }

    pub fn role(&self) -> RoleName {
        self.raft.role_state().role
    }

    pub fn term(&self) -> Term {
        self.raft.role_state().term
    }

    /// What may happen to it that is not another node's doing.
    pub fn moves(&self, rules: &Rules) -> Vec<Move> {
        // That all has survived is no case of its own: the host could as well have been told before the crash.
        let mut moves: Vec<Move> = (0..self.pending.len().max(1)).map(|survive| Move::Crash { survive }).collect();
        if !self.pending.is_empty() {
            moves.push(Move::Persist);
        }
        if self.is_busy(rules) {
            return moves;
        }
        if self.role() == RoleName::Leader {
            self.moves_of_leader(rules, &mut moves);
        } else if self.term().0 < rules.terms && self.raft.deadline() < Time::NEVER {
            moves.push(Move::Stand);
        }
        if self.raft.is_asleep() {
            let leader = self.raft.role_state().leader.filter(|&leader| leader != self.name());
            moves.extend(self.raft.peers().chain(leader).map(|peer| Move::Silent { peer }));
        }
        if rules.compaction && self.raft.ready() > self.raft.log().after().index {
            moves.push(Move::Compact);
        }
        moves
    }

    fn moves_of_leader(&self, rules: &Rules, moves: &mut Vec<Move>) {
        moves.push(Move::LoseOffice);
        // What was announced may come at any time: to repeat it makes no difference.
        if rules.heartbeats || self.announced < rules.sleeps {
            moves.push(Move::Beat);
        }
        if self.proposals() < rules.proposals {
            moves.push(Move::Propose);
        }
        moves.extend(self.next_change(rules).cloned().map(Move::Change));
        if rules.reconnects {
            moves.extend(self.raft.peers().map(|peer| Move::Reconnect { peer }));
        }
    }

    /// The first change that is not made yet, as its log says.
    fn next_change<'a>(&self, rules: &'a Rules) -> Option<&'a Vec<Change>> {
        rules.changes.iter().find(|changes| self.raft.configuration().changed(changes).is_ok())
    }

    /// Whether it does nothing but wait for its disk.
    pub fn is_busy(&self, rules: &Rules) -> bool {
        !self.pending.is_empty() && self.pending.len() >= rules.writes_behind
    }

    /// How many entries in its log were proposed: every run begins with a blank entry, and configurations are no proposals.
    fn proposals(&self) -> u64 {
        let log = self.raft.log();
        let configurations = self.raft.configurations().part(log.after().index, log.last()).len();
        log.last().since(log.after().index).saturating_sub((log.iter().count() + configurations) as u64)
    }

    /// What may become of it.
    ///
    /// If no writes may wait, a node does nothing else until its writes are done. When others move meanwhile makes no
    /// difference to it, so its writes are part of the move; in another case of it, it crashes between two of them.
    pub fn after(&self, happens: &Move, rules: &Rules) -> Result<Vec<Moved>, Broken> {
        let stepped = catch_unwind(AssertUnwindSafe(|| {
            let mut turn = Turn::begin(self.clone(), rules);
            turn.carry_out(happens)?;
            turn.end()?;
            if rules.writes_behind > 0 { Ok(vec![turn.moved()]) } else { turn.wait_for_disk() }
        }));
        stepped.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            broken("nothing panics", || text.unwrap_or_default())
        })
    }
}

fn start(name: NodeId, disk: &Disk, rules: &Rules) -> Raft {
    let config = Config {
        heartbeat: Duration::from_millis(100),
        election_timeout: Duration::from_millis(1000),
        inflight_max: rules.window,
        sleep_after: (rules.sleeps > 0).then_some(Duration::ZERO),
        ..Config::new(name)
    };
    let mut raft = Raft::new(config, disk.restored(), NOW, Rng::new(0));
    forget_time(&mut raft, NOW);
    raft
}

/// One turn of a host: an input, or some, and what follows from them.
#[derive(Clone)]
struct Turn<'a> {
    rules: &'a Rules,
    raft: Raft,
    disk: Disk,
    pending: Vec<Write>,
    /// How many writes were done in this turn.
    done: u8,
    sent: Vec<Envelope>,
    announced: u64,
}

impl<'a> Turn<'a> {
    fn begin(Node { raft, disk, pending, announced }: Node, rules: &'a Rules) -> Self {
        Self { rules, raft, disk, pending, done: 0, sent: Vec::new(), announced }
    }

    fn carry_out(&mut self, happens: &Move) -> Result<(), Broken> {
        match happens {
            Move::Stand => self.stand(),
            Move::LoseOffice => self.input(LATER, Input::Tick),
            Move::Beat => self.input(NOW, Input::Tick),
            Move::Propose => self.input(NOW, Input::Propose { count: 1 }),
            Move::Change(changes) => self.input(NOW, Input::ChangeConfiguration { changes: changes.clone() }),
            Move::Persist => self.persist(),
            Move::Crash { survive } => self.crash(*survive),
            Move::Receive { from, message, .. } => {
                self.input(NOW, Input::Receive { from: *from, message: message.clone() })
            }
            Move::Reconnect { peer } => self.input(NOW, Input::Connected { peer: *peer }),
            Move::Silent { peer } => self.input(NOW, Input::Silent { peer: *peer }),
            Move::Compact => {
                self.disk.apply_durably(self.raft.ready());
                self.input(NOW, Input::Compact { upto: self.raft.ready() })
            }
            Move::Install { id, configuration, .. } => {
                self.input(NOW, Input::SnapshotReceived { id: *id, configuration: configuration.clone() })
            }
        }
    }

    fn stand(&mut self) -> Result<(), Broken> {
        self.input(NOW, Input::Tick)?;
        if self.rules.pre_votes {
            return Ok(());
        }
        let peers: Vec<NodeId> = self.raft.configuration().voters().filter(|&node| node != self.raft.node()).collect();
        for from in peers {
            if self.raft.role_state().role == RoleName::PreCandidate {
                let message = Message { term: self.raft.role_state().term, body: Body::PreVoteGranted };
                self.input(NOW, Input::Receive { from, message })?;
            }
        }
        Ok(())
    }

    fn crash(&mut self, survive: usize) -> Result<(), Broken> {
        for _ in 0..survive {
            self.finish_one()?;
        }
        self.pending.clear();
        match self.rules.forgets {
            Forgets::Nothing => {}
            Forgets::Vote => self.disk.vote = None,
            Forgets::LastEntry => self.disk.log.cut_after(self.disk.log.last().prev().max(self.disk.log.after().index)),
        }
        self.raft = start(self.raft.node(), &self.disk, self.rules);
        held(check_one(&self.raft))
    }

    fn persist(&mut self) -> Result<(), Broken> {
        let write = self.finish_one()?;
        self.input(NOW, Input::Persisted { write })
    }

    /// All writes become durable, one by one; and for each, the case that the node crashes before.
    fn wait_for_disk(mut self) -> Result<Vec<Moved>, Broken> {
        let mut cases = Vec::new();
        while !self.pending.is_empty() {
            let mut crashed = self.clone();
            crashed.crash(0)?;
            let crashed = crashed.moved();
            cases.push(Moved { crashed: Some(Crashed { done: self.done, was: self.raft.clone() }), ..crashed });
            self.persist()?;
            self.end()?;
        }
        cases.insert(0, self.moved());
        Ok(cases)
    }

    fn finish_one(&mut self) -> Result<WriteId, Broken> {
        self.disk.finish(self.pending.remove(0))?;
        self.done += 1;
        Ok(WriteId(u64::from(self.done)))
    }

    fn input(&mut self, now: Time, input: Input) -> Result<(), Broken> {
        self.call(|raft, effects| raft.step(now, input, effects))
    }

    /// The end of the turn: whatever a leader has for a peer goes out.
    fn end(&mut self) -> Result<(), Broken> {
        let peers: Vec<NodeId> = self.raft.peers().collect();
        for peer in peers {
            while let Some((_, last)) = self.raft.next_range(peer) {
                self.call(|raft, effects| raft.send_entries(peer, last, 0, effects))?;
            }
        }
        self.call(|raft, effects| raft.end_turn(effects))
    }

    fn moved(mut self) -> Moved {
        forget_time(&mut self.raft, NOW);
        let Self { raft, disk, pending, sent, .. } = self;
        let announced = if raft.role_state().role == RoleName::Leader { self.announced } else { 0 };
        Moved { node: Node { raft, disk, pending, announced }, sent, crashed: None }
    }

    fn call(&mut self, change: impl FnOnce(&mut Raft, &mut Effects)) -> Result<(), Broken> {
        let (before, mut effects) = (self.raft.clone(), Effects::new());
        change(&mut self.raft, &mut effects);
        held(check_one(&self.raft))?;
        held(check_step(&before, &self.raft))?;
        effects.into_iter().try_for_each(|effect| self.take(effect))
    }

    fn take(&mut self, effect: Effect) -> Result<(), Broken> {
        match effect {
            Effect::SaveVote { write, term, vote } => self.write(write, Write::Vote { term, vote }),
            Effect::Append { write, entries, .. } => {
                let configurations = self.raft.configurations().part(entries.after().index, entries.last());
                self.write(write, Write::Append { entries, configurations })
            }
            Effect::Compact { write, after } => self.write(write, Write::Compact { after }),
            Effect::InstallSnapshot { write, id } => {
                let configuration = self.raft.configurations().at(id.index).clone();
                self.write(write, Write::Install { id, configuration })
            }
            Effect::Send(envelope) => {
                self.vouches_for_what_is_durable(&envelope)?;
                if let Body::Sleep { round, .. } = envelope.message.body {
                    self.announced = round;
                }
                if !self.rules.loses(&envelope.message) {
                    self.sent.push(envelope);
                }
                Ok(())
            }
            Effect::Commit { upto } => {
                let id = LogId { index: upto, term: self.raft.log().term_at(upto).unwrap_or_default() };
                let installing = self.raft.log().after().index >= upto;
                let durable = installing || self.disk.holds(id);
                require("nothing is applied before it is durable", durable, || format!("{id}"))
            }
            Effect::Misbehaved { from, how } => broken("nobody misbehaves", || format!("n{from}: {how:?}")),
            _ => Ok(()),
        }
    }

    fn write(&mut self, id: WriteId, write: Write) -> Result<(), Broken> {
        self.pending.push(write);
        let number = u64::from(self.done) + self.pending.len() as u64;
        require("writes are numbered in order", id.0 == number, || format!("{} is the {number}th", id.0))
    }

    /// Term, vote and entries are on the disk before a message that vouches for them leaves (Raft figure 2).
    fn vouches_for_what_is_durable(&self, Envelope { to, message }: &Envelope) -> Result<(), Broken> {
        let (disk, term) = (&self.disk, message.term);
        let durable = match &message.body {
            Body::RequestPreVote { .. } | Body::PreVoteGranted | Body::PreVoteRefused => true,
            Body::RequestVote { .. } => (disk.term, disk.vote) == (term, Some(self.raft.node())),
            Body::VoteGranted => (disk.term, disk.vote) == (term, Some(*to)),
            Body::EntriesAccepted { upto, .. } => {
                let known = self.raft.log().term_at(*upto).map(|term| LogId { term, index: *upto });
                disk.term >= term && known.is_none_or(|id| disk.holds(id))
            }
            Body::HeartbeatReply { asleep: true, .. } => disk.term >= term && disk.log == *self.raft.log(),
            _ => disk.term >= term,
        };
        require("a message vouches for what is durable", durable, || format!("{message:?} to n{to}, {disk:?}"))
    }
}
