//! What the clients of one address hold of what all clients share, and how much of it they may hold.
//!
//! Owns the counts: connections, calls, watches, bytes, snapshots. Each is given back when what was taken is dropped. What is done for
//! nothing is no count but a pace (`pace.rs`). Must not know how a refusal is told (`edge.rs` and the services do).

mod pace;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pace::Pace;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// Snapshots that clients of one address fetch at a time, of the four that there may be. Others of it wait.
const SNAPSHOTS_MAX: usize = 3;
/// Shorter replies are not counted in bytes: how many there may be is bounded by the number of calls.
const COUNTED_BYTES_MIN: usize = 1024;

/// How much one address may hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct AddressLimits {
    pub(crate) connections: usize,
    /// Calls that are not ended, or whose reply is not taken whole.
    pub(crate) streams: usize,
    pub(crate) watches: usize,
    /// Bytes of requests that are not answered, of replies that are not taken, and of the keys of watches.
    pub(crate) pending_bytes: usize,
}

/// Addresses that are not connected are looked for once there are so many in all.
const SWEEP_MIN: usize = 128;

/// The shares of all addresses that are connected, or have been a moment ago.
pub(crate) struct Shares {
    limits: AddressLimits,
    by_address: Mutex<HashMap<IpAddr, Arc<Share>>>,
    /// Of how many addresses those are looked for that can be forgotten.
    sweep_at: AtomicUsize,
}

/// What one address holds.
#[derive(Debug)]
pub(crate) struct Share {
    limits: AddressLimits,
    connections: AtomicUsize,
    streams: AtomicUsize,
    watches: AtomicUsize,
    pending_bytes: AtomicUsize,
    snapshots: Arc<Semaphore>,
    /// For what inflates a message.
    inflating: Semaphore,
    pace: Pace,
}

impl Shares {
    pub(crate) fn new(limits: AddressLimits) -> Arc<Shares> {
        Arc::new(Shares { limits, by_address: Mutex::default(), sweep_at: AtomicUsize::new(SWEEP_MIN) })
    }

