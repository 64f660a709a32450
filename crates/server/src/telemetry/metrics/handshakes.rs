//! How TLS handshakes of clients have ended.
//!
//! Owns one counter for each reason. Must not know what becomes of the connections.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use vlot_tls::Reason;

/// Handshakes that have not ended in time; a reason besides those of TLS itself.
const TIMED_OUT: &str = "timeout";

/// Counters of handshakes.
#[derive(Default)]
pub(crate) struct Handshakes {
    done: AtomicU64,
    timed_out: AtomicU64,
    failed: [AtomicU64; Reason::ALL.len()],
}

impl Handshakes {
    pub(crate) fn done(&self) {
        self.done.fetch_add(1, Relaxed);
    }

    pub(crate) fn timed_out(&self) {
        self.timed_out.fetch_add(1, Relaxed);
    }

    pub(crate) fn failed(&self, reason: Reason) {
        self.failed[reason as usize].fetch_add(1, Relaxed);
    }

    /// How many have succeeded.
    pub(crate) fn successes(&self) -> u64 {
        self.done.load(Relaxed)
    }

    /// How many have failed, by the reason, in one word; those alone of which there are some.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let failed = Reason::ALL.iter().map(|reason| (reason.word(), self.failed[*reason as usize].load(Relaxed)));
        failed.chain([(TIMED_OUT, self.timed_out.load(Relaxed))]).filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter_of_its_own() {
        let handshakes = Handshakes::default();
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            (0..=place).for_each(|_| handshakes.failed(reason));
        }
        handshakes.timed_out();
        let words: Vec<_> = handshakes.failures().collect();
        assert_eq!(words.len(), Reason::ALL.len() + 1);
        assert_eq!((words[0], words[14]), (("plain_http", 1), ("timeout", 1)));
        assert!((0..14).all(|place| words[place].1 == place as u64 + 1), "{words:?}");
    }
}
