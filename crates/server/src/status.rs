//! How a call ends: gRPC's codes, and the exact words by which etcd's clients tell one failure from another.
//!
//! Owns the mapping from refusals to codes and texts. Clients compare the texts, so that none may change.

use std::borrow::Cow;

use vlot_store::refusal::Refusal;

/// The codes of gRPC, as far as calls end with them here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u16)]
pub enum Code {
    Ok = 0,
    Canceled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

/// All codes, by number. The names are those of gRPC's metrics.
pub const CODE_NAMES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// How a call ends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Status {
    pub(crate) code: Code,
    pub(crate) message: Cow<'static, str>,
}

/// What etcd says of a revision that is gone; also the reason why a watch from there is not made.
pub(crate) const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";

impl Status {
    pub(crate) const OK: Status = Status::fixed(Code::Ok, "");

    pub(crate) const REQUEST_TOO_LARGE: Status =
        Status::fixed(Code::InvalidArgument, "etcdserver: request is too large");
    pub(crate) const TOO_MANY_REQUESTS: Status =
        Status::fixed(Code::ResourceExhausted, "etcdserver: too many requests");
    pub(crate) const NO_SPACE: Status =
        Status::fixed(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded");
    pub(crate) const CORRUPT: Status = Status::fixed(Code::DataLoss, "etcdserver: corrupt cluster");
    pub(crate) const WRONG_DOWNGRADE_VERSION_FORMAT: Status =
        Status::fixed(Code::InvalidArgument, "etcdserver: wrong downgrade target version format");
    pub(crate) const INVALID_DOWNGRADE_TARGET: Status =
        Status::fixed(Code::InvalidArgument, "etcdserver: invalid downgrade target version");
    pub(crate) const DOWNGRADE_IN_PROCESS: Status =
        Status::fixed(Code::FailedPrecondition, "etcdserver: cluster has a downgrade job in progress");
    pub(crate) const UNKNOWN_METHOD: Status = Status::fixed(Code::Unknown, "etcdserver: unknown method");
    pub(crate) const NO_LEADER: Status = Status::fixed(Code::Unavailable, "etcdserver: no leader");
    pub(crate) const STOPPED: Status = Status::fixed(Code::Unavailable, "etcdserver: server stopped");
    pub(crate) const TIMEOUT: Status = Status::fixed(Code::Unavailable, "etcdserver: request timed out");
    pub(crate) const CANCELED: Status = Status::fixed(Code::Canceled, "etcdserver: request canceled");
    pub(crate) const DEADLINE_EXCEEDED: Status =
        Status::fixed(Code::DeadlineExceeded, "etcdserver: context deadline exceeded");
    pub(crate) const NOT_LEADER: Status = Status::fixed(Code::FailedPrecondition, "etcdserver: not leader");
    pub(crate) const BAD_LEADER_TRANSFEREE: Status =
        Status::fixed(Code::FailedPrecondition, "etcdserver: bad leader transferee");
    pub(crate) const LEADER_TRANSFER_TIMEOUT: Status =
        Status::fixed(Code::Unknown, "etcdserver: request timed out, leader transfer took too long");
    pub(crate) const BAD_MEMBER_URLS: Status =
        Status::fixed(Code::InvalidArgument, "etcdserver: given member URLs are invalid");
    pub(crate) const PEER_URL_EXISTS: Status =
        Status::fixed(Code::FailedPrecondition, "etcdserver: Peer URLs already exists");
    pub(crate) const TOO_MANY_LEARNERS: Status =
        Status::fixed(Code::FailedPrecondition, "etcdserver: too many learner members in cluster");
    pub(crate) const MEMBER_NOT_FOUND: Status = Status::fixed(Code::NotFound, "etcdserver: member not found");
    pub(crate) const MEMBER_NOT_LEARNER: Status =
        Status::fixed(Code::FailedPrecondition, "etcdserver: can only promote a learner member");
    pub(crate) const LEARNER_NOT_READY: Status = Status::fixed(
        Code::FailedPrecondition,
        "etcdserver: can only promote a learner member which is in sync with leader",
    );
    pub(crate) const NOT_SUPPORTED_FOR_LEARNER: Status =
        Status::fixed(Code::FailedPrecondition, "etcdserver: rpc not supported for learner");
    /// With the code that a learner answers: `Unavailable` is asked again until the time is up, and its text is never shown.
    pub(crate) const WITNESS: Status =
        Status::fixed(Code::FailedPrecondition, "vlot: this member is a witness and keeps no data; ask another member");
    pub(crate) const WITNESS_LEARNER: Status =
        Status::fixed(Code::InvalidArgument, "vlot: a witness votes at once and cannot be a learner");
    pub(crate) const UNHEALTHY: Status = Status::fixed(Code::Unavailable, "etcdserver: unhealthy cluster");
    /// etcd sends this with code `Unknown` by mistake; clients go by the text.
    pub(crate) const NOT_ENOUGH_STARTED: Status = Status::fixed(
        Code::FailedPrecondition,
        "etcdserver: re-configuration failed due to not enough started members",
    );
    pub(crate) const AUTH_NOT_ENABLED: Status =
        Status::fixed(Code::FailedPrecondition, "etcdserver: authentication is not enabled");
    pub(crate) const AUTH_FAILED: Status =
        Status::fixed(Code::InvalidArgument, "etcdserver: authentication failed, invalid user ID or password");
    /// etcd has no status for these two, and passes on what it says to itself.
    pub(crate) const NO_PASSWORD_USER: Status =
        Status::fixed(Code::Unknown, "auth: authentication failed, password was given for no password user");
    pub(crate) const VERIFY_ONLY: Status =
        Status::fixed(Code::Unknown, "auth: token signing attempted with verify-only key");
    /// The system gives no random bytes.
    pub(crate) const NO_RANDOM: Status = Status::fixed(Code::Internal, "vlot: the system gives no random bytes");
    /// The store answers each command with its own kind of reply; anything else is our error.
    pub(crate) const OTHER_ANSWER: Status =
        Status::fixed(Code::Internal, "vlot: the store's answer is of another kind than the request");
    /// The client has ended its side within a message. The words are those of gRPC's Go server, as below.
    pub(crate) const CUT_SHORT: Status = Status::fixed(Code::Internal, "unexpected EOF");
    /// A unary call without its one message.
    pub(crate) const NO_MESSAGE: Status = Status::fixed(Code::Unknown, "EOF");
    /// A call of one request and many replies without its one message.
    pub(crate) const NO_REQUEST: Status = Status::fixed(
        Code::Internal,
        "cardinality violation: received no request message from non-client-streaming RPC",
    );
    /// The deadline of a call had passed when the call came.
    pub(crate) const TOO_LATE: Status = Status::fixed(Code::DeadlineExceeded, "context deadline exceeded");

    const fn fixed(code: Code, message: &'static str) -> Status {
        Status { code, message: Cow::Borrowed(message) }
    }

    pub(crate) fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Status {
        Status { code, message: message.into() }
    }

    /// Bytes that are not the message they should be.
    pub(crate) fn malformed(error: &impl std::fmt::Display) -> Status {
        Status::new(Code::Internal, format!("grpc: error unmarshalling request: {error}"))
    }

    /// A message longer than the server receives.
    pub(crate) fn message_too_large(length: usize, most: usize) -> Status {
        let text = format!("grpc: received message larger than max ({length} vs. {most})");
        Status::new(Code::ResourceExhausted, text)
    }

    /// An RPC of etcd that does not exist here. `path` is `/package.Service/Method`.
    pub(crate) fn absent(path: &str) -> Status {
        let name = path.trim_start_matches('/');
        Status::new(Code::Unimplemented, format!("vlot: {name} is not implemented"))
    }

    /// A path that is no RPC at all. `knows` says whether there is such a service.
    pub(crate) fn unknown_path(path: &str, knows: impl FnOnce(&str) -> bool) -> Status {
        let name = path.strip_prefix('/').unwrap_or(path);
        let text = match name.rsplit_once('/') {
            Some((service, method)) if knows(service) => format!("unknown method {method} for service {service}"),
            Some((service, _)) => format!("unknown service {service}"),
            None => format!("malformed method name: {path:?}"),
        };
        Status::new(Code::Unimplemented, text)
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Status {
        let (code, text) = match &refusal {
            Refusal::EmptyKey => (Code::InvalidArgument, "etcdserver: key is not provided"),
            Refusal::KeyNotFound => (Code::InvalidArgument, "etcdserver: key not found"),
            Refusal::ValueProvided => (Code::InvalidArgument, "etcdserver: value is provided"),
            Refusal::LeaseProvided => (Code::InvalidArgument, "etcdserver: lease is provided"),
            Refusal::TooManyOps => (Code::InvalidArgument, "etcdserver: too many operations in txn request"),
            Refusal::DuplicateKey => (Code::InvalidArgument, "etcdserver: duplicate key given in txn request"),
            Refusal::InvalidSortOption => (Code::InvalidArgument, "etcdserver: invalid sort option"),
            Refusal::Compacted { .. } => (Code::OutOfRange, COMPACTED),
            Refusal::FutureRevision { .. } => {
                (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision")
            }
            Refusal::LeaseNotFound => (Code::NotFound, "etcdserver: requested lease not found"),
            Refusal::LeaseExists => (Code::FailedPrecondition, "etcdserver: lease already exists"),
            Refusal::LeaseTtlTooLarge => (Code::OutOfRange, "etcdserver: too large lease TTL"),
            // etcd has no such quotas: the words are ours.
            Refusal::QuotaExceeded(exceeded) => {
                return Status::new(Code::ResourceExhausted, format!("etcdserver: {exceeded}"));
            }
            Refusal::QuotaWithoutLimit | Refusal::QuotaPrefixTooLong => {
                return Status::new(Code::InvalidArgument, format!("etcdserver: {refusal}"));
            }
            Refusal::TooManyQuotas => return Status::new(Code::ResourceExhausted, format!("etcdserver: {refusal}")),
            Refusal::QuotaNotFound => (Code::NotFound, "etcdserver: there is no quota of this prefix"),
            Refusal::NoSpace => return Status::NO_SPACE,
            Refusal::Corrupt => return Status::CORRUPT,
            Refusal::UserEmpty => (Code::InvalidArgument, "etcdserver: user name is empty"),
            Refusal::UserNotFound => (Code::FailedPrecondition, "etcdserver: user name not found"),
            Refusal::UserExists => (Code::FailedPrecondition, "etcdserver: user name already exists"),
            Refusal::RoleEmpty => (Code::InvalidArgument, "etcdserver: role name is empty"),
            Refusal::RoleNotFound => (Code::FailedPrecondition, "etcdserver: role name not found"),
            Refusal::RoleExists => (Code::FailedPrecondition, "etcdserver: role name already exists"),
            Refusal::RoleNotGranted => (Code::FailedPrecondition, "etcdserver: role is not granted to the user"),
            Refusal::PermissionNotGiven => (Code::InvalidArgument, "etcdserver: permission not given"),
            Refusal::PermissionNotGranted => {
                (Code::FailedPrecondition, "etcdserver: permission is not granted to the role")
            }
            Refusal::RootUserNotExist => (Code::FailedPrecondition, "etcdserver: root user does not exist"),
            Refusal::RootRoleNotExist => (Code::FailedPrecondition, "etcdserver: root user does not have root role"),
            Refusal::InvalidAuthMgmt => (Code::InvalidArgument, "etcdserver: invalid auth management"),
            Refusal::PermissionDenied => (Code::PermissionDenied, "etcdserver: permission denied"),
            Refusal::AuthOldRevision => (Code::InvalidArgument, "etcdserver: revision of auth store is old"),
            Refusal::InvalidAuthToken => (Code::Unauthenticated, "etcdserver: invalid auth token"),
            // Members replace a password by its hash before they propose it, so that this is our error.
            Refusal::PlainPassword => (Code::Internal, "vlot: a password was proposed without being hashed"),
            // Another member may have it, so that the client should try again there.
            Refusal::Unreadable => (Code::Unavailable, "vlot: a stored value cannot be read on this member"),
        };
        Status::fixed(code, text)
    }
}

#[cfg(test)]
mod tests {
    use vlot_store::quota::{Exceeded, ExceededLimit};

    use super::*;

    #[test]
    fn refusals_have_etcds_codes_and_words() {
        let rows = [
            (Refusal::EmptyKey, 3, "etcdserver: key is not provided"),
            (Refusal::KeyNotFound, 3, "etcdserver: key not found"),
            (Refusal::ValueProvided, 3, "etcdserver: value is provided"),
            (Refusal::LeaseProvided, 3, "etcdserver: lease is provided"),
            (Refusal::TooManyOps, 3, "etcdserver: too many operations in txn request"),
            (Refusal::DuplicateKey, 3, "etcdserver: duplicate key given in txn request"),
            (Refusal::InvalidSortOption, 3, "etcdserver: invalid sort option"),
            (Refusal::Compacted { oldest: 7 }, 11, "etcdserver: mvcc: required revision has been compacted"),
            (Refusal::FutureRevision { newest: 7 }, 11, "etcdserver: mvcc: required revision is a future revision"),
            (Refusal::LeaseNotFound, 5, "etcdserver: requested lease not found"),
            (Refusal::LeaseExists, 9, "etcdserver: lease already exists"),
            (Refusal::LeaseTtlTooLarge, 11, "etcdserver: too large lease TTL"),
            (Refusal::NoSpace, 8, "etcdserver: mvcc: database space exceeded"),
            (
                Refusal::QuotaExceeded(Box::new(Exceeded {
                    prefix: "/\u{e9}/".into(),
                    limit: ExceededLimit::Keys { max: 1, needed: 2 },
                })),
                8,
                "etcdserver: quota of prefix \"/\\xc3\\xa9/\" exceeded: 2 keys of at most 1",
            ),
            (
                Refusal::QuotaWithoutLimit,
                3,
                "etcdserver: a quota needs a limit of bytes or of keys, or both, above zero",
            ),
            (Refusal::QuotaPrefixTooLong, 3, "etcdserver: the prefix of a quota has at most 256 bytes"),
            (Refusal::TooManyQuotas, 8, "etcdserver: there are 1000 quotas already"),
            (Refusal::QuotaNotFound, 5, "etcdserver: there is no quota of this prefix"),
            (Refusal::Corrupt, 15, "etcdserver: corrupt cluster"),
            (Refusal::UserEmpty, 3, "etcdserver: user name is empty"),
            (Refusal::UserNotFound, 9, "etcdserver: user name not found"),
            (Refusal::UserExists, 9, "etcdserver: user name already exists"),
            (Refusal::RoleEmpty, 3, "etcdserver: role name is empty"),
            (Refusal::RoleNotFound, 9, "etcdserver: role name not found"),
            (Refusal::RoleExists, 9, "etcdserver: role name already exists"),
            (Refusal::RoleNotGranted, 9, "etcdserver: role is not granted to the user"),
            (Refusal::PermissionNotGiven, 3, "etcdserver: permission not given"),
            (Refusal::PermissionNotGranted, 9, "etcdserver: permission is not granted to the role"),
            (Refusal::RootUserNotExist, 9, "etcdserver: root user does not exist"),
            (Refusal::RootRoleNotExist, 9, "etcdserver: root user does not have root role"),
            (Refusal::InvalidAuthMgmt, 3, "etcdserver: invalid auth management"),
            (Refusal::PermissionDenied, 7, "etcdserver: permission denied"),
            (Refusal::AuthOldRevision, 3, "etcdserver: revision of auth store is old"),
            (Refusal::InvalidAuthToken, 16, "etcdserver: invalid auth token"),
        ];
        for (refusal, code, text) in rows {
            let status = Status::from(refusal);
            assert_eq!((status.code as u16, status.message.as_ref()), (code, text));
        }
    }

    #[test]
    fn fixed_failures_have_etcds_codes_and_words() {
        let rows = [
            (Status::REQUEST_TOO_LARGE, 3, "etcdserver: request is too large"),
            (Status::TOO_MANY_REQUESTS, 8, "etcdserver: too many requests"),
            (Status::NO_SPACE, 8, "etcdserver: mvcc: database space exceeded"),
            (Status::NO_LEADER, 14, "etcdserver: no leader"),
            (Status::STOPPED, 14, "etcdserver: server stopped"),
            (Status::TIMEOUT, 14, "etcdserver: request timed out"),
            (Status::CANCELED, 1, "etcdserver: request canceled"),
            (Status::NOT_LEADER, 9, "etcdserver: not leader"),
            (Status::BAD_LEADER_TRANSFEREE, 9, "etcdserver: bad leader transferee"),
            (Status::LEADER_TRANSFER_TIMEOUT, 2, "etcdserver: request timed out, leader transfer took too long"),
            (Status::BAD_MEMBER_URLS, 3, "etcdserver: given member URLs are invalid"),
            (Status::PEER_URL_EXISTS, 9, "etcdserver: Peer URLs already exists"),
            (Status::TOO_MANY_LEARNERS, 9, "etcdserver: too many learner members in cluster"),
            (Status::MEMBER_NOT_FOUND, 5, "etcdserver: member not found"),
            (Status::MEMBER_NOT_LEARNER, 9, "etcdserver: can only promote a learner member"),
            (
                Status::LEARNER_NOT_READY,
                9,
                "etcdserver: can only promote a learner member which is in sync with leader",
            ),
            (Status::NOT_SUPPORTED_FOR_LEARNER, 9, "etcdserver: rpc not supported for learner"),
            (Status::UNHEALTHY, 14, "etcdserver: unhealthy cluster"),
            (Status::NOT_ENOUGH_STARTED, 9, "etcdserver: re-configuration failed due to not enough started members"),
            (Status::AUTH_NOT_ENABLED, 9, "etcdserver: authentication is not enabled"),
            (Status::AUTH_FAILED, 3, "etcdserver: authentication failed, invalid user ID or password"),
            (Status::NO_PASSWORD_USER, 2, "auth: authentication failed, password was given for no password user"),
            (Status::VERIFY_ONLY, 2, "auth: token signing attempted with verify-only key"),
            (Status::DEADLINE_EXCEEDED, 4, "etcdserver: context deadline exceeded"),
        ];
        for (status, code, text) in rows {
            assert_eq!((status.code as u16, status.message.as_ref()), (code, text));
        }
    }

    #[test]
    fn what_is_absent_is_named() {
        let absent = Status::absent("/a.B/C");
        assert_eq!(absent.message, "vlot: a.B/C is not implemented");
        let unknown = |path| Status::unknown_path(path, |service| service == "a.B").message;
        assert_eq!(unknown("/a.B/C"), "unknown method C for service a.B");
        assert_eq!(unknown("/a.B/C/d"), "unknown service a.B/C");
        assert_eq!(unknown("/a.C/C"), "unknown service a.C");
        assert_eq!(unknown("/a"), "malformed method name: \"/a\"");
    }

    #[test]
    fn codes_are_numbered_as_their_names_stand() {
        assert_eq!(CODE_NAMES[Code::Unavailable as usize], "Unavailable");
        assert_eq!(CODE_NAMES[Code::Ok as usize], "OK");
    }
}
