//! What must hold of a group's state, beyond what one node can show (Raft, figure 3).

use vlot_raft::effect::RoleName;
use vlot_raft::id::{LogId, NodeId};
use vlot_raft::invariants::{check_log_matching, check_sleepers};

use super::node::Node;
use super::shown::Shown;
use super::{Broken, broken, held, require};

pub fn check(shown: &Shown, nodes: &[&Node]) -> Result<(), Broken> {
    for (at, node) in nodes.iter().enumerate() {
        shown.is_complete(&node.raft)?;
        for other in &nodes[..at] {
            held(check_log_matching(&node.raft, &other.raft))?;
            held(check_sleepers(&node.raft, &other.raft))?;
            held(check_sleepers(&other.raft, &node.raft))?;
        }
    }
    somebody_is_awake_or_leads(nodes)?;
    committed_is_durable(shown, nodes)?;
    acknowledgements_are_true(nodes)
}

/// A group of which all sleep has a leader, or it would sleep for ever.
fn somebody_is_awake_or_leads(nodes: &[&Node]) -> Result<(), Broken> {
    let leads_or_is_awake = |node: &&Node| !node.raft.is_asleep() || node.role() == RoleName::Leader;
    let holds = nodes.iter().any(leads_or_is_awake);
    require("a group that sleeps has a leader", holds, || format!("{:?}", nodes[0].raft.role_state()))
}

/// Whatever is committed is durable on a quorum of the configuration that counted when it was, or of one that follows.
fn committed_is_durable(shown: &Shown, nodes: &[&Node]) -> Result<(), Broken> {
    let last = shown.last_committed();
    if last == LogId::ZERO {
        return Ok(());
    }
    let holds = |name: NodeId| nodes[name.0 as usize - 1].disk.holds(last);
    let by_quorum = |node: &&Node| {
        let (configurations, log) = (node.raft.configurations(), node.raft.log());
        let knows = log.after().index >= last.index || log.contains(last);
        knows
            && (configurations.at(last.index).1.is_quorum(holds)
                || configurations.part(last.index, log.last()).iter().any(|(_, later)| later.is_quorum(holds)))
    };
    if nodes.iter().any(by_quorum) {
        Ok(())
    } else {
        broken("what is committed is durable on a quorum", || format!("{last}"))
    }
}

/// What a leader counts as acknowledged is on its peer's disk, unless a later leader has replaced it.
fn acknowledgements_are_true(nodes: &[&Node]) -> Result<(), Broken> {
    for leader in nodes {
        for (peer, matched) in leader.raft.matched() {
            let disk = &nodes[peer.0 as usize - 1].disk;
            let Some(term) = leader.raft.log().term_at(matched) else { continue };
            let id = LogId { term, index: matched };
            if disk.term <= leader.term() && !disk.holds(id) {
                return broken("what a leader counts is durable", || format!("{id} of n{peer}, at n{}", leader.name()));
            }
        }
    }
    Ok(())
}
