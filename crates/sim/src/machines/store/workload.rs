//! What clients ask for: operations drawn from a seed, on few keys, so that they get into each other's way.
//!
//! Owns the distributions, and what clients remember in order to ask for something sensible: comparisons that hold now and
//! then need versions that a client has seen. Each put writes a value of its own, which names its operation.

use std::collections::BTreeMap;

use bytes::Bytes;
use vlot_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use vlot_proto::etcdserverpb::range_request::SortOrder;
use vlot_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, request_op,
    response_op,
};
use vlot_proto::mvccpb::KeyValue;

use super::history::{OpId, Outcome, Reply, Request};
use crate::rng::Rng;

/// All keys that there are: two prefixes, and one key beside them.
const KEYS: [&str; 9] = ["a/0", "a/1", "a/2", "a/3", "b/0", "b/1", "b/2", "b/3", "c"];

/// Ranges of keys: each prefix, one across both, all from a key on, all, and one that holds nothing.
const RANGES: [(&str, &str); 6] =
    [("a/", "a0"), ("b/", "b0"), ("a/2", "b/2"), ("b/1", "\0"), ("\0", "\0"), ("b/1", "b/1")];

/// How far back clients look, in revisions.
const DEPTH: u64 = 60;

/// What clients remember.
#[derive(Clone, Debug, Default)]
pub struct Workload {
    /// The newest revision that any client has seen.
    newest: i64,
    /// Keys as they were last seen, somewhere.
    seen: BTreeMap<Bytes, KeyValue>,
    /// How many bytes values have at most, beside their names.
    value_bytes_max: u64,
    /// All reads are linearizable.
    no_local_reads: bool,
}

impl Workload {
    /// Clients that have seen nothing yet.
    #[must_use]
    pub fn new(value_bytes_max: u64) -> Self {
        Self { value_bytes_max, ..Self::default() }
    }

    /// No read is content with any state.
    #[must_use]
    pub fn without_local_reads(self) -> Self {
        Self { no_local_reads: true, ..self }
    }

    /// The newest revision that any client has seen.
    #[must_use]
    pub fn newest(&self) -> i64 {
        self.newest
    }

    /// What a client asks for next, under this name.
    #[must_use]
    pub fn draw(&self, op: OpId, rng: &mut Rng) -> Request {
        let mut drawing = Drawing { workload: self, op, values: 0 };
        match rng.below(200) {
            0..70 => Request::Put(drawing.put(rng)),
            70..84 => Request::DeleteRange(draw_delete(rng)),
            84..128 => Request::Txn(drawing.txn(rng, 0)),
            128..134 => Request::Txn(drawing.read_txn(rng)),
            134 => Request::Compact(CompactionRequest { revision: self.old_revision(rng), physical: false }),
            _ => Request::Range(self.draw_range(rng)),
        }
    }

    /// Remembers what a client was told.
    pub fn learn(&mut self, outcome: &Outcome) {
        let Outcome::Done(reply) = outcome else { return };
        self.newest = self.newest.max(reply.revision());
        match reply {
            Reply::Range(response) => response.kvs.iter().for_each(|kv| self.saw(kv)),
            Reply::Txn(response) => {
                for op in &response.responses {
                    if let Some(response_op::Response::ResponseRange(response)) = &op.response {
                        response.kvs.iter().for_each(|kv| self.saw(kv));
                    }
                }
            }
            Reply::Put(_) | Reply::DeleteRange(_) | Reply::Compact(_) => {}
        }
    }

    fn saw(&mut self, kv: &KeyValue) {
        let known = self.seen.entry(kv.key.clone()).or_default();
        if known.mod_revision < kv.mod_revision {
            *known = kv.clone();
        }
    }

    /// A revision of the past; rarely one that is long gone, or yet to come.
    fn old_revision(&self, rng: &mut Rng) -> i64 {
        match rng.below(20) {
            0 => 1 + rng.below(self.newest.max(1) as u64) as i64,
            1 => self.newest + 1 + rng.below(5) as i64,
            _ => (self.newest - rng.below(DEPTH) as i64).max(1),
        }
    }

