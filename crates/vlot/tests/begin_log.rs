//! A node goes on from a state that it was given, by a log that begins behind it.

use std::path::PathBuf;

use vlot::{BeginLogError, GroupId, LogId, LogOwner, Node, NodeId, Options, StateMachine, begin_log};

const GROUP: GroupId = GroupId(1);

/// What it has came from elsewhere, up to an entry.
struct Given {
    at: LogId,
    sum: u64,
}

impl StateMachine for Given {
    type Command = u64;
    type Reply = u64;

    fn apply(&mut self, at: LogId, more: u64) -> u64 {
        self.at = at;
        self.sum += more;
        self.sum
    }

    fn durable(&self) -> LogId {
        self.at
    }
}

fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("vlot-begin-log-{name}-{}", std::process::id()));
    std::fs::remove_dir_all(&dir).ok();
    dir
}

fn options(dir: &PathBuf) -> Options {
    Options { cluster: 7, node: NodeId(3), ..Options::new(dir) }
}

#[tokio::test]
async fn a_node_goes_on_behind_what_it_was_given() {
    let dir = scratch("on");
    let owner = LogOwner { cluster: 7, node: NodeId(3) };
    let after = LogId::new(5, 1000);
    begin_log(&dir, owner, GROUP, after, [(NodeId(3), String::new())]).unwrap();
    let again = begin_log(&dir, owner, GROUP, after, [(NodeId(3), String::new())]);
    assert!(matches!(again, Err(BeginLogError::NotEmpty)), "{again:?}");

    let node = Node::open(options(&dir)).await.unwrap();
    let group = node.group(GROUP, [NodeId(3)], Given { at: after, sum: 40 }).await.unwrap();
    assert_eq!(group.propose(2).await.unwrap(), 42);
    let status = group.status();
    assert!(status.commit.0 > 1000 && status.role_state.term.0 > 5, "{status:?}");
    node.shutdown().await;

    // What belongs to another moment is refused.
    let node = Node::open(options(&dir)).await.unwrap();
    let refused = node.group(GROUP, [NodeId(3)], Given { at: LogId::new(5, 999), sum: 40 }).await;
    assert!(refused.is_err());
    // The log has what came since.
    let group = node.group(GROUP, [NodeId(3)], Given { at: after, sum: 40 }).await.unwrap();
    assert_eq!(group.read(|given| given.sum).await.unwrap(), 42);
    node.shutdown().await;
    std::fs::remove_dir_all(&dir).unwrap();
}
