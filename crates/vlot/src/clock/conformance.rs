//! What every clock must do, as a test to run on one of your own.
//!
//! ```
//! use vlot::clock::{ManualClock, TokioClock, conformance};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! conformance::check(TokioClock::new(), tokio::time::sleep).await;
//! let clock = ManualClock::new();
//! let pass = |time| {
//!     clock.advance(time);
//!     std::future::ready(())
//! };
//! conformance::check(clock.clone(), pass).await;
//! # }
//! ```

use std::future::{Future, poll_fn};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use tokio::time::timeout;

use super::{Alarm, Clock, Time};

/// Far longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough to be told from none.
const WHILE: Duration = Duration::from_millis(30);

/// Tries everything that a node relies on. `pass` lets so much time of this clock pass, at least.
///
/// # Panics
/// If the clock fails in something; the message says in what.
pub async fn check<C: Clock, F: Future>(clock: C, mut pass: impl FnMut(Duration) -> F) {
    time_passes_and_never_goes_back(&clock, &mut pass).await;
    assert!(clock.wall() > SystemTime::UNIX_EPOCH, "wall: the time of day is after 1970");
    an_alarm_that_is_not_set_does_not_ring(&clock, &mut pass).await;
    an_alarm_of_the_past_rings_at_once(&clock).await;
    an_alarm_rings_when_its_moment_has_come_and_not_before(&clock, &mut pass).await;
    the_task_that_waits_is_woken(&clock, &mut pass).await;
    an_alarm_that_is_set_again_rings_at_the_later_moment_alone(&clock, &mut pass).await;
    an_alarm_that_is_set_to_an_earlier_moment_rings_then(&clock, &mut pass).await;
    alarms_know_nothing_of_each_other(&clock, &mut pass).await;
}

fn rings(alarm: &mut dyn Alarm) -> bool {
    alarm.poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

/// Asks again and again, for an alarm whose moment has come may be late.
async fn rings_soon(alarm: &mut dyn Alarm) -> bool {
    let asked = async {
        while !rings(alarm) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, asked).await.is_ok()
}

async fn time_passes_and_never_goes_back<F: Future>(clock: &impl Clock, pass: &mut impl FnMut(Duration) -> F) {
    let start = clock.now();
    let mut last = start;
    for _ in 0..100_000 {
        let now = clock.now();
        assert!(now >= last, "now: time goes back, from {last:?} to {now:?}");
        last = now;
    }
    pass(WHILE).await;
    assert!(clock.now().since(last) >= WHILE, "now: {:?} have passed and not {WHILE:?}", clock.now().since(last));
    assert!(clock.now() < Time::NEVER, "now: this moment comes before the end of all time");
}

async fn an_alarm_that_is_not_set_does_not_ring<F: Future>(clock: &impl Clock, pass: &mut impl FnMut(Duration) -> F) {
    let mut alarm = clock.alarm();
    assert!(!rings(&mut *alarm), "unset: a new alarm does not ring");
    alarm.set(Time::NEVER);
    pass(WHILE).await;
    assert!(!rings(&mut *alarm), "unset: an alarm that is set to no moment does not ring");
}

async fn an_alarm_of_the_past_rings_at_once(clock: &impl Clock) {
    let mut alarm = clock.alarm();
    for at in [Time::default(), clock.now()] {
        alarm.set(at);
        assert!(rings_soon(&mut *alarm).await, "past: an alarm that is set to {at:?} rings at once");
        assert!(rings(&mut *alarm), "past: it rings until it is set again");
    }
}

async fn an_alarm_rings_when_its_moment_has_come_and_not_before<F: Future>(
    clock: &impl Clock,
    pass: &mut impl FnMut(Duration) -> F,
) {
    let mut alarm = clock.alarm();
    for _ in 0..5 {
        let at = clock.now() + WHILE;
        alarm.set(at);
        let mut has_rung = false;
        while clock.now() < at {
            pass(WHILE / 10).await;
            has_rung = rings(&mut *alarm);
            // Read after it was asked: it may have come between.
            let now = clock.now();
            assert!(!has_rung || now >= at, "early: an alarm of {at:?} rings at {now:?}");
        }
        assert!(has_rung || rings_soon(&mut *alarm).await, "late: an alarm rings once its moment has come");
    }
}

async fn the_task_that_waits_is_woken<F: Future>(clock: &impl Clock, pass: &mut impl FnMut(Duration) -> F) {
    let mut alarm = clock.alarm();
    alarm.set(clock.now() + WHILE);
    assert!(!rings(&mut *alarm), "wake: it is not time yet");
    // A task of its own, which nothing but the alarm wakes.
    let mut waiting = tokio::spawn(async move { poll_fn(|context| alarm.poll(context)).await });
    // Time for it to ask.
    tokio::time::sleep(WHILE / 10).await;
    pass(WHILE).await;
    let is_woken = waiting.is_finished() || timeout(PATIENCE, &mut waiting).await.is_ok();
    waiting.abort();
    assert!(is_woken, "wake: the task that asked last is woken");
}

async fn an_alarm_that_is_set_again_rings_at_the_later_moment_alone<F: Future>(
    clock: &impl Clock,
    pass: &mut impl FnMut(Duration) -> F,
) {
    let mut alarm = clock.alarm();
    alarm.set(clock.now() + WHILE);
    assert!(!rings(&mut *alarm), "later: it is not time yet");
    let later = clock.now() + Duration::from_secs(3600);
    alarm.set(later);
    pass(WHILE * 2).await;
    assert!(!rings(&mut *alarm) || clock.now() >= later, "later: an alarm rings at a moment it is no longer set to");
    alarm.set(clock.now());
    assert!(rings_soon(&mut *alarm).await, "later: it rings if it is set to this moment");
    alarm.set(clock.now() + Duration::from_secs(3600));
    assert!(!rings(&mut *alarm), "later: an alarm that has rung is silent once it is set again");
}

async fn an_alarm_that_is_set_to_an_earlier_moment_rings_then<F: Future>(
    clock: &impl Clock,
    pass: &mut impl FnMut(Duration) -> F,
) {
    let mut alarm = clock.alarm();
    alarm.set(clock.now() + Duration::from_secs(3600));
    assert!(!rings(&mut *alarm), "earlier: it is not time yet");
    alarm.set(clock.now() + WHILE);
    pass(WHILE * 2).await;
    assert!(rings_soon(&mut *alarm).await, "earlier: an alarm rings at the moment it was set to last");
}

async fn alarms_know_nothing_of_each_other<F: Future>(clock: &impl Clock, pass: &mut impl FnMut(Duration) -> F) {
    let [mut near, mut far, mut dropped] = [(); 3].map(|()| clock.alarm());
    near.set(clock.now() + WHILE);
    far.set(clock.now() + Duration::from_secs(3600));
    dropped.set(clock.now() + WHILE);
    assert_eq!(dropped.poll(&mut Context::from_waker(Waker::noop())), Poll::Pending, "each: it is not time yet");
    drop(dropped);
    pass(WHILE * 2).await;
    assert!(rings_soon(&mut *near).await, "each: an alarm rings whatever others do");
    assert!(!rings(&mut *far), "each: an alarm rings for itself alone");
}
