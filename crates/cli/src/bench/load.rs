//! The clients: each sends one request after the other and records what comes back.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::time::Instant;
use vlot_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::response_op::Response;
use vlot_proto::etcdserverpb::{
    AuthenticateResponse, Compare, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, TxnRequest,
    TxnResponse,
};

use super::connections::{Connections, Lease, needs_renewal};
use super::login::Turns;
use super::pace::Pace;
use super::tally::Tally;
use super::watch::{self, Stamp};
use super::{Consistency, Load, Workload};
use crate::client::{Failure, path};

/// A client whose call failed rests so long, or a server that refuses everything would be flooded.
const REST: Duration = Duration::from_millis(10);

/// Starts all clients. They end when the pace allows no more.
pub fn start(
    workload: &Workload,
    load: &Load,
    connections: &Rc<Connections>,
    pace: &Rc<Pace>,
    tally: &Rc<RefCell<Tally>>,
) {
    for number in 0..load.clients {
        let mut client = Client {
            number,
            kind: Kind::of(workload, load, number),
            keys: Keys::new(load, number),
            value: vec![b'x'; load.val_size].into(),
            timeout: load.timeout,
        };
        let (connections, pace, tally) = (connections.clone(), pace.clone(), tally.clone());
        tokio::task::spawn_local(async move {
            let lease = connections.lease(number).await;
            client.run(lease, &pace, &tally).await;
        });
    }
}

struct Client {
    number: usize,
    kind: Kind,
    keys: Keys,
    value: Bytes,
    timeout: Duration,
}

enum Kind {
    Put {
        sequential: bool,
    },
    Range {
        serializable: bool,
    },
    /// Which key, and the revision it is believed to have.
    Txn {
        key: u64,
        revision: i64,
    },
    /// Writes that say when they were sent.
    Stamped,
    Login(Turns),
}

impl Kind {
    fn of(workload: &Workload, load: &Load, client: usize) -> Kind {
        match workload {
            Workload::Put { sequential, .. } => Kind::Put { sequential: *sequential },
            Workload::Range { consistency, .. } => Kind::Range { serializable: *consistency == Consistency::S },
            Workload::Txn { .. } => Kind::Txn { key: client as u64 % load.key_space, revision: 0 },
            Workload::Watch { .. } => Kind::Stamped,
            Workload::Login { logins, .. } => Kind::Login(Turns::new(logins, client, load.clients)),
        }
    }
}

impl Client {
    async fn run(&mut self, mut lease: Lease, pace: &Pace, tally: &RefCell<Tally>) {
        let mut operation = 0_u32;
        while let Some(begins) = pace.next(self.number, operation).await {
            operation = operation.saturating_add(1);
            match self.operate(&mut lease, tally).await {
                Ok(()) => tally.borrow_mut().succeeded(begins.elapsed()),
                Err(failure) => {
                    tally.borrow_mut().failed(&failure);
                    if needs_renewal(&failure) {
                        lease.renew().await;
                    } else {
                        tokio::time::sleep(REST).await;
                    }
                }
            }
        }
    }

    async fn operate(&mut self, lease: &mut Lease, tally: &RefCell<Tally>) -> Result<(), Failure> {
        match &mut self.kind {
            Kind::Put { sequential } => {
                let key = if *sequential { self.keys.following() } else { self.keys.random() };
                let request = PutRequest { key, value: self.value.clone(), ..PutRequest::default() };
                lease.call::<PutResponse>(path::PUT, &request, self.timeout).await.map(drop)
            }
            Kind::Range { serializable } => {
                let key = self.keys.random();
                let request = RangeRequest { key, serializable: *serializable, ..RangeRequest::default() };
                lease.call::<RangeResponse>(path::RANGE, &request, self.timeout).await.map(drop)
            }
            Kind::Txn { key, revision } => {
                let request = compare_and_put(self.keys.numbered(*key), *revision, self.value.clone());
                let reply: TxnResponse = lease.call(path::TXN, &request, self.timeout).await?;
                if !reply.succeeded {
                    tally.borrow_mut().conflicted();
                }
                *revision = revision_after(&reply);
                Ok(())
            }
            Kind::Stamped => {
                let value = Stamp::value(Instant::now(), self.value.len());
                let request = PutRequest { key: watch::key(&self.keys.random()), value, ..PutRequest::default() };
                lease.call::<PutResponse>(path::PUT, &request, self.timeout).await.map(drop)
            }
            Kind::Login(turns) => {
                let request = turns.next();
                lease.call::<AuthenticateResponse>(path::AUTHENTICATE, &request, self.timeout).await.map(drop)
            }
        }
    }
}

