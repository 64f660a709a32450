use std::time::Duration;

use vlot_proto::etcdserverpb::{AuthUserAddRequest, AuthUserGrantRoleRequest};
use vlot_store::auth::{AuthCommand, ROOT, TokenKey};
use vlot_store::command::Command;
use vlot_store::revision::Position;
use vlot_store::store::{Options, Store};

use super::*;
use crate::config::{JwtOptions, SignMethod};

const NOW: u64 = 1_000_000;

/// Users root and anna of a store of its own, with or without authentication.
fn users(is_enabled: bool) -> Arc<Auth> {
    let dir = std::env::temp_dir().join(format!("vlot-auth-{}-{is_enabled}-{:p}", std::process::id(), &is_enabled));
    let mut store = Store::open(&dir, Options::default()).unwrap();
    let add = |name: &str| AuthCommand::UserAdd(AuthUserAddRequest { name: name.into(), ..Default::default() });
    let root = AuthUserGrantRoleRequest { user: ROOT.into(), role: ROOT.into() };
    let mut commands = vec![add(ROOT), add("anna"), AuthCommand::UserGrantRole(root)];
    commands.extend(is_enabled.then_some(AuthCommand::Enable { token_key: TokenKey([7; 32]) }));
    for (index, command) in (1..).zip(commands) {
        store.apply(Position { term: 1, index }, Command::Auth(command)).unwrap();
    }
    let auth = store.auth_now();
    drop(store);
    std::fs::remove_dir_all(dir).unwrap();
    auth
}

fn simple() -> Authenticator {
    let tokens = TokenKind::Simple { ttl: Duration::from_secs(300) };
    Authenticator::open(&AuthOptions { tokens, bcrypt_cost: 4 }).unwrap().0
}

fn credentials(token: Option<&str>, common_name: Option<&str>) -> Credentials {
    let named = Credentials { common_name: common_name.map(Into::into), ..Credentials::default() };
    named.with_token(token.map(str::as_bytes))
}

fn token_of(authenticator: &Authenticator, auth: &Auth, name: &str) -> String {
    authenticator.token(auth, NOW, name, auth.user(name).unwrap()).unwrap()
}

#[test]
fn a_token_says_who_calls_and_without_one_a_certificate_does() {
    let (auth, authenticator) = (users(true), simple());
    let token = token_of(&authenticator, &auth, "anna");
    let bearer = format!("Bearer {token}");
    let rows = [
        (credentials(None, None), Ok(None)),
        (credentials(Some(&token), None), Ok(Some("anna"))),
        (credentials(Some(&bearer), None), Ok(Some("anna"))),
        (credentials(None, Some("berta")), Ok(Some("berta"))),
        // It need not be a user, or have a name: what it may do is asked later.
        (credentials(None, Some("")), Ok(Some(""))),
        (credentials(Some(&token), Some("berta")), Ok(Some("anna"))),
        (credentials(Some("wrong"), Some("berta")), Err(Refusal::InvalidAuthToken)),
        (credentials(Some(""), Some("berta")), Err(Refusal::InvalidAuthToken)),
        (Credentials::default().with_token(Some(b"\xff")), Err(Refusal::InvalidAuthToken)),
    ];
    for (credentials, expected) in rows {
        let told = authenticator.identify(&auth, NOW, &credentials);
        let expected = expected.map(|user| user.map(|user| Caller { user: user.into(), revision: auth.revision() }));
        assert_eq!(told, expected, "{credentials:?}");
    }
}

#[test]
fn while_authentication_is_off_nobody_is_asked() {
    let told = simple().identify(&users(false), NOW, &credentials(Some("whatever"), Some("anna")));
    assert_eq!(told, Ok(None));
}

#[test]
fn a_token_is_of_one_key_and_one_generation() {
    let (auth, authenticator) = (users(true), simple());
    let good = simple::Claims { user: "anna".into(), generation: auth.user("anna").unwrap().generation(), issued: NOW };
    let is_good = |claims: &simple::Claims, key: &[u8], now: u64| {
        let (token, _) = claims.seal(key);
        authenticator.identify(&auth, now, &credentials(Some(&token), None)).is_ok()
    };
    assert!(is_good(&good, &[7; 32], NOW));
    assert!(!is_good(&good, &[8; 32], NOW));
    assert!(!is_good(&simple::Claims { generation: good.generation + 1, ..good.clone() }, &[7; 32], NOW));
    assert!(!is_good(&simple::Claims { user: "nobody".into(), ..good.clone() }, &[7; 32], NOW));
    let older = simple::Claims { issued: NOW - 1, ..good };
    assert!(!is_good(&older, &[7; 32], NOW + 300_000));
}

#[test]
fn a_signed_token_stands_at_its_revision() {
    let auth = users(true);
    let secret = std::env::temp_dir().join(format!("vlot-auth-secret-{}", std::process::id()));
    std::fs::write(&secret, "secret").unwrap();
    let options = JwtOptions {
        method: SignMethod::Hs256,
        public_key: None,
        private_key: Some(secret.clone()),
        ttl: Duration::MAX,
    };
    let options = AuthOptions { tokens: TokenKind::Jwt(options), bcrypt_cost: 4 };
    let (authenticator, files) = Authenticator::open(&options).unwrap();
    std::fs::remove_file(secret).unwrap();
    assert!(files.is_some(), "they are watched");
    let token = token_of(&authenticator, &auth, "anna");
    let told = authenticator.identify(&auth, NOW, &credentials(Some(&token), None));
    assert_eq!(told, Ok(Some(Caller { user: "anna".into(), revision: auth.revision() })));
}

#[test]
fn without_tokens_there_are_certificates() {
    let (auth, none) = (users(true), AuthOptions { tokens: TokenKind::None, bcrypt_cost: 4 });
    let authenticator = Authenticator::open(&none).unwrap().0;
    assert_eq!(authenticator.token(&auth, NOW, "anna", auth.user("anna").unwrap()), Err(Status::AUTH_FAILED));
    assert!(authenticator.identify(&auth, NOW, &credentials(Some("any"), Some("anna"))).is_err());
    assert!(authenticator.identify(&auth, NOW, &credentials(None, Some("anna"))).is_ok_and(|told| told.is_some()));
}

#[test]
fn what_is_shown_of_credentials_has_no_token() {
    assert!(!format!("{:?}", credentials(Some("secret"), None)).contains("secret"));
}
