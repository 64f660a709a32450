//! How many connections clients may have, and what is said of those that are one too many.
//!
//! Owns the count and the pace of what is logged of it. Must not know what a connection is used for.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::warn;
use vlot_tls::{HandshakeError, Reason};

/// How often a fault is logged that repeats with every connection.
const EVERY: Duration = Duration::from_secs(60);

/// Who may connect, over all listeners for clients.
pub(super) struct Admission {
    free: Arc<Semaphore>,
    connections_max: usize,
    refused: Mutex<Repeated>,
    not_accepted: Mutex<Repeated>,
    handshakes_failed: [Mutex<Repeated>; Reason::ALL.len()],
}

/// A connection's place among those that there may be, for as long as it lives.
pub(super) struct Place(#[expect(dead_code, reason = "it is held, and given back when dropped")] OwnedSemaphorePermit);

impl Admission {
    /// For so many connections at a time.
    pub(super) fn of(connections_max: usize) -> Admission {
        let connections_max = connections_max.min(Semaphore::MAX_PERMITS);
        Admission {
            free: Arc::new(Semaphore::new(connections_max)),
            connections_max,
            refused: Mutex::default(),
            not_accepted: Mutex::default(),
            handshakes_failed: Default::default(),
        }
    }

    /// A place for one more connection. `None` if there is none: it is to be closed at once.
    pub(super) fn admit(&self, from: SocketAddr) -> Option<Place> {
        if let Ok(place) = self.free.clone().try_acquire_owned() {
            return Some(Place(place));
        }
        if let Some(untold) = due(&self.refused) {
            let connections_max = self.connections_max;
            warn!(%from, connections_max, untold, "a connection is refused: there are as many as the limit of open files allows");
        }
        None
    }

    /// Says why a client does not come to speak TLS.
    pub(super) fn handshake_failed(&self, from: SocketAddr, reason: Reason, error: &HandshakeError) {
        if let Some(untold) = due(&self.handshakes_failed[reason as usize]) {
            warn!(%from, reason = reason.word(), untold, "a client's TLS handshake has failed: {error}");
        }
    }

    /// Says that a connection could not even be accepted.
    pub(super) fn cannot_accept(&self, error: &io::Error) {
        if let Some(untold) = due(&self.not_accepted) {
            warn!(%error, untold, "cannot accept a connection");
        }
    }
}

/// When something was last told that goes on and on.
#[derive(Default)]
struct Repeated {
    told: Option<Instant>,
    untold: u64,
}

impl Repeated {
    /// Whether it is to be told at `now`, and if so how often it was not since the last time.
    fn due(&mut self, now: Instant) -> Option<u64> {
        if self.told.is_some_and(|told| now.duration_since(told) < EVERY) {
            self.untold += 1;
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

fn due(repeated: &Mutex<Repeated>) -> Option<u64> {
    repeated.lock().unwrap_or_else(PoisonError::into_inner).due(Instant::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_connection_has_ended() {
        let admission = Admission::of(2);
        let from = SocketAddr::from(([127, 0, 0, 1], 1));
        let (one, other) = (admission.admit(from), admission.admit(from));
        assert!(one.is_some() && other.is_some() && admission.admit(from).is_none());
        drop(one);
        assert!(admission.admit(from).is_some());
        assert!(Admission::of(usize::MAX).admit(from).is_some());
        assert!(Admission::of(0).admit(from).is_none());
    }

    #[test]
    fn what_repeats_is_told_once_a_minute() {
        let start = Instant::now();
        let mut repeated = Repeated::default();
        let rows = [(0, Some(0)), (1, None), (59, None), (60, Some(2)), (61, None), (1000, Some(1)), (2000, Some(0))];
        for (seconds, expected) in rows {
            assert_eq!(repeated.due(start + Duration::from_secs(seconds)), expected, "{seconds}");
        }
    }
}
