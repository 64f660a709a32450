//! Every message of the interface there and back, and what etcd answered to requests that are none.

use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use vlot_proto::descriptors::{Field, Kind, METHODS, Message, method};
use vlot_proto::etcdserverpb::{RangeRequest, TxnRequest, WatchResponse};
use vlot_proto::mvccpb::{Event, KeyValue, event::EventType};

use super::*;

/// A value read as a gateway reads it: first for its form, then for its meaning.
fn read(message: &'static Message, text: &[u8]) -> Result<Vec<u8>, String> {
    match Scanner::new().scan(text).map_err(|error| error.to_string())? {
        Found::End(end) => decode(message, text[..end].trim_ascii_start()).map_err(|error| error.to_string()),
        other => Err(format!("{other:?}")),
    }
}

fn request(path: &str) -> &'static Message {
    method(path).unwrap().request
}

fn range(text: &str) -> Result<RangeRequest, String> {
    let bytes = read(request("/etcdserverpb.KV/Range"), text.as_bytes())?;
    Ok(RangeRequest::decode(&*bytes).unwrap())
}

/// Numbers that look like chance and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn number(&mut self) -> u64 {
        let bits = 1 + self.below(64);
        ((self.below(1 << 31) << 33 ^ self.below(1 << 31) << 2) >> (64 - bits)).max(1)
    }
}

/// All messages that a request or a reply may have in it.
fn messages() -> Vec<&'static Message> {
    let mut all: Vec<&'static Message> = Vec::new();
    let mut next: Vec<_> = METHODS.iter().flat_map(|method| [method.request, method.response]).collect();
    while let Some(message) = next.pop() {
        if !all.iter().any(|known| known.name == message.name) {
            all.push(message);
            next.extend(message.fields.iter().filter_map(|field| match field.kind {
                Kind::Message(message) => Some(message),
                _ => None,
            }));
        }
    }
    all
}

/// Some message, as the decoder writes it.
fn some_message(message: &'static Message, dice: &mut Dice, depth: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut oneof = None;
    for field in message.fields {
        let is_left_out = dice.below(3) == 0 || field.oneof.is_some() && oneof == field.oneof;
        let is_too_deep = depth > 6 && matches!(field.kind, Kind::Message(_));
        if is_left_out || is_too_deep {
            continue;
        }
        oneof = field.oneof.or(oneof);
        let count = if field.is_repeated { dice.below(4) } else { 1 };
        for _ in 0..count {
            let may_be_default = field.is_repeated || field.oneof.is_some();
            some_field(field, may_be_default, dice, depth, &mut out);
        }
    }
    out
}

