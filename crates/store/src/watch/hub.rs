//! From a change to the streams that watch it.
//!
//! Owns the index from keys to watches, and each stream's mailbox with its bound. Must not know how history is read.
//!
//! Locks are taken in the order hub, mailbox. Nothing of either is held while a stream is woken.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::intervals::Intervals;
use super::{CancelReason, Next, Wake, WatchOut};
use crate::auth::{Auth, Caller};
use crate::figures::Measures;
use crate::mvcc::key_range::KeyRange;
use crate::refusal::Refusal;

/// All watches of a store.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    hub: Mutex<Hub>,
    count: AtomicUsize,
    /// The store's revision. What it has not published yet will be, to watches that are here by then.
    applied: AtomicI64,
    pub measures: Arc<Measures>,
}

#[derive(Debug, Default)]
struct Hub {
    single: HashMap<Bytes, Vec<Watcher>>,
    spans: Intervals<Watcher>,
    /// All watches that are in sync were given everything up to this revision.
    published: i64,
    /// Who may watch what.
    auth: Arc<Auth>,
}

/// A watch as the hub sees it. What is given to it takes no look at the watch itself: thousands of them are much memory.
#[derive(Debug)]
struct Watcher {
    mailbox: Arc<Mailbox>,
    watch_id: i64,
    options: WatchOptions,
}

impl Watcher {
    /// Those of a mailbox come one after the other, by their ids.
    fn order(&self) -> (usize, i64) {
        (Arc::as_ptr(&self.mailbox) as usize, self.watch_id)
    }

    fn is(&self, mailbox: &Arc<Mailbox>, watch_id: i64) -> bool {
        self.watch_id == watch_id && Arc::ptr_eq(&self.mailbox, mailbox)
    }
}

/// An event as a watch may want it. Each form is encoded when the first watch asks for it.
pub(crate) trait Encode {
    /// The revision's main part.
    fn revision(&self) -> i64;
    fn key(&self) -> &[u8];
    fn is_deletion(&self) -> bool;
    /// None if that takes a read of the engine, which no other stream is to wait for.
    fn encoded(&mut self, with_previous: bool) -> Option<Bytes>;
}

impl Watchers {
    /// For a store that begins at this revision, with these users.
    pub fn starting_at(revision: i64, auth: Arc<Auth>, measures: Arc<Measures>) -> Self {
        let hub = Mutex::new(Hub { published: revision, auth, ..Hub::default() });
        Self { hub, count: AtomicUsize::new(0), applied: AtomicI64::new(revision), measures }
    }

    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// The store's revision.
    pub fn applied(&self) -> i64 {
        self.applied.load(Ordering::Acquire)
    }

    pub fn set_applied(&self, revision: i64) {
        self.applied.store(revision, Ordering::Release);
    }

    /// Whether a client, if it has said who it is, may watch these keys.
    pub fn admit(&self, caller: Option<&Caller>, range: &KeyRange) -> Result<(), Refusal> {
        self.hub().auth.admits_watch(caller, range)
    }

