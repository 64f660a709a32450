//! Answers on their way to the calls that wait for them: at once, or by the thread of those that wait.
//!
//! A call's number tells where it waits. So the thread that answers looks for no call that waits elsewhere, nor takes a lock under
//! which such calls begin: it puts what it has in a box, and rings. Owns the places, and that calls end everywhere when no answer can
//! come any more.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::waiters::Waiters;

/// How many bits of a call's number tell its place, and how many places there are.
const PLACE_BITS: u32 = 12;
const PLACES: usize = 1 << PLACE_BITS;

/// Where a call waits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Place(u16);

impl Place {
    /// Calls that are answered by whoever has the answer.
    pub(crate) const HERE: Self = Self(0);

    /// The number of a call that waits here, as the `count`th of all. Later calls have greater numbers, wherever they wait.
    pub(crate) fn number(self, count: u64) -> u64 {
        count << PLACE_BITS | u64::from(self.0)
    }

    fn of(number: u64) -> Self {
        Self((number % PLACES as u64) as u16)
    }
}

/// Calls of a kind.
#[derive(Debug)]
pub(crate) struct Routed<T> {
    here: Waiters<T>,
    /// At their places, but for the first.
    elsewhere: Mutex<Vec<Weak<Elsewhere<T>>>>,
}

/// Calls of one thread, which is woken once for all answers that come together and hands them out itself.
#[derive(Debug)]
pub(crate) struct Elsewhere<T> {
    pub(crate) place: Place,
    pub(crate) calls: Waiters<T>,
    come: Mutex<VecDeque<(u64, T)>>,
    bell: Arc<Notify>,
}

