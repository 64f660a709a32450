//! The watches of clients: what each wants, where it goes on after its node has died, and what it was told.
//!
//! Owns the place from which a watch is made again: after the last revision that it was told of, by an event or by
//! progress, or where compaction has left the beginning of history. Judges nothing; see `watch_guarantees.rs`.

use bytes::Bytes;
use prost::Message;
use vlot_proto::etcdserverpb::watch_create_request::FilterType;
use vlot_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use vlot_proto::mvccpb::Event;
use vlot_store::watch::{CancelReason, WatchOut};

use super::history::Place;
use super::workload::draw_watched;
use crate::agenda::Moment;
use crate::rng::Rng;

/// What a watch wants.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Wanted {
    /// The key, or the first of them.
    pub key: Bytes,
    /// As in a range request.
    pub range_end: Bytes,
    /// Whether events show what was there before.
    pub prev_kv: bool,
    /// No puts.
    pub no_put: bool,
    /// No deletions.
    pub no_delete: bool,
    /// Whether to be told now and then how far it is.
    pub progress_notify: bool,
}

/// What a watch was told, or what happened to it.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// It was asked for on a stream of this node, from a revision on; from now on if that is zero.
    Asked {
        /// The node.
        place: Place,
        /// From where.
        start: i64,
    },
    /// It was made.
    Created {
        /// The header's revision.
        revision: i64,
    },
    /// It was not made.
    NotCreated {
        /// Why.
        reason: CancelReason,
    },
    /// Changes.
    Events {
        /// The header's revision.
        revision: i64,
        /// In this order.
        events: Vec<Event>,
        /// Whether the next response goes on with the same revision.
        is_fragment: bool,
    },
    /// All up to here was told.
    Progress {
        /// The revision.
        revision: i64,
    },
    /// It has ended.
    Canceled {
        /// Why.
        reason: CancelReason,
    },
    /// Its stream has ended without a word.
    Lost,
    /// Nothing happens any more, and all up to here should have been told.
    Settled {
        /// The revision.
        revision: i64,
    },
}

/// Where a watch is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Closed,
    Asked,
    Created,
}

/// A client's watch, over all the streams that it was made on.
#[derive(Clone, Debug)]
pub struct Watcher {
    /// Its number on each stream; not zero.
    pub id: i64,
    /// What it wants.
    pub wanted: Wanted,
    /// From where it is made the next time; zero for now.
    next: i64,
    state: State,
    told: Vec<(Moment, Told)>,
}

impl Watcher {
    /// A watch that was not asked for yet, which begins at `start`; now if that is zero.
    #[must_use]
    pub fn new(id: i64, wanted: Wanted, start: i64) -> Self {
        Self { id, wanted, next: start, state: State::Closed, told: Vec::new() }
    }

    /// A watch drawn from a seed, when `newest` is the newest revision that is known.
    #[must_use]
    pub fn draw(id: i64, newest: i64, rng: &mut Rng) -> Self {
        let (key, range_end) = draw_watched(rng);
        let (no_put, no_delete) = (rng.below(10) == 0, rng.below(10) == 0);
        let wanted =
            Wanted { key, range_end, prev_kv: rng.coin(), no_put, no_delete, progress_notify: rng.below(3) == 0 };
        let start = match rng.below(4) {
            0 => 0,
            1 => newest + 1 + rng.below(5) as i64,
            _ => 1 + rng.below(newest.max(1) as u64) as i64,
        };
        Self::new(id, wanted, start)
    }

    /// It is asked for, with this request.
    pub fn ask(&mut self, now: Moment, place: Place) -> WatchCreateRequest {
        self.state = State::Asked;
        self.told.push((now, Told::Asked { place, start: self.next }));
        let filters = [(self.wanted.no_put, FilterType::Noput), (self.wanted.no_delete, FilterType::Nodelete)];
        WatchCreateRequest {
            key: self.wanted.key.clone(),
            range_end: self.wanted.range_end.clone(),
            start_revision: self.next,
            progress_notify: self.wanted.progress_notify,
            filters: filters.iter().filter(|(is_on, _)| *is_on).map(|(_, filter)| *filter as i32).collect(),
            prev_kv: self.wanted.prev_kv,
            watch_id: self.id,
            fragment: false,
        }
    }

