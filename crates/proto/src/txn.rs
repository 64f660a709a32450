//! How a transaction is decoded, whose operations may be transactions themselves.
//!
//! Owns how deep they may be nested, which is the same wherever one is read: at the edge before it is proposed, and out of
//! the log. The generated decoder gives up at fifty, and uses the stack for each. This one keeps its place in a list.

use std::fmt;

use bytes::Bytes;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost::{DecodeError, Message};

use crate::etcdserverpb::request_op::Request;
use crate::etcdserverpb::{Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};

/// How many transactions may be one within the other, the outermost included. Each level takes one of the operations that
/// a transaction may have, of which etcd allows 128 by default. What is done with a transaction takes some stack for each
/// level.
pub const DEPTH_MAX: usize = 256;

/// The fields of `TxnRequest`.
const COMPARE: u32 = 1;
const SUCCESS: u32 = 2;
const FAILURE: u32 = 3;
/// The fields of `RequestOp`.
const REQUEST_RANGE: u32 = 1;
const REQUEST_PUT: u32 = 2;
const REQUEST_DELETE_RANGE: u32 = 3;
const REQUEST_TXN: u32 = 4;

/// Decodes a transaction. Keys and values are slices of `bytes`.
///
/// # Errors
/// The bytes are no transaction, or too many are nested.
pub fn decode(bytes: Bytes) -> Result<TxnRequest, BadTxn> {
    let mut outer: Vec<Level> = Vec::new();
    let mut level = Level { open: Open::Txn(TxnRequest::default()), rest: bytes };
    let mut depth = 1;
    loop {
        if level.rest.is_empty() {
            let Some(around) = outer.pop() else {
                let Open::Txn(txn) = level.open else { unreachable!("the outermost is a transaction") };
                return Ok(txn);
            };
            depth -= usize::from(matches!(level.open, Open::Txn(_)));
            let within = std::mem::replace(&mut level, around);
            level.open.add(within.open);
            continue;
        }
        if let Some(within) = level.next()? {
            depth += usize::from(matches!(within.open, Open::Txn(_)));
            if depth > DEPTH_MAX {
                return Err(BadTxn::TooDeep);
            }
            outer.push(std::mem::replace(&mut level, within));
        }
    }
}

/// A message that is being read, and what is still to be read of it.
struct Level {
    open: Open,
    rest: Bytes,
}

/// What has been read of one. They take turns: a transaction has operations, an operation may have a transaction.
enum Open {
    Txn(TxnRequest),
    Op { op: RequestOp, succeeds: bool },
}

impl Level {
    /// Reads one field. Returns the message that is to be read before the next one.
    fn next(&mut self) -> Result<Option<Level>, BadTxn> {
        let (tag, wire_type) = decode_key(&mut self.rest)?;
        let is_known = match self.open {
            Open::Txn(_) => matches!(tag, COMPARE..=FAILURE),
            Open::Op { .. } => matches!(tag, REQUEST_RANGE..=REQUEST_TXN),
        };
        if !is_known {
            skip_field(wire_type, tag, &mut self.rest, DecodeContext::default())?;
            return Ok(None);
        }
        if wire_type != WireType::LengthDelimited {
            return Err(BadTxn::WireType { tag });
        }
        let length = decode_varint(&mut self.rest)?;
        let length =
            usize::try_from(length).ok().filter(|length| *length <= self.rest.len()).ok_or(BadTxn::CutShort)?;
        let message = self.rest.split_to(length);
        let op = |succeeds| Open::Op { op: RequestOp::default(), succeeds };
        let open = match (&mut self.open, tag) {
            (Open::Txn(txn), COMPARE) => {
                txn.compare.push(Compare::decode(message)?);
                return Ok(None);
            }
            (Open::Txn(_), tag) => op(tag == SUCCESS),
            (Open::Op { .. }, REQUEST_TXN) => Open::Txn(TxnRequest::default()),
            (Open::Op { op, .. }, tag) => {
                merge(&mut op.request, tag, message)?;
                return Ok(None);
            }
        };
        Ok(Some(Level { open, rest: message }))
    }
}