impl<T: Send + 'static> Routed<T> {
    /// None yet. The time of those that wait here is looked after on this runtime.
    pub(crate) fn new(tasks: Handle) -> Self {
        Self { here: Waiters::new(tasks), elsewhere: Mutex::default() }
    }

    pub(crate) fn here(&self) -> &Waiters<T> {
        &self.here
    }

    /// Another place, for calls of a thread that hands answers out when the bell has rung. None if there are too many.
    pub(crate) fn elsewhere(&self, tasks: &Handle, bell: &Arc<Notify>) -> Option<Arc<Elsewhere<T>>> {
        let mut elsewhere = self.lock();
        let free = elsewhere.iter().position(|calls| calls.strong_count() == 0);
        let at = free.unwrap_or(elsewhere.len());
        let place = Place(u16::try_from(at + 1).ok().filter(|place| usize::from(*place) < PLACES)?);
        let calls = Waiters::new(tasks.clone());
        let calls = Arc::new(Elsewhere { place, calls, come: Mutex::default(), bell: Arc::clone(bell) });
        match elsewhere.get_mut(at) {
            Some(free) => *free = Arc::downgrade(&calls),
            None => elsewhere.push(Arc::downgrade(&calls)),
        }
        // Whoever closes all of them does so under the lock, after these.
        if self.here.is_closed() {
            calls.calls.close();
        }
        Some(calls)
    }

    /// Answers, if the call waits.
    pub(crate) fn answer(&self, number: u64, value: T) {
        self.answer_all(vec![(number, value)]);
    }

    /// Answers those of these that wait.
    pub(crate) fn answer_all(&self, mut answers: Vec<(u64, T)>) {
        let Some(first) = answers.first().map(|(number, _)| Place::of(*number)) else { return };
        if answers.iter().all(|(number, _)| Place::of(*number) == first) {
            return self.answer_at(first, answers);
        }
        let mut places = vec![first];
        for (number, _) in &answers {
            let place = Place::of(*number);
            if !places.contains(&place) {
                places.push(place);
            }
        }
        for place in places {
            let (at_place, others) = answers.into_iter().partition(|(number, _)| Place::of(*number) == place);
            answers = others;
            self.answer_at(place, at_place);
        }
    }

    /// All of these are of that place.
    fn answer_at(&self, place: Place, answers: Vec<(u64, T)>) {
        let Some(at) = usize::from(place.0).checked_sub(1) else { return self.here.answer_all(answers) };
        // Where nobody waits any more, nobody is told.
        let calls = self.lock().get(at).and_then(Weak::upgrade);
        if let Some(calls) = calls {
            calls.add(answers);
        }
    }

    /// Lets all go without an answer, those that come later too.
    pub(crate) fn close(&self) {
        self.here.close();
        for calls in self.each_elsewhere() {
            calls.calls.close();
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.here.is_closed()
    }

    pub(crate) fn len(&self) -> usize {
        self.here.len() + self.each_elsewhere().iter().map(|calls| calls.calls.len()).sum::<usize>()
    }

    fn each_elsewhere(&self) -> Vec<Arc<Elsewhere<T>>> {
        self.lock().iter().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Elsewhere<T>>>> {
        // Only whole values are put in their places under the lock.
        self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send + 'static> Elsewhere<T> {
    fn add(&self, answers: Vec<(u64, T)>) {
        let mut come = self.come();
        let was_empty = come.is_empty();
        if was_empty {
            *come = answers.into();
        } else {
            come.extend(answers);
        }
        drop(come);
        if was_empty {
            self.bell.notify_one();
        }
    }

    /// Wakes those that wait for what has come, in the order in which it came, and `max` of them at most. Returns how many, and
    /// whether there are more. Called on their thread.
    pub(crate) fn hand_out(&self, max: usize) -> (usize, bool) {
        let mut come = self.come();
        let count = come.len().min(max);
        let are_more = count < come.len();
        let now = if are_more { come.drain(..count).collect() } else { std::mem::take(&mut *come) };
        drop(come);
        self.calls.answer_all(now);
        (count, are_more)
    }

    fn come(&self) -> MutexGuard<'_, VecDeque<(u64, T)>> {
        // Only moves of whole values happen under the lock.
        self.come.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::waiters::{NoAnswer, Waiter};

    const MINUTE: Duration = Duration::from_secs(60);

    fn routed() -> Routed<u64> {
        Routed::new(Handle::current())
    }

    async fn is_answered(call: Waiter<u64>) -> Option<u64> {
        timeout(Duration::from_millis(20), call.answer()).await.ok().map(|answer| answer.unwrap())
    }

    #[test]
    fn a_later_call_has_a_greater_number_wherever_it_waits() {
        let places = [0, 1, 4095].map(Place);
        for (count, place) in (0..100).flat_map(|count| places.map(|place| (count, place))) {
            assert_eq!(Place::of(place.number(count)), place);
            assert!(places.iter().all(|other| other.number(count + 1) > place.number(count)));
        }
    }

    #[tokio::test]
    async fn each_place_hands_out_what_is_its_own_after_one_ring() {
        let routed = routed();
        let bells = [(); 2].map(|()| Arc::new(Notify::new()));
        let places = bells.each_ref().map(|bell| routed.elsewhere(&Handle::current(), bell).unwrap());
        let place_of = |count: usize| count.checked_sub(1).map_or(Place::HERE, |at| places[at].place);
        let numbers: Vec<u64> = (0..30).map(|count| place_of(count as usize % 3).number(count)).collect();
        let wait = |&number: &u64| match Place::of(number) {
            Place::HERE => routed.here().wait(number, MINUTE),
            place => places[usize::from(place.0) - 1].calls.wait(number, MINUTE),
        };
        let mut calls: Vec<_> = numbers.iter().map(wait).map(Some).collect();
        assert_eq!(routed.len(), 30);
        let answers: Vec<_> = numbers.iter().map(|number| (*number, number * 10)).collect();
        for answers in answers.chunks(15) {
            routed.answer_all(answers.to_vec());
        }
        for at in (0..30).step_by(3) {
            assert_eq!(is_answered(calls[at].take().unwrap()).await, Some(numbers[at] * 10), "at once, here");
        }
        for (at, (place, bell)) in places.iter().zip(&bells).enumerate() {
            bell.notified().await;
            assert!(timeout(Duration::from_millis(5), bell.notified()).await.is_err(), "it has rung once for both");
            assert_eq!(place.calls.len(), 10, "they wait for their thread");
            assert_eq!(place.hand_out(7), (7, true));
            assert_eq!(place.hand_out(7), (3, false));
            for count in (at + 1..30).step_by(3) {
                assert_eq!(is_answered(calls[count].take().unwrap()).await, Some(numbers[count] * 10));
            }
        }
        assert_eq!(routed.len(), 0);
    }

    #[tokio::test]
    async fn places_are_used_again_and_what_comes_late_for_the_last_holder_is_for_nobody() {
        let routed = routed();
        let elsewhere = || routed.elsewhere(&Handle::current(), &Arc::default());
        let first = elsewhere().unwrap();
        let number = first.place.number(1);
        drop(first);
        routed.answer(number, 1);
        let second = elsewhere().unwrap();
        assert_eq!(Place::of(number), second.place);
        let call = second.calls.wait(second.place.number(2), MINUTE);
        routed.answer(number, 1);
        assert_eq!(second.hand_out(usize::MAX), (1, false));
        assert_eq!(is_answered(call).await, None);
        let others: Vec<_> = std::iter::from_fn(elsewhere).collect();
        assert_eq!(others.len(), PLACES - 2, "but for that one and the first of all");
    }

    #[tokio::test]
    async fn all_places_are_closed_those_that_come_later_too() {
        let routed = routed();
        let elsewhere = || routed.elsewhere(&Handle::current(), &Arc::default()).unwrap();
        let early = elsewhere();
        let call = early.calls.wait(early.place.number(1), MINUTE);
        routed.close();
        assert_eq!(call.answer().await, Err(NoAnswer::Stopped));
        let late = elsewhere();
        assert_eq!(late.calls.wait(late.place.number(2), MINUTE).answer().await, Err(NoAnswer::Stopped));
        assert!(routed.is_closed());
    }
}
