//! What a node takes for time when it waits for a leader, says that it leads, answers by a lease, or lets a group sleep.
//!
//! Owns that interface and the system's clock. Must not know what a moment is waited for. How long calls, handshakes and
//! disks are waited for is told by the system's time whatever the clock: others keep them waiting, and no test's clock moves
//! them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, Sleep, sleep_until};
pub use vlot_raft::time::Time;

pub mod conformance;
pub mod manual;

pub use manual::ManualClock;

/// A node's clock. It is asked for the time in each turn, so that it should be quick.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The moment by a clock that never goes back and that no one sets. Its origin is any. By how much the clocks of two nodes
    /// may differ in their *rate* is a part of the contract of leases
    /// ([`Config::lease`](vlot_raft::state::Config::lease)); without leases it matters to nothing but how soon an election begins.
    fn now(&self) -> Time;

    /// The time of day, as far as this machine knows it. It may go back, and nothing that must be right relies on it. Asked
    /// when a node is opened, which counts on from there by [`now`](Self::now): a leader tells state machines that want to know.
    fn wall(&self) -> SystemTime;

    /// An alarm by this clock that is not set. A node has one, and sets it in most turns.
    fn alarm(&self) -> Box<dyn Alarm>;
}

/// Tells when a moment has come.
pub trait Alarm: Send {
    /// Sets it to a moment, whatever it was set to before. It rings by itself if that is not later than now.
    fn set(&mut self, at: Time);

    /// Ready, and ready again whenever it is asked, once the moment has come that it is set to; never before. The task that
    /// asked last is woken then.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()>;
}

/// The system's clock, as tokio has it: in a runtime whose time is paused, it is that runtime's.
#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    origin: Instant,
}

impl TokioClock {
    /// A clock whose origin is this moment.
    #[must_use]
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }

    fn instant(&self, time: Time) -> Instant {
        self.origin + time.since_origin().min(self.origin.elapsed() + FAR)
    }
}

impl Default for TokioClock {
    fn default() -> Self {
        Self::new()
    }
}

/// As far away as the runtime's timer is set at once. Its own moments do not reach as far as those of a [`Time`].
const FAR: Duration = Duration::from_secs(3600);

impl Clock for TokioClock {
    fn now(&self) -> Time {
        Time::after_origin(self.origin.elapsed())
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn alarm(&self) -> Box<dyn Alarm> {
        let sleep = Box::pin(sleep_until(self.instant(Time::NEVER)));
        Box::new(TokioAlarm { clock: *self, at: Time::NEVER, sleep })
    }
}

struct TokioAlarm {
    clock: TokioClock,
    at: Time,
    sleep: Pin<Box<Sleep>>,
}

impl Alarm for TokioAlarm {
    fn set(&mut self, at: Time) {
        self.at = at;
        self.sleep.as_mut().reset(self.clock.instant(at));
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.sleep.as_mut().poll(context).is_ready() {
            if self.clock.now() >= self.at {
                return Poll::Ready(());
            }
            self.set(self.at);
        }
        Poll::Pending
    }
}
