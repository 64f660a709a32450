//! The conditions of one run: all that a seed decides before the world begins.
//!
//! Owns which world a seed stands for: its size, its speeds, how often what goes wrong. Seeds differ widely on purpose:
//! a fault that is rare in one is common in the next, and most combinations occur within some dozens of seeds.

use crate::agenda::Span;
use crate::fault_kind::{FaultKind, Kinds};
use crate::network::Rates;
use crate::place::{address_of, node_at};
use crate::rng::Rng;
use std::time::Duration;
use vlot_node::policy::{Policies, ReplaceDead};
use vlot_node::transfer::Limits;

/// What is asked of a run besides its seed.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many first members; drawn from the seed if not given.
    pub nodes: Option<usize>,
    /// How many machines beside them; drawn from the seed if not given.
    pub spare: Option<usize>,
    /// How many groups; drawn from the seed if not given.
    pub groups: Option<usize>,
    /// Which kinds of fault may happen. Those that do are drawn from the seed.
    pub faults: Kinds,
    /// How long faults rage, in simulated seconds. The end of the run comes a few seconds after.
    pub seconds: u64,
    /// Leaders change members by themselves, and are balanced over nodes. How is drawn from the seed.
    pub policies: bool,
    /// Keep every line of the transcript, not only its end.
    pub whole_transcript: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: None,
            spare: None,
            groups: None,
            faults: Kinds::ALL,
            seconds: 30,
            policies: false,
            whole_transcript: false,
        }
    }
}

/// What the seed has decided.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// How many first members.
    pub nodes: usize,
    /// How many machines beside them.
    pub spare: usize,
    /// How many groups.
    pub groups: usize,
    /// When faults cease.
    pub storm: Span,
    /// How often a leader says that it leads.
    pub heartbeat: Duration,
    /// How long a follower waits for a leader, at least.
    pub election_timeout: Duration,
    /// How long nothing must have happened before a group sleeps; it never does, if none.
    pub sleep_after: Option<Duration>,
    /// How long a leader answers reads without asking; it always asks, if none.
    pub lease: Option<Duration>,
    /// How much each machine's node should lead; 1, beyond the end.
    pub priorities: Vec<u8>,
    /// What leaders do about members by themselves.
    pub policies: Policies,
    /// Messages with entries under way to one peer.
    pub inflight_max: usize,
    /// Payload bytes under way to one peer.
    pub inflight_bytes_max: u64,
    /// Entries that wait to be committed before the leader takes no more.
    pub uncommitted_max: u64,
    /// Payload bytes of one message.
    pub message_bytes_max: usize,
    /// Payload bytes kept in memory.
    pub recent_bytes_max: usize,
    /// Payload bytes replayed at once.
    pub replay_bytes_max: usize,
    /// How long a segment of the log is, in bytes.
    pub segment_bytes: u32,
    /// State machines live in memory alone, and are saved as snapshots.
    pub in_memory: bool,
    /// State machines make snapshots, if they can.
    pub snapshots: bool,
    /// How many entries a state machine that is durable by itself may have applied beyond what it has made durable.
    pub image_every: u64,
    /// A log is cut when it has twice as many entries as these, and keeps these. None: only when a fault has it.
    pub entries_kept: Option<u64>,
    /// How long a state machine takes for a batch, typically.
    pub apply: Span,
    /// Batches that are applied at once, on the node's own thread, of a million.
    pub in_place: u64,
    /// Bytes of entries that a state machine may have been given and not have applied.
    pub apply_bytes_max: usize,
    /// How long a snapshot takes to be written, or a piece of it to be read, typically.
    pub file: Span,
    /// How snapshots are sent and received.
    pub transfer: Limits,
    /// Groups that are begun only after their node has been up for a while, of a million.
    pub late_groups: u64,
    /// How the network is by itself.
    pub network: Rates,
    /// How long a sync takes, typically.
    pub sync: Span,
    /// From the first input of a turn to its end: what comes meanwhile is part of the turn.
    pub turn: Span,
    /// By how much clocks run fast or slow at most, in millionths.
    pub clock_drift: u64,
    /// How many clients.
    pub clients: usize,
    /// How many keys they work on.
    pub keys: u8,
    /// How long a client waits between operations, typically.
    pub think: Span,
    /// How long a client waits for an answer.
    pub client_timeout: Span,
    /// How long a value may be, in bytes.
    pub value_bytes_max: u64,
    /// State machines ask for replicated time, if they can.
    pub wants_time: bool,
    /// How many of the machines begin with a program that reads no entries which commands share; when it is started again, it is
    /// a later one.
    pub old_programs: usize,
    /// The kinds of fault that happen, and how long apart, typically.
    pub faults: Vec<(FaultKind, Span)>,
}

