//! Which commands are applied in a few microseconds, whatever the state of the disk.
//!
//! Owns the bounds that make it certain. It answers from memory alone and changes nothing.

use vlot_proto::etcdserverpb::compare::CompareTarget;
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest, TxnResponse};

use crate::command::Command;
use crate::refusal::Refusal;
use crate::store::Store;

/// A transaction has at most so many comparisons and operations, all branches together.
const OPS_MAX: usize = 16;
/// A command brings, and what it looks at has, at most so many bytes of values.
const BYTES_MAX: usize = 32 << 10;
/// A command renews or ends at most so many leases.
const LEASES_MAX: usize = 64;

impl Store {
    /// Whether applying this command now, and ending the batch after it, is certain to take a few microseconds: it touches
    /// few keys, each by name, reads nothing from the engine, and there is room towards the engine. False means "not
    /// certain". What watches are told at the end of the batch comes on top.
    #[must_use]
    pub fn is_prompt(&self, command: &Command) -> bool {
        let mut effort = Effort { ops: 0, bytes: 0 };
        let is_bounded = match command.plain() {
            Command::Put(put) => self.is_prompt_put(put, &mut effort),
            Command::DeleteRange(delete) => self.is_prompt_delete(delete, &mut effort),
            Command::Txn(txn) => self.is_prompt_txn(txn, &mut effort),
            Command::Compact(_) | Command::Alarm(_) => true,
            // All users may have a role, and all watches may end.
            Command::Auth(_) => false,
            // What is plain has no asker.
            Command::By { .. } => false,
            // A new one counts what there is.
            Command::SetQuota(request) => self.quotas.contains(&request.prefix),
            Command::RemoveQuota(_) => true,
            Command::SetAttribute { value, .. } => effort.is_within(value.len()),
            Command::LeaseGrant(_) => true,
            Command::LeaseRevoke(revoke) => self.leases.keys_on(revoke.id) <= OPS_MAX,
            Command::LeaseKeepAlive(ids) => ids.len() <= LEASES_MAX,
            Command::LeaseTime(time) => {
                let keys: usize = time.ended.iter().map(|(id, _)| self.leases.keys_on(*id)).sum();
                time.ended.len() + self.leases.waiting() <= LEASES_MAX && keys <= OPS_MAX
            }
        };
        is_bounded && self.backlog.has_room()
    }

    /// As [`Store::read_txn`] if it touches few keys, each by name, and all of it is in memory. Otherwise None; the answer
    /// is then had from a [`View`](crate::view::View).
    ///
    /// # Errors
    /// As [`Store::read_txn`].
    pub fn read_txn_small(&self, request: &TxnRequest) -> Result<Option<TxnResponse>, Refusal> {
        let is_small = self.is_prompt_txn(request, &mut Effort { ops: 0, bytes: 0 });
        is_small.then(|| self.read_txn(request)).transpose()
    }

    fn is_prompt_put(&self, put: &PutRequest, effort: &mut Effort) -> bool {
        let reads = put.prev_kv || put.ignore_value;
        effort.is_within(put.value.len()) && (!reads || self.is_in_memory(&put.key, effort))
    }

    fn is_prompt_delete(&self, delete: &DeleteRangeRequest, effort: &mut Effort) -> bool {
        delete.range_end.is_empty()
            && effort.is_within(0)
            && (!delete.prev_kv || self.is_in_memory(&delete.key, effort))
    }

    fn is_prompt_range(&self, range: &RangeRequest, effort: &mut Effort) -> bool {
        // An old version may be anywhere.
        range.range_end.is_empty()
            && range.revision <= 0
            && effort.is_within(0)
            && (range.keys_only || range.count_only || self.is_in_memory(&range.key, effort))
    }

    fn is_prompt_txn(&self, txn: &TxnRequest, effort: &mut Effort) -> bool {
        let compares = txn.compare.iter().all(|compare| {
            compare.range_end.is_empty()
                && effort.is_within(0)
                && (compare.target != CompareTarget::Value as i32 || self.is_in_memory(&compare.key, effort))
        });
        compares
            && txn.success.iter().chain(&txn.failure).all(|operation| match &operation.request {
                Some(Request::RequestPut(put)) => self.is_prompt_put(put, effort),
                Some(Request::RequestDeleteRange(delete)) => self.is_prompt_delete(delete, effort),
                Some(Request::RequestRange(range)) => self.is_prompt_range(range, effort),
                Some(Request::RequestTxn(nested)) => effort.is_within(0) && self.is_prompt_txn(nested, effort),
                None => true,
            })
    }

    /// Whether the newest value of a key, if there is one, can be had from memory.
    fn is_in_memory(&self, key: &[u8], effort: &mut Effort) -> bool {
        let newest = self.now.index.newest(key);
        newest.is_none_or(|version| {
            effort.bytes += version.value_bytes as usize;
            effort.bytes <= BYTES_MAX && self.reader().has_in_memory(version)
        })
    }
}

/// What a command has been found to take so far.
struct Effort {
    ops: usize,
    bytes: usize,
}

impl Effort {
    /// Adds an operation that brings so many bytes.
    fn is_within(&mut self, bytes: usize) -> bool {
        self.ops += 1;
        self.bytes += bytes;
        self.ops <= OPS_MAX && self.bytes <= BYTES_MAX
    }
}
