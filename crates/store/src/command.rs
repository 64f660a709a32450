//! What members agree on: the replicated command.
//!
//! Owns the bytes of a command: one tag, then the client's protobuf message as it came; in front of it, if it is known who
//! asks, a header that says so. Must not know what a command does to the store.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{decode_varint, encode_varint};
use vlot_proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, TxnRequest,
};
use vlot_proto::txn;
use vlot_proto::vlotpb::{RemoveQuotaRequest, SetQuotaRequest};

use crate::auth::{Asker, AuthCommand};

/// The first byte of a command: which message follows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Tag {
    /// A `PutRequest`.
    Put = 1,
    /// A `DeleteRangeRequest`.
    DeleteRange = 2,
    /// A `TxnRequest`.
    Txn = 3,
    /// A `CompactionRequest`.
    Compact = 4,
    /// The name's length (u32, little-endian), the name, the value.
    SetAttribute = 5,
    /// A `LeaseGrantRequest`, with the lease's id in it.
    LeaseGrant = 6,
    /// A `LeaseRevokeRequest`.
    LeaseRevoke = 7,
    /// Leases' ids, as varints.
    LeaseKeepAlive = 8,
    /// Varints: term, cluster time, renewals, then id and renewal of each lease that ends.
    LeaseTime = 9,
    /// An `AlarmRequest`.
    Alarm = 10,
    /// The key that tokens are sealed with (32 bytes).
    AuthEnable = 11,
    /// Nothing.
    AuthDisable = 12,
    /// An `AuthUserAddRequest`, with the hash in the place of the password.
    UserAdd = 13,
    /// An `AuthUserDeleteRequest`.
    UserDelete = 14,
    /// An `AuthUserChangePasswordRequest`, with the hash in the place of the password.
    UserChangePassword = 15,
    /// An `AuthUserGrantRoleRequest`.
    UserGrantRole = 16,
    /// An `AuthUserRevokeRoleRequest`.
    UserRevokeRole = 17,
    /// An `AuthRoleAddRequest`.
    RoleAdd = 18,
    /// An `AuthRoleDeleteRequest`.
    RoleDelete = 19,
    /// An `AuthRoleGrantPermissionRequest`.
    RoleGrantPermission = 20,
    /// An `AuthRoleRevokePermissionRequest`.
    RoleRevokePermission = 21,
    /// On whose behalf, then a plain command with a tag of its own.
    By = 22,
    /// A `SetQuotaRequest`.
    SetQuota = 23,
    /// A `RemoveQuotaRequest`.
    RemoveQuota = 24,
}

/// All tags, in the order of their numbers.
const TAGS: [Tag; 24] = [
    Tag::Put,
    Tag::DeleteRange,
    Tag::Txn,
    Tag::Compact,
    Tag::SetAttribute,
    Tag::LeaseGrant,
    Tag::LeaseRevoke,
    Tag::LeaseKeepAlive,
    Tag::LeaseTime,
    Tag::Alarm,
    Tag::AuthEnable,
    Tag::AuthDisable,
    Tag::UserAdd,
    Tag::UserDelete,
    Tag::UserChangePassword,
    Tag::UserGrantRole,
    Tag::UserRevokeRole,
    Tag::RoleAdd,
    Tag::RoleDelete,
    Tag::RoleGrantPermission,
    Tag::RoleRevokePermission,
    Tag::By,
    Tag::SetQuota,
    Tag::RemoveQuota,
];

impl Tag {
    /// The command that is this tag and the client's request, byte for byte as it came.
    #[must_use]
    pub fn with(self, request: &[u8]) -> Bytes {
        let mut command = BytesMut::with_capacity(1 + request.len());
        command.put_u8(self as u8);
        command.put_slice(request);
        command.freeze()
    }

    fn of(byte: u8) -> Option<Self> {
        TAGS.into_iter().find(|tag| *tag as u8 == byte)
    }
}

/// One command of the replicated state machine.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Write one key.
    Put(PutRequest),
    /// Delete a key or a range of keys.
    DeleteRange(DeleteRangeRequest),
    /// Compare, then do one of two lists of operations as one change.
    Txn(TxnRequest),
    /// Give up history.
    Compact(CompactionRequest),
    /// Remember a fact beside the keys: a member's name and URLs, say. It takes no revision. An empty value forgets
    /// the fact.
    SetAttribute {
        /// What the fact is called.
        name: Bytes,
        /// The fact.
        value: Bytes,
    },
    /// Make a lease. Its id is not zero: who proposes it has drawn one if the client left it open.
    LeaseGrant(LeaseGrantRequest),
    /// Forget a lease and delete its keys.
    LeaseRevoke(LeaseRevokeRequest),
    /// Give leases, by their ids, their full time to live.
    LeaseKeepAlive(Vec<i64>),
    /// Move cluster time on, and end leases.
    LeaseTime(LeaseTime),
    /// Raise or lower an alarm.
    Alarm(AlarmRequest),
    /// Change users and roles.
    Auth(AuthCommand),
    /// Say how much there may be below a prefix.
    SetQuota(SetQuotaRequest),
    /// Let there be as much below a prefix as there may.
    RemoveQuota(RemoveQuotaRequest),
    /// Do a plain command if who asks for it may.
    By {
        /// Who asks.
        asker: Asker,
        /// What for. It has no asker of its own.
        command: Box<Command>,
    },
}

