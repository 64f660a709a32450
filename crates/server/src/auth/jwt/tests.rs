use base64::engine::general_purpose::STANDARD;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn pem(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/src/auth/jwt/testdata/{name}.pem", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn keys(method: SignMethod, public: &[&str], private: Option<&str>) -> Result<Keys, BadKeys> {
    let several = public.iter().flat_map(|name| pem(name)).collect::<Vec<_>>();
    let public = Some(several).filter(|all| !all.is_empty());
    Keys::read(method, public.as_deref(), private.map(pem).as_deref())
}

fn jwt(method: SignMethod, public: &[&str], private: Option<&str>) -> Jwt {
    Jwt::new(method, MINUTE, keys(method, public, private).unwrap_or_else(|bad| panic!("{}: {bad}", method.name())))
}

fn anna() -> Claims {
    Claims { user: "anna".into(), revision: 7 }
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// What each method takes: a private key as openssl writes it.
const PRIVATE: [(SignMethod, &str); 14] = [
    (SignMethod::Hs256, "rsa"),
    (SignMethod::Hs384, "rsa"),
    (SignMethod::Hs512, "rsa"),
    (SignMethod::Rs256, "rsa"),
    (SignMethod::Rs384, "rsa"),
    (SignMethod::Rs512, "rsa_pkcs1"),
    (SignMethod::Ps256, "rsa"),
    (SignMethod::Ps384, "rsa_pkcs1"),
    (SignMethod::Ps512, "rsa"),
    (SignMethod::Es256, "p256"),
    (SignMethod::Es256, "p256_sec1"),
    (SignMethod::Es384, "p384"),
    (SignMethod::EdDsa, "ed25519"),
    // A secret is whatever its file holds.
    (SignMethod::Hs256, "p256"),
];

#[test]
fn every_method_signs_what_it_verifies_and_nothing_that_was_changed() {
    for (method, private) in PRIVATE {
        let jwt = jwt(method, &[], Some(private));
        let token = jwt.sign(&anna(), at(1000)).unwrap();
        // The second time is answered from memory.
        for _ in 0..2 {
            assert_eq!(jwt.read(&token, at(1000)), Some(anna()), "{}", method.name());
        }
        assert_eq!(jwt.read(&token, at(1059)), Some(anna()));
        assert_eq!(jwt.read(&token, at(1060)), None, "it has expired");
        let places = (0..token.len()).step_by(7).chain([token.len() - 3]);
        for place in places {
            let mut changed = token.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            assert_eq!(jwt.read(&String::from_utf8(changed).unwrap(), at(1000)), None, "{} {place}", method.name());
        }
        for cut in [0, 1, token.len() / 2, token.len() - 1] {
            assert_eq!(jwt.read(&token[..cut], at(1000)), None);
        }
    }
}

#[test]
fn a_token_has_etcds_header_and_claims() {
    let token = jwt(SignMethod::Hs256, &[], Some("p256")).sign(&anna(), at(1000)).unwrap();
    let parts: Vec<_> = token.split('.').take(2).map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
    assert_eq!(String::from_utf8_lossy(&parts[0]), r#"{"alg":"HS256","typ":"JWT"}"#);
    assert_eq!(String::from_utf8_lossy(&parts[1]), r#"{"exp":1060,"revision":7,"username":"anna"}"#);
}

#[test]
fn the_method_is_the_operators_and_not_the_tokens() {
    let rsa = jwt(SignMethod::Rs256, &[], Some("rsa"));
    let other = jwt(SignMethod::Rs512, &[], Some("rsa")).sign(&anna(), at(1000)).unwrap();
    assert_eq!(rsa.read(&other, at(1000)), None);
    // The public key is known to all: it must not pass for a secret.
    let public_as_secret = Keys::read(SignMethod::Hs256, None, Some(&pem("rsa_pub"))).unwrap();
    let forged = Jwt::new(SignMethod::Hs256, MINUTE, public_as_secret).sign(&anna(), at(1000)).unwrap();
    assert_eq!(jwt(SignMethod::Rs256, &["rsa_pub"], None).read(&forged, at(1000)), None);
    let claims = URL_SAFE_NO_PAD.encode(r#"{"username":"root","revision":7}"#);
    for algorithm in ["none", "None", "", "RS256"] {
        let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{algorithm}"}}"#));
        assert_eq!(rsa.read(&format!("{header}.{claims}."), at(1000)), None, "{algorithm}");
    }
}

#[test]
fn a_public_key_alone_verifies_and_signs_nothing() {
    let rows = [
        (SignMethod::Rs256, "rsa_pub", "rsa"),
        (SignMethod::Ps384, "rsa_cert", "rsa_pkcs1"),
        (SignMethod::Es256, "p256_pub", "p256"),
        (SignMethod::EdDsa, "ed25519_pub", "ed25519"),
    ];
    for (method, public, private) in rows {
        let verifies = jwt(method, &[public], None);
        assert_eq!(verifies.sign(&anna(), at(1000)), Err(Unsigned::VerifyOnly));
        let token = jwt(method, &[public], Some(private)).sign(&anna(), at(1000)).unwrap();
        assert_eq!(verifies.read(&token, at(1000)), Some(anna()), "{}", method.name());
    }
}

#[test]
fn any_of_several_public_keys_may_have_signed() {
    let token = jwt(SignMethod::EdDsa, &[], Some("ed25519")).sign(&anna(), at(1000)).unwrap();
    let both = jwt(SignMethod::EdDsa, &["ed25519_other_pub", "ed25519_pub"], None);
    assert_eq!(both.read(&token, at(1000)), Some(anna()));
    let other = keys(SignMethod::EdDsa, &["ed25519_other_pub"], None).unwrap();
    both.replace(other);
    assert_eq!(both.read(&token, at(1000)), None, "what is remembered goes with the key");
}

#[test]
fn claims_say_from_when_and_until_when() {
    let secret: &[u8] = b"secret";
    let jwt = Jwt::new(SignMethod::Hs256, MINUTE, Keys::read(SignMethod::Hs256, None, Some(secret)).unwrap());
    let signed = |claims: &str| {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
        let signature = jwt.keys().sign(signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    };
    let rows = [
        (r#"{"username":"anna","revision":7}"#, true),
        (r#"{"username":"anna","revision":7.0,"exp":1001}"#, true),
        (r#"{"username":"anna","revision":7,"exp":1000}"#, false),
        (r#"{"username":"anna","revision":7,"nbf":1000,"iat":1000}"#, true),
        (r#"{"username":"anna","revision":7,"nbf":1001}"#, false),
        (r#"{"username":"anna","revision":7,"iat":1001}"#, false),
        (r#"{"username":"anna","revision":7,"exp":"never"}"#, false),
        (r#"{"username":"anna","revision":"7"}"#, false),
        (r#"{"username":7,"revision":7}"#, false),
        (r#"{"revision":7}"#, false),
        (r#"{"username":"anna"}"#, false),
        ("[]", false),
        ("not json", false),
    ];
    for (claims, is_good) in rows {
        assert_eq!(jwt.read(&signed(claims), at(1000)).is_some(), is_good, "{claims}");
    }
}

#[test]
fn a_private_key_whose_parts_do_not_fit_together_is_refused_before_it_signs() {
    let pem = String::from_utf8(pem("rsa_pkcs1")).unwrap();
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(base64).unwrap();
    // The last three parts are by what it signs, and have 128 bytes each.
    for place in (der.len() - 384..der.len()).step_by(16) {
        let mut changed = der.clone();
        changed[place] ^= 2;
        let pem = STANDARD.encode(changed);
        let pem = format!("-----BEGIN RSA PRIVATE KEY-----\n{pem}\n-----END RSA PRIVATE KEY-----\n");
        let refused = Keys::read(SignMethod::Rs256, None, Some(pem.as_bytes())).err().map(|bad| bad.to_string());
        assert!(refused.is_some_and(|told| told.starts_with("the key in priv-key is refused: ")), "{place}");
    }
}

#[test]
fn keys_that_do_not_do_are_named() {
    let rows = [
        (keys(SignMethod::Rs256, &[], None), "auth: missing key data: RS256 needs priv-key or pub-key"),
        (keys(SignMethod::Hs256, &["rsa_pub"], None), "auth: missing key data: HS256 needs priv-key"),
        (
            keys(SignMethod::EdDsa, &["ed25519_other_pub"], Some("ed25519")),
            "auth: public and private keys don't match: pub-key has not the public half of priv-key",
        ),
        (keys(SignMethod::Rs256, &[], Some("p256")), "the key in priv-key is refused"),
        (keys(SignMethod::Rs256, &[], Some("small")), "the key in priv-key is refused: it is too short; RSA keys need"),
        (
            keys(SignMethod::Ps512, &["small_pub"], None),
            "the key in pub-key is refused: it is too short; RSA keys need",
        ),
        (keys(SignMethod::Es256, &[], Some("p384")), "the key in priv-key is refused"),
        (keys(SignMethod::Es256, &[], Some("rsa_pub")), "priv-key has no key for ES256: expected a key on the curve"),
        (
            keys(SignMethod::Es384, &["p256_pub"], None),
            "pub-key has no key for ES384: expected a key on the curve P-384",
        ),
        (keys(SignMethod::Rs256, &["rsa_pub", "ed25519_pub"], None), "pub-key has no key for RS256: expected an RSA"),
        (Keys::read(SignMethod::Rs256, Some(b"no key"), None), "pub-key is not in PEM"),
        (Keys::read(SignMethod::Hs256, None, Some(b"")), "auth: missing key data: HS256 needs priv-key"),
    ];
    for (read, expected) in rows {
        let told = read.err().map(|bad| bad.to_string()).unwrap_or_default();
        assert!(told.starts_with(expected), "{told:?} {expected:?}");
    }
}
