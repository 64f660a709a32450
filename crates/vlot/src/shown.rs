//! What is shown of a group to the handles that programs hold, kept current by the driver.

use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{broadcast, watch};
use vlot_node::act::{GroupEvent, Status};
use vlot_node::members::Members;
use vlot_node::policy::MemberHealth;
use vlot_raft::effect::RoleState;

/// Events that wait for a subscriber; one that lags further behind is told how many were dropped.
const EVENTS_MAX: usize = 1024;

/// What is shown of a group.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    status: Mutex<Status>,
    /// The state machine has stopped, maybe in the middle of a command: set before what it has left can be seen.
    has_failed: AtomicBool,
    pub(crate) role_state: watch::Sender<RoleState>,
    pub(crate) members: watch::Sender<Members>,
    /// How the other members are, as a leader sees them.
    health: Mutex<Vec<MemberHealth>>,
    /// Made when a caller first subscribes: a node may have thousands of groups.
    events: OnceLock<broadcast::Sender<GroupEvent>>,
}

impl Shown {
    pub(crate) fn status(&self) -> Status {
        self.lock().clone()
    }

    /// The state machine has stopped. Called while its lock is held.
    pub(crate) fn fail(&self) {
        self.has_failed.store(true, Release);
    }

    /// Whether the state machine has stopped. Called while its lock is held.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Acquire)
    }

    /// Shows where the group stands. A caller that is woken by the role finds it in the status too.
    pub(crate) fn show(&self, status: Status) {
        let role_state = status.role_state;
        *self.lock() = status;
        self.role_state.send_if_modified(|shown| {
            let is_other = *shown != role_state;
            *shown = role_state;
            is_other
        });
    }

    pub(crate) fn health(&self) -> Vec<MemberHealth> {
        self.lock_health().clone()
    }

    pub(crate) fn show_health(&self, health: Vec<MemberHealth>) {
        *self.lock_health() = health;
    }

    /// The node has stopped, or the group is closed: nothing of what was shown holds any more.
    pub(crate) fn end(&self) {
        let mut status = self.lock();
        let role_state = RoleState { term: status.role_state.term, ..RoleState::default() };
        *status = Status { role_state, is_open: false, ..status.clone() };
        drop(status);
        self.show_health(Vec::new());
        self.role_state.send_replace(role_state);
    }

    pub(crate) fn tell(&self, event: GroupEvent) {
        if let Some(events) = self.events.get() {
            // There may be no subscriber any more.
            let _ = events.send(event);
        }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<GroupEvent> {
        self.events.get_or_init(|| broadcast::Sender::new(EVENTS_MAX)).subscribe()
    }

    fn lock_health(&self) -> MutexGuard<'_, Vec<MemberHealth>> {
        // Only whole values are put under the lock.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        // Only whole values are put under the lock.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use vlot_raft::id::Term;

    use super::*;

    #[test]
    fn what_wakes_a_caller_is_in_the_status_already() {
        const TERMS: u64 = 20_000;
        let shown = Shown::default();
        let mut role_states = shown.role_state.subscribe();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for term in 1..=TERMS {
                    let role_state = RoleState { term: Term(term), ..RoleState::default() };
                    shown.show(Status { role_state, ..Status::default() });
                }
            });
            let mut term = 0;
            while term < TERMS {
                term = role_states.borrow_and_update().term.0;
                let status = shown.status().role_state.term.0;
                assert!(status >= term, "told of term {term}, and shown {status}");
            }
        });
    }
}
