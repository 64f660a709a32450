//! The commands that change users and roles, and the header that says on whose behalf a command is.
//!
//! Owns their bytes. Must not know what they do.

use std::fmt;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{decode_varint, encode_varint};
use vlot_proto::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest,
    AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGrantRoleRequest,
    AuthUserRevokeRoleRequest,
};

use super::{Asker, Caller};
use crate::command::Tag;

/// The first byte of a header: how the rest of it is encoded.
const HEADER_FORMAT: u8 = 1;
/// The second byte: on whose behalf.
const BY_SERVER: u8 = 0;
const BY_CLIENT: u8 = 1;

/// What tokens are sealed with. Not shown to anybody.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct TokenKey(pub [u8; 32]);

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(..)")
    }
}

/// A change of users and roles. No password is in it: who proposes it has put its hash in its place.
#[derive(Clone, PartialEq)]
pub enum AuthCommand {
    /// From here on callers are asked who they are.
    Enable {
        /// Drawn by who proposes it.
        token_key: TokenKey,
    },
    /// From here on they are not.
    Disable,
    /// Add a user.
    UserAdd(AuthUserAddRequest),
    /// Delete a user.
    UserDelete(AuthUserDeleteRequest),
    /// Give a user another password.
    UserChangePassword(AuthUserChangePasswordRequest),
    /// Give a user a role.
    UserGrantRole(AuthUserGrantRoleRequest),
    /// Take a role from a user.
    UserRevokeRole(AuthUserRevokeRoleRequest),
    /// Add a role that permits nothing.
    RoleAdd(AuthRoleAddRequest),
    /// Delete a role, and take it from all users.
    RoleDelete(AuthRoleDeleteRequest),
    /// Permit a role something.
    RoleGrantPermission(AuthRoleGrantPermissionRequest),
    /// Permit a role something no more.
    RoleRevokePermission(AuthRoleRevokePermissionRequest),
}

impl fmt::Debug for AuthCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A hash is a secret, if not a great one.
        match self {
            Self::Enable { .. } => f.write_str("Enable"),
            Self::Disable => f.write_str("Disable"),
            Self::UserAdd(AuthUserAddRequest { name, .. }) => write!(f, "UserAdd({name:?})"),
            Self::UserChangePassword(request) => write!(f, "UserChangePassword({:?})", request.name),
            Self::UserDelete(request) => request.fmt(f),
            Self::UserGrantRole(request) => request.fmt(f),
            Self::UserRevokeRole(request) => request.fmt(f),
            Self::RoleAdd(request) => request.fmt(f),
            Self::RoleDelete(request) => request.fmt(f),
            Self::RoleGrantPermission(request) => request.fmt(f),
            Self::RoleRevokePermission(request) => request.fmt(f),
        }
    }
}

impl AuthCommand {
    /// Reads what follows the tag. None if that is no such command's.
    pub(crate) fn decode(tag: Tag, bytes: Bytes) -> Option<Self> {
        Some(match tag {
            Tag::AuthEnable => Self::Enable { token_key: TokenKey(bytes[..].try_into().ok()?) },
            Tag::AuthDisable => bytes.is_empty().then_some(Self::Disable)?,
            Tag::UserAdd => Self::UserAdd(Message::decode(bytes).ok()?),
            Tag::UserDelete => Self::UserDelete(Message::decode(bytes).ok()?),
            Tag::UserChangePassword => Self::UserChangePassword(Message::decode(bytes).ok()?),
            Tag::UserGrantRole => Self::UserGrantRole(Message::decode(bytes).ok()?),
            Tag::UserRevokeRole => Self::UserRevokeRole(Message::decode(bytes).ok()?),
            Tag::RoleAdd => Self::RoleAdd(Message::decode(bytes).ok()?),
            Tag::RoleDelete => Self::RoleDelete(Message::decode(bytes).ok()?),
            Tag::RoleGrantPermission => Self::RoleGrantPermission(Message::decode(bytes).ok()?),
            Tag::RoleRevokePermission => Self::RoleRevokePermission(Message::decode(bytes).ok()?),
            _ => return None,
        })
    }

    pub(crate) fn encode(&self) -> Bytes {
        match self {
            Self::Enable { token_key: TokenKey(key) } => Tag::AuthEnable.with(key),
            Self::Disable => Tag::AuthDisable.with(&[]),
            Self::UserAdd(request) => Tag::UserAdd.with(&request.encode_to_vec()),
            Self::UserDelete(request) => Tag::UserDelete.with(&request.encode_to_vec()),
            Self::UserChangePassword(request) => Tag::UserChangePassword.with(&request.encode_to_vec()),
            Self::UserGrantRole(request) => Tag::UserGrantRole.with(&request.encode_to_vec()),
            Self::UserRevokeRole(request) => Tag::UserRevokeRole.with(&request.encode_to_vec()),
            Self::RoleAdd(request) => Tag::RoleAdd.with(&request.encode_to_vec()),
            Self::RoleDelete(request) => Tag::RoleDelete.with(&request.encode_to_vec()),
            Self::RoleGrantPermission(request) => Tag::RoleGrantPermission.with(&request.encode_to_vec()),
            Self::RoleRevokePermission(request) => Tag::RoleRevokePermission.with(&request.encode_to_vec()),
        }
    }
}

impl Asker {
    /// Writes the header that goes in front of a plain command.
    pub fn encode(&self, buffer: &mut BytesMut) {
        buffer.put_slice(&[Tag::By as u8, HEADER_FORMAT]);
        match self {
            Self::Server => buffer.put_u8(BY_SERVER),
            Self::Client(Caller { user, revision }) => {
                buffer.put_u8(BY_CLIENT);
                encode_varint(user.len() as u64, buffer);
                buffer.put_slice(user.as_bytes());
                encode_varint(*revision, buffer);
            }
        }
    }

    /// At most how many bytes the header takes.
    #[must_use]
    pub fn size_hint(&self) -> usize {
        match self {
            Self::Server => 3,
            Self::Client(caller) => 3 + 2 * 10 + caller.user.len(),
        }
    }

    /// Reads a header that follows its tag, and leaves the plain command. None if it is none.
    pub(crate) fn decode(bytes: &mut Bytes) -> Option<Self> {
        if bytes.try_get_u8().ok()? != HEADER_FORMAT {
            return None;
        }
        match bytes.try_get_u8().ok()? {
            BY_SERVER => Some(Self::Server),
            BY_CLIENT => {
                let length = usize::try_from(decode_varint(bytes).ok()?).ok()?;
                if length > bytes.len() {
                    return None;
                }
                let user: Arc<str> = std::str::from_utf8(&bytes.split_to(length)).ok()?.into();
                let revision = decode_varint(bytes).ok()?;
                Some(Self::Client(Caller { user, revision }))
            }
            _ => None,
        }
    }
}