    /// Begins a watch: what `make` makes for the store's revision, and the answer to its client, before any event.
    /// Nothing is published meanwhile, so that the watch misses nothing after that revision, and no user changes.
    pub fn add(&self, mailbox: &Arc<Mailbox>, watch_id: i64, make: impl FnOnce(i64) -> Watch) -> Result<(), Refusal> {
        let mut hub = self.hub();
        let revision = self.applied();
        let watch = make(revision);
        hub.auth.lets_watch(watch.user.as_deref(), &watch.range)?;
        let watcher = Watcher { mailbox: Arc::clone(mailbox), watch_id, options: watch.options };
        match &watch.range {
            KeyRange::Single(key) => hub.single.entry(key.clone()).or_default().push(watcher),
            span => hub.spans.insert(span, watcher),
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut mail = mailbox.mail();
        if watch.next <= revision {
            mail.behind.insert(watch_id);
            self.measures.slow_watches.add(1);
        } else {
            mail.unseen_from = mail.unseen_from.max(watch.next);
        }
        mail.watches.insert(watch_id, watch);
        let wake = mail.put(WatchOut::Created { watch_id, revision });
        drop((mail, hub));
        mailbox.wake_if(wake);
        Ok(())
    }

    /// Ends a watch. Nothing is published meanwhile, so that nothing is given to a watch that is not there. Returns whether
    /// there was one.
    pub fn end(&self, mailbox: &Arc<Mailbox>, watch_id: i64) -> bool {
        let mut hub = self.hub();
        let Some(watch) = mailbox.remove(watch_id) else { return false };
        hub.remove(&watch.range, mailbox, watch_id);
        self.count.fetch_sub(1, Ordering::Relaxed);
        true
    }

    /// Ends a watch of a stream that has ended.
    pub fn remove(&self, range: &KeyRange, mailbox: &Arc<Mailbox>, watch_id: i64) {
        self.hub().remove(range, mailbox, watch_id);
        self.count.fetch_sub(1, Ordering::Relaxed);
    }

    /// Users or roles have changed: ends the watches that are not permitted any more. What was published before they were
    /// given; of what comes next they hear nothing. Returns the mailboxes whose owners are to be woken.
    pub fn set_auth(&self, auth: Arc<Auth>) -> Vec<Arc<Mailbox>> {
        let mut hub = self.hub();
        hub.auth = auth;
        if !hub.auth.is_enabled() {
            return Vec::new();
        }
        let mut ended = Vec::new();
        let mut look_at = |watcher: &Watcher| {
            let mail = watcher.mailbox.mail();
            let Some(watch) = mail.watches.get(&watcher.watch_id) else { return };
            if let Err(refusal) = hub.auth.lets_watch(watch.user.as_deref(), &watch.range) {
                ended.push((Arc::clone(&watcher.mailbox), watcher.watch_id, refusal));
            }
        };
        hub.single.values().flatten().for_each(&mut look_at);
        hub.spans.visit_all(&mut look_at);
        let revision = self.applied();
        let mut to_wake = Vec::new();
        for (mailbox, watch_id, refusal) in ended {
            let Some(watch) = mailbox.remove(watch_id) else { continue };
            hub.remove(&watch.range, &mailbox, watch_id);
            self.count.fetch_sub(1, Ordering::Relaxed);
            let reason = CancelReason::Refused(refusal);
            if mailbox.mail().put(WatchOut::Canceled { watch_id, reason, revision }) {
                to_wake.push(mailbox);
            }
        }
        to_wake
    }

    /// Calls `act` with the revision up to which all watches that are in sync were given everything, and the mailbox's
    /// contents. Nothing is published meanwhile.
    pub fn with_published<T>(&self, mailbox: &Mailbox, act: impl FnOnce(i64, &mut Mail) -> T) -> T {
        let hub = self.hub();
        let mut mail = mailbox.mail();
        act(hub.published, &mut mail)
    }

    /// Gives a batch's events, in order, to the watchers of their keys. With them the store comes to be at `newest`.
    /// Returns the mailboxes whose owners are to be woken.
    pub fn publish<E: Encode>(&self, events: impl Iterator<Item = E>, newest: i64) -> Vec<Arc<Mailbox>> {
        let mut to_wake = Vec::new();
        let mut hub = self.hub();
        if self.count() > 0 {
            let mut events: Vec<E> = events.collect();
            for revision in events.chunk_by_mut(|left, right| left.revision() == right.revision()) {
                hub.publish(revision, &mut to_wake);
            }
        }
        hub.published = newest;
        to_wake
    }

    /// The store has come to be at `newest` without publishing what led there: every watch reads that from history.
    /// Returns the mailboxes whose owners are to be woken.
    pub fn fall_behind(&self, newest: i64) -> Vec<Arc<Mailbox>> {
        let mut hub = self.hub();
        let published = std::mem::replace(&mut hub.published, newest);
        self.set_applied(newest);
        let mut to_wake: Vec<Arc<Mailbox>> = Vec::new();
        let mut leave = |watcher: &Watcher| {
            let mut mail = watcher.mailbox.mail();
            let Mail { watches, behind, woken, .. } = &mut *mail;
            let Some(watch) = watches.get_mut(&watcher.watch_id) else { return };
            if !behind.contains(&watcher.watch_id) {
                watch.next = watch.next.max(published + 1);
                if watch.next > newest {
                    return;
                }
                behind.insert(watcher.watch_id);
                self.measures.slow_watches.add(1);
            }
            if !std::mem::replace(woken, true) {
                to_wake.push(Arc::clone(&watcher.mailbox));
            }
        };
        hub.single.values().flatten().for_each(&mut leave);
        hub.spans.visit_all(&mut leave);
        to_wake
    }

    fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hub {
    fn remove(&mut self, range: &KeyRange, mailbox: &Arc<Mailbox>, watch_id: i64) {
        let is_it = |watcher: &Watcher| watcher.is(mailbox, watch_id);
        match range {
            KeyRange::Single(key) => {
                if let Some(watchers) = self.single.get_mut(key) {
                    watchers.retain(|watcher| !is_it(watcher));
                    if watchers.is_empty() {
                        self.single.remove(key);
                    }
                }
            }
            span => self.spans.remove(span, is_it),
        }
    }

    /// Gives the events of one revision to the watchers of their keys.
    fn publish(&mut self, revision: &mut [impl Encode], to_wake: &mut Vec<Arc<Mailbox>>) {
        // They stay in order until others come, so that the watchers of one key are rarely sorted.
        for event in revision.iter() {
            if let Some(watchers) = self.single.get_mut(event.key()) {
                watchers.sort_unstable_by_key(Watcher::order);
            }
        }
        let mut wanted: Vec<(&Watcher, usize)> = Vec::new();
        for (place, event) in revision.iter().enumerate() {
            if let Some(watchers) = self.single.get(event.key()) {
                wanted.extend(watchers.iter().map(|watcher| (watcher, place)));
            }
            self.spans.stab(event.key(), &mut |watcher| wanted.push((watcher, place)));
        }
        // All events that one watch gets of a revision go into one response. Sorting keeps their order.
        wanted.sort_by_key(|(watcher, place)| (watcher.order(), *place));
        for of_one in wanted.chunk_by(|(left, _), (right, _)| Arc::ptr_eq(&left.mailbox, &right.mailbox)) {
            let mailbox = &of_one[0].0.mailbox;
            if mailbox.deliver(revision, of_one) {
                to_wake.push(Arc::clone(mailbox));
            }
        }
    }
}

/// What waits for the owner of a stream.
pub(crate) struct Mailbox {
    pub wake: Wake,
    bytes_max: usize,
    measures: Arc<Measures>,
    mail: Mutex<Mail>,
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("mail", &self.mail).finish_non_exhaustive()
    }
}

/// The contents of a mailbox, and what the stream watches.
#[derive(Debug, Default)]
pub(crate) struct Mail {
    pub outs: VecDeque<WatchOut>,
    /// Of events in `outs`.
    pub bytes: usize,
    pub watches: BTreeMap<i64, Watch>,
    /// Those of them whose events come from history, from `next` on: the mailbox was full, a previous value was not in
    /// memory, or the watch starts in the past.
    pub behind: BTreeSet<i64>,
    /// Of all that is published from this revision on, the other watches were given nothing.
    pub unseen_from: i64,
    /// Watches that compaction has ended and the client has not: their ids are taken until it does.
    pub compacted: BTreeSet<i64>,
    /// Whether the owner was woken and has not come yet.
    pub woken: bool,
}

/// One watch.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pub range: KeyRange,
    /// Whose it is, if the client has said who it is.
    pub user: Option<Arc<str>>,
    pub options: WatchOptions,
    /// The revision that the client asked for; zero for whatever comes.
    pub start: i64,
    /// Where it begins, or where its history goes on if it is behind: all events before this main revision are in `outs` or
    /// were sent.
    pub next: i64,
    /// Whether something was sent since the last tick of progress, if it asked for that.
    pub told: bool,
}