    /// A place for one more connection from there. `None` if that address has as many as it may.
    pub(crate) fn connect(self: &Arc<Self>, from: IpAddr) -> Option<ConnectionPlace> {
        let address = holder(from);
        let mut shares = self.lock();
        if shares.len() >= self.sweep_at.load(Relaxed) {
            let now = Instant::now();
            shares.retain(|_, share| share.connections.load(Relaxed) > 0 || share.pace.is_ahead(now));
            self.sweep_at.store(SWEEP_MIN.max(2 * shares.len()), Relaxed);
        }
        let share = shares.entry(address).or_insert_with(|| Arc::new(Share::new(self.limits)));
        // Never left empty: an address that holds nothing may have one.
        if !take(&share.connections, 1, self.limits.connections) {
            return None;
        }
        Some(ConnectionPlace { shares: self.clone(), address, share: share.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Arc<Share>>> {
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever has one address of IPv6 has all of its network of 64 bits.
fn holder(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

/// Takes so much, if that leaves no more than `max` taken.
fn take(count: &AtomicUsize, amount: usize, max: usize) -> bool {
    let taken = count.fetch_update(Relaxed, Relaxed, |held| held.checked_add(amount).filter(|held| *held <= max));
    taken.is_ok()
}

/// Gives back so much, or what is left.
fn give_back(count: &AtomicUsize, amount: usize) {
    // The closure always gives a value, so that this cannot fail.
    let _ = count.fetch_update(Relaxed, Relaxed, |held| Some(held.saturating_sub(amount)));
}

/// A connection's place among those of its address, for as long as it lives.
pub(crate) struct ConnectionPlace {
    shares: Arc<Shares>,
    address: IpAddr,
    share: Arc<Share>,
}

impl ConnectionPlace {
    pub(crate) fn share(&self) -> &Arc<Share> {
        &self.share
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        let mut shares = self.shares.lock();
        give_back(&self.share.connections, 1);
        // An address that is ahead of its pace and leaves is still ahead when it comes again.
        if self.share.connections.load(Relaxed) == 0 && !self.share.pace.is_ahead(Instant::now()) {
            shares.remove(&self.address);
        }
    }
}

impl Share {
    fn new(limits: AddressLimits) -> Share {
        let [connections, streams, watches, pending_bytes] = [0; 4].map(AtomicUsize::new);
        let snapshots = Arc::new(Semaphore::new(SNAPSHOTS_MAX));
        let inflating = Semaphore::new(1);
        Share { limits, connections, streams, watches, pending_bytes, snapshots, inflating, pace: Pace::new() }
    }

    /// A place for one more call.
    pub(crate) fn begin_stream(self: &Arc<Self>) -> Result<StreamPlace, Exceeded> {
        if self.is_full() {
            return Err(Exceeded::PendingBytes);
        }
        if !take(&self.streams, 1, self.limits.streams) {
            return Err(Exceeded::Streams);
        }
        Ok(StreamPlace(self.clone()))
    }

    /// A place for one more watch, with keys of so many bytes.
    pub(crate) fn begin_watch(self: &Arc<Self>, key_bytes: usize) -> Result<WatchPlace, Exceeded> {
        if !take(&self.watches, 1, self.limits.watches) {
            return Err(Exceeded::Watches);
        }
        if !take(&self.pending_bytes, key_bytes, self.limits.pending_bytes) {
            give_back(&self.watches, 1);
            return Err(Exceeded::PendingBytes);
        }
        Ok(WatchPlace { share: self.clone(), key_bytes })
    }

    /// So much work was done for nothing. Returns how long the client is to wait before there is more.
    pub(crate) fn spend(&self, work: usize) -> Option<Duration> {
        self.pace.spend(work, Instant::now())
    }

    /// Waits for one of the places that an address has among those that fetch snapshots.
    pub(crate) async fn begin_snapshot(&self) -> SnapshotPlace {
        SnapshotPlace(self.snapshots.clone().acquire_owned().await.expect("it is never closed"))
    }

    /// Waits until no other message of the address is being inflated, in the order in which it was asked.
    pub(crate) async fn begin_inflating(&self) -> SemaphorePermit<'_> {
        // Only `close` makes it fail, which nothing here calls: a client has no say in it.
        self.inflating.acquire().await.expect("it is never closed")
    }

    /// Whether more bytes are pending than may be.
    pub(crate) fn is_full(&self) -> bool {
        self.pending_bytes.load(Relaxed) >= self.limits.pending_bytes
    }

    /// So many bytes have come, wanted or not.
    pub(crate) fn add_pending(&self, bytes: usize) {
        self.pending_bytes.fetch_add(bytes, Relaxed);
    }

    /// So many bytes are pending no more.
    pub(crate) fn end_pending(&self, bytes: usize) {
        give_back(&self.pending_bytes, bytes);
    }

    /// The same bytes, pending until the last of them is dropped.
    pub(crate) fn keep(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        if bytes.len() < COUNTED_BYTES_MIN {
            return bytes;
        }
        let held = self.hold(bytes.len());
        Bytes::from_owner(Kept { bytes, _held: held })
    }

    /// So many bytes are pending until what is returned is dropped.
    pub(crate) fn hold(self: &Arc<Self>, bytes: usize) -> Held {
        self.add_pending(bytes);
        Held { bytes, share: self.clone() }
    }
}

/// Which limit of its address something would exceed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exceeded {
    Streams,
    Watches,
    PendingBytes,
}

/// A call's place, until it has ended.
#[derive(Debug)]
pub(crate) struct StreamPlace(Arc<Share>);

impl Drop for StreamPlace {
    fn drop(&mut self) {
        give_back(&self.0.streams, 1);
    }
}

/// A watch's place, until it has ended.
#[derive(Debug)]
pub(crate) struct WatchPlace {
    share: Arc<Share>,
    key_bytes: usize,
}

impl Drop for WatchPlace {
    fn drop(&mut self) {
        give_back(&self.share.watches, 1);
        self.share.end_pending(self.key_bytes);
    }
}

/// A place among those that fetch snapshots, until that has ended.
pub(crate) struct SnapshotPlace(
    #[expect(dead_code, reason = "it is held, and given back when dropped")] OwnedSemaphorePermit,
);

struct Kept {
    bytes: Bytes,
    _held: Held,
}

/// Bytes that are pending.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: usize,
    share: Arc<Share>,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.share.end_pending(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: AddressLimits = AddressLimits { connections: 2, streams: 2, watches: 2, pending_bytes: 10_000 };

    #[test]
    fn an_address_has_its_share_and_no_more_until_it_gives_back() {
        let shares = Shares::new(LIMITS);
        let connect = |address: &str| shares.connect(address.parse().unwrap());
        let (one, _other) = (connect("10.0.0.1").unwrap(), connect("::ffff:10.0.0.1").unwrap());
        assert!(connect("10.0.0.1").is_none());
        assert!(connect("10.0.0.2").is_some(), "others have theirs");
        let share = one.share().clone();
        let streams = [share.begin_stream().unwrap(), share.begin_stream().unwrap()];
        assert_eq!(share.begin_stream().unwrap_err(), Exceeded::Streams);
        drop((streams, one));
        assert!(share.begin_stream().is_ok() && connect("10.0.0.1").is_some());
    }

    #[test]
    fn a_network_of_ipv6_is_one_holder() {
        let shares = Shares::new(LIMITS);
        let connect = |address: &str| shares.connect(address.parse().unwrap());
        let _held = (connect("2001:db8::1").unwrap(), connect("2001:db8::ffff:1").unwrap());
        assert!(connect("2001:db8::2").is_none() && connect("2001:db8:0:1::1").is_some());
    }

    #[test]
    fn an_address_that_is_gone_is_forgotten() {
        let shares = Shares::new(LIMITS);
        drop(shares.connect("10.0.0.1".parse().unwrap()));
        assert!(shares.lock().is_empty());
    }

    #[test]
    fn who_leaves_and_comes_again_is_as_far_ahead_as_before_and_forgotten_in_the_end() {
        let shares = Shares::new(LIMITS);
        let connect = |last: u8| shares.connect(IpAddr::from([10, 0, 0, last])).unwrap();
        assert!(connect(1).share().spend(64 * 5000).is_some());
        assert!(connect(1).share().spend(1).is_some_and(|wait| wait > Duration::from_millis(500)));
        for last in 2..=120 {
            connect(last).share().spend(64 * 300);
        }
        assert_eq!(shares.lock().len(), 120);
        std::thread::sleep(Duration::from_millis(400));
        let _held: Vec<_> = (121..=140).map(connect).collect();
        // The first, and those that are connected.
        assert_eq!(shares.lock().len(), 21);
    }

    #[test]
    fn watches_are_bounded_by_number_and_by_their_keys() {
        let shares = Shares::new(LIMITS);
        let place = shares.connect("10.0.0.1".parse().unwrap()).unwrap();
        let share = place.share();
        let watch = share.begin_watch(9_000).unwrap();
        assert_eq!(share.begin_watch(1_001).unwrap_err(), Exceeded::PendingBytes);
        let _small = share.begin_watch(1).unwrap();
        assert_eq!(share.begin_watch(0).unwrap_err(), Exceeded::Watches);
        drop(watch);
        assert!(share.begin_watch(9_000).is_ok());
    }

    #[test]
    fn replies_are_pending_until_their_last_byte_is_taken() {
        let shares = Shares::new(LIMITS);
        let place = shares.connect("10.0.0.1".parse().unwrap()).unwrap();
        let share = place.share();
        let mut reply = share.keep(vec![7; 10_000].into());
        assert_eq!(share.begin_stream().unwrap_err(), Exceeded::PendingBytes);
        let last = reply.split_off(9_999);
        drop(reply);
        assert!(share.is_full());
        assert_eq!(last, [7][..]);
        drop(last);
        assert!(!share.is_full());
        share.end_pending(1);
        assert!(share.begin_stream().is_ok(), "no count falls below nothing");
    }
}
