//! What is open when a grant is revoked: watches, places in a queue, streams. And what outlives a snapshot.

use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;
use vlot_proto::etcdserverpb::watch_request::RequestUnion;
use vlot_proto::etcdserverpb::*;

use super::cells::ELECTION_LEASE;
use super::support::Etcd;
use super::support::cluster::PATIENCE;
use super::support::grpc::Conversation;
use super::support::http::{Connection, Reply};
use super::{Judged, runtime};

/// As Go writes an error.
const DENIED: &str = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";

async fn watch(judged: &Judged, node: usize, user: &str, key: &'static str, range_end: &'static str) -> Conversation {
    let mut conversation = judged.at(node, user).converse("/etcdserverpb.Watch/Watch").await.unwrap();
    let create = WatchCreateRequest { key: key.into(), range_end: range_end.into(), ..Default::default() };
    conversation.send(&WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) });
    let created = next(&mut conversation).await;
    assert!(created.created && !created.canceled, "{created:?}");
    conversation
}

async fn next(conversation: &mut Conversation) -> WatchResponse {
    let said = timeout(PATIENCE, conversation.messages.next::<WatchResponse>()).await.expect("an answer in time");
    said.unwrap().expect("the stream goes on")
}

#[test]
fn an_open_watch_ends_with_the_grant_it_lives_by_on_every_node() {
    let Some(etcd) = Etcd::find() else { return };
    runtime().block_on(async {
        let judged = Judged::vlot(3, &etcd).await;
        let put = |key: &'static str| PutRequest { key: key.into(), ..Default::default() };
        let mut open = Vec::new();
        for node in 0..3 {
            open.push(watch(&judged, node, "read-prefix", "a", "b").await);
        }
        let mut other = watch(&judged, 1, "read-key", "a", "").await;
        let _: PutResponse = judged.must("root", "KV/Put", &put("a")).await;
        for conversation in open.iter_mut().chain([&mut other]) {
            assert_eq!(next(conversation).await.events.len(), 1);
        }

        let revoke =
            AuthRoleRevokePermissionRequest { role: "read-prefix".into(), key: "a".into(), range_end: "b".into() };
        let _: AuthRoleRevokePermissionResponse = judged.must("root", "Auth/RoleRevokePermission", &revoke).await;
        let _: PutResponse = judged.must("root", "KV/Put", &put("a")).await;
        for conversation in &mut open {
            let ended = next(conversation).await;
            assert!(ended.canceled && ended.events.is_empty(), "{ended:?}");
            assert_eq!((ended.watch_id, &*ended.cancel_reason), (0, DENIED));
            // The stream lives on, and what was not for this user never comes.
            let more = timeout(Duration::from_millis(200), conversation.messages.next::<WatchResponse>()).await;
            assert!(more.is_err(), "{more:?}");
        }
        assert_eq!(next(&mut other).await.events.len(), 1);

        // Who goes takes the watch along.
        let _: AuthUserDeleteResponse =
            judged.must("root", "Auth/UserDelete", &AuthUserDeleteRequest { name: "read-key".into() }).await;
        assert_eq!(next(&mut other).await.cancel_reason, DENIED);
    });
}

/// The first lines of what a call in JSON is answered, if there come so many.
fn lines(connection: &mut Connection, count: usize, within: Duration) -> Vec<Value> {
    let are_there = |reply: &Reply| reply.body.iter().filter(|byte| **byte == b'\n').count() >= count;
    let reply = connection.reply_until(false, within, are_there);
    reply.text().lines().map(|line| serde_json::from_str(line).expect("a line is a value")).collect()
}

