//! Virtual time: what will happen, and when.
//!
//! Owns the order of events. Two at the same moment happen in the order in which they were scheduled, so that a run
//! depends on nothing but its seed. Must not know what an event is.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::fmt;
use std::ops::{Add, Mul, Sub};

/// A moment of the simulated world, in nanoseconds since it began.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Moment(pub u64);

/// A length of time, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Span(pub u64);

impl Moment {
    /// Later than everything that happens.
    pub const NEVER: Self = Self(u64::MAX);
}

impl Span {
    /// No time.
    pub const ZERO: Self = Self(0);

    /// So many microseconds.
    #[must_use]
    pub const fn micros(micros: u64) -> Self {
        Self(micros * 1_000)
    }

    /// So many milliseconds.
    #[must_use]
    pub const fn millis(millis: u64) -> Self {
        Self(millis * 1_000_000)
    }

    /// So many seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(seconds * 1_000_000_000)
    }
}

impl Add<Span> for Moment {
    type Output = Self;

    fn add(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub for Moment {
    type Output = Span;

    fn sub(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl Add for Span {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self(self.0.saturating_add(more.0))
    }
}

impl Mul<u64> for Span {
    type Output = Self;

    fn mul(self, times: u64) -> Self {
        Self(self.0.saturating_mul(times))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>4}.{:06}", self.0 / 1_000_000_000, self.0 / 1_000 % 1_000_000)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03} ms", self.0 / 1_000_000, self.0 / 1_000 % 1_000)
    }
}

/// Events to come.
#[derive(Debug)]
pub struct Agenda<E> {
    now: Moment,
    scheduled: u64,
    events: BinaryHeap<Due<E>>,
}

#[derive(Debug)]
struct Due<E> {
    at: Moment,
    number: u64,
    event: E,
}

impl<E> Default for Agenda<E> {
    fn default() -> Self {
        Self { now: Moment::default(), scheduled: 0, events: BinaryHeap::with_capacity(256) }
    }
}

impl<E> Agenda<E> {
    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.now
    }

    /// Lets an event happen at a moment, or now if that has passed.
    pub fn at(&mut self, at: Moment, event: E) {
        self.scheduled += 1;
        self.events.push(Due { at: at.max(self.now), number: self.scheduled, event });
    }

    /// Lets an event happen after a while.
    pub fn after(&mut self, span: Span, event: E) {
        self.at(self.now + span, event);
    }

    /// Goes on to the next event, unless it is later than this moment.
    pub fn next_event_until(&mut self, end: Moment) -> Option<E> {
        if self.events.peek()?.at <= end { self.next_event() } else { None }
    }

    /// Goes on to the next event.
    pub fn next_event(&mut self) -> Option<E> {
        let due = self.events.pop()?;
        self.now = due.at;
        Some(due.event)
    }
}

impl<E> Ord for Due<E> {
    /// The heap gives the greatest first, and that is to be the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<E> PartialOrd for Due<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Due<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Due<E> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_order_and_equals_as_scheduled() {
        let mut agenda = Agenda::default();
        agenda.at(Moment(5), 'c');
        agenda.at(Moment(3), 'a');
        agenda.at(Moment(3), 'b');
        let mut order = Vec::new();
        while let Some(event) = agenda.next_event() {
            order.push(event);
            if event == 'c' {
                agenda.at(Moment(1), 'd');
            }
        }
        assert_eq!(order, ['a', 'b', 'c', 'd'], "what is late happens at once");
        assert_eq!(agenda.now(), Moment(5));
    }
}
