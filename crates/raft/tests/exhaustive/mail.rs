//! Which messages may still make a difference.
//!
//! A message that cannot is as good as lost, and a group in which it is under way is the same as one in which it is not.

use vlot_raft::effect::RoleName;
use vlot_raft::message::{Body, Message};

use super::node::Node;
use super::rules::Rules;

/// Whether a message may yet make a difference to its receiver, as it is or as a crash may leave it.
///
/// `changes_nothing` tells whether the message, if it came at once, would do nothing at all.
pub fn may_matter(message: &Message, receiver: &Node, rules: &Rules, changes_nothing: impl FnOnce() -> bool) -> bool {
    if rules.stale {
        return true;
    }
    let (term, durable) = (message.term, receiver.disk.term);
    if matches!(message.body, Body::RequestPreVote { .. } | Body::PreVoteGranted | Body::PreVoteRefused)
        || term > durable
    {
        return true;
    }
    let (in_term, role) = (receiver.term() == term, receiver.role());
    match &message.body {
        // An answer counts only in the candidacy or office in which it was asked for, and once the term is durable no
        // crash brings that back. A vote counts once.
        Body::VoteGranted | Body::VoteRefused => in_term && role == RoleName::Candidate && !changes_nothing(),
        Body::EntriesAccepted { .. } | Body::EntriesRefused { .. } | Body::HeartbeatReply { .. } => {
            in_term && matches!(role, RoleName::Candidate | RoleName::Leader)
        }
        Body::Committed { .. } if term < durable => false,
        // What is stale is answered with the later term, which anybody may hear of in other ways too.
        _ if term < durable => rules.refusals,
        // The vote of this term is durable, and another's.
        Body::RequestVote { .. } => rules.refusals || !changes_nothing(),
        _ => true,
    }
}