fn some_field(field: &Field, may_be_default: bool, dice: &mut Dice, depth: usize, out: &mut Vec<u8>) {
    let shortest = u64::from(!may_be_default);
    let bytes = match field.kind {
        Kind::Message(message) => some_message(message, dice, depth + 1),
        Kind::Bytes => (0..dice.below(9).max(shortest)).map(|_| dice.below(256) as u8).collect(),
        Kind::String => {
            let letters: Vec<char> = "aé\"\\\n\u{1}😀/\u{7f}<\u{2028}".chars().collect();
            let some = (0..dice.below(9).max(shortest)).map(|_| letters[dice.below(letters.len() as u64) as usize]);
            some.collect::<String>().into_bytes()
        }
        _ => {
            let number = match field.kind {
                Kind::Bool => 1,
                Kind::Uint32 => dice.number() >> 32 | 1,
                Kind::Enum(values) => 1 + dice.below(values.values.len() as u64 + 1),
                _ => dice.number(),
            };
            let number = if may_be_default { number * dice.below(2) } else { number };
            encode_key(field.number, WireType::Varint, out);
            return encode_varint(number, out);
        }
    };
    encode_key(field.number, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend(bytes);
}

#[test]
fn every_message_comes_back_as_it_was() {
    let messages = messages();
    assert!(messages.len() > 100, "{} messages", messages.len());
    for message in messages {
        for seed in 0..60 {
            let bytes = some_message(message, &mut Dice(seed), 0);
            let json = encode(message, &bytes).unwrap();
            let text = String::from_utf8_lossy(&json);
            let value: serde_json::Value = serde_json::from_slice(&json).unwrap_or_else(|_| panic!("{text}"));
            assert_eq!(read(message, &json).unwrap(), bytes, "{}: {text}", message.name);
            // As others write it: with space, and with every character escaped.
            let spaced = serde_json::to_vec_pretty(&value).unwrap();
            assert_eq!(encode(message, &read(message, &spaced).unwrap()).map(|json| json.len()), Ok(json.len()));
        }
    }
}

#[test]
fn it_does_not_matter_in_which_pieces_a_message_comes() {
    for message in messages() {
        let bytes = (0..).map(|seed| some_message(message, &mut Dice(seed), 0));
        let bytes = bytes.take(20).max_by_key(Vec::len).unwrap();
        let whole = encode(message, &bytes).unwrap();
        for piece in [1, 2, 7, 64] {
            let mut encoder = Encoder::new(message, bytes.len());
            let mut json = Vec::new();
            encoder.push(&[], &mut json).unwrap();
            for bytes in bytes.chunks(piece) {
                encoder.push(bytes, &mut json).unwrap();
            }
            assert!(encoder.is_complete());
            assert_eq!(json, whole, "{}", message.name);
        }
    }
}

#[test]
fn what_is_no_message_makes_no_json_and_no_panic() {
    let mut dice = Dice(7);
    for message in messages() {
        for seed in 0..40 {
            let mut bytes = some_message(message, &mut Dice(seed), 0);
            for _ in 0..3 {
                let place = dice.below(bytes.len() as u64 + 1) as usize;
                match dice.below(3) {
                    0 => bytes.truncate(place),
                    1 => bytes.insert(place, dice.below(256) as u8),
                    _ => bytes.iter_mut().skip(place).take(1).for_each(|byte| *byte = dice.below(256) as u8),
                }
            }
            if let Ok(json) = encode(message, &bytes) {
                assert!(serde_json::from_slice::<serde_json::Value>(&json).is_ok(), "{}", message.name);
            }
        }
    }
}

#[test]
fn tables_are_what_the_code_relies_on() {
    for message in messages() {
        assert!(message.fields.len() <= 64, "{}", message.name);
        assert!(message.fields.is_sorted_by_key(|field| field.number), "{}", message.name);
    }
}

#[test]
fn a_request_is_what_its_client_meant() {
    let parsed = range(
        r#" {"key":"Zm9v","rangeEnd":"Zm9w","limit":"5","revision":7,"sort_order":"DESCEND","sortTarget":4,
            "serializable":true,"keys_only":false,"minModRevision":-1,"unknown":{"key":["?"]}} and more"#,
    );
    let expected = RangeRequest {
        key: "foo".into(),
        range_end: "fop".into(),
        limit: 5,
        revision: 7,
        sort_order: 2,
        sort_target: 4,
        serializable: true,
        min_mod_revision: -1,
        ..RangeRequest::default()
    };
    assert_eq!(parsed, Ok(expected));
    let text = br#"{"compare":[{"target":"MOD","key":"YQ==","mod_revision":"0"}],
        "success":[{"requestPut":{"key":"YQ==","value":"Yg=="}},{"request_txn":{}}],"failure":null}"#;
    let txn = TxnRequest::decode(&*read(request("/etcdserverpb.KV/Txn"), text).unwrap()).unwrap();
    assert_eq!((txn.compare.len(), txn.success.len(), txn.failure.len()), (1, 2, 0));
    assert!(txn.compare[0].target_union.is_some(), "a field of a oneof is there though it is zero");
}