    /// It was told something.
    pub fn hear(&mut self, now: Moment, told: Told) {
        self.state = match &told {
            Told::Created { .. } => State::Created,
            Told::Canceled { .. } | Told::NotCreated { .. } | Told::Lost => State::Closed,
            _ => self.state,
        };
        match &told {
            // Without an event in between nothing is missed: what is asked for is what follows.
            Told::Created { revision } if self.next == 0 => self.next = revision + 1,
            Told::Events { events, is_fragment: false, .. } => {
                let newest = events.last().and_then(|event| event.kv.as_ref()).map_or(0, |kv| kv.mod_revision);
                self.next = self.next.max(newest + 1);
            }
            Told::Progress { revision } => self.next = self.next.max(revision + 1),
            Told::Canceled { reason: CancelReason::Compacted { oldest } } => self.next = self.next.max(*oldest),
            _ => {}
        }
        self.told.push((now, told));
    }

    /// Its node has died, or its connection: it has to be asked for again.
    pub fn lose(&mut self, now: Moment) {
        if self.is_open() {
            self.hear(now, Told::Lost);
        }
    }

    /// Whether it was asked for and has not ended.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state != State::Closed
    }

    /// All that it was told, in order.
    #[must_use]
    pub fn told(&self) -> &[(Moment, Told)] {
        &self.told
    }

    #[cfg(test)]
    pub(crate) fn told_mut(&mut self) -> &mut Vec<(Moment, Told)> {
        &mut self.told
    }
}

/// Gives what a stream has drained to the watches of the stream that it is for.
///
/// # Panics
/// If the store gives events that are none.
pub fn deliver<'a>(now: Moment, out: &WatchOut, watchers: impl Iterator<Item = &'a mut Watcher>) {
    let (id, told) = told_by(out);
    for watcher in watchers {
        let is_meant = match &told {
            // Progress of the whole stream is that of each watch that there is by then.
            Told::Progress { .. } if id == -1 => watcher.state == State::Created,
            // An end before it is made is that of the one before it.
            Told::Canceled { .. } => watcher.id == id && watcher.state == State::Created,
            _ => watcher.id == id && watcher.is_open(),
        };
        if is_meant {
            watcher.hear(now, told.clone());
        }
    }
}

/// The watch that a response is for, -1 for all of a stream, and what it says. `out` is of one watch.
fn told_by(out: &WatchOut) -> (i64, Told) {
    match out {
        WatchOut::Created { watch_id, revision } => (*watch_id, Told::Created { revision: *revision }),
        WatchOut::NotCreated { reason, .. } => unreachable!("a watch that can be made was not: {reason:?}"),
        WatchOut::Canceled { watch_id, reason, .. } => (*watch_id, Told::Canceled { reason: reason.clone() }),
        WatchOut::Progress { watch_id, revision } => (*watch_id, Told::Progress { revision: *revision }),
        WatchOut::Events { watch_ids, revision, events } => {
            let bytes: Vec<u8> = events.iter().flatten().copied().collect();
            let response = WatchResponse::decode(&bytes[..]).expect("events are fields of a response");
            (watch_ids[0], Told::Events { revision: *revision, events: response.events, is_fragment: false })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vlot_proto::mvccpb::KeyValue;

    #[test]
    fn a_watch_goes_on_after_the_last_that_it_was_told() {
        let mut watcher = Watcher::new(1, Wanted::default(), 0);
        let mut next_after = |told: Told| {
            let start = watcher.ask(Moment(1), 0).start_revision;
            watcher.hear(Moment(2), Told::Created { revision: 7 });
            watcher.hear(Moment(3), told);
            watcher.lose(Moment(4));
            assert!(!watcher.is_open());
            start
        };
        let event = |revision| {
            let kv = KeyValue { mod_revision: revision, ..Default::default() };
            Event { kv: Some(kv), ..Default::default() }
        };
        let events = |revision, is_fragment| Told::Events { revision, events: vec![event(revision)], is_fragment };
        assert_eq!(next_after(Told::Progress { revision: 7 }), 0);
        assert_eq!(next_after(events(11, false)), 8);
        assert_eq!(next_after(Told::Progress { revision: 14 }), 12);
        assert_eq!(next_after(events(16, true)), 15);
        assert_eq!(next_after(Told::Canceled { reason: CancelReason::Compacted { oldest: 20 } }), 15, "as a fragment");
        assert_eq!(next_after(Told::Canceled { reason: CancelReason::Asked }), 20);
        assert_eq!(next_after(Told::Settled { revision: 20 }), 20);
    }
}
