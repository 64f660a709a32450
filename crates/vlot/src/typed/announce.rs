//! Tells a group which versions of a typed state's commands this node understands.
//!
//! Owns when that is said: once this node has caught up, and whenever what the group knows of it is something else. Must not
//! know what follows.

use std::time::Duration;

use vlot_node::typed::Typed;
use vlot_node::typed::call::Call;
use vlot_node::typed::state::State;
use vlot_raft::id::NodeId;

use crate::errors::{ProposeError, ReadError};
use crate::group::Group;

/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// The node has stopped, or the group was closed on it.
struct Ended;

/// Says what `node`, this one, understands, for as long as the group is open.
pub(crate) async fn announce<T: State>(group: Group<Typed<T>>, node: NodeId) {
    let (mut members, mut role_states) = (group.members(), group.role_states());
    // What was there before this node began is known once it has caught up.
    while group.barrier().await.is_err() {
        if group.has_ended() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
    loop {
        match say_once(&group, node).await {
            Ok(true) => {}
            Ok(false) => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Err(Ended) => return,
        }
        // A member that is removed is forgotten. Whether the group is still open is seen with its role.
        let changed = tokio::select! {
            changed = members.changed() => changed,
            changed = role_states.changed() => changed,
        };
        if changed.is_err() || group.has_ended() {
            return;
        }
    }
}

/// Says it, if the group knows something else. True if it does not any more.
async fn say_once<T: State>(group: &Group<Typed<T>>, node: NodeId) -> Result<bool, Ended> {
    let known = group.look(|typed| typed.versions().understood_by(node)).await;
    match known {
        Ok(known) if known == T::VERSIONS => return Ok(true),
        Ok(_) => {}
        Err(ReadError::Closed | ReadError::Stopped) => return Err(Ended),
        Err(_) => return Ok(false),
    }
    let (oldest, newest) = (*T::VERSIONS.start(), *T::VERSIONS.end());
    match group.propose(Call::Understands { node, oldest, newest }).await {
        Err(ProposeError::Closed | ProposeError::Stopped) => Err(Ended),
        // What has come of it is seen in the state.
        _ => Ok(false),
    }
}
