//! A clock that moves when it is told to, for tests: an hour passes in no time, and a slow machine elects no one by accident.
//!
//! Owns its moment and the alarms that wait for a later one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use super::{Alarm, Clock, Time};

/// A clock that moves when it is told to. Clones share it: a test keeps one, and nodes get the others.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use vlot::clock::{Clock, ManualClock};
/// use vlot::storage::MemoryDisk;
/// use vlot::{Options, Node};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let clock = ManualClock::new();
/// let options = Options { clock: Arc::new(clock.clone()), ..Options::on(MemoryDisk::new()) };
/// let node = Node::open(options).await?;
/// let before = clock.now();
/// clock.advance(Duration::from_secs(3600));
/// assert_eq!(clock.now().since(before), Duration::from_secs(3600));
/// # node.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    now: Time,
    wall: SystemTime,
    /// Names the next alarm.
    next: u64,
    /// The alarms whose moment has not come, and the tasks that wait for them.
    waiting: BTreeMap<u64, (Time, Option<Waker>)>,
}

impl ManualClock {
    /// A clock that stands at its origin. Its time of day is a billion seconds after 1970.
    #[must_use]
    pub fn new() -> Self {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        Self(Arc::new(Mutex::new(State { now: Time::default(), wall, next: 0, waiting: BTreeMap::new() })))
    }

    /// Lets time pass, the time of day too, and all alarms ring whose moment has come.
    pub fn advance(&self, by: Duration) {
        let mut state = self.state();
        state.now = state.now + by;
        // Beyond the end of what can be told it stands still.
        state.wall = state.wall.checked_add(by).unwrap_or(state.wall);
        let now = state.now;
        let mut wakers = Vec::new();
        state.waiting.retain(|_, (at, waker)| {
            let is_due = *at <= now;
            if is_due {
                wakers.extend(waker.take());
            }
            !is_due
        });
        // A waker may ask for the time.
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Sets the time of day, forward or back. Nothing else moves.
    pub fn set_wall(&self, wall: SystemTime) {
        self.state().wall = wall;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Only moves of whole values happen under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Time {
        self.state().now
    }

    fn wall(&self) -> SystemTime {
        self.state().wall
    }

    fn alarm(&self) -> Box<dyn Alarm> {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        Box::new(ManualAlarm { clock: self.clone(), number, at: Time::NEVER })
    }
}

struct ManualAlarm {
    clock: ManualClock,
    number: u64,
    at: Time,
}

impl Alarm for ManualAlarm {
    fn set(&mut self, at: Time) {
        self.at = at;
        let mut state = self.clock.state();
        let waiting = state.waiting.remove(&self.number);
        let waker = waiting.and_then(|(_, waker)| waker);
        if at > state.now {
            state.waiting.insert(self.number, (at, waker));
        } else if let Some(waker) = waker {
            drop(state);
            waker.wake();
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.clock.state();
        if self.at <= state.now {
            return Poll::Ready(());
        }
        state.waiting.insert(self.number, (self.at, Some(context.waker().clone())));
        Poll::Pending
    }
}

impl Drop for ManualAlarm {
    fn drop(&mut self) {
        self.clock.state().waiting.remove(&self.number);
    }
}