    fn draw_range(&self, rng: &mut Rng) -> RangeRequest {
        let (key, range_end) = if rng.below(3) == 0 { (draw_key(rng), Bytes::new()) } else { draw_keys(rng) };
        let often_zero = |number: i64, rng: &mut Rng, of: u64| if rng.below(of) == 0 { number } else { 0 };
        let limit = 1 + rng.below(4) as i64;
        let (revision, recent) = (self.old_revision(rng), self.old_revision(rng));
        RangeRequest {
            key,
            range_end,
            limit: often_zero(limit, rng, 4),
            revision: often_zero(revision, rng, 3),
            sort_order: often_zero(SortOrder::Descend as i64, rng, 8) as i32,
            serializable: rng.below(4) == 0 && !self.no_local_reads,
            keys_only: rng.below(16) == 0,
            count_only: rng.below(16) == 0,
            min_mod_revision: often_zero(recent, rng, 16),
            ..Default::default()
        }
    }

    fn draw_compare(&self, rng: &mut Rng) -> Compare {
        let (key, range_end) = if rng.below(6) == 0 { draw_keys(rng) } else { (draw_key(rng), Bytes::new()) };
        let nothing = KeyValue::default();
        let seen = self.seen.get(&key).unwrap_or(&nothing);
        let (target, target_union) = match rng.below(5) {
            0 => (CompareTarget::Version, TargetUnion::Version(seen.version)),
            1 => (CompareTarget::Create, TargetUnion::CreateRevision(seen.create_revision)),
            2 => (CompareTarget::Value, TargetUnion::Value(seen.value.clone())),
            3 => (CompareTarget::Version, TargetUnion::Version(0)),
            _ => (CompareTarget::Mod, TargetUnion::ModRevision(seen.mod_revision)),
        };
        let result = match rng.below(8) {
            0 => CompareResult::Greater,
            1 => CompareResult::Less,
            2 => CompareResult::NotEqual,
            _ => CompareResult::Equal,
        };
        Compare { result: result as i32, target: target as i32, key, range_end, target_union: Some(target_union) }
    }
}

/// A request that is being drawn.
struct Drawing<'a> {
    workload: &'a Workload,
    op: OpId,
    /// How many values it has.
    values: u64,
}

impl Drawing<'_> {
    fn value(&mut self, rng: &mut Rng) -> Bytes {
        self.values += 1;
        value_of(self.op, self.values, rng.below(self.workload.value_bytes_max + 1) as usize)
    }

    fn put(&mut self, rng: &mut Rng) -> PutRequest {
        let (key, prev_kv) = (draw_key(rng), rng.below(3) == 0);
        if rng.below(32) == 0 {
            return PutRequest { key, prev_kv, ignore_value: true, ..Default::default() };
        }
        PutRequest { key, value: self.value(rng), prev_kv, ..Default::default() }
    }

    fn txn(&mut self, rng: &mut Rng, depth: u64) -> TxnRequest {
        let compare = (0..rng.below(3)).map(|_| self.workload.draw_compare(rng)).collect();
        TxnRequest { compare, success: self.ops(rng, depth), failure: self.ops(rng, depth) }
    }

    /// Operations that do not get into each other's way; rarely ones that do, and then the transaction is refused.
    fn ops(&mut self, rng: &mut Rng, depth: u64) -> Vec<RequestOp> {
        let mut ops = Vec::new();
        for _ in 0..rng.below(4) {
            let request = match rng.below(10) {
                0..4 => request_op::Request::RequestPut(self.put(rng)),
                4..6 => request_op::Request::RequestDeleteRange(draw_delete(rng)),
                6 if depth < 2 => request_op::Request::RequestTxn(self.txn(rng, depth + 1)),
                _ => {
                    let mut range = self.workload.draw_range(rng);
                    range.revision = if rng.below(4) == 0 { range.revision } else { 0 };
                    request_op::Request::RequestRange(range)
                }
            };
            ops.push(RequestOp { request: Some(request) });
        }
        // Most transactions should get as far as doing something.
        let twice = TxnRequest { success: ops, ..Default::default() };
        if vlot_store::check::check_txn(&twice, usize::MAX).is_err() && rng.below(16) > 0 {
            return twice.success.into_iter().take(1).filter(|op| !is_nested(op)).collect();
        }
        twice.success
    }

    fn read_txn(&mut self, rng: &mut Rng) -> TxnRequest {
        let compare = (0..rng.below(3)).map(|_| self.workload.draw_compare(rng)).collect();
        let is_serializable = rng.below(4) == 0 && !self.workload.no_local_reads;
        let mut ranges = || {
            let count = rng.below(3);
            let range = |_| RangeRequest { serializable: is_serializable, ..self.workload.draw_range(rng) };
            let ranges = (0..count).map(range).map(request_op::Request::RequestRange);
            ranges.map(|request| RequestOp { request: Some(request) }).collect()
        };
        TxnRequest { compare, success: ranges(), failure: ranges() }
    }
}