/// What a leader tells of time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeaseTime {
    /// The term in which it leads. In any other one the command does nothing.
    pub term: u64,
    /// Cluster time, in milliseconds.
    pub now: u64,
    /// How many grants and renewals it had applied when it read its clock.
    pub renewals: u64,
    /// The leases that have ended by then, and the renewal after which each one did. One that was renewed since lives on.
    pub ended: Vec<(i64, u64)>,
}

impl LeaseTime {
    fn decode(mut bytes: Bytes) -> Option<Self> {
        let [term, now, renewals] = [varint(&mut bytes)?, varint(&mut bytes)?, varint(&mut bytes)?];
        let mut ended = Vec::new();
        while bytes.has_remaining() {
            ended.push((varint(&mut bytes)? as i64, varint(&mut bytes)?));
        }
        Some(Self { term, now, renewals, ended })
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(3 * 10 + self.ended.len() * 20);
        [self.term, self.now, self.renewals].into_iter().for_each(|number| encode_varint(number, &mut bytes));
        for (id, renewal) in &self.ended {
            encode_varint(*id as u64, &mut bytes);
            encode_varint(*renewal, &mut bytes);
        }
        bytes
    }
}

fn varint(bytes: &mut Bytes) -> Option<u64> {
    decode_varint(bytes).ok()
}

fn ids(mut bytes: Bytes) -> Option<Vec<i64>> {
    let mut ids = Vec::new();
    while bytes.has_remaining() {
        ids.push(varint(&mut bytes)? as i64);
    }
    Some(ids)
}

impl Command {
    /// Reads a command without copying keys and values: they are slices of `bytes`.
    ///
    /// # Errors
    /// Says what is wrong with the bytes. They come from the log, so that every member says the same.
    pub fn decode(mut bytes: Bytes) -> Result<Self, BadCommand> {
        if bytes.is_empty() {
            return Err(BadCommand::Empty);
        }
        let first = bytes.get_u8();
        let tag = Tag::of(first).ok_or(BadCommand::UnknownTag(first))?;
        let malformed = |_| BadCommand::Malformed(tag);
        Ok(match tag {
            Tag::Put => Self::Put(PutRequest::decode(bytes).map_err(malformed)?),
            Tag::DeleteRange => Self::DeleteRange(DeleteRangeRequest::decode(bytes).map_err(malformed)?),
            Tag::Txn => Self::Txn(txn::decode(bytes).map_err(|_| BadCommand::Malformed(tag))?),
            Tag::Compact => Self::Compact(CompactionRequest::decode(bytes).map_err(malformed)?),
            Tag::SetAttribute => {
                let length = bytes.try_get_u32_le().map_err(|_| BadCommand::Malformed(tag))? as usize;
                if length > bytes.len() {
                    return Err(BadCommand::Malformed(tag));
                }
                let name = bytes.split_to(length);
                Self::SetAttribute { name, value: bytes }
            }
            Tag::LeaseGrant => Self::LeaseGrant(LeaseGrantRequest::decode(bytes).map_err(malformed)?),
            Tag::LeaseRevoke => Self::LeaseRevoke(LeaseRevokeRequest::decode(bytes).map_err(malformed)?),
            Tag::LeaseKeepAlive => Self::LeaseKeepAlive(ids(bytes).ok_or(BadCommand::Malformed(tag))?),
            Tag::LeaseTime => Self::LeaseTime(LeaseTime::decode(bytes).ok_or(BadCommand::Malformed(tag))?),
            Tag::Alarm => Self::Alarm(AlarmRequest::decode(bytes).map_err(malformed)?),
            Tag::SetQuota => Self::SetQuota(SetQuotaRequest::decode(bytes).map_err(malformed)?),
            Tag::RemoveQuota => Self::RemoveQuota(RemoveQuotaRequest::decode(bytes).map_err(malformed)?),
            Tag::By => {
                let asker = Asker::decode(&mut bytes).ok_or(BadCommand::Malformed(tag))?;
                if bytes.first() == Some(&(Tag::By as u8)) {
                    return Err(BadCommand::NestedAsker);
                }
                Self::By { asker, command: Box::new(Self::decode(bytes)?) }
            }
            Tag::AuthEnable
            | Tag::AuthDisable
            | Tag::UserAdd
            | Tag::UserDelete
            | Tag::UserChangePassword
            | Tag::UserGrantRole
            | Tag::UserRevokeRole
            | Tag::RoleAdd
            | Tag::RoleDelete
            | Tag::RoleGrantPermission
            | Tag::RoleRevokePermission => {
                Self::Auth(AuthCommand::decode(tag, bytes).ok_or(BadCommand::Malformed(tag))?)
            }
        })
    }

