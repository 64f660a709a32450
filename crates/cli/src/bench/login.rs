//! The users that log in by turns: who they are, and how they come to be.

use clap::Args;
use vlot_proto::authpb::UserAddOptions;
use vlot_proto::etcdserverpb::{AuthUserAddRequest, AuthUserAddResponse, AuthenticateRequest};

use super::{Load, at_least_one};
use crate::client::{Client, Failure, Options, Repeat, path};

/// etcd's text for a name that is taken.
const EXISTS: &str = "etcdserver: user name already exists";

/// Who logs in.
#[derive(Args, Clone)]
pub struct Logins {
    /// Users that log in by turns; their names are the prefix and a number, from 0 on
    #[arg(long, default_value_t = 100, value_parser = at_least_one)]
    users: usize,
    /// What the names of these users begin with
    #[arg(long, default_value = "bench-")]
    prefix: String,
    /// Password of each of these users
    #[arg(long)]
    users_password: String,
    /// Create those that do not exist, as --user may; they are left behind, and have no role
    #[arg(long)]
    create: bool,
}

impl Logins {
    /// Creates the users if that is asked for. One after the other: each change of users makes the tokens of some servers
    /// old, also that of who makes it.
    ///
    /// # Errors
    /// A user can neither be created nor does it exist.
    pub async fn prepare(&self, load: &Load, options: &Options) -> Result<(), Failure> {
        if !self.create {
            return Ok(());
        }
        let mut client = Client::new(load.endpoints.clone(), options.clone());
        for user in 0..self.users {
            let request = AuthUserAddRequest {
                name: self.name(user),
                password: self.users_password.clone(),
                options: Some(UserAddOptions { no_password: false }),
                ..AuthUserAddRequest::default()
            };
            let added = client.call::<AuthUserAddResponse>(path::USER_ADD, &request, Repeat::IfUnsent, load.timeout);
            match added.await {
                Ok(_) => {}
                Err(Failure::Refused(status)) if status.message == EXISTS => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    fn name(&self, user: usize) -> String {
        format!("{}{user}", self.prefix)
    }
}

/// One client's turns: with the other clients, all users in order, again and again.
pub struct Turns {
    logins: Logins,
    next: usize,
    stride: usize,
}

impl Turns {
    pub fn new(logins: &Logins, client: usize, clients: usize) -> Turns {
        Turns { logins: logins.clone(), next: client % logins.users, stride: clients % logins.users }
    }

    /// The next login.
    pub fn next(&mut self) -> AuthenticateRequest {
        let user = self.next;
        self.next = (self.next + self.stride) % self.logins.users;
        AuthenticateRequest { name: self.logins.name(user), password: self.logins.users_password.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_share_the_users() {
        let logins = Logins { users: 5, prefix: "u".to_owned(), users_password: "secret".to_owned(), create: false };
        for (client, clients, expected) in
            [(0, 2, ["u0", "u2", "u4", "u1"]), (1, 2, ["u1", "u3", "u0", "u2"]), (7, 8, ["u2", "u0", "u3", "u1"])]
        {
            let mut turns = Turns::new(&logins, client, clients);
            assert_eq!(expected.map(|_| turns.next().name), expected);
        }
        assert_eq!(Turns::new(&logins, 0, 1).next().password, "secret");
    }
}
