//! The calls of the matrix: every RPC, and what each needs.
//!
//! Each operation on keys comes directly and at several depths of a transaction, in the branch that is taken and in the one
//! that is not.

use prost::Message;
use vlot_proto::descriptors::method;
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::*;
use vlot_proto::v3electionpb::*;
use vlot_proto::v3lockpb::*;

use super::json::json;
use super::model::{Need, Touched};
use super::{administration, gateway};

/// A lease with the key `ax`, one with the key `z`, one without a key; and those of the lock and of the election.
pub const LEASES: [(i64, &str); 3] = [(0x47, "ax"), (0x48, "z"), (0x49, "")];
pub const LOCK_LEASE: i64 = 0x4a;
pub const ELECTION_LEASE: i64 = 0x4b;

/// Ranges as requests have them.
const RANGES: [(&str, &str); 9] =
    [("a", ""), ("ab", ""), ("b", ""), ("a", "b"), ("a", "c"), ("ab", "ac"), ("a", "a\0"), ("a", "\0"), ("\0", "\0")];

/// The calls that come often and change neither keys nor which leases there are.
const READS: [&str; 5] = [
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.KV/RangeStream",
    "/etcdserverpb.Lease/LeaseKeepAlive",
    "/etcdserverpb.Lease/LeaseLeases",
    "/etcdserverpb.Lease/LeaseTimeToLive",
];

/// How a call is made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Unary,
    /// The same in JSON.
    Gateway,
    /// In JSON, the first line of the answer, or that there is none for a while.
    GatewayStream,
    /// One request, and the first message of the answer, or that there is none for a while.
    Stream,
    /// The same; whether a watch was made stands in the message.
    Watch,
}

/// One call.
#[derive(Clone, Debug)]
pub struct Cell {
    pub name: String,
    pub path: &'static str,
    pub kind: Kind,
    pub body: Vec<u8>,
    pub need: Need,
    /// It would change what the other calls are about if root made it.
    pub is_not_for_root: bool,
    /// Why etcd is not asked, or not heeded.
    pub not_as_etcd: Option<&'static str>,
    /// Refusals lose their code: clients go by the text.
    pub tells_by_text: bool,
    /// Leases and their keys are made anew before it, if something was changed since the last time.
    pub on_leases: bool,
    /// It changes nothing even if it is not refused.
    pub only_reads: bool,
    /// The name of the same call in gRPC, which must end alike.
    pub same_as: Option<String>,
}

pub fn cell(name: &str, path: &'static str, request: &impl Message, need: Need) -> Cell {
    Cell {
        name: name.to_owned(),
        path,
        kind: Kind::Unary,
        body: request.encode_to_vec(),
        need,
        is_not_for_root: false,
        not_as_etcd: None,
        tells_by_text: false,
        on_leases: false,
        only_reads: READS.contains(&path),
        same_as: None,
    }
}

/// A call, and the same in JSON by each path that leads to it.
fn and_in_json(cell: Cell) -> Vec<Cell> {
    let kind = if cell.kind == Kind::Unary { Kind::Gateway } else { Kind::GatewayStream };
    let in_json = |path: &'static str| Cell {
        name: format!("{}, in JSON at {path}", cell.name),
        path,
        kind,
        body: json(method(cell.path).expect("each call is in the table").request, &cell.body).to_string().into(),
        same_as: Some(cell.name.clone()),
        ..cell.clone()
    };
    let same: Vec<Cell> = gateway::paths(cell.path).map(in_json).collect();
    [vec![cell], same].concat()
}

fn reads(key: &'static str, range_end: &'static str) -> Touched {
    Touched { reads: true, key, range_end }
}

fn writes(key: &'static str, range_end: &'static str) -> Touched {
    Touched { reads: false, key, range_end }
}

/// An operation on keys.
struct Op {
    name: String,
    request: Request,
    touched: Vec<Touched>,
    on_leases: bool,
}

