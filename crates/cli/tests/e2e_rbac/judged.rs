//! A cluster with the users of the model, and calls on their behalf.
//!
//! Owns how users are made, how a call is made as one of them, and how it ends.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use tokio::time::timeout;
use vlot_proto::authpb::Permission;
use vlot_proto::authpb::permission::Type;
use vlot_proto::etcdserverpb::*;

use super::cells::{Cell, ELECTION_LEASE, Kind, LEASES, LOCK_LEASE};
use super::gateway;
use super::model::{LIAR, NOBODY, USERS};
use super::support::Etcd;
use super::support::cluster::{Cluster, PATIENCE};
use super::support::grpc::Client;
use super::support::http::Connection;

/// How long the first message of a stream may take. None within it is an answer too: nobody is refused so late.
pub const FIRST_MESSAGE: Duration = Duration::from_millis(300);
/// Passwords are hashed as cheaply as may be.
pub const CHEAP: (&str, &str) = ("bcrypt-cost", "4");

/// A cluster with the users of the model, and a token for each.
pub struct Judged {
    cluster: Cluster,
    pub clients: Vec<Client>,
    tokens: BTreeMap<&'static str, String>,
}

impl Judged {
    pub async fn vlot(nodes: usize, etcd: &Etcd) -> Judged {
        Judged::of(Cluster::with_flag(None, nodes, &etcd.ctl, CHEAP)).await
    }

    pub async fn etcd(etcd: &Etcd) -> Judged {
        Judged::of(Cluster::with_flag(Some(&etcd.server), 1, &etcd.ctl, CHEAP)).await
    }

    async fn of(cluster: Cluster) -> Judged {
        let mut clients = Vec::new();
        for node in &cluster.nodes {
            clients.push(Client::connect(node.client_port).await);
        }
        let mut judged = Judged { cluster, clients, tokens: BTreeMap::from([(LIAR, "no token".to_owned())]) };
        judged.add_users().await;
        for (name, _) in USERS {
            let request = AuthenticateRequest { name: name.into(), password: format!("password of {name}") };
            let reply: AuthenticateResponse = judged.must(name, "Auth/Authenticate", &request).await;
            judged.tokens.insert(name, reply.token);
        }
        for client in &judged.clients {
            // A node that lags behind would find out its callers at an old revision.
            let client = client.with_header("token", &judged.tokens["root"]);
            let _: AuthUserListResponse =
                client.call("/etcdserverpb.Auth/UserList", &AuthUserListRequest {}).await.unwrap();
        }
        for id in [LOCK_LEASE, ELECTION_LEASE] {
            let _: LeaseGrantResponse =
                judged.must("root", "Lease/LeaseGrant", &LeaseGrantRequest { id, ttl: 6000 }).await;
        }
        judged
    }

    async fn add_users(&self) {
        for (name, grants) in USERS {
            let password = format!("password of {name}");
            let add = AuthUserAddRequest { name: name.into(), password, ..Default::default() };
            let _: AuthUserAddResponse = self.must(NOBODY, "Auth/UserAdd", &add).await;
            let mut roles = vec![name.to_owned()];
            roles.extend((1..grants.len()).map(|place| format!("{name}/{place}")));
            for (place, role) in roles.iter().enumerate() {
                let add = AuthRoleAddRequest { name: role.clone() };
                let _: AuthRoleAddResponse = self.must(NOBODY, "Auth/RoleAdd", &add).await;
                if let Some((kind, key, range_end)) = grants.get(place) {
                    let kind = Type::from_str_name(&kind.to_uppercase()).unwrap();
                    let perm =
                        Permission { perm_type: kind.into(), key: (*key).into(), range_end: (*range_end).into() };
                    let grant = AuthRoleGrantPermissionRequest { name: role.clone(), perm: Some(perm) };
                    let _: AuthRoleGrantPermissionResponse =
                        self.must(NOBODY, "Auth/RoleGrantPermission", &grant).await;
                }
                let grant = AuthUserGrantRoleRequest { user: name.into(), role: role.clone() };
                let _: AuthUserGrantRoleResponse = self.must(NOBODY, "Auth/UserGrantRole", &grant).await;
            }
        }
        let _: AuthEnableResponse = self.must(NOBODY, "Auth/AuthEnable", &AuthEnableRequest {}).await;
    }

