//! Calls of this process that wait for an answer.
//!
//! Owns them by number, that none is left waiting when no answer can come any more, and how long each waits at most. One
//! task looks after the time of all of them: nearly all calls are answered long before their time is up, and a timer for each
//! would be set and taken back for nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};
use vlot_node::numbered::Numbered;

/// Between two looks at whose time is up, at least: so much later than it should a call may hear of it.
const GRAIN: Duration = Duration::from_millis(5);

/// Calls that wait, by their numbers.
#[derive(Debug)]
pub(crate) struct Waiters<T> {
    shared: Arc<Shared<T>>,
    /// Where time is looked after.
    tasks: Handle,
}

#[derive(Debug)]
struct Shared<T> {
    waiting: Mutex<Waiting<T>>,
    /// A call's time is up sooner than that of all before.
    is_sooner: Notify,
}

#[derive(Debug)]
struct Waiting<T> {
    calls: Numbered<Call<T>>,
    /// When the task looks next, if there is one: no call's time is up sooner.
    next_look: Option<Instant>,
    /// Nothing will be answered any more.
    is_closed: bool,
}

#[derive(Debug)]
struct Call<T> {
    answer: oneshot::Sender<Result<T, NoAnswer>>,
    until: Instant,
}

/// Why a call is not answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NoAnswer {
    /// Its time is up. Nothing waits under its number any more.
    TimedOut,
    /// No answer can come any more.
    Stopped,
}

/// A call that waits.
#[derive(Debug)]
pub(crate) struct Waiter<T>(oneshot::Receiver<Result<T, NoAnswer>>);

impl<T> Waiter<T> {
    /// Waits for the answer.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) async fn answer(self) -> Result<T, NoAnswer> {
        self.0.await.unwrap_or(Err(NoAnswer::Stopped))
    }
}

impl<T: Send + 'static> Waiters<T> {
    /// None yet. Their time is looked after on this runtime.
    pub(crate) fn new(tasks: Handle) -> Self {
        let waiting = Waiting { calls: Numbered::default(), next_look: None, is_closed: false };
        Self { shared: Arc::new(Shared { waiting: Mutex::new(waiting), is_sooner: Notify::new() }), tasks }
    }

    /// Waits under `number`, for so long at most.
    pub(crate) fn wait(&self, number: u64, limit: Duration) -> Waiter<T> {
        self.wait_from(number, Instant::now(), limit)
    }

    /// As [`Waiters::wait`], from then on.
    pub(crate) fn wait_from(&self, number: u64, from: Instant, limit: Duration) -> Waiter<T> {
        let (answer, waiter) = oneshot::channel();
        // As good as never.
        let until = from.checked_add(limit).unwrap_or(from + Duration::from_secs(1 << 30));
        let mut waiting = self.shared.lock();
        if !waiting.is_closed {
            waiting.calls.insert(number, Call { answer, until });
            let next_look = waiting.next_look;
            if next_look.is_none_or(|next_look| until < next_look) {
                waiting.next_look = Some(until);
                drop(waiting);
                match next_look {
                    Some(_) => self.shared.is_sooner.notify_one(),
                    None => drop(self.tasks.spawn(watch(Arc::downgrade(&self.shared)))),
                }
            }
        }
        Waiter(waiter)
    }

    /// Answers, if a call waits.
    pub(crate) fn answer(&self, number: u64, value: T) {
        self.answer_all([(number, value)]);
    }

    /// Answers those of these that wait. They are woken once all are taken, so that none of them finds the lock held.
    pub(crate) fn answer_all(&self, answers: impl IntoIterator<Item = (u64, T)>) {
        let answers = answers.into_iter();
        let mut calls = Vec::with_capacity(answers.size_hint().0);
        let mut waiting = self.shared.lock();
        calls.extend(answers.filter_map(|(number, value)| Some((waiting.calls.remove(number)?.answer, value))));
        drop(waiting);
        for (answer, value) in calls {
            // A call that has stopped waiting does not want it.
            let _ = answer.send(Ok(value));
        }
    }

    /// Stops waiting.
    pub(crate) fn forget(&self, number: u64) {
        self.shared.lock().calls.remove(number);
    }

    /// Lets all go without an answer, those that come later too.
    pub(crate) fn close(&self) {
        self.shared.close();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.shared.lock().is_closed
    }

    pub(crate) fn len(&self) -> usize {
        self.shared.lock().calls.len()
    }
}