fn operations() -> Vec<Op> {
    let mut all = Vec::new();
    let mut add = |name: String, request: Request, touched: Vec<Touched>, on_leases: bool| {
        all.push(Op { name, request, touched, on_leases });
    };
    for (key, range_end) in RANGES {
        let shown = format!("{key:?}..{range_end:?}");
        let range = RangeRequest { key: key.into(), range_end: range_end.into(), ..Default::default() };
        add(format!("range {shown}"), Request::RequestRange(range), vec![reads(key, range_end)], false);
        for prev_kv in [false, true] {
            let delete = DeleteRangeRequest { key: key.into(), range_end: range_end.into(), prev_kv };
            let mut touched = vec![writes(key, range_end)];
            touched.extend(prev_kv.then(|| reads(key, range_end)));
            add(format!("delete {shown} {prev_kv}"), Request::RequestDeleteRange(delete), touched, false);
        }
        let compare = Compare { key: key.into(), range_end: range_end.into(), ..Default::default() };
        let txn = TxnRequest { compare: vec![compare], ..Default::default() };
        add(format!("compare {shown}"), Request::RequestTxn(txn), vec![reads(key, range_end)], false);
    }
    for key in ["a", "ab", "b"] {
        for prev_kv in [false, true] {
            let put = PutRequest { key: key.into(), value: "v".into(), prev_kv, ..Default::default() };
            let mut touched = vec![writes(key, "")];
            touched.extend(prev_kv.then(|| reads(key, "")));
            add(format!("put {key} {prev_kv}"), Request::RequestPut(put), touched, false);
        }
    }
    for (lease, on_it) in LEASES {
        let put = PutRequest { key: "a".into(), lease, ..Default::default() };
        let mut touched = vec![writes("a", "")];
        touched.extend((!on_it.is_empty()).then(|| writes(on_it, "")));
        add(format!("put on the lease of {on_it:?}"), Request::RequestPut(put), touched, true);
    }
    // What the user may do beside what it may not.
    let put = PutRequest { key: "a".into(), value: "w".into(), ..Default::default() };
    let get = RangeRequest { key: "z".into(), ..Default::default() };
    let both = TxnRequest {
        success: vec![op(Request::RequestPut(put)), op(Request::RequestRange(get))],
        ..Default::default()
    };
    add("put a, get z".to_owned(), Request::RequestTxn(both), vec![writes("a", ""), reads("z", "")], false);
    all
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

const DEEPEST: &str = "three deep, not taken";

/// The ways in which an operation comes in a transaction.
fn txns_of(request: &Request) -> [(&'static str, TxnRequest); 4] {
    let taken = |request: Request| TxnRequest { success: vec![op(request)], ..Default::default() };
    let not_taken = |request: Request| TxnRequest { failure: vec![op(request)], ..Default::default() };
    let deep = taken(Request::RequestTxn(not_taken(Request::RequestTxn(taken(request.clone())))));
    [
        ("in the branch that is taken", taken(request.clone())),
        ("in the other branch", not_taken(request.clone())),
        ("nested", taken(Request::RequestTxn(taken(request.clone())))),
        (DEEPEST, deep),
    ]
}

/// All calls, in the order in which they are made.
pub fn cells() -> Vec<Cell> {
    let mut all = Vec::new();
    for Op { name, request, touched, on_leases } in operations() {
        let need = Need::Keys(touched);
        let direct = match &request {
            Request::RequestRange(range) => cell(&name, "/etcdserverpb.KV/Range", range, need.clone()),
            Request::RequestPut(put) => cell(&name, "/etcdserverpb.KV/Put", put, need.clone()),
            Request::RequestDeleteRange(delete) => cell(&name, "/etcdserverpb.KV/DeleteRange", delete, need.clone()),
            Request::RequestTxn(txn) => cell(&name, "/etcdserverpb.KV/Txn", txn, need.clone()),
        };
        if let Request::RequestRange(range) = &request {
            let stream = cell(&format!("{name}, streamed"), "/etcdserverpb.KV/RangeStream", range, need.clone());
            all.push(Cell { kind: Kind::Stream, not_as_etcd: Some("release 3.5 has no such call"), ..stream });
        }
        all.extend(and_in_json(Cell { on_leases, ..direct }));
        for (place, txn) in txns_of(&request) {
            let nested = cell(&format!("{name}, {place}"), "/etcdserverpb.KV/Txn", &txn, need.clone());
            let nested = Cell { on_leases, ..nested };
            all.extend(if place == DEEPEST { and_in_json(nested) } else { vec![nested] });
        }
    }
    all.extend(others().into_iter().flat_map(and_in_json));
    all
}

/// What is not an operation on keys.
fn others() -> Vec<Cell> {
    let mut all = Vec::new();
    for (key, range_end) in RANGES {
        let create = WatchCreateRequest { key: key.into(), range_end: range_end.into(), ..Default::default() };
        let watch = watch(&format!("watch {key:?}..{range_end:?}"), create, reads(key, range_end));
        let is_open = (key, range_end) == ("a", "\0");
        let flaw = "etcd 3.5 takes it for a watch of one key when it looks at permissions (GHSA-xg4h-6gfc-h4m8)";
        all.push(Cell { not_as_etcd: is_open.then_some(flaw), ..watch });
    }
    // No key is the first there may be, and one key is not all that follow.
    all.push(watch("watch without a key", WatchCreateRequest::default(), reads("\0", "")));
    all.extend(leases());
    all.extend(queues());
    all.extend(administration::all());
    all
}

fn watch(name: &str, create: WatchCreateRequest, touched: Touched) -> Cell {
    let request = WatchRequest { request_union: Some(watch_request::RequestUnion::CreateRequest(create)) };
    Cell { kind: Kind::Watch, ..cell(name, "/etcdserverpb.Watch/Watch", &request, Need::Keys(vec![touched])) }
}

fn leases() -> Vec<Cell> {
    let mut all = Vec::new();
    for (id, on_it) in LEASES {
        let need = |touch: fn(&'static str, &'static str) -> Touched| {
            Need::Keys(if on_it.is_empty() { vec![] } else { vec![touch(on_it, "")] })
        };
        let name = |what: &str| format!("{what} the lease of {on_it:?}");
        let revoke = LeaseRevokeRequest { id };
        let keep_alive = LeaseKeepAliveRequest { id };
        let with_keys = LeaseTimeToLiveRequest { id, keys: true };
        let without = LeaseTimeToLiveRequest { id, keys: false };
        let kept = cell(&name("keep alive"), "/etcdserverpb.Lease/LeaseKeepAlive", &keep_alive, need(writes));
        all.extend([
            cell(&name("keys on"), "/etcdserverpb.Lease/LeaseTimeToLive", &with_keys, need(reads)),
            cell(&name("look at"), "/etcdserverpb.Lease/LeaseTimeToLive", &without, Need::User),
            Cell { kind: Kind::Stream, ..kept },
            cell(&name("revoke"), "/etcdserverpb.Lease/LeaseRevoke", &revoke, need(writes)),
        ]);
    }
    let (id, keys) = (0x50, true);
    all.extend([
        cell(
            "look at a lease that there is not",
            "/etcdserverpb.Lease/LeaseTimeToLive",
            &LeaseTimeToLiveRequest { id, keys },
            Need::User,
        ),
        cell(
            "revoke a lease that there is not",
            "/etcdserverpb.Lease/LeaseRevoke",
            &LeaseRevokeRequest { id },
            Need::User,
        ),
    ]);
    let listed = Need::Keys(vec![reads("ax", ""), reads("z", "")]);
    all.push(cell("all leases", "/etcdserverpb.Lease/LeaseLeases", &LeaseLeasesRequest {}, listed));
    let grant = LeaseGrantRequest { id: LEASES[0].0, ttl: 600 };
    all.push(cell("grant", "/etcdserverpb.Lease/LeaseGrant", &grant, Need::User));
    all.into_iter().map(|cell| Cell { on_leases: true, ..cell }).collect()
}

/// Lock and election: what they do to the keys of a queue, with the rights of who calls.
fn queues() -> Vec<Cell> {
    let place = |key: &'static str| vec![reads(key, ""), writes(key, ""), reads("a/", "a0")];
    let lock = LockRequest { name: "a".into(), lease: LOCK_LEASE };
    let campaign = CampaignRequest { name: "a".into(), lease: ELECTION_LEASE, value: "v".into() };
    let leader = || Some(LeaderKey { name: "a".into(), key: "a/4b".into(), rev: 1, lease: 0 });
    let owned = || Need::Keys(vec![reads("a/4b", ""), writes("a/4b", "")]);
    let observed = || Need::Keys(vec![reads("a/", "a0")]);
    let name = LeaderRequest { name: "a".into() };
    let observe = cell("observe", "/v3electionpb.Election/Observe", &name, observed());
    let proclaim = ProclaimRequest { leader: leader(), value: "w".into() };
    let silent = "etcd ends the stream without a word";
    let all = vec![
        cell("lock", "/v3lockpb.Lock/Lock", &lock, Need::Keys(place("a/4a"))),
        cell(
            "unlock",
            "/v3lockpb.Lock/Unlock",
            &UnlockRequest { key: "a/4a".into() },
            Need::Keys(vec![writes("a/4a", "")]),
        ),
        cell("campaign", "/v3electionpb.Election/Campaign", &campaign, Need::Keys(place("a/4b"))),
        cell("leader", "/v3electionpb.Election/Leader", &name, observed()),
        Cell { kind: Kind::Stream, not_as_etcd: Some(silent), ..observe },
        cell("proclaim", "/v3electionpb.Election/Proclaim", &proclaim, owned()),
        cell("resign", "/v3electionpb.Election/Resign", &ResignRequest { leader: leader() }, owned()),
    ];
    all.into_iter().map(|cell| Cell { tells_by_text: true, ..cell }).collect()
}
