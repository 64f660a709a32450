//! From the bytes of a message to JSON, piece by piece as they come.
//!
//! Owns the form of replies: fields under the names of the `.proto` files and in the order of the bytes, which is that of
//! their numbers; what is at its default is not in the bytes, and so not in the JSON; 64-bit integers and bytes are strings.
//! Holds no more than one string or number that has not come as a whole. Never recurses.

use std::fmt;
use std::io::Write;

use bytes::Buf;
use vlot_proto::descriptors::{Field, Kind, Message};

use super::{base64, push_string};

/// The JSON of a whole message.
///
/// # Errors
/// The bytes are no such message.
pub(crate) fn encode(message: &'static Message, bytes: &[u8]) -> Result<Vec<u8>, NotTheMessage> {
    // Keys and values grow by a third, and each field has a name.
    let mut out = Vec::with_capacity(64 + 2 * bytes.len());
    let mut encoder = Encoder::new(message, bytes.len());
    encoder.push(bytes, &mut out)?;
    if encoder.is_complete() { Ok(out) } else { Err(NotTheMessage { message: message.name }) }
}

/// Turns one message into JSON as its bytes come.
#[derive(Debug)]
pub(crate) struct Encoder {
    message: &'static Message,
    /// The messages that have begun and not ended, the innermost last.
    open: Vec<Frame>,
    /// The beginning of what has not come as a whole.
    rest: Vec<u8>,
    has_begun: bool,
}

/// One message that has begun.
#[derive(Debug)]
struct Frame {
    message: &'static Message,
    bytes_left: usize,
    is_empty: bool,
    /// The list that has begun and not ended.
    list: Option<u32>,
}

/// What the next bytes are.
enum Next {
    /// They are not there.
    Missing,
    /// This many of them are used up, together with the message around them.
    Used(usize),
    /// A message of this length begins after this many.
    Message(&'static Message, usize, usize),
}

/// A field's value as protobuf writes it.
enum Wire<'b> {
    Varint(u64),
    Bytes(&'b [u8]),
}

impl Encoder {
    /// For a message of this many bytes.
    pub(crate) fn new(message: &'static Message, length: usize) -> Encoder {
        let frame = Frame { message, bytes_left: length, is_empty: true, list: None };
        Encoder { message, open: vec![frame], rest: Vec::new(), has_begun: false }
    }

    /// Whether all of the message has come, and its JSON is complete.
    pub(crate) fn is_complete(&self) -> bool {
        self.open.is_empty()
    }

    /// Adds the JSON of the next bytes.
    ///
    /// # Errors
    /// They are not this message's.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), NotTheMessage> {
        let failed = NotTheMessage { message: self.message.name };
        if !self.has_begun {
            self.has_begun = true;
            out.push(b'{');
        }
        let mut rest = std::mem::take(&mut self.rest);
        let used = if rest.is_empty() {
            let used = self.fields(bytes, out).ok_or(failed)?;
            rest.extend_from_slice(&bytes[used..]);
            0
        } else {
            rest.extend_from_slice(bytes);
            self.fields(&rest, out).ok_or(failed)?
        };
        rest.drain(..used);
        self.rest = rest;
        if self.open.is_empty() && !self.rest.is_empty() {
            return Err(failed);
        }
        Ok(())
    }

    /// Adds the fields that are there as a whole, and returns how many bytes they are. `None` if they are no fields.
    fn fields(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let mut at = 0;
        loop {
            while let Some(frame) = self.open.pop_if(|frame| frame.bytes_left == 0) {
                if frame.list.is_some() {
                    out.push(b']');
                }
                out.push(b'}');
            }
            let Some(frame) = self.open.last_mut() else { return Some(at) };
            let available = &bytes[at..];
            let own = &available[..available.len().min(frame.bytes_left)];
            match frame.field(own, out)? {
                Next::Missing if own.len() == frame.bytes_left => return None,
                Next::Missing => return Some(at),
                Next::Used(used) => {
                    frame.bytes_left -= used;
                    at += used;
                }
                Next::Message(message, length, used) => {
                    frame.bytes_left = frame.bytes_left.checked_sub(used)?.checked_sub(length)?;
                    at += used;
                    out.push(b'{');
                    self.open.push(Frame { message, bytes_left: length, is_empty: true, list: None });
                }
            }
        }
    }
}

