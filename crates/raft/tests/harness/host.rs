//! What a host does with the effects of a step.

use vlot_raft::configuration::Configuration;
use vlot_raft::effect::{Effect, Event, RoleName};
use vlot_raft::id::{LogId, LogIndex, NodeId};
use vlot_raft::message::Body;
use vlot_raft::term_runs::TermRuns;

use super::cluster::{Cluster, Node};
use super::disk::Write;
use super::ledger::Ledger;
use super::network::{self, Packet};
use super::notation;

impl Cluster {
    /// Carries out one effect of a step that this node's replica has made.
    pub(super) fn carry_out(&mut self, name: NodeId, effect: Effect) {
        let Self { journal, ledger, network, nodes, seen, .. } = self;
        let Some(node) = nodes.get_mut(&name) else { return };
        match effect {
            Effect::SaveVote { write, term, vote } => {
                journal.line(|| format!("n{name} save t{term} vote={}", notation::vote(vote)));
                node.disk.ask(write, Write::Vote { term, vote });
            }
            Effect::Append { write, entries, .. } => {
                let end = std::mem::replace(&mut node.end, entries.last());
                let cut = end > entries.after().index;
                seen.cuts += usize::from(cut);
                let set = node.configurations_in(&entries);
                seen.joint += set.iter().filter(|(_, configuration)| configuration.is_joint()).count();
                journal.line(|| {
                    let cut = if cut { format!("cut after {}, ", entries.after()) } else { String::new() };
                    format!("n{name} {cut}append {}{}", notation::stretch(&entries), notation::set(&set))
                });
                node.disk.ask(write, Write::Append { entries, set });
            }
            Effect::Compact { write, after } => {
                seen.compactions += 1;
                assert!(after.index <= node.applied, "n{name} has applied what it drops");
                journal.line(|| format!("n{name} log begins after {after}"));
                node.disk.ask(write, Write::Compact { after });
            }
            Effect::InstallSnapshot { write, id } => {
                seen.installs += 1;
                journal.line(|| format!("n{name} install {id}"));
                node.end = node.raft.as_ref().map_or(id.index, |raft| raft.log().last());
                let snapshot = node.received.clone().filter(|snapshot| snapshot.id == id);
                node.disk.ask(write, Write::Install(snapshot.expect("the snapshot it was told of")));
            }
            Effect::FetchSnapshot { from, reach } => {
                // It is asked again with every heartbeat; once is enough to write down.
                if node.wanted.replace((from, reach)) != Some((from, reach)) {
                    journal.line(|| format!("n{name} fetches a snapshot of {reach} or later from n{from}"));
                }
            }
            Effect::Send(envelope) => {
                let (to, message) = (envelope.to, envelope.message);
                ledger.sent(name, to, &message, &node.disk);
                if let Body::EntriesAccepted { upto, .. } = message.body {
                    Ledger::is_on_disk(name, "acknowledges", upto, node);
                }
                network::send(network, journal, Packet { from: name, to, message });
            }
            Effect::Commit { upto } => {
                Ledger::is_on_disk(name, "applies", upto, node);
                assert!(upto > node.applied || node.lives > 1, "n{name} is told of {upto} twice");
                node.applied = upto;
                journal.line(|| format!("n{name} commit {upto}"));
            }
            Effect::ReadReady { read, index } => {
                journal.line(|| format!("n{name} read r{} at {index}", read.0));
                ledger.read_answered(read, index);
            }
            Effect::ReadRefused { read } => {
                seen.refused_reads += 1;
                journal.line(|| format!("n{name} read r{} refused", read.0));
            }
            Effect::ProposalRefused { why } => {
                journal.line(|| format!("n{name} refuses the proposal: {}", notation::proposal_refused(why)));
            }
            Effect::ChangeRefused { why } => {
                journal.line(|| format!("n{name} refuses the change: {}", notation::change_refused(why)));
            }
            Effect::TransferRefused { why } => {
                journal.line(|| format!("n{name} refuses to hand over: {}", notation::transfer_refused(why)));
            }
            Effect::Happened(event) => self.happened(name, event),
            Effect::Election(_) => {}
            Effect::Became(role_state) => {
                let [was, is] = [node.role_state, role_state].map(notation::role_state);
                journal.line(|| format!("n{name} {was} => {is}"));
                seen.offices += usize::from(role_state.role == RoleName::Leader);
                node.role_state = role_state;
            }
            Effect::Misbehaved { from, how } => {
                journal.line(|| format!("n{name} reports n{from}: {}", notation::misbehaviour(how)));
            }
        }
    }

    fn happened(&mut self, name: NodeId, event: Event) {
        match event {
            Event::Removed { .. } => self.seen.removals += 1,
            Event::TransferBegun { .. } => self.seen.transfers += 1,
            Event::ConfigurationChanged { at } => self.configuration_changed(name, at),
            _ => {}
        }
        if let Some(line) = notation::event(event) {
            self.journal.line(|| format!("n{name} {line}"));
        }
    }

    /// A configuration that an entry sets is written down with the entry. One that went with its entry brings back what
    /// counted before it.
    fn configuration_changed(&mut self, name: NodeId, at: LogIndex) {
        let was = std::mem::replace(&mut self.node_mut(name).members_of, at);
        if at < was {
            self.seen.undone += 1;
            let members = notation::members(self.raft(name).configuration());
            self.journal.line(|| format!("n{name} goes back to the members of {at}: {members}"));
        }
    }
}

impl Node {
    /// The configurations that these new entries set, as their payloads say.
    fn configurations_in(&self, entries: &TermRuns) -> Vec<(LogIndex, Configuration)> {
        let raft = self.raft.as_ref().expect("it has just made a step");
        raft.configurations().part(entries.after().index, entries.last())
    }

    /// The entry of its log at this index, unless it has been dropped.
    pub(super) fn id_at(&self, index: LogIndex) -> Option<LogId> {
        let term = self.raft.as_ref()?.log().term_at(index)?;
        Some(LogId { term, index })
    }
}
