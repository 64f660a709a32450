//! Why the store says no.
//!
//! One variant per fact. Which code and which words a client gets for it is the server's business.

use std::fmt;

use crate::quota::{Exceeded, PREFIX_BYTES_MAX, QUOTAS_MAX};

/// Why a request was not done. It changed nothing, and every member refuses the same command for the same reason.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// A key is needed and none was given.
    EmptyKey,
    /// An operation of a transaction is empty, or a put asks to keep what a key that does not exist has.
    KeyNotFound,
    /// A put that keeps the old value brings one.
    ValueProvided,
    /// A put that keeps the old lease brings one.
    LeaseProvided,
    /// A transaction is longer than allowed.
    TooManyOps,
    /// A transaction changes a key twice.
    DuplicateKey,
    /// A sort order, a sort target, or a part of a comparison that is not known.
    InvalidSortOption,
    /// The history that is asked for has been given up.
    Compacted {
        /// The oldest revision that can be read.
        oldest: i64,
    },
    /// The revision that is asked for lies ahead.
    FutureRevision {
        /// The newest revision that there is.
        newest: i64,
    },
    /// There is no lease with this id.
    LeaseNotFound,
    /// A lease is to be granted under an id that is taken.
    LeaseExists,
    /// A lease is to be granted for longer than any may be.
    LeaseTtlTooLarge,
    /// There would be more below a prefix than its quota allows.
    QuotaExceeded(Box<Exceeded>),
    /// A quota is to be set that limits nothing, or less than nothing.
    QuotaWithoutLimit,
    /// A quota is to be set for a prefix that is longer than any may be.
    QuotaPrefixTooLong,
    /// A quota is to be set beside as many as there may be.
    TooManyQuotas,
    /// There is no quota of this prefix.
    QuotaNotFound,
    /// An alarm says that a member has no room for more.
    NoSpace,
    /// An alarm says that a member's data is not that of the others.
    Corrupt,
    /// Nobody has said who asks, or a user is to be added without a name.
    UserEmpty,
    /// There is no user of this name.
    UserNotFound,
    /// A user is to be added under a name that is taken.
    UserExists,
    /// A role is to be added without a name.
    RoleEmpty,
    /// There is no role of this name.
    RoleNotFound,
    /// A role is to be added under a name that is taken.
    RoleExists,
    /// A role is to be taken from a user that has not got it.
    RoleNotGranted,
    /// A permission is to be granted, and none is named.
    PermissionNotGiven,
    /// A permission is to be revoked that the role has not got.
    PermissionNotGranted,
    /// Authentication cannot be enabled without the user root.
    RootUserNotExist,
    /// Authentication cannot be enabled while the user root has not got the role root.
    RootRoleNotExist,
    /// A change that would leave nobody who may do everything, or a permission for no keys.
    InvalidAuthMgmt,
    /// Who asks may not do this.
    PermissionDenied,
    /// Who asks was found out before users or roles changed.
    AuthOldRevision,
    /// What vouched for who asks counts no more.
    InvalidAuthToken,
    /// A command has a password in it rather than the hash of one.
    PlainPassword,
    /// The engine could not give a value back. Not a fact that members agree on: the store has failed
    /// ([`Store::failure`](crate::store::Store::failure)) and must stop; another member may know better.
    Unreadable,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyKey => write!(f, "key is not provided"),
            Self::KeyNotFound => write!(f, "key not found"),
            Self::ValueProvided => write!(f, "value is provided"),
            Self::LeaseProvided => write!(f, "lease is provided"),
            Self::TooManyOps => write!(f, "too many operations in a transaction"),
            Self::DuplicateKey => write!(f, "a transaction changes a key twice"),
            Self::InvalidSortOption => write!(f, "invalid sort option"),
            Self::Compacted { oldest } => write!(f, "compacted; the oldest revision is {oldest}"),
            Self::FutureRevision { newest } => write!(f, "a future revision; the newest is {newest}"),
            Self::LeaseNotFound => write!(f, "requested lease not found"),
            Self::LeaseExists => write!(f, "lease already exists"),
            Self::LeaseTtlTooLarge => write!(f, "too large lease TTL"),
            Self::QuotaExceeded(exceeded) => exceeded.fmt(f),
            Self::QuotaWithoutLimit => write!(f, "a quota needs a limit of bytes or of keys, or both, above zero"),
            Self::QuotaPrefixTooLong => write!(f, "the prefix of a quota has at most {PREFIX_BYTES_MAX} bytes"),
            Self::TooManyQuotas => write!(f, "there are {QUOTAS_MAX} quotas already"),
            Self::QuotaNotFound => write!(f, "there is no quota of this prefix"),
            Self::NoSpace => write!(f, "a member has no space for more"),
            Self::Corrupt => write!(f, "a member's data is not that of the others"),
            Self::UserEmpty => write!(f, "user name is empty"),
            Self::UserNotFound => write!(f, "user name not found"),
            Self::UserExists => write!(f, "user name already exists"),
            Self::RoleEmpty => write!(f, "role name is empty"),
            Self::RoleNotFound => write!(f, "role name not found"),
            Self::RoleExists => write!(f, "role name already exists"),
            Self::RoleNotGranted => write!(f, "role is not granted to the user"),
            Self::PermissionNotGiven => write!(f, "permission not given"),
            Self::PermissionNotGranted => write!(f, "permission is not granted to the role"),
            Self::RootUserNotExist => write!(f, "root user does not exist"),
            Self::RootRoleNotExist => write!(f, "root user does not have root role"),
            Self::InvalidAuthMgmt => write!(f, "invalid auth management"),
            Self::PermissionDenied => write!(f, "permission denied"),
            Self::AuthOldRevision => write!(f, "users or roles have changed since it was found out who asks"),
            Self::InvalidAuthToken => write!(f, "invalid auth token"),
            Self::PlainPassword => write!(f, "a password in a command, which must have its hash alone"),
            Self::Unreadable => write!(f, "a stored value cannot be read"),
        }
    }
}

impl std::error::Error for Refusal {}
