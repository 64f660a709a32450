//! Watches: what changed, told to the clients that asked.
//!
//! Owns a client's stream: its watches, their numbers, and etcd's rules for starting and ending one. A watch is either
//! in sync, and then the hub puts each change into the stream's bounded mailbox, or behind, and then its owner has what
//! it missed read from a view of the store, wherever and whenever it likes. No call of a stream needs the store itself, so
//! nothing that a slow stream does is felt by others.
//!
//! Guarantees, per watch: changes come in the order of revisions, none twice, none left out, all of a revision in one
//! response; a watch that needs compacted history is told so and ends.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use vlot_proto::etcdserverpb::WatchCreateRequest;
use vlot_proto::etcdserverpb::watch_create_request::FilterType;

use crate::auth::Caller;
use crate::mvcc::history::Block;
use crate::mvcc::key_range::KeyRange;
use crate::mvcc::view::View;
use crate::refusal::Refusal;
use crate::store::{Options, Store};

mod catch_up;
pub(crate) mod hub;
mod intervals;

use catch_up::Change;
use hub::{Mail, Mailbox, Watch, WatchOptions, Watchers};

/// So many keys and versions of the index are looked at in one step of a catch-up.
const LOOKS_MAX: usize = 64 * 1_024;

/// Called when a stream that had nothing to drain has something, with no lock held but the caller's own around the store. It runs on the thread that applies commands, or in a call of the stream itself, and must not
/// block.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// One client's stream of watches. Dropping it ends all of them.
#[derive(Debug)]
pub struct WatchStream {
    watchers: Arc<Watchers>,
    mailbox: Arc<Mailbox>,
    next_id: i64,
    /// The watch that was given history last: the others that are behind come next.
    last_caught_up: i64,
    few_keys: usize,
}

impl WatchStream {
    pub(crate) fn new(watchers: Arc<Watchers>, wake: Wake, options: &Options) -> Self {
        let measures = Arc::clone(&watchers.measures);
        let mailbox = Arc::new(Mailbox::new(wake, options.mailbox_bytes_max, measures));
        Self { watchers, mailbox, next_id: 0, last_caught_up: -1, few_keys: options.few_keys }
    }

    /// Starts a watch. The answer, [`WatchOut::Created`] or [`WatchOut::NotCreated`], is drained like everything else.
    pub fn create(&mut self, request: &WatchCreateRequest) {
        self.create_for(None, request);
    }

    /// Starts a watch of a client that has said who it is, if it may. It ends when it is not permitted any more.
    pub fn create_for(&mut self, caller: Option<&Caller>, request: &WatchCreateRequest) {
        if let Err(reason) = self.start(caller, request) {
            self.mailbox.post(WatchOut::NotCreated { reason, revision: self.watchers.applied() });
        }
    }

    /// Answers that no watch is started: who the client is cannot be told.
    pub fn refuse(&mut self, refusal: Refusal) {
        let reason = CancelReason::Refused(refusal);
        self.mailbox.post(WatchOut::NotCreated { reason, revision: self.watchers.applied() });
    }

    fn start(&mut self, caller: Option<&Caller>, request: &WatchCreateRequest) -> Result<(), CancelReason> {
        let range = range_of(request).detached();
        if request.start_revision < 0 {
            return Err(CancelReason::NegativeStart);
        }
        self.watchers.admit(caller, &range).map_err(CancelReason::Refused)?;
        if range.is_empty() {
            return Err(CancelReason::EmptyRange);
        }
        let watch_id = self.free_id(request.watch_id)?;
        let filters = |filter: FilterType| request.filters.contains(&(filter as i32));
        let added = self.watchers.add(&self.mailbox, watch_id, |newest| Watch {
            range,
            user: caller.map(|caller| Arc::clone(&caller.user)),
            options: WatchOptions {
                no_put: filters(FilterType::Noput),
                no_delete: filters(FilterType::Nodelete),
                prev_kv: request.prev_kv,
                progress_notify: request.progress_notify,
            },
            start: request.start_revision,
            next: if request.start_revision == 0 { newest + 1 } else { request.start_revision },
            told: false,
        });
        added.map_err(CancelReason::Refused)
    }

