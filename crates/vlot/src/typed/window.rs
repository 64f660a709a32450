//! Which calls of a session, of those that are made here, are settled.
//!
//! Owns the serial numbers of a session that this process has opened. Must not know what a call does.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use vlot_node::typed::sessions::{CallId, SessionId};

/// The calls of a session.
#[derive(Debug)]
pub(crate) struct Window {
    session: SessionId,
    /// How many calls there may be from the first that is not settled on.
    unsettled_max: usize,
    calls: Mutex<Calls>,
}

#[derive(Debug)]
struct Calls {
    /// The first serial number that is not settled.
    unsettled: u64,
    /// Whether that one and those after it are settled.
    are_settled: VecDeque<bool>,
    /// Those whose outcome nobody knows here, the oldest first: it can be asked for.
    unknown: VecDeque<u64>,
}

impl Window {
    pub(crate) fn new(session: SessionId, unsettled_max: u16) -> Self {
        let calls = Calls { unsettled: 1, are_settled: VecDeque::new(), unknown: VecDeque::new() };
        Self { session, unsettled_max: unsettled_max.into(), calls: Mutex::new(calls) }
    }

    pub(crate) fn session(&self) -> SessionId {
        self.session
    }

    /// A call begins. None if too many are not settled.
    pub(crate) fn begin(&self) -> Option<Begun<'_>> {
        let mut calls = self.lock();
        if calls.are_settled.len() >= self.unsettled_max {
            return None;
        }
        let serial = calls.unsettled + calls.are_settled.len() as u64;
        calls.are_settled.push_back(false);
        Some(Begun { window: self, serial })
    }

    /// How many serial numbers before this one are not settled, at most.
    pub(crate) fn unsettled_before(&self, serial: u64) -> u16 {
        // The window is no longer than a number of 16 bits.
        u16::try_from(serial.saturating_sub(self.lock().unsettled)).unwrap_or(u16::MAX)
    }

    fn settle(&self, serial: u64) {
        self.lock().settle(serial);
    }

    /// Nobody knows here what has become of a call. It can be asked for, until too many others are unknown.
    fn leave_unknown(&self, serial: u64) {
        let mut calls = self.lock();
        calls.unknown.push_back(serial);
        if calls.unknown.len() > self.unsettled_max / 4
            && let Some(oldest) = calls.unknown.pop_front()
        {
            calls.settle(oldest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Calls> {
        // Each change under the lock is whole before anything can panic.
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Calls {
    fn settle(&mut self, serial: u64) {
        let at = serial.checked_sub(self.unsettled).and_then(|at| usize::try_from(at).ok());
        if let Some(is_settled) = at.and_then(|at| self.are_settled.get_mut(at)) {
            *is_settled = true;
        }
        while self.are_settled.pop_front_if(|is_settled| *is_settled).is_some() {
            self.unsettled += 1;
        }
    }
}

/// A call that has begun. One that is dropped before it is settled is left unknown.
#[derive(Debug)]
pub(crate) struct Begun<'w> {
    window: &'w Window,
    serial: u64,
}

impl Begun<'_> {
    pub(crate) fn id(&self) -> CallId {
        CallId { session: self.window.session, serial: self.serial }
    }

    /// Its outcome is known: nobody will ask for it again.
    pub(crate) fn settle(self) {
        self.window.settle(self.serial);
        std::mem::forget(self);
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.window.leave_unknown(self.serial);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_settled_is_what_all_calls_before_have_ended() {
        let window = Window::new(SessionId(7), 8);
        let [first, second, third] = [(); 3].map(|()| window.begin().unwrap());
        assert_eq!(second.id(), CallId { session: SessionId(7), serial: 2 });
        second.settle();
        assert_eq!(window.unsettled_before(4), 3);
        first.settle();
        assert_eq!(window.unsettled_before(4), 1, "1 and 2 are settled");
        third.settle();
        assert_eq!(window.unsettled_before(4), 0);
    }

    #[test]
    fn calls_that_end_unknown_stay_so_until_there_are_too_many() {
        let window = Window::new(SessionId(1), 8);
        (0..2).for_each(|_| drop(window.begin().unwrap()));
        assert_eq!(window.unsettled_before(3), 2);
        let others: Vec<Begun<'_>> = (0..6).map(|_| window.begin().unwrap()).collect();
        assert!(window.begin().is_none(), "eight are not settled");
        drop(others);
        assert_eq!(window.unsettled_before(9), 2, "of eight unknown ones the oldest six are given up");
        assert!(window.begin().is_some());
    }
}
