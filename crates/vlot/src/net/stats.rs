//! What the transport counts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use vlot_figures::{Distribution, Histogram};

use super::refusal::Refusal;

/// What a transport has done since it started, over all peers and lanes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Stats {
    /// Frames handed to the kernel whole.
    pub sent_frames: u64,
    /// Bytes handed to the kernel, frame lengths included.
    pub sent_bytes: u64,
    /// System calls that wrote frames. In memory, without TLS, most frames need none.
    pub writes: u64,
    /// Frames received whole.
    pub received_frames: u64,
    /// Bytes received, frame lengths included.
    pub received_bytes: u64,
    /// System calls that read frames.
    pub reads: u64,
    /// Frames that `send` refused.
    pub refused_frames: u64,
    /// Frames that `send` accepted and a lost connection took along. A frame that was half written is among them; so
    /// is one that reached the peer while its neighbour in the same write did not.
    pub dropped_frames: u64,
    /// Connections closed because a peer announced a frame beyond the bound.
    pub oversized_frames: u64,
    /// Handshakes that this node refused, by reason.
    pub handshakes_refused: BTreeMap<Refusal, u64>,
    /// Handshakes that other nodes refused this one, by reason.
    pub handshakes_denied: BTreeMap<Refusal, u64>,
}

/// How this node gets on with one peer, since that has become one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LinkFigures {
    /// Whether the control lane stands in both directions.
    pub is_connected: bool,
    /// How often it was lost.
    pub losses: u64,
    /// Bytes that wait for it, over all lanes.
    pub queued_bytes: u64,
    /// Bytes handed to the kernel for it, over all lanes.
    pub sent_bytes: u64,
    /// Bytes received from it, over all lanes.
    pub received_bytes: u64,
    /// Frames for it that were refused, or that a lost connection took along.
    pub unsent_frames: u64,
    /// Frames of it that were longer than any may be, or that no correct peer sends.
    pub bad_frames: u64,
    /// How long it took until it had answered that it hears this node, on the control lane.
    pub round_trips: Distribution,
}

/// The counters behind [`LinkFigures`].
#[derive(Debug)]
pub(crate) struct LinkCounters {
    pub losses: AtomicU64,
    pub sent_bytes: AtomicU64,
    pub received_bytes: AtomicU64,
    pub unsent_frames: AtomicU64,
    pub bad_frames: AtomicU64,
    pub round_trips: Histogram,
}

impl Default for LinkCounters {
    fn default() -> Self {
        let [losses, sent_bytes, received_bytes, unsent_frames, bad_frames] = [(); 5].map(|()| AtomicU64::new(0));
        let round_trips = Histogram::doubling(Duration::from_micros(100), 16);
        Self { losses, sent_bytes, received_bytes, unsent_frames, bad_frames, round_trips }
    }
}

impl LinkCounters {
    /// What is counted; the rest of it is nought.
    pub fn read(&self) -> LinkFigures {
        LinkFigures {
            losses: self.losses.load(Relaxed),
            sent_bytes: self.sent_bytes.load(Relaxed),
            received_bytes: self.received_bytes.load(Relaxed),
            unsent_frames: self.unsent_frames.load(Relaxed),
            bad_frames: self.bad_frames.load(Relaxed),
            round_trips: self.round_trips.read(),
            ..LinkFigures::default()
        }
    }
}

/// The counters behind [`Stats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub sent_frames: AtomicU64,
    pub sent_bytes: AtomicU64,
    pub writes: AtomicU64,
    pub received_frames: AtomicU64,
    pub received_bytes: AtomicU64,
    pub reads: AtomicU64,
    pub refused_frames: AtomicU64,
    pub dropped_frames: AtomicU64,
    pub oversized_frames: AtomicU64,
    pub handshakes_refused: ByReason,
    pub handshakes_denied: ByReason,
}

/// One counter per reason.
#[derive(Debug, Default)]
pub(crate) struct ByReason([AtomicU64; Refusal::ALL.len()]);

impl Counters {
    pub fn read(&self) -> Stats {
        Stats {
            sent_frames: self.sent_frames.load(Relaxed),
            sent_bytes: self.sent_bytes.load(Relaxed),
            writes: self.writes.load(Relaxed),
            received_frames: self.received_frames.load(Relaxed),
            received_bytes: self.received_bytes.load(Relaxed),
            reads: self.reads.load(Relaxed),
            refused_frames: self.refused_frames.load(Relaxed),
            dropped_frames: self.dropped_frames.load(Relaxed),
            oversized_frames: self.oversized_frames.load(Relaxed),
            handshakes_refused: self.handshakes_refused.read(),
            handshakes_denied: self.handshakes_denied.read(),
        }
    }
}

impl ByReason {
    pub fn count(&self, reason: Refusal) {
        self.0[reason.index()].fetch_add(1, Relaxed);
    }

    fn read(&self) -> BTreeMap<Refusal, u64> {
        let counts = Refusal::ALL.into_iter().map(|reason| (reason, self.0[reason.index()].load(Relaxed)));
        counts.filter(|(_, count)| *count > 0).collect()
    }
}

/// Adds to a counter that nothing is synchronised by.
pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Relaxed);
}
