use std::time::{Duration, Instant};

use super::*;

/// The least cost that bcrypt knows, so that tests are quick.
const CHEAP: u32 = 4;

#[tokio::test]
async fn a_password_fits_its_own_hash_and_no_other() {
    let passwords = Passwords::new(CHEAP);
    let hash = passwords.hash("secret".into()).await.unwrap();
    assert!(hash.starts_with("$2a$04$"), "{hash}");
    // Twice, for the second time is answered from memory.
    for _ in 0..2 {
        assert_eq!(passwords.check(None, "anna", Some(&hash), "secret").await, Ok(true));
        assert_eq!(passwords.check(None, "anna", Some(&hash), "Secret").await, Ok(false));
        assert_eq!(passwords.check(None, "berta", None, "secret").await, Ok(false));
        assert_eq!(passwords.check(None, "anna", Some("no hash"), "secret").await, Ok(false));
    }
    let other = passwords.hash("other".into()).await.unwrap();
    assert_eq!(passwords.check(None, "anna", Some(&other), "secret").await, Ok(false), "the password has changed");
}

#[tokio::test]
async fn passwords_are_as_long_as_bcrypt_takes_them() {
    let passwords = Passwords::new(CHEAP);
    assert!(passwords.hash("x".repeat(72)).await.is_ok());
    let refused = passwords.hash("x".repeat(73)).await.unwrap_err();
    assert_eq!((refused.code, &*refused.message), (Code::Unknown, "bcrypt: password length exceeds 72 bytes"));
    let empty = passwords.hash(String::new()).await.unwrap();
    assert_eq!(passwords.check(None, "anna", Some(&empty), "").await, Ok(true));
    assert_eq!(passwords.check(None, "anna", Some(&empty), "x").await, Ok(false));
}

#[test]
fn hashes_of_gos_library_are_read() {
    // Made by golang.org/x/crypto/bcrypt, as etcd does.
    let hash = "$2a$10$XajjQvNhvvRt5GSeFk1xFeyqRrsxkhBkUiQeg0dt.wU1qD4aFDcga";
    assert!(bcrypt::verify("allmine", hash).unwrap());
}

#[test]
fn the_decoy_is_a_hash_that_no_password_has() {
    for cost in [4, 10] {
        assert!(!bcrypt::verify("secret", &decoy(cost)).unwrap(), "it is read, and takes as long as any");
    }
}

/// The costlier ones take about as long as each other, and a remembered one no time at all.
#[tokio::test]
async fn an_unknown_user_takes_as_long_as_a_known_one() {
    let passwords = Passwords::new(10);
    let hash = passwords.hash("secret".into()).await.unwrap();
    let took = async |hash: Option<&str>, password: &str| {
        let begun = Instant::now();
        assert_eq!(passwords.check(None, "anna", hash, password).await, Ok(false));
        begun.elapsed()
    };
    let mut known = Duration::MAX;
    let mut unknown = Duration::MAX;
    for guess in ["a", "b", "c", "d", "e"] {
        known = known.min(took(Some(&hash), guess).await);
        unknown = unknown.min(took(None, guess).await);
    }
    assert!(unknown > known / 2 && known > unknown / 2, "{known:?} {unknown:?}");
}

#[tokio::test]
async fn the_same_password_is_checked_once_for_all_that_come_with_it() {
    let passwords = Passwords::new(10);
    let hash = passwords.hash("secret".into()).await.unwrap();
    let all = (0..1000).map(|_| {
        let (passwords, hash) = (passwords.clone(), hash.clone());
        tokio::spawn(async move { passwords.check(None, "anna", Some(&hash), "secret").await })
    });
    // One at a time they would take a minute.
    for one in all.collect::<Vec<_>>() {
        assert_eq!(tokio::time::timeout(Duration::from_secs(20), one).await.unwrap().unwrap(), Ok(true));
    }
}

#[tokio::test]
async fn a_client_that_guesses_does_not_starve_others() {
    let passwords = Passwords::new(10);
    let hash = passwords.hash("secret".into()).await.unwrap();
    let guessing = (0..200).map(|n| {
        let (passwords, hash) = (passwords.clone(), hash.clone());
        let from = Some([10, 0, 0, 1].into());
        tokio::spawn(async move { passwords.check(from, "anna", Some(&hash), &format!("guess{n}")).await })
    });
    let guessing: Vec<_> = guessing.collect();
    tokio::task::yield_now().await;
    let honest = passwords.check(Some([10, 0, 0, 2].into()), "anna", Some(&hash), "secret");
    assert_eq!(tokio::time::timeout(Duration::from_secs(10), honest).await.unwrap(), Ok(true));
    let mut refused = 0;
    for guess in guessing {
        match guess.await.unwrap() {
            Ok(is_right) => assert!(!is_right),
            Err(status) => {
                assert_eq!(status, Status::TOO_MANY_REQUESTS);
                refused += 1;
            }
        }
    }
    assert!(refused > 150, "{refused}");
}
