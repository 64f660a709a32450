//! The user that a run's calls are made as, by flags and variables that are etcdctl's.

use clap::Args;

use super::error::BenchError;
use crate::client::Credentials;

/// The flags. Empty texts are as good as none.
#[derive(Args, Clone)]
pub struct UserFlags {
    /// Who calls; one login for the whole run, and another whenever its token has ended
    #[arg(long, value_name = "NAME[:PASSWORD]", env = "ETCDCTL_USER", hide_env_values = true, default_value = "")]
    user: String,
    /// Password of --user, which then is the name alone
    #[arg(long, env = "ETCDCTL_PASSWORD", hide_env_values = true, default_value = "")]
    password: String,
}

impl UserFlags {
    /// What to log in with, if anything.
    ///
    /// # Errors
    /// There is a user without a password: nobody is asked for one here.
    pub fn credentials(&self) -> Result<Option<Credentials>, BenchError> {
        let UserFlags { user, password } = self.clone();
        if user.is_empty() {
            return Ok(None);
        }
        if !password.is_empty() {
            return Ok(Some(Credentials { name: user, password }));
        }
        match user.split_once(':') {
            Some((name, password)) => Ok(Some(Credentials { name: name.to_owned(), password: password.to_owned() })),
            None => Err(BenchError::NoPassword { user }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_read_as_etcdctl_reads_it() {
        let read = |user: &str, password: &str| {
            let flags = UserFlags { user: user.to_owned(), password: password.to_owned() };
            flags.credentials().map(|read| read.map(|Credentials { name, password }| (name, password)))
        };
        let some = |name: &str, password: &str| Some((name.to_owned(), password.to_owned()));
        for (user, password, expected) in [
            ("", "", None),
            ("", "secret", None),
            ("anna:secret", "", some("anna", "secret")),
            ("anna:a:b", "", some("anna", "a:b")),
            ("anna:", "", some("anna", "")),
            ("anna", "secret", some("anna", "secret")),
            ("an:na", "secret", some("an:na", "secret")),
        ] {
            assert_eq!(read(user, password).unwrap(), expected, "{user} {password}");
        }
        let refusal = read("anna", "").unwrap_err().to_string();
        assert!(refusal.contains("--user=anna:PASSWORD"), "{refusal}");
    }
}