impl Frame {
    /// Adds the next field if it is there as a whole; of a message, its beginning. `None` if the bytes are no field.
    fn field(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<Next> {
        let mut rest = bytes;
        let Some(key) = varint(&mut rest)? else { return Some(Next::Missing) };
        let number = u32::try_from(key >> 3).ok()?;
        let field = self.message.field(number);
        let value = match (key & 7, field) {
            (0, _) => match varint(&mut rest)? {
                Some(value) => Wire::Varint(value),
                None => return Some(Next::Missing),
            },
            (2, _) => {
                let Some(length) = varint(&mut rest)? else { return Some(Next::Missing) };
                let length = usize::try_from(length).ok()?;
                if let Some(field @ Field { kind: Kind::Message(message), .. }) = field {
                    self.name(field, out);
                    return Some(Next::Message(message, length, bytes.len() - rest.len()));
                }
                let Some((value, after)) = rest.split_at_checked(length) else { return Some(Next::Missing) };
                rest = after;
                Wire::Bytes(value)
            }
            // There are no fields of fixed length in etcd's interface.
            _ => return None,
        };
        if let Some(field) = field {
            self.value(field, value, out)?;
        }
        Some(Next::Used(bytes.len() - rest.len()))
    }

    fn value(&mut self, field: &'static Field, value: Wire<'_>, out: &mut Vec<u8>) -> Option<()> {
        match (field.kind, value) {
            (Kind::Message(_), _) => return None,
            (Kind::Bytes, Wire::Bytes(bytes)) => {
                self.name(field, out);
                out.push(b'"');
                base64::encode(out, bytes);
                out.push(b'"');
            }
            (Kind::String, Wire::Bytes(bytes)) => {
                self.name(field, out);
                push_string(out, std::str::from_utf8(bytes).ok()?);
            }
            (Kind::Bytes | Kind::String, Wire::Varint(_)) => return None,
            (_, Wire::Varint(value)) => {
                self.name(field, out);
                push_scalar(out, field.kind, value);
            }
            // A list of numbers has them one behind the other.
            (_, Wire::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    let value = varint(&mut packed)??;
                    self.name(field, out);
                    push_scalar(out, field.kind, value);
                }
            }
        }
        Some(())
    }

    /// Adds what stands before a value: its name, or a comma if it continues a list.
    fn name(&mut self, field: &'static Field, out: &mut Vec<u8>) {
        if field.is_repeated && self.list == Some(field.number) {
            out.push(b',');
            return;
        }
        if self.list.take().is_some() {
            out.push(b']');
        }
        if !self.is_empty {
            out.push(b',');
        }
        self.is_empty = false;
        // No name needs an escape.
        out.push(b'"');
        out.extend_from_slice(field.name.as_bytes());
        out.extend_from_slice(b"\":");
        if field.is_repeated {
            out.push(b'[');
            self.list = Some(field.number);
        }
    }
}

fn push_scalar(out: &mut Vec<u8>, kind: Kind, value: u64) {
    match kind {
        Kind::Bool => out.extend_from_slice(if value == 0 { b"false" } else { b"true" }),
        Kind::Int64 => push_quoted(out, value.cast_signed()),
        Kind::Uint64 => push_quoted(out, value),
        // Both have 32 bits, which is what is left of a longer number.
        Kind::Enum(values) => match values.name_of(value as i32) {
            Some(name) => push_string(out, name),
            None => out.extend_from_slice((value as i32).to_string().as_bytes()),
        },
        _ => out.extend_from_slice((value as u32).to_string().as_bytes()),
    }
}

fn push_quoted(out: &mut Vec<u8>, number: impl fmt::Display) {
    // To write to memory cannot fail.
    let _ = write!(out, "\"{number}\"");
}

/// Takes a number of variable length. `Some(None)` if it is not all there, `None` if it is too long.
fn varint(bytes: &mut &[u8]) -> Option<Option<u64>> {
    let Some(last) = bytes.iter().take(10).position(|byte| *byte < 0x80) else {
        return if bytes.len() < 10 { Some(None) } else { None };
    };
    let value = bytes[..=last].iter().rev().fold(0, |value: u64, byte| value << 7 | u64::from(byte & 0x7f));
    bytes.advance(last + 1);
    Some(Some(value))
}

/// Bytes that are not the message that they should be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NotTheMessage {
    message: &'static str,
}

impl fmt::Display for NotTheMessage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "not a {}", self.message)
    }
}

impl std::error::Error for NotTheMessage {}
