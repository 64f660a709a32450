//! Requests: how one is sent, and which are sent to both.

use std::time::Duration;

use super::support::http::{Connection, Reply, request};

/// One request.
pub struct Asked {
    pub method: &'static str,
    pub path: String,
    pub headers: Vec<(&'static str, &'static str)>,
    pub body: Vec<u8>,
}

pub fn post(path: &str, body: impl AsRef<[u8]>) -> Asked {
    Asked { method: "POST", path: path.to_owned(), headers: Vec::new(), body: body.as_ref().to_vec() }
}

impl Asked {
    pub fn with(mut self, name: &'static str, value: &'static str) -> Asked {
        self.headers.push((name, value));
        self
    }

    pub fn by(mut self, method: &'static str) -> Asked {
        self.method = method;
        self
    }

    pub fn of(&self, port: u16, within: Duration) -> Reply {
        let mut connection = Connection::open(port);
        connection.send(&request(self.method, &self.path, &self.headers, &self.body));
        connection.reply(self.method == "HEAD", within)
    }

    pub fn shown(&self) -> String {
        let body = String::from_utf8_lossy(&self.body).chars().take(200).collect::<String>();
        format!("{} {} {:?} {body}", self.method, self.path, self.headers)
    }
}

pub fn puts_and_gets() -> Vec<Asked> {
    let bodies = [
        ("put", r#"{"key":"Zm9v","value":"YmFy"}"#),
        ("range", r#"{"key":"Zm9v"}"#),
        ("range", r#" {"key":"Zm9v"} what follows is not read"#),
        ("range", r#"{"key":"AA","rangeEnd":"AA==","keysOnly":true,"limit":"1","foo":{"key":[1]}}"#),
        ("range", r#"{"key":"_-8=","range_end":"_-9","count_only":true}"#),
        ("range", r#"{"key":"Zm9v","sort_order":"FOO","sort_target":1,"limit":1e2}"#),
        ("range", r#"{"key":"Zm9v","revision":1000}"#),
        ("range", r#"{"key":"\u005am9v","limit":"\u0031"}"#),
        ("put", r#"{"key":"Zm9v","value":"YmF6","prev_kv":true}"#),
        ("put", r#"{"key":"YQ","ignore_value":true}"#),
        ("put", r#"{"key":"YQ","lease":"7"}"#),
        ("txn", "{}"),
        (
            "txn",
            r#"{"compare":[{"key":"Zm9v","result":"GREATER","target":"VERSION","version":0}],
            "success":[{"request_delete_range":{"key":"Zm9v","prev_kv":true}},{"request_put":{"key":"YQ","value":"Yg"}},
            {"requestRange":{"key":"AA","range_end":"AA"}},{"request_txn":{"success":[{"request_range":{"key":"YQ"}}]}}]}"#,
        ),
        (
            "txn",
            r#"{"compare":[{"key":"YQ","target":"MOD","modRevision":"1"}],"failure":[{"request_range":{"key":"YQ"}}]}"#,
        ),
        ("txn", r#"{"success":[{}]}"#),
        ("txn", r#"{"success":[{"request_put":{"key":"YQ"}},{"request_put":{"key":"YQ"}}]}"#),
        ("deleterange", r#"{"key":"YQ","prev_kv":true}"#),
        ("deleterange", r#"{"key":"YQ"}"#),
        ("compaction", r#"{"revision":"3"}"#),
        ("compaction", r#"{"revision":"3"}"#),
        ("compaction", r#"{"revision":1000}"#),
        ("range", r#"{"key":"Zm9v","revision":"1"}"#),
    ];
    bodies.iter().map(|(rpc, body)| post(&format!("/v3/kv/{rpc}"), body)).collect()
}

/// Bodies that are no request.
pub fn malformed() -> Vec<Asked> {
    let mut bodies: Vec<Vec<u8>> = [
        "",
        " ",
        "abc",
        "{",
        "{\"key\"",
        "{\"key\":",
        "null",
        "[]",
        "12",
        "\"x\"",
        "-",
        "tru",
        "{'key':1}",
        "{1:2}",
        "{\"a\" 1}",
        r#"{"a":1 "b":2}"#,
        "[1 2]",
        r#"{"key":"Zm9v",}"#,
        r#"{"key":1}"#,
        r#"{"key":null}"#,
        r#"{"key":"!!"}"#,
        r#"{"key":"Z"}"#,
        r#"{"key":"Zg="}"#,
        r#"{"key":"===="}"#,
        r#"{"key":[102]}"#,
        r#"{"key":{}}"#,
        r#"{"key":"YQ","key":"YQ"}"#,
        r#"{"range_end":"YQ","rangeEnd":"YQ"}"#,
        r#"{"limit":"abc"}"#,
        r#"{"limit":1.5}"#,
        r#"{"limit":1e}"#,
        r#"{"limit":1.}"#,
        r#"{"limit":01}"#,
        r#"{"limit":"99999999999999999999"}"#,
        r#"{"limit":true}"#,
        r#"{"limit":" 1"}"#,
        r#"{"limit":""}"#,
        r#"{"limit":1e999999999}"#,
        r#"{"count_only":1}"#,
        r#"{"count_only":"true"}"#,
        r#"{"sort_order":[]}"#,
        r#"{"sort_order":2147483648}"#,
        r#"{"x":"\ud800"}"#,
        r#"{"x":"\ud800\u0041"}"#,
        r#"{"x":"\q"}"#,
        r#"{"x":"\u00zz"}"#,
        "{\n\"é\":2,\n \"key\": 1}",
    ]
    .map(|body| body.as_bytes().to_vec())
    .to_vec();
    bodies.extend([
        b"\xff".to_vec(),
        b"{\"key\":\"\xff\"}".to_vec(),
        b"\xef\xbb\xbf{}".to_vec(),
        b"{\"key\":\"\x01\"}".to_vec(),
    ]);
    bodies.push(format!(r#"{{"x":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000)).into_bytes());
    bodies.push(format!(r#"{{"key":"YQ","x":{}{}}}"#, "[".repeat(9_999), "]".repeat(9_999)).into_bytes());
    let mut asked: Vec<_> = bodies.iter().map(|body| post("/v3/kv/range", body)).collect();
    let txns = [
        r#"{"compare":{}}"#,
        r#"{"compare":[1]}"#,
        r#"{"compare":[null]}"#,
        r#"{"success":[{"request_put":[]}]}"#,
        r#"{"compare":[{"key":"YQ","version":"1","mod_revision":2}]}"#,
        r#"{"success":[{"request_put":{"key":"YQ"},"request_range":{"key":"YQ"}}]}"#,
    ];
    asked.extend(txns.map(|body| post("/v3/kv/txn", body)));
    // As many in each other as are read here.
    let nested = [r#"{"success":[{"request_txn":"#.repeat(50), "{}".to_owned(), "}]}".repeat(50)].concat();
    asked.push(post("/v3/kv/txn", nested));
    // A value that is too large for a proposal, and one that is too large for a message.
    for length in [1_600_000, 3_000_000] {
        asked.push(post("/v3/kv/put", format!(r#"{{"key":"YQ==","value":"{}"}}"#, "eHh4".repeat(length / 3))));
    }
    asked
}

pub fn paths_methods_and_headers() -> Vec<Asked> {
    let body = r#"{"key":"Zm9v"}"#;
    let mut asked = Vec::new();
    for path in [
        "/v3/",
        "/v3/nothing",
        "/v3/kv",
        "/v3/kv/range/",
        "/v3/kv/rangestream",
        "/v3beta/kv/range",
        "/v3beta/",
        "/v3beta",
        "/v3alpha/kv/range",
        "/v3/kv/range?key=YQ",
        "/v3/kv/range:x",
        "/",
        "/nothing",
    ] {
        asked.push(post(path, body));
    }
    for path in ["/v3/kv/range", "/v3/watch", "/health", "/livez", "/debug/vars", "/nothing"] {
        for method in ["PUT", "DELETE", "OPTIONS", "BREW"] {
            asked.push(post(path, "").by(method));
        }
    }
    for path in [
        "/v3/kv/range",
        "/health",
        "/livez",
        "/readyz",
        "/livez?verbose",
        "/livez/serializable_read",
        "/livez/nope",
        "/readyz?exclude=serializable_read&exclude=linearizable_read&exclude=non_learner&verbose",
        "/readyz/non_learner?verbose",
        "/health?serializable=true",
        "/health?exclude=NOSPACE",
    ] {
        asked.push(post(path, "").by("GET"));
    }
    asked.push(post("/v3/kv/range", body).with("Content-Type", "text/plain").with("Accept", "text/xml"));
    asked.push(post("/v3/kv/range", body).with("Grpc-Metadata-hasleader", "true"));
    asked.push(post("/v3/kv/range", body).with("Origin", "http://a.example"));
    asked.push(post("/v3/kv/range", body).with("X-HTTP-Method-Override", "GET"));
    asked.extend(["", "1", "x", "0S", "10S"].map(|timeout| post("/v3/kv/range", body).with("Grpc-Timeout", timeout)));
    asked
}

pub fn members_and_maintenance() -> Vec<Asked> {
    [
        ("cluster/member/list", "{}"),
        ("cluster/member/list", ""),
        ("cluster/member/add", r#"{"peerURLs":["<x>&"]}"#),
        ("cluster/member/add", r#"{"peerURLs":"x"}"#),
        ("cluster/member/add", r#"{"peerURLs":[null]}"#),
        ("cluster/member/remove", r#"{"ID":"1"}"#),
        ("cluster/member/promote", r#"{"ID":1}"#),
        ("cluster/member/update", r#"{"ID":"18446744073709551616"}"#),
        ("maintenance/alarm", "{}"),
        ("maintenance/alarm", r#"{"action":"GET","alarm":"NOSPACE"}"#),
        ("maintenance/transfer-leadership", r#"{"targetID":"1"}"#),
    ]
    .map(|(path, body)| post(&format!("/v3/{path}"), body))
    .into()
}

pub fn leases_locks_and_elections() -> Vec<Asked> {
    let leader = r#"{"leader":{"name":"ZWw=","key":"ZWwvNjM=","rev":"1","lease":"99"},"value":"dw=="}"#;
    let mut asked: Vec<_> = [
        ("lease/grant", r#"{"TTL":60,"ID":"77"}"#),
        ("lease/grant", r#"{"TTL":"60","ID":77}"#),
        ("lease/grant", r#"{"TTL":"9999999999"}"#),
        ("kv/put", r#"{"key":"bA==","lease":77}"#),
        ("lease/timetolive", r#"{"ID":"77","keys":true}"#),
        ("kv/lease/timetolive", r#"{"ID":"78"}"#),
        ("lease/leases", "{}"),
        ("kv/lease/leases", ""),
        ("lease/keepalive", r#"{"ID":"77"}"#),
        ("lease/keepalive", r#"{"ID":"77"} {"ID":78} and no more"#),
        ("lease/revoke", r#"{"ID":"77"}"#),
        ("kv/lease/revoke", r#"{"ID":"77"}"#),
        ("lease/grant", r#"{"TTL":60,"ID":"99"}"#),
        ("lock/lock", r#"{"name":"Zm9v","lease":"99"}"#),
        ("lock/lock", r#"{"name":"Zm9v","lease":"98"}"#),
        ("lock/unlock", r#"{"key":"Zm9vLzYz"}"#),
        ("lock/unlock", "{}"),
        ("election/leader", r#"{"name":"ZWw="}"#),
        ("election/campaign", r#"{"name":"ZWw=","lease":"99","value":"dg=="}"#),
        ("election/leader", r#"{"name":"ZWw="}"#),
        ("election/observe", r#"{"name":"ZWw="}"#),
        ("election/observe", "{"),
        ("election/proclaim", "{}"),
        ("election/proclaim", leader),
        ("election/resign", leader),
        ("election/resign", "{}"),
    ]
    .map(|(path, body)| post(&format!("/v3/{path}"), body))
    .into();
    asked.push(post("/v3/election/observe", r#"{"name":"ZWw="}"#).with("Grpc-Timeout", "100m"));
    asked
}

/// All seventeen, first while nobody is asked who calls, then when everybody is.
pub fn users_and_roles() -> Vec<Asked> {
    let first = [
        ("auth/status", "{}"),
        ("auth/enable", "{}"),
        ("auth/disable", ""),
        ("auth/authenticate", r#"{"name":"root","password":"pw"}"#),
        ("auth/user/add", r#"{"name":"root","password":"pw"}"#),
        ("auth/user/add", r#"{"name":"root","password":"pw"}"#),
        ("auth/user/add", r#"{"name":"anna","options":{"no_password":true}}"#),
        ("auth/user/add", r#"{"name":"berta","options":{"noPassword":true},"hashedPassword":"x"}"#),
        ("auth/user/add", r#"{"password":"pw"}"#),
        ("auth/user/add", r#"{"name":7}"#),
        ("auth/user/add", r#"{"name":"#),
        ("auth/enable", "{}"),
        ("auth/user/changepw", r#"{"name":"root","password":"other"}"#),
        ("auth/user/changepw", r#"{"name":"root","hashedPassword":"no base64"}"#),
        ("auth/user/changepw", r#"{"name":"nobody","password":"other"}"#),
        ("auth/role/add", r#"{"name":"r"}"#),
        ("auth/role/add", r#"{"name":"r"}"#),
        ("auth/role/add", "{}"),
        ("auth/role/grant", r#"{"name":"r","perm":{"permType":"READWRITE","key":"YQ==","range_end":"Yg=="}}"#),
        ("auth/role/grant", r#"{"name":"r","perm":{"permType":2,"key":"Yw==","rangeEnd":"AA=="}}"#),
        ("auth/role/grant", r#"{"name":"r","perm":{"permType":"FOO","key":"YQ=="}}"#),
        ("auth/role/grant", r#"{"name":"r","perm":{"key":"Yg==","range_end":"YQ=="}}"#),
        ("auth/role/grant", r#"{"name":"r"}"#),
        ("auth/role/grant", r#"{"name":"nothing","perm":{"key":"YQ=="}}"#),
        ("auth/role/get", r#"{"role":"r"}"#),
        ("auth/role/get", r#"{"role":"nothing"}"#),
        ("auth/role/list", "{}"),
        ("auth/role/revoke", r#"{"role":"r","key":"Yw==","range_end":"AA=="}"#),
        ("auth/role/revoke", r#"{"role":"r","key":"Yw=="}"#),
        ("auth/user/grant", r#"{"user":"root","role":"root"}"#),
        ("auth/user/grant", r#"{"user":"anna","role":"r"}"#),
        ("auth/user/grant", r#"{"user":"anna","role":"nothing"}"#),
        ("auth/user/get", r#"{"name":"anna"}"#),
        ("auth/user/get", r#"{"name":"nobody"}"#),
        ("auth/user/list", "{}"),
        ("auth/user/revoke", r#"{"name":"anna","role":"r"}"#),
        ("auth/user/revoke", r#"{"name":"anna","role":"r"}"#),
        ("auth/user/delete", r#"{"name":"berta"}"#),
        ("auth/user/delete", r#"{"name":"berta"}"#),
        ("auth/role/delete", r#"{"role":"r"}"#),
        ("auth/role/delete", r#"{"role":"r"}"#),
        ("auth/status", "{}"),
        ("auth/enable", "{}"),
        ("auth/authenticate", r#"{"name":"root","password":"pw"}"#),
        ("auth/authenticate", r#"{"name":"anna","password":""}"#),
        ("auth/authenticate", "{}"),
    ];
    let then = [
        ("auth/status", "{}"),
        ("auth/enable", "{}"),
        ("auth/disable", "{}"),
        ("auth/user/list", "{}"),
        ("auth/role/list", "{}"),
        ("auth/user/get", r#"{"name":"root"}"#),
        ("auth/role/get", r#"{"role":"root"}"#),
        ("auth/user/add", r#"{"name":"new"}"#),
        ("auth/role/add", "{}"),
        ("kv/range", r#"{"key":"YQ=="}"#),
        ("kv/put", r#"{"key":"YQ=="}"#),
        ("lease/leases", "{}"),
    ];
    let mut asked: Vec<_> = first.map(|(path, body)| post(&format!("/v3/{path}"), body)).into();
    for (path, body) in then {
        asked.push(post(&format!("/v3/{path}"), body));
        asked.push(post(&format!("/v3/{path}"), body).with("Authorization", "wrong"));
        asked.push(post(&format!("/v3/{path}"), body).with("Grpc-Metadata-Token", ""));
    }
    asked
}

pub fn watches() -> Vec<Asked> {
    let mut asked: Vec<_> = [
        r#"{"create_request":{"key":"dw=="}}"#,
        r#"{"createRequest":{"key":"dw==","filters":["NOPUT",1,"X"],"watchId":"7"}} {"cancel_request":{"watch_id":"7"}}"#,
        r#"{"create_request":{"key":"dw=="}} {"create_request":{"key":1}} {"create_request":{"key":"dw=="}}"#,
        r#"{"create_request":{"key":"dw==","range_end":"dw=="}}"#,
        r#"{"create_request":{"key":"dw==","start_revision":"-1"}}"#,
        r#"{"create_request":{"key":"dw==","start_revision":"1"}}"#,
        r#"{"create_request":{}}{"create_request":{}}"#,
        "{}",
        "",
    ]
    .map(|body| post("/v3/watch", body))
    .into();
    asked.push(post("/v3/watch", r#"{"create_request":{"key":"dw=="}}"#).with("Grpc-Timeout", "100m"));
    asked.push(post("/v3/watch", "{}").with("Grpc-Timeout", "1"));
    asked
}
