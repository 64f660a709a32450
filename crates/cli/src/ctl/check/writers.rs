//! Many clients that write keys of chance, each over a connection of its own, and how long that took them.
//!
//! Must not know how fast they are to be, or what for.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use vlot_proto::etcdserverpb::{PutRequest, PutResponse};

use crate::client::{Repeat, path};
use crate::ctl::flags::Settings;

/// No check is over if one write takes longer than this.
const WRITE_MAX: Duration = Duration::from_secs(60);
/// As many bytes a number takes at most, seven bits in each.
const VARINT_BYTES_MAX: usize = 10;

/// What became of all writes.
#[derive(Default)]
pub struct Outcome {
    seconds: Vec<f64>,
    pub errors: BTreeMap<String, u64>,
    took: Duration,
}

impl Outcome {
    /// Successful writes in a second.
    pub fn per_second(&self) -> f64 {
        let took = self.took.as_secs_f64();
        if took > 0.0 { self.seconds.len() as f64 / took } else { 0.0 }
    }

    /// The slowest write, in seconds.
    pub fn slowest(&self) -> f64 {
        self.seconds.iter().copied().fold(0.0, f64::max)
    }

    /// How far the writes' times scatter, in seconds.
    pub fn deviation(&self) -> f64 {
        let count = self.seconds.len() as f64;
        if count == 0.0 {
            return 0.0;
        }
        let average = self.seconds.iter().sum::<f64>() / count;
        (self.seconds.iter().map(|seconds| (seconds - average).powi(2)).sum::<f64>() / count).sqrt()
    }
}

/// Clients that wait for something to write.
pub struct Writers {
    requests: mpsc::Sender<PutRequest>,
    tasks: JoinSet<()>,
    outcome: Rc<RefCell<Outcome>>,
    begun: Instant,
}

impl Writers {
    /// Starts them.
    pub fn start(settings: &Settings, count: usize) -> Writers {
        let (requests, waiting) = mpsc::channel::<PutRequest>(count);
        let waiting = Rc::new(Mutex::new(waiting));
        let outcome = Rc::new(RefCell::new(Outcome::default()));
        let mut tasks = JoinSet::new();
        for _ in 0..count {
            let (waiting, outcome, mut client) = (waiting.clone(), outcome.clone(), settings.client());
            tasks.spawn_local(async move {
                loop {
                    let Some(request) = waiting.lock().await.recv().await else { return };
                    let begun = Instant::now();
                    let reply: Result<PutResponse, _> =
                        client.call(path::PUT, &request, Repeat::IfUnsent, WRITE_MAX).await;
                    let mut outcome = outcome.borrow_mut();
                    match reply {
                        Ok(_) => outcome.seconds.push(begun.elapsed().as_secs_f64()),
                        Err(failure) => *outcome.errors.entry(failure.to_string()).or_default() += 1,
                    }
                }
            });
        }
        Writers { requests, tasks, outcome, begun: Instant::now() }
    }

    /// Gives one write to the next client that is free, or waits for one.
    pub async fn write(&self, request: PutRequest) {
        // They wait as long as this exists.
        let _ = self.requests.send(request).await;
    }

    /// How many writes are done.
    pub fn done(&self) -> u64 {
        let outcome = self.outcome.borrow();
        outcome.seconds.len() as u64 + outcome.errors.values().sum::<u64>()
    }

    /// Waits for the writes that have begun.
    pub async fn finish(mut self) -> Outcome {
        drop(self.requests);
        while self.tasks.join_next().await.is_some() {}
        Outcome { took: self.begun.elapsed(), ..self.outcome.take() }
    }
}

/// Keys of one length, each of which begins with a number of chance.
pub struct Keys {
    prefix: Vec<u8>,
    rest: Vec<u8>,
    seed: RandomState,
    count: u64,
}

impl Keys {
    /// Keys of `bytes` bytes behind the prefix.
    pub fn new(prefix: &str, bytes: usize) -> Keys {
        let rest = vec![0; bytes.max(VARINT_BYTES_MAX)];
        Keys { prefix: prefix.as_bytes().to_vec(), rest, seed: RandomState::new(), count: 0 }
    }

    /// The next one.
    pub fn draw(&mut self) -> Bytes {
        self.count += 1;
        let mut number = self.seed.hash_one(self.count);
        for byte in self.rest.iter_mut().take(VARINT_BYTES_MAX) {
            *byte = (number & 0x7f) as u8 | if number > 0x7f { 0x80 } else { 0 };
            number >>= 7;
            if number == 0 {
                break;
            }
        }
        [&self.prefix[..], &self.rest].concat().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_the_writes_that_succeeded() {
        let outcome = Outcome { seconds: vec![0.1, 0.3], errors: BTreeMap::new(), took: Duration::from_millis(500) };
        assert_eq!(outcome.per_second(), 4.0);
        assert_eq!(outcome.slowest(), 0.3);
        assert!((outcome.deviation() - 0.1).abs() < 1e-9, "{}", outcome.deviation());
        let none = Outcome::default();
        assert_eq!((none.per_second(), none.slowest(), none.deviation()), (0.0, 0.0, 0.0));
    }

    #[test]
    fn keys_are_of_one_length_and_differ() {
        let mut keys = Keys::new("/p/", 256);
        let drawn: std::collections::BTreeSet<_> = (0..1000).map(|_| keys.draw()).collect();
        assert_eq!(drawn.len(), 1000);
        assert!(drawn.iter().all(|key| key.len() == 3 + 256 && key.starts_with(b"/p/")));
    }
}