    /// The id that the client asks for, or the next free one if it asks for none.
    fn free_id(&mut self, asked: i64) -> Result<i64, CancelReason> {
        let mail = self.mailbox.mail();
        let is_taken = |id: &i64| mail.watches.contains_key(id) || mail.compacted.contains(id);
        if asked != 0 {
            return if is_taken(&asked) { Err(CancelReason::DuplicateId) } else { Ok(asked) };
        }
        while is_taken(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        Ok(self.next_id - 1)
    }

    /// Ends a watch; an unknown one is ignored. No event of it is drained after the [`WatchOut::Canceled`]. A watch that a
    /// compaction has ended is known until it is cancelled too.
    pub fn cancel(&mut self, watch_id: i64) {
        let was_compacted = self.mailbox.mail().compacted.remove(&watch_id);
        if was_compacted || self.watchers.end(&self.mailbox, watch_id) {
            let revision = self.watchers.applied();
            self.mailbox.post(WatchOut::Canceled { watch_id, reason: CancelReason::Asked, revision });
        }
    }

    /// Answers with one [`WatchOut::Progress`] for the whole stream if there is a watch, and all of them are in sync and
    /// have come to where they start.
    pub fn request_progress(&mut self) {
        let wake = self.watchers.with_published(&self.mailbox, |revision, mail| {
            let all_have_come = mail.behind.is_empty() && mail.watches.values().all(|watch| watch.start <= revision);
            all_have_come && !mail.watches.is_empty() && mail.put(WatchOut::Progress { watch_id: -1, revision })
        });
        self.mailbox.wake_if(wake);
    }

    /// Gives each watch that asked for `progress_notify`, is in sync, has come to its start and got nothing since the last
    /// call a [`WatchOut::Progress`]. The caller has the clock.
    pub fn notify_progress(&mut self) {
        let wake = self.watchers.with_published(&self.mailbox, |revision, mail| {
            let mut due = Vec::new();
            let Mail { watches, behind, .. } = mail;
            for (watch_id, watch) in watches {
                let told = std::mem::take(&mut watch.told);
                let has_come = watch.start <= revision && !behind.contains(watch_id);
                if watch.options.progress_notify && !told && has_come {
                    due.push(*watch_id);
                }
            }
            let mut wake = false;
            for watch_id in due {
                wake |= mail.put(WatchOut::Progress { watch_id, revision });
            }
            wake
        });
        self.mailbox.wake_if(wake);
    }

    /// How many watches the stream has.
    #[must_use]
    pub fn watches(&self) -> usize {
        self.mailbox.mail().watches.len()
    }

    /// Takes what there is, up to about `bytes_max` bytes of events and at least one revision.
    pub fn drain(&mut self, bytes_max: usize) -> Drained {
        let mut outs = Vec::new();
        let (mut bytes, mut events) = (0, 0);
        let mut mail = self.mailbox.mail();
        while bytes < bytes_max || outs.is_empty() {
            let Some(front) = mail.outs.front_mut() else { break };
            let part = front.split_off_front(bytes_max.saturating_sub(bytes));
            let Some(out) = part.or_else(|| mail.outs.pop_front()) else { break };
            bytes += out.event_bytes();
            events += out.events();
            outs.push(out);
        }
        mail.bytes -= bytes;
        self.mailbox.taken(events);
        let next = mail.next();
        // An owner that comes again anyway need not be woken.
        mail.woken = next == Next::Drain;
        Drained { outs, next }
    }

    /// Takes what there is, and reads history for watches that are behind, from a view that was taken after the call
    /// before: up to about `bytes_max` bytes of events. To be called, as often as it says [`Next::CatchUp`], on a thread
    /// that may take its time.
    ///
    /// A watch of few keys is served from the index of keys; all others that are behind share one pass over history.
    ///
    /// A watch that has seen all of the view is in sync if nothing was published since the view was taken. Otherwise the
    /// next view has the little that is missing: what is read in a call is sooner done than what was applied in
    /// between. A caller that keeps the store from changing from taking the view to the end of the call is certain that
    /// a watch is in sync whose rest fits `bytes_max`.
    ///
    /// # Errors
    /// `Unreadable`: the store has failed.
    pub fn catch_up(&mut self, view: &View, bytes_max: usize) -> Result<Drained, Refusal> {
        let Drained { mut outs, next } = self.drain(bytes_max);
        // What is in the mailbox precedes history: a watch fell behind after it was put there.
        if next != Next::CatchUp {
            return Ok(Drained { outs, next });
        }
        let mut bytes: usize = outs.iter().map(WatchOut::event_bytes).sum();
        let mut looked_at = 0;
        let behind = self.behind();
        let (gone, behind): (Vec<_>, Vec<_>) =
            behind.into_iter().partition(|(_, watch)| watch.next < view.compacted_revision());
        outs.extend(gone.into_iter().map(|(watch_id, _)| self.give_up(watch_id, view)));
        for (place, (watch_id, watch)) in behind.iter().enumerate() {
            // The first gets a piece in any case, so that each call gets on.
            if (bytes >= bytes_max && bytes > 0) || looked_at > LOOKS_MAX {
                break;
            }
            self.last_caught_up = *watch_id;
            let bytes_left = bytes_max.saturating_sub(bytes).max(1);
            let Some(piece) = view.reader().missed_of_few(watch, self.few_keys, bytes_left)? else {
                self.catch_up_together(view, &behind[place..], bytes_left, &mut outs)?;
                break;
            };
            looked_at += piece.looked_at;
            let out = event_out(*watch_id, piece.next - 1, piece.events);
            bytes += out.as_ref().map_or(0, WatchOut::event_bytes);
            self.watchers.measures.events_sent(out.as_ref().map_or(0, WatchOut::events));
            self.move_on(&[(*watch_id, piece.next, out.is_some())]);
            outs.extend(out);
        }
        let mut mail = self.mailbox.mail();
        let next = mail.next();
        mail.woken = next == Next::Drain;
        Ok(Drained { outs, next })
    }

    /// Moves watches on by one pass over history.
    fn catch_up_together(
        &self,
        view: &View,
        behind: &[(i64, Watch)],
        bytes_max: usize,
        outs: &mut Vec<WatchOut>,
    ) -> Result<(), Refusal> {
        // For a single key there is a shorter way.
        let spans = behind.iter().filter(|(_, watch)| !matches!(watch.range, KeyRange::Single(_)));
        let (ids, watches): (Vec<i64>, Vec<&Watch>) = spans.map(|(watch_id, watch)| (*watch_id, watch)).unzip();
        let pass = view.reader().missed_of_all(&watches, bytes_max)?;
        let mut moved = Vec::new();
        for ((watch_id, watch), events) in ids.into_iter().zip(watches).zip(pass.events) {
            // Those that are ahead of the pass are met later.
            if watch.next < pass.next {
                moved.push((watch_id, pass.next, !events.is_empty()));
                self.watchers.measures.events_sent(events.len());
                outs.extend(event_out(watch_id, pass.next - 1, events));
            }
        }
        self.move_on(&moved);
        Ok(())
    }

    /// Ends a watch whose history is gone.
    fn give_up(&self, watch_id: i64, view: &View) -> WatchOut {
        self.watchers.end(&self.mailbox, watch_id);
        self.mailbox.mail().compacted.insert(watch_id);
        let reason = CancelReason::Compacted { oldest: view.compacted_revision() };
        WatchOut::Canceled { watch_id, reason, revision: view.revision() }
    }

    /// Whether no watch lacks anything that a view has: what is missing, if anything, is what was applied since.
    #[must_use]
    pub fn has_seen(&self, view: &View) -> bool {
        let mail = self.mailbox.mail();
        mail.behind.iter().all(|watch_id| mail.watches[watch_id].next > view.revision())
    }

    /// The watches that are behind, those first that have waited longest.
    fn behind(&self) -> Vec<(i64, Watch)> {
        let mail = self.mailbox.mail();
        let later = mail.behind.range((Bound::Excluded(self.last_caught_up), Bound::Unbounded));
        let sooner = mail.behind.range(..=self.last_caught_up);
        later.chain(sooner).map(|watch_id| (*watch_id, mail.watches[watch_id].clone())).collect()
    }

    /// Notes for watches where their history goes on, and whether they were given events.
    fn move_on(&self, moved: &[(i64, i64, bool)]) {
        self.watchers.with_published(&self.mailbox, |published, mail| {
            for (watch_id, next, told) in moved {
                let Some(watch) = mail.watches.get_mut(watch_id) else { continue };
                watch.next = *next;
                watch.told |= told;
                // Decided while nothing is published: from here on the hub gives it everything.
                if *next > published && mail.behind.remove(watch_id) {
                    mail.unseen_from = mail.unseen_from.max(*next);
                    self.watchers.measures.slow_watches.sub(1);
                }
            }
        });
    }
}

/// Which keys a watch is of: an empty key stands for the first that there may be.
pub(crate) fn range_of(request: &WatchCreateRequest) -> KeyRange {
    let first_key = Bytes::from_static(b"\0");
    let key = if request.key.is_empty() { &first_key } else { &request.key };
    KeyRange::of(key, &request.range_end)
}

/// What a watch was given up to a revision, if there is anything.
fn event_out(watch_id: i64, revision: i64, events: Vec<Bytes>) -> Option<WatchOut> {
    (!events.is_empty()).then(|| WatchOut::Events { watch_ids: vec![watch_id], revision, events })
}

fn bytes_of(events: &[Bytes]) -> usize {
    events.iter().map(Bytes::len).sum()
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        let watches = self.mailbox.end(&mut self.mailbox.mail());
        for (watch_id, watch) in watches {
            self.watchers.remove(&watch.range, &self.mailbox, watch_id);
        }
    }
}