#[test]
fn what_is_open_in_json_ends_with_the_grant_too() {
    use vlot_proto::v3electionpb::*;
    let Some(etcd) = Etcd::find() else { return };
    runtime().block_on(async {
        let judged = Judged::vlot(1, &etcd).await;
        let root = judged.as_user("root");
        let campaign = CampaignRequest { name: "a".into(), lease: ELECTION_LEASE, value: "first".into() };
        let won: CampaignResponse = root.call("/v3electionpb.Election/Campaign", &campaign).await.unwrap();

        let create = r#"{"create_request":{"key":"YQ==","range_end":"Yg=="}}"#;
        let mut watch = judged.in_json(0, "both-prefix", "/v3/watch", create);
        let mut observed = judged.in_json(0, "both-prefix", "/v3/election/observe", r#"{"name":"YQ=="}"#);
        assert_eq!(lines(&mut watch, 1, PATIENCE)[0]["result"]["created"], true);
        assert!(lines(&mut observed, 1, PATIENCE)[0]["result"]["kv"].is_object());

        let revoke = AuthUserRevokeRoleRequest { name: "both-prefix".into(), role: "both-prefix".into() };
        let _: AuthUserRevokeRoleResponse = judged.must("root", "Auth/UserRevokeRole", &revoke).await;
        let proclaim = ProclaimRequest { leader: won.leader, value: "second".into() };
        let _: ProclaimResponse = root.call("/v3electionpb.Election/Proclaim", &proclaim).await.unwrap();

        // One line more each, which says why, and nothing of what came then.
        let told = lines(&mut watch, 3, Duration::from_millis(500));
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(told[1]["result"]["cancel_reason"], DENIED);
        assert!(told[1]["result"]["events"].is_null());
        let told = lines(&mut observed, 3, PATIENCE);
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(told[1]["error"]["message"], "etcdserver: permission denied");
        assert_eq!(told[1]["error"]["code"], 7);
    });
}

#[test]
fn a_stream_that_lasts_is_looked_at_again() {
    let Some(etcd) = Etcd::find() else { return };
    runtime().block_on(async {
        let judged = Judged::vlot(1, &etcd).await;
        let grant = LeaseGrantRequest { id: 7, ttl: 600 };
        let _: LeaseGrantResponse = judged.must("both-prefix", "Lease/LeaseGrant", &grant).await;
        let put = PutRequest { key: "ab".into(), lease: 7, ..Default::default() };
        let _: PutResponse = judged.must("both-prefix", "KV/Put", &put).await;
        let user = judged.as_user("both-prefix");
        let mut renewals = user.converse("/etcdserverpb.Lease/LeaseKeepAlive").await.unwrap();
        // Another user, who changes nothing for this one: the stream goes on, though the auth revision has risen.
        for round in 0..2 {
            renewals.send(&LeaseKeepAliveRequest { id: 7 });
            let renewed: LeaseKeepAliveResponse =
                timeout(PATIENCE, renewals.messages.next()).await.expect("in time").unwrap().unwrap();
            assert_eq!(renewed.ttl, 600, "round {round}");
            let _: AuthRoleAddResponse =
                judged.must("root", "Auth/RoleAdd", &AuthRoleAddRequest { name: format!("new {round}") }).await;
        }
        let revoke = AuthUserRevokeRoleRequest { name: "both-prefix".into(), role: "both-prefix".into() };
        let _: AuthUserRevokeRoleResponse = judged.must("root", "Auth/UserRevokeRole", &revoke).await;
        renewals.send(&LeaseKeepAliveRequest { id: 7 });
        let refused = timeout(PATIENCE, renewals.messages.next::<LeaseKeepAliveResponse>()).await.expect("in time");
        assert_eq!(refused.unwrap_err(), "7 etcdserver: permission denied");
    });
}

/// Who waits in a queue is looked at again when the turn comes.
#[test]
fn a_place_in_a_queue_is_worth_nothing_without_its_grant() {
    use vlot_proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
    let Some(etcd) = Etcd::find() else { return };
    runtime().block_on(async {
        let judged = Judged::vlot(1, &etcd).await;
        for id in [7, 8] {
            let _: LeaseGrantResponse =
                judged.must("root", "Lease/LeaseGrant", &LeaseGrantRequest { id, ttl: 600 }).await;
        }
        let lock = |lease| LockRequest { name: "a".into(), lease };
        let root = judged.as_user("root");
        let held: LockResponse = root.call("/v3lockpb.Lock/Lock", &lock(7)).await.unwrap();
        let waits = judged.as_user("both-prefix");
        let waiting = tokio::spawn(async move { waits.call::<LockResponse>("/v3lockpb.Lock/Lock", &lock(8)).await });
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!waiting.is_finished());
        let revoke = AuthUserRevokeRoleRequest { name: "both-prefix".into(), role: "both-prefix".into() };
        let _: AuthUserRevokeRoleResponse = judged.must("root", "Auth/UserRevokeRole", &revoke).await;
        let outcome = timeout(PATIENCE, waiting).await.expect("in time").unwrap();
        assert_eq!(outcome.unwrap_err(), "2 etcdserver: permission denied");
        let _: UnlockResponse = root.call("/v3lockpb.Lock/Unlock", &UnlockRequest { key: held.key }).await.unwrap();
    });
}
