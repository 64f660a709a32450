//! Users and roles change as in etcd: the same calls end with the same codes and words, and the auth revision is the same
//! after each.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use vlot_proto::authpb::{Permission, UserAddOptions};
use vlot_proto::etcdserverpb::*;

use super::judged::CHEAP;
use super::support::Etcd;
use super::support::cluster::Cluster;
use super::support::grpc::Client;

/// A call, and its request.
type Call = (&'static str, Vec<u8>);

fn user_add(name: &str) -> Call {
    let request = AuthUserAddRequest { name: name.into(), password: "p".into(), ..Default::default() };
    ("UserAdd", request.encode_to_vec())
}

fn grant_role(user: &str, role: &str) -> Call {
    ("UserGrantRole", AuthUserGrantRoleRequest { user: user.into(), role: role.into() }.encode_to_vec())
}

fn revoke_role(name: &str, role: &str) -> Call {
    ("UserRevokeRole", AuthUserRevokeRoleRequest { name: name.into(), role: role.into() }.encode_to_vec())
}

fn change_password(name: &str) -> Call {
    let request = AuthUserChangePasswordRequest { name: name.into(), password: "q".into(), ..Default::default() };
    ("UserChangePassword", request.encode_to_vec())
}

fn role_add(name: &str) -> Call {
    ("RoleAdd", AuthRoleAddRequest { name: name.into() }.encode_to_vec())
}

fn role_delete(role: &str) -> Call {
    ("RoleDelete", AuthRoleDeleteRequest { role: role.into() }.encode_to_vec())
}

fn user_delete(name: &str) -> Call {
    ("UserDelete", AuthUserDeleteRequest { name: name.into() }.encode_to_vec())
}

fn permit(role: &str, perm: Option<(i32, &'static str, &'static str)>) -> Call {
    let perm = perm.map(|(kind, key, end)| Permission { perm_type: kind, key: key.into(), range_end: end.into() });
    ("RoleGrantPermission", AuthRoleGrantPermissionRequest { name: role.into(), perm }.encode_to_vec())
}

fn forbid(role: &str, key: &'static str, range_end: &'static str) -> Call {
    let request = AuthRoleRevokePermissionRequest { role: role.into(), key: key.into(), range_end: range_end.into() };
    ("RoleRevokePermission", request.encode_to_vec())
}

fn get(rpc: &'static str, name: &str) -> Call {
    let request = AuthUserGetRequest { name: name.into() };
    (rpc, request.encode_to_vec())
}

fn calls() -> Vec<Call> {
    let enable = || ("AuthEnable", Vec::new());
    let disable = || ("AuthDisable", Vec::new());
    let without_password = AuthUserAddRequest {
        name: "cert".into(),
        options: Some(UserAddOptions { no_password: true }),
        ..Default::default()
    };
    vec![
        disable(),
        enable(),
        user_add(""),
        user_add("root"),
        user_add("root"),
        enable(),
        grant_role("root", "root"),
        grant_role("root", "root"),
        grant_role("root", "r"),
        grant_role("a", "root"),
        role_add(""),
        role_add("r"),
        role_add("r"),
        user_add("a"),
        ("UserAdd", without_password.encode_to_vec()),
        change_password("a"),
        change_password("b"),
        change_password("cert"),
        grant_role("a", "r"),
        revoke_role("a", "root"),
        revoke_role("b", "root"),
        permit("r", None),
        permit("r", Some((0, "", ""))),
        permit("r", Some((0, "b", "a"))),
        permit("r", Some((0, "b", "b"))),
        permit("s", Some((0, "a", ""))),
        permit("r", Some((0, "k", "m"))),
        permit("r", Some((0, "k", ""))),
        permit("r", Some((1, "a", "\0"))),
        permit("r", Some((1, "a", "\0"))),
        forbid("r", "k", "l"),
        forbid("s", "k", ""),
        get("UserGet", "a"),
        get("UserGet", "b"),
        get("RoleGet", "r"),
        get("RoleGet", "s"),
        ("UserList", Vec::new()),
        ("RoleList", Vec::new()),
        enable(),
        enable(),
        user_delete("root"),
        revoke_role("root", "root"),
        role_delete("root"),
        forbid("r", "k", "m"),
        user_delete("b"),
        role_delete("s"),
        role_delete("r"),
        get("UserGet", "a"),
        user_delete("cert"),
        disable(),
        disable(),
        user_delete("root"),
        enable(),
    ]
}

/// One server, and who asks it.
struct Asked {
    client: Client,
    token: Option<String>,
}

impl Asked {
    async fn of(cluster: &Cluster) -> Asked {
        Asked { client: Client::connect(cluster.nodes[0].client_port).await, token: None }
    }

    /// How a call ends, and what comes back but for the header.
    async fn call(&mut self, (rpc, request): &Call) -> (String, Vec<u8>) {
        let mut body = BytesMut::new();
        body.put_u8(0);
        body.put_u32(request.len() as u32);
        body.put_slice(request);
        let mut headers = vec![("content-type", "application/grpc"), ("te", "trailers")];
        headers.extend(self.token.as_deref().map(|token| ("token", token)));
        let path = format!("/etcdserverpb.Auth/{rpc}");
        let reply = self.client.exchange("POST", &path, &headers, Bytes::from(body)).await;
        if *rpc == "AuthEnable" && reply.status.starts_with('0') {
            let request = AuthenticateRequest { name: "root".into(), password: "p".into() };
            let reply: AuthenticateResponse =
                self.client.call("/etcdserverpb.Auth/Authenticate", &request).await.unwrap();
            self.token = Some(reply.token);
        }
        let message = reply.body.get(5..).unwrap_or_default();
        let without_header = match *rpc {
            "UserGet" => {
                let reply = AuthUserGetResponse::decode(message).unwrap();
                AuthUserGetResponse { header: None, ..reply }.encode_to_vec()
            }
            "RoleGet" => {
                let reply = AuthRoleGetResponse::decode(message).unwrap();
                AuthRoleGetResponse { header: None, ..reply }.encode_to_vec()
            }
            "UserList" => AuthUserListResponse::decode(message).unwrap().users.join("\n").into_bytes(),
            "RoleList" => AuthRoleListResponse::decode(message).unwrap().roles.join("\n").into_bytes(),
            _ => Vec::new(),
        };
        (reply.status, without_header)
    }

    async fn status(&self) -> (bool, u64) {
        let client = self.token.as_ref().map(|token| self.client.with_header("token", token));
        let client = client.as_ref().unwrap_or(&self.client);
        let status: AuthStatusResponse =
            client.call("/etcdserverpb.Auth/AuthStatus", &AuthStatusRequest {}).await.unwrap();
        (status.enabled, status.auth_revision)
    }
}

#[test]
fn each_change_is_made_or_refused_as_by_etcd() {
    let Some(etcd) = Etcd::find() else { return };
    super::runtime().block_on(async {
        let ours = Cluster::with_flag(None, 1, &etcd.ctl, CHEAP);
        let theirs = Cluster::with_flag(Some(&etcd.server), 1, &etcd.ctl, CHEAP);
        let (mut ours, mut theirs) = (Asked::of(&ours).await, Asked::of(&theirs).await);
        let mut refused = 0;
        for (place, call) in calls().iter().enumerate() {
            let expected = theirs.call(call).await;
            assert_eq!(ours.call(call).await, expected, "call {place}, {}", call.0);
            assert_eq!(ours.status().await, theirs.status().await, "after call {place}, {}", call.0);
            refused += usize::from(!expected.0.starts_with('0'));
        }
        assert!(refused > 20, "{refused}");
    });
}