/// What a client asked for of a watch beside its keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WatchOptions {
    pub no_put: bool,
    pub no_delete: bool,
    pub prev_kv: bool,
    pub progress_notify: bool,
}

impl WatchOptions {
    pub fn wants(&self, is_deletion: bool) -> bool {
        if is_deletion { !self.no_delete } else { !self.no_put }
    }
}

impl Mail {
    /// What the owner does next.
    pub fn next(&self) -> Next {
        if !self.outs.is_empty() {
            Next::Drain
        } else if !self.behind.is_empty() {
            Next::CatchUp
        } else {
            Next::Wait
        }
    }

    /// Puts something into the mailbox. Returns whether the owner has to be woken.
    pub fn put(&mut self, out: WatchOut) -> bool {
        self.outs.push_back(out);
        !std::mem::replace(&mut self.woken, true)
    }

    /// Whether a watch is to be given a revision that is being published.
    fn lacks(&self, watch_id: i64, revision: i64) -> bool {
        let is_in_sync = !self.behind.contains(&watch_id);
        is_in_sync && self.watches.get(&watch_id).is_some_and(|watch| watch.next <= revision)
    }

    /// Notes that a watch is given something.
    fn tell(&mut self, watch_id: i64) {
        if let Some(watch) = self.watches.get_mut(&watch_id) {
            watch.told = true;
        }
    }

    /// Leaves a watch to history from a revision on.
    fn leave_behind(&mut self, watch_id: i64, from: i64) {
        if let Some(watch) = self.watches.get_mut(&watch_id) {
            watch.next = from;
            self.behind.insert(watch_id);
        }
    }

