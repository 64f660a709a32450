//! From JSON to the bytes of a message.
//!
//! Owns the rules of protobuf's JSON notation: which token may stand for which kind of field, what is passed over, what comes
//! twice. Fields are written in the order in which they come; one that has its default is left out.

use std::fmt;

use prost::encoding::{WireType, encode_key, encode_varint};
use vlot_proto::descriptors::{Field, Kind, Message};
use vlot_proto::txn;

use super::scan::{Found, Scanner};
use super::token::{Token, TokenKind, Tokens, leading_number};
use super::{base64, number, quote};

/// How deep messages may stand in each other. A transaction stands in an operation, so that half as many may be nested as
/// elsewhere, and as many as etcd allows by default: each level takes its part of the stack.
const DEPTH_MAX: usize = txn::DEPTH_MAX;

/// Line and character, both from one on.
pub(super) type Position = (usize, usize);

/// Writes the message that a JSON value is. The value must be one that [`Scanner`](super::Scanner) has found.
///
/// # Errors
/// It is no such message.
pub(crate) fn decode(message: &'static Message, json: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut decoder = Decoder { tokens: Tokens::of(json), out: Vec::with_capacity(json.len()) };
    decoder.message(message, 0)?;
    Ok(decoder.out)
}

struct Decoder<'t> {
    tokens: Tokens<'t>,
    out: Vec<u8>,
}

/// Whether a value is written though it is its kind's default.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Defaults {
    Written,
    LeftOut,
}

impl Decoder<'_> {
    fn message(&mut self, message: &'static Message, depth: usize) -> Result<(), DecodeError> {
        if depth > DEPTH_MAX {
            return Err(DecodeError::TooDeep);
        }
        let open = self.tokens.next()?;
        if open.kind != TokenKind::ObjectOpen {
            return Err(self.unexpected(&open));
        }
        // No message has so many fields, which a test checks.
        let mut seen: u64 = 0;
        let mut oneof_is_set = None;
        loop {
            let token = self.tokens.next()?;
            let name = match &token.kind {
                TokenKind::String(name) => name,
                TokenKind::ObjectClose => return Ok(()),
                _ => return Err(self.unexpected(&token)),
            };
            let Some((place, field)) = message.field_named(name) else {
                self.tokens.skip()?;
                continue;
            };
            if seen & 1 << place != 0 {
                let (at, name) = (self.position(&token), self.tokens.written(&token));
                return Err(DecodeError::DuplicateField { at, name });
            }
            seen |= 1 << place;
            if self.tokens.next_if(&TokenKind::Null)?.is_some() {
                continue;
            }
            if let Some(oneof) = field.oneof
                && oneof_is_set.replace(oneof) == Some(oneof)
            {
                let (at, name) = (self.position(&token), self.tokens.written(&token));
                return Err(DecodeError::OneofIsSet { at, name, oneof });
            }
            self.field(field, depth)?;
        }
    }

    fn field(&mut self, field: &'static Field, depth: usize) -> Result<(), DecodeError> {
        match field.kind {
            _ if field.is_repeated => self.list(field, depth),
            Kind::Message(message) => {
                encode_key(field.number, WireType::LengthDelimited, &mut self.out);
                self.measured(|decoder| decoder.message(message, depth + 1))
            }
            // In a oneof, that a field is there says something by itself.
            _ => self.scalar(field, if field.oneof.is_some() { Defaults::Written } else { Defaults::LeftOut }),
        }
    }

    fn list(&mut self, field: &'static Field, depth: usize) -> Result<(), DecodeError> {
        let open = self.tokens.next()?;
        if open.kind != TokenKind::ArrayOpen {
            return Err(self.unexpected(&open));
        }
        while self.tokens.next_if(&TokenKind::ArrayClose)?.is_none() {
            match field.kind {
                Kind::Message(message) => {
                    encode_key(field.number, WireType::LengthDelimited, &mut self.out);
                    self.measured(|decoder| decoder.message(message, depth + 1))?;
                }
                _ => self.scalar(field, Defaults::Written)?,
            }
        }
        Ok(())
    }

    fn scalar(&mut self, field: &'static Field, defaults: Defaults) -> Result<(), DecodeError> {
        let token = self.tokens.next()?;
        let taken = match (field.kind, &token.kind) {
            (Kind::String, TokenKind::String(text)) => self.bytes(field, defaults, |out| {
                out.extend_from_slice(text.as_bytes());
                Some(())
            }),
            (Kind::Bytes, TokenKind::String(text)) => self.bytes(field, defaults, |out| base64::decode(out, text)),
            // A name that is unknown is passed over like a field that is.
            (Kind::Enum(values), TokenKind::String(name)) if values.number_of(name).is_none() => Some(()),
            (kind, token) => number(kind, token).map(|number| self.varint(field, number, defaults)),
        };
        taken.ok_or_else(|| DecodeError::InvalidValue {
            at: self.position(&token),
            kind: kind_name(field.kind),
            field: field.json_name,
            value: self.tokens.written(&token),
        })
    }

    fn varint(&mut self, field: &Field, value: u64, defaults: Defaults) {
        if value != 0 || defaults == Defaults::Written {
            encode_key(field.number, WireType::Varint, &mut self.out);
            encode_varint(value, &mut self.out);
        }
    }

    fn bytes(
        &mut self,
        field: &Field,
        defaults: Defaults,
        write: impl FnOnce(&mut Vec<u8>) -> Option<()>,
    ) -> Option<()> {
        let before = self.out.len();
        encode_key(field.number, WireType::LengthDelimited, &mut self.out);
        let start = self.out.len();
        self.measured(|decoder| write(&mut decoder.out).ok_or(())).ok()?;
        // Nothing but a length of zero.
        if self.out.len() == start + 1 && defaults == Defaults::LeftOut {
            self.out.truncate(before);
        }
        Some(())
    }

    /// Puts the length of what is written in front of it.
    fn measured<E>(&mut self, write: impl FnOnce(&mut Self) -> Result<(), E>) -> Result<(), E> {
        let start = self.out.len();
        write(self)?;
        let length = self.out.len() - start;
        encode_varint(length as u64, &mut self.out);
        let varint = self.out.len() - start - length;
        self.out[start..].rotate_right(varint);
        Ok(())
    }

    fn position(&self, token: &Token<'_>) -> Position {
        self.tokens.position(token.place.start)
    }

    fn unexpected(&self, token: &Token<'_>) -> DecodeError {
        DecodeError::UnexpectedToken { at: self.position(token), token: self.tokens.written(token) }
    }
}

