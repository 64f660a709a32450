//! Nodes to test with, and what peers that are played by hand say and hear, byte for byte.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use vlot::net::{Event, Inbox, Lane, Limits, Net, Refusal};
use vlot_raft::id::NodeId;

use crate::world::{Address, Stream};

pub const CLUSTER: u64 = 9;
/// Far longer than anything here takes, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub fn id(node: u64) -> NodeId {
    NodeId(node)
}

pub fn frame(bytes: &'static str) -> [Bytes; 1] {
    [Bytes::from_static(bytes.as_bytes())]
}

pub struct Node {
    pub id: NodeId,
    /// Where it listens.
    pub at: Address,
    pub net: Net,
    pub inbox: Inbox,
}

impl Node {
    pub async fn next(&mut self) -> Event {
        soon(self.inbox.next()).await.expect("the transport is shut down")
    }

    pub async fn connected(&mut self, peer: u64) {
        let event = self.next().await;
        assert!(matches!(event, Event::Connected { peer: other, .. } if other == id(peer)), "{event:?}");
    }

    pub async fn lost(&mut self, peer: u64) {
        assert_eq!(self.next().await, Event::Lost { peer: id(peer) });
    }

    /// Sends as soon as the lane is connected.
    pub async fn send(&self, to: u64, lane: Lane, pieces: &[Bytes]) {
        eventually(|| self.net.send(id(to), lane, pieces).is_ok()).await;
    }

    /// The next `count` frames from a peer on a lane; no other may come meanwhile, and no news.
    pub async fn frames(&mut self, from: u64, lane: Lane, count: usize) -> Vec<Bytes> {
        let mut all = Vec::new();
        while all.len() < count {
            match self.next().await {
                Event::Frames { from: sender, lane: on, frames } => {
                    assert_eq!((sender, on), (id(from), lane));
                    assert!(!frames.is_empty());
                    all.extend(frames);
                }
                news => panic!("{news:?} instead of frames"),
            }
        }
        assert_eq!(all.len(), count);
        all
    }

    /// Nothing happens for a while.
    pub async fn quiet(&mut self) {
        let event = timeout(Duration::from_millis(100), self.inbox.next()).await;
        assert!(event.is_err(), "{event:?}");
    }
}

/// How many handshakes a node has refused for this reason.
pub fn refused(node: &Node, reason: Refusal) -> u64 {
    node.net.stats().handshakes_refused.get(&reason).copied().unwrap_or(0)
}

/// How many of a node's handshakes were refused for this reason.
pub fn denied(node: &Node, reason: Refusal) -> u64 {
    node.net.stats().handshakes_denied.get(&reason).copied().unwrap_or(0)
}

pub fn limits() -> Limits {
    Limits { handshake_timeout: Duration::from_millis(500), ..Limits::default() }
}

pub fn addresses(peers: &[(u64, Address)]) -> BTreeMap<NodeId, String> {
    peers.iter().map(|(node, address)| (id(*node), (*address).to_owned())).collect()
}

pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("too late")
}

pub async fn eventually(mut holds: impl FnMut() -> bool) {
    let poll = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    soon(poll).await;
}

/// A hello and its introduction, field by field.
#[derive(Clone, Copy)]
pub struct Hello<'a> {
    pub magic: [u8; 8],
    pub versions: (u16, u16),
    pub lane: u16,
    pub cluster: u64,
    pub from: u64,
    pub to: u64,
    pub disk: u64,
    pub disk_expected: u64,
    pub address: &'a str,
}

impl Hello<'_> {
    pub fn new(from: u64, to: u64, lane: u16) -> Self {
        let (disk, disk_expected, address) = (0, 0, "");
        Self { magic: *b"vlotpeer", versions: (3, 3), lane, cluster: CLUSTER, from, to, disk, disk_expected, address }
    }

    pub fn encode(&self) -> Vec<u8> {
        self.encode_with(&self.introduction())
    }

    pub fn introduction(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_u64(self.disk);
        bytes.put_u64(self.disk_expected);
        bytes.put_u16(self.address.len() as u16);
        bytes.put_slice(self.address.as_bytes());
        bytes
    }

    /// The hello with these bytes for an introduction.
    pub fn encode_with(&self, introduction: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_slice(&self.magic);
        bytes.put_u16(self.versions.0);
        bytes.put_u16(self.versions.1);
        bytes.put_u16(self.lane);
        bytes.put_u16(introduction.len() as u16);
        bytes.put_u64(self.cluster);
        bytes.put_u64(self.from);
        bytes.put_u64(self.to);
        bytes.put_slice(introduction);
        bytes
    }
}

/// An answer: refusal, version, cluster, node. Its disk is zero.
pub fn answer(refusal: u16, version: u16, cluster: u64, node: u64) -> Vec<u8> {
    answer_with(refusal, version, cluster, node, &[0; 8])
}

/// An answer with these bytes after it.
pub fn answer_with(refusal: u16, version: u16, cluster: u64, node: u64, more: &[u8]) -> Vec<u8> {
    let mut bytes = b"vlotpeer".to_vec();
    bytes.put_u16(refusal);
    bytes.put_u16(version);
    bytes.put_u16(more.len() as u16);
    bytes.put_u16(0);
    bytes.put_u64(cluster);
    bytes.put_u64(node);
    bytes.put_slice(more);
    bytes
}

/// What a node answered to a hello.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// Zero: accepted.
    pub refusal: u16,
    pub disk: u64,
}

pub async fn hear_answer(stream: &mut Stream) -> Answer {
    let mut answer = [0; 40];
    soon(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!((&answer[..8], &answer[12..14]), (&b"vlotpeer"[..], &[0, 8][..]));
    let mut fields = &answer[8..];
    let refusal = fields.get_u16();
    fields.advance(22);
    Answer { refusal, disk: fields.get_u64() }
}

/// Hears a hello and its introduction.
pub async fn hear_hello(stream: &mut Stream) -> Heard {
    let mut hello = [0; 40];
    soon(stream.read_exact(&mut hello)).await.unwrap();
    let (lane, more) = ((&hello[12..14]).get_u16(), (&hello[14..16]).get_u16());
    let mut introduction = vec![0; usize::from(more)];
    soon(stream.read_exact(&mut introduction)).await.unwrap();
    let mut fields = &introduction[..];
    let (disk, disk_expected, length) = (fields.get_u64(), fields.get_u64(), fields.get_u16());
    assert_eq!(usize::from(length), fields.len());
    let address = String::from_utf8(fields.to_vec()).unwrap();
    Heard { lane, disk, disk_expected, address }
}

/// What a node has said in its hello and its introduction.
#[derive(Debug)]
pub struct Heard {
    pub lane: u16,
    pub disk: u64,
    pub disk_expected: u64,
    pub address: String,
}
