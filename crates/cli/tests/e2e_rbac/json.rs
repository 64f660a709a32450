//! Requests in JSON, by the tables of their messages: written once more, so that the server's notation is not judged by itself.

use serde_json::{Map, Value, json};
use vlot_proto::descriptors::{Field, Kind, Message};

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// In protobuf: a field that is a number, and one with a length.
const NUMBER: u64 = 0;
const LENGTH: u64 = 2;

/// A message in JSON.
pub fn json(message: &Message, bytes: &[u8]) -> Value {
    let mut rest = bytes;
    let mut fields = Map::new();
    while !rest.is_empty() {
        let tag = varint(&mut rest);
        let field = message.field((tag >> 3) as u32).expect("each field is in the table");
        let number = varint(&mut rest);
        let value = match tag & 7 {
            NUMBER => of_number(field, number),
            LENGTH => {
                let (content, behind) = rest.split_at(number as usize);
                rest = behind;
                of_bytes(field, content)
            }
            other => panic!("requests have no fields of wire type {other}"),
        };
        if field.is_repeated {
            let all = fields.entry(field.name).or_insert_with(|| json!([]));
            all.as_array_mut().expect("an array").push(value);
        } else {
            fields.insert(field.name.to_owned(), value);
        }
    }
    Value::Object(fields)
}

fn of_number(field: &Field, number: u64) -> Value {
    match field.kind {
        Kind::Bool => json!(number != 0),
        Kind::Int64 => json!((number as i64).to_string()),
        Kind::Uint64 => json!(number.to_string()),
        Kind::Uint32 => json!(number),
        Kind::Enum(names) => json!(names.name_of(number as i32)),
        _ => panic!("{} is no number", field.name),
    }
}

fn of_bytes(field: &Field, content: &[u8]) -> Value {
    match field.kind {
        Kind::String => json!(str::from_utf8(content).expect("text")),
        Kind::Bytes => json!(base64(content)),
        Kind::Message(message) => json(message, content),
        _ => panic!("no request has many numbers in {}", field.name),
    }
}

fn varint(rest: &mut &[u8]) -> u64 {
    let (mut number, mut shift) = (0, 0);
    loop {
        let (byte, behind) = rest.split_first().expect("a whole number");
        *rest = behind;
        number |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return number;
        }
        shift += 7;
    }
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
