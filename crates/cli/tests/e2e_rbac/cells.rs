//! The calls of the matrix: every RPC, and what each needs.
//!
//! Each operation on keys comes directly and at several depths of a transaction, in the branch that is taken and in the one
//! that is not.

use prost::Message;
use vlot_proto::authpb::Permission;
use vlot_proto::etcdserverpb::downgrade_request::DowngradeAction;
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::*;
use vlot_proto::v3electionpb::*;
use vlot_proto::v3lockpb::*;

use super::gateway;
use super::model::{Need, Touched};

/// A lease with the key `ax`, one with the key `z`, one without a key; and those of the lock and of the election.
pub const LEASES: [(i64, &str); 3] = [(0x47, "ax"), (0x48, "z"), (0x49, "")];
pub const LOCK_LEASE: i64 = 0x4a;
pub const ELECTION_LEASE: i64 = 0x4b;

/// Ranges as requests have them.
const RANGES: [(&str, &str); 9] =
    [("a", ""), ("ab", ""), ("b", ""), ("a", "b"), ("a", "c"), ("ab", "ac"), ("a", "a\0"), ("a", "\0"), ("\0", "\0")];

/// How a call is made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Unary,
    /// The same in JSON.
    Gateway,
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
    /// Leases and their keys are made anew before it.
    pub on_leases: bool,
}

fn cell(name: &str, path: &'static str, request: &impl Message, need: Need) -> Cell {
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
    }
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
        all.push(Cell { on_leases, ..direct.clone() });
        let in_json = |cell: Cell, request: &Request| Cell {
            name: format!("{}, in JSON", cell.name),
            path: gateway::path(request),
            kind: Kind::Gateway,
            body: gateway::json(request).into(),
            on_leases,
            ..cell
        };
        all.push(in_json(direct, &request));
        for (place, txn) in txns_of(&request) {
            let nested = cell(&format!("{name}, {place}"), "/etcdserverpb.KV/Txn", &txn, need.clone());
            all.push(Cell { on_leases, ..nested.clone() });
            if place == DEEPEST {
                all.push(in_json(nested, &Request::RequestTxn(txn)));
            }
        }
    }
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
    all.extend(members_and_maintenance());
    all.extend(users_and_roles());
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

fn members_and_maintenance() -> Vec<Cell> {
    let root = || Need::Root;
    let peer_ur_ls = vec!["http://127.0.0.1:1".to_owned()];
    let add = MemberAddRequest { peer_ur_ls: peer_ur_ls.clone(), is_learner: true };
    let alarm = |action| AlarmRequest { action, ..Default::default() };
    let validate = DowngradeRequest { action: DowngradeAction::Validate.into(), version: "no version".into() };
    let snapshot = cell("snapshot", "/etcdserverpb.Maintenance/Snapshot", &SnapshotRequest {}, root());
    let compact =
        cell("compact", "/etcdserverpb.KV/Compact", &CompactionRequest { revision: -5, physical: false }, root());
    let status = cell("status", "/etcdserverpb.Maintenance/Status", &StatusRequest {}, Need::User);
    vec![
        cell("list members", "/etcdserverpb.Cluster/MemberList", &MemberListRequest { linearizable: true }, Need::User),
        Cell { is_not_for_root: true, ..cell("add a member", "/etcdserverpb.Cluster/MemberAdd", &add, root()) },
        cell("remove a member", "/etcdserverpb.Cluster/MemberRemove", &MemberRemoveRequest { id: 1 }, root()),
        cell(
            "update a member",
            "/etcdserverpb.Cluster/MemberUpdate",
            &MemberUpdateRequest { id: 1, peer_ur_ls },
            root(),
        ),
        cell("promote a member", "/etcdserverpb.Cluster/MemberPromote", &MemberPromoteRequest { id: 1 }, root()),
        Cell { not_as_etcd: Some("etcd 3.5 answers root alone, later releases every user"), ..status },
        cell("list alarms", "/etcdserverpb.Maintenance/Alarm", &alarm(0), Need::User),
        cell("raise no alarm", "/etcdserverpb.Maintenance/Alarm", &alarm(1), root()),
        cell("lower an alarm", "/etcdserverpb.Maintenance/Alarm", &alarm(2), root()),
        cell("hash", "/etcdserverpb.Maintenance/Hash", &HashRequest {}, root()),
        cell("hash of history", "/etcdserverpb.Maintenance/HashKV", &HashKvRequest { revision: 0 }, root()),
        cell("defragment", "/etcdserverpb.Maintenance/Defragment", &DefragmentRequest {}, root()),
        cell("downgrade", "/etcdserverpb.Maintenance/Downgrade", &validate, root()),
        Cell { is_not_for_root: true, ..move_leader() },
        Cell { kind: Kind::Stream, ..snapshot },
        compact,
        cell(
            "health",
            "/grpc.health.v1.Health/Check",
            &vlot_proto::health::HealthCheckRequest::default(),
            Need::Nothing,
        ),
    ]
}

