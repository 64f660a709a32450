//! What of a request is told: the keys, ranges and ids in it, read by the tables of messages.
//!
//! Owns the list of the texts that may be told. Whatever is bytes or text and is not in it is left out: values, passwords,
//! tokens, and what a later version adds. Bounded, however large, deep or malformed the request is.

use bytes::{Buf, Bytes};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use serde_json::{Map, Value, json};
use vlot_proto::descriptors::{Field, Kind, Message};

/// Fields of text and bytes that are told.
const TOLD: [&str; 9] = ["key", "range_end", "name", "user", "role", "peerURLs", "version", "action", "alarm"];
/// Messages within each other that are looked into.
const DEPTH_MAX: usize = 64;
/// Fields that are told of one request.
const FIELDS_MAX: usize = 512;
/// Bytes of one text that are told.
const TEXT_BYTES_MAX: usize = 512;

/// What is told of a request of this type.
pub(super) fn told(message: &Message, request: &Bytes) -> Value {
    let mut left = FIELDS_MAX;
    let fields = fields(message, request.clone(), 0, &mut left);
    let mut object = fields.object;
    if fields.is_malformed {
        object.insert("malformed".into(), true.into());
    }
    if left == 0 {
        object.insert("truncated".into(), true.into());
    }
    Value::Object(object)
}

#[derive(Default)]
struct Fields {
    object: Map<String, Value>,
    is_malformed: bool,
}

fn fields(message: &Message, mut bytes: Bytes, depth: usize, left: &mut usize) -> Fields {
    let mut found = Fields::default();
    while bytes.has_remaining() && *left > 0 {
        let Some((field, value)) = next(message, &mut bytes, depth, left) else {
            found.is_malformed = true;
            return found;
        };
        let (Some(field), Some(value)) = (field, value) else { continue };
        *left = left.saturating_sub(1);
        match found.object.get_mut(field.name) {
            Some(Value::Array(all)) if field.is_repeated => all.push(value),
            _ if field.is_repeated => drop(found.object.insert(field.name.into(), json!([value]))),
            _ => drop(found.object.insert(field.name.into(), value)),
        }
    }
    found
}

/// The next field, if it is known, and what is told of it, if anything. `None` if the bytes are no message.
fn next<'m>(
    message: &'m Message,
    bytes: &mut Bytes,
    depth: usize,
    left: &mut usize,
) -> Option<(Option<&'m Field>, Option<Value>)> {
    let (number, wire_type) = decode_key(bytes).ok()?;
    let field = message.field(number);
    match (field.map(|field| field.kind), wire_type) {
        (Some(Kind::Bool), WireType::Varint) => Some((field, Some((decode_varint(bytes).ok()? != 0).into()))),
        (Some(Kind::Int64), WireType::Varint) => Some((field, Some((decode_varint(bytes).ok()? as i64).into()))),
        (Some(Kind::Uint32 | Kind::Uint64), WireType::Varint) => Some((field, Some(decode_varint(bytes).ok()?.into()))),
        (Some(Kind::Enum(names)), WireType::Varint) => {
            let number = decode_varint(bytes).ok()? as i32;
            Some((field, Some(names.name_of(number).map_or(number.into(), Value::from))))
        }
        (Some(kind), WireType::LengthDelimited) => {
            let length = usize::try_from(decode_varint(bytes).ok()?).ok()?;
            if length > bytes.len() {
                return None;
            }
            let content = bytes.split_to(length);
            let is_told = field.is_some_and(|field| TOLD.contains(&field.name));
            let value = match kind {
                Kind::Message(_) if depth == DEPTH_MAX => Some("...".into()),
                Kind::Message(within) => {
                    let within = fields(within, content, depth + 1, left);
                    if within.is_malformed {
                        return None;
                    }
                    Some(Value::Object(within.object))
                }
                Kind::String | Kind::Bytes if is_told => Some(text(&content)),
                _ => None,
            };
            Some((field, value))
        }
        _ => {
            skip_field(wire_type, number, bytes, DecodeContext::default()).ok()?;
            Some((None, None))
        }
    }
}

/// A key as text if it is some, otherwise its bytes in hexadecimal.
fn text(bytes: &[u8]) -> Value {
    let shown = &bytes[..bytes.len().min(TEXT_BYTES_MAX)];
    // What is cut is cut between characters.
    let whole =
        if shown.len() < bytes.len() { shown.utf8_chunks().next().map_or("", |chunk| chunk.valid()) } else { "" };
    let readable = if shown.len() < bytes.len() { Some(whole) } else { std::str::from_utf8(shown).ok() };
    match readable.filter(|text| !text.is_empty() || bytes.is_empty()) {
        Some(text) if text.len() == bytes.len() => text.into(),
        Some(text) => json!({"text": text, "bytes": bytes.len()}),
        None => {
            let hexadecimal: String = shown.iter().map(|byte| format!("{byte:02x}")).collect();
            json!({"hex": hexadecimal, "bytes": bytes.len()})
        }
    }
}

