//! Has commands applied one after the other by a node that is alone, and nothing else: to count what one costs.
//!
//! `puts DIR COUNT [propose|at-most-once|call]`; run it with two counts and look at the difference. `propose` is a state
//! machine of its own, the others are a typed state: without a session, and in one.

use std::env;
use std::error::Error;

use serde::{Deserialize, Serialize};
use vlot::{Context, GroupId, LogId, Node, NodeId, Options, SerdeState, StateMachine};

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

#[derive(Clone, Default, Deserialize, Serialize)]
struct TypedSum(u64);

impl SerdeState for TypedSum {
    type Command = u64;
    type Reply = u64;

    fn apply(&mut self, _: &Context, more: u64) -> u64 {
        self.0 += more;
        self.0
    }

    fn is_prompt(&self, _: &u64) -> bool {
        true
    }
}

const GROUP: GroupId = GroupId(1);
const ALONE: [NodeId; 1] = [NodeId(1)];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (Some(dir), Some(count)) = (arguments.first(), arguments.get(1)) else {
        return Err("usage: puts DIR COUNT [propose|at-most-once|call]".into());
    };
    let (count, how) = (count.parse::<u64>()?, arguments.get(2).map_or("propose", String::as_str));
    let node = Node::open(Options { sleep_after: None, ..Options::new(dir) }).await?;
    let sum = if how == "propose" {
        let group = node.group(GROUP, ALONE, Sum::default()).await?;
        for _ in 0..count {
            group.propose(1).await?;
        }
        group.read(|sum| sum.0).await?
    } else {
        let group = node.typed(GROUP, ALONE, TypedSum::default()).await?;
        for _ in 0..count {
            if how == "call" {
                group.call(1).await?
            } else {
                group.call_at_most_once(1).await?
            };
        }
        group.read(|sum| sum.0).await?
    };
    println!("{sum}");
    node.shutdown().await;
    Ok(())
}
