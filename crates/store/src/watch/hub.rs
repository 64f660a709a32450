//! From a change to the streams that watch it.
//!
//! Owns the index from keys to watches, and each stream's mailbox with its bound. Must not know how history is read.
//!
//! Locks are taken in the order hub, mailbox. Nothing of either is held while a stream is woken.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::intervals::{End, Intervals};
use super::{Wake, WatchOut};
use crate::mvcc::key_range::KeyRange;

/// All watches of a store.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    hub: Mutex<Hub>,
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Hub {
    single: HashMap<Bytes, Vec<Watcher>>,
    spans: Intervals<Watcher>,
}

#[derive(Clone, Debug)]
struct Watcher {
    mailbox: Arc<Mailbox>,
    watch_id: i64,
}

impl Watcher {
    fn is(&self, mailbox: &Arc<Mailbox>, watch_id: i64) -> bool {
        self.watch_id == watch_id && Arc::ptr_eq(&self.mailbox, mailbox)
    }
}

/// An event as a watch may want it. Each form is encoded when the first watch asks for it.
pub(crate) trait Encode {
    /// The revision's main part.
    fn revision(&self) -> i64;
    fn key(&self) -> &Bytes;
    fn is_deletion(&self) -> bool;
    fn encoded(&mut self, with_previous: bool) -> Bytes;
}

impl Watchers {
    pub fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub fn add(&self, range: &KeyRange, mailbox: &Arc<Mailbox>, watch_id: i64) {
        let watcher = Watcher { mailbox: Arc::clone(mailbox), watch_id };
        let mut hub = self.hub();
        match range {
            KeyRange::Single(key) => hub.single.entry(key.clone()).or_default().push(watcher),
            KeyRange::Span { start, end } => hub.spans.insert(start.clone(), End::Before(end.clone()), watcher),
            KeyRange::From { start } => hub.spans.insert(start.clone(), End::Never, watcher),
        }
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    pub fn remove(&self, range: &KeyRange, mailbox: &Arc<Mailbox>, watch_id: i64) {
        let mut hub = self.hub();
        let is_it = |watcher: &Watcher| watcher.is(mailbox, watch_id);
        match range {
            KeyRange::Single(key) => {
                if let Some(watchers) = hub.single.get_mut(key) {
                    watchers.retain(|watcher| !is_it(watcher));
                    if watchers.is_empty() {
                        hub.single.remove(key);
                    }
                }
            }
            KeyRange::Span { start, end } => hub.spans.remove(start, &End::Before(end.clone()), is_it),
            KeyRange::From { start } => hub.spans.remove(start, &End::Never, is_it),
        }
        self.count.fetch_sub(1, Ordering::Relaxed);
    }

    /// Gives the events of one revision to those who watch their keys. Returns the mailboxes whose owners are to be
    /// woken.
    pub fn publish(&self, revision: &mut [impl Encode], to_wake: &mut Vec<Arc<Mailbox>>) {
        let hub = self.hub();
        let mut wanted: Vec<(Watcher, usize)> = Vec::new();
        for (place, event) in revision.iter().enumerate() {
            if let Some(watchers) = hub.single.get(event.key()) {
                wanted.extend(watchers.iter().map(|watcher| (watcher.clone(), place)));
            }
            hub.spans.stab(event.key(), &mut |watcher| wanted.push((watcher.clone(), place)));
        }
        // All events that one watch gets of a revision go into one response. Sorting keeps their order.
        wanted.sort_by_key(|(watcher, place)| (Arc::as_ptr(&watcher.mailbox) as usize, watcher.watch_id, *place));
        for group in wanted.chunk_by(|(left, _), (right, _)| left.is(&right.mailbox, right.watch_id)) {
            let (Watcher { mailbox, watch_id }, _) = &group[0];
            if mailbox.deliver(*watch_id, revision, group.iter().map(|(_, place)| *place)) {
                to_wake.push(Arc::clone(mailbox));
            }
        }
    }

    /// The store has come to be at `newest` without publishing what led there from `published` on: every watch reads
    /// that from history. Returns the mailboxes whose owners are to be woken.
    pub fn fall_behind(&self, published: i64, newest: i64) -> Vec<Arc<Mailbox>> {
        let hub = self.hub();
        let mut to_wake: Vec<Arc<Mailbox>> = Vec::new();
        let mut leave = |watcher: &Watcher| {
            let mut mail = watcher.mailbox.mail();
            let Some(watch) = mail.watches.get_mut(&watcher.watch_id) else { return };
            if !watch.behind {
                watch.next = watch.next.max(published + 1);
                watch.behind = watch.next <= newest;
            }
            if watch.behind && !std::mem::replace(&mut mail.woken, true) {
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

/// What waits for the owner of a stream.
pub(crate) struct Mailbox {
    pub wake: Wake,
    bytes_max: usize,
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
    /// Whether the owner was woken and has not come yet.
    pub woken: bool,
}

/// One watch.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pub range: KeyRange,
    pub no_put: bool,
    pub no_delete: bool,
    pub prev_kv: bool,
    pub progress_notify: bool,
    /// Events from this main revision on are still to be sent; all before it are in `outs` or were sent.
    pub next: i64,
    /// The mailbox was full, or the watch starts in the past: events come from history, from `next` on.
    pub behind: bool,
    /// Whether something was sent since the last tick of progress.
    pub told: bool,
}

impl Watch {
    pub fn wants(&self, is_deletion: bool) -> bool {
        if is_deletion { !self.no_delete } else { !self.no_put }
    }
}

impl Mail {
    /// Adds events to what the watch has waiting.
    pub fn push_events(&mut self, watch_id: i64, revision: i64, mut events: Vec<Bytes>) {
        self.bytes += events.iter().map(Bytes::len).sum::<usize>();
        match self.outs.back_mut() {
            Some(WatchOut::Events { watch_id: last, revision: newest, events: waiting }) if *last == watch_id => {
                *newest = revision;
                waiting.append(&mut events);
            }
            _ => self.outs.push_back(WatchOut::Events { watch_id, revision, events }),
        }
    }
}

impl Mailbox {
    pub fn new(wake: Wake, bytes_max: usize) -> Self {
        Self { wake, bytes_max, mail: Mutex::default() }
    }

    pub fn mail(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts something into the mailbox and wakes the owner if need be.
    pub fn post(&self, out: WatchOut) {
        let mut mail = self.mail();
        mail.outs.push_back(out);
        let wake = !std::mem::replace(&mut mail.woken, true);
        drop(mail);
        if wake {
            (self.wake)();
        }
    }

    /// Takes in the events of one revision for one watch, or leaves them to history if there is no room. Returns whether
    /// the owner has to be woken.
    fn deliver(&self, watch_id: i64, revision: &mut [impl Encode], places: impl Iterator<Item = usize>) -> bool {
        let mut mail = self.mail();
        let full = mail.bytes >= self.bytes_max;
        let Some(watch) = mail.watches.get_mut(&watch_id) else { return false };
        let main = revision[0].revision();
        if watch.behind || main < watch.next {
            return false;
        }
        let mut events = Vec::new();
        for place in places {
            let event = &mut revision[place];
            if watch.wants(event.is_deletion()) {
                if full {
                    watch.behind = true;
                    watch.next = main;
                    break;
                }
                events.push(event.encoded(watch.prev_kv));
            }
        }
        if !watch.behind {
            if events.is_empty() {
                return false;
            }
            watch.next = main + 1;
            watch.told = true;
            mail.push_events(watch_id, main, events);
        }
        !std::mem::replace(&mut mail.woken, true)
    }
}
