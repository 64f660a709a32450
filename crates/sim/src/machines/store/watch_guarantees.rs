//! Check: what watches are told is what has happened, as etcd guarantees it. Each guarantee has the name that etcd's
//! documentation gives it:
//!
//! - *Ordered*: events come in the order of revisions.
//! - *Unique*: no event comes twice.
//! - *Reliable*: no event is left out, and all come in the end.
//! - *Atomic*: the events of one revision come in one response, if it is not fragmented.
//! - *Resumable*: a watch that was interrupted goes on where it was, unless what it needs is compacted; then it is told so.
//! - *Bookmarkable*: progress says that all events up to there have come.
//!
//! And besides: each event shows what has happened, and none comes before it has.

use vlot_proto::mvccpb::Event;
use vlot_raft::invariants::Violation;
use vlot_store::watch::CancelReason;

use super::linearizability::Replayed;
use super::model::{Change, FIRST};
use super::violation;
use super::watcher::{Told, Wanted, Watcher};
use crate::agenda::Moment;

const ORDERED: &str = "Watch: Ordered";
const UNIQUE: &str = "Watch: Unique";
const RELIABLE: &str = "Watch: Reliable";
const ATOMIC: &str = "Watch: Atomic";
const RESUMABLE: &str = "Watch: Resumable";
const BOOKMARKABLE: &str = "Watch: Bookmarkable";
const TRUE: &str = "Watch: Events Are What Has Happened";

/// Holds what a watch was told against what has happened.
///
/// # Errors
/// The first guarantee that does not hold.
pub fn check(watcher: &Watcher, replayed: &Replayed) -> Result<(), Violation> {
    let mut stream = Stream { id: watcher.id, wanted: &watcher.wanted, replayed, watch: Watch::default() };
    for (now, told) in watcher.told() {
        stream.hear(*now, told)?;
    }
    Ok(())
}

/// A watch between its beginning and its end.
#[derive(Debug, Default)]
struct Watch {
    is_asked: bool,
    is_created: bool,
    /// Events begin here; zero if it is not known yet.
    start: i64,
    /// Where in all changes the next event is, or one before it that is not wanted.
    cursor: usize,
    /// Where in all changes it has begun.
    begin: usize,
    /// All up to here was told.
    told_upto: i64,
    /// The last response was a fragment.
    is_within_revision: bool,
}

struct Stream<'a> {
    id: i64,
    wanted: &'a Wanted,
    replayed: &'a Replayed,
    watch: Watch,
}

