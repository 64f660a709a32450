//! Gives consensus its inputs and carries out the effects that come of them.
//!
//! Here the bytes of entries, which consensus never sees, meet its words for them. Must not know why an input is given.

use bytes::Bytes;
use vlot_log::record::Write;
use vlot_raft::effect::{Effect, Effects, Event, Input, RoleName, RoleState, Source};
use vlot_raft::id::LogIndex;
use vlot_raft::message::{Body, Envelope, Message};
use vlot_raft::term_runs::TermRuns;
use vlot_raft::time::Time;

use super::Replica;
use super::work::Work;
use crate::entries::RecentEntries;
use crate::payload;
use crate::proposals::NotProposed;
use crate::reads::NotRead;
use crate::wire::PeerMessage;

impl Replica {
    /// Gives consensus an input. False if it has no effect.
    pub(super) fn step(&mut self, now: Time, input: Input, payloads: Vec<Bytes>, work: &mut Work) -> bool {
        let first = match &input {
            Input::Receive { message: Message { body: Body::AppendEntries { entries, .. }, .. }, .. } => {
                entries.after().index.next()
            }
            _ => self.raft.log().last().next(),
        };
        let mut effects = Effects::new();
        self.raft.step(now, input, &mut effects);
        let has_effects = !effects.is_empty();
        let mut payloads = Payloads { first, payloads };
        for effect in effects {
            self.carry_out_one(effect, &mut payloads, work);
        }
        if let (Some(stamps), RoleState { term, role: RoleName::Leader, .. }) =
            (&mut self.stamps, self.raft.role_state())
        {
            stamps.leads(now, term);
        }
        has_effects
    }

    pub(super) fn carry_out(&mut self, effects: &mut Effects, payloads: Vec<Bytes>, work: &mut Work) {
        let mut payloads = Payloads { first: LogIndex::ZERO, payloads };
        for effect in effects.drain(..) {
            self.carry_out_one(effect, &mut payloads, work);
        }
    }

    /// As [`Replica::carry_out`], with the payloads of the newest message.
    pub(super) fn carry_out_again(&mut self, effects: &mut Effects, work: &mut Work) {
        let mut none = Payloads { first: LogIndex::ZERO, payloads: Vec::new() };
        for effect in effects.drain(..) {
            match effect {
                Effect::Send(envelope) => work.send_again(envelope),
                effect => self.carry_out_one(effect, &mut none, work),
            }
        }
    }

    fn carry_out_one(&mut self, effect: Effect, payloads: &mut Payloads, work: &mut Work) {
        match effect {
            Effect::SaveVote { write, term, vote } => {
                work.writes.push(Write::Vote { group: self.group, term, vote });
                work.last_write = Some(write);
            }
            Effect::Append { write, entries, source } => {
                let after = entries.after().index;
                self.members_log.cut_after(after);
                let payloads = match source {
                    Source::Blank => vec![payload::blank()],
                    Source::Proposed | Source::Received => payloads.of(&entries),
                    Source::Configuration(configuration) => {
                        let entry = match self.asked_change.take() {
                            Some(request) => request.begin(self.members(), configuration),
                            None => self.members_log.settled(configuration),
                        };
                        vec![payload::configuration(&entry)]
                    }
                };
                for (n, payload) in
                    payloads.iter().enumerate().filter(|(_, payload)| payload::sets_configuration(payload))
                {
                    // Payloads are decoded before they get here; one that is none would be refused when it is applied.
                    if let Ok(payload) = payload::decode(payload.clone()) {
                        self.members_log.append(LogIndex(after.0 + n as u64 + 1), &payload);
                    }
                }
                self.withheld_upto = match payloads.iter().rposition(|payload| payload::is_withheld(payload)) {
                    Some(n) => LogIndex(after.0 + n as u64 + 1),
                    None => self.withheld_upto.min(after),
                };
                let entries = self.recent.append(&entries, payloads);
                work.writes.push(Write::Append { group: self.group, after, entries });
                work.last_write = Some(write);
            }
            Effect::Send(Envelope { to, message }) => {
                let payloads = match &message.body {
                    Body::AppendEntries { .. } => std::mem::take(&mut payloads.payloads),
                    _ => Vec::new(),
                };
                work.messages.push((to, PeerMessage::Raft { message, payloads }));
            }
            Effect::Compact { write, after } => {
                self.members_log.begin_after(after.index);
                let note = self.members_log.at(after.index).encode();
                work.writes.push(Write::LogStart { group: self.group, after, note });
                work.last_write = Some(write);
            }
            Effect::InstallSnapshot { write, id } => {
                if let Some(set) = self.arriving.take() {
                    self.members_log.begin_with(set, id.index, self.raft.log().is_empty());
                }
                let note = self.members_log.at(id.index).encode();
                work.writes.push(Write::LogStart { group: self.group, after: id, note });
                if self.raft.log().is_empty() {
                    self.recent = RecentEntries::after(id.index);
                    // Entries of the log that is gone may still wait for room.
                    work.writes.push(Write::Append { group: self.group, after: id.index, entries: Vec::new() });
                }
                self.fetched.clear();
                work.proposals_unknown.append(&mut self.proposals.forget_sent());
                self.installing = Some(id);
                work.last_write = Some(write);
            }
            Effect::FetchSnapshot { from, reach } => work.fetch = Some((from, reach)),
            // Looked up at the end of the turn.
            Effect::Commit { .. } => {}
            Effect::ReadReady { read, index } => self.reads.confirm(read, index),
            Effect::ReadRefused { read } => self.reads.refuse(read),
            // Proposals are made only when they are taken, within the same turn.
            Effect::ProposalRefused { .. } => {}
            // The node that asked puts its own number in the place of zero.
            Effect::ChangeRefused { why } => work.changes_refused.push((0, why)),
            Effect::TransferRefused { why } => work.transfers.push((0, Err(why))),
            Effect::Happened(event) => {
                if let Event::Removed { .. } = event {
                    work.left_by.append(&mut self.leaving_by);
                    self.refuse_unsent(NotProposed::NotAMember, work);
                    self.refuse_reads(NotRead::NotAMember, work);
                }
                work.happened.push(event);
            }
            Effect::Election(event) => work.elections.push(event),
            Effect::Became(role_state) => {
                self.fetched.clear();
                if role_state.leader.is_some() {
                    self.reads.ask_all_again();
                }
                work.became.push(role_state);
            }
            Effect::Misbehaved { from, how } => work.misbehaved.push((from, how)),
        }
    }
}

/// The payloads that came with an input, or go with a message.
struct Payloads {
    /// The index of the first, if they came with an input.
    first: LogIndex,
    payloads: Vec<Bytes>,
}

impl Payloads {
    /// Those of these entries: consensus takes only what is new of a message.
    fn of(&mut self, entries: &TermRuns) -> Vec<Bytes> {
        let skip = entries.after().index.next().since(self.first);
        let skip = usize::try_from(skip).unwrap_or(usize::MAX).min(self.payloads.len());
        self.payloads.split_off(skip)
    }
}
