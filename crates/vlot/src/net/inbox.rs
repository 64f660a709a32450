//! Where received frames wait for their consumer, and the news of which peers are connected.
//!
//! Owns order, urgency and the bound on what is received and not consumed. Must not know of sockets or of what a frame
//! means.
//!
//! News overtake frames, control frames overtake entries, and both overtake snapshots: a consumer that is busy with
//! entries still learns at its next turn that the leader is gone. Within one connection frames keep their order.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use vlot_raft::id::NodeId;

use vlot_node::Lane;

/// What the transport tells its owner.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// All whole frames that one read of a socket brought, in the order they were sent; in memory, without TLS, what has come
    /// since the last look.
    ///
    /// Frames are slices of the buffer they were read into, which lives as long as any of them: a short frame that is
    /// kept for long is better copied.
    Frames {
        /// The peer that sent them.
        from: NodeId,
        /// On which lane.
        lane: Lane,
        /// The frames, at least one.
        frames: Vec<Bytes>,
    },
    /// The control lane of a peer stands in both directions. Other lanes follow on their own and do not count, nor do
    /// unlisted peers; frames of the peer may come before this and after [`Event::Lost`].
    Connected {
        /// The peer that is connected.
        peer: NodeId,
        /// The disk that it says it has; zero if it does not tell.
        disk: u64,
        /// Whether it reads entries that commands share.
        reads_shared: bool,
    },
    /// The control lane is down in one direction or both, or the node is no peer any more. Comes exactly once after
    /// each [`Event::Connected`]. If both happen before the owner looks, it hears of neither.
    Lost {
        /// The peer that is gone.
        peer: NodeId,
    },
    /// Two nodes do not talk to each other because one of them has another disk than the one that is entitled to its
    /// seat: a member that has lost its disk has to be removed and added again. Comes at most once a minute per peer
    /// and node, and at both ends.
    OtherDisk {
        /// The node at the other end.
        peer: NodeId,
        /// The node with another disk: the peer, or this node in the eyes of the peer.
        node: NodeId,
        /// The disk that this node has.
        disk: u64,
    },
}

/// The owner's end: a stream of [`Event`]s.
#[derive(Debug)]
pub struct Inbox(Arc<Mailbox>);

impl Inbox {
    pub(crate) fn new(mailbox: Arc<Mailbox>) -> Self {
        Self(mailbox)
    }

    /// The next event, or `None` once the transport is shut down. Safe to drop and call again.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.0.take() {
                Taken::Event(event) => return Some(event),
                Taken::Closed => return None,
                Taken::Nothing => self.0.filled.notified().await,
            }
        }
    }

    /// The next event if there is one already: for draining what a turn has found.
    pub fn try_next(&mut self) -> Option<Event> {
        match self.0.take() {
            Taken::Event(event) => Some(event),
            Taken::Nothing | Taken::Closed => None,
        }
    }
}

/// The transport's end of the inbox.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// What is no [`Event::Frames`]. Of each peer at most one connection and one loss: see [`Mailbox::lost`].
    news: VecDeque<Event>,
    frames: [VecDeque<Delivery>; Lane::COUNT],
    closed: bool,
}

/// How many reports of other disks wait at most: a caller that makes them up cannot fill the memory of an owner that is
/// away.
const REPORTS_MAX: usize = 64;

#[derive(Debug)]
struct Delivery {
    from: NodeId,
    lane: Lane,
    frames: Vec<Bytes>,
    cost: usize,
    intake: Arc<Intake>,
}

enum Taken {
    Event(Event),
    Nothing,
    Closed,
}

impl Mailbox {
    /// Delivers the frames of one read. Never waits: the reader asks its [`Intake`] for room before it reads.
    pub fn deliver(&self, from: NodeId, lane: Lane, frames: Vec<Bytes>, intake: &Arc<Intake>) {
        let cost = frames.iter().map(cost_of).sum();
        let mut waiting = self.waiting();
        if waiting.closed {
            return;
        }
        intake.unread.fetch_add(cost, Ordering::Relaxed);
        let delivery = Delivery { from, lane, frames, cost, intake: Arc::clone(intake) };
        waiting.frames[lane.index()].push_back(delivery);
        drop(waiting);
        self.filled.notify_one();
    }

