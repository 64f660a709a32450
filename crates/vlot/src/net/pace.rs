//! How often something may be done that costs the processor much.
//!
//! Owns the turns.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Turns at a bounded rate. A few may come at once after a while without any.
#[derive(Debug)]
pub(crate) struct Pace {
    between: Duration,
    /// When the next turn is.
    next: Mutex<Instant>,
}

/// How many turns may be caught up with.
const BURST: u32 = 16;

impl Pace {
    pub fn new(per_second: u32) -> Self {
        Self { between: Duration::from_secs(1) / per_second.max(1), next: Mutex::new(Instant::now()) }
    }

    /// Waits for a turn, which is taken even if the waiting is given up.
    pub async fn turn(&self) {
        sleep_until(self.take(Instant::now())).await;
    }

    fn take(&self, now: Instant) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(self.between * BURST).unwrap_or(now);
        let turn = (*next).max(earliest);
        *next = turn + self.between;
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn turns_come_at_a_rate_and_a_few_at_once_after_a_pause() {
        let pace = Pace::new(100);
        let start = Instant::now();
        let begun = pace.take(start);
        for turn in 1..100 {
            assert_eq!(pace.take(start), begun + turn * Duration::from_millis(10));
        }
        let later = start + Duration::from_secs(60);
        let at_once = (0..50).filter(|_| pace.take(later) <= later).count();
        assert_eq!(at_once, BURST as usize + 1);
    }
}
