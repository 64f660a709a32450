//! Watches: what changed, told to those who asked.
//!
//! Owns a client's stream: its watches, their numbers, and etcd's rules for starting and ending one. A watch is either
//! in sync, and then the hub puts each change into the stream's bounded mailbox, or behind, and then the stream reads
//! what it missed from the store's history when its owner drains it. Nothing that a slow stream does is felt by others.
//!
//! Guarantees, per watch: changes come in the order of revisions, none twice, none left out, all of a revision in one
//! response; a watch that needs compacted history is told so and ends.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use vlot_proto::etcdserverpb::WatchCreateRequest;
use vlot_proto::etcdserverpb::watch_create_request::FilterType;

use crate::mvcc::key_range::KeyRange;
use crate::mvcc::revision::Revision;
use crate::store::Store;

mod catch_up;
pub(crate) mod hub;
mod intervals;

use catch_up::Fresh;
use hub::{Mailbox, Watch, Watchers};

/// Called when a stream that had nothing to drain has something, with no lock held that a drain needs but the caller's
/// own around the store. It runs on the thread that applies commands, or in a call of the stream itself, and must not
/// block.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// One client's stream of watches. Dropping it ends all of them.
#[derive(Debug)]
pub struct WatchStream {
    watchers: Arc<Watchers>,
    mailbox: Arc<Mailbox>,
    next_id: i64,
}

impl WatchStream {
    pub(crate) fn new(watchers: Arc<Watchers>, wake: Wake, mailbox_bytes_max: usize) -> Self {
        Self { watchers, mailbox: Arc::new(Mailbox::new(wake, mailbox_bytes_max)), next_id: 0 }
    }

    /// Starts a watch. The answer, [`WatchOut::Created`] or [`WatchOut::NotCreated`], is drained like everything else.
    pub fn create(&mut self, store: &Store, request: &WatchCreateRequest) {
        let revision = store.revision();
        match self.start(store, request) {
            Ok(watch_id) => self.mailbox.post(WatchOut::Created { watch_id, revision }),
            Err(reason) => self.mailbox.post(WatchOut::NotCreated { reason, revision }),
        }
    }

    fn start(&mut self, store: &Store, request: &WatchCreateRequest) -> Result<i64, CancelReason> {
        let first_key = Bytes::from_static(b"\0");
        let key = if request.key.is_empty() { &first_key } else { &request.key };
        let range = KeyRange::of(key, &request.range_end).detached();
        if range.is_empty() {
            return Err(CancelReason::EmptyRange);
        }
        if request.start_revision < 0 {
            return Err(CancelReason::NegativeStart);
        }
        let watch_id = self.free_id(request.watch_id)?;
        let newest = store.revision();
        let behind = (1..=newest).contains(&request.start_revision);
        let next = if request.start_revision == 0 { newest + 1 } else { request.start_revision };
        let filters = |filter: FilterType| request.filters.contains(&(filter as i32));
        let watch = Watch {
            range: range.clone(),
            no_put: filters(FilterType::Noput),
            no_delete: filters(FilterType::Nodelete),
            prev_kv: request.prev_kv,
            progress_notify: request.progress_notify,
            next,
            behind,
            told: false,
        };
        self.mailbox.mail().watches.insert(watch_id, watch);
        self.watchers.add(&range, &self.mailbox, watch_id);
        Ok(watch_id)
    }

    /// The id that the client asks for, or the next free one if it asks for none.
    fn free_id(&mut self, asked: i64) -> Result<i64, CancelReason> {
        let mail = self.mailbox.mail();
        if asked != 0 {
            return if mail.watches.contains_key(&asked) { Err(CancelReason::DuplicateId) } else { Ok(asked) };
        }
        while mail.watches.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        Ok(self.next_id - 1)
    }

    /// Ends a watch; an unknown one is ignored. No event of it is drained after the [`WatchOut::Canceled`].
    pub fn cancel(&mut self, store: &Store, watch_id: i64) {
        if self.end(watch_id) {
            let reason = CancelReason::Asked;
            self.mailbox.post(WatchOut::Canceled { watch_id, reason, revision: store.revision() });
        }
    }

    fn end(&mut self, watch_id: i64) -> bool {
        let ended = self.mailbox.mail().watches.remove(&watch_id);
        if let Some(watch) = &ended {
            self.watchers.remove(&watch.range, &self.mailbox, watch_id);
        }
        ended.is_some()
    }

    /// Answers with one [`WatchOut::Progress`] for the whole stream if there is a watch and all of them are in sync.
    pub fn request_progress(&mut self, store: &Store) {
        let mail = self.mailbox.mail();
        let in_sync = !mail.watches.is_empty() && mail.watches.values().all(|watch| !watch.behind);
        drop(mail);
        if in_sync {
            self.mailbox.post(WatchOut::Progress { watch_id: -1, revision: store.published });
        }
    }

    /// Gives each watch that asked for `progress_notify`, is in sync and got nothing since the last call a
    /// [`WatchOut::Progress`]. The caller has the clock.
    pub fn notify_progress(&mut self, store: &Store) {
        let mut due = Vec::new();
        for (watch_id, watch) in &mut self.mailbox.mail().watches {
            let told = std::mem::take(&mut watch.told);
            if watch.progress_notify && !watch.behind && !told {
                due.push(*watch_id);
            }
        }
        for watch_id in due {
            self.mailbox.post(WatchOut::Progress { watch_id, revision: store.published });
        }
    }