impl Stream<'_> {
    fn hear(&mut self, now: Moment, told: &Told) -> Result<(), Violation> {
        match told {
            Told::Asked { start, .. } => {
                self.watch = Watch { is_asked: true, ..Watch::default() };
                self.begin_at(*start);
                Ok(())
            }
            Told::Created { revision } => self.created(*revision),
            Told::NotCreated { reason } | Told::Canceled { reason } => self.ended(reason.clone()),
            Told::Events { revision, events, is_fragment } => self.events(now, *revision, events, *is_fragment),
            Told::Progress { revision } => self.progress(*revision),
            Told::Lost => {
                self.watch = Watch::default();
                Ok(())
            }
            Told::Settled { revision } => self.settled(*revision),
        }
    }

    fn begin_at(&mut self, start: i64) {
        self.watch.start = start;
        self.watch.begin = self.replayed.model.begin_of(start);
        self.watch.cursor = self.watch.begin;
        self.watch.told_upto = (start - 1).max(0);
    }

    fn created(&mut self, revision: i64) -> Result<(), Violation> {
        if !self.watch.is_asked || self.watch.is_created {
            return self.violation(TRUE, format!("it was created at {revision} and not asked for"));
        }
        self.check_exists(revision)?;
        self.watch.is_created = true;
        if self.watch.start == 0 {
            self.begin_at(revision + 1);
        }
        Ok(())
    }

    fn ended(&mut self, reason: CancelReason) -> Result<(), Violation> {
        if let CancelReason::Compacted { oldest } = reason {
            if !self.replayed.compacted.contains(&oldest) {
                return self
                    .violation(RESUMABLE, format!("it was told that {oldest} is compacted, and nobody did that"));
            }
            if oldest <= self.watch.told_upto + 1 {
                let told_upto = self.watch.told_upto;
                let shown_by = format!("compaction at {oldest} has ended it; all up to {told_upto} had been told");
                return self.violation(RESUMABLE, shown_by);
            }
        }
        self.watch = Watch::default();
        Ok(())
    }

    fn events(&mut self, now: Moment, revision: i64, events: &[Event], is_fragment: bool) -> Result<(), Violation> {
        let changes = self.replayed.model.changes();
        if !self.watch.is_created {
            return self.violation(TRUE, "it was told of events and was not created".to_owned());
        }
        let Some(first) = events.first() else {
            return self.violation(TRUE, "a response with events has none".to_owned());
        };
        if mod_revision(first) <= self.watch.told_upto && !self.watch.is_within_revision {
            return self.behind(first);
        }
        for event in events {
            let next = self.next_wanted();
            let Some(change) = next.map(|place| &changes[place]) else { return self.unexpected(event, None) };
            if !change.is_told_by(event, self.wanted.prev_kv) && !self.is_without_compacted(event, change) {
                return self.unexpected(event, Some(change));
            }
            if self.replayed.invoked[(change.revision - FIRST) as usize].moment > now {
                return self.violation(TRUE, format!("{change:?} was told at {now}, before it was asked for"));
            }
            self.watch.cursor = next.map_or(self.watch.cursor, |place| place + 1);
        }
        let newest = events.last().map_or(0, mod_revision);
        if revision < newest {
            return self.violation(ORDERED, format!("the header says {revision}, and an event {newest}"));
        }
        self.check_exists(revision)?;
        self.watch.is_within_revision = is_fragment;
        self.watch.told_upto = newest;
        match self.next_wanted().map(|place| &changes[place]) {
            Some(rest) if !is_fragment && rest.revision == newest => {
                self.violation(ATOMIC, format!("a response ends within revision {newest}, before {rest:?}"))
            }
            _ => Ok(()),
        }
    }

    fn progress(&mut self, revision: i64) -> Result<(), Violation> {
        if !self.watch.is_created {
            return self.violation(BOOKMARKABLE, "it was told of progress and was not created".to_owned());
        }
        self.check_exists(revision)?;
        // A watch of the future has told everything up to its beginning, and progress is behind that.
        if revision < self.watch.told_upto && revision + 1 >= self.watch.start {
            let told_upto = self.watch.told_upto;
            return self.violation(BOOKMARKABLE, format!("progress says {revision}, after {told_upto}"));
        }
        if let Some(missing) = self.missing(revision) {
            let shown_by = format!("progress says {revision}, before {missing:?} has come");
            return self.violation(BOOKMARKABLE, shown_by);
        }
        self.watch.told_upto = self.watch.told_upto.max(revision);
        Ok(())
    }

    fn settled(&mut self, revision: i64) -> Result<(), Violation> {
        if !self.watch.is_created {
            return self.violation(RELIABLE, "in the end it was not there".to_owned());
        }
        match self.missing(revision) {
            Some(missing) => self.violation(RELIABLE, format!("{missing:?} has never come")),
            None => Ok(()),
        }
    }

    /// An event up to a revision that has not come.
    fn missing(&mut self, revision: i64) -> Option<Change> {
        let next = self.next_wanted()?;
        let change = &self.replayed.model.changes()[next];
        (change.revision <= revision).then(|| change.clone())
    }

    /// Moves on to the next event that is wanted.
    fn next_wanted(&mut self) -> Option<usize> {
        let changes = self.replayed.model.changes();
        while let Some(change) = changes.get(self.watch.cursor) {
            if self.wants(change) {
                return Some(self.watch.cursor);
            }
            self.watch.cursor += 1;
        }
        None
    }

    fn wants(&self, change: &Change) -> bool {
        let Wanted { key: first, range_end, no_put, no_delete, .. } = self.wanted;
        let key = &change.kv.key;
        let is_in_range = match &range_end[..] {
            [] => key == first,
            [0] => key >= first,
            end => key >= first && &key[..] < end,
        };
        is_in_range && !(if change.is_deletion { *no_delete } else { *no_put })
    }

    /// Whether an event lacks nothing but what was before it, and that has been compacted.
    fn is_without_compacted(&self, event: &Event, change: &Change) -> bool {
        let compacted = self.replayed.compacted.last().copied().unwrap_or(-1);
        change.is_told_by(event, false) && change.revision - 1 < compacted
    }

    /// An event has come at or behind what was told before.
    fn behind(&self, event: &Event) -> Result<(), Violation> {
        let told_upto = self.watch.told_upto;
        if self.was_told(event) {
            return self.violation(UNIQUE, format!("{event:?} came again"));
        }
        let changes = self.replayed.model.changes();
        // What was told is cut where a response has ended: the rest of that revision is not out of order but split.
        let is_rest = changes.get(self.watch.cursor).is_some_and(|next| is_of(event, next));
        let property = if is_rest && mod_revision(event) == told_upto { ATOMIC } else { ORDERED };
        self.violation(property, format!("{event:?} came, and all up to {told_upto} had been told"))
    }

    /// An event has come that should not have, or not yet.
    fn unexpected(&self, event: &Event, expected: Option<&Change>) -> Result<(), Violation> {
        let changes = self.replayed.model.changes();
        let shown_by = format!("{event:?} came; expected {expected:?}");
        if expected.is_some_and(|expected| is_of(event, expected)) {
            return self.violation(TRUE, shown_by);
        }
        if self.was_told(event) {
            return self.violation(UNIQUE, shown_by);
        }
        if mod_revision(event) < expected.map_or(i64::MAX, |expected| expected.revision) {
            let is_real = changes.iter().any(|change| is_of(event, change) && self.wants(change));
            return self.violation(if is_real { ORDERED } else { TRUE }, shown_by);
        }
        let is_later = changes[self.watch.cursor..].iter().any(|change| is_of(event, change) && self.wants(change));
        self.violation(if is_later { RELIABLE } else { TRUE }, shown_by)
    }

    fn was_told(&self, event: &Event) -> bool {
        let changes = &self.replayed.model.changes()[self.watch.begin..self.watch.cursor];
        changes.iter().any(|change| is_of(event, change) && self.wants(change))
    }

    fn check_exists(&self, revision: i64) -> Result<(), Violation> {
        let newest = self.replayed.model.state().revision;
        if (1..=newest).contains(&revision) {
            return Ok(());
        }
        self.violation(TRUE, format!("a header says {revision}, and {newest} is the newest that there is"))
    }

    fn violation(&self, property: &'static str, shown_by: String) -> Result<(), Violation> {
        violation(property, format!("watch {} of {:?}: {shown_by}", self.id, self.wanted))
    }
}

