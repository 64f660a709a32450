//! The lock around a state machine, between what applies and those that read, on whichever threads they are.
//!
//! Owns what waits for what, and how. What takes long is waited for by tasks, which leave their thread to others; what is applied in
//! place is over so soon that a thread waits for it, and is not woken once for each of its tasks.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// How long what is to be applied in place waits for reads: several times what a short one takes. One that takes longer, or whose
/// thread is not running, is waited for elsewhere.
const READS_MAX: Duration = Duration::from_micros(100);
/// How often the lock is tried before others get this core.
const TRIES_IN_A_ROW: u32 = 64;

/// A state machine that is read and changed.
#[derive(Debug)]
pub(crate) struct StateLock<S> {
    state: RwLock<S>,
    /// Held while something is applied in place.
    in_place: Mutex<()>,
    /// What is to be applied in place waits for reads that have begun: no other is to begin.
    is_wanted: AtomicBool,
}

/// The state, to be changed in place.
pub(crate) struct InPlace<'s, S> {
    // First, so that those that wait for the other find the state free.
    pub(crate) state: RwLockWriteGuard<'s, S>,
    _in_place: MutexGuard<'s, ()>,
}

impl<S> StateLock<S> {
    pub(crate) fn new(state: S) -> Self {
        Self { state: RwLock::new(state), in_place: Mutex::new(()), is_wanted: AtomicBool::new(false) }
    }

    /// To look at the state. The thread waits for what is applied in place, the task for everything else.
    pub(crate) async fn read(&self) -> RwLockReadGuard<'_, S> {
        if !self.is_wanted.load(Relaxed)
            && let Ok(state) = self.state.try_read()
        {
            return state;
        }
        drop(self.lock());
        self.state.read().await
    }

    /// To change the state in place, if that can be soon.
    pub(crate) fn in_place(&self) -> Option<InPlace<'_, S>> {
        let in_place = self.lock();
        let state = self.state.try_write().ok().or_else(|| {
            self.is_wanted.store(true, Relaxed);
            let state = self.write_soon();
            self.is_wanted.store(false, Relaxed);
            state
        })?;
        Some(InPlace { state, _in_place: in_place })
    }

    fn write_soon(&self) -> Option<RwLockWriteGuard<'_, S>> {
        let begun = Instant::now();
        while begun.elapsed() < READS_MAX {
            for _ in 0..TRIES_IN_A_ROW {
                if let Ok(state) = self.state.try_write() {
                    return Some(state);
                }
                std::hint::spin_loop();
            }
            std::thread::yield_now();
        }
        None
    }

    /// To look at the state, on a thread that may block.
    pub(crate) fn blocking_read(&self) -> RwLockReadGuard<'_, S> {
        self.state.blocking_read()
    }

    /// To change the state, on a thread that may block.
    pub(crate) fn blocking_write(&self) -> RwLockWriteGuard<'_, S> {
        self.state.blocking_write()
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        // It guards nothing by itself.
        self.in_place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;
    use std::thread;

    use super::*;

    #[test]
    fn what_is_applied_in_place_passes_reads_that_never_cease() {
        let lock = Arc::new(StateLock::new((0_u64, 0_u64)));
        let (reads, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let (lock, reads, done) = (lock.clone(), reads.clone(), done.clone());
                thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    runtime.block_on(async {
                        while !done.load(Relaxed) {
                            let state = lock.read().await;
                            assert_eq!(state.0, state.1, "a read saw half of what was applied");
                            reads.fetch_add(1, Relaxed);
                        }
                    });
                })
            })
            .collect();
        let (mut applied, mut refused) = (0, 0);
        while applied + refused < 2000 || reads.load(Relaxed) < 2000 {
            match lock.in_place() {
                Some(mut place) => {
                    place.state.0 += 1;
                    place.state.1 += 1;
                    applied += 1;
                }
                None => refused += 1,
            }
        }
        done.store(true, Relaxed);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        assert!(applied > refused, "{applied} applied, {refused} refused");
        assert_eq!(lock.blocking_read().0, applied);
    }

    #[tokio::test]
    async fn what_is_long_is_waited_for_by_the_task_and_not_by_the_thread() {
        let lock = Arc::new(StateLock::new(7));
        let held = {
            let lock = lock.clone();
            let (tell, held) = tokio::sync::oneshot::channel();
            let (let_go, asked) = std::sync::mpsc::channel::<()>();
            let thread = thread::spawn(move || {
                let mut state = lock.blocking_write();
                tell.send(()).unwrap();
                let _ = asked.recv();
                *state = 8;
            });
            held.await.unwrap();
            (let_go, thread)
        };
        assert!(lock.in_place().is_none());
        let reading = lock.read();
        tokio::pin!(reading);
        let waits = tokio::time::timeout(Duration::from_millis(20), reading.as_mut()).await;
        assert!(waits.is_err(), "it is held, and this thread goes on");
        held.0.send(()).unwrap();
        assert_eq!(*reading.await, 8);
        held.1.join().unwrap();
    }
}
