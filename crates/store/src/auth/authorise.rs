//! Whether a caller may do what is asked: one recursive function over the decoded request.
//!
//! Owns what each kind of request needs, at any depth of a transaction. Commands are held against it when they are applied,
//! reads in the same look at the store that answers them. It changes nothing and answers the same on every member. When
//! authentication is off it looks at nothing.

use bytes::Bytes;
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest,
};

use super::{Asker, Auth, Caller, User};
use crate::command::Command;
use crate::lease::Leases;
use crate::mvcc::key_range::KeyRange;
use crate::refusal::Refusal;
use crate::store::Store;
use crate::watch;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub enum Asked<'a> {
    /// To read keys.
    Range(&'a RangeRequest),
    /// To write a key.
    Put(&'a PutRequest),
    /// To delete keys.
    DeleteRange(&'a DeleteRangeRequest),
    /// All that a transaction has, whichever branch it takes.
    Txn(&'a TxnRequest),
    /// To hear of what happens to keys.
    Watch(&'a WatchCreateRequest),
    /// To end a lease, and with it its keys.
    RevokeLease(i64),
    /// To renew a lease. It does not matter when the caller was found out to be who it is.
    RenewLease(i64),
    /// To be told of the keys on a lease.
    KeysOnLease(i64),
    /// To be told of so many leases whose ids are greater: as in etcd, who may not read the keys on each of them is told
    /// of none.
    Leases {
        /// The id before the first.
        after: Option<i64>,
        /// How many.
        count: usize,
    },
    /// To be told of a user.
    User(&'a str),
    /// To be told of a role.
    Role(&'a str),
    /// What is root's alone.
    Administer,
    /// What every user may do.
    Anything,
}

impl Store {
    /// Whether a caller may do this; `None` is a client that has not said who it is.
    ///
    /// # Errors
    /// `UserEmpty`, `AuthOldRevision`, `UserNotFound` or `PermissionDenied`.
    pub fn authorise(&self, caller: Option<&Caller>, asked: Asked<'_>) -> Result<(), Refusal> {
        if !self.auth.is_enabled() {
            return Ok(());
        }
        self.auth.check(caller.ok_or(Refusal::UserEmpty)?, asked, &self.leases)
    }

    /// As [`Store::authorise`], for a part of a call that goes on for long: who it was then is asked now.
    ///
    /// # Errors
    /// As [`Store::authorise`], or `InvalidAuthToken` if what vouched for the caller counts no more.
    pub fn authorise_again(&self, caller: Option<&Caller>, asked: Asked<'_>) -> Result<(), Refusal> {
        match caller.filter(|_| self.auth.is_enabled()) {
            Some(caller) => self.authorise(Some(&self.auth.renewed(caller)?), asked),
            None => self.authorise(None, asked),
        }
    }

    /// Whether a command may be carried out that was proposed on somebody's behalf; on nobody's if a client has not said
    /// who it is.
    pub(crate) fn permit(&self, asker: Option<&Asker>, command: &Command) -> Result<(), Refusal> {
        if !self.auth.is_enabled() || asker == Some(&Asker::Server) {
            return Ok(());
        }
        let asked = match command {
            Command::Put(request) => Asked::Put(request),
            Command::DeleteRange(request) => Asked::DeleteRange(request),
            Command::Txn(request) => Asked::Txn(request),
            Command::LeaseRevoke(request) => Asked::RevokeLease(request.id),
            Command::Compact(_) | Command::Alarm(_) | Command::Auth(_) => Asked::Administer,
            Command::SetQuota(_) | Command::RemoveQuota(_) => Asked::Administer,
            // Each lease is looked at by itself.
            Command::LeaseGrant(_) | Command::LeaseKeepAlive(_) => Asked::Anything,
            // What members tell each other, unless it says that a client is behind it.
            Command::LeaseTime(_) | Command::SetAttribute { .. } if asker.is_none() => return Ok(()),
            Command::LeaseTime(_) | Command::SetAttribute { .. } => Asked::Administer,
            Command::By { .. } => return Err(Refusal::PermissionDenied),
        };
        let caller = match asker {
            Some(Asker::Client(caller)) => Some(caller),
            _ => None,
        };
        self.authorise(caller, asked)
    }
}

impl Auth {
    fn check(&self, caller: &Caller, asked: Asked<'_>, leases: &Leases) -> Result<(), Refusal> {
        if caller.user.is_empty() {
            return Err(Refusal::UserEmpty);
        }
        let user = self.user(&caller.user);
        if user.is_some_and(|user| caller.revision < user.generation()) {
            // It is another one of this name, or has another password.
            return Err(Refusal::AuthOldRevision);
        }
        let is_root = user.is_some_and(User::is_root);
        match asked {
            Asked::Anything => user.map(drop).ok_or(Refusal::PermissionDenied),
            Asked::Administer => user.ok_or(Refusal::UserNotFound).and_then(|_| permitted(is_root)),
            Asked::User(name) => permitted(is_root || (user.is_some() && *name == *caller.user)),
            Asked::Role(name) => permitted(is_root || user.is_some_and(|user| user.has_role(name))),
            of_keys => {
                // What the caller knew when it asked may be what is permitted no more.
                if caller.revision < self.revision() && !matches!(of_keys, Asked::RenewLease(_)) {
                    return Err(Refusal::AuthOldRevision);
                }
                let user = user.ok_or(Refusal::PermissionDenied)?;
                if is_root { Ok(()) } else { permitted(Rights { user, auth: self, leases }.include(of_keys)) }
            }
        }
    }
}

impl Auth {
    /// Whether what every user may do is permitted to a client, or what is root's alone.
    ///
    /// # Errors
    /// As [`Store::authorise`].
    pub fn admit(&self, caller: Option<&Caller>, as_root: bool) -> Result<(), Refusal> {
        if !self.is_enabled() {
            return Ok(());
        }
        let asked = if as_root { Asked::Administer } else { Asked::Anything };
        self.check(caller.ok_or(Refusal::UserEmpty)?, asked, &Leases::default())
    }

    /// Whether a client may begin to watch these keys.
    pub(crate) fn admits_watch(&self, caller: Option<&Caller>, range: &KeyRange) -> Result<(), Refusal> {
        let caller = caller.filter(|caller| !caller.user.is_empty());
        if self.is_enabled() && caller.is_some_and(|caller| caller.revision < self.revision()) {
            return Err(Refusal::AuthOldRevision);
        }
        self.lets_watch(caller.map(|caller| &*caller.user), range)
    }

    /// Whether a watch that was begun goes on: whose it is may still read all of its keys.
    pub(crate) fn lets_watch(&self, user: Option<&str>, range: &KeyRange) -> Result<(), Refusal> {
        if !self.is_enabled() {
            return Ok(());
        }
        let user = user.ok_or(Refusal::UserEmpty)?;
        let may_read = |user: &User| user.is_root() || self.permits(user).read.cover(range);
        permitted(self.user(user).is_some_and(may_read))
    }
}

fn permitted(is_permitted: bool) -> Result<(), Refusal> {
    if is_permitted { Ok(()) } else { Err(Refusal::PermissionDenied) }
}

/// What a user who is not root may do with keys.
struct Rights<'a> {
    user: &'a User,
    auth: &'a Auth,
    leases: &'a Leases,
}

impl Rights<'_> {
    /// Whether all that a request may do is within them, in both branches of a transaction and at any depth.
    fn include(&self, asked: Asked<'_>) -> bool {
        match asked {
            Asked::Range(range) => self.may_read(&range.key, &range.range_end),
            Asked::Put(put) => self.may_put(put),
            Asked::DeleteRange(delete) => self.may_delete(delete),
            Asked::Txn(txn) => {
                let compares = txn.compare.iter().all(|compare| self.may_read(&compare.key, &compare.range_end));
                compares && txn.success.iter().chain(&txn.failure).all(|op| self.may_do(op))
            }
            Asked::Watch(watch) => self.auth.permits(self.user).read.cover(&watch::range_of(watch)),
            Asked::RevokeLease(id) | Asked::RenewLease(id) => self.may_change(id),
            Asked::KeysOnLease(id) => self.leases.keys_are_within(id, &self.auth.permits(self.user).read),
            Asked::Leases { after, count } => {
                let read = &self.auth.permits(self.user).read;
                self.leases.after(after).take(count).all(|lease| self.leases.keys_are_within(lease.id, read))
            }
            Asked::User(_) | Asked::Role(_) | Asked::Administer | Asked::Anything => false,
        }
    }

    fn may_do(&self, op: &RequestOp) -> bool {
        match &op.request {
            Some(Request::RequestRange(range)) => self.include(Asked::Range(range)),
            Some(Request::RequestPut(put)) => self.include(Asked::Put(put)),
            Some(Request::RequestDeleteRange(delete)) => self.include(Asked::DeleteRange(delete)),
            Some(Request::RequestTxn(nested)) => self.include(Asked::Txn(nested)),
            // It does nothing, and is refused for that.
            None => true,
        }
    }

    /// A put shows what was there if asked to, and puts the key on a lease, which the user may end only if all keys on it
    /// may be written.
    fn may_put(&self, put: &PutRequest) -> bool {
        let may_write = self.auth.permits(self.user).write.has(&put.key);
        may_write && self.may_change(put.lease) && (!put.prev_kv || self.may_read(&put.key, &Bytes::new()))
    }

    fn may_delete(&self, delete: &DeleteRangeRequest) -> bool {
        let DeleteRangeRequest { key, range_end, prev_kv } = delete;
        let may_write = self.auth.permits(self.user).write.cover(&KeyRange::of(key, range_end));
        may_write && (!prev_kv || self.may_read(key, range_end))
    }

    fn may_read(&self, key: &Bytes, range_end: &Bytes) -> bool {
        self.auth.permits(self.user).read.cover(&KeyRange::of(key, range_end))
    }

    /// Whether all keys on a lease may be written. There are none on a lease that there is not.
    fn may_change(&self, lease: i64) -> bool {
        lease == 0 || self.leases.keys_are_within(lease, &self.auth.permits(self.user).write)
    }
}
