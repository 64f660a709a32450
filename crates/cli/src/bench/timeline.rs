//! How a run went while it lasted: what ended in each stretch of it, and how long that took.

use std::time::Duration;

use super::histogram::Histogram;

/// What ended in one stretch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stretch {
    /// When it began and ended, from the beginning of what is measured.
    pub from: Duration,
    pub upto: Duration,
    pub operations: u64,
    pub p50: Duration,
    pub p99: Duration,
    pub max: Duration,
}

impl Stretch {
    /// Operations a second.
    pub fn rate(&self) -> f64 {
        self.operations as f64 / (self.upto - self.from).as_secs_f64()
    }
}

/// The stretches so far.
#[derive(Default)]
pub struct Timeline {
    ended: Vec<Stretch>,
    current: Histogram,
}

impl Timeline {
    /// An operation has ended.
    pub fn record(&mut self, latency: Duration) {
        self.current.record(latency);
    }

    /// Ends the current stretch if it has lasted for `at_least`.
    pub fn look(&mut self, elapsed: Duration, at_least: Duration) {
        let from = self.ended.last().map_or(Duration::ZERO, |stretch| stretch.upto);
        if elapsed <= from || elapsed - from < at_least {
            return;
        }
        let (p50, p99) = (self.current.quantile(0.5), self.current.quantile(0.99));
        let (operations, max) = (self.current.count(), self.current.max());
        self.ended.push(Stretch { from, upto: elapsed, operations, p50, p99, max });
        self.current.clear();
    }

    /// In their order.
    pub fn stretches(&self) -> &[Stretch] {
        &self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn a_stretch_has_what_ended_in_it() {
        let mut timeline = Timeline::default();
        timeline.look(MS(0), MS(100));
        timeline.record(MS(1));
        timeline.record(MS(3));
        timeline.look(MS(60), MS(100));
        timeline.look(MS(150), MS(100));
        timeline.look(MS(250), MS(100));
        timeline.record(MS(2));
        timeline.look(MS(350), MS(100));
        let shapes: Vec<_> = timeline.stretches().iter().map(|it| (it.from, it.upto, it.operations, it.max)).collect();
        assert_eq!(shapes, [(MS(0), MS(150), 2, MS(3)), (MS(150), MS(250), 0, MS(0)), (MS(250), MS(350), 1, MS(2))]);
        assert_eq!(timeline.stretches()[2].rate(), 10.0);
    }
}
