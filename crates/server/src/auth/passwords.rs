//! Passwords: hashed and checked by bcrypt, off the threads that serve.
//!
//! Owns how many are worked on and wait at a time, whose turn is next, and what is remembered of those that were checked: a keyed
//! hash under a key of this process, and never a password. Must not know where users and their hashes are kept.

mod line;

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::oneshot;

use self::line::{Job, Line};
use super::recent::Recent;
use crate::status::{Code, Status};
use crate::worker_pool::WorkerPool;

/// Passwords that were right and are remembered, twice.
const VERIFIED_MAX: usize = 16 * 1024;
/// Those that were wrong. They have a place of their own, so that guesses push out no password that is right.
const REFUTED_MAX: usize = 2 * 1024;
/// Callers that wait for a check, all together.
const CALLERS_MAX: usize = 16 * 1024;
/// New passwords that wait to be hashed.
const HASHING_MAX: usize = 64;
/// Bytes of a password that count; bcrypt knows no more.
const PASSWORD_BYTES_MAX: usize = 72;

/// Hashes and checks passwords.
pub(super) struct Passwords {
    cost: u32,
    /// What is remembered is hashed with it.
    key: hmac::Key,
    /// What an unknown user's password is held against. None fits.
    decoy: String,
    state: Mutex<State>,
    checkers: WorkerPool,
    hashers: WorkerPool,
    hashing: AtomicUsize,
}

struct State {
    verified: Recent<Name, ()>,
    refuted: Recent<Name, ()>,
    line: Line,
}

/// What is remembered of a user, a hash and a password.
type Name = [u8; 32];

/// Checks at a time: half of the cores is left to everything else.
fn checkers_max() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}

impl Passwords {
    pub(super) fn new(cost: u32) -> Arc<Passwords> {
        let random = SystemRandom::new();
        let mut key = [0; 32];
        random.fill(&mut key).expect("the system gives random bytes");
        let line = Line::default();
        Arc::new(Passwords {
            cost,
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            decoy: decoy(cost),
            state: Mutex::new(State { verified: Recent::new(VERIFIED_MAX), refuted: Recent::new(REFUTED_MAX), line }),
            checkers: WorkerPool::new(checkers_max()),
            hashers: WorkerPool::new(1),
            hashing: AtomicUsize::new(0),
        })
    }

    /// Makes the hash that is kept of a password.
    ///
    /// # Errors
    /// The password is too long, or too many wait.
    pub(super) async fn hash(&self, password: String) -> Result<String, Status> {
        if password.len() > PASSWORD_BYTES_MAX {
            // Go's words, which etcd passes on.
            return Err(Status::new(Code::Unknown, "bcrypt: password length exceeds 72 bytes"));
        }
        let _place = Place::take(&self.hashing, HASHING_MAX)?;
        let cost = self.cost;
        let hashed = self.hashers.run(move || bcrypt::hash_with_result(password, cost)).await?;
        let hashed = hashed.map_err(|error| Status::new(Code::Unknown, format!("bcrypt: {error}")))?;
        Ok(hashed.format_for_version(bcrypt::Version::TwoA))
    }

    /// Whether this is the user's password. `hash` is what is kept of it, and `None` of an unknown user, which takes as long.
    /// `from` is where the caller is.
    ///
    /// # Errors
    /// Too many wait.
    pub(super) async fn check(
        self: &Arc<Self>,
        from: Option<IpAddr>,
        user: &str,
        hash: Option<&str>,
        password: &str,
    ) -> Result<bool, Status> {
        let held_against = hash.unwrap_or(&self.decoy);
        let name = self.name(user, held_against, password);
        let verdict = {
            let mut state = self.state();
            if state.verified.get(&name).is_some() {
                return Ok(true);
            }
            if state.refuted.get(&name).is_some() {
                return Ok(false);
            }
            let (told, verdict) = oneshot::channel();
            if let Some(told) = state.line.join(&name, told)? {
                // All that are unknown count as one.
                let user = if hash.is_some() { user } else { "" };
                let (hash, password) = (held_against.to_owned(), password.to_owned());
                state.line.enter(Job { name, from, user: user.into(), hash, password }, told)?;
                tokio::spawn(self.clone().check_next());
            }
            verdict
        };
        verdict.await.map_err(|_| Status::STOPPED)
    }

    /// Waits for a thread, and checks whatever password is next then. There is one of these for each that waits.
    async fn check_next(self: Arc<Self>) {
        let turn = self.checkers.turn().await;
        let Some(Job { name, hash, password, .. }) = self.state().line.next() else { return };
        // A hash that is none fits no password.
        let checked = turn.run(move || bcrypt::verify(password, &hash).unwrap_or(false)).await;
        let mut state = self.state();
        let callers = state.line.leave(&name);
        let Ok(is_right) = checked else { return };
        match is_right {
            true => state.verified.insert(name, ()),
            false => state.refuted.insert(name, ()),
        }
        drop(state);
        // A call that has gone meanwhile need not be told.
        for caller in callers {
            let _ = caller.send(is_right);
        }
    }

    fn name(&self, user: &str, hash: &str, password: &str) -> Name {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [user, hash, password] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        context.sign().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What happens under the lock does not panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A hash of this cost that no password has.
fn decoy(cost: u32) -> String {
    format!("$2a${cost:02}${}{}", "K".repeat(21) + "u", "m".repeat(30) + "y")
}

/// One of so many places.
struct Place<'c>(&'c AtomicUsize);

impl<'c> Place<'c> {
    fn take(count: &'c AtomicUsize, most: usize) -> Result<Place<'c>, Status> {
        let place = Place(count);
        if count.fetch_add(1, Relaxed) < most { Ok(place) } else { Err(Status::TOO_MANY_REQUESTS) }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests;
