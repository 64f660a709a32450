//! The calls of one connection, which are polled within its task.
//!
//! Owns which of them have something to do. A call that is woken is put into a list, and the task of the connection is woken if the list was
//! empty: so that many calls that are answered at the same time cost one wake-up. What a call has taken of memory is used again by the
//! next one in its place. Must not know what a call is.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Places whose memory is kept while no call is in them: many calls at once are rare.
const KEPT: usize = 32;

/// Calls, each in its place.
pub(super) struct Calls<F> {
    places: Vec<Place<F>>,
    ready: Arc<Ready>,
}

struct Place<F> {
    /// Its memory outlives it, but in a place that is rarely needed.
    call: Option<Pin<Box<Option<F>>>>,
    waker: Waker,
    bell: Arc<Bell>,
}

/// Places whose calls were woken.
#[derive(Default)]
struct Ready {
    woken: Mutex<Woken>,
}

#[derive(Default)]
struct Woken {
    places: Vec<usize>,
    task: Option<Waker>,
}

/// Rung for one place.
struct Bell {
    place: usize,
    is_rung: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_rung.swap(true, AcqRel) {
            self.ready.push(self.place);
        }
    }
}

impl Ready {
    fn push(&self, place: usize) {
        let task = {
            let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
            woken.places.push(place);
            if woken.places.len() == 1 { woken.task.take() } else { None }
        };
        task.into_iter().for_each(Waker::wake);
    }
}

impl<F: Future> Calls<F> {
    pub(super) fn new() -> Calls<F> {
        Calls { places: Vec::new(), ready: Arc::default() }
    }

    /// The waker of a place.
    pub(super) fn waker(&mut self, place: usize) -> &Waker {
        while self.places.len() <= place {
            let bell =
                Arc::new(Bell { place: self.places.len(), is_rung: AtomicBool::new(false), ready: self.ready.clone() });
            self.places.push(Place { call: None, waker: bell.clone().into(), bell });
        }
        &self.places[place].waker
    }

    /// Puts a call into a place in which there is none. It is to be polled.
    pub(super) fn begin(&mut self, place: usize, call: F) {
        self.waker(place);
        self.places[place].call.get_or_insert_with(|| Box::pin(None)).set(Some(call));
    }

    /// Drops the call in a place, if there is one.
    pub(super) fn end(&mut self, place: usize) {
        match self.places.get_mut(place) {
            Some(Place { call, .. }) if place >= KEPT => *call = None,
            Some(Place { call: Some(call), .. }) => call.set(None),
            _ => {}
        }
    }

    /// Polls the call in a place. `None` if there is none. One that is ready is over.
    pub(super) fn poll(&mut self, place: usize) -> Option<Poll<F::Output>> {
        let Place { call: Some(call), waker, .. } = self.places.get_mut(place)? else { return None };
        let polled = call.as_mut().as_pin_mut()?.poll(&mut Context::from_waker(waker));
        if polled.is_ready() {
            call.set(None);
        }
        Some(polled)
    }

    /// Moves the places that were woken to the end of `into`. The task that is polling is woken when there are others.
    pub(super) fn take_woken(&mut self, context: &Context<'_>, into: &mut Vec<usize>) {
        let start = into.len();
        {
            let mut woken = self.ready.woken.lock().unwrap_or_else(PoisonError::into_inner);
            into.append(&mut woken.places);
            match &mut woken.task {
                Some(task) => task.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
        }
        for place in &into[start..] {
            if let Some(place) = self.places.get(*place) {
                place.bell.is_rung.swap(false, AcqRel);
            }
        }
    }

    /// Gives memory back once no call is there any more.
    pub(super) fn shrink(&mut self) {
        self.places.truncate(KEPT);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use tokio::sync::oneshot;

    use super::*;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn many_calls_that_are_woken_wake_the_task_once() {
        let task = Arc::new(Task::default());
        let waker = Waker::from(task.clone());
        let context = Context::from_waker(&waker);
        let mut calls = Calls::new();
        let (mut answers, asked): (Vec<_>, Vec<_>) = (0..100).map(|_| oneshot::channel::<usize>()).unzip();
        asked.into_iter().enumerate().for_each(|(place, call)| calls.begin(place, call));
        assert!((0..100).all(|place| calls.poll(place).unwrap().is_pending()));
        let mut woken = Vec::new();
        calls.take_woken(&context, &mut woken);
        assert!(woken.is_empty());
        // The others are kept, because one that is dropped is an answer too.
        for (answer, place) in answers.split_off(50).into_iter().zip(50..) {
            answer.send(place).unwrap();
        }
        assert_eq!(task.0.load(Relaxed), 1);
        calls.take_woken(&context, &mut woken);
        assert_eq!(woken, (50..100).collect::<Vec<_>>());
        for place in woken.drain(..) {
            assert_eq!(calls.poll(place), Some(Poll::Ready(Ok(place))));
            assert!(calls.poll(place).is_none());
        }
    }

    #[test]
    fn a_place_is_used_again_and_an_old_waker_means_nothing() {
        let context = Context::from_waker(Waker::noop());
        let mut calls = Calls::new();
        calls.begin(3, ready(1));
        let old = calls.waker(3).clone();
        let mut woken = Vec::new();
        assert_eq!(calls.poll(3), Some(Poll::Ready(1)));
        old.wake();
        calls.take_woken(&context, &mut woken);
        assert_eq!((woken.len(), calls.poll(3)), (1, None));
        calls.begin(3, ready(2));
        assert_eq!(calls.poll(3), Some(Poll::Ready(2)));
        let mut calls = Calls::new();
        calls.begin(0, pending::<()>());
        calls.end(0);
        assert!(calls.poll(0).is_none());
    }
}
