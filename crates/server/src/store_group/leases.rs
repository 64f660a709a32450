//! Leases as this node keeps them going: renewals leave together, and a leader tells the others of time.
//!
//! Must not know what a lease is, or when one ends: the store does.

use std::future::poll_fn;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use vlot_store::auth::Asker;
use vlot_store::command::Command;
use vlot_store::lease::clock::LeaseClock;
use vlot_store::refusal::Refusal;
use vlot_store::store::{Applied, Store};

use super::StoreGroup;
use crate::status::Status;
use crate::store_machine::Proposal;

/// How often a leader looks whether there is something to tell.
const TELL_INTERVAL: Duration = Duration::from_millis(100);
/// How long it waits between two commands that end leases: some five thousand end in a second, and reads do not feel it.
const ENDING_PAUSE: Duration = Duration::from_millis(50);
/// How many renewals one command has at most.
const RENEWALS_MAX: usize = 4096;
/// How many renewals may wait for a command.
const WAITING_MAX: usize = 1 << 20;

/// What a renewal has come to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Renewed {
    /// The newest revision then.
    pub(crate) revision: i64,
    /// The lease's time to live in seconds; zero if there is no such lease.
    pub(crate) ttl: i64,
}

/// The outcome of a renewal, once it is there.
pub(crate) type Renewing = oneshot::Receiver<Result<Renewed, Status>>;

/// A lease to renew, on whose behalf, and who waits for it.
struct Waiting {
    id: i64,
    asker: Option<Asker>,
    renewed: oneshot::Sender<Result<Renewed, Status>>,
}

/// The renewals that wait for a command.
#[derive(Default)]
pub(super) struct Renewals {
    waiting: Mutex<Vec<Waiting>>,
    come: Notify,
}

impl Renewals {
    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        // Only moves of whole entries happen under the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What leaves next, together for each asker.
    fn take(&self) -> Vec<Vec<Waiting>> {
        let mut waiting = self.waiting();
        let taken = waiting.len().min(RENEWALS_MAX);
        let rest = waiting.split_off(taken);
        let mut taken = std::mem::replace(&mut *waiting, rest);
        drop(waiting);
        taken.sort_by(|left, right| left.asker.cmp(&right.asker));
        let mut commands: Vec<Vec<Waiting>> = Vec::new();
        for one in taken {
            match commands.last_mut() {
                Some(command) if command[0].asker == one.asker => command.push(one),
                _ => commands.push(vec![one]),
            }
        }
        commands
    }
}

impl StoreGroup {
    /// Asks for a lease to be renewed. What is asked for while a command is on its way leaves in the next one.
    ///
    /// # Errors
    /// Too many wait already.
    pub(crate) fn renew(&self, id: i64, asker: Option<Asker>) -> Result<Renewing, Status> {
        let (renewed, renewing) = oneshot::channel();
        let mut waiting = self.renewals.waiting();
        if waiting.len() >= WAITING_MAX {
            return Err(Status::TOO_MANY_REQUESTS);
        }
        waiting.push(Waiting { id, asker, renewed });
        drop(waiting);
        self.renewals.come.notify_one();
        Ok(renewing)
    }

    /// Looks at the store, and says what cluster time is on this node then, in milliseconds.
    ///
    /// # Errors
    /// If the store has stopped.
    pub(crate) async fn look_at_leases<T>(&self, look: impl FnOnce(&Store, u64) -> T) -> Result<T, Status> {
        let leads_in = self.leads_in();
        self.look(|store| look(store, self.lease_clock().now(store, self.started.elapsed(), leads_in))).await
    }

    /// What cluster time is on this node, in milliseconds, some moments ago.
    pub(crate) fn cluster_time(&self) -> u64 {
        self.cluster_time.load(Relaxed)
    }

    /// The term in which this node leads, if it does.
    fn leads_in(&self) -> Option<u64> {
        let role_state = self.group().status().role_state;
        (role_state.leader == Some(self.node)).then_some(role_state.term.0)
    }

    fn lease_clock(&self) -> MutexGuard<'_, LeaseClock> {
        // A clock is whole whatever happens to who holds it.
        self.lease_clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Renews leases and tells time, for ever.
    pub(super) async fn keep_leases(&self) {
        // One command at a time: what comes meanwhile is the next one's, and the busier a node is the more one carries.
        tokio::join!(self.propose_renewals(), self.tell_time());
    }

    async fn propose_renewals(&self) {
        loop {
            let commands = self.renewals.take();
            if commands.is_empty() {
                self.renewals.come.notified().await;
                continue;
            }
            let mut proposed: Vec<_> =
                commands.into_iter().map(|command| Box::pin(self.propose_for(command))).collect();
            // All at once: one that has many users behind it is not to wait for each of them.
            poll_fn(|context| {
                proposed.retain_mut(|one| one.as_mut().poll(context).is_pending());
                if proposed.is_empty() { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        }
    }

    /// Proposes renewals of one asker, and tells those that wait what came of it.
    async fn propose_for(&self, waiting: Vec<Waiting>) {
        let asker = waiting.first().and_then(|first| first.asker.clone());
        let command = Command::LeaseKeepAlive(waiting.iter().map(|one| one.id).collect());
        let command = match asker {
            Some(asker) => command.by(asker),
            None => command,
        };
        let renewed = match self.propose(Proposal::Command(command)).await {
            Ok(Ok(Applied::LeaseKeepAlive { revision, ttls })) => Ok((revision, ttls)),
            Ok(Ok(_)) => Err(Status::OTHER_ANSWER),
            Ok(Err(refusal)) => Err(refusal.into()),
            Err(status) => Err(status),
        };
        // A call that has gone meanwhile need not be told.
        match renewed {
            Ok((revision, ttls)) => waiting.into_iter().zip(ttls).for_each(|(one, ttl)| {
                let renewed =
                    if ttl < 0 { Err(Refusal::PermissionDenied.into()) } else { Ok(Renewed { revision, ttl }) };
                let _ = one.renewed.send(renewed);
            }),
            Err(status) => waiting.into_iter().for_each(|one| drop(one.renewed.send(Err(status.clone())))),
        }
    }

    async fn tell_time(&self) {
        loop {
            let leads_in = self.leads_in();
            // Followers count too: one that becomes the leader goes on from there.
            let look = |store: &Store| {
                let (mut clock, local) = (self.lease_clock(), self.started.elapsed());
                let due = clock.due(store, local, leads_in);
                self.cluster_time.store(clock.now(store, local, leads_in), Relaxed);
                due
            };
            let due = self.look(look).await;
            let mut has_more = false;
            if let Ok(Some(time)) = due {
                has_more = !time.ended.is_empty();
                let told = self.propose_own(Command::LeaseTime(time)).await;
                has_more &= told.is_ok();
            }
            tokio::time::sleep(if has_more { ENDING_PAUSE } else { TELL_INTERVAL }).await;
        }
    }
}
