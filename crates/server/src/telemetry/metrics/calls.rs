//! Calls of clients: begun, ended and how, and the messages in between.
//!
//! Owns the promise that whatever was begun is counted as ended once, a call included whose client went away. Must not know
//! how calls come in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use vlot_figures::Histogram;

use crate::conversation::{Alike, PREFIX_BYTES};
use crate::rpc::Rpc;
use crate::status::{CODE_NAMES, Code};

/// The counters of all RPCs.
pub(crate) struct Calls {
    by_rpc: Vec<Counters>,
    /// Bytes of all messages.
    pub(crate) received_bytes: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
}

/// The counters of one RPC.
pub(crate) struct Counters {
    pub(crate) started: AtomicU64,
    /// By code.
    pub(crate) handled: [AtomicU64; CODE_NAMES.len()],
    pub(crate) received: AtomicU64,
    pub(crate) sent: AtomicU64,
    /// Streams that ended because what their client sent was no message.
    pub(crate) bad_streams: AtomicU64,
    /// How long calls took; `None` if it is not counted.
    pub(crate) took: Option<Histogram>,
}

/// gRPC's own bounds, in milliseconds.
const TOOK_MILLIS: [u64; 11] = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];

impl Calls {
    pub(super) fn new(extensive: bool) -> Calls {
        let took = || extensive.then(|| Histogram::with_bounds(TOOK_MILLIS.map(Duration::from_millis)));
        let counters = || Counters {
            started: AtomicU64::new(0),
            handled: Default::default(),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            bad_streams: AtomicU64::new(0),
            took: took(),
        };
        let by_rpc = (0..Rpc::COUNT).map(|_| counters()).collect();
        Calls { by_rpc, received_bytes: AtomicU64::new(0), sent_bytes: AtomicU64::new(0) }
    }

    /// Each RPC and its counters.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Rpc, &Counters)> {
        self.by_rpc.iter().enumerate().map(|(number, counters)| (Rpc::numbered(number), counters))
    }

    /// How many calls of an RPC are being handled.
    pub(crate) fn under_way(&self, rpc: Rpc) -> u64 {
        let counters = self.of(rpc);
        // In this order: a call may end in between, and none is to be counted as ended that was not as begun.
        let handled: u64 = counters.handled.iter().map(|count| count.load(Relaxed)).sum();
        counters.started.load(Relaxed).saturating_sub(handled)
    }

    pub(crate) fn of(&self, rpc: Rpc) -> &Counters {
        &self.by_rpc[rpc.number()]
    }

    /// A call begins. It ends with what is returned.
    pub(crate) fn begin(&self, rpc: Rpc) -> Handling<'_> {
        let counters = self.of(rpc);
        counters.started.fetch_add(1, Relaxed);
        Handling { counters, begun: Instant::now(), code: Code::Canceled }
    }

    pub(crate) fn received(&self, rpc: Rpc, bytes: usize) {
        self.of(rpc).received.fetch_add(1, Relaxed);
        self.received_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// A stream has ended because what its client sent was no message.
    pub(crate) fn stream_failed(&self, rpc: Rpc) {
        self.of(rpc).bad_streams.fetch_add(1, Relaxed);
    }

    pub(crate) fn sent(&self, rpc: Rpc, bytes: usize) {
        self.sent_all(rpc, 1, bytes);
    }

    /// So many messages are sent, of so many bytes together.
    fn sent_all(&self, rpc: Rpc, messages: u64, bytes: usize) {
        self.of(rpc).sent.fetch_add(messages, Relaxed);
        self.sent_bytes.fetch_add(bytes as u64, Relaxed);
    }
}

/// A call that is being handled, counted when this is dropped. As canceled, unless it has ended otherwise: what serves a
/// call is dropped when its client goes away.
pub(crate) struct Handling<'m> {
    counters: &'m Counters,
    begun: Instant,
    code: Code,
}

impl Handling<'_> {
    /// The call has ended, and how. Returns how long it took.
    pub(crate) fn end(mut self, code: Code) -> Duration {
        self.code = code;
        self.begun.elapsed()
    }
}

impl Drop for Handling<'_> {
    fn drop(&mut self) {
        self.counters.handled[self.code as usize].fetch_add(1, Relaxed);
        if let Some(took) = &self.counters.took {
            took.observe(self.begun.elapsed());
        }
    }
}

/// Counts what is sent on one stream.
pub(crate) struct Tally {
    pub(crate) metrics: Arc<super::Metrics>,
    pub(crate) rpc: Rpc,
}

impl Tally {
    /// Some messages are sent, each behind its prefix.
    pub(crate) fn sent(&self, mut batch: &[u8]) {
        let (mut messages, mut bytes) = (0, 0);
        while let Some((&[_, a, b, c, d], rest)) = batch.split_first_chunk::<PREFIX_BYTES>() {
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            (messages, bytes) = (messages + 1, bytes + length);
            batch = rest.get(length..).unwrap_or_default();
        }
        self.metrics.calls.sent_all(self.rpc, messages, bytes);
    }

    /// The same of messages that are alike.
    pub(crate) fn sent_alike(&self, alike: &Alike) {
        let messages = alike.messages();
        self.metrics.calls.sent_all(self.rpc, messages as u64, alike.bytes() - PREFIX_BYTES * messages);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;

    fn count(counter: &AtomicU64) -> u64 {
        counter.load(Relaxed)
    }

    #[test]
    fn a_call_that_is_dropped_is_handled_as_canceled() {
        let calls = Calls::new(true);
        calls.begin(Rpc::Put).end(Code::Ok);
        calls.begin(Rpc::Put).end(Code::NotFound);
        drop(calls.begin(Rpc::Put));
        let put = calls.of(Rpc::Put);
        assert_eq!(count(&put.started), 3);
        for (code, expected) in [(Code::Ok, 1), (Code::NotFound, 1), (Code::Canceled, 1), (Code::Unavailable, 0)] {
            assert_eq!(count(&put.handled[code as usize]), expected, "{code:?}");
        }
        assert_eq!(put.took.as_ref().unwrap().read().count(), 3);
        assert!(Calls::new(false).of(Rpc::Put).took.is_none());
    }

    #[test]
    fn the_messages_of_a_batch_are_counted_without_their_prefixes() {
        let metrics = Arc::new(Metrics::new(false));
        let tally = Tally { metrics: metrics.clone(), rpc: Rpc::Watch };
        tally.sent(b"\0\0\0\0\x03abc\0\0\0\0\0\0\0\0\0\x01z");
        assert_eq!(count(&metrics.calls.of(Rpc::Watch).sent), 3);
        assert_eq!(count(&metrics.calls.sent_bytes), 4);
    }
}