#[test]
fn a_reply_has_the_form_of_etcds() {
    let response = WatchResponse {
        watch_id: 5,
        created: true,
        events: vec![
            Event {
                kv: Some(KeyValue { key: "foo".into(), version: i64::MIN, ..KeyValue::default() }),
                ..Event::default()
            },
            Event { r#type: EventType::Delete.into(), kv: Some(KeyValue::default()), prev_kv: None },
        ],
        ..WatchResponse::default()
    };
    let json = encode(method("/etcdserverpb.Watch/Watch").unwrap().response, &response.encode_to_vec()).unwrap();
    let expected = r#"{"watch_id":"5","created":true,"events":[{"kv":{"key":"Zm9v","version":"-9223372036854775808"}},{"type":"DELETE","kv":{}}]}"#;
    assert_eq!(String::from_utf8(json).unwrap(), expected);
    assert_eq!(encode(method("/etcdserverpb.KV/Put").unwrap().response, b"").unwrap(), b"{}");
}

/// Each as etcd took it.
#[test]
fn numbers_and_names_are_taken_in_many_forms() {
    let limits = [
        (r#""5""#, 5),
        ("5", 5),
        ("1e2", 100),
        (r#""1.0""#, 1),
        ("10e-1", 1),
        (r#""\u0031""#, 1),
        ("null", 0),
        ("-0", 0),
        (r#""5 6""#, 5),
        (r#""5,x""#, 5),
    ];
    for (text, expected) in limits {
        assert_eq!(range(&format!(r#"{{"limit":{text}}}"#)).map(|range| range.limit), Ok(expected), "{text}");
    }
    for (text, expected) in [(r#""ASCEND""#, 1), ("1", 1), ("7", 7), (r#""FOO""#, 0), (r#""1""#, 0), (r#""""#, 0)] {
        assert_eq!(range(&format!(r#"{{"sort_order":{text}}}"#)).map(|range| range.sort_order), Ok(expected), "{text}");
    }
}

/// Each as etcd refused it.
#[test]
fn errors_have_the_words_of_etcds_gateway() {
    let rows = [
        (r#"{"key":1}"#, "proto: (line 1:8): invalid value for bytes field key: 1"),
        (r#"{"key":"!!"}"#, r#"proto: (line 1:8): invalid value for bytes field key: "!!""#),
        (r#"{"key":[102,111]}"#, "proto: (line 1:8): invalid value for bytes field key: ["),
        (r#"{"limit":"abc"}"#, r#"proto: (line 1:10): invalid value for int64 field limit: "abc""#),
        (r#"{"limit":1.5}"#, "proto: (line 1:10): invalid value for int64 field limit: 1.5"),
        (
            r#"{"limit":"99999999999999999999"}"#,
            r#"proto: (line 1:10): invalid value for int64 field limit: "99999999999999999999""#,
        ),
        (r#"{"limit":true}"#, "proto: (line 1:10): invalid value for int64 field limit: true"),
        (r#"{"limit":{}}"#, "proto: (line 1:10): invalid value for int64 field limit: {"),
        (r#"{"limit":" 1"}"#, r#"proto: (line 1:10): invalid value for int64 field limit: " 1""#),
        (r#"{"limit":""}"#, r#"proto: (line 1:10): invalid value for int64 field limit: """#),
        (r#"{"limit":"5x"}"#, r#"proto: (line 1:10): invalid value for int64 field limit: "5x""#),
        (r#"{"count_only":1}"#, "proto: (line 1:15): invalid value for bool field countOnly: 1"),
        (r#"{"sort_order":2147483648}"#, "proto: (line 1:15): invalid value for enum field sortOrder: 2147483648"),
        ("null", "proto: syntax error (line 1:1): unexpected token null"),
        ("[]", "proto: syntax error (line 1:1): unexpected token ["),
        (r#""x""#, r#"proto: syntax error (line 1:1): unexpected token "x""#),
        (r#"{"key":"Zm9v","key":"YmFy"}"#, r#"proto: (line 1:15): duplicate field "key""#),
        (r#"{"range_end":"Zg","rangeEnd":"Zg"}"#, r#"proto: (line 1:19): duplicate field "rangeEnd""#),
        (r#"{"revision":null,"revision":1}"#, r#"proto: (line 1:18): duplicate field "revision""#),
        (r#"{"x":"\ud800"}"#, "proto: unexpected EOF"),
        (" \n\n {\n \"key\":\n 1}", "proto: (line 3:2): invalid value for bytes field key: 1"),
    ];
    for (text, expected) in rows {
        assert_eq!(range(text), Err(expected.to_owned()), "{text}");
    }
    let rows = [
        (r#"{"compare":{}}"#, "proto: syntax error (line 1:12): unexpected token {"),
        (r#"{"compare":[null]}"#, "proto: syntax error (line 1:13): unexpected token null"),
        (
            r#"{"compare":[{"key":"Zm9v","version":"1","mod_revision":2}]}"#,
            r#"proto: (line 1:41): error parsing "mod_revision", oneof etcdserverpb.Compare.target_union is already set"#,
        ),
    ];
    for (text, expected) in rows {
        let error = read(request("/etcdserverpb.KV/Txn"), text.as_bytes()).unwrap_err();
        assert_eq!(error, expected, "{text}");
    }
}

#[test]
fn deep_nesting_ends_in_an_error_and_not_in_a_full_stack() {
    let nested = |depth: usize| {
        [r#"{"success":[{"request_txn":"#.repeat(depth).as_str(), "{}", "}]}".repeat(depth).as_str()].concat()
    };
    let txn = request("/etcdserverpb.KV/Txn");
    assert!(read(txn, nested(128).as_bytes()).is_ok());
    for depth in [129, 3_000] {
        let error = read(txn, nested(depth).as_bytes()).unwrap_err();
        assert_eq!(error, "proto: exceeded max recursion depth");
    }
    assert!(read(txn, nested(4_000).as_bytes()).unwrap_err().ends_with("exceeded max depth"));
    // What is not known is passed over, however deep.
    let unknown = format!(r#"{{"x":{}{}}}"#, "[".repeat(9_999), "]".repeat(9_999));
    assert_eq!(range(&unknown), Ok(RangeRequest::default()));
}

#[test]
fn anything_may_be_sent() {
    let words: [&[u8]; 24] = [
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\"",
        b"\"key\"",
        b"\"limit\"",
        b"\"success\"",
        b"\"request_put\"",
        b"null",
        b"true",
        b"1e5",
        b"-",
        b"0",
        b"9",
        b"\\u",
        b"\\ud800",
        b"\xff",
        b"\"Zm9v\"",
        b" ",
        b"{\"key\":",
        b"[{",
    ];
    let mut dice = Dice(3);
    for message in messages() {
        for _ in 0..200 {
            let text: Vec<u8> = (0..dice.below(30)).flat_map(|_| words[dice.below(24) as usize]).copied().collect();
            if let Ok(bytes) = read(message, &text) {
                assert!(encode(message, &bytes).is_ok(), "{}", String::from_utf8_lossy(&text));
            }
        }
    }
}
