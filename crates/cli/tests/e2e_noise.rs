//! Made-up calls of every RPC, sound and unsound: etcd's codes and words, and a server that lives on.

mod support;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use support::Etcd;
use support::cluster::Cluster;
use support::dice::Dice;
use support::grpc::Client;
use vlot_proto::etcdserverpb::compare::TargetUnion;
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::*;
use vlot_proto::v3electionpb::*;
use vlot_proto::v3lockpb::*;

const ROUNDS: usize = 1_500;

/// The RPCs that are answered alike whoever answers, and change nothing but keys and leases.
const COMPARED: [&str; 15] = [
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.KV/Put",
    "/etcdserverpb.KV/DeleteRange",
    "/etcdserverpb.KV/Txn",
    "/etcdserverpb.KV/Compact",
    "/etcdserverpb.Lease/LeaseGrant",
    "/etcdserverpb.Lease/LeaseRevoke",
    "/etcdserverpb.Lease/LeaseTimeToLive",
    "/etcdserverpb.Lease/LeaseLeases",
    "/etcdserverpb.Maintenance/HashKV",
    "/v3lockpb.Lock/Unlock",
    "/v3electionpb.Election/Proclaim",
    "/v3electionpb.Election/Leader",
    "/v3electionpb.Election/Resign",
    "/etcdserverpb.KV/Nothing",
];

/// All others that take one request. What they do to a cluster is not asked for here: the server must live.
const SURVIVED: [&str; 30] = [
    "/etcdserverpb.Maintenance/Status",
    "/etcdserverpb.Maintenance/Hash",
    "/etcdserverpb.Maintenance/Defragment",
    "/etcdserverpb.Maintenance/Downgrade",
    "/etcdserverpb.Maintenance/MoveLeader",
    "/etcdserverpb.Maintenance/Snapshot",
    "/etcdserverpb.KV/RangeStream",
    "/etcdserverpb.Watch/Watch",
    "/etcdserverpb.Lease/LeaseKeepAlive",
    "/etcdserverpb.Cluster/MemberList",
    "/etcdserverpb.Cluster/MemberRemove",
    "/etcdserverpb.Cluster/MemberPromote",
    "/etcdserverpb.Cluster/MemberUpdate",
    "/etcdserverpb.Auth/AuthEnable",
    "/etcdserverpb.Auth/AuthDisable",
    "/etcdserverpb.Auth/AuthStatus",
    "/etcdserverpb.Auth/Authenticate",
    "/etcdserverpb.Auth/UserAdd",
    "/etcdserverpb.Auth/UserGet",
    "/etcdserverpb.Auth/UserList",
    "/etcdserverpb.Auth/UserDelete",
    "/etcdserverpb.Auth/UserChangePassword",
    "/etcdserverpb.Auth/UserGrantRole",
    "/etcdserverpb.Auth/UserRevokeRole",
    "/etcdserverpb.Auth/RoleAdd",
    "/etcdserverpb.Auth/RoleGet",
    "/etcdserverpb.Auth/RoleList",
    "/etcdserverpb.Auth/RoleDelete",
    "/etcdserverpb.Auth/RoleGrantPermission",
    "/etcdserverpb.Auth/RoleRevokePermission",
];

/// Draws calls.
struct Calls(Dice);

