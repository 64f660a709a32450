//! One node with many groups, told by lines on its standard input what to do.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use vlot::net::Listen;
use vlot::{Group, GroupId, LogId, Node, NodeId, Options, RoleName, StateMachine};

use crate::Outcome;

/// A sum, which is as quick as a state machine can be.
#[derive(Default)]
struct Sum(u64);

impl StateMachine for Sum {
    type Command = u64;
    type Reply = u64;

    fn apply(&mut self, _: LogId, more: u64) -> u64 {
        self.0 = self.0.wrapping_add(more);
        self.0
    }

    fn is_prompt(&self, _: &u64) -> bool {
        true
    }
}

/// Runs a node: its folder, its number, and the ports of all.
pub(crate) fn run(mut arguments: impl Iterator<Item = String>) -> Outcome<()> {
    let dir = PathBuf::from(arguments.next().ok_or("no folder")?);
    let own: u64 = arguments.next().ok_or("no number")?.parse()?;
    let addresses: Vec<String> = arguments.map(|port| format!("127.0.0.1:{port}")).collect();
    let (lines, asked) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                break;
            }
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(dir, own, addresses, asked))
}

async fn serve(
    dir: PathBuf,
    own: u64,
    addresses: Vec<String>,
    mut asked: mpsc::UnboundedReceiver<String>,
) -> Outcome<()> {
    let mut options = Options::new(dir);
    options.node = NodeId(own);
    options.listen = Listen::At(addresses[own as usize - 1].clone());
    let all = (1..).map(NodeId).zip(addresses);
    options.peers = all.collect();
    let voters: Vec<NodeId> = options.peers.keys().copied().collect();
    let node = Node::open(options).await?;
    let mut groups: Vec<Group<Sum>> = Vec::new();
    let mut watched = None;
    while let Some(line) = asked.recv().await {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        let answer = match words[0] {
            "open" => {
                for id in 1..=number(1) {
                    groups.push(node.group(GroupId(id), voters.clone(), Sum::default()).await?);
                }
                for group in &groups {
                    group.role_states().wait_for(|state| state.leader.is_some()).await?;
                }
                0.0
            }
            "leads" => groups.iter().filter(|group| leads(group)).count() as f64,
            "balance" => balance(&groups, own, voters.len() as u64).await,
            "load" => load(&groups[number(1) as usize - 1..number(2) as usize], number(3), number(4)).await,
            "call" => call(&groups, number(1)).await,
            "watch" => {
                watched = Some(tokio::spawn(led_again(groups.clone(), NodeId(number(1)))));
                0.0
            }
            "led-again" => match watched.take() {
                Some(watched) => watched.await?.elapsed().as_secs_f64(),
                None => 0.0,
            },
            "resident" => resident_bytes(),
            "cpu" => cpu_seconds(),
            "quit" => break,
            _ => 0.0,
        };
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    node.shutdown().await;
    Ok(())
}

fn leads(group: &Group<Sum>) -> bool {
    group.status().role_state.role == RoleName::Leader
}

/// Each group goes to a node by its number.
async fn balance(groups: &[Group<Sum>], own: u64, nodes: u64) -> f64 {
    for (at, group) in groups.iter().enumerate() {
        let to = at as u64 % nodes + 1;
        if to != own && leads(group) {
            // One that does not go stays.
            let _ = group.transfer_leadership(Some(NodeId(to))).await;
        }
    }
    0.0
}

/// So many proposals under way for so many milliseconds. Returns how many were applied in a second.
async fn load(groups: &[Group<Sum>], in_flight: u64, millis: u64) -> f64 {
    let (begun, done) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let until = begun + Duration::from_millis(millis);
    let mut callers = Vec::new();
    for caller in 0..in_flight as usize {
        let (groups, done) = (groups.to_vec(), Arc::clone(&done));
        callers.push(tokio::spawn(async move {
            let mut at = caller;
            while Instant::now() < until {
                if groups[at % groups.len()].propose(1).await.is_ok() {
                    done.fetch_add(1, Relaxed);
                }
                at += in_flight as usize;
            }
        }));
    }
    for caller in callers {
        let _ = caller.await;
    }
    done.load(Relaxed) as f64 / begun.elapsed().as_secs_f64()
}

/// One call after the other to a group that is led here. Returns the p99 in seconds.
async fn call(groups: &[Group<Sum>], millis: u64) -> f64 {
    let Some(group) = groups.iter().find(|group| leads(group)) else { return 0.0 };
    let until = Instant::now() + Duration::from_millis(millis);
    let mut took = Vec::new();
    while Instant::now() < until {
        let begun = Instant::now();
        let _ = group.propose(1).await;
        took.push(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    took.sort_unstable();
    took[took.len() * 99 / 100].as_secs_f64()
}

/// Waits until every group is led by another than this node. Returns when that was so.
async fn led_again(groups: Vec<Group<Sum>>, gone: NodeId) -> Instant {
    for group in groups {
        let mut states = group.role_states();
        let _ = states.wait_for(|state| state.leader.is_some_and(|leader| leader != gone)).await;
    }
    Instant::now()
}

fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) * 1024.0
}

fn cpu_seconds() -> f64 {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF);
    let Ok(usage) = usage else { return 0.0 };
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}
