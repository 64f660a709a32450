//! How far a peer is away: an echo is asked for now and then on the control lane, and comes back on the same connection.
//!
//! Owns when one is asked for, and what is made of the answer. Must not know of sockets.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use vlot_figures::Histogram;

use super::wire::ECHO_SINCE;
use vlot_node::Lane;

/// Between two questions.
const INTERVAL: Duration = Duration::from_secs(5);

/// The echoes of one connection.
#[derive(Debug)]
pub(crate) struct Echoes<'a> {
    /// `None` if the peer does not know what an echo is, or on a lane that has bulk before it.
    round_trips: Option<&'a Histogram>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    due: Instant,
    /// When the question left that is not answered.
    asked: Option<Instant>,
}

impl<'a> Echoes<'a> {
    pub fn new(lane: Lane, version: u16, round_trips: &'a Histogram) -> Self {
        let round_trips = (lane == Lane::Control && version >= ECHO_SINCE).then_some(round_trips);
        Self { round_trips, state: Mutex::new(State { due: Instant::now(), asked: None }) }
    }

    /// When the next question is to be asked; `None` while one waits for its answer, or if there is never one.
    pub fn due(&self) -> Option<Instant> {
        let state = self.state();
        Some(state.due).filter(|_| self.round_trips.is_some() && state.asked.is_none())
    }

    /// A question leaves now.
    pub fn ask(&self) {
        let now = Instant::now();
        *self.state() = State { due: now + INTERVAL, asked: Some(now) };
    }

    /// An answer has come. False if there was no question.
    pub fn answered(&self) -> bool {
        let asked = self.state().asked.take();
        if let (Some(asked), Some(round_trips)) = (asked, self.round_trips) {
            round_trips.observe(asked.elapsed());
        }
        asked.is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_question_at_a_time_and_one_answer_to_each() {
        let round_trips = Histogram::doubling(Duration::from_millis(1), 3);
        let echoes = Echoes::new(Lane::Control, ECHO_SINCE, &round_trips);
        assert!(echoes.due().is_some_and(|due| due <= Instant::now()), "the first one is due at once");
        assert!(!echoes.answered());
        echoes.ask();
        assert_eq!(echoes.due(), None);
        assert!(echoes.answered() && !echoes.answered());
        assert!(echoes.due().is_some_and(|due| due > Instant::now()));
        assert_eq!(round_trips.read().count(), 1);
    }

    #[tokio::test]
    async fn a_peer_of_an_earlier_version_is_asked_nothing() {
        let round_trips = Histogram::doubling(Duration::from_millis(1), 3);
        for (lane, version) in [(Lane::Control, ECHO_SINCE - 1), (Lane::Entries, ECHO_SINCE)] {
            assert_eq!(Echoes::new(lane, version, &round_trips).due(), None);
        }
    }
}