impl Open {
    /// Adds what was read within it.
    fn add(&mut self, within: Open) {
        match (self, within) {
            (Open::Txn(txn), Open::Op { op, succeeds: true }) => txn.success.push(op),
            (Open::Txn(txn), Open::Op { op, succeeds: false }) => txn.failure.push(op),
            (Open::Op { op: RequestOp { request: Some(Request::RequestTxn(txn)) }, .. }, Open::Txn(more)) => {
                // Of a message that comes twice, the lists follow each other.
                txn.compare.extend(more.compare);
                txn.success.extend(more.success);
                txn.failure.extend(more.failure);
            }
            (Open::Op { op, .. }, Open::Txn(txn)) => op.request = Some(Request::RequestTxn(txn)),
            (Open::Op { .. }, Open::Op { .. }) | (Open::Txn(_), Open::Txn(_)) => unreachable!("they take turns"),
        }
    }
}

/// Reads what an operation asks. What comes twice is merged, what comes instead of another replaces it.
fn merge(request: &mut Option<Request>, tag: u32, message: Bytes) -> Result<(), DecodeError> {
    match (request, tag) {
        (Some(Request::RequestRange(range)), REQUEST_RANGE) => range.merge(message)?,
        (Some(Request::RequestPut(put)), REQUEST_PUT) => put.merge(message)?,
        (Some(Request::RequestDeleteRange(delete)), REQUEST_DELETE_RANGE) => delete.merge(message)?,
        (request, REQUEST_RANGE) => *request = Some(Request::RequestRange(RangeRequest::decode(message)?)),
        (request, REQUEST_PUT) => *request = Some(Request::RequestPut(PutRequest::decode(message)?)),
        (request, _) => *request = Some(Request::RequestDeleteRange(DeleteRangeRequest::decode(message)?)),
    }
    Ok(())
}

/// Why bytes are no transaction.
#[derive(Clone, Debug, PartialEq)]
pub enum BadTxn {
    /// Something that is not nested is malformed.
    Malformed(DecodeError),
    /// A field has another form than its number says.
    WireType {
        /// Its number.
        tag: u32,
    },
    /// A message ends before it says.
    CutShort,
    /// More than [`DEPTH_MAX`] are nested.
    TooDeep,
}

impl fmt::Display for BadTxn {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => error.fmt(out),
            Self::WireType { tag } => write!(out, "field {tag} of a transaction is not a message"),
            Self::CutShort => out.write_str("unexpected EOF"),
            Self::TooDeep => write!(out, "more than {DEPTH_MAX} transactions are nested"),
        }
    }
}

impl std::error::Error for BadTxn {}

impl From<DecodeError> for BadTxn {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(request: Request) -> RequestOp {
        RequestOp { request: Some(request) }
    }

    /// Transactions one in the other.
    fn nested(depth: usize) -> TxnRequest {
        let put = PutRequest { key: "key".into(), value: "value".into(), ..Default::default() };
        let innermost = TxnRequest { success: vec![op(Request::RequestPut(put))], ..Default::default() };
        (1..depth).fold(innermost, |txn, level| {
            let ops = vec![op(Request::RequestTxn(txn)), op(Request::RequestRange(RangeRequest::default()))];
            match level % 2 {
                0 => TxnRequest { failure: ops, ..Default::default() },
                _ => TxnRequest { compare: vec![Compare::default(); 2], success: ops, ..Default::default() },
            }
        })
    }

    /// The bytes of so many nested transactions, of any number.
    fn bytes_nested(depth: usize) -> Bytes {
        // From the inside out, backwards: each is two messages with a length.
        let mut reversed: Vec<u8> = Vec::new();
        for _ in 1..depth {
            for tag in [REQUEST_TXN, SUCCESS] {
                let mut head = Vec::new();
                prost::encoding::encode_key(tag, WireType::LengthDelimited, &mut head);
                prost::encoding::encode_varint(reversed.len() as u64, &mut head);
                reversed.extend(head.iter().rev());
            }
        }
        reversed.reverse();
        reversed.into()
    }

