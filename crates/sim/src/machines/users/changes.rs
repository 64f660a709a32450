//! What commands have changed, plainly: which keys were put and which were deleted, in this order.
//!
//! Owns a set of the keys that there are, and nothing else of the store. Must not know of watches.

use std::collections::BTreeSet;

use bytes::Bytes;
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::response_op::Response;
use vlot_proto::etcdserverpb::{TxnRequest, TxnResponse};
use vlot_store::command::Command;
use vlot_store::store::{Applied, Store};

use super::model::is_in;
use super::range;

/// A key was put, or deleted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Change {
    pub key: Bytes,
    pub is_deletion: bool,
}

/// The keys that there are.
#[derive(Debug)]
pub(super) struct Keys(BTreeSet<Bytes>);

impl Keys {
    /// Those of a store.
    ///
    /// # Panics
    /// If the store cannot read them.
    pub fn of(store: &Store) -> Self {
        let all = store.range(&range(Bytes::from_static(b"\0"), Bytes::from_static(b"\0")));
        Self(all.expect("a store in memory can be read").kvs.into_iter().map(|kv| kv.key).collect())
    }

    /// What a command has changed that came to this. `on_lease` are the keys of the lease that it has ended, if it has.
    pub fn changed(&mut self, command: &Command, came_to: &Applied, on_lease: &[Bytes]) -> Vec<Change> {
        let plain = match command {
            Command::By { command, .. } => &**command,
            plain => plain,
        };
        match (plain, came_to) {
            (Command::Put(put), _) => vec![self.put(&put.key)],
            (Command::DeleteRange(delete), _) => self.deleted(&delete.key, &delete.range_end),
            (Command::Txn(txn), Applied::Txn(response)) => self.changed_in_txn(txn, response),
            (Command::LeaseRevoke(_), _) => on_lease.iter().flat_map(|key| self.deleted(key, &[])).collect(),
            _ => Vec::new(),
        }
    }

    fn changed_in_txn(&mut self, txn: &TxnRequest, response: &TxnResponse) -> Vec<Change> {
        let branch = if response.succeeded { &txn.success } else { &txn.failure };
        let mut all = Vec::new();
        for (op, came_to) in branch.iter().zip(&response.responses) {
            match (&op.request, &came_to.response) {
                (Some(Request::RequestPut(put)), _) => all.push(self.put(&put.key)),
                (Some(Request::RequestDeleteRange(delete)), _) => {
                    all.extend(self.deleted(&delete.key, &delete.range_end));
                }
                (Some(Request::RequestTxn(nested)), Some(Response::ResponseTxn(response))) => {
                    all.extend(self.changed_in_txn(nested, response));
                }
                _ => {}
            }
        }
        all
    }

    fn put(&mut self, key: &Bytes) -> Change {
        self.0.insert(key.clone());
        Change { key: key.clone(), is_deletion: false }
    }

    fn deleted(&mut self, start: &[u8], range_end: &[u8]) -> Vec<Change> {
        let gone: Vec<Bytes> = self.0.iter().filter(|key| is_in(key, start, range_end)).cloned().collect();
        gone.into_iter().map(|key| self.delete(key)).collect()
    }

    fn delete(&mut self, key: Bytes) -> Change {
        self.0.remove(&key);
        Change { key, is_deletion: true }
    }
}

/// The keys of the lease that a command is to end.
pub(super) fn on_lease(store: &Store, command: &Command) -> Vec<Bytes> {
    match command {
        Command::By { command, .. } => on_lease(store, command),
        Command::LeaseRevoke(revoke) => store.keys_on_lease(revoke.id, usize::MAX).unwrap_or_default(),
        _ => Vec::new(),
    }
}
