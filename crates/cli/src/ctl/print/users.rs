//! What is said of users and roles, in each format.

use prost::Message;
use vlot_proto::authpb::Permission;
use vlot_proto::authpb::permission::Type;
use vlot_proto::etcdserverpb::{
    AuthRoleGetResponse, AuthRoleListResponse, AuthStatusResponse, AuthUserGetResponse, AuthUserListResponse,
    ResponseHeader,
};

use super::json::{Object, string};
use super::{Format, Printer, fields, line, unsupported};
use crate::ctl::Exit;
use crate::ctl::kv::keys::{NO_END, prefix_end};
use crate::ctl::notation::quoted;

impl Printer {
    /// A change of users or roles, which is told in a sentence; the answer is a header alone.
    pub fn user_change(
        &self,
        reply: &impl Message,
        header: Option<ResponseHeader>,
        told: impl FnOnce() -> String,
    ) -> Result<Vec<u8>, Exit> {
        match self.format {
            Format::Simple => Ok(line(told())),
            Format::Fields => Ok(header_alone(header).into()),
            Format::Json => Ok(line(Object::with_header(header).end())),
            Format::Protobuf => Ok(reply.encode_to_vec()),
            Format::Table => Err(unsupported("table")),
        }
    }

    /// The result of `auth status`.
    pub fn auth_status(&self, reply: &AuthStatusResponse) -> Result<Vec<u8>, Exit> {
        let told = || format!("Authentication Status: {}\nAuthRevision: {}", reply.enabled, reply.auth_revision);
        self.without_fields(
            reply,
            || line(told()),
            || {
                let mut object = Object::with_header(reply.header);
                object.truth("enabled", reply.enabled);
                object.unsigned("authRevision", reply.auth_revision);
                object.end()
            },
        )
    }

    /// The result of `user get`.
    pub fn user_get(&self, user: &str, reply: &AuthUserGetResponse) -> Result<Vec<u8>, Exit> {
        let roles: String = reply.roles.iter().map(|role| format!(" {role}")).collect();
        self.without_fields(
            reply,
            || line(format!("User: {user}\nRoles:{roles}")),
            || {
                let mut object = Object::with_header(reply.header);
                object.list("roles", &reply.roles, |role| string(role));
                object.end()
            },
        )
    }

    /// The result of `user list`.
    pub fn user_list(&self, reply: &AuthUserListResponse) -> Result<Vec<u8>, Exit> {
        let told = || reply.users.iter().flat_map(|user| line(user.clone())).collect();
        self.without_fields(reply, told, || {
            let mut object = Object::with_header(reply.header);
            object.list("users", &reply.users, |user| string(user));
            object.end()
        })
    }

    /// The result of `role list`.
    pub fn role_list(&self, reply: &AuthRoleListResponse) -> Result<Vec<u8>, Exit> {
        if self.format == Format::Fields {
            let roles: String = reply.roles.iter().map(|role| format!(" {}", quoted(role.as_bytes()))).collect();
            return Ok(format!("{}\"Roles\" :{roles}\n", header_alone(reply.header)).into());
        }
        let told = || reply.roles.iter().flat_map(|role| line(role.clone())).collect();
        self.without_fields(reply, told, || {
            let mut object = Object::with_header(reply.header);
            object.list("roles", &reply.roles, |role| string(role));
            object.end()
        })
    }

    /// The result of `role get`.
    pub fn role_get(&self, role: &str, reply: &AuthRoleGetResponse) -> Result<Vec<u8>, Exit> {
        if self.format == Format::Fields {
            let mut out = header_alone(reply.header);
            for permission in &reply.perm {
                // With one blank more than elsewhere, as etcdctl has it.
                fields::field(&mut out, "PermType", format!(" {}", permission.perm_type().as_str_name()));
                fields::field(&mut out, "Key", quoted(&permission.key));
                fields::field(&mut out, "RangeEnd", quoted(&permission.range_end));
            }
            return Ok(out.into());
        }
        self.without_fields(
            reply,
            || permissions(role, &reply.perm),
            || {
                let mut object = Object::with_header(reply.header);
                object.list("perm", &reply.perm, |permission| {
                    let mut object = Object::default();
                    object.number("permType", permission.perm_type.into());
                    object.bytes("key", &permission.key);
                    object.bytes("range_end", &permission.range_end);
                    object.end()
                });
                object.end()
            },
        )
    }

    fn without_fields(
        &self,
        reply: &impl Message,
        simple: impl FnOnce() -> Vec<u8>,
        json: impl FnOnce() -> String,
    ) -> Result<Vec<u8>, Exit> {
        match self.format {
            Format::Simple => Ok(simple()),
            Format::Json => Ok(line(json())),
            Format::Protobuf => Ok(reply.encode_to_vec()),
            Format::Fields => Err(unsupported("fields")),
            Format::Table => Err(unsupported("table")),
        }
    }
}

fn header_alone(header: Option<ResponseHeader>) -> String {
    let mut out = String::new();
    fields::header(&mut out, header);
    out
}

/// What a role may read, and what it may write.
fn permissions(role: &str, all: &[Permission]) -> Vec<u8> {
    let mut out = format!("Role {role}\n").into_bytes();
    for (title, only) in [("KV Read:", Type::Read), ("KV Write:", Type::Write)] {
        out.extend(format!("{title}\n").bytes());
        for permission in all {
            if permission.perm_type() == only || permission.perm_type() == Type::Readwrite {
                out.push(b'\t');
                push_range(&mut out, permission);
                out.push(b'\n');
            }
        }
    }
    out
}

fn push_range(out: &mut Vec<u8>, Permission { key, range_end, .. }: &Permission) {
    if range_end.is_empty() {
        return out.extend_from_slice(key);
    }
    out.push(b'[');
    out.extend_from_slice(key);
    if range_end[..] == *NO_END {
        out.extend_from_slice(b", <open ended>");
    } else {
        out.extend([b", ", &range_end[..], b")"].concat());
    }
    if prefix_end(key) == range_end {
        out.extend([b" (prefix ", &key[..], b")"].concat());
    }
}
