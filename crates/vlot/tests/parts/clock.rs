//! Nodes whose time passes when the test says so, and clocks that are broken.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime};

use vlot::clock::{Alarm, Clock, ManualClock, Time, TokioClock, conformance};
use vlot::{NodeId, ReadError};

use crate::world::{SOON, World, address};
use crate::{each_is_found, one_thread};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_systems_clock_conforms() {
    conformance::check(TokioClock::new(), tokio::time::sleep).await;
}

/// Advances by the time that is to pass.
fn passing(clock: &ManualClock) -> impl FnMut(Duration) -> std::future::Ready<()> + use<> {
    let clock = clock.clone();
    move |time| {
        clock.advance(time);
        std::future::ready(())
    }
}

#[tokio::test]
async fn the_manual_clock_conforms() {
    let clock = ManualClock::new();
    conformance::check(clock.clone(), passing(&clock)).await;
}

#[test]
fn the_manual_clock_can_be_set_to_another_time_of_day() {
    let clock = ManualClock::new();
    let (moment, wall) = (clock.now(), clock.wall());
    clock.advance(MINUTE);
    assert_eq!(clock.wall(), wall + MINUTE);
    clock.set_wall(SystemTime::UNIX_EPOCH);
    assert_eq!((clock.now(), clock.wall()), (moment + MINUTE, SystemTime::UNIX_EPOCH));
    clock.advance(Duration::MAX);
    clock.advance(Duration::MAX);
    assert_eq!(clock.now(), Time::NEVER, "at the end of time it stands");
}

/// Three nodes that hold an election after an hour.
async fn slow_world(clock: &ManualClock, lease: Option<Duration>) -> World {
    let clock = clock.clone();
    World::start(move |options| {
        options.clock = Arc::new(clock.clone());
        options.heartbeat = MINUTE;
        options.election_timeout = 60 * MINUTE;
        options.lease = lease;
        options.group.timeout = Duration::from_millis(500);
    })
    .await
}