    /// What is to be done, whoever asks for it.
    #[must_use]
    pub fn plain(&self) -> &Self {
        match self {
            Self::By { command, .. } => command,
            plain => plain,
        }
    }

    /// The same on somebody's behalf, instead of whoever's it was.
    #[must_use]
    pub fn by(self, asker: Asker) -> Self {
        match self {
            Self::By { command, .. } => Self::By { asker, command },
            plain => Self::By { asker, command: Box::new(plain) },
        }
    }

    /// The command's bytes, for callers that have no client's bytes to pass on. See [`Tag::with`] for those that do.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Put(request) => Tag::Put.with(&request.encode_to_vec()),
            Self::DeleteRange(request) => Tag::DeleteRange.with(&request.encode_to_vec()),
            Self::Txn(request) => Tag::Txn.with(&request.encode_to_vec()),
            Self::Compact(request) => Tag::Compact.with(&request.encode_to_vec()),
            Self::SetAttribute { name, value } => {
                let length = u32::try_from(name.len()).expect("an attribute's name is shorter than 4 GiB");
                let mut rest = BytesMut::with_capacity(4 + name.len() + value.len());
                rest.put_u32_le(length);
                rest.put_slice(name);
                rest.put_slice(value);
                Tag::SetAttribute.with(&rest)
            }
            Self::LeaseGrant(request) => Tag::LeaseGrant.with(&request.encode_to_vec()),
            Self::LeaseRevoke(request) => Tag::LeaseRevoke.with(&request.encode_to_vec()),
            Self::LeaseKeepAlive(ids) => {
                let mut bytes = Vec::with_capacity(ids.len() * 10);
                ids.iter().for_each(|id| encode_varint(*id as u64, &mut bytes));
                Tag::LeaseKeepAlive.with(&bytes)
            }
            Self::LeaseTime(time) => Tag::LeaseTime.with(&time.encode()),
            Self::Alarm(request) => Tag::Alarm.with(&request.encode_to_vec()),
            Self::Auth(change) => change.encode(),
            Self::SetQuota(request) => Tag::SetQuota.with(&request.encode_to_vec()),
            Self::RemoveQuota(request) => Tag::RemoveQuota.with(&request.encode_to_vec()),
            Self::By { asker, command } => {
                let plain = command.encode();
                let mut bytes = BytesMut::with_capacity(asker.size_hint() + plain.len());
                asker.encode(&mut bytes);
                bytes.put_slice(&plain);
                bytes.freeze()
            }
        }
    }
}

/// Bytes that are no command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BadCommand {
    /// There are none.
    Empty,
    /// The first byte names no known command.
    UnknownTag(u8),
    /// What follows the tag is not the message that it names.
    Malformed(Tag),
    /// Whoever asks for it asks on somebody else's behalf.
    NestedAsker,
}

impl fmt::Display for BadCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "an empty command"),
            Self::UnknownTag(byte) => write!(f, "no command has the tag {byte}"),
            Self::Malformed(tag) => write!(f, "a malformed {tag:?} command"),
            Self::NestedAsker => write!(f, "a command on behalf of two"),
        }
    }
}

impl std::error::Error for BadCommand {}

#[cfg(test)]
mod tests {
    use vlot_proto::etcdserverpb::{AuthUserAddRequest, AuthUserDeleteRequest};

    use super::*;
    use crate::auth::{Caller, TokenKey};

