//! How many connections clients may have, and what is said of those that are one too many.
//!
//! Owns the count, over all and for each address, and the pace of what is logged of it and of clients that are stopped. Must not
//! know what a connection is used for.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{info, warn};
use vlot_tls::{HandshakeError, Reason};

use crate::share::{AddressLimits, ConnectionPlace, Shares};
use crate::telemetry::metrics::Offence;

/// How often a fault is logged that repeats with every connection.
const EVERY: Duration = Duration::from_secs(60);

/// Who may connect, over all listeners for clients.
pub(super) struct Admission {
    free: Arc<Semaphore>,
    connections_max: usize,
    shares: Arc<Shares>,
    refused: Mutex<Repeated>,
    not_accepted: Mutex<Repeated>,
    handshakes_failed: [Mutex<Repeated>; Reason::ALL.len()],
    stopped: [Mutex<Repeated>; Offence::COUNT],
}

/// A connection's place among those that there may be, for as long as it lives.
pub(super) struct Place(#[expect(dead_code, reason = "it is held, and given back when dropped")] OwnedSemaphorePermit);

impl Admission {
    /// For so many connections at a time, and so much for each address.
    pub(super) fn of(connections_max: usize, limits: AddressLimits) -> Admission {
        let connections_max = connections_max.min(Semaphore::MAX_PERMITS);
        Admission {
            free: Arc::new(Semaphore::new(connections_max)),
            connections_max,
            shares: Shares::new(limits),
            refused: Mutex::default(),
            not_accepted: Mutex::default(),
            handshakes_failed: Default::default(),
            stopped: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// A place for one more connection, and its address's. `None` if there is none: it is to be closed at once.
    pub(super) fn admit(&self, from: SocketAddr) -> Result<(Place, ConnectionPlace), NoPlace> {
        // First, because who has too many must not take those of others.
        let Some(share) = self.shares.connect(from.ip()) else {
            return Err(NoPlace::OfAddress);
        };
        if let Ok(place) = self.free.clone().try_acquire_owned() {
            return Ok((Place(place), share));
        }
        if let Some(untold) = due(&self.refused) {
            let connections_max = self.connections_max;
            warn!(%from, connections_max, untold, "a connection is refused: there are as many as the limit of open files allows");
        }
        Err(NoPlace::AtAll)
    }

    /// Says why a client was stopped.
    pub(super) fn stopped(&self, from: SocketAddr, offence: Offence, error: &dyn std::fmt::Display) {
        if let Some(untold) = due(&self.stopped[offence as usize]) {
            let reason = offence.name();
            info!(%from, reason, %error, untold, "a client was stopped");
        }
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

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum NoPlace {
    /// There are as many as there may be.
    AtAll,
    /// Its address has as many as it may have.
    OfAddress,
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
        let limits = AddressLimits { connections: 2, streams: 1, watches: 1, pending_bytes: 1 };
        let admission = Admission::of(3, limits);
        let from = |last| SocketAddr::from(([127, 0, 0, last], 1));
        let (one, _other) = (admission.admit(from(1)).unwrap(), admission.admit(from(1)).unwrap());
        assert_eq!(admission.admit(from(1)).err(), Some(NoPlace::OfAddress));
        let _third = admission.admit(from(2)).unwrap();
        assert_eq!(admission.admit(from(2)).err(), Some(NoPlace::AtAll));
        drop(one);
        assert!(admission.admit(from(2)).is_ok());
        assert!(Admission::of(usize::MAX, limits).admit(from(1)).is_ok());
        assert!(Admission::of(0, limits).admit(from(1)).is_err());
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
