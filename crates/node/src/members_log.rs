//! The members of one group, as its log on this node says: beside the seats, which consensus knows too, where each
//! member listens and what the state machine is to be told.
//!
//! Follows the log: appended with it, cut with it, compacted with it. Must not decide anything.

use vlot_log::record::Entry;
use vlot_raft::configuration::{Configuration, Configurations};
use vlot_raft::id::LogIndex;

use crate::members::{Members, MembersAt, MembersEntry};
use crate::payload::{self, BadPayload, Payload};

/// The configurations of a log.
///
/// Invariant: the first is the one with which the log begins; the indices of the others rise.
#[derive(Clone, Debug)]
pub struct MembersLog(Vec<MembersAt>);

impl MembersLog {
    /// The configurations of a log that begins with `base` and holds these entries, among them all that set one.
    ///
    /// # Errors
    /// If a payload is none.
    pub fn new(base: MembersAt, kept: &[Entry]) -> Result<Self, BadPayload> {
        let mut roster = Self(vec![base]);
        for Entry { id, payload } in kept {
            roster.append(id.index, &payload::decode(payload.clone())?);
        }
        Ok(roster)
    }

    /// As consensus needs them.
    pub fn configurations(&self) -> Configurations {
        let of = |set: &MembersAt| (set.at, set.entry.members.configuration().clone());
        let mut all = self.0.iter().map(of);
        // There is always a first.
        let base = all.next().unwrap_or_default();
        Configurations::new(base, all.collect())
    }

    /// Takes in an entry that was appended.
    pub fn append(&mut self, at: LogIndex, payload: &Payload) {
        if let Payload::Configuration(entry) = payload {
            self.0.push(MembersAt { at, entry: MembersEntry::clone(entry) });
        }
    }

    /// The log was cut.
    pub fn cut_after(&mut self, index: LogIndex) {
        let mut n = 0;
        self.0.retain(|set| {
            n += 1;
            n == 1 || set.at <= index
        });
    }

    /// The log begins after `index`.
    pub fn begin_after(&mut self, index: LogIndex) {
        while self.0.get(1).is_some_and(|next| next.at <= index) {
            self.0.remove(0);
        }
    }

    /// A snapshot of the state at `index` has taken the place of the log up to there, or of all of it. Its members count,
    /// whatever the log has said: it may be damaged.
    pub fn begin_with(&mut self, set: MembersAt, index: LogIndex, of_all: bool) {
        self.0.retain(|later| later.at > index && !of_all);
        self.0.insert(0, set);
    }

    /// The one with which the log begins.
    pub fn first(&self) -> &MembersAt {
        // There is always a first.
        &self.0[0]
    }

    /// Those that entries have set.
    pub fn later(&self) -> impl Iterator<Item = &MembersAt> {
        self.0[1..].iter()
    }

    /// The one that counts, committed or not.
    pub fn newest(&self) -> &MembersAt {
        // There is always a first.
        &self.0[self.0.len() - 1]
    }

    /// The one that counted when the log ended at `index`.
    pub fn at(&self, index: LogIndex) -> &MembersAt {
        self.0.iter().rev().find(|set| set.at <= index).unwrap_or(&self.0[0])
    }

    /// What the entry holds by which a leader ends the change under way.
    pub fn settled(&self, configuration: Configuration) -> MembersEntry {
        let MembersEntry { change, members, context } = &self.newest().entry;
        let members: Members = members.with_seats(configuration);
        MembersEntry { change: *change, members, context: context.clone() }
    }
}
