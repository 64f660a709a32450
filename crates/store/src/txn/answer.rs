//! A long answer to a transaction that only reads, in slices.
//!
//! Owns the bytes of a `TxnResponse` around the answers to its ranges, which come in slices themselves.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::{ResponseHeader, TxnRequest, TxnResponse};

use super::branch::Path;
use crate::mvcc::answer::RangeAnswer;
use crate::mvcc::view::View;
use crate::refusal::Refusal;

/// `TxnResponse.responses`.
const RESPONSES: u32 = 3;
/// The fields of `ResponseOp`, as far as a transaction that only reads has them.
const RESPONSE_RANGE: u32 = 1;
const RESPONSE_TXN: u32 = 4;

/// The answer to a transaction that has only ranges in it, encoded piece by piece: together the pieces are the bytes of
/// the `TxnResponse`.
#[derive(Debug, Default)]
pub struct TxnAnswer {
    encoded_len: usize,
    parts: VecDeque<Part>,
}

#[derive(Debug)]
enum Part {
    /// What stands around the ranges.
    Frame(Vec<u8>),
    Range(Box<RangeAnswer>),
}

impl View {
    /// Begins an answer to a transaction that may be long. `header` comes from the server; its revision is set here.
    ///
    /// # Errors
    /// As [`View::read_txn`].
    pub fn answer_txn(&self, request: &TxnRequest, header: ResponseHeader) -> Result<TxnAnswer, Refusal> {
        let path = self.reader().reading_path(request)?;
        let header = ResponseHeader { revision: self.revision(), ..header };
        let mut answer = TxnAnswer::default();
        answer.add(self, request, &path, header)?;
        Ok(answer)
    }
}

impl TxnAnswer {
    /// Adds the branch that a transaction takes.
    fn add(&mut self, view: &View, request: &TxnRequest, path: &Path, header: ResponseHeader) -> Result<(), Refusal> {
        let head = TxnResponse { header: Some(header), succeeded: path.succeeded, responses: Vec::new() };
        self.push(Part::Frame(head.encode_to_vec()));
        let mut nested = path.nested.iter();
        for op in path.branch(request) {
            let mut response = Self::default();
            let tag = match &op.request {
                Some(Request::RequestRange(range)) => {
                    let newest = view.revision();
                    let at = if range.revision > 0 { range.revision } else { newest };
                    let header = ResponseHeader { revision: newest, ..Default::default() };
                    response.push(Part::Range(Box::new(RangeAnswer::begin(view, range, at, header)?)));
                    RESPONSE_RANGE
                }
                Some(Request::RequestTxn(txn)) => {
                    let path = nested.next().expect("the path has one place for each nested transaction");
                    response.add(view, txn, path, ResponseHeader::default())?;
                    RESPONSE_TXN
                }
                _ => return Err(Refusal::DuplicateKey),
            };
            self.push(Part::Frame(op_head(tag, response.encoded_len)));
            response.parts.into_iter().for_each(|part| self.push(part));
        }
        Ok(())
    }

    fn push(&mut self, part: Part) {
        self.encoded_len += match &part {
            Part::Frame(bytes) => bytes.len(),
            Part::Range(range) => range.encoded_len(),
        };
        self.parts.push_back(part);
    }

    /// How many bytes all slices have together.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.encoded_len
    }

    /// The next bytes of the answer: about `bytes_max` at most, or one key and value if these are more. None at the end.
    ///
    /// # Errors
    /// `Unreadable`: the answer cannot be completed.
    pub fn next_slice(&mut self, bytes_max: usize) -> Result<Option<Bytes>, Refusal> {
        let mut slice = BytesMut::new();
        while slice.len() < bytes_max.max(1) {
            let more = match self.parts.front_mut() {
                None => break,
                Some(Part::Frame(bytes)) => {
                    slice.extend_from_slice(bytes);
                    None
                }
                Some(Part::Range(range)) => range.next_slice(bytes_max - slice.len().min(bytes_max))?,
            };
            match more {
                Some(piece) => slice.extend_from_slice(&piece),
                None => drop(self.parts.pop_front()),
            }
        }
        Ok((!slice.is_empty()).then(|| slice.freeze()))
    }
}

/// What stands in front of one response of so many bytes.
fn op_head(tag: u32, response_len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let op_len = key_len(tag) + encoded_len_varint(response_len as u64) + response_len;
    encode_key(RESPONSES, WireType::LengthDelimited, &mut bytes);
    encode_varint(op_len as u64, &mut bytes);
    encode_key(tag, WireType::LengthDelimited, &mut bytes);
    encode_varint(response_len as u64, &mut bytes);
    bytes
}
