//! Who calls: tokens, passwords, and names in certificates.
//!
//! Owns how a user proves to be one, and what a user gets for a password. Users, roles and what they may do are the store's; how a
//! call comes in, and what it brings along, is the edge's.

pub(crate) mod fuzzing;
mod jwt;
mod passwords;
mod recent;
mod simple;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use vlot_store::auth::{Auth, Caller, User};
use vlot_store::refusal::Refusal;

use self::jwt::{Jwt, Unsigned};
use self::passwords::Passwords;
use self::simple::Lifetimes;
use crate::config::{AuthOptions, TokenKind};
use crate::status::{Code, Status};

pub(crate) use jwt::{BadKeys, KeyFiles};

/// What a call brings along that says who makes it.
#[derive(Clone, Default)]
pub(crate) struct Credentials {
    /// A token, as it came.
    pub(crate) token: Option<Arc<str>>,
    /// The name in a certificate that was verified. Never of a call in JSON: who makes that is not who holds the connection.
    pub(crate) common_name: Option<Arc<str>>,
}

impl fmt::Debug for Credentials {
    /// Without the token, which must not get into a log.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = out.debug_struct("Credentials");
        shown.field("has_token", &self.token.is_some()).field("common_name", &self.common_name).finish()
    }
}

impl Credentials {
    /// Credentials with the token that stands in a header's value. What is no text is no token that is good.
    pub(crate) fn with_token(self, value: Option<&[u8]>) -> Credentials {
        let text = |value| std::str::from_utf8(value).unwrap_or_default();
        let token = value.map(|value| text(value).strip_prefix("Bearer ").unwrap_or(text(value)).into());
        Credentials { token, ..self }
    }
}

/// Finds out who calls.
pub(crate) struct Authenticator {
    tokens: Tokens,
    passwords: Arc<Passwords>,
}

enum Tokens {
    None,
    Simple(Lifetimes),
    Jwt(Arc<Jwt>),
}

impl Authenticator {
    /// Reads the key files, if there are any, and gives them back to be watched.
    ///
    /// # Errors
    /// A key file is not as it should be.
    pub(crate) fn open(options: &AuthOptions) -> Result<(Authenticator, Option<KeyFiles>), BadKeys> {
        let (tokens, files) = match &options.tokens {
            TokenKind::None => (Tokens::None, None),
            TokenKind::Simple { ttl } => (Tokens::Simple(Lifetimes::new(*ttl)), None),
            TokenKind::Jwt(options) => {
                let (jwt, files) = KeyFiles::open(options.clone())?;
                (Tokens::Jwt(jwt), Some(files))
            }
        };
        Ok((Authenticator { tokens, passwords: Passwords::new(options.bcrypt_cost) }, files))
    }

    /// Who calls, as far as it matters and can be told: by the token if there is one, else by the certificate. `now` is cluster
    /// time.
    ///
    /// # Errors
    /// The token is not good.
    pub(crate) fn identify(&self, auth: &Auth, now: u64, credentials: &Credentials) -> Result<Option<Caller>, Refusal> {
        if !auth.is_enabled() {
            return Ok(None);
        }
        if let Some(token) = &credentials.token {
            return self.bearer(auth, now, token).map(Some).ok_or(Refusal::InvalidAuthToken);
        }
        let named = |user: &Arc<str>| Caller { user: user.clone(), revision: auth.revision() };
        Ok(credentials.common_name.as_ref().map(named))
    }

    fn bearer(&self, auth: &Auth, now: u64, token: &str) -> Option<Caller> {
        match &self.tokens {
            Tokens::None => None,
            Tokens::Simple(lifetimes) => {
                let (claims, seal) = simple::Claims::open(&auth.token_key().0, token)?;
                let is_same = auth.user(&claims.user).is_some_and(|user| user.generation() == claims.generation);
                let is_good = is_same && lifetimes.use_once(claims.issued, seal, now, Instant::now());
                // A simple token is asked for what the user may do at each use, and so it is as new as users and roles are.
                is_good.then(|| Caller { user: claims.user.into(), revision: auth.revision() })
            }
            Tokens::Jwt(jwt) => {
                let jwt::Claims { user, revision } = jwt.read(token, SystemTime::now())?;
                Some(Caller { user: user.into(), revision })
            }
        }
    }

    /// Whether it depends on what this member has heard of users whether a token is good.
    pub(crate) fn asks_the_store(&self) -> bool {
        matches!(self.tokens, Tokens::Simple(_))
    }

    /// Gives a token to a user whose password was right. `now` is cluster time.
    ///
    /// # Errors
    /// This member gives none.
    pub(crate) fn token(&self, auth: &Auth, now: u64, name: &str, user: &User) -> Result<String, Status> {
        match &self.tokens {
            Tokens::None => Err(Status::AUTH_FAILED),
            Tokens::Simple(lifetimes) => {
                let claims = simple::Claims { user: name.to_owned(), generation: user.generation(), issued: now };
                let (token, seal) = claims.seal(&auth.token_key().0);
                // It is good here for its time to live, even if this member has reckoned time wrongly as yet.
                lifetimes.use_once(now, seal, now, Instant::now());
                Ok(token)
            }
            Tokens::Jwt(jwt) => {
                let claims = jwt::Claims { user: name.to_owned(), revision: auth.revision() };
                jwt.sign(&claims, SystemTime::now()).map_err(|unsigned| match unsigned {
                    Unsigned::VerifyOnly => Status::VERIFY_ONLY,
                    Unsigned::Failed => Status::new(Code::Internal, "vlot: the key of --auth-token does not sign"),
                })
            }
        }
    }

    /// Makes what is kept of a password: its hash by bcrypt, in base64.
    ///
    /// # Errors
    /// The password is too long, or too many wait.
    pub(crate) async fn hash(&self, password: String) -> Result<String, Status> {
        Ok(STANDARD.encode(self.passwords.hash(password).await?))
    }

    /// Whether a password is this user's. What is unknown, or has no password, takes as long as what is wrong.
    ///
    /// # Errors
    /// Too many wait.
    pub(crate) async fn check(
        &self,
        from: Option<IpAddr>,
        name: &str,
        user: Option<&User>,
        password: &str,
    ) -> Result<bool, Status> {
        // What is no base64, or no text, is no hash either, and fits no password.
        let hash = user.and_then(User::hash).map(|kept| STANDARD.decode(kept).unwrap_or_default());
        let hash = hash.map(|hash| String::from_utf8(hash).unwrap_or_default());
        self.passwords.check(from, name, hash.as_deref(), password).await
    }
}

/// Whether this may be kept as a hash: whether it is base64.
pub(crate) fn is_base64(text: &str) -> bool {
    STANDARD.decode(text).is_ok()
}

#[cfg(test)]
mod tests;
