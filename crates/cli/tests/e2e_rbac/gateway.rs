//! Operations on keys in JSON, and how a call of the gateway ends.

use std::time::Duration;

use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::{RequestOp, TxnRequest};

use super::cells::Cell;
use super::support::http::{Connection, request};

const PATIENCE: Duration = Duration::from_secs(20);
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Where an operation is asked for directly.
pub fn path(operation: &Request) -> &'static str {
    match operation {
        Request::RequestRange(_) => "/v3/kv/range",
        Request::RequestPut(_) => "/v3/kv/put",
        Request::RequestDeleteRange(_) => "/v3/kv/deleterange",
        Request::RequestTxn(_) => "/v3/kv/txn",
    }
}

/// An operation in JSON.
pub fn json(operation: &Request) -> String {
    match operation {
        Request::RequestRange(range) => span(&range.key, &range.range_end, ""),
        Request::RequestPut(put) => {
            let (key, value) = (base64(&put.key), base64(&put.value));
            format!(r#"{{"key":"{key}","value":"{value}","lease":"{}","prev_kv":{}}}"#, put.lease, put.prev_kv)
        }
        Request::RequestDeleteRange(delete) => {
            span(&delete.key, &delete.range_end, &format!(r#","prev_kv":{}"#, delete.prev_kv))
        }
        Request::RequestTxn(TxnRequest { compare, success, failure }) => {
            let compare: Vec<_> = compare.iter().map(|one| span(&one.key, &one.range_end, "")).collect();
            let (compare, success, failure) = (compare.join(","), list(success), list(failure));
            format!(r#"{{"compare":[{compare}],"success":[{success}],"failure":[{failure}]}}"#)
        }
    }
}

fn span(key: &[u8], range_end: &[u8], more: &str) -> String {
    format!(r#"{{"key":"{}","range_end":"{}"{more}}}"#, base64(key), base64(range_end))
}

fn list(operations: &[RequestOp]) -> String {
    let one = |operation: &RequestOp| {
        let request = operation.request.as_ref().expect("each has one");
        let name = match request {
            Request::RequestRange(_) => "request_range",
            Request::RequestPut(_) => "request_put",
            Request::RequestDeleteRange(_) => "request_delete_range",
            Request::RequestTxn(_) => "request_txn",
        };
        format!(r#"{{"{name}":{}}}"#, json(request))
    };
    operations.iter().map(one).collect::<Vec<_>>().join(",")
}

fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = (0..3).fold(0_u32, |number, at| number << 8 | u32::from(*chunk.get(at).unwrap_or(&0)));
        for at in 0..4 {
            let digit = DIGITS[(number >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// Makes a call in JSON with a token, and returns how it ends, as gRPC would say it.
pub fn ends(port: u16, cell: &Cell, token: Option<&str>) -> String {
    let headers: Vec<_> = token.map(|token| ("Authorization", token)).into_iter().collect();
    let mut connection = Connection::open(port);
    connection.send(&request("POST", cell.path, &headers, &cell.body));
    let reply = connection.reply(false, PATIENCE);
    if reply.status == 200 {
        return "0 ".to_owned();
    }
    let text = reply.text();
    let after = |name: &str| text.split_once(&format!("\"{name}\":")).map(|(_, rest)| rest);
    let code = after("code").map(|rest| rest.split([',', '}']).next().unwrap_or_default().to_owned());
    let message = after("message").and_then(|rest| rest.split('"').nth(1));
    match (code, message) {
        (Some(code), Some(message)) => format!("{code} {message}"),
        _ => format!("HTTP {}: {text}", reply.status),
    }
}
