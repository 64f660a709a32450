//! Work that takes long or waits, off the thread that serves: a few pieces at a time, first come first served.
//!
//! Owns the threads, and the bound. What is worked on comes in bounded pieces, so that all callers that wait get on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::status::{Code, Status};

/// How far threads that work long stand back behind those that calls, heartbeats and the log wait for: a tenth of their share
/// where there are fewer cores than there is work.
const NICENESS: i32 = 10;

type Piece = Box<dyn FnOnce() + Send>;

/// So many pieces of work at a time.
#[derive(Clone)]
pub(crate) struct WorkerPool {
    turns: Arc<Semaphore>,
    pieces: Sender<Piece>,
}

/// The right to do one piece of work.
pub(crate) struct Turn {
    permit: OwnedSemaphorePermit,
    pieces: Sender<Piece>,
}

impl WorkerPool {
    /// For long work, which stands back behind all other.
    ///
    /// # Panics
    /// If the system lets no thread be started.
    pub(crate) fn new(workers: usize) -> WorkerPool {
        WorkerPool::start(workers, NICENESS)
    }

    /// For short work that may have to wait for a disk.
    ///
    /// # Panics
    /// As [`WorkerPool::new`].
    pub(crate) fn for_short_work(workers: usize) -> WorkerPool {
        WorkerPool::start(workers, 0)
    }

    fn start(workers: usize, niceness: i32) -> WorkerPool {
        let (pieces, waiting) = mpsc::channel();
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..workers {
            let waiting = waiting.clone();
            let worker = std::thread::Builder::new().name("vlot-worker".into());
            worker.spawn(move || work(&waiting, niceness)).expect("a thread can be started while the server starts");
        }
        WorkerPool { turns: Arc::new(Semaphore::new(workers)), pieces }
    }

    /// Waits in line.
    pub(crate) async fn turn(&self) -> Turn {
        let permit = self.turns.clone().acquire_owned().await.expect("the pool is never closed");
        Turn { permit, pieces: self.pieces.clone() }
    }

    /// Waits in line, then does a piece of work on another thread.
    ///
    /// # Errors
    /// If the work panics.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
        self.turn().await.run(work).await
    }
}

impl Turn {
    /// Does a piece of work on another thread. It counts against the bound until it is done, whether or not its outcome is
    /// waited for.
    ///
    /// # Errors
    /// If the work panics.
    pub(crate) async fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
        let Turn { permit, pieces } = self;
        let (done, outcome) = oneshot::channel();
        let piece = move || {
            let outcome = work();
            drop(permit);
            // Nobody may wait for it any more.
            let _ = done.send(outcome);
        };
        // If no worker is left, the outcome never comes either.
        let _ = pieces.send(Box::new(piece));
        outcome.await.map_err(|_| Status::new(Code::Internal, "vlot: the call has failed by a mistake of the server"))
    }
}

/// Works until the pool is gone.
fn work(waiting: &Mutex<Receiver<Piece>>, niceness: i32) {
    // Where the system does not let it stand back, it works like all others.
    let _ = rustix::process::nice(niceness);
    loop {
        // The worker that waits for a piece holds the lock; the others wait for the lock.
        let piece = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(piece) = piece else { return };
        // A panic has been reported by its hook, and the caller is told.
        let _ = catch_unwind(AssertUnwindSafe(piece));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[tokio::test]
    async fn work_that_nobody_waits_for_counts_until_it_is_done() {
        let pool = WorkerPool::new(1);
        let (let_go, held) = channel::<()>();
        let turn = pool.turn().await;
        let forsaken = tokio::spawn(turn.run(move || held.recv()));
        tokio::task::yield_now().await;
        forsaken.abort();
        let next = pool.run(|| 7);
        tokio::pin!(next);
        let waits = tokio::time::timeout(std::time::Duration::from_millis(20), next.as_mut()).await;
        assert!(waits.is_err(), "the place is taken");
        let_go.send(()).unwrap();
        assert_eq!(next.await, Ok(7));
    }

    #[tokio::test]
    async fn a_piece_that_panics_fails_alone() {
        let pool = WorkerPool::new(1);
        assert_eq!(pool.run(|| -> u8 { panic!("a mistake") }).await.map_err(|status| status.code), Err(Code::Internal));
        assert_eq!(pool.run(|| 7).await, Ok(7));
    }
}