/// Lets time pass, a minute in each few milliseconds, until something is so. Returns how much has passed.
async fn pass_until(clock: &ManualClock, what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let (before, real) = (clock.now(), Instant::now());
    while !is_so() {
        assert!(real.elapsed() < SOON, "{what} has not come in {:?}", clock.now().since(before));
        clock.advance(MINUTE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    clock.now().since(before)
}

#[tokio::test]
async fn an_hours_election_timeout_takes_no_hour() {
    let clock = ManualClock::new();
    let world = slow_world(&clock, None).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.leader(), None, "while the clock stands no one campaigns");
    pass_until(&clock, "a leader", || world.leader().is_some()).await;
    let first = world.leader_soon().await;
    assert_eq!(world.group(first).propose(5).await.unwrap(), 5, "a leader needs no clock to commit");

    // What it says is lost without a word, so that nothing but time tells the others that it is gone.
    let others = [(first + 1) % 3, (first + 2) % 3];
    others.iter().for_each(|other| world.hub.lose(&address(first), &address(*other)));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let followed = |node: usize| world.group(node).status().role_state.leader;
    assert!(others.iter().all(|node| followed(*node) == Some(NodeId(first as u64 + 1))), "while the clock stands");
    let leads = |node: usize| followed(node) == Some(NodeId(node as u64 + 1));
    let took = pass_until(&clock, "another leader", || others.iter().any(|node| leads(*node))).await;
    assert!(took >= 55 * MINUTE, "elected after {took:?}, five minutes less than the timeout at most");
    world.end().await;
}

#[tokio::test]
async fn a_lease_ends_by_the_clock_and_not_before() {
    let clock = ManualClock::new();
    let world = slow_world(&clock, Some(30 * MINUTE)).await;
    pass_until(&clock, "a leader", || world.leader().is_some()).await;
    let leader = world.leader_soon().await;
    world.group(leader).propose(5).await.unwrap();
    // A round of heartbeats begins a lease.
    for _ in 0..3 {
        clock.advance(MINUTE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.hub.isolate(&address(leader));
    let read = || world.group(leader).read(|state| state.sum);
    clock.advance(20 * MINUTE);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(read().await, Ok(5), "the lease holds, whatever the network does");
    clock.advance(20 * MINUTE);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(read().await, Err(ReadError::TimedOut), "the lease is over, and no quorum answers");
    world.end().await;
}

/// What is wrong with a clock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fault {
    GoesBack,
    Stands,
    Prehistoric,
    RingsUnset,
    RingsEarly,
    RingsOnce,
    NeverRings,
    NeverWakes,
    KeepsTheFirst,
    KeepsTheLast,
    OneForAll,
}

#[derive(Debug)]
struct Broken {
    clock: ManualClock,
    fault: Fault,
    asked: AtomicU64,
    one: Arc<Mutex<Time>>,
}

struct BrokenAlarm {
    alarm: Box<dyn Alarm>,
    clock: ManualClock,
    fault: Fault,
    at: Option<Time>,
    has_rung: bool,
    one: Arc<Mutex<Time>>,
}

impl Clock for Broken {
    fn now(&self) -> Time {
        let asked = self.asked.fetch_add(1, Relaxed);
        match self.fault {
            Fault::GoesBack => {
                Time::from_millis(self.clock.now().since_origin().as_millis() as u64 + 1_000_000 - asked)
            }
            Fault::Stands => Time::default(),
            _ => self.clock.now(),
        }
    }

    fn wall(&self) -> SystemTime {
        if self.fault == Fault::Prehistoric { SystemTime::UNIX_EPOCH } else { self.clock.wall() }
    }

    fn alarm(&self) -> Box<dyn Alarm> {
        Box::new(BrokenAlarm {
            alarm: self.clock.alarm(),
            clock: self.clock.clone(),
            fault: self.fault,
            at: None,
            has_rung: false,
            one: Arc::clone(&self.one),
        })
    }
}

impl Alarm for BrokenAlarm {
    fn set(&mut self, at: Time) {
        let before = self.at.filter(|before| *before > self.clock.now() && *before != Time::NEVER);
        let at = match self.fault {
            Fault::RingsEarly => Time::after_origin(at.since_origin().saturating_sub(Duration::from_millis(5))),
            Fault::KeepsTheFirst => before.map_or(at, |before| before.min(at)),
            Fault::KeepsTheLast if at > self.clock.now() => before.map_or(at, |before| before.max(at)),
            _ => at,
        };
        (self.at, self.has_rung) = (Some(at), false);
        *self.one.lock().unwrap() = at;
        self.alarm.set(at);
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self.fault {
            Fault::RingsUnset if self.at.is_none() => Poll::Ready(()),
            Fault::NeverRings => Poll::Pending,
            Fault::NeverWakes => self.alarm.poll(&mut Context::from_waker(Waker::noop())),
            Fault::OneForAll => {
                let is_due = self.clock.now() >= *self.one.lock().unwrap();
                if is_due { Poll::Ready(()) } else { self.alarm.poll(context) }
            }
            Fault::RingsOnce => {
                let rung = self.alarm.poll(context);
                if rung.is_ready() && std::mem::replace(&mut self.has_rung, true) { Poll::Pending } else { rung }
            }
            _ => self.alarm.poll(context),
        }
    }
}

#[test]
fn each_rule_that_a_clock_breaks_is_found() {
    use Fault::*;
    let rows = [
        (GoesBack, "now: time goes back"),
        (Stands, "now: 0ns have passed"),
        (Prehistoric, "wall:"),
        (RingsUnset, "unset:"),
        (RingsEarly, "early:"),
        (RingsOnce, "past: it rings until"),
        (NeverRings, "past:"),
        (NeverWakes, "wake:"),
        (KeepsTheFirst, "later:"),
        (KeepsTheLast, "earlier:"),
        (OneForAll, "each:"),
    ];
    each_is_found(&rows, |fault| {
        let clock = ManualClock::new();
        let pass = passing(&clock);
        let broken = Broken { clock, fault, asked: AtomicU64::new(0), one: Arc::new(Mutex::new(Time::NEVER)) };
        one_thread().block_on(conformance::check(broken, pass));
    });
}