/// Writes the key if it still has the revision, and reads it if not.
fn compare_and_put(key: Bytes, revision: i64, value: Bytes) -> TxnRequest {
    let compare = Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::ModRevision(revision)),
        ..Compare::default()
    };
    let put = Request::RequestPut(PutRequest { key: key.clone(), value, ..PutRequest::default() });
    let get = Request::RequestRange(RangeRequest { key, keys_only: true, ..RangeRequest::default() });
    TxnRequest {
        compare: vec![compare],
        success: vec![RequestOp { request: Some(put) }],
        failure: vec![RequestOp { request: Some(get) }],
    }
}

/// The key's revision after such a transaction.
fn revision_after(reply: &TxnResponse) -> i64 {
    if reply.succeeded {
        return reply.header.map_or(0, |header| header.revision);
    }
    match reply.responses.first().and_then(|op| op.response.as_ref()) {
        Some(Response::ResponseRange(range)) => range.kvs.first().map_or(0, |kv| kv.mod_revision),
        _ => 0,
    }
}

/// The key of this number.
pub fn key(number: u64, size: usize) -> Bytes {
    let mut buffer = BytesMut::new();
    write_key(number, size, &mut buffer);
    buffer.freeze()
}

fn write_key(number: u64, size: usize, buffer: &mut BytesMut) {
    buffer.reserve(size);
    buffer.put_bytes(b'0', size);
    let mut rest = number;
    for digit in buffer.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// One client's choice of keys: numbers with leading zeros.
struct Keys {
    random: u64,
    following: u64,
    stride: u64,
    space: u64,
    size: usize,
    /// Keys are written here; see `client::frames::encode` for how it keeps its allocation.
    buffer: BytesMut,
}

impl Keys {
    fn new(load: &Load, client: usize) -> Keys {
        let client = client as u64;
        // Any odd factor keeps the clients' seeds apart; xorshift must not start from 0.
        let random = mixed(load.seed.wrapping_add(client.wrapping_mul(0x9e37_79b9_7f4a_7c15))).max(1);
        let (space, size) = (load.key_space, load.key_size);
        Keys { random, following: client, stride: load.clients as u64, space, size, buffer: BytesMut::new() }
    }

    fn random(&mut self) -> Bytes {
        // Marsaglia's xorshift64.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        // The high half of the product is uniform enough for any space that fits a benchmark.
        let number = (u128::from(self.random) * u128::from(self.space)) >> 64;
        self.numbered(number as u64)
    }

    fn following(&mut self) -> Bytes {
        let number = self.following % self.space;
        self.following = self.following.wrapping_add(self.stride);
        self.numbered(number)
    }

    fn numbered(&mut self, number: u64) -> Bytes {
        write_key(number, self.size, &mut self.buffer);
        self.buffer.split().freeze()
    }
}

/// Spreads close numbers far apart.
fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(client: usize, clients: usize, space: u64) -> Keys {
        let mut keys = Keys {
            random: mixed(client as u64 + 1),
            following: client as u64,
            stride: clients as u64,
            space,
            size: 4,
            buffer: BytesMut::new(),
        };
        assert_eq!(&keys.numbered(42)[..], b"0042");
        assert_eq!(key(42, 4), keys.numbered(42));
        keys
    }

    #[test]
    fn sequential_clients_cover_the_space_once() {
        let mut seen: Vec<Bytes> = Vec::new();
        for client in 0..3 {
            let mut keys = keys(client, 3, 9);
            seen.extend((0..3).map(|_| keys.following()));
        }
        seen.sort();
        let all: Vec<Bytes> = (0..9).map(|number| Bytes::from(format!("{number:04}"))).collect();
        assert_eq!(seen, all);
    }

    #[test]
    fn random_keys_reach_all_of_a_small_space_and_nothing_else() {
        let mut keys = keys(0, 1, 10);
        let seen: std::collections::BTreeSet<Bytes> = (0..1000).map(|_| keys.random()).collect();
        assert_eq!(seen.len(), 10);
        assert!(seen.iter().all(|key| &key[..3] == b"000"));
    }
}