/// What protobuf writes for a token of a kind that is written as a number.
fn number(kind: Kind, token: &TokenKind<'_>) -> Option<u64> {
    match (kind, token) {
        (Kind::Bool, TokenKind::Bool(value)) => Some(u64::from(*value)),
        (Kind::Int64, _) => integer::<i64>(token).map(i64::cast_unsigned),
        (Kind::Uint64, _) => integer(token),
        (Kind::Uint32, _) => integer::<u32>(token).map(u64::from),
        (Kind::Enum(values), TokenKind::String(name)) => values.number_of(name).map(widened),
        (Kind::Enum(_), TokenKind::Number(number)) => number::integer(number).map(widened),
        _ => None,
    }
}

/// A negative number has all ten bytes of a varint.
fn widened(number: i32) -> u64 {
    i64::from(number).cast_unsigned()
}

/// An integer as a number, or as a number in quotes, behind which anything may follow that ends it.
fn integer<N: TryFrom<i128>>(token: &TokenKind<'_>) -> Option<N> {
    match token {
        TokenKind::Number(number) => number::integer(number),
        TokenKind::String(text) if text.trim() == text => {
            let (number, rest) = text.split_at(leading_number(text.as_bytes()).len());
            let ends = rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n', ',', ']', '}', ':']);
            if ends && is_number(number) { number::integer(number) } else { None }
        }
        _ => None,
    }
}

/// Whether text is a number as JSON writes it.
fn is_number(text: &str) -> bool {
    let begins = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    // A number ends only by what follows it.
    begins && Scanner::new().scan([text, " "].concat().as_bytes()) == Ok(Found::End(text.len()))
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "bool",
        Kind::Int64 => "int64",
        Kind::Uint32 => "uint32",
        Kind::Uint64 => "uint64",
        Kind::String => "string",
        Kind::Bytes => "bytes",
        Kind::Enum(_) => "enum",
        Kind::Message(_) => "message",
    }
}

/// Why a JSON value is not the message that it should be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum DecodeError {
    /// The value ends in the middle of an escape.
    UnexpectedEnd,
    InvalidUtf8 {
        at: Position,
    },
    InvalidEscape {
        at: Position,
        /// As Go shows it.
        escape: String,
    },
    UnexpectedToken {
        at: Position,
        token: String,
    },
    InvalidValue {
        at: Position,
        kind: &'static str,
        field: &'static str,
        value: String,
    },
    DuplicateField {
        at: Position,
        name: String,
    },
    OneofIsSet {
        at: Position,
        name: String,
        oneof: &'static str,
    },
    TooDeep,
}

impl DecodeError {
    pub(super) fn invalid_escape(at: Position, escape: &[u8]) -> DecodeError {
        DecodeError::InvalidEscape { at, escape: quote::quoted(escape) }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnexpectedEnd => write!(out, "proto: unexpected EOF"),
            Self::TooDeep => write!(out, "proto: exceeded max recursion depth"),
            Self::InvalidUtf8 { at: (line, column) } => {
                write!(out, "proto: syntax error (line {line}:{column}): invalid UTF-8 in string")
            }
            Self::InvalidEscape { at: (line, column), escape } => {
                write!(out, "proto: syntax error (line {line}:{column}): invalid escape code {escape} in string")
            }
            Self::UnexpectedToken { at: (line, column), token } => {
                write!(out, "proto: syntax error (line {line}:{column}): unexpected token {token}")
            }
            Self::InvalidValue { at: (line, column), kind, field, value } => {
                write!(out, "proto: (line {line}:{column}): invalid value for {kind} field {field}: {value}")
            }
            Self::DuplicateField { at: (line, column), name } => {
                write!(out, "proto: (line {line}:{column}): duplicate field {name}")
            }
            Self::OneofIsSet { at: (line, column), name, oneof } => {
                write!(out, "proto: (line {line}:{column}): error parsing {name}, oneof {oneof} is already set")
            }
        }
    }
}

impl std::error::Error for DecodeError {}
