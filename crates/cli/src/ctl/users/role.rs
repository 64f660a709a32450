//! `vlot role`: what roles there are, and which keys they open.

use bytes::Bytes;
use clap::{ArgMatches, Command};
use vlot_proto::authpb::Permission;
use vlot_proto::authpb::permission::Type;
use vlot_proto::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleAddResponse, AuthRoleDeleteRequest, AuthRoleDeleteResponse, AuthRoleGetRequest,
    AuthRoleGetResponse, AuthRoleGrantPermissionRequest, AuthRoleGrantPermissionResponse, AuthRoleListRequest,
    AuthRoleListResponse, AuthRoleRevokePermissionRequest, AuthRoleRevokePermissionResponse,
};

use crate::client::{Repeat, path};
use crate::ctl::flags::{Settings, is_set, switch, words, words_of};
use crate::ctl::kv::keys::{KeyRange, NO_END, prefix_end};
use crate::ctl::{Exit, show};

/// The command and its subcommands.
pub fn command() -> Command {
    let named = |name, about| Command::new(name).about(about).arg(words("ROLE_NAME"));
    let ranges = || {
        [
            switch("prefix", "The permission is for all keys with this prefix"),
            switch("from-key", "The permission is for all keys that are greater than or equal to this one"),
        ]
    };
    Command::new("role").about("Role related commands").subcommands([
        named("add", "Adds a new role"),
        named("delete", "Deletes a role"),
        named("get", "Gets detailed information of a role"),
        Command::new("list").about("Lists all roles").arg(words("")),
        Command::new("grant-permission")
            .about("Grants a key to a role")
            .arg(words("ROLE_NAME read|write|readwrite KEY [END_KEY]"))
            .args(ranges()),
        Command::new("revoke-permission")
            .about("Revokes a key from a role")
            .arg(words("ROLE_NAME KEY [END_KEY]"))
            .args(ranges()),
    ])
}

/// Makes the call and prints its outcome.
pub async fn run(settings: &Settings, matches: &ArgMatches) -> Result<(), Exit> {
    let (name, matches) = matches.subcommand().expect("role requires a subcommand");
    let words = words_of(matches);
    match name {
        "grant-permission" => return grant(settings, matches, &words).await,
        "revoke-permission" => return revoke(settings, matches, &words).await,
        "list" if words.is_empty() => {
            let reply: AuthRoleListResponse =
                settings.call(path::ROLE_LIST, &AuthRoleListRequest {}, Repeat::Freely).await?;
            return show(&settings.printer.role_list(&reply)?);
        }
        "list" => return Err(Exit::bad_args("role list command requires no arguments")),
        _ => {}
    }
    let [role] = words.as_slice() else {
        return Err(Exit::bad_args(format!("role {name} command requires role name as its argument")));
    };
    let role = text(role);
    let output = match name {
        "add" => {
            let request = AuthRoleAddRequest { name: role.clone() };
            let reply: AuthRoleAddResponse = settings.call(path::ROLE_ADD, &request, Repeat::IfUnsent).await?;
            settings.printer.user_change(&reply, reply.header, || format!("Role {role} created"))
        }
        "delete" => {
            let request = AuthRoleDeleteRequest { role: role.clone() };
            let reply: AuthRoleDeleteResponse = settings.call(path::ROLE_DELETE, &request, Repeat::IfUnsent).await?;
            settings.printer.user_change(&reply, reply.header, || format!("Role {role} deleted"))
        }
        _ => {
            let request = AuthRoleGetRequest { role: role.clone() };
            let reply: AuthRoleGetResponse = settings.call(path::ROLE_GET, &request, Repeat::Freely).await?;
            settings.printer.role_get(&role, &reply)
        }
    };
    show(&output?)
}

