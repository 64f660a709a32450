//! The clients: each writes, waits until that is done, and writes again.
//!
//! Owns what is counted. Must not know what is written to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::Outcome;
use crate::measure::{Meter, Used};

/// How long clients write before anything is counted.
const WARM_UP: Duration = Duration::from_millis(300);
/// Of so many writes of a client one is timed: to ask for the time costs too much to be done for each. A prime number, so that
/// it keeps step with no batch.
const TIMED: u64 = 7;

/// What clients write to.
pub(crate) trait Leader: Clone + Send + 'static {
    /// Writes an entry without content. Done when it is applied here.
    fn write(&self) -> impl Future<Output = Outcome<()>> + Send;
}

/// What clients have done.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    writes: u64,
    used: Used,
    /// How long some of the writes took, in order.
    latencies: Vec<Duration>,
}

impl Load {
    pub(crate) fn per_second(&self) -> f64 {
        self.writes as f64 / self.used.wall.as_secs_f64()
    }

    /// What the process used for each write, clients included.
    pub(crate) fn cpu_microseconds(&self) -> f64 {
        1e6 * (self.used.user_cpu + self.used.system_cpu).as_secs_f64() / self.writes as f64
    }

    /// How long the write took behind which lies so much of all.
    pub(crate) fn microseconds(&self, quantile: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let at = (last as f64 * quantile).round() as usize;
        self.latencies.get(at).map_or(f64::NAN, |latency| 1e6 * latency.as_secs_f64())
    }
}

/// What one client has done.
#[derive(Default)]
struct Done {
    writes: u64,
    latencies: Vec<Duration>,
}

/// What all clients look at.
#[derive(Default)]
struct Signs {
    counts: AtomicBool,
    is_over: AtomicBool,
}

/// Lets so many clients write for so long.
pub(crate) async fn run(leader: impl Leader, clients: usize, turn: Duration) -> Outcome<Load> {
    let signs = Arc::new(Signs::default());
    let mut tasks: JoinSet<Outcome<Done>> =
        (0..clients).map(|number| client(leader.clone(), number, Arc::clone(&signs))).collect();
    sleep(WARM_UP).await;
    let meter = Meter::start();
    signs.counts.store(true, Relaxed);
    sleep(turn).await;
    signs.is_over.store(true, Relaxed);
    let used = meter.stop();
    let (mut writes, mut latencies) = (0, Vec::new());
    while let Some(done) = tasks.join_next().await {
        let mut done = done??;
        writes += done.writes;
        latencies.append(&mut done.latencies);
    }
    latencies.sort_unstable();
    Ok(Load { writes, used, latencies })
}

async fn client(leader: impl Leader, number: usize, signs: Arc<Signs>) -> Outcome<Done> {
    let mut done = Done::default();
    let mut round = number as u64;
    loop {
        let begun = round.is_multiple_of(TIMED).then(Instant::now);
        leader.write().await?;
        // What is done when time is up counts no more.
        if signs.is_over.load(Relaxed) {
            return Ok(done);
        }
        if signs.counts.load(Relaxed) {
            done.writes += 1;
            done.latencies.extend(begun.map(|begun| begun.elapsed()));
        }
        round += 1;
    }
}