    /// Delivers a frame that no read has brought. Those of one connection that wait together are one delivery.
    pub fn deliver_one(&self, from: NodeId, lane: Lane, frame: Bytes, intake: &Arc<Intake>) {
        let cost = cost_of(&frame);
        let mut waiting = self.waiting();
        if waiting.closed {
            return;
        }
        intake.unread.fetch_add(cost, Ordering::Relaxed);
        let frames = &mut waiting.frames[lane.index()];
        match frames.back_mut().filter(|newest| Arc::ptr_eq(&newest.intake, intake)) {
            Some(newest) => {
                newest.frames.push(frame);
                newest.cost += cost;
                // The owner was woken for the delivery it joins.
                return;
            }
            None => frames.push_back(Delivery { from, lane, frames: vec![frame], cost, intake: Arc::clone(intake) }),
        }
        drop(waiting);
        self.filled.notify_one();
    }

    /// Tells the owner that a peer is connected.
    pub fn connected(&self, peer: NodeId, disk: u64, reads_shared: bool) {
        self.waiting().news.push_back(Event::Connected { peer, disk, reads_shared });
        self.filled.notify_one();
    }

    /// Tells the owner that a peer is lost, or takes back the word that it is connected if the owner has not heard it.
    /// So at most a loss and a connection per peer wait, however often the connection flaps.
    pub fn lost(&self, peer: NodeId) {
        let mut waiting = self.waiting();
        let unheard = |news: &Event| matches!(news, Event::Connected { peer: other, .. } if *other == peer);
        match waiting.news.iter().rposition(unheard) {
            Some(unheard) => drop(waiting.news.remove(unheard)),
            None => waiting.news.push_back(Event::Lost { peer }),
        }
        drop(waiting);
        self.filled.notify_one();
    }

    /// Tells the owner that this node or a peer has another disk than the entitled one.
    pub fn other_disk(&self, peer: NodeId, node: NodeId, disk: u64) {
        let mut waiting = self.waiting();
        let reports = waiting.news.iter().filter(|news| matches!(news, Event::OtherDisk { .. })).count();
        if reports < REPORTS_MAX {
            waiting.news.push_back(Event::OtherDisk { peer, node, disk });
        }
        drop(waiting);
        self.filled.notify_one();
    }

    /// What waits, in bytes.
    pub fn bytes(&self) -> usize {
        self.waiting().frames.iter().flatten().map(|delivery| delivery.cost).sum()
    }

    /// Ends the stream of events; what waits is dropped.
    pub fn close(&self) {
        *self.waiting() = Waiting { closed: true, ..Waiting::default() };
        self.filled.notify_one();
    }

