//! A durable map of texts on three nodes over TCP, whose members change while it runs.
//!
//! ```console
//! $ cargo run -p vlot --example kv -- 1 127.0.0.1:7001 data/1 127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003
//! $ cargo run -p vlot --example kv -- 2 127.0.0.1:7002 data/2 127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003
//! $ cargo run -p vlot --example kv -- 3 127.0.0.1:7003 data/3 127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003
//! $ cargo run -p vlot --example kv -- 4 127.0.0.1:7004 data/4      # is no member yet: `add` it, then `promote` it
//! ```
//!
//! Each reads lines and answers each with one: `put KEY VALUE`, `del KEY`, `get KEY`, `members`, `add NODE ADDRESS`,
//! `promote NODE`, `remove NODE`. All of them may be said to any node, and what is read is never older than what was written
//! before, wherever that was.

use std::collections::BTreeMap;
use std::time::Duration;
use std::{env, error::Error, io};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use vlot::net::Listen;
use vlot::{
    ChangeError, ChangeRefused, Context, Group, GroupId, MemberChange, Node, NodeId, Options, SerdeState, Typed,
};

#[derive(Clone, Default, Deserialize, Serialize)]
struct Map(BTreeMap<String, String>);

#[derive(Clone, Deserialize, Serialize)]
enum Change {
    Put { key: String, value: String },
    Delete { key: String },
}

impl SerdeState for Map {
    type Command = Change;
    /// The value before.
    type Reply = Option<String>;

    fn apply(&mut self, _: &Context, change: Change) -> Option<String> {
        match change {
            Change::Put { key, value } => self.0.insert(key, value),
            Change::Delete { key } => self.0.remove(&key),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (number, address, dir, first) = match &arguments[..] {
        [number, address, dir] => (number, address, dir, ""),
        [number, address, dir, first] => (number, address, dir, first.as_str()),
        _ => return Err("usage: kv NUMBER ADDRESS DIR [ADDRESS,ADDRESS,...]".into()),
    };
    let first = first.split(',').filter(|address| !address.is_empty()).map(str::to_owned);
    let peers: BTreeMap<NodeId, String> = (1..).map(NodeId).zip(first).collect();
    let (node, listen) = (NodeId(number.parse()?), Listen::At(address.clone()));
    let node = Node::open(Options { node, listen, peers: peers.clone(), ..Options::new(dir) }).await?;
    let map = node.typed(GroupId(1), peers.into_keys(), Map::default()).await?;
    for line in io::stdin().lines() {
        match answer(&map, line?.split_whitespace().collect()).await {
            Ok(answer) => println!("{answer}"),
            Err(why) => println!("not done: {why}"),
        }
    }
    node.shutdown().await;
    Ok(())
}

async fn answer(map: &Group<Typed<Map>>, words: Vec<&str>) -> Result<String, Box<dyn Error>> {
    let or_none = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
    let node = |number: &str| number.parse().map(NodeId);
    Ok(match words[..] {
        ["put", key, value] => or_none(map.call(Change::Put { key: key.to_owned(), value: value.to_owned() }).await?),
        ["del", key] => or_none(map.call(Change::Delete { key: key.to_owned() }).await?),
        ["get", key] => or_none(map.read(|map| map.0.get(key).cloned()).await?),
        ["add", number, address] => {
            change(map, MemberChange::AddLearner { node: node(number)?, address: address.to_owned() }).await?
        }
        ["promote", number] => change(map, MemberChange::Promote(node(number)?)).await?,
        ["remove", number] => change(map, MemberChange::Remove(node(number)?)).await?,
        ["members"] => {
            let members = map.members().borrow().clone();
            let each = members.iter().map(|(member, address)| format!("{} {:?} {address}", member.node, member.seat));
            each.collect::<Vec<_>>().join(", ")
        }
        _ => return Err("say put, del, get, members, add, promote or remove".into()),
    })
}

/// Changes the members, again while the leader has reasons that pass.
async fn change(map: &Group<Typed<Map>>, change: MemberChange) -> Result<String, ChangeError> {
    use ChangeRefused::{InProgress, NotCaughtUp, NotLeader, TooSoon, Transferring};
    loop {
        match map.change_members(vec![change.clone()], Bytes::new()).await {
            Err(ChangeError::Refused(
                NotLeader { .. } | TooSoon | InProgress | Transferring { .. } | NotCaughtUp { .. },
            )) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            done => return done.map(|()| "done".to_owned()),
        }
    }
}
