//! A bounded rate: how soon the next bytes may be sent.
//!
//! A bucket of tokens, written as the moment at which it is full again (the generic cell rate algorithm): in any span of
//! `t` seconds no more than `rate * t` bytes and the depth of the bucket are let through, and what was let through when
//! the bucket ran dry.

use std::time::Duration;

use vlot_raft::time::Time;

#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: u64,
    /// How long the rate takes for what may be sent at once.
    depth: Duration,
    /// When all that was let through is paid for.
    paid_at: Time,
}

impl Pace {
    /// `bytes_per_second` is not zero.
    pub(super) fn new(bytes_per_second: u64, burst_bytes: u64) -> Self {
        let mut pace = Self { bytes_per_second, depth: Duration::ZERO, paid_at: Time::default() };
        pace.depth = pace.cost(burst_bytes);
        pace
    }

    /// When the next bytes may be sent; at once if that is not after now.
    pub(super) fn free_at(&self) -> Time {
        Time::after_origin(self.paid_at.since_origin().saturating_sub(self.depth))
    }

    /// Bytes are let through.
    pub(super) fn take(&mut self, now: Time, bytes: u64) {
        self.paid_at = self.paid_at.max(now) + self.cost(bytes);
    }

    fn cost(&self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_over_any_span() {
        let mut pace = Pace::new(1000, 100);
        let (mut now, mut sent) = (Time::from_millis(5000), Vec::new());
        for _ in 0..50 {
            now = now.max(pace.free_at());
            pace.take(now, 40);
            sent.push(now);
        }
        for (n, from) in sent.iter().enumerate() {
            for (count, upto) in sent[n..].iter().enumerate() {
                let bytes = 40 * (count as u128 + 1);
                assert!(bytes <= 1000 * upto.since(*from).as_millis() / 1000 + 100 + 40 + 1, "{n}: {bytes}");
            }
        }
        assert_eq!(sent[49].since(sent[0]), Duration::from_millis((49 * 40) - 100), "and it is used up");
    }
}
