//! How a snapshot gets from one node to another: the one that lacks it asks, piece by piece, so that it is never sent
//! faster than it is written down, and the sender holds no more than a window of it.
//!
//! Owns the threads that read and write snapshots, off the driver's. Must not know why a snapshot is needed.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;
use vlot_raft::id::{GroupId, LogId, NodeId};

use crate::events::{Event, Events};
use crate::net::{Lane, Net};
use crate::snapshot::{self, Header, Shelf};
use crate::state_machine::Snapshot;

/// Bytes of one piece.
const PIECE_BYTES: usize = 256 << 10;
/// Pieces that may be under way.
const WINDOW: u64 = 8;
/// How long either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(10);
/// Snapshots that a node sends at the same time.
const SENT_AT_ONCE_MAX: usize = 2;
/// How long a sender waits for room in its queue before it looks again.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(2);

/// Snapshots on their way, to and from this node.
pub(crate) struct Exchange {
    shelf: Shelf,
    net: Arc<Net>,
    events: Arc<Events>,
    /// Numbers the attempts of this process.
    attempts: u64,
    sending: BTreeMap<(NodeId, u64), Arc<Credit>>,
    receiving: BTreeMap<GroupId, Receiving>,
}

/// One attempt to get a snapshot.
struct Receiving {
    from: NodeId,
    attempt: u64,
    pieces: SyncSender<Piece>,
}

/// What a peer asks this node for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Ask {
    pub(crate) from: NodeId,
    pub(crate) group: GroupId,
    attempt: u64,
    /// What the snapshot must reach.
    pub(crate) reach: LogId,
    /// Pieces with smaller numbers may be sent.
    credit: u64,
}

impl Exchange {
    /// None yet. Attempts are numbered from `origin`, where no earlier process of this node has been.
    pub(crate) fn new(shelf: Shelf, net: Arc<Net>, events: Arc<Events>, origin: u64) -> Self {
        let (sending, receiving) = (BTreeMap::new(), BTreeMap::new());
        Self { shelf, net, events, attempts: origin, sending, receiving }
    }

    /// Where snapshots are kept.
    pub(crate) fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// Begins to get a snapshot of a group that reaches `reach`, unless one is on its way. `leader` has one; every
    /// other attempt asks `others` in turn, so that not all of the load is on the leader.
    pub(crate) fn fetch(&mut self, group: GroupId, leader: NodeId, others: &[NodeId], reach: LogId) {
        if self.receiving.contains_key(&group) {
            return;
        }
        self.attempts = self.attempts.wrapping_add(1);
        let attempt = self.attempts;
        let turn = usize::try_from(attempt / 2).unwrap_or(0);
        let from = match others.len() {
            0 => leader,
            _ if attempt % 2 == 1 => leader,
            count => others[turn % count],
        };
        let (pieces, inbox) = sync_channel(2 * WINDOW as usize);
        let receiver = Arrival {
            shelf: self.shelf.clone(),
            net: Arc::clone(&self.net),
            ask: Ask { from, group, attempt, reach, credit: WINDOW },
            inbox,
        };
        let events = Arc::clone(&self.events);
        let begun = std::thread::Builder::new().name("get snapshot".into()).spawn(move || {
            let got = receiver.run();
            events.push(Event::SnapshotGot { group, attempt, got });
        });
        match begun {
            Ok(_) => drop(self.receiving.insert(group, Receiving { from, attempt, pieces })),
            // It is asked for again with the next heartbeat.
            Err(error) => tracing::warn!(%error, "cannot start a thread to get a snapshot"),
        }
    }

    /// An attempt has ended.
    pub(crate) fn got(&mut self, group: GroupId, attempt: u64) {
        if self.receiving.get(&group).is_some_and(|receiving| receiving.attempt == attempt) {
            self.receiving.remove(&group);
        }
    }

    /// Takes in a frame of the snapshot lane. Gives back a question that begins a new exchange.
    pub(crate) fn take(&mut self, from: NodeId, frame: Bytes) -> Option<Ask> {
        match Frame::decode(frame).ok()?.body? {
            Body::Ask(ask) => {
                let ask = Ask {
                    from,
                    group: GroupId(ask.group),
                    attempt: ask.attempt,
                    reach: LogId::new(ask.term, ask.index),
                    credit: ask.credit,
                };
                match self.sending.get(&(from, ask.attempt)) {
                    Some(credit) => credit.allow(ask.credit),
                    None if ask.credit == WINDOW && self.sending.len() < SENT_AT_ONCE_MAX => return Some(ask),
                    None => {}
                }
            }
            Body::Piece(piece) => {
                let meant_for = self.receiving.values().find(|r| r.from == from && r.attempt == piece.attempt);
                if let Some(receiving) = meant_for {
                    // More than was asked for is not kept; the attempt then fails for a gap.
                    let _ = receiving.pieces.try_send(piece);
                }
            }
        }
        None
    }

