//! Buckets at moments of the tests' choice.

use std::time::Duration;

use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::{PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCancelRequest};

use super::*;

/// Rules, and a clock.
struct Node {
    limits: RateLimits,
    now: Instant,
}

impl Node {
    fn with(rules: &str) -> Node {
        let rules = Rule::parse_list(rules).unwrap();
        let (limits, now) = (RateLimits::new(&rules), Instant::now());
        Node { limits, now }
    }

    fn after(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    fn call(&self, rpc: Rpc, user: Option<&str>, request: &impl Message) -> bool {
        match self.limits.admit_at(self.now, rpc, user, &request.encode_to_vec().into()) {
            Ok(()) => true,
            Err(status) => {
                assert_eq!(status, Status::TOO_MANY_REQUESTS);
                false
            }
        }
    }

    fn put(&self, user: Option<&str>, key: &'static str) -> bool {
        self.call(Rpc::Put, user, &PutRequest { key: key.into(), ..Default::default() })
    }

    /// How many of so many puts pass.
    fn puts(&self, user: Option<&str>, times: usize) -> usize {
        (0..times).filter(|_| self.put(user, "k")).count()
    }

    fn refused(&self) -> Vec<u64> {
        self.limits.refused().map(|(_, refused)| refused).collect()
    }
}

#[test]
fn a_burst_passes_at_once_and_then_as_many_as_the_rate_allows() {
    let mut node = Node::with("rate=10,burst=5");
    assert_eq!(node.puts(None, 9), 5);
    for (millis, passes) in [(50, 0), (50, 1), (250, 2), (50, 1), (10_000, 5)] {
        node.after(millis);
        assert_eq!(node.puts(None, 9), passes, "after {millis} ms");
    }
    assert_eq!(node.refused(), [4 + 9 + 8 + 7 + 8 + 4]);
    // A clock that is read in another order gives nothing.
    node.now -= Duration::from_secs(5);
    assert_eq!(node.puts(None, 9), 0);
}

#[test]
fn a_rule_counts_whose_calls_it_says() {
    let (alice, bob) = (Some("alice"), Some("bob"));
    // A rule, and how many of three puts pass of alice, then of bob, then of no user.
    let rows = [
        ("rate=1,burst=2", [2, 0, 0]),
        ("user=alice,rate=1,burst=2", [2, 3, 3]),
        ("user=*,rate=1,burst=2", [2, 2, 3]),
        ("user=*,rate=1,burst=2;rate=1,burst=3", [2, 1, 0]),
        ("user=carol,rate=1,burst=2", [3, 3, 3]),
    ];
    for (rules, expected) in rows {
        let node = Node::with(rules);
        assert_eq!([alice, bob, None].map(|user| node.puts(user, 3)), expected, "{rules}");
    }
}

#[test]
fn what_another_rule_refuses_has_cost_nothing() {
    let mut node = Node::with("rate=1,burst=4;call=write,rate=1,burst=1");
    assert_eq!(node.puts(None, 10), 1);
    assert_eq!(node.refused(), [0, 9]);
    let range = RangeRequest { key: "k".into(), ..Default::default() };
    assert_eq!((0..9).filter(|_| node.call(Rpc::Range, None, &range)).count(), 3, "three of four are left");
    node.after(1_000);
    assert!(node.put(None, "k"));
}

#[test]
fn a_rule_counts_calls_that_name_keys_of_its_prefix() {
    let put = |key: &'static str| Request::RequestPut(PutRequest { key: key.into(), ..Default::default() });
    let txn = |key| {
        let op = RequestOp { request: Some(put(key)) };
        let nested = TxnRequest { failure: vec![op], ..Default::default() };
        let op = RequestOp { request: Some(Request::RequestTxn(nested)) };
        TxnRequest { success: vec![op], ..Default::default() }
    };
    let node = Node::with("prefix=a/,rate=1,burst=1");
    assert!(node.put(None, "a/1") && !node.put(None, "a/2") && node.put(None, "b"));
    assert!(!node.call(Rpc::Txn, None, &txn("a/3")) && node.call(Rpc::Txn, None, &txn("b")));
    let all = RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
    assert!(!node.call(Rpc::Range, None, &all));
    let lease = vlot_proto::etcdserverpb::LeaseGrantRequest::default();
    assert!(node.call(Rpc::LeaseGrant, None, &lease), "it names no keys");
}

#[test]
fn each_call_is_of_a_kind_and_health_of_none() {
    let kinds = ["read", "write", "watch", "lease", "member", "maintenance", "auth"];
    let kind = |rpc: Rpc, request: Vec<u8>| {
        let request = Bytes::from(request);
        let counts = |kind: &&str| {
            let node = Node::with(&format!("call={kind},rate=1,burst=1"));
            let calls = || node.limits.admit_at(node.now, rpc, None, &request).is_ok();
            calls() && !calls()
        };
        kinds.iter().copied().filter(counts).collect::<Vec<_>>()
    };
    let watch = |union| WatchRequest { request_union: Some(union) }.encode_to_vec();
    let reads = RequestOp { request: Some(Request::RequestRange(RangeRequest::default())) };
    let writes = RequestOp { request: Some(Request::RequestPut(PutRequest::default())) };
    let txn = |op| TxnRequest { failure: vec![op], ..Default::default() }.encode_to_vec();
    let rows: [(Rpc, Vec<u8>, &[&str]); 14] = [
        (Rpc::Range, vec![], &["read"]),
        (Rpc::Txn, txn(reads), &["read"]),
        (Rpc::Txn, txn(writes), &["write"]),
        (Rpc::Lock, vec![], &["write"]),
        (Rpc::Watch, watch(RequestUnion::CreateRequest(Default::default())), &["watch"]),
        (Rpc::Watch, watch(RequestUnion::CancelRequest(WatchCancelRequest::default())), &[]),
        (Rpc::Observe, vec![], &["watch"]),
        (Rpc::LeaseKeepAlive, vec![], &["lease"]),
        (Rpc::MemberList, vec![], &["member"]),
        (Rpc::Compact, vec![], &["maintenance"]),
        (Rpc::ListQuotas, vec![], &["maintenance"]),
        (Rpc::Authenticate, vec![], &["auth"]),
        (Rpc::HealthCheck, vec![], &[]),
        (Rpc::HealthWatch, vec![], &[]),
    ];
    for (rpc, request, expected) in rows {
        assert_eq!(kind(rpc, request), expected, "{rpc:?}");
    }
}

#[test]
fn users_beyond_a_bound_share_a_bucket_until_others_have_refilled() {
    let mut node = Node::with("user=*,rate=1,burst=2");
    for user in 0..USERS_MAX {
        assert!(node.put(Some(&user.to_string()), "k"));
    }
    let own = |node: &Node| node.limits.rules[0].buckets().own.len();
    assert_eq!(own(&node), USERS_MAX);
    assert!(node.put(Some("one more"), "k") && node.put(Some("another"), "k") && !node.put(Some("a third"), "k"));
    assert_eq!(own(&node), USERS_MAX);
    // All buckets are full again, which is as good as none.
    node.after(1_000);
    assert_eq!(node.puts(Some("one more"), 3), 2);
    assert_eq!(own(&node), 1);
}

#[test]
fn without_rules_nothing_is_looked_at() {
    let limits = RateLimits::new(&[]);
    assert_eq!(limits.admit(Rpc::Txn, None, &Bytes::from_static(b"\xff")), Ok(()));
    assert_eq!(limits.refused().count(), 0);
}
