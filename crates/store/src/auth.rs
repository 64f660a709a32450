//! Users, roles and what they may do: who asks, and whether that is allowed.
//!
//! Owns the replicated state of authentication and what is asked of it. It is changed by commands alone (`change.rs`), so
//! that every member refuses the same; `authorise.rs` is the one place that holds a request against it. Must not know
//! passwords, tokens or certificates: who a caller is has been found out before.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, OnceLock};

use vlot_proto::authpb;

use crate::damage::BadRecord;
use crate::engine::Record;
use crate::records::{self, AuthRecord, UserRecord};
use crate::refusal::Refusal;
use crate::store::Store;

mod authorise;
mod change;
mod command;
mod permits;

pub use authorise::Asked;
pub use command::{AuthCommand, TokenKey};
pub use permits::{Permits, Ranges};

/// The user, and the role, that may do everything. The role need not be made.
pub const ROOT: &str = "root";

/// Who asks.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Caller {
    /// The name of a user. It need not be one that there is.
    pub user: Arc<str>,
    /// The auth revision at which the caller was found to be this user.
    pub revision: u64,
}

/// On whose behalf a command is proposed.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Asker {
    /// The member itself: what it raises, compacts or ends by its own rules. No client's request gets there.
    Server,
    /// A client.
    Client(Caller),
}

/// Users, roles, and whether they count.
#[derive(Clone, Debug)]
pub struct Auth {
    is_enabled: bool,
    revision: u64,
    token_key: TokenKey,
    /// Shared with what was kept of it at earlier moments, like the roles.
    users: BTreeMap<Arc<str>, Arc<User>>,
    roles: BTreeMap<Arc<str>, Arc<Role>>,
    /// What is to be written down of the changes since it was asked for last.
    changed: Changed,
}

#[derive(Clone, Debug, Default)]
struct Changed {
    state: bool,
    users: BTreeSet<Arc<str>>,
    roles: BTreeSet<Arc<str>>,
}

impl Default for Auth {
    fn default() -> Self {
        let (users, roles) = (BTreeMap::new(), BTreeMap::new());
        // etcd counts from one.
        Self {
            is_enabled: false,
            revision: 1,
            token_key: TokenKey::default(),
            users,
            roles,
            changed: Changed::default(),
        }
    }
}

/// A user.
#[derive(Clone)]
pub struct User {
    /// The hash of the password by bcrypt, in base64 as the request had it. None for a user that has no password, which a
    /// certificate names.
    hash: Option<Arc<str>>,
    roles: BTreeSet<Arc<str>>,
    generation: u64,
    /// What all roles together permit, once that was asked for.
    permits: OnceLock<Permits>,
}

/// A role: permissions under one name, ordered by their keys.
#[derive(Clone, Debug, Default)]
pub struct Role {
    permissions: Vec<authpb::Permission>,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hash, roles, generation, .. } = self;
        let mut out = f.debug_struct("User");
        out.field("has_password", &hash.is_some()).field("roles", roles).field("generation", generation).finish()
    }
}

impl User {
    /// The hash of the password by bcrypt, in base64. None for a user that has no password.
    #[must_use]
    pub fn hash(&self) -> Option<&str> {
        self.hash.as_deref()
    }

    /// The names of the user's roles, in order.
    pub fn roles(&self) -> impl ExactSizeIterator<Item = &str> {
        self.roles.iter().map(|role| &**role)
    }

    /// Whether the user has this role.
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.contains(role)
    }

    /// Whether the user may do everything.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.has_role(ROOT)
    }

    /// The auth revision at which the user was added, or was given another password. What vouched for the user before
    /// counts no more.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

impl Role {
    /// What the role permits, ordered by key.
    #[must_use]
    pub fn permissions(&self) -> &[authpb::Permission] {
        &self.permissions
    }
}

