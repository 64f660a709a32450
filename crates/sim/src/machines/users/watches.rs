//! Watches on a machine while users and grants change: who opens them, and what each must hear, and when it must end.
//!
//! What holds, for each watch and on every member:
//! - It is made if its user may read all of its keys at that moment, and only then.
//! - It ends when a change of users is applied after which its user may not read all of them, and only then. No event of a
//!   later revision reaches it.
//! - What it hears is what has changed: from where it begins, in order, nothing twice and nothing left out. As long as
//!   its grant stays it hears everything.
//!
//! Owns the clients of the watches. What has changed is in the ledger (`ledger.rs`), and who may read what is the model's
//! to say (`model.rs`).

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use vlot_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use vlot_proto::mvccpb::Event;
use vlot_proto::mvccpb::event::EventType;
use vlot_raft::invariants::Violation;
use vlot_store::auth::Caller;
use vlot_store::store::Store;
use vlot_store::view::View;
use vlot_store::watch::{CancelReason, Next, WatchOut, WatchStream};

use super::changes::Change;
use super::draw;
use super::ledger::{Changes, Ledger};
use super::model::{Model, is_in};
use crate::rng::Rng;

const MADE: &str = "A Watch Is Made If It Is Permitted";
const ENDS: &str = "A Watch Ends With Its Grant";
const HEARS: &str = "A Watch Hears What Has Changed";

/// How many clients watch on each machine.
const CLIENTS: usize = 8;
/// How much is read from history at a time: little, so that watches stay behind for a while.
const PIECE_BYTES: usize = 200;

/// The watches on a machine.
pub(super) struct Watches {
    stream: WatchStream,
    /// What history is read from the next time, if it is not that of the moment.
    view: Option<View>,
    /// The `n`th has the watch `n + 1`.
    clients: Vec<Client>,
    /// Why watches are not made that were asked for, in this order.
    refused: VecDeque<CancelReason>,
    rng: Rng,
    ledger: Ledger,
}

impl fmt::Debug for Watches {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Watches").field("clients", &self.clients).finish_non_exhaustive()
    }
}

/// A client, with its watch if it has one.
#[derive(Debug)]
struct Client {
    user: Option<&'static str>,
    key: Bytes,
    range_end: Bytes,
    /// The revision from which on it has heard nothing yet; zero if that is not known before its watch is made.
    next: i64,
    watch: Option<Watch>,
}

/// A watch that was asked for and must be made.
#[derive(Debug, Default)]
struct Watch {
    is_created: bool,
    /// Set when it has ended. It may not have been told yet.
    end: Option<End>,
}

#[derive(Debug)]
struct End {
    /// The newest revision that it may hear of.
    upto: i64,
    reason: CancelReason,
}

impl Client {
    fn draw(rng: &mut Rng) -> Self {
        let (user, key, range_end) = draw::watched(rng);
        Self { user, key, range_end, next: 0, watch: None }
    }

    fn wants(&self, change: &Change) -> bool {
        is_in(&change.key, &self.key, &self.range_end)
    }

    fn wanted(&self, changes: &[Change]) -> Vec<Change> {
        changes.iter().filter(|change| self.wants(change)).cloned().collect()
    }

    fn lost(&self) -> Option<&End> {
        let end = self.watch.as_ref()?.end.as_ref()?;
        matches!(end.reason, CancelReason::Refused(_)).then_some(end)
    }

    fn violation(&self, property: &'static str, shown_by: String) -> Result<(), Violation> {
        let Self { user, key, range_end, .. } = self;
        Err(Violation { property, shown_by: format!("watch of {user:?} from {key:?} to {range_end:?}: {shown_by}") })
    }
}

impl Watches {
    pub fn of(store: &Store, ledger: Ledger) -> Self {
        let mut told = ledger.told();
        let mut rng = Rng::new(told.seed, CLIENTS as u64);
        told.seed = told.seed.wrapping_add(1);
        drop(told);
        let clients = (0..CLIENTS).map(|_| Client::draw(&mut rng)).collect();
        let stream = store.watch_stream(Arc::new(|| {}));
        Self { stream, view: None, clients, refused: VecDeque::new(), rng, ledger }
    }

    /// A batch has ended: clients ask for watches, end some, and take what there is.
    pub fn batch_ended(&mut self, store: &Store, model: &Model) {
        self.ask(store, model);
        let outcome = match self.rng.below(4) {
            // Now and then a stream is slow, and what it reads is of an earlier moment then.
            0 => {
                self.view.get_or_insert_with(|| store.view());
                Ok(())
            }
            1 => self.take_all(store),
            _ => self.take(store).map(drop),
        };
        self.ledger.found(outcome);
    }

