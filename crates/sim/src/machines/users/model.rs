//! A plain model of users and roles: lists of what was granted, looked through from the beginning each time, key by key.
//!
//! Owns the rules once more, written differently: no ranges are united, and nothing is recursive.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, TxnRequest};
use vlot_store::auth::{Asker, AuthCommand, Caller};
use vlot_store::command::Command;
use vlot_store::refusal::Refusal;
use vlot_store::store::{Applied, Store};

use super::draw::MARKS;

/// Users and roles.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Model {
    is_enabled: bool,
    revision: u64,
    users: BTreeMap<String, User>,
    /// What each role permits: a kind, a key, the end of the range.
    roles: BTreeMap<String, Vec<Grant>>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct User {
    roles: BTreeSet<String>,
    generation: u64,
}

type Grant = (i32, Bytes, Bytes);

/// What a command must come to.
pub(super) enum Expected {
    /// It is refused for this reason.
    Refused(Refusal),
    /// It is done.
    Done,
    /// Users have nothing to do with it: it is done, or refused for another reason.
    Permitted,
    /// So many seconds for each lease: minus one for those that may not be renewed.
    Renewed(Vec<bool>),
}

/// What is done to keys: to read them, or to write.
struct Touched {
    reads: bool,
    key: Bytes,
    range_end: Bytes,
}

impl Expected {
    /// What was expected, if it is something else.
    pub fn differs_from(&self, outcome: &Result<Applied, Refusal>) -> Option<String> {
        let (is_as_expected, shown) = match self {
            Self::Refused(refusal) => (*outcome == Err(refusal.clone()), format!("{refusal:?}")),
            Self::Done => (outcome.is_ok(), "what was asked for".to_owned()),
            Self::Permitted => (!outcome.as_ref().is_err_and(is_of_users), "any answer but this".to_owned()),
            Self::Renewed(may) => {
                let is_so = match outcome {
                    Ok(Applied::LeaseKeepAlive { ttls, .. }) => {
                        ttls.iter().map(|ttl| *ttl >= 0).eq(may.iter().copied())
                    }
                    _ => false,
                };
                (is_so, format!("renewals of {may:?}"))
            }
        };
        (!is_as_expected).then_some(shown)
    }
}

/// Whether a refusal is one of those that users and roles give.
fn is_of_users(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::UserEmpty | Refusal::PermissionDenied | Refusal::AuthOldRevision | Refusal::UserNotFound)
}

impl Model {
    /// What a store says that there is.
    pub fn of(store: &Store) -> Self {
        let auth = store.auth();
        let users = auth.users().map(|(name, user)| {
            let roles = user.roles().map(str::to_owned).collect();
            (name.to_owned(), User { roles, generation: user.generation() })
        });
        let roles = auth.roles().map(|(name, role)| {
            let grant = |one: &vlot_proto::authpb::Permission| (one.perm_type, one.key.clone(), one.range_end.clone());
            (name.to_owned(), role.permissions().iter().map(grant).collect())
        });
        let (users, roles) = (users.collect(), roles.collect());
        Self { is_enabled: auth.is_enabled(), revision: auth.revision(), users, roles }
    }

    /// What a command must come to. If it changes users, they are changed here too.
    pub fn expect(&mut self, store: &Store, command: &Command) -> Expected {
        let (asker, plain) = match command {
            Command::By { asker, command } => (Some(asker), &**command),
            plain => (None, plain),
        };
        let caller = match asker {
            Some(Asker::Client(caller)) => Some(caller),
            _ => None,
        };
        if self.is_enabled && asker != Some(&Asker::Server) {
            if let Command::LeaseKeepAlive(ids) = plain {
                return self.expect_renewals(store, caller, ids);
            }
            if let Err(refusal) = self.permission(store, caller, plain) {
                return Expected::Refused(refusal);
            }
        }
        match plain {
            Command::Auth(change) => match self.change(change) {
                Ok(()) => Expected::Done,
                Err(refusal) => Expected::Refused(refusal),
            },
            _ => Expected::Permitted,
        }
    }

    /// Whether a transaction of ranges is answered.
    pub fn expect_read(&self, store: &Store, caller: Option<&Caller>, txn: &TxnRequest) -> Result<(), Refusal> {
        if self.is_enabled { self.permission(store, caller, &Command::Txn(txn.clone())) } else { Ok(()) }
    }

    /// Whether a watch is made for who asks.
    pub fn admits_watch(&self, caller: Option<&Caller>, key: &Bytes, range_end: &Bytes) -> Result<(), Refusal> {
        if self.is_enabled && caller.is_some_and(|caller| caller.revision < self.revision) {
            return Err(Refusal::AuthOldRevision);
        }
        self.lets_watch(caller.map(|caller| &*caller.user), key, range_end)
    }