    #[test]
    fn a_transaction_is_what_the_generated_decoder_makes_of_it() {
        let delete = || op(Request::RequestDeleteRange(DeleteRangeRequest { key: "d".into(), ..Default::default() }));
        let mixed = TxnRequest {
            compare: vec![Compare { key: "c".into(), ..Default::default() }],
            success: vec![delete(), RequestOp::default(), op(Request::RequestTxn(nested(3)))],
            failure: vec![op(Request::RequestTxn(TxnRequest::default())), delete()],
        };
        for txn in [TxnRequest::default(), nested(1), nested(2), nested(20), mixed] {
            assert_eq!(decode(txn.encode_to_vec().into()), Ok(txn));
        }
    }

    #[test]
    fn whatever_bytes_come_both_decoders_say_the_same() {
        let good = nested(4).encode_to_vec();
        let mut state = 7_u64;
        let mut number = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let (mut same, mut bad) = (0, 0);
        for _ in 0..50_000 {
            let mut bytes = good.clone();
            for _ in 0..=number(3) {
                match number(4) {
                    0 => bytes.truncate(number(bytes.len() + 1)),
                    1 => bytes.insert(number(bytes.len() + 1), number(256) as u8),
                    2 if !bytes.is_empty() => drop(bytes.remove(number(bytes.len()))),
                    _ if !bytes.is_empty() => {
                        let place = number(bytes.len());
                        // Numbers of fields, and lengths, are small.
                        bytes[place] = if number(2) == 0 { number(64) as u8 } else { number(256) as u8 };
                    }
                    _ => {}
                }
            }
            let bytes = Bytes::from(bytes);
            match (decode(bytes.clone()), TxnRequest::decode(bytes.clone())) {
                (Ok(ours), Ok(theirs)) => {
                    assert_eq!(ours, theirs, "{bytes:?}");
                    same += 1;
                }
                (ours, theirs) => {
                    assert!(ours.is_err() && theirs.is_err(), "{bytes:?}: {ours:?}, {theirs:?}");
                    bad += 1;
                }
            }
        }
        assert!(same > 1000 && bad > 1000, "{same} good, {bad} bad");
    }

    #[test]
    fn what_comes_twice_is_merged() {
        let one = nested(2).encode_to_vec();
        let twice: Bytes = [one.clone(), one].concat().into();
        assert_eq!(decode(twice.clone()).ok(), TxnRequest::decode(twice).ok());
    }

    #[test]
    fn the_depth_is_bounded_and_no_stack_needed_to_find_out() {
        let run = || {
            assert!(decode(bytes_nested(DEPTH_MAX)).is_ok());
            for depth in [DEPTH_MAX + 1, 10_000, 1_000_000] {
                assert_eq!(decode(bytes_nested(depth)), Err(BadTxn::TooDeep));
            }
            let deep = nested(DEPTH_MAX);
            assert_eq!(decode(deep.encode_to_vec().into()), Ok(deep));
        };
        // A quarter of what a thread has by default.
        std::thread::Builder::new().stack_size(512 << 10).spawn(run).unwrap().join().unwrap();
    }

    #[test]
    fn keys_and_values_are_slices_of_the_bytes() {
        let bytes: Bytes = nested(3).encode_to_vec().into();
        let mut txn = decode(bytes.clone()).unwrap();
        loop {
            let op = txn.success.into_iter().chain(txn.failure).next().unwrap();
            match op.request.unwrap() {
                Request::RequestTxn(within) => txn = within,
                Request::RequestPut(put) => {
                    let whole = bytes.as_ptr_range();
                    assert!(whole.contains(&put.key.as_ptr()) && whole.contains(&put.value.as_ptr()));
                    return;
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