    /// The same in the middle of a batch: what was applied in it has not been told to anybody yet.
    pub fn command_applied(&mut self, store: &Store, model: &Model) {
        if self.rng.below(4) == 0 {
            self.ask(store, model);
        }
        if self.rng.below(8) == 0 {
            let outcome = self.take(store).map(drop);
            self.ledger.found(outcome);
        }
    }

    /// Users are as the model has them, after a command or a snapshot. `upto` is the newest revision that could be heard of
    /// before.
    pub fn users_changed(&mut self, model: &Model, upto: i64) {
        for client in &mut self.clients {
            let Some(watch) = client.watch.as_mut().filter(|watch| watch.end.is_none()) else { continue };
            if let Err(refusal) = model.lets_watch(client.user, &client.key, &client.range_end) {
                watch.end = Some(End { upto, reason: CancelReason::Refused(refusal) });
            }
        }
    }

    fn ask(&mut self, store: &Store, model: &Model) {
        let (newest, auth_revision) = (store.revision(), store.auth().revision());
        for (client, watch_id) in self.clients.iter_mut().zip(1..) {
            if let Some(watch) = &mut client.watch {
                if watch.end.is_none() && self.rng.below(32) == 0 {
                    self.stream.cancel(watch_id);
                    watch.end = Some(End { upto: newest, reason: CancelReason::Asked });
                }
                continue;
            }
            if self.rng.below(4) == 0 {
                *client = Client::draw(&mut self.rng);
            }
            let start = match self.rng.below(4) {
                0 => 0,
                1 => newest + 1 + self.rng.below(3) as i64,
                2 => 1 + self.rng.below(newest as u64) as i64,
                _ => client.next,
            };
            let revision = auth_revision.saturating_sub(u64::from(self.rng.below(6) == 0));
            let caller = client.user.map(|user| Caller { user: user.into(), revision });
            let (key, range_end) = (client.key.clone(), client.range_end.clone());
            let request = WatchCreateRequest { key, range_end, start_revision: start, watch_id, ..Default::default() };
            self.stream.create_for(caller.as_ref(), &request);
            match expected(model, caller.as_ref(), &request) {
                Ok(()) => (client.next, client.watch) = (start, Some(Watch::default())),
                Err(reason) => self.refused.push_back(reason),
            }
        }
    }

    /// Takes what there is to the end: then every watch has heard everything.
    fn take_all(&mut self, store: &Store) -> Result<(), Violation> {
        while self.take(store)? != Next::Wait {}
        self.check_all_have_heard(store.revision())
    }

    fn take(&mut self, store: &Store) -> Result<Next, Violation> {
        let view = self.view.take().unwrap_or_else(|| store.view());
        let drained = self.stream.catch_up(&view, PIECE_BYTES).expect("a store in memory can be read");
        drained.outs.into_iter().flat_map(WatchOut::each).try_for_each(|out| self.hear(out))?;
        Ok(drained.next)
    }

    fn hear(&mut self, out: WatchOut) -> Result<(), Violation> {
        let (watch_id, out) = match out {
            WatchOut::NotCreated { reason, .. } => return self.not_created(reason),
            WatchOut::Created { watch_id, .. }
            | WatchOut::Canceled { watch_id, .. }
            | WatchOut::Progress { watch_id, .. } => (watch_id, out),
            WatchOut::Events { ref watch_ids, .. } => (watch_ids[0], out),
        };
        let client = usize::try_from(watch_id - 1).ok().and_then(|place| self.clients.get_mut(place));
        let Some(client) = client else {
            return Err(Violation { property: HEARS, shown_by: format!("no watch is told {out:?}") });
        };
        match out {
            WatchOut::Created { revision, .. } => client.created(revision, &self.ledger),
            WatchOut::Canceled { reason, .. } => client.canceled(&reason, &self.ledger),
            WatchOut::Events { events, .. } => client.hear(&events, &self.ledger),
            out => client.violation(HEARS, format!("it has not asked for {out:?}")),
        }
    }

    fn not_created(&mut self, reason: CancelReason) -> Result<(), Violation> {
        self.ledger.told().sums.refused += 1;
        let expected = self.refused.pop_front();
        if expected.as_ref() == Some(&reason) {
            return Ok(());
        }
        let shown_by = format!("a watch was not made for {reason:?}; expected {expected:?}");
        Err(Violation { property: MADE, shown_by })
    }

    fn check_all_have_heard(&mut self, newest: i64) -> Result<(), Violation> {
        if let Some(reason) = self.refused.front() {
            let shown_by = format!("a watch was made, or forgotten; expected {reason:?}");
            return Err(Violation { property: MADE, shown_by });
        }
        self.clients.iter_mut().try_for_each(|client| client.check_has_heard(newest, &self.ledger))
    }
}