#[cfg(test)]
mod tests {
    use vlot_proto::authpb::Permission;
    use vlot_proto::descriptors;
    use vlot_proto::etcdserverpb::compare::TargetUnion;
    use vlot_proto::etcdserverpb::request_op::Request;
    use vlot_proto::etcdserverpb::*;

    use super::*;

    fn of(path: &str, request: &impl prost::Message) -> String {
        let method = descriptors::method(path).unwrap();
        told(method.request, &request.encode_to_vec().into()).to_string()
    }

    #[test]
    fn keys_and_ids_are_told_and_values_and_secrets_are_not() {
        let put = || PutRequest { key: "a".into(), value: "secret".into(), lease: 7, ..PutRequest::default() };
        assert_eq!(of("/etcdserverpb.KV/Put", &put()), r#"{"key":"a","lease":7}"#);
        let op = |request| RequestOp { request: Some(request) };
        let delete = DeleteRangeRequest { key: "b".into(), range_end: vec![0xff, 0].into(), prev_kv: true };
        let inner = TxnRequest { failure: vec![op(Request::RequestDeleteRange(delete))], ..TxnRequest::default() };
        let compare = Compare {
            key: "c".into(),
            target: 3,
            target_union: Some(TargetUnion::Value("secret".into())),
            ..Compare::default()
        };
        let txn = TxnRequest {
            compare: vec![compare],
            success: vec![op(Request::RequestPut(put())), op(Request::RequestTxn(inner))],
            ..TxnRequest::default()
        };
        assert_eq!(
            of("/etcdserverpb.KV/Txn", &txn),
            r#"{"compare":[{"key":"c","target":"VALUE"}],"success":[{"request_put":{"key":"a","lease":7}},{"request_txn":{"failure":[{"request_delete_range":{"key":"b","prev_kv":true,"range_end":{"bytes":2,"hex":"ff00"}}}]}}]}"#
        );
        let login = AuthenticateRequest { name: "root".into(), password: "secret".into() };
        assert_eq!(of("/etcdserverpb.Auth/Authenticate", &login), r#"{"name":"root"}"#);
        let user = AuthUserAddRequest {
            name: "u".into(),
            password: "secret".into(),
            hashed_password: "secret".into(),
            ..AuthUserAddRequest::default()
        };
        assert_eq!(of("/etcdserverpb.Auth/UserAdd", &user), r#"{"name":"u"}"#);
        let grant = AuthRoleGrantPermissionRequest {
            name: "r".into(),
            perm: Some(Permission { perm_type: 2, key: "k".into(), range_end: "l".into() }),
        };
        assert_eq!(
            of("/etcdserverpb.Auth/RoleGrantPermission", &grant),
            r#"{"name":"r","perm":{"key":"k","permType":"READWRITE","range_end":"l"}}"#
        );
    }

    #[test]
    fn what_is_told_is_bounded_whatever_comes() {
        let long = PutRequest { key: "é".repeat(1000).into(), ..PutRequest::default() };
        assert!(of("/etcdserverpb.KV/Put", &long).len() < 1000);
        let op = || RequestOp {
            request: Some(Request::RequestPut(PutRequest { key: "k".repeat(1000).into(), ..PutRequest::default() })),
        };
        let many = TxnRequest { success: (0..100_000).map(|_| op()).collect(), ..TxnRequest::default() };
        let told = of("/etcdserverpb.KV/Txn", &many);
        assert!(told.len() < 300_000 && told.ends_with("\"truncated\":true}"));
        let mut deep = Vec::new();
        for _ in 0..10_000 {
            for tag in [0x22, 0x12] {
                let mut around = vec![tag];
                prost::encoding::encode_varint(deep.len() as u64, &mut around);
                around.extend_from_slice(&deep);
                deep = around;
            }
        }
        let method = descriptors::method("/etcdserverpb.KV/Txn").unwrap();
        assert!(super::told(method.request, &deep.into()).to_string().contains("..."));
        for bad in [&b"\x0a\xff"[..], b"\xff\xff\xff", b"\x0a\x05ab"] {
            assert_eq!(super::told(method.request, &Bytes::from_static(bad)).to_string(), r#"{"malformed":true}"#);
        }
    }
}