impl Auth {
    /// Whether callers are asked who they are.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.is_enabled
    }

    /// Rises with each change of users and roles.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What tokens are sealed with, since authentication was enabled last.
    #[must_use]
    pub fn token_key(&self) -> &TokenKey {
        &self.token_key
    }

    /// A user by name.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name).map(|user| &**user)
    }

    /// All users, by name.
    pub fn users(&self) -> impl ExactSizeIterator<Item = (&str, &User)> {
        self.users.iter().map(|(name, user)| (&**name, &**user))
    }

    /// A role by name.
    #[must_use]
    pub fn role(&self, name: &str) -> Option<&Role> {
        self.roles.get(name).map(|role| &**role)
    }

    /// All roles, by name.
    pub fn roles(&self) -> impl ExactSizeIterator<Item = (&str, &Role)> {
        self.roles.iter().map(|(name, role)| (&**name, &**role))
    }

    /// Who the caller of a call that goes on is: still this user, at the revision of now, unless the user was deleted or
    /// given another password since.
    ///
    /// # Errors
    /// `InvalidAuthToken` if what vouched for the caller counts no more.
    pub fn renewed(&self, caller: &Caller) -> Result<Caller, Refusal> {
        let still_counts = self.users.get(&caller.user).is_some_and(|user| user.generation <= caller.revision);
        let renewed = || Caller { user: Arc::clone(&caller.user), revision: self.revision };
        if still_counts { Ok(renewed()) } else { Err(Refusal::InvalidAuthToken) }
    }

    /// What all roles of a user together permit.
    fn permits<'a>(&self, user: &'a User) -> &'a Permits {
        user.permits.get_or_init(|| {
            let roles = user.roles.iter().filter_map(|role| self.roles.get(role));
            Permits::of(roles.flat_map(|role| &role.permissions))
        })
    }

    /// As it was written down.
    pub(crate) fn load(
        state: Option<AuthRecord>,
        users: Vec<UserRecord>,
        roles: Vec<authpb::Role>,
    ) -> Result<Self, BadRecord> {
        let Some(AuthRecord { is_enabled, revision, token_key }) = state else {
            // Users without it: something has been lost, and it may be that they were to count.
            let is_whole = users.is_empty() && roles.is_empty();
            return if is_whole { Ok(Self::default()) } else { Err(BadRecord::NoAuth) };
        };
        let users = users.into_iter().map(|UserRecord { name, hash, roles, generation }| {
            (name, Arc::new(User { hash, roles, generation, permits: OnceLock::new() }))
        });
        let roles = roles.into_iter().map(|role| {
            let name = String::from_utf8_lossy(&role.name).into();
            (name, Arc::new(Role { permissions: role.key_permission }))
        });
        let (users, roles) = (users.collect(), roles.collect());
        Ok(Self { is_enabled, revision, token_key, users, roles, changed: Changed::default() })
    }

    /// What is to be written down of the changes since it was asked for last.
    pub(crate) fn take_records(&mut self, into: &mut Vec<Record>) {
        let Changed { state: true, users, roles } = std::mem::take(&mut self.changed) else { return };
        into.push(self.state_record());
        into.extend(users.into_iter().map(|name| match self.users.get(&name) {
            Some(user) => user_record(&name, user),
            None => records::no_user(&name),
        }));
        into.extend(roles.into_iter().map(|name| match self.roles.get(&name) {
            Some(role) => role_record(&name, role),
            None => records::no_role(&name),
        }));
    }

    /// All of it, as it would be written down: the same bytes on every member that has applied the same.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        let users = self.users.iter().map(|(name, user)| user_record(name, user));
        let roles = self.roles.iter().map(|(name, role)| role_record(name, role));
        std::iter::once(self.state_record()).chain(users).chain(roles).collect()
    }

    fn state_record(&self) -> Record {
        let Self { is_enabled, revision, ref token_key, .. } = *self;
        AuthRecord { is_enabled, revision, token_key: token_key.clone() }.record()
    }
}

fn user_record(name: &Arc<str>, user: &User) -> Record {
    let User { hash, roles, generation, .. } = user.clone();
    UserRecord { name: Arc::clone(name), hash, roles, generation }.record()
}

fn role_record(name: &str, role: &Role) -> Record {
    records::role(authpb::Role {
        name: bytes::Bytes::copy_from_slice(name.as_bytes()),
        key_permission: role.permissions.clone(),
    })
}

impl Store {
    /// Users and roles.
    #[must_use]
    pub fn auth(&self) -> &Auth {
        &self.auth
    }

    /// The same, to be kept as it is at this moment.
    #[must_use]
    pub fn auth_now(&self) -> Arc<Auth> {
        Arc::clone(&self.auth)
    }
}
