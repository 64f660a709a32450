//! A state machine that asks for time is told it by the node's leader: in front of commands, over restarts, and never more
//! than has passed.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use vlot::{GroupId, LogId, Node, NodeId, Options, StateMachine, TimePassed};

const GROUP: GroupId = GroupId(1);
const NODE: NodeId = NodeId(3);

/// What has passed, and what the clock on the wall shows. In memory alone: after a restart the log tells it again.
#[derive(Clone, Copy, Debug, Default)]
struct Timed {
    passed: Duration,
    unix: Duration,
    told: u64,
}

impl StateMachine for Timed {
    type Command = u64;
    type Reply = Self;

    fn apply(&mut self, _: LogId, _: u64) -> Self {
        *self
    }

    fn is_prompt(&self, _: &u64) -> bool {
        true
    }

    fn wants_time(&self) -> bool {
        true
    }

    fn time_passed(&mut self, _: LogId, passed: TimePassed) {
        self.passed = self.passed.saturating_add(passed.elapsed);
        self.unix = passed.unix;
        self.told += 1;
    }
}

fn scratch() -> PathBuf {
    let dir = std::env::temp_dir().join(format!("vlot-replicated-time-{}", std::process::id()));
    std::fs::remove_dir_all(&dir).ok();
    dir
}

#[tokio::test]
async fn time_passes_while_a_node_leads_and_stands_still_while_it_is_down() {
    let dir = scratch();
    let options = || Options { cluster: 7, node: NODE, ..Options::new(&dir) };
    let began = Instant::now();
    let node = Node::open(options()).await.unwrap();
    let group = node.group(GROUP, [NODE], Timed::default()).await.unwrap();
    let first = group.propose(1).await.unwrap();
    assert_eq!(first.told, 1, "the first command of a leader comes after time");
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!(first.unix.abs_diff(wall) < Duration::from_secs(60), "{first:?} at {wall:?}");
    for _ in 0..20 {
        group.propose(1).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(250)).await;
    let second = group.propose(1).await.unwrap();
    assert!(second.passed >= Duration::from_millis(250) && second.passed <= began.elapsed(), "{second:?}");
    assert!(second.told as u128 <= 1 + began.elapsed().as_millis() / 100 + 1, "not with each command: {second:?}");
    node.shutdown().await;
    let up = began.elapsed();

    tokio::time::sleep(Duration::from_millis(500)).await;
    let again = Instant::now();
    let node = Node::open(options()).await.unwrap();
    let group = node.group(GROUP, [NODE], Timed::default()).await.unwrap();
    let third = group.propose(1).await.unwrap();
    assert!(third.passed >= second.passed, "it goes on from what was told: {third:?} after {second:?}");
    assert!(third.passed <= up + again.elapsed(), "it stands still while nothing leads: {third:?}");
    assert!(third.told > second.told, "a new leader tells time before its first command");
    node.shutdown().await;
    std::fs::remove_dir_all(&dir).ok();
}
