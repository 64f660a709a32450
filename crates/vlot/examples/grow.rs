//! A counter that begins on one node without a network, and grows to as many nodes as it needs where its data is.
//!
//! ```console
//! $ cargo run -p vlot --example grow -- 1 data/1                     # alone: nothing listens, nothing is dialled
//! $ cargo run -p vlot --example grow -- 1 data/1 127.0.0.1:7001      # later, from the same folder
//! $ cargo run -p vlot --example grow -- 2 data/2 127.0.0.1:7002      # waits until it is added
//! $ cargo run -p vlot --example grow -- 3 data/3 127.0.0.1:7003
//! ```
//!
//! Each reads lines and answers each with one: a number is added to the sum; `join NUMBER ADDRESS`, said to any member, makes a
//! node that waits a voter; `members` says which there are.

use std::time::Duration;
use std::{env, error::Error, io};

use bytes::Bytes;
use vlot::net::{Listen, memory::Hub};
use vlot::{ChangeError, ChangeRefused, Group, GroupId, LogId, MemberChange, Node, NodeId, Options, StateMachine};

#[derive(Default)]
struct Counter(u64);

impl StateMachine for Counter {
    type Command = u64;
    type Reply = u64;

    fn apply(&mut self, _: LogId, more: u64) -> u64 {
        self.0 += more;
        self.0
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let (number, dir, address) = match &arguments[..] {
        [number, dir] => (number, dir, None),
        [number, dir, address] => (number, dir, Some(address)),
        _ => return Err("usage: grow NUMBER DIR [ADDRESS]".into()),
    };
    let me = NodeId(number.parse()?);
    let listen = address.map_or_else(|| Listen::through(Hub::default().at("alone")), |at| Listen::At(at.clone()));
    let node = Node::open(Options { node: me, listen, ..Options::new(dir) }).await?;
    // The first node begins the group. The others name no voters: the leader comes to them.
    let first = Some(me).filter(|me| *me == NodeId(1));
    let counter = node.group(GroupId(1), first, Counter::default()).await?;
    if let (Some(node), Some(address)) = (first, address.cloned()) {
        // The others find it by what the members say.
        let is_known = counter.members().borrow().address(node) == address;
        if !is_known {
            change(&counter, MemberChange::Move { node, address }).await?;
        }
    }
    for line in io::stdin().lines() {
        match answer(&counter, line?.split_whitespace().collect()).await {
            Ok(answer) => println!("{answer}"),
            Err(why) => println!("not done: {why}"),
        }
    }
    node.shutdown().await;
    Ok(())
}

async fn answer(counter: &Group<Counter>, words: Vec<&str>) -> Result<String, Box<dyn Error>> {
    match words[..] {
        ["join", number, address] => {
            let node = NodeId(number.parse()?);
            change(counter, MemberChange::AddLearner { node, address: address.to_owned() }).await?;
            change(counter, MemberChange::Promote(node)).await?;
            Ok(format!("node {node} votes"))
        }
        ["members"] => {
            let members = counter.members().borrow().clone();
            let each = members.iter().map(|(member, address)| format!("{} at {address}", member.node));
            Ok(each.collect::<Vec<_>>().join(", "))
        }
        [more] => Ok(counter.propose(more.parse()?).await?.to_string()),
        _ => Err("say a number, `join NUMBER ADDRESS` or `members`".into()),
    }
}

/// Changes the members, again while the leader has reasons that pass: there is none yet, say, or the new node is catching up.
async fn change(counter: &Group<Counter>, change: MemberChange) -> Result<(), ChangeError> {
    use ChangeRefused::{InProgress, NotCaughtUp, NotLeader, NothingToDo, TooSoon, Transferring};
    loop {
        match counter.change_members(vec![change.clone()], Bytes::new()).await {
            Err(ChangeError::Refused(NothingToDo)) => return Ok(()),
            Err(ChangeError::Refused(
                NotLeader { .. } | TooSoon | InProgress | Transferring { .. } | NotCaughtUp { .. },
            )) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            done => return done,
        }
    }
}