fn mod_revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

/// Whether an event tells of this change, rightly or wrongly.
fn is_of(event: &Event, change: &Change) -> bool {
    event.kv.as_ref().is_some_and(|kv| kv.key == change.kv.key && kv.mod_revision == change.revision)
}

#[cfg(test)]
mod tests {
    use super::super::driven::{self, Driven};
    use super::*;
    use crate::rng::Rng;

    /// Where a response with events stands: a watch, and the place among all that it was told.
    fn responses(driven: &Driven, is_fit: impl Fn(&Watcher, &[Event]) -> bool) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        for (n, watcher) in driven.watchers.iter().enumerate() {
            for (place, (_, told)) in watcher.told().iter().enumerate() {
                if let Told::Events { events, .. } = told
                    && is_fit(watcher, events)
                {
                    found.push((n, place));
                }
            }
        }
        found
    }

    /// Changes some of these responses, one at a time, and expects that one of these guarantees is found broken.
    fn expect_broken(
        properties: &[&str],
        is_fit: impl Fn(&Watcher, &[Event]) -> bool,
        change: impl Fn(&mut Vec<(Moment, Told)>, usize),
    ) {
        let driven = driven::run(200, 1200);
        let replayed = driven.check().unwrap();
        let fit = responses(&driven, is_fit);
        assert!(fit.len() >= 10, "only {} responses", fit.len());
        let mut rng = Rng::new(9, 1);
        for _ in 0..50 {
            let (n, place) = rng.pick(&fit);
            let mut watcher = driven.watchers[n].clone();
            change(watcher.told_mut(), place);
            let found = check(&watcher, &replayed).map_err(|violation| violation.property);
            assert!(found.is_err_and(|found| properties.contains(&found)), "{found:?}: {:?}", watcher.told()[place]);
        }
    }

    fn events(told: &mut [(Moment, Told)], place: usize) -> (&mut i64, &mut Vec<Event>, &mut bool) {
        match &mut told[place].1 {
            Told::Events { revision, events, is_fragment } => (revision, events, is_fragment),
            other => panic!("{other:?}"),
        }
    }

    fn any(_: &Watcher, _: &[Event]) -> bool {
        true
    }

    fn spans_revisions(_: &Watcher, events: &[Event]) -> bool {
        mod_revision(&events[0]) < mod_revision(&events[events.len() - 1])
    }

    fn within_one_revision(_: &Watcher, events: &[Event]) -> bool {
        events.len() > 1 && !spans_revisions(&Watcher::new(1, Wanted::default(), 0), events)
    }

    #[test]
    fn an_event_that_is_dropped_is_missed() {
        // What came last of a revision leaves a response that ends too early.
        expect_broken(&[RELIABLE, ATOMIC, BOOKMARKABLE, TRUE], any, |told, place| {
            let (_, events, _) = events(told, place);
            events.remove(0);
        });
    }

    #[test]
    fn a_response_that_is_dropped_is_missed() {
        // Unless the watch is lost, or canceled, before anything else is said.
        let driven = driven::run(201, 1200);
        let replayed = driven.check().unwrap();
        let mut missed = 0;
        for (n, place) in responses(&driven, any) {
            let mut watcher = driven.watchers[n].clone();
            let (_, dropped) = watcher.told_mut().remove(place);
            let next = watcher.told().get(place).map(|(_, told)| told.clone());
            let found = check(&watcher, &replayed).map_err(|violation| violation.property);
            match next {
                Some(Told::Events { .. }) => assert_eq!(found, Err(RELIABLE), "{dropped:?}"),
                Some(Told::Progress { .. }) => assert_eq!(found, Err(BOOKMARKABLE), "{dropped:?}"),
                Some(Told::Settled { .. }) => assert_eq!(found, Err(RELIABLE), "{dropped:?}"),
                _ => continue,
            }
            missed += 1;
        }
        assert!(missed > 100, "{missed}");
    }

    #[test]
    fn an_event_that_comes_again_is_found() {
        expect_broken(&[UNIQUE], any, |told, place| {
            let (_, events, _) = events(told, place);
            events.push(events[events.len() - 1].clone());
        });
        expect_broken(&[UNIQUE], any, |told, place| {
            let again = told[place].clone();
            told.insert(place, again);
        });
    }

    #[test]
    fn events_out_of_order_are_found() {
        expect_broken(&[RELIABLE, ORDERED], spans_revisions, |told, place| {
            let (_, events, _) = events(told, place);
            events.rotate_left(1);
        });
        expect_broken(&[RELIABLE, ORDERED], within_one_revision, |told, place| events(told, place).1.reverse());
        expect_broken(&[RELIABLE, ORDERED], spans_revisions, |told, place| events(told, place).1.reverse());
    }

    #[test]
    fn a_revision_that_is_split_is_found_unless_it_is_a_fragment() {
        let split = |told: &mut Vec<(Moment, Told)>, place: usize| {
            let mut rest = told[place].clone();
            let (_, first, _) = events(told, place);
            let tail = first.split_off(1);
            if let Told::Events { events, .. } = &mut rest.1 {
                *events = tail;
            }
            told.insert(place + 1, rest);
        };
        expect_broken(&[ATOMIC], within_one_revision, split);
        let driven = driven::run(200, 1200);
        let replayed = driven.check().unwrap();
        for (n, place) in responses(&driven, within_one_revision) {
            let mut watcher = driven.watchers[n].clone();
            split(watcher.told_mut(), place);
            *events(watcher.told_mut(), place).2 = true;
            assert_eq!(check(&watcher, &replayed), Ok(()));
        }
    }

    #[test]
    fn an_event_that_shows_something_else_is_found() {
        let changes: [fn(&mut Event); 5] = [
            |event| event.kv.get_or_insert_default().version += 1,
            |event| event.kv.get_or_insert_default().create_revision += 1,
            |event| event.kv.get_or_insert_default().value = "another".into(),
            |event| event.r#type = 1 - event.r#type,
            |event| event.prev_kv.get_or_insert_default().version += 1,
        ];
        for change in changes {
            expect_broken(&[TRUE], any, |told, place| {
                let (_, events, _) = events(told, place);
                let last = events.len() - 1;
                change(&mut events[last]);
            });
        }
        expect_broken(&[TRUE], any, |told, place| {
            events(told, place).1[0].kv.get_or_insert_default().key = "foreign".into();
        });
    }

    #[test]
    fn an_event_before_its_cause_is_found() {
        expect_broken(&[TRUE], any, |told, place| told[place].0 = Moment(0));
    }

    #[test]
    fn progress_ahead_of_events_or_behind_them_is_found() {
        expect_broken(&[BOOKMARKABLE], any, |told, place| {
            let now = told[place].0;
            let revision = mod_revision(&events(told, place).1[0]);
            told.insert(place, (now, Told::Progress { revision }));
        });
        expect_broken(&[BOOKMARKABLE], any, |told, place| {
            let now = told[place].0;
            let newest = events(told, place).1.last().map_or(0, mod_revision);
            told.insert(place + 1, (now, Told::Progress { revision: newest - 1 }));
        });
        expect_broken(&[TRUE], any, |told, place| {
            let now = told[place].0;
            told.insert(place + 1, (now, Told::Progress { revision: 1 << 40 }));
        });
    }

    #[test]
    fn headers_are_not_behind_their_events() {
        expect_broken(&[ORDERED], any, |told, place| {
            let (revision, events, _) = events(told, place);
            *revision = events.last().map_or(0, mod_revision) - 1;
        });
        expect_broken(&[TRUE], any, |told, place| *events(told, place).0 = 1 << 40);
    }

    #[test]
    fn only_compaction_ends_a_watch_that_needs_what_is_compacted() {
        expect_broken(&[RESUMABLE], any, |told, place| {
            let now = told[place].0;
            let oldest = mod_revision(&events(told, place).1[0]);
            // It has been told all up to there, whether or not that is compacted.
            told.insert(place + 1, (now, Told::Canceled { reason: CancelReason::Compacted { oldest } }));
        });
        expect_broken(&[RESUMABLE], any, |told, place| {
            let now = told[place].0;
            let reason = CancelReason::Compacted { oldest: 1 << 40 };
            told.insert(place, (now, Told::Canceled { reason }));
        });
    }

    #[test]
    fn nothing_comes_before_the_beginning_or_after_the_end() {
        expect_broken(&[TRUE], any, |told, place| {
            let now = told[place].0;
            told.insert(place, (now, Told::Lost));
        });
        expect_broken(&[TRUE], any, |told, place| {
            let now = told[place].0;
            told.insert(place, (now, Told::Canceled { reason: CancelReason::Asked }));
        });
        expect_broken(&[TRUE], any, |told, place| {
            let now = told[place].0;
            told.insert(place, (now, Told::Created { revision: 1 }));
        });
    }

    #[test]
    fn a_watch_that_goes_on_later_than_it_was_asked_to_is_found() {
        // It was asked to begin with what comes first, and begins with what comes next.
        let driven = driven::run(202, 1200);
        let replayed = driven.check().unwrap();
        let mut found = 0;
        for watcher in &driven.watchers {
            let told = watcher.told();
            for place in 0..told.len().saturating_sub(3) {
                let is_resumed = matches!(told[place].1, Told::Asked { start, .. } if start > 0)
                    && matches!(told[place + 2].1, Told::Events { .. })
                    && matches!(told[place + 3].1, Told::Events { .. });
                if is_resumed {
                    let mut watcher = watcher.clone();
                    watcher.told_mut().remove(place + 2);
                    let property = check(&watcher, &replayed).map_err(|violation| violation.property);
                    assert_eq!(property, Err(RELIABLE));
                    found += 1;
                }
            }
        }
        assert!(found > 5, "{found}");
    }
}