    #[test]
    fn a_command_survives_its_bytes() {
        let put = PutRequest { key: "k".into(), value: "v".into(), ..Default::default() };
        for command in [
            Command::Put(put.clone()),
            Command::DeleteRange(DeleteRangeRequest { key: "k".into(), ..Default::default() }),
            Command::Txn(TxnRequest::default()),
            Command::Compact(CompactionRequest { revision: 7, physical: true }),
            Command::SetAttribute { name: "member/1".into(), value: "url".into() },
            Command::LeaseGrant(LeaseGrantRequest { id: -7, ttl: 60 }),
            Command::LeaseRevoke(LeaseRevokeRequest { id: 7 }),
            Command::LeaseKeepAlive(vec![]),
            Command::LeaseKeepAlive(vec![i64::MIN, -1, 0, 1, i64::MAX]),
            Command::LeaseTime(LeaseTime { term: 3, now: u64::MAX, renewals: 0, ended: vec![(-1, 5), (1, 6)] }),
            Command::Alarm(AlarmRequest { action: 1, member_id: 7, alarm: 2 }),
            Command::Auth(AuthCommand::Enable { token_key: TokenKey([7; 32]) }),
            Command::Auth(AuthCommand::Disable),
            Command::Auth(AuthCommand::UserAdd(AuthUserAddRequest { name: "u".into(), ..Default::default() })),
            Command::Auth(AuthCommand::UserDelete(AuthUserDeleteRequest { name: "u".into() })),
            Command::Auth(AuthCommand::UserChangePassword(Default::default())),
            Command::Auth(AuthCommand::UserGrantRole(Default::default())),
            Command::Auth(AuthCommand::UserRevokeRole(Default::default())),
            Command::Auth(AuthCommand::RoleAdd(Default::default())),
            Command::Auth(AuthCommand::RoleDelete(Default::default())),
            Command::Auth(AuthCommand::RoleGrantPermission(Default::default())),
            Command::Auth(AuthCommand::RoleRevokePermission(Default::default())),
            Command::SetQuota(SetQuotaRequest { prefix: "p".into(), bytes_max: 1, keys_max: i64::MAX }),
            Command::RemoveQuota(RemoveQuotaRequest { prefix: "p".into() }),
            Command::Put(put.clone()).by(Asker::Server),
            Command::Put(put.clone()).by(Asker::Client(Caller { user: "u".into(), revision: u64::MAX })),
            Command::Auth(AuthCommand::Disable).by(Asker::Client(Caller { user: "".into(), revision: 0 })),
        ] {
            assert_eq!(Command::decode(command.encode()), Ok(command));
        }
        assert_eq!(Command::decode(Tag::Put.with(&put.encode_to_vec())), Ok(Command::Put(put)));
    }

    #[test]
    fn keys_and_values_are_slices_of_the_command() {
        let bytes =
            Command::Put(PutRequest { key: "key".into(), value: "value".into(), ..Default::default() }).encode();
        let Ok(Command::Put(put)) = Command::decode(bytes.clone()) else { panic!("a put") };
        let within = bytes.as_ptr_range();
        assert!(within.contains(&put.key.as_ptr()) && within.contains(&put.value.as_ptr()));
    }

    #[test]
    fn bytes_that_are_no_command_are_named() {
        let rows: [(&'static [u8], BadCommand); 20] = [
            (b"", BadCommand::Empty),
            (b"\0", BadCommand::UnknownTag(0)),
            (b"\xffabc", BadCommand::UnknownTag(255)),
            (b"\x08\x80", BadCommand::Malformed(Tag::LeaseKeepAlive)),
            (b"\x09\x01\x02", BadCommand::Malformed(Tag::LeaseTime)),
            (b"\x09\x01\x02\x03\x04", BadCommand::Malformed(Tag::LeaseTime)),
            (b"\x01\xff", BadCommand::Malformed(Tag::Put)),
            (b"\x05\x05\0\0\0abcd", BadCommand::Malformed(Tag::SetAttribute)),
            (b"\x0bshort", BadCommand::Malformed(Tag::AuthEnable)),
            (b"\x0c!", BadCommand::Malformed(Tag::AuthDisable)),
            (b"\x0d\xff", BadCommand::Malformed(Tag::UserAdd)),
            (b"\x17\xff", BadCommand::Malformed(Tag::SetQuota)),
            (b"\x18\xff", BadCommand::Malformed(Tag::RemoveQuota)),
            (b"\x16", BadCommand::Malformed(Tag::By)),
            (b"\x16\x02\x00\x0c", BadCommand::Malformed(Tag::By)),
            (b"\x16\x01\x02\x0c", BadCommand::Malformed(Tag::By)),
            (b"\x16\x01\x01\x05abc", BadCommand::Malformed(Tag::By)),
            (b"\x16\x01\x01\x01\xff\x01\x0c", BadCommand::Malformed(Tag::By)),
            (b"\x16\x01\x00", BadCommand::Empty),
            (b"\x16\x01\x00\x16\x01\x00\x0c", BadCommand::NestedAsker),
        ];
        for (bytes, expected) in rows {
            assert_eq!(Command::decode(Bytes::from_static(bytes)), Err(expected));
        }
    }
}
