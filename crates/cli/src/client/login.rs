//! Logging in: a user's name and password for a token, which then goes with each call of a connection.
//!
//! Must not know when a connection is opened (see `client.rs`) or where a password comes from.

use std::fmt;
use std::time::Duration;

use http::HeaderValue;
use vlot_proto::etcdserverpb::{AuthenticateRequest, AuthenticateResponse};

use super::{BadAnswer, Channel, Failure, Status, path};

/// etcd's text where nobody needs to log in.
const NOT_ENABLED: &str = "etcdserver: authentication is not enabled";
/// etcd's texts when a token has expired, and when users or roles have changed since it was given.
const ENDED: [&str; 2] = ["etcdserver: invalid auth token", "etcdserver: revision of auth store is old"];

/// A user's name and password.
#[derive(Clone)]
pub struct Credentials {
    pub name: String,
    pub password: String,
}

impl fmt::Debug for Credentials {
    /// Without the password, which must not get into a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Gets a token, which the connection carries from here on.
    ///
    /// # Errors
    /// [`Failure::LoginRefused`], or what else may become of a call.
    pub async fn log_in(&self, channel: &mut Channel, budget: Duration) -> Result<(), Failure> {
        if let Some(token) = self.token(channel, budget).await? {
            channel.carry(token);
        }
        Ok(())
    }

    /// Gets a token. A server that asks nobody who they are gives none, and needs none.
    ///
    /// # Errors
    /// [`Failure::LoginRefused`], or what else may become of a call.
    pub async fn token(&self, channel: &mut Channel, budget: Duration) -> Result<Option<HeaderValue>, Failure> {
        let request = AuthenticateRequest { name: self.name.clone(), password: self.password.clone() };
        let reply: AuthenticateResponse = match channel.call(path::AUTHENTICATE, &request, budget).await {
            Ok(reply) => reply,
            Err(Failure::Refused(status)) if status.message == NOT_ENABLED => return Ok(None),
            Err(Failure::Refused(status)) if status.code != Status::UNAVAILABLE => {
                return Err(Failure::LoginRefused(status));
            }
            Err(failure) => return Err(failure),
        };
        HeaderValue::from_str(&reply.token).map(Some).map_err(|_| Failure::Malformed(BadAnswer::Token))
    }
}

/// Whether a call failed for the sake of its token alone, so that logging in again helps.
pub fn has_ended(failure: &Failure) -> bool {
    match failure {
        Failure::Refused(status) => ENDED.contains(&status.message.as_str()),
        // A watch is refused in a message of its stream, with gRPC's name of the code before the text.
        Failure::Malformed(BadAnswer::WatchCancelled { reason }) => ENDED.iter().any(|text| reason.ends_with(text)),
        _ => false,
    }
}
