//! A thousand counters on three processes: each is a group of its own, with a leader of its own, and all share one log and
//! one connection between two nodes.
//!
//! ```console
//! $ cargo run --release -p vlot --example many_groups -- 1 127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003 data/1
//! ```
//!
//! and 2 and 3 likewise. Each then reads lines and answers each with one: `add COUNTER NUMBER`; `each NUMBER`, which adds to
//! all of them at once and says how long that took; `idle SECONDS`, which says what this process costs while nothing happens;
//! and `leads`. Kill one process and say `each 1` again: that is what its death costs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use std::{env, error::Error, fs, io};

use tokio::task::JoinSet;
use vlot::net::Listen;
use vlot::{Group, GroupId, LogId, Node, NodeId, Options, RoleName, StateMachine};

const COUNTERS: u64 = 1000;

#[derive(Default)]
struct Counter(u64);

impl StateMachine for Counter {
    type Command = u64;
    type Reply = u64;

    fn apply(&mut self, _: LogId, more: u64) -> u64 {
        self.0 += more;
        self.0
    }

    /// It takes no time, so it needs no thread.
    fn is_prompt(&self, _: &u64) -> bool {
        true
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let [number, addresses, dir] = &env::args().skip(1).collect::<Vec<_>>()[..] else {
        return Err("usage: many_groups NUMBER ADDRESS,ADDRESS,... DIR".into());
    };
    let me = NodeId(number.parse()?);
    let peers: BTreeMap<_, _> = (1..).map(NodeId).zip(addresses.split(',').map(str::to_owned)).collect();
    let listen = Listen::At(peers.get(&me).ok_or("there is no address of this number")?.clone());
    // Each node leads its share of the groups, and takes it back when it returns.
    let options = Options { node: me, listen, peers: peers.clone(), balance_leaders: true, ..Options::new(dir) };
    let node = Node::open(options).await?;
    let begun = Instant::now();
    let mut counters = Vec::new();
    for id in 0..COUNTERS {
        counters.push(node.group(GroupId(id), peers.keys().copied(), Counter::default()).await?);
    }
    println!("{COUNTERS} groups taken up in {:.2?}", begun.elapsed());
    for line in io::stdin().lines() {
        match answer(&counters, line?.split_whitespace().collect()).await {
            Ok(answer) => println!("{answer}"),
            Err(why) => println!("not done: {why}"),
        }
    }
    node.shutdown().await;
    Ok(())
}

async fn answer(counters: &[Group<Counter>], words: Vec<&str>) -> Result<String, Box<dyn Error>> {
    Ok(match words[..] {
        ["add", at, more] => {
            let counter = counters.get(at.parse::<usize>()?).ok_or("there is no such counter")?;
            counter.propose(more.parse()?).await?.to_string()
        }
        ["each", more] => {
            let (more, begun) = (more.parse()?, Instant::now());
            let mut adding: JoinSet<_> =
                counters.iter().cloned().map(|it| async move { it.propose(more).await }).collect();
            while let Some(added) = adding.join_next().await {
                added??;
            }
            format!("added to {} in {:.2?}", counters.len(), begun.elapsed())
        }
        ["idle", seconds] => {
            let (seconds, before) = (seconds.parse()?, cpu_seconds()?);
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            let percent = 100.0 * (cpu_seconds()? - before) / seconds as f64;
            format!("{percent:.1} % of a core, {} MiB", resident_mib()?)
        }
        ["leads"] => {
            let leads = |it: &&Group<Counter>| it.status().role_state.role == RoleName::Leader;
            format!("leads {} of {}", counters.iter().filter(leads).count(), counters.len())
        }
        _ => return Err("say `add COUNTER NUMBER`, `each NUMBER`, `idle SECONDS` or `leads`".into()),
    })
}

/// What this process has used, by Linux's account: hundredths of seconds, of the process and for it in the kernel.
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let hundredths: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(hundredths as f64 / 100.0)
}

fn resident_mib() -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
}
