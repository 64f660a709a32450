//! `vlot auth`: switch on, switch off and look at the checking of users.

use clap::{ArgMatches, Command};
use vlot_proto::etcdserverpb::{
    AuthDisableRequest, AuthDisableResponse, AuthEnableRequest, AuthEnableResponse, AuthRoleAddRequest,
    AuthRoleAddResponse, AuthStatusRequest, AuthStatusResponse, AuthUserGrantRoleRequest, AuthUserGrantRoleResponse,
};

use crate::client::{Repeat, path};
use crate::ctl::flags::{Settings, words, words_of};
use crate::ctl::{Exit, show};

/// The user without which nobody could switch it off again, and that user's role.
const ROOT: &str = "root";
/// etcd's text if that user has not that role.
const ROOT_HAS_NOT_ITS_ROLE: &str = "etcdserver: root user does not have root role";

/// The command and its subcommands.
pub fn command() -> Command {
    let plain = |name, about| Command::new(name).about(about).arg(words(""));
    Command::new("auth").about("Enable or disable authentication").subcommands([
        plain("enable", "Enables authentication"),
        plain("disable", "Disables authentication"),
        plain("status", "Returns authentication status"),
    ])
}

/// Makes the calls and prints their outcome.
pub async fn run(settings: &Settings, matches: &ArgMatches) -> Result<(), Exit> {
    let (name, matches) = matches.subcommand().expect("auth requires a subcommand");
    if !words_of(matches).is_empty() {
        return Err(Exit::bad_args(format!("auth {name} command does not accept any arguments")));
    }
    match name {
        "enable" => enable(settings).await,
        "disable" => {
            let _: AuthDisableResponse =
                settings.call(path::AUTH_DISABLE, &AuthDisableRequest {}, Repeat::IfUnsent).await?;
            show(b"Authentication Disabled\n")
        }
        _ => {
            let reply: AuthStatusResponse =
                settings.call(path::AUTH_STATUS, &AuthStatusRequest {}, Repeat::Freely).await?;
            show(&settings.printer.auth_status(&reply)?)
        }
    }
}

/// Switches it on, and gives root its role before if that is all that is missing.
async fn enable(settings: &Settings) -> Result<(), Exit> {
    let enabled: Result<AuthEnableResponse, Exit> =
        settings.call(path::AUTH_ENABLE, &AuthEnableRequest {}, Repeat::IfUnsent).await;
    match enabled {
        Ok(_) => {}
        Err(exit) if exit.message == ROOT_HAS_NOT_ITS_ROLE => {
            let role = AuthRoleAddRequest { name: ROOT.to_owned() };
            let _: AuthRoleAddResponse = settings.call(path::ROLE_ADD, &role, Repeat::IfUnsent).await?;
            let grant = AuthUserGrantRoleRequest { user: ROOT.to_owned(), role: ROOT.to_owned() };
            let _: AuthUserGrantRoleResponse = settings.call(path::USER_GRANT_ROLE, &grant, Repeat::IfUnsent).await?;
            let _: AuthEnableResponse =
                settings.call(path::AUTH_ENABLE, &AuthEnableRequest {}, Repeat::IfUnsent).await?;
        }
        Err(exit) => return Err(exit),
    }
    show(b"Authentication Enabled\n")
}
