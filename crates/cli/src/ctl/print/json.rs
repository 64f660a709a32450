//! The JSON format: messages field by field in etcd's order, zero values left out, bytes in base64.
//!
//! Written here rather than by a library, because etcdctl's JSON has an order, omissions and escapes of its own.

use std::fmt::{Display, Write};

use vlot_proto::etcdserverpb::response_op::Response;
use vlot_proto::etcdserverpb::{
    DeleteRangeResponse, HashKvResponse, Member, MemberListResponse, PutResponse, RangeResponse, ResponseHeader,
    ResponseOp, StatusResponse, TxnResponse, WatchResponse,
};
use vlot_proto::mvccpb::{Event, KeyValue};

use super::said::{Health, Said};
use crate::ctl::notation;

pub fn range(reply: &RangeResponse) -> String {
    let mut object = Object::with_header(reply.header);
    object.list("kvs", &reply.kvs, key_value);
    object.truth("more", reply.more);
    object.number("count", reply.count);
    object.end()
}

pub fn put(reply: &PutResponse) -> String {
    let mut object = Object::with_header(reply.header);
    object.optional("prev_kv", reply.prev_kv.as_ref().map(key_value));
    object.end()
}

pub fn delete(reply: &DeleteRangeResponse) -> String {
    let mut object = Object::with_header(reply.header);
    object.number("deleted", reply.deleted);
    object.list("prev_kvs", &reply.prev_kvs, key_value);
    object.end()
}

pub fn txn(reply: &TxnResponse) -> String {
    let mut object = Object::with_header(reply.header);
    object.truth("succeeded", reply.succeeded);
    object.list("responses", &reply.responses, response_op);
    object.end()
}

fn response_op(op: &ResponseOp) -> String {
    let mut object = Object::default();
    let mut inner = Object::default();
    match &op.response {
        Some(Response::ResponseRange(reply)) => inner.raw("response_range", range(reply)),
        Some(Response::ResponsePut(reply)) => inner.raw("response_put", put(reply)),
        Some(Response::ResponseDeleteRange(reply)) => inner.raw("response_delete_range", delete(reply)),
        Some(Response::ResponseTxn(reply)) => inner.raw("response_txn", txn(reply)),
        None => {
            object.raw("Response", "null");
            return object.end();
        }
    }
    object.raw("Response", inner.end());
    object.end()
}

pub fn watch(reply: &WatchResponse) -> String {
    let mut object = Object::default();
    object.raw("Header", header(&reply.header.unwrap_or_default()));
    object.raw("Events", list_of(&reply.events, event));
    object.raw("CompactRevision", reply.compact_revision);
    object.raw("Canceled", reply.canceled);
    object.raw("Created", reply.created);
    object.end()
}