impl<T> Drop for Waiters<T> {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        // Only moves of whole values happen under the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        let mut waiting = self.lock();
        waiting.is_closed = true;
        let calls = std::mem::take(&mut waiting.calls);
        // The task looks once more, finds none, and ends.
        waiting.next_look = waiting.next_look.map(|_| Instant::now());
        drop(waiting);
        self.is_sooner.notify_one();
        drop(calls);
    }

    /// Lets those go whose time is up. False if none waits any more.
    fn look(&self) -> bool {
        let now = Instant::now();
        let mut waiting = self.lock();
        let late = waiting.calls.take_if(|call| call.until <= now);
        let soonest = waiting.calls.values().map(|call| call.until).min();
        waiting.next_look = soonest.map(|soonest| soonest.max(now + GRAIN));
        drop(waiting);
        for Call { answer, .. } in late {
            let _ = answer.send(Err(NoAnswer::TimedOut));
        }
        soonest.is_some()
    }
}

/// Looks after the time of calls for as long as any waits.
async fn watch<T>(shared: Weak<Shared<T>>) {
    loop {
        // Those that wait keep what they wait for.
        let Some(waiters) = shared.upgrade() else { return };
        let next_look = waiters.lock().next_look;
        let is_due = match next_look {
            Some(next_look) => tokio::select! {
                () = sleep_until(next_look) => true,
                () = waiters.is_sooner.notified() => false,
            },
            None => true,
        };
        if is_due && !waiters.look() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiters() -> Waiters<u64> {
        Waiters::new(Handle::current())
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn each_is_answered_with_what_is_its_own_and_once() {
        let waiters = waiters();
        let calls: Vec<_> = (0..100).map(|number| waiters.wait(number, MINUTE)).collect();
        waiters.answer(7, 70);
        waiters.answer_all((0..100).map(|number| (number * 2, number * 20)));
        waiters.answer_all((0..100).map(|number| (number, number * 10)));
        waiters.answer(7, 1);
        for (number, call) in calls.into_iter().enumerate() {
            assert_eq!(call.answer().await, Ok(number as u64 * 10));
        }
        assert_eq!(waiters.len(), 0);
    }

    /// How long the call waits for nothing.
    fn waits(call: Waiter<u64>) -> impl Future<Output = Duration> {
        // Not when it is first looked at, which may be later.
        let begun = Instant::now();
        async move {
            assert_eq!(call.answer().await, Err(NoAnswer::TimedOut));
            begun.elapsed()
        }
    }

    #[tokio::test]
    async fn each_waits_as_long_as_it_may() {
        let waiters = waiters();
        let times = [400, 50, 300, 10, 200, 51].map(Duration::from_millis);
        let calls = times.map(|time| tokio::spawn(waits(waiters.wait(time.as_millis() as u64, time))));
        for (time, waited) in times.into_iter().zip(calls) {
            // A busy machine may be late, but it is not as late as for a call without an end.
            let waited = waited.await.unwrap() + GRAIN;
            assert!(waited >= time && waited < MINUTE, "{waited:?} for {time:?}");
        }
        assert_eq!(waiters.len(), 0);
        // The task has ended; the next call has another.
        assert!(waits(waiters.wait(1, GRAIN)).await < MINUTE);
    }

    #[tokio::test]
    async fn one_that_may_wait_less_than_those_before_does() {
        let waiters = waiters();
        let long = waiters.wait(1, MINUTE * 10);
        tokio::task::yield_now().await;
        assert!(waits(waiters.wait(2, Duration::from_millis(20))).await < MINUTE);
        waiters.answer(1, 10);
        assert_eq!(long.answer().await, Ok(10));
    }

    #[tokio::test]
    async fn where_no_answer_can_come_none_waits() {
        let waiters = waiters();
        let early = waiters.wait(1, MINUTE);
        waiters.close();
        assert_eq!(early.answer().await, Err(NoAnswer::Stopped));
        assert_eq!(waiters.wait(2, MINUTE).answer().await, Err(NoAnswer::Stopped));
        assert!(waiters.is_closed());
    }
}