    /// Sends a snapshot to whoever has asked.
    pub(crate) fn send(&mut self, ask: Ask, header: Header, mut snapshot: Box<dyn Snapshot>) {
        let credit = Arc::new(Credit::default());
        credit.allow(ask.credit);
        let (net, events) = (Arc::clone(&self.net), Arc::clone(&self.events));
        let Ask { from: to, group, attempt, .. } = ask;
        let mut out = Sender { net, to, attempt, credit: Arc::clone(&credit), number: 0, piece: Vec::new() };
        let begun = std::thread::Builder::new().name("send snapshot".into()).spawn(move || {
            let sent = snapshot::write(&header, &mut *snapshot, &mut out).and_then(|()| out.finish());
            let sent = sent.map(|()| header.id).map_err(|error| error.to_string());
            events.push(Event::SnapshotSent { group, to, attempt, sent });
        });
        match begun {
            Ok(_) => drop(self.sending.insert((to, attempt), credit)),
            Err(error) => tracing::warn!(%error, "cannot start a thread to send a snapshot"),
        }
    }

    /// A snapshot is sent, or could not be.
    pub(crate) fn sent(&mut self, to: NodeId, attempt: u64) {
        self.sending.remove(&(to, attempt));
    }
}

/// How many pieces the other side is ready for.
#[derive(Default)]
struct Credit {
    pieces: Mutex<u64>,
    more: Condvar,
}

impl Credit {
    fn allow(&self, upto: u64) {
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        *pieces = (*pieces).max(upto);
        self.more.notify_one();
    }

    /// Waits until the piece may be sent.
    fn wait_for(&self, number: u64) -> io::Result<()> {
        let pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.more.wait_timeout_while(pieces, PATIENCE, |pieces| *pieces <= number);
        let (pieces, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        drop(pieces);
        if waited.timed_out() { Err(silence()) } else { Ok(()) }
    }
}

fn silence() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the other node has fallen silent")
}

/// Cuts a stream into pieces and sends them as the receiver is ready for them.
struct Sender {
    net: Arc<Net>,
    to: NodeId,
    attempt: u64,
    credit: Arc<Credit>,
    number: u64,
    piece: Vec<u8>,
}

impl Sender {
    fn send(&mut self, last: bool) -> io::Result<()> {
        self.credit.wait_for(self.number)?;
        let bytes = Bytes::from(std::mem::take(&mut self.piece));
        let piece = Piece { attempt: self.attempt, number: self.number, bytes, last };
        let frame = Bytes::from(Frame { body: Some(Body::Piece(piece)) }.encode_to_vec());
        let begun = Instant::now();
        while self.net.send(self.to, Lane::Snapshot, std::slice::from_ref(&frame)).is_err() {
            if begun.elapsed() > PATIENCE {
                return Err(silence());
            }
            std::thread::sleep(NO_ROOM_PAUSE);
        }
        self.number += 1;
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        self.send(true)
    }
}

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..part]);
        if self.piece.len() == PIECE_BYTES {
            self.send(false)?;
        }
        Ok(part)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes down what comes, and asks for more.
struct Arrival {
    shelf: Shelf,
    net: Arc<Net>,
    ask: Ask,
    inbox: Receiver<Piece>,
}

impl Arrival {
    fn run(self) -> Result<Header, String> {
        self.receive().map_err(|error| error.to_string())
    }

    fn receive(&self) -> io::Result<Header> {
        let mut file = self.shelf.begin(self.ask.group, "received")?;
        self.ask_for(WINDOW);
        for expected in 0.. {
            let Piece { number, bytes, last, .. } = match self.inbox.recv_timeout(PATIENCE) {
                Ok(piece) => piece,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Err(silence()),
            };
            if number != expected {
                return Err(io::Error::other(format!("piece {number} came in the place of {expected}")));
            }
            file.write_all(&bytes)?;
            if last {
                break;
            }
            self.ask_for(expected + 1 + WINDOW);
        }
        let header = file.finish()?;
        if header.group == self.ask.group { Ok(header) } else { Err(io::Error::other("the snapshot of another group")) }
    }

    fn ask_for(&self, credit: u64) {
        let Ask { from, group, attempt, reach, .. } = self.ask;
        let ask = AskFrame { group: group.0, attempt, term: reach.term.0, index: reach.index.0, credit };
        let frame = Bytes::from(Frame { body: Some(Body::Ask(ask)) }.encode_to_vec());
        // What is lost is missed on the other side, which ends the attempt.
        let _ = self.net.send(from, Lane::Snapshot, &[frame]);
    }
}

// The frames of the snapshot lane (`proto/peer.proto`).

#[derive(Clone, PartialEq, prost::Message)]
struct Frame {
    #[prost(oneof = "Body", tags = "1, 2")]
    body: Option<Body>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Body {
    #[prost(message, tag = "1")]
    Ask(AskFrame),
    #[prost(message, tag = "2")]
    Piece(Piece),
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct AskFrame {
    #[prost(uint64, tag = "1")]
    group: u64,
    #[prost(uint64, tag = "2")]
    attempt: u64,
    #[prost(uint64, tag = "3")]
    term: u64,
    #[prost(uint64, tag = "4")]
    index: u64,
    #[prost(uint64, tag = "5")]
    credit: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Piece {
    #[prost(uint64, tag = "1")]
    attempt: u64,
    #[prost(uint64, tag = "2")]
    number: u64,
    #[prost(bytes = "bytes", tag = "3")]
    bytes: Bytes,
    #[prost(bool, tag = "4")]
    last: bool,
}
