//! How users prove who they are: what `--auth-token`, `--auth-token-ttl` and `--bcrypt-cost` say.
//!
//! Owns the options' form, and etcd's words where they are wrong. The key files that they name are read where they are used.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::arguments::Settings;
use super::{ConfigError, at_least, integer, text, values};

/// How users prove who they are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct AuthOptions {
    pub(crate) tokens: TokenKind,
    /// How costly the hash of a password is: two to this power.
    pub(crate) bcrypt_cost: u32,
}

/// What a user gets for a password.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum TokenKind {
    /// Nothing: certificates alone say who calls.
    None,
    /// A token that this cluster's members give and know.
    Simple { ttl: Duration },
    /// A JSON web token.
    Jwt(JwtOptions),
}

/// How JSON web tokens are signed and read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct JwtOptions {
    pub(crate) method: SignMethod,
    pub(crate) public_key: Option<PathBuf>,
    pub(crate) private_key: Option<PathBuf>,
    pub(crate) ttl: Duration,
}

/// One way to sign (RFC 7518, RFC 8037).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SignMethod {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

/// All of them, by their names.
const SIGN_METHODS: [(&str, SignMethod); 12] = [
    ("HS256", SignMethod::Hs256),
    ("HS384", SignMethod::Hs384),
    ("HS512", SignMethod::Hs512),
    ("RS256", SignMethod::Rs256),
    ("RS384", SignMethod::Rs384),
    ("RS512", SignMethod::Rs512),
    ("PS256", SignMethod::Ps256),
    ("PS384", SignMethod::Ps384),
    ("PS512", SignMethod::Ps512),
    ("ES256", SignMethod::Es256),
    ("ES384", SignMethod::Es384),
    ("EdDSA", SignMethod::EdDsa),
];

impl SignMethod {
    pub(crate) fn named(name: &str) -> Option<SignMethod> {
        SIGN_METHODS.iter().find(|(known, _)| *known == name).map(|(_, method)| *method)
    }

    pub(crate) fn name(self) -> &'static str {
        // Each is in the table, which a test checks.
        SIGN_METHODS.iter().find(|(_, method)| *method == self).map_or("", |(name, _)| name)
    }
}

const BCRYPT_COSTS: std::ops::RangeInclusive<i64> = 4..=31;
/// etcd's, also in the place of one that is out of bounds.
const BCRYPT_COST: u32 = 10;
const TTL: Duration = Duration::from_secs(300);

/// Reads them.
pub(super) fn auth_options(settings: &mut Settings) -> Result<AuthOptions, ConfigError> {
    let ttl = match at_least(settings, "auth-token-ttl", 0)? {
        0 => TTL,
        seconds => Duration::from_secs(seconds),
    };
    let tokens = token_kind(settings, ttl).map_err(ConfigError::AuthToken)?;
    Ok(AuthOptions { tokens, bcrypt_cost: bcrypt_cost(settings) })
}

fn token_kind(settings: &mut Settings, ttl: Duration) -> Result<TokenKind, BadAuthToken> {
    let given = text(settings, "auth-token").to_owned();
    let mut parts = given.split(',');
    let kind = parts.next().unwrap_or_default();
    let mut options: Vec<(&str, &str)> = Vec::new();
    for part in parts {
        let pair = part.split_once('=').filter(|(_, value)| !value.contains('='));
        let (name, value) = pair.ok_or_else(|| BadAuthToken::NotAPair { option: part.to_owned() })?;
        if options.iter().any(|(known, _)| *known == name) {
            return Err(BadAuthToken::Twice { option: name.to_owned() });
        }
        options.push((name, value));
    }
    match kind {
        "" => Ok(TokenKind::None),
        "simple" => Ok(TokenKind::Simple { ttl }),
        "jwt" => {
            let unknown = options.iter().map(|(name, _)| *name).filter(|name| !JWT_OPTIONS.contains(name));
            let told = unknown.map(|name| format!("--auth-token: the option {name} is unknown and has no effect"));
            settings.warnings.extend(told);
            jwt_options(&options).map(TokenKind::Jwt)
        }
        other => Err(BadAuthToken::Kind { given: other.to_owned() }),
    }
}

const JWT_OPTIONS: [&str; 4] = ["sign-method", "pub-key", "priv-key", "ttl"];

fn jwt_options(options: &[(&str, &str)]) -> Result<JwtOptions, BadAuthToken> {
    let given = |name: &str| options.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| *value);
    let file = |name| Some(given(name)).filter(|file| !file.is_empty()).map(Into::into);
    let ttl = match given("ttl") {
        "" => TTL,
        text => values::duration(text).ok_or_else(|| BadAuthToken::Ttl { given: text.to_owned() })?,
    };
    let method = given("sign-method");
    let method = SignMethod::named(method).ok_or_else(|| BadAuthToken::Method { given: method.to_owned() })?;
    Ok(JwtOptions { method, public_key: file("pub-key"), private_key: file("priv-key"), ttl })
}

fn bcrypt_cost(settings: &mut Settings) -> u32 {
    let given = integer(settings, "bcrypt-cost");
    if BCRYPT_COSTS.contains(&given) {
        return given as u32;
    }
    settings.warnings.push(format!("--bcrypt-cost={given} is not between 4 and 31: {BCRYPT_COST} is used"));
    BCRYPT_COST
}

/// Why `--auth-token` cannot be read.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the fields are what the variants name")]
pub enum BadAuthToken {
    /// It is of no kind that there is.
    Kind { given: String },
    /// An option is not of the form `name=value`.
    NotAPair { option: String },
    /// An option is there twice.
    Twice { option: String },
    /// The way to sign is missing, or there is none of this name.
    Method { given: String },
    /// The time to live is no duration.
    Ttl { given: String },
}

impl fmt::Display for BadAuthToken {
    /// Begins as etcd says it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const OPTIONS: &str = "auth: invalid auth options: --auth-token";
        match self {
            Self::Kind { given } => write!(out, "{OPTIONS}={given}: expected simple, or jwt,sign-method=..."),
            Self::NotAPair { option } => write!(out, "{OPTIONS} has {option:?}: expected name=value"),
            Self::Twice { option } => write!(out, "{OPTIONS} has {option} twice"),
            Self::Ttl { given } => write!(out, "{OPTIONS} has ttl={given}: expected a duration such as 5m"),
            Self::Method { given } => {
                let known = SIGN_METHODS.map(|(name, _)| name).join(", ");
                write!(
                    out,
                    "auth: invalid auth signature method: --auth-token has sign-method={given}: expected one of {known}"
                )
            }
        }
    }
}

impl std::error::Error for BadAuthToken {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_one_name() {
        for (name, method) in SIGN_METHODS {
            assert_eq!((method.name(), SignMethod::named(name)), (name, Some(method)));
        }
        // Those of no key and of a curve that is not here.
        for name in ["none", "ES512", "rs256", ""] {
            assert_eq!(SignMethod::named(name), None, "{name}");
        }
    }
}
