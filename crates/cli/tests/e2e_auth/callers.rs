//! What the tests of this folder share: users, logins, and calls with a token.

use vlot_proto::etcdserverpb::{
    AuthDisableRequest, AuthDisableResponse, AuthEnableRequest, AuthEnableResponse, AuthRoleAddRequest,
    AuthRoleAddResponse, AuthRoleGrantPermissionRequest, AuthRoleGrantPermissionResponse,
    AuthUserChangePasswordRequest, AuthUserChangePasswordResponse, AuthUserGrantRoleRequest, AuthUserGrantRoleResponse,
    AuthenticateRequest, AuthenticateResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
};

use super::support::cluster::Cluster;
use super::support::grpc::Client;

/// What calls end with whose token is not good.
pub const INVALID: &str = "16 etcdserver: invalid auth token";
pub const EMPTY: &str = "3 etcdserver: user name is empty";
pub const FAILED: &str = "3 etcdserver: authentication failed, invalid user ID or password";

/// Runs a test that makes calls.
pub fn calling(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

/// Makes root and anna, who may do everything with keys that begin with `a`, by etcdctl, and turns authentication on.
pub fn enable(cluster: &Cluster) {
    for words in [
        "user add root:rootpw",
        "user add anna:annapw",
        "user grant-role root root",
        "role add r",
        "role grant-permission r readwrite a --prefix",
        "user grant-role anna r",
        "auth enable",
    ] {
        let words: Vec<_> = words.split(' ').collect();
        cluster.told(0, &words);
    }
}

/// A connection to one node.
pub async fn client(cluster: &Cluster, node: usize) -> Client {
    Client::connect(cluster.nodes[node].client_port).await
}

/// A token for a password.
pub async fn log_in(client: &Client, name: &str, password: &str) -> Result<String, String> {
    let request = AuthenticateRequest { name: name.into(), password: password.into() };
    let reply: AuthenticateResponse = client.call("/etcdserverpb.Auth/Authenticate", &request).await?;
    assert!(reply.header.is_some_and(|header| header.revision > 0));
    Ok(reply.token)
}

pub async fn put(client: &Client, key: &'static str) -> Result<(), String> {
    let request = PutRequest { key: key.into(), value: "v".into(), ..Default::default() };
    client.call::<PutResponse>("/etcdserverpb.KV/Put", &request).await.map(drop)
}

pub async fn get(client: &Client, key: &'static str) -> Result<usize, String> {
    let request = RangeRequest { key: key.into(), ..Default::default() };
    let reply: RangeResponse = client.call("/etcdserverpb.KV/Range", &request).await?;
    Ok(reply.kvs.len())
}

pub async fn change_password(client: &Client, name: &str, password: &str) -> Result<(), String> {
    let request = AuthUserChangePasswordRequest { name: name.into(), password: password.into(), ..Default::default() };
    let path = "/etcdserverpb.Auth/UserChangePassword";
    client.call::<AuthUserChangePasswordResponse>(path, &request).await.map(drop)
}

pub async fn turn_off(client: &Client) -> Result<(), String> {
    client.call::<AuthDisableResponse>("/etcdserverpb.Auth/AuthDisable", &AuthDisableRequest {}).await.map(drop)
}

pub async fn turn_on(client: &Client) -> Result<(), String> {
    client.call::<AuthEnableResponse>("/etcdserverpb.Auth/AuthEnable", &AuthEnableRequest {}).await.map(drop)
}

/// Changes what users may do.
pub async fn add_role(client: &Client, name: &str) -> Result<(), String> {
    let request = AuthRoleAddRequest { name: name.into() };
    client.call::<AuthRoleAddResponse>("/etcdserverpb.Auth/RoleAdd", &request).await?;
    let perm = Some(vlot_proto::authpb::Permission { perm_type: 0, key: "b".into(), range_end: "c".into() });
    let request = AuthRoleGrantPermissionRequest { name: name.into(), perm };
    let path = "/etcdserverpb.Auth/RoleGrantPermission";
    client.call::<AuthRoleGrantPermissionResponse>(path, &request).await?;
    let request = AuthUserGrantRoleRequest { user: "anna".into(), role: name.into() };
    client.call::<AuthUserGrantRoleResponse>("/etcdserverpb.Auth/UserGrantRole", &request).await.map(drop)
}