    /// Whether a watch of this user that was made before goes on.
    pub fn lets_watch(&self, user: Option<&str>, key: &Bytes, range_end: &Bytes) -> Result<(), Refusal> {
        if !self.is_enabled {
            return Ok(());
        }
        let user = self.users.get(user.ok_or(Refusal::UserEmpty)?).ok_or(Refusal::PermissionDenied)?;
        let all = Touched { reads: true, key: key.clone(), range_end: range_end.clone() };
        let may = user.roles.contains("root") || self.may(user, &all);
        if may { Ok(()) } else { Err(Refusal::PermissionDenied) }
    }

    fn known(&self, caller: Option<&Caller>) -> Result<Option<&User>, Refusal> {
        let caller = caller.filter(|caller| !caller.user.is_empty()).ok_or(Refusal::UserEmpty)?;
        let user = self.users.get(&*caller.user);
        if user.is_some_and(|user| user.generation > caller.revision) {
            return Err(Refusal::AuthOldRevision);
        }
        Ok(user)
    }

    fn permission(&self, store: &Store, caller: Option<&Caller>, command: &Command) -> Result<(), Refusal> {
        let user = self.known(caller)?;
        let is_root = user.is_some_and(|user| user.roles.contains("root"));
        let mut touched = Vec::new();
        match command {
            Command::Put(put) => touch_put(store, put, &mut touched),
            Command::DeleteRange(delete) => touch_delete(delete, &mut touched),
            Command::Txn(txn) => touch_txn(store, txn, &mut touched),
            Command::LeaseRevoke(revoke) => touch_lease(store, revoke.id, &mut touched),
            Command::LeaseGrant(_) => return user.map(drop).ok_or(Refusal::PermissionDenied),
            Command::Compact(_) | Command::Auth(_) => {
                user.ok_or(Refusal::UserNotFound)?;
                return if is_root { Ok(()) } else { Err(Refusal::PermissionDenied) };
            }
            other => panic!("no client proposes {other:?}"),
        }
        if caller.is_some_and(|caller| caller.revision < self.revision) {
            return Err(Refusal::AuthOldRevision);
        }
        let user = user.ok_or(Refusal::PermissionDenied)?;
        let may = is_root || touched.iter().all(|one| self.may(user, one));
        if may { Ok(()) } else { Err(Refusal::PermissionDenied) }
    }

    fn expect_renewals(&self, store: &Store, caller: Option<&Caller>, ids: &[i64]) -> Expected {
        let user = match self.known(caller) {
            Err(refusal) => return Expected::Refused(refusal),
            Ok(None) => return Expected::Refused(Refusal::PermissionDenied),
            Ok(Some(user)) => user,
        };
        let may = ids.iter().map(|id| {
            let mut touched = Vec::new();
            touch_lease(store, *id, &mut touched);
            user.roles.contains("root") || touched.iter().all(|one| self.may(user, one))
        });
        Expected::Renewed(may.collect())
    }

    /// Whether each key that is meant is granted by one role or another.
    fn may(&self, user: &User, Touched { reads, key, range_end }: &Touched) -> bool {
        let grants = || user.roles.iter().filter_map(|role| self.roles.get(role)).flatten();
        let is_granted = |one: &[u8]| {
            grants().any(|(kind, start, end)| (*kind == 2 || (*kind == 0) == *reads) && is_in(one, start, end))
        };
        let all = every_key();
        let mut meant = all.iter().filter(|one| is_in(one, key, range_end)).peekable();
        if meant.peek().is_none() { is_granted(key) } else { meant.all(|one| is_granted(one)) }
    }