fn is_nested(op: &RequestOp) -> bool {
    matches!(op.request, Some(request_op::Request::RequestTxn(_)))
}

fn draw_key(rng: &mut Rng) -> Bytes {
    // The first keys are the hottest.
    let upto = 1 + rng.below(KEYS.len() as u64);
    KEYS[rng.below(upto) as usize].into()
}

/// A range of keys.
pub(super) fn draw_keys(rng: &mut Rng) -> (Bytes, Bytes) {
    let (key, range_end) = rng.pick(&RANGES);
    (key.into(), range_end.into())
}

/// A key, or a range of keys that is not empty.
pub(super) fn draw_watched(rng: &mut Rng) -> (Bytes, Bytes) {
    if rng.coin() {
        return (draw_key(rng), Bytes::new());
    }
    let (key, range_end) = rng.pick(&RANGES[..RANGES.len() - 1]);
    (key.into(), range_end.into())
}

fn draw_delete(rng: &mut Rng) -> DeleteRangeRequest {
    let (key, range_end) = if rng.below(4) == 0 { draw_keys(rng) } else { (draw_key(rng), Bytes::new()) };
    DeleteRangeRequest { key, range_end, prev_kv: rng.below(3) == 0 }
}

/// The `n`th value of an operation, with so many bytes of padding.
fn value_of(op: OpId, n: u64, padding: usize) -> Bytes {
    format!("{}.{n}.{}", op.0, "x".repeat(padding)).into()
}

/// The operation that wrote a value.
#[must_use]
pub fn op_of_value(value: &[u8]) -> Option<OpId> {
    let (op, _) = std::str::from_utf8(value).ok()?.split_once('.')?;
    op.parse().ok().map(OpId)
}

#[cfg(test)]
mod tests {
    use super::super::history::{Way, op_of};
    use super::*;

    #[test]
    fn values_and_commands_name_their_operation() {
        assert_eq!(op_of_value(&value_of(OpId(17), 2, 5)), Some(OpId(17)));
        assert_eq!(op_of_value(b"foreign"), None);
        let workload = Workload::new(10);
        let mut rng = Rng::new(1, 1);
        let mut proposed = 0;
        for op in (0..200).map(OpId) {
            let request = workload.draw(op, &mut rng);
            if let Way::Propose(command) = request.way(op) {
                proposed += 1;
                assert_eq!(op_of(&command), Some(op));
                let decoded = vlot_store::command::Command::decode(command).unwrap();
                use vlot_store::command::Command;
                let is_same = match (decoded, request) {
                    (Command::Put(left), Request::Put(right)) => left == right,
                    (Command::DeleteRange(left), Request::DeleteRange(right)) => left == right,
                    (Command::Txn(left), Request::Txn(right)) => left == right,
                    (Command::Compact(left), Request::Compact(right)) => left == right,
                    _ => false,
                };
                assert!(is_same);
            }
        }
        assert!((80..180).contains(&proposed), "{proposed}");
    }

    #[test]
    fn a_seed_draws_the_same() {
        let draw = || {
            let (workload, mut rng) = (Workload::new(10), Rng::new(3, 1));
            (0..50).map(|op| workload.draw(OpId(op), &mut rng)).collect::<Vec<_>>()
        };
        assert_eq!(draw(), draw());
    }
}