    /// The first node, as a user calls it.
    pub fn as_user(&self, user: &str) -> Client {
        self.at(0, user)
    }

    /// A node, as a user calls it.
    pub fn at(&self, node: usize, user: &str) -> Client {
        let client = &self.clients[node % self.clients.len()];
        self.tokens.get(user).map_or_else(|| client.clone(), |token| client.with_header("token", token))
    }

    /// A call that must succeed.
    pub async fn must<R: Message + Default>(&self, user: &str, rpc: &str, request: &impl Message) -> R {
        let called = self.as_user(user).call(&format!("/etcdserverpb.{rpc}"), request).await;
        called.unwrap_or_else(|status| panic!("{rpc} of {user}: {status}"))
    }

    pub async fn renew_leases(&self) {
        let root = self.as_user("root");
        for (id, on_it) in LEASES {
            let _ =
                root.call::<LeaseRevokeResponse>("/etcdserverpb.Lease/LeaseRevoke", &LeaseRevokeRequest { id }).await;
            let _: LeaseGrantResponse =
                self.must("root", "Lease/LeaseGrant", &LeaseGrantRequest { id, ttl: 6000 }).await;
            if !on_it.is_empty() {
                let put = PutRequest { key: on_it.into(), lease: id, ..Default::default() };
                let _: PutResponse = self.must("root", "KV/Put", &put).await;
            }
        }
    }

    /// The revision of the keys, as all have agreed on it.
    pub async fn revision(&self) -> i64 {
        let range = RangeRequest { key: "zz".into(), ..Default::default() };
        let reply: RangeResponse = self.must("root", "KV/Range", &range).await;
        reply.header.unwrap().revision
    }

    /// Makes a call of the matrix as a user, at a node, and returns how it ends.
    pub async fn ends(&self, cell: &Cell, user: &str, node: usize) -> String {
        match cell.kind {
            Kind::Gateway | Kind::GatewayStream => {
                gateway::ends(self.port(node), cell, self.token(user), node / self.clients.len())
            }
            Kind::Unary => self.exchanged(cell, user, node).await,
            Kind::Stream => {
                timeout(FIRST_MESSAGE, self.exchanged(cell, user, node)).await.unwrap_or_else(|_| "0 ".into())
            }
            Kind::Watch => {
                let mut conversation = self.at(node, user).converse(cell.path).await.unwrap();
                conversation.send(&WatchRequest::decode(&cell.body[..]).unwrap());
                let said = timeout(PATIENCE, conversation.messages.next::<WatchResponse>()).await.expect("an answer");
                match said {
                    Ok(Some(response)) if response.canceled => coded(&response.cancel_reason),
                    Ok(_) => "0 ".to_owned(),
                    Err(status) => status,
                }
            }
        }
    }

    /// Begins a call in JSON.
    pub fn in_json(&self, node: usize, user: &str, path: &str, body: &str) -> Connection {
        gateway::begin(self.port(node), path, body.as_bytes(), self.token(user), node)
    }

    fn token(&self, user: &str) -> Option<&str> {
        self.tokens.get(user).map(String::as_str)
    }

    fn port(&self, node: usize) -> u16 {
        self.cluster.nodes[node % self.cluster.nodes.len()].client_port
    }

    async fn exchanged(&self, cell: &Cell, user: &str, node: usize) -> String {
        let mut body = BytesMut::new();
        body.put_u8(0);
        body.put_u32(cell.body.len() as u32);
        body.put_slice(&cell.body);
        let mut headers = vec![("content-type", "application/grpc"), ("te", "trailers")];
        headers.extend(self.token(user).map(|token| ("token", token)));
        let client = &self.clients[node % self.clients.len()];
        client.exchange("POST", cell.path, &headers, Bytes::from(body)).await.status
    }
}

/// The reason for which a watch is not made is an error as Go writes it; here as a call's status.
pub fn coded(reason: &str) -> String {
    let (name, text) = reason
        .strip_prefix("rpc error: code = ")
        .and_then(|rest| rest.split_once(" desc = "))
        .unwrap_or(("not coded", reason));
    let codes = [("InvalidArgument", 3), ("PermissionDenied", 7), ("Unauthenticated", 16)];
    let code = codes.iter().find(|(known, _)| *known == name).map_or(2, |(_, code)| *code);
    format!("{code} {text}")
}