/// Whether a watch is made.
fn expected(model: &Model, caller: Option<&Caller>, request: &WatchCreateRequest) -> Result<(), CancelReason> {
    let WatchCreateRequest { key, range_end, .. } = request;
    model.admits_watch(caller, key, range_end).map_err(CancelReason::Refused)?;
    let is_empty = !matches!(range_end[..], [] | [0]) && range_end <= key;
    if is_empty { Err(CancelReason::EmptyRange) } else { Ok(()) }
}

/// What watches are told.
impl Client {
    fn created(&mut self, revision: i64, ledger: &Ledger) -> Result<(), Violation> {
        match &mut self.watch {
            Some(watch) if !watch.is_created => watch.is_created = true,
            _ => return self.violation(MADE, "it was made, and must not be".to_owned()),
        }
        ledger.told().sums.created += 1;
        if self.next == 0 {
            self.next = revision + 1;
        }
        Ok(())
    }

    fn canceled(&mut self, reason: &CancelReason, ledger: &Ledger) -> Result<(), Violation> {
        let is_due = |watch: &Watch| watch.is_created && watch.end.as_ref().is_some_and(|end| end.reason == *reason);
        if !self.watch.as_ref().is_some_and(is_due) {
            return self.violation(ENDS, format!("it has ended for {reason:?}; expected {:?}", self.watch));
        }
        if let Some(End { upto, .. }) = self.lost() {
            let mut told = ledger.told();
            told.sums.ended += 1;
            let later = told.changes.range(upto + 1..).flat_map(|(_, changes)| changes);
            let withheld = later.filter(|change| self.wants(change)).count();
            told.sums.withheld += withheld as u64;
        }
        self.watch = None;
        Ok(())
    }

    fn hear(&mut self, events: &[Bytes], ledger: &Ledger) -> Result<(), Violation> {
        if !self.watch.as_ref().is_some_and(|watch| watch.is_created) {
            return self.violation(ENDS, format!("it hears of {} changes, and there is no such watch", events.len()));
        }
        let events = WatchResponse::decode(&events.concat()[..]).expect("events are fields of a response").events;
        let mut told = ledger.told();
        told.sums.events += events.len() as u64;
        for of_one_revision in events.chunk_by(|left, right| revision_of(left) == revision_of(right)) {
            let revision = revision_of(&of_one_revision[0]);
            let found: Vec<Change> = of_one_revision.iter().map(change_of).collect();
            if let Some(End { upto, .. }) = self.lost().filter(|end| revision > end.upto) {
                let shown_by = format!("its grant was gone at {upto}, and it hears of {found:?} at {revision}");
                return self.violation(ENDS, shown_by);
            }
            if revision < self.next {
                let shown_by = format!("it has heard all before {}, and hears of {found:?} at {revision}", self.next);
                return self.violation(HEARS, shown_by);
            }
            if let Some((missed, changes)) = self.missed(&told.changes, revision - 1) {
                let shown_by = format!("it hears of {found:?} at {revision}, and not of {changes:?} at {missed}");
                return self.violation(HEARS, shown_by);
            }
            let wanted = told.changes.get(&revision).map(|changes| self.wanted(changes)).unwrap_or_default();
            if found != wanted {
                return self.violation(HEARS, format!("it hears of {found:?} at {revision}, and not of {wanted:?}"));
            }
            self.next = revision + 1;
        }
        Ok(())
    }

    /// Nothing waits for it any more.
    fn check_has_heard(&mut self, newest: i64, ledger: &Ledger) -> Result<(), Violation> {
        let Some(watch) = &self.watch else { return Ok(()) };
        if !watch.is_created {
            return self.violation(MADE, "it was not made".to_owned());
        }
        if let Some(end) = &watch.end {
            return self.violation(ENDS, format!("it was not ended; expected {end:?}"));
        }
        let mut told = ledger.told();
        if let Some((missed, changes)) = self.missed(&told.changes, newest) {
            return self.violation(HEARS, format!("it never hears of {changes:?} at {missed}"));
        }
        told.sums.complete += 1;
        self.next = self.next.max(newest + 1);
        Ok(())
    }

    /// What it has not heard of up to a revision, if there is something.
    fn missed<'a>(&self, changes: &'a Changes, upto: i64) -> Option<(i64, &'a Vec<Change>)> {
        let mut due = changes.range(self.next..self.next.max(upto + 1));
        due.find(|(_, changes)| changes.iter().any(|change| self.wants(change))).map(|(revision, of)| (*revision, of))
    }
}

fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

fn change_of(event: &Event) -> Change {
    let key = event.kv.as_ref().map(|kv| kv.key.clone()).unwrap_or_default();
    Change { key, is_deletion: event.r#type == EventType::Delete as i32 }
}
