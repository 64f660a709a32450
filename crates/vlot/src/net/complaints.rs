//! Keeps a fault that repeats from filling the log: each is told once a minute, with how often it was not told.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use vlot_raft::id::NodeId;

use super::refusal::Refusal;

const EVERY: Duration = Duration::from_secs(60);

/// What there is to complain about.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Fault {
    /// This node refused a handshake.
    Refused(Refusal),
    /// A peer refused this node's handshake.
    Denied(Refusal),
    /// A peer cannot be reached.
    Unreachable,
    /// A peer announced a frame beyond the bound.
    OversizedFrame,
    /// A peer sent what no correct peer sends, of this kind.
    Misbehaved(&'static str),
    /// A peer, or this node in a peer's eyes, has another disk than the entitled one. Told to the owner.
    OtherDisk { own: bool },
    /// Incoming connections cannot be accepted.
    CannotAccept,
}

/// When each fault was last told. Its size is bounded by the peers and the kinds of faults: callers that are not peers
/// share one entry, whatever they call themselves.
#[derive(Debug, Default)]
pub(crate) struct Complaints(Mutex<BTreeMap<(Option<NodeId>, Fault), Told>>);

#[derive(Debug)]
struct Told {
    at: Instant,
    untold: u64,
}

impl Complaints {
    /// Whether this fault is due to be told at `now`, and if so how many of its kind were not since the last one.
    pub fn due(&self, peer: Option<NodeId>, fault: Fault, now: Instant) -> Option<u64> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = told.get_mut(&(peer, fault)) else {
            told.insert((peer, fault), Told { at: now, untold: 0 });
            return Some(0);
        };
        if now.duration_since(last.at) < EVERY {
            last.untold += 1;
            return None;
        }
        last.at = now;
        Some(std::mem::take(&mut last.untold))
    }

    /// A peer that left takes its entries along.
    pub fn forget(&self, peer: NodeId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(of, _), _| *of != Some(peer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_told_once_a_minute_per_peer_and_kind() {
        let complaints = Complaints::default();
        let start = Instant::now();
        let due = |peer, fault, seconds| complaints.due(peer, fault, start + Duration::from_secs(seconds));
        let cluster = Fault::Refused(Refusal::WrongCluster);

        assert_eq!(due(Some(NodeId(1)), cluster, 0), Some(0));
        assert_eq!(due(Some(NodeId(1)), cluster, 1), None);
        assert_eq!(due(Some(NodeId(1)), cluster, 59), None);
        assert_eq!(due(Some(NodeId(2)), cluster, 59), Some(0));
        assert_eq!(due(Some(NodeId(1)), Fault::Unreachable, 59), Some(0));
        assert_eq!(due(None, cluster, 59), Some(0));
        assert_eq!(due(Some(NodeId(1)), cluster, 60), Some(2));
        assert_eq!(due(Some(NodeId(1)), cluster, 61), None);
    }
}
