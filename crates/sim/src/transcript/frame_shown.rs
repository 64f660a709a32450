//! How frames, writes and changes of members are shown.

use super::{Group, Node};
use crate::network::Arrivals;
use crate::place::{Place, slot_of};
use bytes::Bytes;
use std::fmt;
use vlot_log::record::Write;
use vlot_node::members::MemberChange;
use vlot_node::wire::PeerMessage;
use vlot_raft::configuration::{Configuration, Seat};
use vlot_raft::message::Body;

pub(super) fn write_sent(
    f: &mut fmt::Formatter<'_>,
    from: Place,
    to: Place,
    bytes: &Bytes,
    arrivals: Arrivals,
) -> fmt::Result {
    let arrow = match arrivals {
        Arrivals { first: None, .. } => "-x",
        Arrivals { second: None, .. } => "->",
        Arrivals { .. } => "=>",
    };
    write!(f, "{} {arrow} {} ", Node(from), Node(to))?;
    match PeerMessage::decode(bytes.clone()) {
        Ok((group, PeerMessage::Raft { message, .. })) => {
            write!(f, "{}t{} ", Group(slot_of(group)), message.term)?;
            match message.body {
                Body::AppendEntries { session, entries, configurations, commit } => {
                    write!(f, "AppendEntries after={}", entries.after())?;
                    for (term, first, last) in entries.iter() {
                        write!(f, " {first}..{last}@{term}")?;
                    }
                    for (at, configuration) in configurations {
                        write!(f, " {at}:")?;
                        write_configuration(f, &configuration)?;
                    }
                    write!(f, " commit={commit} session={}", session.0)
                }
                body => write!(f, "{body:?}"),
            }
        }
        Ok((_, PeerMessage::Propose { term, payloads })) => write!(f, "t{term} Propose count={}", payloads.len()),
        Ok((_, PeerMessage::Change { term, request })) => {
            write!(f, "t{term} Change")?;
            write_changes(f, &request.changes)
        }
        Ok((_, PeerMessage::ChangeRefused { why, .. })) => write!(f, "ChangeRefused {why:?}"),
        Ok((_, PeerMessage::ProposalsRefused { term, sequences })) => {
            write!(f, "t{term} ProposalsRefused count={}", sequences.len())
        }
        Ok((_, PeerMessage::Alive)) => write!(f, "Alive"),
        Err(bad) => write!(f, "{bad}"),
    }
}

pub(super) fn write_changes(f: &mut fmt::Formatter<'_>, changes: &[MemberChange]) -> fmt::Result {
    changes.iter().try_for_each(|change| match change {
        MemberChange::AddVoter { node, .. } => write!(f, " +n{node}"),
        MemberChange::AddLearner { node, .. } => write!(f, " +n{node}?"),
        MemberChange::AddWitness { node, .. } => write!(f, " +n{node}w"),
        MemberChange::Promote(node) => write!(f, " n{node}!"),
        MemberChange::Demote(node) => write!(f, " n{node}?"),
        MemberChange::Remove(node) => write!(f, " -n{node}"),
        MemberChange::Move { node, address } => write!(f, " n{node} at {address}"),
        MemberChange::BindDisk { node, disk } => write!(f, " n{node} by disk {disk:x}"),
    })
}

/// Nodes with their seats: `n1` votes, `+n2` joins, `-n3` leaves, `~n4` retires, `n5?` learns; `w` is a witness.
fn write_configuration(f: &mut fmt::Formatter<'_>, configuration: &Configuration) -> fmt::Result {
    for (n, member) in configuration.members().iter().enumerate() {
        let (before, after) = match member.seat {
            Seat::Voter => ("", ""),
            Seat::Joining => ("+", ""),
            Seat::Leaving => ("-", ""),
            Seat::Retiring => ("~", ""),
            Seat::Learner => ("", "?"),
        };
        let (comma, witness) = (if n == 0 { "" } else { "," }, if member.witness { "w" } else { "" });
        write!(f, "{comma}{before}n{}{after}{witness}", member.node)?;
    }
    Ok(())
}

pub(super) fn write_act(f: &mut fmt::Formatter<'_>, act: &Write) -> fmt::Result {
    match act {
        Write::Vote { term, vote, .. } => {
            write!(f, " term {term}")?;
            vote.map_or(Ok(()), |vote| write!(f, " vote n{vote}"))
        }
        Write::LogStart { after, .. } => write!(f, " begin after {after}"),
        Write::Remove { group } => write!(f, " remove group {group}"),
        Write::Rewrite { entries, .. } => write!(f, " rewrite {}", entries.len()),
        Write::Append { after, entries, .. } => {
            write!(f, " cut {after}")?;
            entries.first().map_or(Ok(()), |first| write!(f, " append {}", first.id))?;
            entries.last().map_or(Ok(()), |last| write!(f, "..{}", last.id))
        }
    }
}