impl Store {
    /// Opens a stream of watches. `wake` is called when it has something to drain.
    #[must_use]
    pub fn watch_stream(&self, wake: Wake) -> WatchStream {
        WatchStream::new(Arc::clone(&self.watchers), wake, &self.options)
    }

    /// Ends the watches that are not permitted any more.
    pub(crate) fn end_refused_watches(&self) {
        for mailbox in self.watchers.set_auth(self.auth_now()) {
            mailbox.wake_if(true);
        }
    }

    /// Gives a batch's changes to the watches and wakes the streams that got some.
    pub(crate) fn publish(&self, batch: &[Arc<Block>]) {
        let reader = self.reader();
        let events = batch.iter().flat_map(|block| block.events());
        let events = events.map(|event| event.expect("a block in memory holds what was encoded into it"));
        for mailbox in self.watchers.publish(events.map(|event| Change::new(reader, event)), self.revision()) {
            mailbox.wake_if(true);
        }
    }
}

/// What a stream has for its client.
#[derive(Debug)]
pub struct Drained {
    /// In the order in which they must be sent.
    pub outs: Vec<WatchOut>,
    /// What to do then.
    pub next: Next,
}

/// What the owner of a stream does next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next {
    /// Wait for the wake.
    Wait,
    /// Call [`WatchStream::drain`] again.
    Drain,
    /// Take a view of the store and call [`WatchStream::catch_up`] with it.
    CatchUp,
}

