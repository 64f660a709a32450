//! Which keys a call names, and whether some of them begin with a prefix.
//!
//! Owns the walk through each kind of request, nested transactions included. It judges nothing: a request that cannot be
//! read names no keys, and is refused by its service.

use bytes::Bytes;
use prost::Message;
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::watch_request::RequestUnion;
use vlot_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest, WatchRequest};
use vlot_proto::txn;
use vlot_proto::v3electionpb::{CampaignRequest, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest};
use vlot_proto::v3lockpb::{LockRequest, UnlockRequest};

use crate::rpc::Rpc;

/// The keys of one call: pairs of a key and a `range_end`, as etcd has them.
#[derive(Debug, Default)]
pub(super) struct Keys(Vec<(Bytes, Bytes)>);

impl Keys {
    pub(super) fn of(rpc: Rpc, request: &Bytes) -> Keys {
        let mut keys = Keys::default();
        keys.add_request(rpc, request.clone());
        keys
    }

    /// Whether some of the keys begin with a prefix.
    pub(super) fn meet(&self, prefix: &[u8]) -> bool {
        self.0.iter().any(|(key, end)| {
            // A range may begin before the prefix.
            let begins_before_end = key.starts_with(prefix) || &key[..] < prefix;
            match &end[..] {
                [] => key.starts_with(prefix),
                [0] => begins_before_end,
                end => begins_before_end && end > prefix && key < end,
            }
        })
    }

    fn add_request(&mut self, rpc: Rpc, bytes: Bytes) {
        match rpc {
            Rpc::Put => self.add_one(decoded::<PutRequest>(bytes).key),
            Rpc::Range | Rpc::RangeStream => {
                let RangeRequest { key, range_end, .. } = decoded(bytes);
                self.add(key, range_end);
            }
            Rpc::DeleteRange => {
                let DeleteRangeRequest { key, range_end, .. } = decoded(bytes);
                self.add(key, range_end);
            }
            Rpc::Txn => self.add_txn(&txn::decode(bytes).unwrap_or_default()),
            Rpc::Watch => {
                if let Some(RequestUnion::CreateRequest(create)) = decoded::<WatchRequest>(bytes).request_union {
                    self.add(create.key, create.range_end);
                }
            }
            Rpc::Lock => self.add_queue(&decoded::<LockRequest>(bytes).name),
            Rpc::Unlock => self.add_one(decoded::<UnlockRequest>(bytes).key),
            Rpc::Campaign => self.add_queue(&decoded::<CampaignRequest>(bytes).name),
            Rpc::Leader | Rpc::Observe => self.add_queue(&decoded::<LeaderRequest>(bytes).name),
            Rpc::Proclaim => self.add_place(decoded::<ProclaimRequest>(bytes).leader),
            Rpc::Resign => self.add_place(decoded::<ResignRequest>(bytes).leader),
            // All others name no keys.
            _ => {}
        }
    }

    fn add_txn(&mut self, txn: &TxnRequest) {
        for compare in &txn.compare {
            self.add(compare.key.clone(), compare.range_end.clone());
        }
        for op in txn.success.iter().chain(&txn.failure) {
            match &op.request {
                Some(Request::RequestRange(range)) => self.add(range.key.clone(), range.range_end.clone()),
                Some(Request::RequestPut(put)) => self.add_one(put.key.clone()),
                Some(Request::RequestDeleteRange(delete)) => self.add(delete.key.clone(), delete.range_end.clone()),
                Some(Request::RequestTxn(nested)) => self.add_txn(nested),
                None => {}
            }
        }
    }

    /// The places of a queue: keys below a name and a slash.
    fn add_queue(&mut self, name: &[u8]) {
        let bounded = |last: u8| Bytes::from([name, &[last]].concat());
        self.add(bounded(b'/'), bounded(b'/' + 1));
    }

    fn add_place(&mut self, leader: Option<LeaderKey>) {
        self.add_one(leader.unwrap_or_default().key);
    }

    fn add_one(&mut self, key: Bytes) {
        self.add(key, Bytes::new());
    }

    fn add(&mut self, key: Bytes, range_end: Bytes) {
        self.0.push((key, range_end));
    }
}

