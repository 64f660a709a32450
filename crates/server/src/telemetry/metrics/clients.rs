//! Which versions of etcd's clients call.
//!
//! Owns the bound on what a client may make of it: it sends any text as its version.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::rpc::Kind;

/// Versions that are told apart at most. Calls of any further one count as of [`OTHER`].
const VERSIONS_MAX: usize = 16;
/// The longest version that is kept.
const VERSION_BYTES_MAX: usize = 32;
/// The version of clients that tell none; as in etcd.
const UNKNOWN: &str = "unknown";
const OTHER: &str = "other";

/// How many calls clients have made, by their version. Places are taken once and never given up, so that a call looks for
/// its own without a lock.
#[derive(Default)]
pub(crate) struct Clients {
    places: [OnceLock<Client>; VERSIONS_MAX],
    others: Counts,
}

struct Client {
    version: Box<str>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    unary: AtomicU64,
    streams: AtomicU64,
}

impl Clients {
    /// A client of this version makes a call.
    pub(crate) fn called(&self, version: Option<&str>, kind: Kind) {
        let Counts { unary, streams } = self.counts(version.unwrap_or(UNKNOWN));
        let counter = match kind {
            Kind::Unary => unary,
            Kind::Stream => streams,
        };
        counter.fetch_add(1, Relaxed);
    }

    fn counts(&self, version: &str) -> &Counts {
        if version.len() > VERSION_BYTES_MAX {
            return &self.others;
        }
        let new = || Client { version: version.into(), counts: Counts::default() };
        let found = self.places.iter().map(|place| place.get_or_init(new)).find(|client| *client.version == *version);
        found.map_or(&self.others, |client| &client.counts)
    }

    /// Versions, kinds of calls in gRPC's words, and how many there were of each; at least one.
    pub(crate) fn read(&self) -> Vec<(&str, &'static str, u64)> {
        let known = self.places.iter().filter_map(OnceLock::get).map(|client| (&*client.version, &client.counts));
        let all = known.chain([(OTHER, &self.others)]).flat_map(|(version, counts)| {
            let Counts { unary, streams } = counts;
            [(version, "unary", unary.load(Relaxed)), (version, "stream", streams.load(Relaxed))]
        });
        all.filter(|(_, _, count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_apart_within_a_bound() {
        let clients = Clients::default();
        clients.called(Some("3.5"), Kind::Unary);
        clients.called(None, Kind::Stream);
        clients.called(Some("3.5"), Kind::Unary);
        clients.called(Some("3.5"), Kind::Stream);
        assert_eq!(clients.read(), [("3.5", "unary", 2), ("3.5", "stream", 1), ("unknown", "stream", 1)]);
        for n in 0..100 {
            clients.called(Some(&format!("v{n}")), Kind::Unary);
        }
        clients.called(Some(&"9".repeat(1000)), Kind::Unary);
        let read = clients.read();
        assert_eq!(read.len(), VERSIONS_MAX + 2);
        assert_eq!(read.last(), Some(&("other", "unary", 101 - VERSIONS_MAX as u64 + 2)));
    }
}