    fn take(&self) -> Taken {
        let mut waiting = self.waiting();
        if waiting.closed {
            return Taken::Closed;
        }
        if let Some(news) = waiting.news.pop_front() {
            return Taken::Event(news);
        }
        let Some(delivery) = waiting.frames.iter_mut().find_map(VecDeque::pop_front) else {
            return Taken::Nothing;
        };
        drop(waiting);
        let Delivery { from, lane, frames, cost, intake } = delivery;
        intake.consumed(cost);
        Taken::Event(Event::Frames { from, lane, frames })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a frame costs besides its bytes counts too, or empty frames would be free.
fn cost_of(frame: &Bytes) -> usize {
    frame.len() + size_of::<Bytes>()
}

/// What one connection has put into the inbox and its owner has not taken out: the measure by which its reader pauses.
///
/// Each connection has its own, so that a peer whose frames pile up delays only itself.
#[derive(Debug)]
pub(crate) struct Intake {
    unread: AtomicUsize,
    unread_max: usize,
    room: Notify,
}

impl Intake {
    pub fn new(unread_max: usize) -> Arc<Self> {
        Arc::new(Self { unread: AtomicUsize::new(0), unread_max, room: Notify::new() })
    }

    /// Waits until less than the bound is unread.
    pub async fn wait_for_room(&self) {
        while !self.has_room() {
            self.room.notified().await;
        }
    }

    /// Whether less than the bound is unread.
    pub fn has_room(&self) -> bool {
        self.unread.load(Ordering::Relaxed) < self.unread_max
    }

    fn consumed(&self, cost: usize) {
        let before = self.unread.fetch_sub(cost, Ordering::Relaxed);
        if before >= self.unread_max {
            self.room.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(bytes: &'static str) -> Vec<Bytes> {
        vec![Bytes::from_static(bytes.as_bytes())]
    }

    fn inbox() -> (Arc<Mailbox>, Inbox) {
        let mailbox = Arc::new(Mailbox::default());
        (Arc::clone(&mailbox), Inbox::new(mailbox))
    }

    #[test]
    fn news_overtake_frames_and_control_overtakes_entries() {
        let (mailbox, mut inbox) = inbox();
        let (peer, intake) = (NodeId(2), Intake::new(100));
        mailbox.deliver(peer, Lane::Entries, frames("e"), &intake);
        mailbox.deliver(peer, Lane::Control, frames("c"), &intake);
        mailbox.lost(peer);
        assert_eq!(inbox.try_next(), Some(Event::Lost { peer }));
        assert_eq!(mailbox.bytes(), 2 * (1 + size_of::<Bytes>()));
        assert_eq!(inbox.try_next(), Some(Event::Frames { from: peer, lane: Lane::Control, frames: frames("c") }));
        assert_eq!(mailbox.bytes(), 1 + size_of::<Bytes>());
        assert_eq!(inbox.try_next(), Some(Event::Frames { from: peer, lane: Lane::Entries, frames: frames("e") }));
        assert_eq!(inbox.try_next(), None);
    }

    #[test]
    fn a_flapping_peer_leaves_at_most_two_news() {
        let (mailbox, mut inbox) = inbox();
        mailbox.connected(NodeId(2), 5, true);
        assert_eq!(inbox.try_next(), Some(Event::Connected { peer: NodeId(2), disk: 5, reads_shared: true }));
        for _ in 0..1000 {
            mailbox.lost(NodeId(2));
            mailbox.connected(NodeId(2), 5, true);
            mailbox.connected(NodeId(3), 6, true);
            mailbox.lost(NodeId(3));
        }
        assert_eq!(inbox.try_next(), Some(Event::Lost { peer: NodeId(2) }));
        assert_eq!(inbox.try_next(), Some(Event::Connected { peer: NodeId(2), disk: 5, reads_shared: true }));
        assert_eq!(inbox.try_next(), None);
    }

    #[test]
    fn reports_of_other_disks_are_bounded() {
        let (mailbox, mut inbox) = inbox();
        for peer in 0..1000 {
            mailbox.other_disk(NodeId(peer), NodeId(1), 7);
        }
        mailbox.lost(NodeId(2));
        for peer in (0..REPORTS_MAX as u64).map(NodeId) {
            assert_eq!(inbox.try_next(), Some(Event::OtherDisk { peer, node: NodeId(1), disk: 7 }));
        }
        assert_eq!(inbox.try_next(), Some(Event::Lost { peer: NodeId(2) }));
        assert_eq!(inbox.try_next(), None);
    }

    #[tokio::test]
    async fn a_reader_waits_until_what_it_delivered_is_taken() {
        let (mailbox, mut inbox) = inbox();
        let intake = Intake::new(1);
        intake.wait_for_room().await;
        mailbox.deliver(NodeId(2), Lane::Entries, frames("much"), &intake);
        let waiter = tokio::spawn({
            let intake = Arc::clone(&intake);
            async move { intake.wait_for_room().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        assert!(inbox.next().await.is_some());
        waiter.await.unwrap();
    }

    #[tokio::test]
    async fn closing_ends_the_stream() {
        let (mailbox, mut inbox) = inbox();
        let waiter = tokio::spawn(async move { inbox.next().await });
        tokio::task::yield_now().await;
        mailbox.close();
        assert_eq!(waiter.await.unwrap(), None);
    }
}
