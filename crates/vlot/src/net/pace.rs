//! How often something may be done that costs the processor much.
//!
//! Owns the turns.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// Turns at a bounded rate. A few may come at once after a while without any.
#[derive(Debug)]
pub(crate) struct Pace {
    between: Duration,
    /// When the next turn is. Whoever holds it is next; the others wait in the order in which they came.
    next: Mutex<Instant>,
}

/// How many turns may be caught up with.
const BURST: u32 = 16;

impl Pace {
    pub fn new(per_second: u32) -> Self {
        Self { between: Duration::from_secs(1) / per_second.max(1), next: Mutex::new(Instant::now()) }
    }

    /// Waits for a turn. Whoever gives the waiting up has taken none.
    pub async fn turn(&self) {
        let mut next = self.next.lock().await;
        sleep_until(*next).await;
        let earliest = Instant::now().checked_sub(self.between * BURST);
        *next = earliest.map_or(*next, |earliest| earliest.max(*next)) + self.between;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn turns_come_at_a_rate_and_a_few_at_once_after_a_pause() {
        let pace = Pace::new(100);
        let start = Instant::now();
        for _ in 0..=10 {
            pace.turn().await;
        }
        assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
        // As after a pause of a minute.
        *pace.next.lock().await = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        let start = Instant::now();
        for _ in 0..BURST {
            pace.turn().await;
        }
        assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
        for _ in 0..BURST {
            pace.turn().await;
        }
        assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn those_who_give_up_take_no_turns() {
        let pace = Arc::new(Pace::new(10));
        pace.turn().await;
        let waiting: Vec<_> = (0..1000)
            .map(|_| {
                let pace = Arc::clone(&pace);
                tokio::spawn(async move { pace.turn().await })
            })
            .collect();
        tokio::task::yield_now().await;
        waiting.iter().for_each(tokio::task::JoinHandle::abort);
        let start = Instant::now();
        pace.turn().await;
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
}
