//! A while in which a task does not sleep, though it has nothing to do.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

/// Has the task that waits for this looked at again and again for so long. Other tasks of its thread go first each time, and so do
/// other threads where there are more of them than processors: what the task waits for may be theirs to do.
pub(crate) async fn stay_awake(limit: Duration) -> Infallible {
    if limit.is_zero() {
        return pending().await;
    }
    let begun = Instant::now();
    poll_fn(|context| {
        if begun.elapsed() < limit {
            thread::yield_now();
            context.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::task::{Context, Wake, Waker};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Relaxed);
        }
    }

    /// Whether a task that waits for this is to be looked at again at once.
    fn is_awake(awake: std::pin::Pin<&mut impl Future>) -> bool {
        let woken = Arc::new(Woken::default());
        assert!(awake.poll(&mut Context::from_waker(&Waker::from(Arc::clone(&woken)))).is_pending());
        woken.0.load(Relaxed)
    }

    #[test]
    fn a_task_is_kept_awake_for_so_long_and_sleeps_then() {
        let mut long = pin!(stay_awake(Duration::from_secs(3600)));
        assert!((0..100).all(|_| is_awake(long.as_mut())));
        let limit = Duration::from_millis(1);
        let mut brief = pin!(stay_awake(limit));
        is_awake(brief.as_mut());
        thread::sleep(limit);
        assert!(!is_awake(brief.as_mut()));
        assert!(!is_awake(pin!(stay_awake(Duration::ZERO))));
    }
}