fn event(event: &Event) -> String {
    let mut object = Object::default();
    object.number("type", event.r#type.into());
    object.optional("kv", event.kv.as_ref().map(key_value));
    object.optional("prev_kv", event.prev_kv.as_ref().map(key_value));
    object.end()
}

/// With `hex`, ids become hexadecimal strings, and etcdctl spells one name differently and leaves learners unmarked.
pub fn member_list(reply: &MemberListResponse, hex: bool) -> String {
    let mut object = Object::default();
    if !hex {
        object.optional("header", reply.header.as_ref().map(header));
        object.list("members", &reply.members, member);
        return object.end();
    }
    let answered = reply.header.unwrap_or_default();
    let mut header = Object::default();
    header.raw("cluster_id", format_args!("\"{:x}\"", answered.cluster_id));
    header.raw("member_id", format_args!("\"{:x}\"", answered.member_id));
    header.raw("raft_term", answered.raft_term);
    object.raw("header", header.end());
    object.list("members", &reply.members, |member| {
        let mut object = Object::default();
        object.raw("ID", format_args!("\"{:x}\"", member.id));
        object.raw("name", string(&member.name));
        object.raw("peerURLs", list_or_null(&member.peer_ur_ls));
        object.raw("clientURLS", list_or_null(&member.client_ur_ls));
        object.end()
    });
    object.end()
}

/// What became of a change of members.
pub fn member_change(header: Option<ResponseHeader>, new: Option<&Member>, members: &[Member]) -> String {
    let mut object = Object::with_header(header);
    object.optional("member", new.map(member));
    object.list("members", members, member);
    object.end()
}

fn member(member: &Member) -> String {
    let mut object = Object::default();
    object.unsigned("ID", member.id);
    object.text("name", &member.name);
    object.list("peerURLs", &member.peer_ur_ls, |url| string(url));
    object.list("clientURLs", &member.client_ur_ls, |url| string(url));
    object.truth("isLearner", member.is_learner);
    object.truth("isWitness", member.is_witness);
    object.end()
}

pub fn endpoint_health(healths: &[Health]) -> String {
    list_of(healths, |health| {
        let mut object = Object::default();
        object.raw("endpoint", string(&health.endpoint));
        object.raw("health", health.error.is_empty());
        object.raw("took", string(&notation::duration(health.took)));
        object.text("error", &health.error);
        object.end()
    })
}

pub fn endpoint_status(statuses: &[Said<StatusResponse>]) -> String {
    list_of(statuses, |Said { endpoint, reply }| {
        let mut status = Object::with_header(reply.header);
        status.text("version", &reply.version);
        status.number("dbSize", reply.db_size);
        status.unsigned("leader", reply.leader);
        status.unsigned("raftIndex", reply.raft_index);
        status.unsigned("raftTerm", reply.raft_term);
        status.unsigned("raftAppliedIndex", reply.raft_applied_index);
        status.list("errors", &reply.errors, |error| string(error));
        status.number("dbSizeInUse", reply.db_size_in_use);
        status.truth("isLearner", reply.is_learner);
        said(endpoint, "Status", status.end())
    })
}

pub fn endpoint_hash_kv(hashes: &[Said<HashKvResponse>]) -> String {
    list_of(hashes, |Said { endpoint, reply }| {
        let mut hash = Object::with_header(reply.header);
        hash.unsigned("hash", reply.hash.into());
        hash.number("compact_revision", reply.compact_revision);
        said(endpoint, "HashKV", hash.end())
    })
}

fn said(endpoint: &str, what: &str, reply: String) -> String {
    let mut object = Object::default();
    object.raw("Endpoint", string(endpoint));
    object.raw(what, reply);
    object.end()
}

fn header(header: &ResponseHeader) -> String {
    let mut object = Object::default();
    object.header_fields(header);
    object.end()
}

fn key_value(kv: &KeyValue) -> String {
    let mut object = Object::default();
    object.bytes("key", &kv.key);
    object.number("create_revision", kv.create_revision);
    object.number("mod_revision", kv.mod_revision);
    object.number("version", kv.version);
    object.bytes("value", &kv.value);
    object.number("lease", kv.lease);
    object.end()
}

/// An object being written. All but `raw` leave zero values out.
#[derive(Default)]
pub struct Object {
    inside: String,
}

impl Object {
    pub fn with_header(answered: Option<ResponseHeader>) -> Object {
        let mut object = Object::default();
        object.optional("header", answered.as_ref().map(header));
        object
    }

    /// An object whose own first fields are those of the header.
    pub fn begun_with_header(answered: Option<ResponseHeader>) -> Object {
        let mut object = Object::default();
        if let Some(answered) = answered {
            object.header_fields(&answered);
        }
        object
    }

    fn header_fields(&mut self, header: &ResponseHeader) {
        self.unsigned("cluster_id", header.cluster_id);
        self.unsigned("member_id", header.member_id);
        self.number("revision", header.revision);
        self.unsigned("raft_term", header.raft_term);
    }

    pub fn raw(&mut self, name: &str, value: impl Display) {
        let comma = if self.inside.is_empty() { "" } else { "," };
        // Writing into a string cannot fail.
        let _ = write!(self.inside, "{comma}\"{name}\":{value}");
    }

    pub fn optional(&mut self, name: &str, value: Option<String>) {
        if let Some(value) = value {
            self.raw(name, value);
        }
    }

    pub fn number(&mut self, name: &str, value: i64) {
        if value != 0 {
            self.raw(name, value);
        }
    }

    pub fn unsigned(&mut self, name: &str, value: u64) {
        if value != 0 {
            self.raw(name, value);
        }
    }

    pub fn truth(&mut self, name: &str, value: bool) {
        if value {
            self.raw(name, true);
        }
    }

    pub fn text(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.raw(name, string(value));
        }
    }

    pub fn bytes(&mut self, name: &str, value: &[u8]) {
        if !value.is_empty() {
            self.raw(name, format_args!("\"{}\"", base64(value)));
        }
    }

    pub fn list<T>(&mut self, name: &str, items: &[T], show: impl Fn(&T) -> String) {
        if !items.is_empty() {
            self.raw(name, list_of(items, show));
        }
    }

    pub fn end(self) -> String {
        format!("{{{}}}", self.inside)
    }
}

pub fn list_of<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(","))
}

fn list_or_null(urls: &[String]) -> String {
    if urls.is_empty() { "null".to_owned() } else { list_of(urls, |url| string(url)) }
}

/// A string with the escapes of Go's encoder, which are safe inside HTML.
pub fn string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\0'..' ' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(letter)));
            }
            _ => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// Bytes as JSON carries them.
pub fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let number = group.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for position in 0..4 {
            let digit = ALPHABET[(number >> (18 - 6 * position)) as usize & 63];
            encoded.push(if position <= group.len() { char::from(digit) } else { '=' });
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_base64() {
        for (bytes, text) in
            [(&b""[..], ""), (b"a", "YQ=="), (b"ab", "YWI="), (b"abc", "YWJj"), (b"\xff\xfe\xfd\xfc", "//79/A==")]
        {
            assert_eq!(base64(bytes), text);
        }
    }

    #[test]
    fn strings_are_escaped_for_html_too() {
        assert_eq!(string("a\"\\\n\x01<&>é\u{2028}"), r#""a\"\\\n\u0001\u003c\u0026\u003eé\u2028""#);
    }

    #[test]
    fn zero_values_are_left_out() {
        let header = Some(ResponseHeader { revision: 7, ..ResponseHeader::default() });
        let kv = KeyValue { key: "k".into(), mod_revision: 7, ..KeyValue::default() };
        let range = RangeResponse { header, kvs: vec![kv], more: false, count: 1 };
        let expected = r#"{"header":{"revision":7},"kvs":[{"key":"aw==","mod_revision":7}],"count":1}"#;
        assert_eq!(super::range(&range), expected);
        let responses =
            vec![ResponseOp { response: Some(Response::ResponseRange(range)) }, ResponseOp { response: None }];
        let txn = TxnResponse { header: None, succeeded: true, responses };
        let expected = format!(
            r#"{{"succeeded":true,"responses":[{{"Response":{{"response_range":{expected}}}}},{{"Response":null}}]}}"#
        );
        assert_eq!(super::txn(&txn), expected);
    }
}
