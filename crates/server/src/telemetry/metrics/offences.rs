//! Clients that were stopped, by the reason.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use vlot_http2::Flood;

use crate::share::Exceeded;

/// Why a connection was closed, or a call refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Offence {
    /// The address has as many connections as it may.
    Connections,
    /// The address has as many calls as it may.
    Streams,
    /// The address has as many watches as it may.
    Watches,
    /// The address has as many bytes pending as it may.
    PendingBytes,
    /// It did not say which protocol it speaks.
    Silent,
    /// It did not send its settings.
    NoSettings,
    /// The head of a request over HTTP/1 did not come in time.
    SlowHead,
    /// A message did not come whole in time.
    SlowMessage,
    /// A long answer or a snapshot was not taken in time.
    SlowReader,
    /// What came is not HTTP/1.
    BadHttp1,
    /// What came is against the rules of HTTP/2.
    BadHttp2,
    /// It sent too much over HTTP/2 of what has no name here.
    Calm,
    /// It did not answer when it was asked whether it is there.
    NoPong,
    Resets,
    Pings,
    Settings,
    Priorities,
    WindowUpdates,
    EmptyFrames,
    UnknownFrames,
    HeaderBytes,
}

impl Offence {
    const ALL: [Offence; 21] = [
        Offence::Connections,
        Offence::Streams,
        Offence::Watches,
        Offence::PendingBytes,
        Offence::Silent,
        Offence::NoSettings,
        Offence::SlowHead,
        Offence::SlowMessage,
        Offence::SlowReader,
        Offence::BadHttp1,
        Offence::BadHttp2,
        Offence::Calm,
        Offence::NoPong,
        Offence::Resets,
        Offence::Pings,
        Offence::Settings,
        Offence::Priorities,
        Offence::WindowUpdates,
        Offence::EmptyFrames,
        Offence::UnknownFrames,
        Offence::HeaderBytes,
    ];
    pub(crate) const COUNT: usize = Offence::ALL.len();

    /// Its name in metrics, in the log, and in what the client is told.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Offence::Connections => "too_many_connections_per_address",
            Offence::Streams => "too_many_streams_per_address",
            Offence::Watches => "too_many_watches_per_address",
            Offence::PendingBytes => "too_many_pending_bytes_per_address",
            Offence::Silent => "no_protocol",
            Offence::NoSettings => "no_settings",
            Offence::SlowHead => "slow_head",
            Offence::SlowMessage => "slow_message",
            Offence::SlowReader => "slow_reader",
            Offence::BadHttp1 => "bad_http1",
            Offence::BadHttp2 => "bad_http2",
            Offence::Calm => "enhance_your_calm",
            Offence::NoPong => "no_pong",
            Offence::Resets => "too_many_resets",
            Offence::Pings => "too_many_pings",
            Offence::Settings => "too_many_settings",
            Offence::Priorities => "too_many_priorities",
            Offence::WindowUpdates => "too_many_window_updates",
            Offence::EmptyFrames => "too_many_empty_frames",
            Offence::UnknownFrames => "too_many_unknown_frames",
            Offence::HeaderBytes => "too_many_header_bytes",
        }
    }
}

impl From<vlot_http2::ConnectionError> for Offence {
    fn from(error: vlot_http2::ConnectionError) -> Offence {
        let vlot_http2::ConnectionError::Flood(flood) = error else { return Offence::BadHttp2 };
        match flood {
            Flood::Resets => Offence::Resets,
            Flood::Pings => Offence::Pings,
            Flood::Settings => Offence::Settings,
            Flood::Priorities => Offence::Priorities,
            Flood::WindowUpdates => Offence::WindowUpdates,
            Flood::EmptyFrames => Offence::EmptyFrames,
            Flood::UnknownFrames => Offence::UnknownFrames,
            Flood::HeaderBytes => Offence::HeaderBytes,
            Flood::Continuations | Flood::HeaderList | Flood::StreamErrors => Offence::Calm,
        }
    }
}

impl From<Exceeded> for Offence {
    fn from(exceeded: Exceeded) -> Offence {
        match exceeded {
            Exceeded::Streams => Offence::Streams,
            Exceeded::Watches => Offence::Watches,
            Exceeded::PendingBytes => Offence::PendingBytes,
        }
    }
}

/// How often each has happened.
#[derive(Default)]
pub(crate) struct Offences([AtomicU64; Offence::COUNT]);

impl Offences {
    pub(crate) fn count(&self, offence: Offence) {
        self.0[offence as usize].fetch_add(1, Relaxed);
    }

    /// Those that have happened.
    pub(crate) fn read(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = Offence::ALL.iter().zip(&self.0);
        all.map(|(offence, count)| (offence.name(), count.load(Relaxed))).filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_offence_has_a_place_and_a_name_of_its_own() {
        for (place, offence) in Offence::ALL.into_iter().enumerate() {
            assert_eq!(offence as usize, place);
            assert_eq!(Offence::ALL.iter().filter(|other| other.name() == offence.name()).count(), 1);
        }
        let offences = Offences::default();
        offences.count(Offence::Pings);
        assert_eq!(offences.read().collect::<Vec<_>>(), [("too_many_pings", 1)]);
    }
}