impl Conditions {
    /// Conditions under which nothing goes wrong by itself.
    #[must_use]
    pub fn calm(nodes: usize) -> Self {
        Self {
            nodes,
            spare: 0,
            groups: 1,
            storm: Span::seconds(3600),
            heartbeat: Duration::from_millis(100),
            election_timeout: Duration::from_millis(1000),
            sleep_after: None,
            lease: None,
            priorities: Vec::new(),
            policies: Policies::default(),
            inflight_max: 128,
            inflight_bytes_max: 1 << 20,
            uncommitted_max: 1 << 20,
            message_bytes_max: 1 << 20,
            recent_bytes_max: 1 << 20,
            replay_bytes_max: 1 << 20,
            segment_bytes: 64 << 10,
            in_memory: false,
            snapshots: true,
            image_every: 10,
            entries_kept: None,
            apply: Span::micros(20),
            in_place: 500_000,
            apply_bytes_max: 1 << 20,
            file: Span::millis(1),
            transfer: Limits::default(),
            late_groups: 0,
            network: Rates { latency: Span::micros(500), ..Rates::default() },
            sync: Span::micros(500),
            turn: Span::micros(20),
            clock_drift: 0,
            clients: 2 * nodes,
            keys: 4,
            think: Span::millis(200),
            client_timeout: Span::millis(500),
            value_bytes_max: 0,
            wants_time: false,
            old_programs: 0,
            faults: Vec::new(),
        }
    }

    /// The conditions of a seed.
    #[must_use]
    pub fn draw(seed: u64, options: &Options) -> Self {
        let rng = &mut Rng::new(seed, 1);
        let nodes = rng.pick(&[3, 3, 3, 4, 5, 5, 5, 7]);
        let clients = rng.between(2, 9);
        let latency = Span::micros(rng.pick(&[100, 500, 2_000, 20_000]));
        // Far apart, one message at a time carries less than clients write.
        let inflight_max = rng.pick(&[1, 4, 128]).max(if latency < Span::millis(10) { 1 } else { 4 });
        let election_timeout = Duration::from_millis(rng.pick(&[300, 500, 1000, 2000]));
        let clock_drift = rng.pick(&[0, 100, 100_000]);
        let churns = rng.below(5) > 1;
        let spare = rng.pick(&[0, 1, 1, 2, 3]);
        let lease = draw_lease(election_timeout, clock_drift, rng);
        let faults = draw_faults(churns, options.faults, rng);
        let file = Span::micros(rng.pick(&[100, 2_000, 50_000]));
        let is_slow = latency + file >= Span::millis(10);
        let are_equal = rng.below(4) > 0;
        let groups = rng.pick(&[1, 1, 1, 1, 1, 2, 3, 4]);
        let nodes = options.nodes.unwrap_or(nodes);
        let changes_members = churns || options.policies;
        // A voter that is gone needs another to take its seat.
        let spare = if options.policies { spare.max(1) } else { spare };
        let spare = options.spare.unwrap_or(if changes_members { spare } else { 0 });
        Self {
            nodes,
            spare,
            groups: options.groups.unwrap_or(groups),
            storm: Span::seconds(options.seconds),
            heartbeat: Duration::from_millis(100),
            election_timeout,
            sleep_after: rng.pick(&[None, None, Some(200), Some(1000)]).map(Duration::from_millis),
            lease,
            priorities: (0..10).map(|_| rng.pick(&[0, 1, 1, 2, 5])).filter(|_| !are_equal).collect(),
            policies: if options.policies { draw_policies(seed, nodes, spare) } else { Policies::default() },
            inflight_max,
            inflight_bytes_max: rng.pick(&[1_000, 1 << 20, 1 << 20]),
            uncommitted_max: rng.pick(&[2, 1 << 20, 1 << 20]),
            message_bytes_max: rng.pick(&[64, 500, 1 << 20]),
            recent_bytes_max: rng.pick(&[0, 500, 5000, 1 << 20]),
            replay_bytes_max: rng.pick(&[100, 5000, 1 << 20]),
            segment_bytes: rng.pick(&[8 << 10, 16 << 10, 64 << 10]),
            in_memory: rng.below(3) == 0,
            snapshots: rng.below(6) > 0,
            image_every: rng.pick(&[1, 10, 200]),
            entries_kept: rng.pick(&[None, None, Some(10), Some(20), Some(100)]),
            apply: Span::micros(rng.pick(&[1, 20, 20, 1_000, 10_000])),
            in_place: rng.pick(&[0, 500_000, 1_000_000]),
            apply_bytes_max: rng.pick(&[1_000, 20_000, 1 << 20, 1 << 20]),
            file,
            transfer: draw_transfer(is_slow, rng),
            late_groups: rng.pick(&[0, 0, 300_000]),
            network: Rates {
                latency,
                loss: rng.pick(&[0, 0, 1_000, 20_000, 200_000]),
                duplication: rng.pick(&[0, 0, 1_000, 50_000, 300_000]),
                reordering: rng.pick(&[0, 0, 10_000, 300_000]),
            },
            sync: Span::micros(rng.pick(&[50, 500, 2_000, 10_000])),
            turn: Span::micros(rng.pick(&[1, 20, 100, 1_000])),
            clock_drift,
            clients: clients as usize,
            keys: rng.between(1, 6) as u8,
            // About twenty operations a second together, some waits for answers that do not come included.
            think: Span::millis(1_000 * clients / 35 * rng.pick(&[1, 1, 1, 1, 1, 1, 1, 30])),
            client_timeout: Span::millis(rng.pick(&[1_000, 3_000, 10_000])),
            value_bytes_max: rng.pick(&[0, 50, 50, 2_000]),
            // Drawn apart, so that the other runs are the same with and without it.
            wants_time: Rng::new(seed, 9).below(4) == 0,
            // One that is added later finds in the log what it cannot read.
            old_programs: if changes_members { 0 } else { Rng::new(seed, 10).pick(&[0, 1, 2]) },
            // A clock that leaps breaks the contract of leases.
            faults: faults.into_iter().filter(|(kind, _)| lease.is_none() || *kind != FaultKind::ClockJump).collect(),
        }
    }

