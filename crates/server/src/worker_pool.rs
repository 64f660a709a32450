//! Work that takes long, off the thread that serves: a few pieces at a time, first come first served.
//!
//! Owns the bound. What is worked on comes in bounded pieces, so that all callers that wait get on.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::status::{Code, Status};

/// So many pieces of work at a time.
#[derive(Clone)]
pub(crate) struct WorkerPool(Arc<Semaphore>);

/// The right to do one piece of work.
pub(crate) struct Turn(OwnedSemaphorePermit);

impl WorkerPool {
    pub(crate) fn new(workers: usize) -> WorkerPool {
        WorkerPool(Arc::new(Semaphore::new(workers)))
    }

    /// Waits in line.
    pub(crate) async fn turn(&self) -> Turn {
        Turn(self.0.clone().acquire_owned().await.expect("the pool is never closed"))
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
        let permit = self.0;
        let done = tokio::task::spawn_blocking(move || {
            let outcome = work();
            drop(permit);
            outcome
        });
        done.await.map_err(|_| Status::new(Code::Internal, "vlot: the call has failed by a mistake of the server"))
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
}
