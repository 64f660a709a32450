//! `vlot user`: who there is, their passwords and their roles.

use clap::{ArgMatches, Command};
use vlot_proto::authpb::UserAddOptions;
use vlot_proto::etcdserverpb::{
    AuthRoleGetRequest, AuthRoleGetResponse, AuthUserAddRequest, AuthUserAddResponse, AuthUserChangePasswordRequest,
    AuthUserChangePasswordResponse, AuthUserDeleteRequest, AuthUserDeleteResponse, AuthUserGetRequest,
    AuthUserGetResponse, AuthUserGrantRoleRequest, AuthUserGrantRoleResponse, AuthUserListRequest,
    AuthUserListResponse, AuthUserRevokeRoleRequest, AuthUserRevokeRoleResponse,
};

use crate::client::{Repeat, path};
use crate::ctl::flags::{Settings, is_set, switch, text, text_of, words, words_of};
use crate::ctl::terminal::ask_password;
use crate::ctl::{Exit, show};

/// The command and its subcommands.
pub fn command() -> Command {
    let interactive =
        || switch("interactive", "Ask for the password; otherwise it is read from stdin").default_value("true");
    Command::new("user").about("User related commands").subcommands([
        Command::new("add").about("Adds a new user").arg(words("USER_NAME or USER_NAME:PASSWORD")).args([
            interactive(),
            text("new-user-password", "", "Supply password from the command line flag"),
            switch("no-password", "Create a user without password (CN based auth only)"),
        ]),
        Command::new("delete").about("Deletes a user").arg(words("USER_NAME")),
        Command::new("get")
            .about("Gets detailed information of a user")
            .arg(words("USER_NAME"))
            .arg(switch("detail", "Show permissions of roles granted to the user")),
        Command::new("list").about("Lists all users").arg(words("")),
        Command::new("passwd").about("Changes password of user").arg(words("USER_NAME")).arg(interactive()),
        Command::new("grant-role").about("Grants a role to a user").arg(words("USER_NAME ROLE_NAME")),
        Command::new("revoke-role").about("Revokes a role from a user").arg(words("USER_NAME ROLE_NAME")),
    ])
}

/// Makes the call and prints its outcome.
pub async fn run(settings: &Settings, matches: &ArgMatches) -> Result<(), Exit> {
    let (name, matches) = matches.subcommand().expect("user requires a subcommand");
    let words: Vec<_> = words_of(matches).iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let printer = settings.printer;
    let output = match (name, words.as_slice()) {
        ("add", [user]) => {
            let request = new_user(matches, user).await?;
            let reply: AuthUserAddResponse = settings.call(path::USER_ADD, &request, Repeat::IfUnsent).await?;
            printer.user_change(&reply, reply.header, || format!("User {} created", request.name))
        }
        ("delete", [user]) => {
            let request = AuthUserDeleteRequest { name: user.clone() };
            let reply: AuthUserDeleteResponse = settings.call(path::USER_DELETE, &request, Repeat::IfUnsent).await?;
            printer.user_change(&reply, reply.header, || format!("User {user} deleted"))
        }
        ("get", [user]) => return get(settings, user, is_set(matches, "detail")).await,
        ("list", []) => {
            let reply: AuthUserListResponse =
                settings.call(path::USER_LIST, &AuthUserListRequest {}, Repeat::Freely).await?;
            printer.user_list(&reply)
        }
        ("passwd", [user]) => {
            let password = password_of(matches, user).await?;
            let request = AuthUserChangePasswordRequest { name: user.clone(), password, ..Default::default() };
            let reply: AuthUserChangePasswordResponse =
                settings.call(path::USER_CHANGE_PASSWORD, &request, Repeat::IfUnsent).await?;
            printer.user_change(&reply, reply.header, || "Password updated".to_owned())
        }
        ("grant-role", [user, role]) => {
            let request = AuthUserGrantRoleRequest { user: user.clone(), role: role.clone() };
            let reply: AuthUserGrantRoleResponse =
                settings.call(path::USER_GRANT_ROLE, &request, Repeat::IfUnsent).await?;
            printer.user_change(&reply, reply.header, || format!("Role {role} is granted to user {user}"))
        }
        ("revoke-role", [user, role]) => {
            let request = AuthUserRevokeRoleRequest { name: user.clone(), role: role.clone() };
            let reply: AuthUserRevokeRoleResponse =
                settings.call(path::USER_REVOKE_ROLE, &request, Repeat::IfUnsent).await?;
            printer.user_change(&reply, reply.header, || format!("Role {role} is revoked from user {user}"))
        }
        ("list", _) => return Err(Exit::bad_args("user list command requires no arguments")),
        ("grant-role", _) => {
            return Err(Exit::bad_args("user grant command requires user name and role name as its argument"));
        }
        ("revoke-role", _) => {
            return Err(Exit::bad_args("user revoke-role requires user name and role name as its argument"));
        }
        _ => return Err(Exit::bad_args(format!("user {name} command requires user name as its argument"))),
    };
    show(&output?)
}

async fn get(settings: &Settings, user: &str, detail: bool) -> Result<(), Exit> {
    let request = AuthUserGetRequest { name: user.to_owned() };
    let reply: AuthUserGetResponse = settings.call(path::USER_GET, &request, Repeat::Freely).await?;
    if !detail {
        return show(&settings.printer.user_get(user, &reply)?);
    }
    show(format!("User: {user}\n").as_bytes())?;
    for role in reply.roles {
        show(b"\n")?;
        let request = AuthRoleGetRequest { role: role.clone() };
        let reply: AuthRoleGetResponse = settings.call(path::ROLE_GET, &request, Repeat::Freely).await?;
        show(&settings.printer.role_get(&role, &reply)?)?;
    }
    Ok(())
}

async fn new_user(matches: &ArgMatches, written: &str) -> Result<AuthUserAddRequest, Exit> {
    let no_password = is_set(matches, "no-password");
    let given = text_of(matches, "new-user-password");
    let (name, password) = match written.split_once(':') {
        _ if no_password => (written, String::new()),
        _ if !given.is_empty() => (written, given.to_owned()),
        Some(("", _)) => return Err(Exit::bad_args("empty user name is not allowed")),
        Some((name, password)) => (name, password.to_owned()),
        None => (written, password_of(matches, written).await?),
    };
    let options = Some(UserAddOptions { no_password });
    Ok(AuthUserAddRequest { name: name.to_owned(), password, options, ..Default::default() })
}

/// Asks twice, or takes the first word of standard input.
async fn password_of(matches: &ArgMatches, user: &str) -> Result<String, Exit> {
    if !is_set(matches, "interactive") {
        let mut line = String::new();
        // Without a password the server has its say.
        let _ = std::io::stdin().read_line(&mut line);
        return Ok(line.split_whitespace().next().unwrap_or_default().to_owned());
    }
    let failed = |error| Exit::bad_args(format!("failed to ask password: {error}"));
    let password = ask_password(&format!("Password of {user}: ")).await.map_err(failed)?;
    if password.is_empty() {
        return Err(Exit::bad_args("empty password"));
    }
    let again = ask_password(&format!("Type password of {user} again for confirmation: ")).await.map_err(failed)?;
    if again != password {
        return Err(Exit::bad_args("given passwords are different"));
    }
    Ok(password)
}
