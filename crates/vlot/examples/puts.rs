//! Proposes commands one after the other to a node that is alone, and nothing else: to count what one costs.
//!
//! `puts DIR COUNT`; run it with two counts and look at the difference.

use vlot::{GroupId, LogId, Node, NodeId, Options, StateMachine};

#[derive(Default)]
struct Sum(u64);

impl StateMachine for Sum {
    type Command = u64;
    type Reply = u64;

    fn apply(&mut self, _: LogId, more: u64) -> u64 {
        self.0 += more;
        self.0
    }

    fn is_prompt(&self, _: &u64) -> bool {
        true
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(dir), Some(count)) = (arguments.next(), arguments.next()) else {
        return Err("usage: puts DIR COUNT".into());
    };
    let node = Node::open(Options { sleep_after: None, ..Options::new(dir) }).await?;
    let sum = node.group(GroupId(1), [NodeId(1)], Sum::default()).await?;
    for _ in 0..count.parse::<u64>()? {
        sum.propose(1).await?;
    }
    println!("{}", sum.read(|sum| sum.0).await?);
    node.shutdown().await;
    Ok(())
}