/// One response of a watch stream.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchOut {
    /// The watch exists. `revision` goes into the header.
    Created {
        /// The watch.
        watch_id: i64,
        /// The store's revision.
        revision: i64,
    },
    /// The watch was not made: `created` and `canceled` are both set, `watch_id` is -1.
    NotCreated {
        /// Why.
        reason: CancelReason,
        /// The store's revision.
        revision: i64,
    },
    /// The watch has ended.
    Canceled {
        /// The watch.
        watch_id: i64,
        /// Why.
        reason: CancelReason,
        /// The store's revision.
        revision: i64,
    },
    /// Changes, in order, for each of some watches: a response each. All changes of one revision are in one response.
    Events {
        /// The watches, which want the same.
        watch_ids: Vec<i64>,
        /// Everything up to here has been told with it.
        revision: i64,
        /// Each is one `events` field of a `WatchResponse`, tag and length included.
        events: Vec<Bytes>,
    },
    /// All events up to and including `revision` were sent. `watch_id` is -1 for the whole stream.
    Progress {
        /// The watch, or -1.
        watch_id: i64,
        /// The store's revision.
        revision: i64,
    },
}

impl WatchOut {
    /// How many responses it is for its client.
    #[must_use]
    pub fn responses(&self) -> usize {
        match self {
            Self::Events { watch_ids, .. } => watch_ids.len(),
            _ => 1,
        }
    }

    fn events(&self) -> usize {
        match self {
            Self::Events { events, .. } => events.len() * self.responses(),
            _ => 0,
        }
    }

    /// How long its events are, in all its responses.
    #[must_use]
    pub fn event_bytes(&self) -> usize {
        match self {
            Self::Events { events, .. } => bytes_of(events) * self.responses(),
            _ => 0,
        }
    }

    /// Takes as many watches out as have at most `bytes_max` bytes of events, but one at least.
    fn split_off_front(&mut self, bytes_max: usize) -> Option<WatchOut> {
        let Self::Events { watch_ids, revision, events } = self else { return None };
        let some = (bytes_max / bytes_of(events).max(1)).max(1);
        (some < watch_ids.len()).then(|| {
            let watch_ids = watch_ids.drain(..some).collect();
            WatchOut::Events { watch_ids, revision: *revision, events: events.clone() }
        })
    }

    /// The same, of one watch each.
    pub fn each(self) -> impl Iterator<Item = WatchOut> {
        let (of_many, other) = match self {
            Self::Events { watch_ids, revision, events } => (Some((watch_ids, revision, events)), None),
            other => (None, Some(other)),
        };
        let of_one = of_many.into_iter().flat_map(|(watch_ids, revision, events)| {
            watch_ids.into_iter().map(move |id| Self::Events { watch_ids: vec![id], revision, events: events.clone() })
        });
        of_one.chain(other)
    }
}

/// Why a watch ended or was not made. The words are the server's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CancelReason {
    /// The client asked.
    Asked,
    /// The events it needs have been given up.
    Compacted {
        /// The compacted revision: the client may start again from there.
        oldest: i64,
    },
    /// Whose it is may not watch these keys, or not any more.
    Refused(Refusal),
    /// The range holds no key.
    EmptyRange,
    /// The id is in use on this stream.
    DuplicateId,
    /// The start revision is negative.
    NegativeStart,
}