fn decoded<M: Message + Default>(bytes: Bytes) -> M {
    M::decode(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_meet_a_prefix_if_one_of_them_may_begin_so() {
        // Key, range_end, prefix.
        let rows = [
            ("a/1", "", "a/", true),
            ("a", "", "a/", false),
            ("b", "", "a/", false),
            ("a", "b", "a/", true),
            ("a/5", "a/7", "a/", true),
            ("a/5", "a/7", "a/6", true),
            ("a/5", "a/7", "a/7", false),
            ("a", "a/", "a/", false),
            ("a0", "b", "a/", false),
            ("b", "a", "a/", false),
            ("a", "\0", "b", true),
            ("b/x", "\0", "b", true),
            ("c", "\0", "b", false),
            ("\0", "\0", "b", true),
        ];
        for (key, end, prefix, expected) in rows {
            let keys = Keys(vec![(key.into(), end.into())]);
            assert_eq!(keys.meet(prefix.as_bytes()), expected, "{key:?} {end:?} {prefix:?}");
        }
    }

    #[test]
    fn every_kind_of_request_names_its_keys() {
        use vlot_proto::etcdserverpb::{Compare, RequestOp, WatchCancelRequest, WatchCreateRequest};
        let op = |request| RequestOp { request: Some(request) };
        let put = |key: &'static str| PutRequest { key: key.into(), ..Default::default() };
        let nested = TxnRequest {
            failure: vec![
                op(Request::RequestPut(put("deep"))),
                op(Request::RequestRange(RangeRequest { key: "read".into(), ..Default::default() })),
            ],
            ..Default::default()
        };
        let txn = TxnRequest {
            compare: vec![Compare { key: "compared".into(), ..Default::default() }],
            success: vec![
                op(Request::RequestDeleteRange(DeleteRangeRequest { key: "deleted".into(), ..Default::default() })),
                op(Request::RequestTxn(nested)),
            ],
            failure: vec![op(Request::RequestPut(put("other")))],
        };
        let create = WatchCreateRequest { key: "watched".into(), ..Default::default() };
        let watch = |union| WatchRequest { request_union: Some(union) }.encode_to_vec();
        let leader = Some(LeaderKey { key: "place".into(), ..Default::default() });
        let rows: [(Rpc, Vec<u8>, &[&str]); 14] = [
            (Rpc::Put, put("k").encode_to_vec(), &["k"]),
            (Rpc::Range, RangeRequest { key: "k".into(), ..Default::default() }.encode_to_vec(), &["k"]),
            (Rpc::RangeStream, RangeRequest { key: "k".into(), ..Default::default() }.encode_to_vec(), &["k"]),
            (Rpc::DeleteRange, DeleteRangeRequest { key: "k".into(), ..Default::default() }.encode_to_vec(), &["k"]),
            (Rpc::Txn, txn.encode_to_vec(), &["compared", "deleted", "deep", "read", "other"]),
            (Rpc::Watch, watch(RequestUnion::CreateRequest(create)), &["watched"]),
            (Rpc::Watch, watch(RequestUnion::CancelRequest(WatchCancelRequest::default())), &[]),
            (Rpc::Lock, LockRequest { name: "q".into(), lease: 0 }.encode_to_vec(), &["q/"]),
            (Rpc::Unlock, UnlockRequest { key: "q/1".into() }.encode_to_vec(), &["q/1"]),
            (Rpc::Campaign, CampaignRequest { name: "q".into(), ..Default::default() }.encode_to_vec(), &["q/"]),
            (Rpc::Observe, LeaderRequest { name: "q".into() }.encode_to_vec(), &["q/"]),
            (
                Rpc::Proclaim,
                ProclaimRequest { leader: leader.clone(), ..Default::default() }.encode_to_vec(),
                &["place"],
            ),
            (Rpc::Resign, ResignRequest { leader }.encode_to_vec(), &["place"]),
            (Rpc::MemberList, b"\xff".to_vec(), &[]),
        ];
        for (rpc, bytes, expected) in rows {
            let keys = Keys::of(rpc, &bytes.into());
            let found: Vec<&str> = keys.0.iter().map(|(key, _)| str::from_utf8(key).unwrap()).collect();
            assert_eq!(found, expected, "{rpc:?}");
        }
        assert!(!Keys::of(Rpc::Put, &Bytes::from_static(b"\xff")).meet(b"a"), "what cannot be read names no keys");
    }
}