    /// How many watches the stream has.
    #[must_use]
    pub fn watches(&self) -> usize {
        self.mailbox.mail().watches.len()
    }

    /// Takes what there is, up to about `bytes_max` bytes of events and at least one revision, and reads history for
    /// watches that fell behind. The store cannot change meanwhile, so `bytes_max` bounds how long others wait.
    pub fn drain(&mut self, store: &Store, bytes_max: usize) -> Drained {
        let mut outs = Vec::new();
        let mut bytes = 0;
        let mut mail = self.mailbox.mail();
        mail.woken = false;
        while bytes < bytes_max || outs.is_empty() {
            let Some(out) = mail.outs.pop_front() else { break };
            bytes += out.event_bytes();
            outs.push(out);
        }
        mail.bytes -= bytes;
        if !mail.outs.is_empty() {
            mail.woken = true;
            return Drained { outs, more: true };
        }
        // What is left of the mailbox precedes history: a watch fell behind after it was put there.
        let mut behind: VecDeque<(i64, Watch)> =
            mail.watches.iter().filter(|(_, watch)| watch.behind).map(|(id, watch)| (*id, watch.clone())).collect();
        drop(mail);
        let mut enough = bytes >= bytes_max && !outs.is_empty();
        while let Some((watch_id, mut watch)) = behind.pop_front() {
            if enough {
                self.mailbox.mail().woken = true;
                return Drained { outs, more: true };
            }
            match self.catch_up(store, watch_id, &mut watch, bytes_max.saturating_sub(bytes).max(1)) {
                Some(out) => {
                    bytes += out.event_bytes();
                    outs.push(out);
                    enough = bytes >= bytes_max;
                }
                // A long stretch of history without an event that it wants is enough for one call.
                None => enough = watch.behind,
            }
            if watch.behind {
                behind.push_back((watch_id, watch));
            }
        }
        Drained { outs, more: false }
    }

    /// Moves one watch on by a piece of history. Sets `behind` to whether there is more of it.
    fn catch_up(&mut self, store: &Store, watch_id: i64, watch: &mut Watch, bytes_max: usize) -> Option<WatchOut> {
        let compacted = store.compacted_revision();
        if watch.next < compacted {
            self.end(watch_id);
            watch.behind = false;
            let reason = CancelReason::Compacted { oldest: compacted };
            return Some(WatchOut::Canceled { watch_id, reason, revision: store.revision() });
        }
        let Ok(piece) = store.missed(watch, bytes_max) else {
            // The store has failed and says so; the watch keeps its place and waits for its member's end.
            watch.behind = false;
            return None;
        };
        watch.next = piece.next;
        watch.behind = piece.next <= store.revision();
        if let Some(kept) = self.mailbox.mail().watches.get_mut(&watch_id) {
            kept.next = watch.next;
            kept.behind = watch.behind;
            kept.told |= !piece.events.is_empty();
        }
        let (revision, events) = (piece.revision, piece.events);
        (!events.is_empty()).then_some(WatchOut::Events { watch_id, revision, events })
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        let watches = std::mem::take(&mut self.mailbox.mail().watches);
        for (watch_id, watch) in watches {
            self.watchers.remove(&watch.range, &self.mailbox, watch_id);
        }
    }
}

impl Store {
    /// Opens a stream of watches. `wake` is called when it has something to drain.
    #[must_use]
    pub fn watch_stream(&self, wake: Wake) -> WatchStream {
        WatchStream::new(Arc::clone(&self.watchers), wake, self.options.mailbox_bytes_max)
    }

    /// Gives a batch's changes to the watches and wakes the streams that got some.
    pub(crate) fn publish(&self, changes: &[(Bytes, Revision)]) {
        let mut to_wake = Vec::new();
        for revision in changes.chunk_by(|(_, left), (_, right)| left.main == right.main) {
            let mut fresh: Vec<Fresh<'_>> =
                revision.iter().map(|(key, revision)| Fresh::new(self, key, *revision)).collect();
            self.watchers.publish(&mut fresh, &mut to_wake);
        }
        for mailbox in to_wake {
            (mailbox.wake)();
        }
    }
}

/// What a stream has for its client.
#[derive(Debug)]
pub struct Drained {
    /// In the order in which they must be sent.
    pub outs: Vec<WatchOut>,
    /// Whether to call again rather than wait for the wake.
    pub more: bool,
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
    /// Changes, in order; all changes of one revision are in one response.
    Events {
        /// The watch.
        watch_id: i64,
        /// The newest revision in it.
        revision: i64,
        /// Each is one `events` field of a `WatchResponse`, tag and length included, shared by all watches.
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
    fn event_bytes(&self) -> usize {
        match self {
            Self::Events { events, .. } => events.iter().map(Bytes::len).sum(),
            _ => 0,
        }
    }
}

/// Why a watch ended or was not made. The words are the server's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CancelReason {
    /// The client asked.
    Asked,
    /// The events it needs have been given up.
    Compacted {
        /// The compacted revision: the client may start again from there.
        oldest: i64,
    },
    /// The range holds no key.
    EmptyRange,
    /// The id is in use on this stream.
    DuplicateId,
    /// The start revision is negative.
    NegativeStart,
}