fn move_leader() -> Cell {
    let request = MoveLeaderRequest { target_id: 1 };
    cell("move the leadership", "/etcdserverpb.Maintenance/MoveLeader", &request, Need::Root)
}

/// What root does here is refused for another reason: the auth revision stays as it is.
fn users_and_roles() -> Vec<Cell> {
    let root = || Need::Root;
    let ghost = || "ghost".to_owned();
    let user_get = |name: &str| AuthUserGetRequest { name: name.into() };
    let role_get = |role: &str| AuthRoleGetRequest { role: role.into() };
    let perm = Some(Permission { perm_type: 2, key: "\0".into(), range_end: "\0".into() });
    let disable = cell("disable", "/etcdserverpb.Auth/AuthDisable", &AuthDisableRequest {}, root());
    let user_add = AuthUserAddRequest { name: "root".into(), password: "p".into(), ..Default::default() };
    let change = AuthUserChangePasswordRequest { name: ghost(), password: "p".into(), ..Default::default() };
    vec![
        cell("status of users", "/etcdserverpb.Auth/AuthStatus", &AuthStatusRequest {}, root()),
        cell("enable", "/etcdserverpb.Auth/AuthEnable", &AuthEnableRequest {}, root()),
        Cell { is_not_for_root: true, ..disable },
        cell("add a user", "/etcdserverpb.Auth/UserAdd", &user_add, root()),
        cell("get a user", "/etcdserverpb.Auth/UserGet", &user_get("read-key"), Need::Self_("read-key")),
        cell("get root", "/etcdserverpb.Auth/UserGet", &user_get("root"), root()),
        cell("list users", "/etcdserverpb.Auth/UserList", &AuthUserListRequest {}, root()),
        cell("delete a user", "/etcdserverpb.Auth/UserDelete", &AuthUserDeleteRequest { name: ghost() }, root()),
        cell("change a password", "/etcdserverpb.Auth/UserChangePassword", &change, root()),
        cell(
            "grant a role",
            "/etcdserverpb.Auth/UserGrantRole",
            &AuthUserGrantRoleRequest { user: ghost(), role: "root".into() },
            root(),
        ),
        cell(
            "revoke a role",
            "/etcdserverpb.Auth/UserRevokeRole",
            &AuthUserRevokeRoleRequest { name: ghost(), role: "root".into() },
            root(),
        ),
        cell("add a role", "/etcdserverpb.Auth/RoleAdd", &AuthRoleAddRequest { name: "read-key".into() }, root()),
        cell("get a role", "/etcdserverpb.Auth/RoleGet", &role_get("read-key"), Need::Role("read-key")),
        cell("list roles", "/etcdserverpb.Auth/RoleList", &AuthRoleListRequest {}, root()),
        cell("delete a role", "/etcdserverpb.Auth/RoleDelete", &AuthRoleDeleteRequest { role: ghost() }, root()),
        cell(
            "grant a permission",
            "/etcdserverpb.Auth/RoleGrantPermission",
            &AuthRoleGrantPermissionRequest { name: ghost(), perm },
            root(),
        ),
        cell(
            "revoke a permission",
            "/etcdserverpb.Auth/RoleRevokePermission",
            &AuthRoleRevokePermissionRequest { role: ghost(), key: "a".into(), range_end: "".into() },
            root(),
        ),
    ]
}
