//! When each client begins its next operation.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// A timer may fire this late. A client that waited for its time is not measured from before it woke, as long as that
/// explains the delay; one that was busy past its time always is.
const TIMER_SLACK: Duration = Duration::from_millis(2);

/// Without a rate, at once; with one, on a schedule that the clients share by turns.
pub struct Pace {
    start: Instant,
    /// Between two operations of one client; `None` for at once.
    interval: Option<Duration>,
    /// Between two operations of all clients.
    step: Duration,
    /// Operations that may still begin.
    left: Cell<u64>,
}

impl Pace {
    /// `rate` is in operations a second of all clients together; 0 means no schedule.
    pub fn new(start: Instant, rate: f64, clients: usize) -> Pace {
        let step =
            if rate > 0.0 { Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::MAX) } else { Duration::ZERO };
        let interval = (rate > 0.0).then(|| step.saturating_mul(u32::try_from(clients).unwrap_or(u32::MAX)));
        Pace { start, interval, step, left: Cell::new(u64::MAX) }
    }

    /// From here on only so many operations begin.
    pub fn allow_only(&self, operations: u64) {
        self.left.set(operations);
    }

    /// Waits for the time of a client's operation and returns the moment to measure from; `None` if there are no more.
    pub async fn next(&self, client: usize, operation: u32) -> Option<Instant> {
        let begins = match self.interval {
            None => Instant::now(),
            Some(interval) => self.on_schedule(interval, client, operation).await,
        };
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        (left > 0).then_some(begins)
    }

    async fn on_schedule(&self, interval: Duration, client: usize, operation: u32) -> Instant {
        let offset = self.step.saturating_mul(u32::try_from(client).unwrap_or(u32::MAX));
        let offset = offset.saturating_add(interval.saturating_mul(operation));
        // A rate so low that its moment cannot be expressed has its turn after the end of the run.
        let Some(due) = self.start.checked_add(offset) else { return std::future::pending().await };
        if due <= Instant::now() {
            return due;
        }
        tokio::time::sleep_until(due).await;
        let woken = Instant::now();
        if woken - due < TIMER_SLACK { woken } else { due }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    #[test]
    fn a_late_client_is_measured_from_its_schedule() {
        run(async {
            let start = Instant::now() - Duration::from_secs(1);
            let pace = Pace::new(start, 100.0, 4);
            assert_eq!(pace.next(0, 0).await, Some(start));
            assert_eq!(pace.next(3, 2).await, Some(start + Duration::from_millis(110)));
            assert!(pace.next(0, 26).await.unwrap() >= start + Duration::from_millis(1040));
        });
    }

    #[test]
    fn no_more_than_allowed_begin() {
        run(async {
            let pace = Pace::new(Instant::now(), 0.0, 1);
            assert!(pace.next(0, 0).await.is_some());
            pace.allow_only(1);
            assert!(pace.next(0, 1).await.is_some());
            assert!(pace.next(0, 2).await.is_none());
            assert!(pace.next(0, 3).await.is_none());
        });
    }
}