    fn change(&mut self, change: &AuthCommand) -> Result<(), Refusal> {
        let before = self.clone();
        match change {
            AuthCommand::Enable { .. } => {
                let root = self.users.get("root").ok_or(Refusal::RootUserNotExist);
                if !self.is_enabled && !root?.roles.contains("root") {
                    return Err(Refusal::RootRoleNotExist);
                }
                self.is_enabled = true;
                return Ok(());
            }
            AuthCommand::Disable => self.is_enabled = false,
            AuthCommand::UserAdd(add) => {
                if self.users.contains_key(&add.name) {
                    return Err(Refusal::UserExists);
                }
                let user = User { roles: BTreeSet::new(), generation: self.revision + 1 };
                self.users.insert(add.name.clone(), user);
            }
            AuthCommand::UserDelete(delete) => {
                if self.is_enabled && delete.name == "root" {
                    return Err(Refusal::InvalidAuthMgmt);
                }
                self.users.remove(&delete.name).ok_or(Refusal::UserNotFound)?;
            }
            AuthCommand::UserChangePassword(change) => {
                let generation = self.revision + 1;
                self.users.get_mut(&change.name).ok_or(Refusal::UserNotFound)?.generation = generation;
            }
            AuthCommand::UserGrantRole(grant) => {
                let has_role = grant.role == "root" || self.roles.contains_key(&grant.role);
                let user = self.users.get_mut(&grant.user).ok_or(Refusal::UserNotFound)?;
                if !has_role {
                    return Err(Refusal::RoleNotFound);
                }
                user.roles.insert(grant.role.clone());
            }
            AuthCommand::UserRevokeRole(revoke) => {
                if self.is_enabled && revoke.name == "root" && revoke.role == "root" {
                    return Err(Refusal::InvalidAuthMgmt);
                }
                let user = self.users.get_mut(&revoke.name).ok_or(Refusal::UserNotFound)?;
                if !user.roles.remove(&revoke.role) {
                    return Err(Refusal::RoleNotGranted);
                }
            }
            AuthCommand::RoleAdd(add) => {
                if self.roles.contains_key(&add.name) {
                    return Err(Refusal::RoleExists);
                }
                self.roles.insert(add.name.clone(), Vec::new());
            }
            AuthCommand::RoleDelete(delete) => {
                if self.is_enabled && delete.role == "root" {
                    return Err(Refusal::InvalidAuthMgmt);
                }
                self.roles.remove(&delete.role).ok_or(Refusal::RoleNotFound)?;
                for user in self.users.values_mut() {
                    user.roles.remove(&delete.role);
                }
            }
            AuthCommand::RoleGrantPermission(grant) => {
                let perm = grant.perm.as_ref().ok_or(Refusal::PermissionNotGiven)?;
                let ends_before_it_begins =
                    perm.range_end.len() == 1 && perm.range_end[0] > 0 && perm.range_end <= perm.key;
                if ends_before_it_begins {
                    return Err(Refusal::InvalidAuthMgmt);
                }
                let grants = self.roles.get_mut(&grant.name).ok_or(Refusal::RoleNotFound)?;
                let (key, range_end) = (perm.key.clone(), perm.range_end.clone());
                match grants
                    .iter_mut()
                    .find(|(_, start, end)| (start, end) == (&mut key.clone(), &mut range_end.clone()))
                {
                    Some((kind, ..)) => *kind = perm.perm_type,
                    None => grants.push((perm.perm_type, key, range_end)),
                }
                grants.sort_by(|left, right| left.1.cmp(&right.1));
                self.revision += 1;
                return Ok(());
            }
            AuthCommand::RoleRevokePermission(revoke) => {
                let grants = self.roles.get_mut(&revoke.role).ok_or(Refusal::RoleNotFound)?;
                let place = grants.iter().position(|(_, start, end)| (start, end) == (&revoke.key, &revoke.range_end));
                grants.remove(place.ok_or(Refusal::PermissionNotGranted)?);
            }
        }
        if *self != before {
            self.revision += 1;
        }
        Ok(())
    }
}

/// What is looked at in the place of all keys: where ranges may begin and end, and what follows each at once.
fn every_key() -> Vec<Bytes> {
    let around = |mark: &str| [mark.to_owned(), format!("{mark}\0")].map(Bytes::from);
    ["\0"].into_iter().chain(MARKS).flat_map(around).collect()
}

/// Whether a key is in a range, as requests have it.
pub(super) fn is_in(key: &[u8], start: &[u8], range_end: &[u8]) -> bool {
    match range_end {
        [] => key == start,
        [0] => start <= key,
        _ => start <= key && key < range_end,
    }
}

fn touch_put(store: &Store, put: &PutRequest, touched: &mut Vec<Touched>) {
    touched.push(Touched { reads: false, key: put.key.clone(), range_end: Bytes::new() });
    if put.prev_kv {
        touched.push(Touched { reads: true, key: put.key.clone(), range_end: Bytes::new() });
    }
    touch_lease(store, put.lease, touched);
}

fn touch_delete(delete: &DeleteRangeRequest, touched: &mut Vec<Touched>) {
    let DeleteRangeRequest { key, range_end, prev_kv } = delete;
    touched.push(Touched { reads: false, key: key.clone(), range_end: range_end.clone() });
    if *prev_kv {
        touched.push(Touched { reads: true, key: key.clone(), range_end: range_end.clone() });
    }
}

/// What happens to a lease happens to its keys.
fn touch_lease(store: &Store, id: i64, touched: &mut Vec<Touched>) {
    let keys = store.keys_on_lease(id, usize::MAX).unwrap_or_default();
    touched.extend(keys.into_iter().map(|key| Touched { reads: false, key, range_end: Bytes::new() }));
}

fn touch_txn(store: &Store, txn: &TxnRequest, touched: &mut Vec<Touched>) {
    let mut open = vec![txn];
    while let Some(txn) = open.pop() {
        for compare in &txn.compare {
            touched.push(Touched { reads: true, key: compare.key.clone(), range_end: compare.range_end.clone() });
        }
        for op in txn.success.iter().chain(&txn.failure) {
            match &op.request {
                Some(Request::RequestRange(range)) => {
                    touched.push(Touched { reads: true, key: range.key.clone(), range_end: range.range_end.clone() });
                }
                Some(Request::RequestPut(put)) => touch_put(store, put, touched),
                Some(Request::RequestDeleteRange(delete)) => touch_delete(delete, touched),
                Some(Request::RequestTxn(nested)) => open.push(nested),
                None => {}
            }
        }
    }
}