    /// How many machines there are.
    #[must_use]
    pub fn hosts(&self) -> usize {
        self.nodes + self.spare
    }
}

impl Conditions {
    /// The same without some kinds of fault.
    #[must_use]
    pub fn without(mut self, ruled_out: &[FaultKind]) -> Self {
        self.faults.retain(|(kind, _)| !ruled_out.contains(kind));
        self
    }

    /// The same for a state machine whose snapshots are so many times longer.
    #[must_use]
    pub fn with_snapshots_scaled(mut self, scale: u32) -> Self {
        let transfer = &mut self.transfer;
        transfer.rate_bytes_per_second = transfer.rate_bytes_per_second.saturating_mul(u64::from(scale));
        transfer.chunk_bytes = transfer.chunk_bytes.saturating_mul(scale);
        self
    }
}

/// In a quarter of the runs, a lease as long as its contract allows, or much shorter.
fn draw_lease(election_timeout: Duration, drift: u64, rng: &mut Rng) -> Option<Duration> {
    let millis = election_timeout.as_millis() as u64;
    let longest = millis * (1_000_000 - drift) / (1_000_000 + drift) - 1;
    let lease = Duration::from_millis(rng.pick(&[longest, longest, millis / 2]));
    (rng.below(4) == 0).then_some(lease)
}

/// Soon enough that they have something to do within a storm. The machines beside the first members are the standbys. A
/// sequence of its own: the other conditions of a seed are the same with policies and without.
fn draw_policies(seed: u64, nodes: usize, spare: usize) -> Policies {
    let rng = &mut Rng::new(seed, 9);
    let promote_learners = rng.pick(&[None, Some(200), Some(2_000)]).map(Duration::from_millis);
    let standbys = (nodes..nodes + spare).map(|place| (node_at(place), address_of(node_at(place)))).collect();
    let after = Duration::from_millis(rng.pick(&[500, 2_000, 5_000]));
    Policies {
        promote_learners,
        replace_dead: (rng.below(4) > 0).then_some(ReplaceDead { after, standbys }),
        balance_leaders: rng.coin(),
    }
}

/// Snapshots come in one piece or in many, fast or slowly, one or several at a time; not in so many, where each takes long,
/// that the log is cut behind them before they are there.
fn draw_transfer(is_slow: bool, rng: &mut Rng) -> Limits {
    Limits {
        rate_bytes_per_second: rng.pick(&[2_000, 5_000, 128 << 20, 128 << 20]),
        chunk_bytes: rng.pick(&[32, 32, 200, 256 << 10]).max(if is_slow { 200 } else { 0 }),
        window: rng.pick(&[1, 2, 8]),
        timeout: Duration::from_millis(rng.pick(&[500, 2_000])),
        pause: Duration::from_millis(rng.pick(&[20, 200])),
        sent_at_once_max: rng.pick(&[1, 2, 2]),
        received_at_once_max: rng.pick(&[1, 4, 4]),
    }
}

/// Each kind of fault happens in about a third of the runs, from every second to once or never; those that change the
/// members only where `churns`.
fn draw_faults(churns: bool, allowed: Kinds, rng: &mut Rng) -> Vec<(FaultKind, Span)> {
    let apart = rng.pick(&[[1_000, 3_000, 10_000], [4_000, 10_000, 20_000], [4_000, 10_000, 20_000]]);
    // Each kind draws, whether it is chosen or not.
    let drawn: Vec<_> =
        FaultKind::ALL.iter().map(|&kind| (kind, rng.below(3) == 0, Span::millis(rng.pick(&apart)))).collect();
    let happens = |kind: FaultKind| allowed.contains(kind) && (churns || !kind.is_churn());
    drawn
        .into_iter()
        .filter(|&(kind, chosen, _)| chosen && happens(kind))
        .map(|(kind, _, apart)| (kind, apart))
        .collect()
}