    /// Adds what these watches were given of a revision to what they have waiting.
    fn push_events(&mut self, Given { watch_ids, mut events, .. }: Given, revision: i64) {
        match self.outs.back_mut() {
            Some(WatchOut::Events { watch_ids: last, revision: newest, events: waiting }) if *last == watch_ids => {
                *newest = revision;
                waiting.append(&mut events);
            }
            _ => self.outs.push_back(WatchOut::Events { watch_ids, revision, events }),
        }
    }
}

/// What some watches of a stream are given of a revision.
struct Given {
    watch_ids: Vec<i64>,
    /// Which of its events, and in which form.
    places: Vec<usize>,
    with_previous: bool,
    events: Vec<Bytes>,
    bytes: usize,
}

impl Given {
    fn new(places: Vec<usize>, with_previous: bool, events: Vec<Bytes>) -> Self {
        let bytes = events.iter().map(Bytes::len).sum();
        Self { watch_ids: Vec::new(), places, with_previous, events, bytes }
    }
}

impl Mailbox {
    pub fn new(wake: Wake, bytes_max: usize, measures: Arc<Measures>) -> Self {
        measures.watch_streams.add(1);
        Self { wake, bytes_max, measures, mail: Mutex::default() }
    }

    /// What waited was taken out.
    pub fn taken(&self, events: usize) {
        self.measures.pending_events.sub(events);
        self.measures.events_sent(events);
    }

    /// Takes a watch out.
    pub fn remove(&self, watch_id: i64) -> Option<Watch> {
        let mut mail = self.mail();
        let was_behind = mail.behind.remove(&watch_id);
        self.measures.slow_watches.sub(usize::from(was_behind));
        let removed = mail.watches.remove(&watch_id);
        if mail.watches.is_empty() {
            mail.unseen_from = 0;
        }
        removed
    }

    /// The stream has ended, and with it these watches; what waits is never taken.
    pub fn end(&self, mail: &mut Mail) -> BTreeMap<i64, Watch> {
        let waiting = mail.outs.drain(..).map(|out| out.events()).sum();
        self.measures.pending_events.sub(waiting);
        self.measures.watch_streams.sub(1);
        self.measures.slow_watches.sub(std::mem::take(&mut mail.behind).len());
        std::mem::take(&mut mail.watches)
    }

    pub fn mail(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn wake_if(&self, wake: bool) {
        if wake {
            (self.wake)();
        }
    }

    /// Puts something into the mailbox and wakes the owner if need be.
    pub fn post(&self, out: WatchOut) {
        let wake = self.mail().put(out);
        self.wake_if(wake);
    }

    /// Takes in the events of one revision for the watches that are to have them, in the order of their ids, or leaves them
    /// to history where there is no room for them. Returns whether the owner has to be woken.
    fn deliver(&self, revision: &mut [impl Encode], wanted: &[(&Watcher, usize)]) -> bool {
        let main = revision[0].revision();
        let mut mail = self.mail();
        if mail.watches.is_empty() {
            // The stream has just ended.
            return false;
        }
        let all_lack_it = mail.behind.is_empty() && mail.unseen_from <= main;
        let mut given: Vec<Given> = Vec::new();
        let (mut has_come, mut places) = (false, Vec::new());
        for of_one in wanted.chunk_by(|(left, _), (right, _)| left.watch_id == right.watch_id) {
            let Watcher { watch_id, options, .. } = *of_one[0].0;
            if !all_lack_it && !mail.lacks(watch_id, main) {
                continue;
            }
            places.clear();
            for (_, place) in of_one {
                if options.wants(revision[*place].is_deletion()) {
                    places.push(*place);
                }
            }
            if places.is_empty() {
                continue;
            }
            has_come = true;
            // Most watches of a stream want what the one before them wants.
            let is_it = |given: &Given| given.with_previous == options.prev_kv && given.places.iter().eq(&places);
            let has_room = mail.bytes < self.bytes_max;
            if has_room && !given.last().is_some_and(is_it) {
                let encoded = places.iter().map(|place| revision[*place].encoded(options.prev_kv));
                let events = encoded.collect::<Option<Vec<Bytes>>>();
                given.extend(events.map(|events| Given::new(places.clone(), options.prev_kv, events)));
            }
            match given.last_mut().filter(|last| has_room && is_it(last)) {
                Some(last) => {
                    last.watch_ids.push(watch_id);
                    mail.bytes += last.bytes;
                    if options.progress_notify {
                        mail.tell(watch_id);
                    }
                }
                None => {
                    mail.leave_behind(watch_id, main);
                    self.measures.slow_watches.add(1);
                }
            }
        }
        for given in given {
            self.measures.pending_events.add(given.watch_ids.len() * given.events.len());
            mail.push_events(given, main);
        }
        has_come && !std::mem::replace(&mut mail.woken, true)
    }
}
