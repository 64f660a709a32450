//! Transactions that are deep, and transactions that are wrong: what etcd says of them is said here.

mod support;

use std::path::Path;

use prost::Message;
use support::Etcd;
use support::cluster::Cluster;
use support::grpc::Client;
use vlot_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, Compare, DeleteRangeRequest, PutRequest, PutResponse, RangeRequest,
    RangeResponse, RequestOp, TxnRequest,
};

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const TXN: &str = "/etcdserverpb.KV/Txn";
const COMPACT: &str = "/etcdserverpb.KV/Compact";

#[tokio::test]
async fn transactions_are_nested_as_deeply_as_etcd_takes_them() {
    let too_many = "3 etcdserver: too many operations in txn request";
    let mut rows: Vec<(usize, &str)> = [1, 2, 49, 50, 51, 100, 127, 128].map(|depth| (depth, "0 ")).to_vec();
    rows.extend([129, 130, 255, 256, 257, 10_000, 100_000].map(|depth| (depth, too_many)));
    for (name, mut cluster) in servers() {
        let client = Client::connect(cluster.nodes[0].client_port).await;
        for (depth, expected) in &rows {
            let came = client.exchange("POST", TXN, &GRPC, framed(&nested(*depth)).into()).await;
            assert_eq!(came.status, *expected, "{name}: {depth} deep");
        }
        // What was accepted is read again from the log.
        cluster.nodes[0].kill();
        cluster.nodes[0].start();
        cluster.ready();
        let client = Client::connect(cluster.nodes[0].client_port).await;
        let range = RangeRequest { key: "depth".into(), range_end: "depti".into(), ..RangeRequest::default() };
        let found: RangeResponse = client.call(RANGE, &range).await.unwrap();
        assert_eq!(found.kvs.len(), rows.iter().filter(|(_, expected)| *expected == "0 ").count(), "{name}");
    }
}

#[tokio::test]
async fn wrong_transactions_are_refused_for_etcds_reasons() {
    let Some(Etcd { server, ctl }) = Etcd::find() else { return };
    let both = [Cluster::vlot(1, Path::new("no client")), Cluster::etcd(1, &server, &ctl)];
    let mut clients = Vec::new();
    for cluster in &both {
        let client = Client::connect(cluster.nodes[0].client_port).await;
        for n in 0..20 {
            let put = PutRequest { key: format!("k{}", n % 4).into(), value: "v".into(), ..PutRequest::default() };
            client.call::<PutResponse>(PUT, &put).await.unwrap();
        }
        let compaction = CompactionRequest { revision: 10, physical: true };
        client.call::<CompactionResponse>(COMPACT, &compaction).await.unwrap();
        clients.push(client);
    }
    let mut chance = Chance(1);
    let mut outcomes = std::collections::BTreeMap::new();
    for round in 0..2000 {
        let txn = chance.txn(3);
        let mut said = Vec::new();
        for client in &clients {
            said.push(client.exchange("POST", TXN, &GRPC, framed(&txn.encode_to_vec()).into()).await.status);
        }
        assert_eq!(said[0], said[1], "round {round}: {txn:?}");
        *outcomes.entry(said.swap_remove(0)).or_insert(0) += 1;
    }
    eprintln!("{outcomes:#?}");
    assert!(outcomes.len() >= 6, "{outcomes:?}");
}

const GRPC: [(&str, &str); 1] = [("content-type", "application/grpc")];

fn servers() -> Vec<(&'static str, Cluster)> {
    let vlot = Some(("vlot", Cluster::vlot(1, Path::new("no client"))));
    let etcd = Etcd::find().map(|Etcd { server, ctl }| ("etcd", Cluster::etcd(1, &server, &ctl)));
    vlot.into_iter().chain(etcd).collect()
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&[0], &(message.len() as u32).to_be_bytes()[..], message].concat()
}

/// The bytes of so many transactions, one within the other, around a put; from the inside out, so backwards.
fn nested(depth: usize) -> Vec<u8> {
    let put = PutRequest { key: format!("depth{depth}").into(), value: "v".into(), ..PutRequest::default() };
    let put = RequestOp { request: Some(Request::RequestPut(put)) };
    let innermost = TxnRequest { success: vec![put], ..TxnRequest::default() };
    let mut reversed = innermost.encode_to_vec();
    reversed.reverse();
    for _ in 1..depth {
        // `RequestOp.request_txn`, and `TxnRequest.success`: messages behind their length.
        for key in [0x22, 0x12] {
            let mut head = vec![key];
            let mut length = reversed.len();
            while length >= 0x80 {
                head.push(length as u8 | 0x80);
                length >>= 7;
            }
            head.push(length as u8);
            reversed.extend(head.iter().rev());
        }
    }
    reversed.reverse();
    reversed
}

/// Numbers, the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    fn key(&mut self) -> String {
        if self.one_in(40) { String::new() } else { format!("k{}", self.below(12)) }
    }

    fn txn(&mut self, depth: u64) -> TxnRequest {
        let mut ops = |most| (0..self.below(most)).map(|_| self.op(depth)).collect::<Vec<_>>();
        let (success, failure) = (ops(5), ops(3));
        let compares = if self.one_in(3) { 1 } else { 0 };
        TxnRequest { compare: (0..compares).map(|_| self.compare()).collect(), success, failure }
    }

    fn compare(&mut self) -> Compare {
        Compare {
            result: if self.one_in(10) { 9 } else { CompareResult::Equal as i32 },
            target: if self.one_in(10) { 9 } else { CompareTarget::Version as i32 },
            key: self.key().into(),
            target_union: Some(TargetUnion::Version(self.below(3) as i64)),
            ..Compare::default()
        }
    }

    fn op(&mut self, depth: u64) -> RequestOp {
        let request = match self.below(8) {
            0..=2 => Request::RequestPut(PutRequest {
                key: self.key().into(),
                value: if self.one_in(4) { "".into() } else { "w".into() },
                lease: if self.one_in(12) { 99 } else { 0 },
                ignore_value: self.one_in(10),
                ignore_lease: self.one_in(12),
                ..PutRequest::default()
            }),
            3..=4 => Request::RequestRange(RangeRequest {
                key: self.key().into(),
                // Not a sort order that does not exist: etcd 3.5 ends its process on one, and 3.6 says what is said here.
                revision: match self.below(10) {
                    0 => 1_000_000,
                    1 => 5,
                    2 => -1,
                    _ => 0,
                },
                ..RangeRequest::default()
            }),
            5 => {
                let key = self.key();
                let range_end = if self.one_in(3) { format!("{key}1") } else { String::new() };
                let delete = DeleteRangeRequest { key: key.into(), range_end: range_end.into(), ..Default::default() };
                Request::RequestDeleteRange(delete)
            }
            6 if depth > 0 => Request::RequestTxn(self.txn(depth - 1)),
            6 => return RequestOp { request: None },
            _ if self.one_in(12) => return RequestOp { request: None },
            _ => Request::RequestRange(RangeRequest { key: self.key().into(), ..RangeRequest::default() }),
        };
        RequestOp { request: Some(request) }
    }
}