impl Calls {
    fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        self.0.one_of(of)
    }

    fn flip(&mut self) -> bool {
        self.0.once_in(4)
    }

    fn key(&mut self) -> Bytes {
        self.pick(&["", "a", "b", "c", "\0", "zz"]).into()
    }

    fn number(&mut self) -> i64 {
        self.pick(&[0, 0, 0, 1, 2, 5, 40, -1, i64::MAX, i64::MIN])
    }

    fn put(&mut self) -> PutRequest {
        PutRequest {
            key: self.key(),
            value: self.key(),
            lease: self.pick(&[0, 0, 1, 2, -3, 77]),
            prev_kv: self.flip(),
            ignore_value: self.flip(),
            ignore_lease: self.flip(),
        }
    }

    fn range(&mut self) -> RangeRequest {
        RangeRequest {
            key: self.key(),
            range_end: self.key(),
            limit: self.pick(&[0, 1, 2, -1]),
            revision: self.number(),
            // The others end the process of a real etcd.
            sort_order: self.below(3) as i32,
            sort_target: self.below(5) as i32,
            keys_only: self.flip(),
            count_only: self.flip(),
            serializable: self.flip(),
            max_mod_revision: self.number(),
            ..Default::default()
        }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        DeleteRangeRequest { key: self.key(), range_end: self.key(), prev_kv: self.flip() }
    }

    fn op(&mut self, depth: u64) -> RequestOp {
        let request = match self.below(8) {
            0..=2 => Some(Request::RequestPut(self.put())),
            3..=4 => Some(Request::RequestRange(self.range())),
            5 => Some(Request::RequestDeleteRange(self.delete())),
            6 if depth > 0 => Some(Request::RequestTxn(self.txn(depth - 1))),
            _ => None,
        };
        RequestOp { request }
    }

    fn txn(&mut self, depth: u64) -> TxnRequest {
        let compare = |calls: &mut Calls| Compare {
            result: calls.below(4) as i32,
            target: 0,
            key: calls.key(),
            target_union: Some(TargetUnion::Version(calls.below(3) as i64)),
            ..Default::default()
        };
        TxnRequest {
            compare: (0..self.below(3)).map(|_| compare(self)).collect(),
            success: (0..self.below(3)).map(|_| self.op(depth)).collect(),
            failure: (0..self.below(3)).map(|_| self.op(depth)).collect(),
        }
    }

    fn leader_key(&mut self) -> Option<LeaderKey> {
        let key = || LeaderKey { key: "e/1".into(), name: "e".into(), rev: 2, lease: 1 };
        (!self.flip()).then(|| LeaderKey { rev: self.below(5) as i64, ..key() })
    }

    fn message(&mut self, path: &str) -> Vec<u8> {
        let id = self.pick(&[0, 1, 2, -3, 77, i64::MIN]);
        match path.rsplit('/').next().unwrap_or_default() {
            "Range" | "RangeStream" => self.range().encode_to_vec(),
            "Put" => self.put().encode_to_vec(),
            "DeleteRange" => self.delete().encode_to_vec(),
            "Txn" => self.txn(3).encode_to_vec(),
            "Compact" => CompactionRequest { revision: self.number(), physical: self.flip() }.encode_to_vec(),
            // A drawn id is another one in each cluster, and short times end while this runs.
            "LeaseGrant" => {
                let ttl = self.pick(&[600, 9_000_000_000, 9_000_000_001, i64::MAX]);
                LeaseGrantRequest { id: self.pick(&[1, 2, -3]), ttl }.encode_to_vec()
            }
            "LeaseRevoke" => LeaseRevokeRequest { id }.encode_to_vec(),
            "LeaseTimeToLive" => LeaseTimeToLiveRequest { id, keys: true }.encode_to_vec(),
            "HashKV" => HashKvRequest { revision: self.number() }.encode_to_vec(),
            "Unlock" => UnlockRequest { key: self.key() }.encode_to_vec(),
            "Proclaim" => ProclaimRequest { leader: self.leader_key(), value: self.key() }.encode_to_vec(),
            "Resign" => ResignRequest { leader: self.leader_key() }.encode_to_vec(),
            "Leader" => LeaderRequest { name: self.key() }.encode_to_vec(),
            _ => (0..self.below(12)).map(|_| self.pick(&[0, 1, 8, 10, 16, 18, 42, 120, 255])).collect(),
        }
    }

    /// A call's bytes: a message behind its length, or one that has lost its end.
    fn call(&mut self, path: &str) -> Bytes {
        let mut message = self.message(path);
        if self.below(12) == 0 {
            let left = self.below(message.len() as u64 + 1);
            message.truncate(left as usize);
        }
        let mut bytes = BytesMut::new();
        bytes.put_u8(0);
        bytes.put_u32(message.len() as u32);
        bytes.put_slice(&message);
        bytes.freeze()
    }
}

const HEADERS: [(&str, &str); 2] = [("content-type", "application/grpc"), ("te", "trailers")];

/// What is not decoded is told in each library's own words.
fn comparable(status: &str) -> &str {
    if status.starts_with("13 ") { "13" } else { status }
}

#[test]
fn made_up_calls_are_answered_as_by_etcd() {
    let Some(etcd) = Etcd::find() else { return };
    let theirs = Cluster::etcd(1, &etcd.server, &etcd.ctl);
    let ours = Cluster::vlot(1, &etcd.ctl);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let [theirs, ours] =
            [Client::connect(theirs.nodes[0].client_port).await, Client::connect(ours.nodes[0].client_port).await];
        let mut calls = Calls(Dice(7));
        let mut refused = 0;
        for round in 0..ROUNDS {
            let path = calls.pick(&COMPARED);
            let body = calls.call(path);
            let expected = theirs.exchange("POST", path, &HEADERS, body.clone()).await;
            let answer = ours.exchange("POST", path, &HEADERS, body.clone()).await;
            let what = format!("round {round}, {path} {:02x?}", &body[5..]);
            assert_eq!(comparable(&answer.status), comparable(&expected.status), "{what}");
            assert_eq!(answer.http, expected.http, "{what}");
            refused += usize::from(!expected.status.starts_with('0'));
        }
        assert!(refused > ROUNDS / 10 && refused < ROUNDS * 9 / 10, "{refused} of {ROUNDS} are refused");
    });
}

#[test]
fn no_made_up_call_ends_a_server() {
    let Some(etcd) = Etcd::find() else { return };
    let mut ours = Cluster::vlot(1, &etcd.ctl);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::connect(ours.nodes[0].client_port).await;
        let mut calls = Calls(Dice(11));
        for _ in 0..ROUNDS {
            let path = calls.pick(&SURVIVED);
            let body = calls.call(path);
            // Streams go on until their client has enough.
            let exchange = client.exchange("POST", path, &HEADERS, body);
            let _ = tokio::time::timeout(std::time::Duration::from_millis(30), exchange).await;
        }
    });
    assert!(ours.nodes[0].runs());
    ours.serves();
}