async fn grant(settings: &Settings, matches: &ArgMatches, words: &[Bytes]) -> Result<(), Exit> {
    let [role, kind, keys @ ..] = words else { return Err(Exit::bad_args(GRANT_USAGE)) };
    if keys.is_empty() {
        return Err(Exit::bad_args(GRANT_USAGE));
    }
    let (role, kind) = (text(role), text(kind));
    let Some(perm_type) = Type::from_str_name(&kind.to_uppercase()) else {
        return Err(Exit::bad_args(format!("invalid permission type: {kind}")));
    };
    let KeyRange { key, end } = range_of_permission(matches, keys)?;
    let perm = Some(Permission { perm_type: perm_type.into(), key, range_end: end });
    let request = AuthRoleGrantPermissionRequest { name: role.clone(), perm };
    let reply: AuthRoleGrantPermissionResponse =
        settings.call(path::ROLE_GRANT_PERMISSION, &request, Repeat::IfUnsent).await?;
    show(&settings.printer.user_change(&reply, reply.header, || format!("Role {role} updated"))?)
}

const GRANT_USAGE: &str = "role grant command requires role name, permission type, and key [endkey] as its argument";

async fn revoke(settings: &Settings, matches: &ArgMatches, words: &[Bytes]) -> Result<(), Exit> {
    let [role, keys @ ..] = words else { return Err(Exit::bad_args(REVOKE_USAGE)) };
    let [written, ..] = keys else { return Err(Exit::bad_args(REVOKE_USAGE)) };
    let (role, written) = (text(role), text(written));
    let KeyRange { key, end } = range_of_permission(matches, keys)?;
    let told_end = end.clone();
    let request = AuthRoleRevokePermissionRequest { role: role.clone(), key, range_end: end };
    let reply: AuthRoleRevokePermissionResponse =
        settings.call(path::ROLE_REVOKE_PERMISSION, &request, Repeat::IfUnsent).await?;
    let told = || match &told_end[..] {
        b"" => format!("Permission of key {written} is revoked from role {role}"),
        NO_END => format!("Permission of range [{written}, <open ended> is revoked from role {role}"),
        end => {
            format!("Permission of range [{written}, {}) is revoked from role {role}", String::from_utf8_lossy(end))
        }
    };
    show(&settings.printer.user_change(&reply, reply.header, told)?)
}

const REVOKE_USAGE: &str = "role revoke-permission command requires role name and key [endkey] as its argument";

/// The keys that one or two words and the switches mean. Unlike in other commands, an empty key is the first one there
/// can be.
fn range_of_permission(matches: &ArgMatches, words: &[Bytes]) -> Result<KeyRange, Exit> {
    let (prefix, from_key) = (is_set(matches, "prefix"), is_set(matches, "from-key"));
    let both = || Err(Exit::bad_args("--from-key and --prefix flags are mutually exclusive"));
    let first = Bytes::from_static(b"\0");
    let no_end = Bytes::from_static(NO_END);
    match words {
        [key, ..] if key.is_empty() => match (prefix, from_key) {
            (true, true) => both(),
            (false, false) => Ok(KeyRange { key: first, end: Bytes::new() }),
            _ => Ok(KeyRange { key: first, end: no_end }),
        },
        [key] => match (prefix, from_key) {
            (true, true) => both(),
            (true, false) => Ok(KeyRange { key: key.clone(), end: prefix_end(key) }),
            (false, true) => Ok(KeyRange { key: key.clone(), end: no_end }),
            (false, false) => Ok(KeyRange { key: key.clone(), end: Bytes::new() }),
        },
        _ if prefix => Err(Exit::bad_args("unexpected endkey argument with --prefix flag")),
        _ if from_key => Err(Exit::bad_args("unexpected endkey argument with --from-key flag")),
        [key, end, ..] => Ok(KeyRange { key: key.clone(), end: end.clone() }),
        [] => Ok(KeyRange::default()),
    }
}

fn text(word: &Bytes) -> String {
    String::from_utf8_lossy(word).into_owned()
}
