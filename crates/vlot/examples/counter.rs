//! A counter that three processes agree on. Each adds the numbers it reads, and prints what the sum has become.
//!
//! ```console
//! $ cargo run -p vlot --example counter -- 1 127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003 data/1
//! $ cargo run -p vlot --example counter -- 2 127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003 data/2
//! $ cargo run -p vlot --example counter -- 3 127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003 data/3
//! ```
//!
//! Any one of them may be killed, and the others go on; started again, it has everything.

use std::collections::BTreeMap;
use std::{env, error::Error, io};

use vlot::net::Listen;
use vlot::{GroupId, LogId, Node, NodeId, Options, StateMachine};

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
    let [number, addresses, dir] = &env::args().skip(1).collect::<Vec<_>>()[..] else {
        return Err("usage: counter NUMBER ADDRESS,ADDRESS,... DIR".into());
    };
    let me = NodeId(number.parse()?);
    let peers: BTreeMap<_, _> = (1..).map(NodeId).zip(addresses.split(',').map(str::to_owned)).collect();
    let address = peers.get(&me).ok_or("there is no address of this number")?;
    let options = Options { node: me, listen: Listen::At(address.clone()), peers: peers.clone(), ..Options::new(dir) };
    let node = Node::open(options).await?;
    let counter = node.group(GroupId(1), peers.into_keys(), Counter::default()).await?;
    for line in io::stdin().lines() {
        match counter.propose(line?.trim().parse()?).await {
            Ok(sum) => println!("{sum}"),
            Err(why) => eprintln!("not added: {why}"),
        }
    }
    node.shutdown().await;
    Ok(())
}
