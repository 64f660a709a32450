//! Scripts: a block of commands, `---`, and below it what the cluster did.
//!
//! Blocks are parted by empty lines; a file is one cluster's life. Running a script gives the same text with what
//! was recorded in this run. The commands are in `tests/scripts/README.md`.

use std::collections::BTreeMap;
use std::time::Duration;

use vlot_raft::configuration::{Configuration, Configurations};
use vlot_raft::effect::Input;
use vlot_raft::id::{LogId, LogIndex, NodeId, Term};

use super::cluster::{Cluster, Habits};
use super::disk::Snapshot;
use super::network::Link;
use super::notation::{self, field, field_if_any, parse_change, parse_id, parse_link, parse_members, parse_node};

/// Runs all blocks; what comes back should be the text itself.
pub fn run(text: &str) -> String {
    let mut cluster = None;
    let blocks: Vec<String> = text.trim_end().split("\n\n").map(|block| run_block(block, &mut cluster)).collect();
    blocks.join("\n\n") + "\n"
}

fn run_block(block: &str, cluster: &mut Option<Cluster>) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in block.lines().take_while(|line| *line != "---") {
        lines.push(line.into());
        let words: Vec<&str> = line.split_whitespace().collect();
        if !words.is_empty() && !line.starts_with('#') {
            command(&words, cluster);
        }
    }
    let recorded = cluster.as_mut().map(|cluster| cluster.journal.take()).unwrap_or_default();
    lines.push("---".into());
    lines.extend(recorded);
    lines.join("\n")
}

fn command(words: &[&str], slot: &mut Option<Cluster>) {
    if words[0] == "cluster" {
        *slot = Some(begin(words));
        return;
    }
    let cluster = slot.as_mut().expect("a script begins with `cluster`");
    let quiet = words.last() == Some(&"quiet");
    cluster.journal.on = !quiet;
    let arguments = if quiet { &words[1..words.len() - 1] } else { &words[1..] };
    match words[0] {
        "campaign" | "crash" | "fast" | "isolate" | "join" | "persist" | "propose" | "read" | "restart" | "restore"
        | "slow" | "wake" => of_node(words[0], parse_node(arguments[0]), &arguments[1..], cluster),
        "change" | "compact" | "damage" | "fetch" | "fill" | "fit" | "free" | "install" | "transfer" | "unfit" => {
            of_replica(words[0], parse_node(arguments[0]), &arguments[1..], cluster);
        }
        "connect" | "lose" | "silent" => {
            let (node, peer) = (parse_node(arguments[0]), parse_node(arguments[1]));
            let input = match words[0] {
                "connect" => Input::Connected { peer },
                "lose" => Input::Lost { peer },
                _ => Input::Silent { peer },
            };
            cluster.act(node, input);
        }
        "cut" | "deliver" | "drop" | "duplicate" | "hold" | "release" => {
            of_link(words[0], parse_link(arguments[0]), arguments.get(1).copied(), cluster);
        }
        "forge" => {
            let (from, to) = parse_link(arguments[0]);
            cluster.forge(from, to, notation::parse_message(&arguments[1..]));
        }
        "heal" => {
            cluster.network.cut.clear();
            cluster.network.held.clear();
        }
        "hide" => cluster.journal.hidden = arguments.iter().map(|name| (*name).into()).collect(),
        "run" => cluster.run(milliseconds(arguments[0])),
        "settle" => cluster.settle(),
        "show" => cluster.journal.sessions = arguments.contains(&"sessions"),
        "state" => state(cluster),
        "wait" => cluster.pass_to(cluster.now + milliseconds(arguments[0])),
        other => panic!("{other} is no command"),
    }
    cluster.journal.on = true;
}

/// `cluster nodes=3 leader=n1 batch=2 window=1`, or `members=n1,n2,n3w,(n4)` instead of `nodes=`.
fn begin(words: &[&str]) -> Cluster {
    let number = |key, default| field_if_any(words, key).map_or(default, |n: &str| n.parse().expect("a number"));
    let members = |count| Configuration::of_voters((1..=count).map(NodeId));
    let configuration = field_if_any(words, "members").map_or_else(|| members(number("nodes", 3)), parse_members);
    let usual = Habits::default();
    let habits = Habits {
        batch: number("batch", usual.batch),
        window: number("window", usual.window as u64) as usize,
        window_bytes: number("window-bytes", usual.window_bytes),
        entry_bytes: number("entry-bytes", usual.entry_bytes),
        uncommitted: number("uncommitted", usual.uncommitted),
        lease: field_if_any(words, "lease").map(milliseconds),
        sleep: field_if_any(words, "sleep").map(milliseconds),
        priorities: field_if_any(words, "priority").map_or_else(BTreeMap::new, priorities),
        fetches: words.contains(&"fetches"),
        watches: words.contains(&"watches"),
        seed: number("seed", usual.seed),
    };
    let mut cluster = Cluster::of(&configuration, habits);
    if let Some(leader) = field_if_any(words, "leader") {
        cluster.campaign(parse_node(leader));
        cluster.settle();
    }
    cluster
}

/// `n2:5,n3:0`
fn priorities(word: &str) -> BTreeMap<NodeId, u8> {
    let priority = |word: &str| {
        let (node, priority) = word.split_once(':').unwrap_or_else(|| panic!("{word} is no priority"));
        (parse_node(node), priority.parse().expect("a number"))
    };
    word.split(',').map(priority).collect()
}

fn of_node(command: &str, node: NodeId, arguments: &[&str], cluster: &mut Cluster) {
    match command {
        "campaign" => cluster.campaign(node),
        "crash" => cluster.crash(node, 0),
        "fast" => {
            cluster.node_mut(node).disk.slow = false;
            while cluster.persist_one(node) {}
        }
        "isolate" => {
            for peer in cluster.names() {
                cluster.network.cut.extend([(node, peer), (peer, node)]);
            }
        }
        "join" => cluster.join(node),
        "persist" => {
            let count = arguments.first().map_or(usize::MAX, |count| count.parse().expect("how many"));
            for _ in 0..count {
                if !cluster.persist_one(node) {
                    break;
                }
            }
        }
        "propose" => {
            let count = field_if_any(arguments, "count").map_or(1, |count| count.parse().expect("how many"));
            cluster.act(node, Input::Propose { count });
        }
        "read" => {
            cluster.read(node);
        }
        "restart" => {
            let applied = field_if_any(arguments, "applied").map_or(0, |index| index.parse().expect("an index"));
            cluster.start(node, LogIndex(applied));
        }
        "restore" => restore(node, arguments, cluster),
        "slow" => cluster.node_mut(node).disk.slow = true,
        "wake" => cluster.act(node, Input::Wake),
        _ => unreachable!("one of the above"),
    }
}

fn of_replica(command: &str, node: NodeId, arguments: &[&str], cluster: &mut Cluster) {
    match command {
        "change" => {
            let changes = arguments.iter().map(|word| parse_change(word)).collect();
            cluster.act(node, Input::ChangeConfiguration { changes });
        }
        "compact" => {
            let upto = LogIndex(field(arguments, "upto").parse().expect("an index"));
            cluster.act(node, Input::Compact { upto });
        }
        "damage" => {
            let [first, last] = ["first", "last"].map(|key| LogIndex(field(arguments, key).parse().expect("an index")));
            cluster.act(node, Input::Unreadable { first, last });
        }
        "fetch" => cluster.fetch(node, field_if_any(arguments, "from").map(parse_node)),
        "fill" | "free" => cluster.fill(node, command == "fill"),
        "fit" | "unfit" => cluster.act(node, Input::Fitness { fit: command == "fit" }),
        "install" => {
            // A snapshot that was fetched long ago, or that nobody has asked for.
            let id = parse_id(arguments[0]);
            let (at, members) = arguments[1].split_once('=').expect("what counted then, as in 3=n1,n2");
            let configuration = (LogIndex(at.parse().expect("an index")), parse_members(members));
            cluster.receive_snapshot(node, Snapshot { id, configuration });
        }
        "transfer" => {
            let to = field_if_any(arguments, "to").map(parse_node);
            cluster.act(node, Input::Transfer { to });
        }
        _ => unreachable!("one of the above"),
    }
}

/// `restore n1 term=3 vote=n2 log=1..4@1,5@3`: the node starts from a disk that holds this.
fn restore(node: NodeId, arguments: &[&str], cluster: &mut Cluster) {
    let (on, disk) = (cluster.journal.on, &mut cluster.node_mut(node).disk);
    disk.term = Term(field(arguments, "term").parse().expect("a term"));
    disk.vote = field_if_any(arguments, "vote").map(parse_node);
    disk.log = notation::parse_stretch(LogId::ZERO, field(arguments, "log"));
    cluster.journal.on = false;
    cluster.start(node, LogIndex::ZERO);
    cluster.journal.on = on;
}

fn of_link(command: &str, link: Link, nth: Option<&str>, cluster: &mut Cluster) {
    let at = |cluster: &Cluster| {
        let nth = nth.map_or(1, |nth| nth.parse().expect("which one"));
        cluster.network.nth(link, nth).unwrap_or_else(|| panic!("nothing is under way on {link:?}"))
    };
    match command {
        "cut" => {
            cluster.network.cut.insert(link);
        }
        "hold" => {
            cluster.network.held.insert(link);
        }
        "release" => {
            cluster.network.held.remove(&link);
        }
        "deliver" => cluster.deliver(at(cluster)),
        "drop" => {
            let at = at(cluster);
            let packet = cluster.network.flight.remove(at);
            cluster.journal.message(packet.from, "-x", packet.to, &packet.message);
        }
        "duplicate" => {
            let copy = cluster.network.flight[at(cluster)].clone();
            cluster.network.flight.push(copy);
        }
        _ => unreachable!("one of the above"),
    }
}

/// One line a node: what it is, and what it has.
fn state(cluster: &mut Cluster) {
    for name in cluster.names() {
        let line = if cluster.is_up(name) { of_up(name, cluster) } else { of_down(name, cluster) };
        cluster.journal.line(|| line);
    }
}

fn of_up(name: NodeId, cluster: &Cluster) -> String {
    let (raft, applied) = (cluster.raft(name), cluster.node(name).applied);
    let (role_state, log, commit) = (notation::role_state(raft.role_state()), notation::log(raft.log()), raft.commit());
    let members = members_if_changed(raft.configurations());
    let unreadable =
        raft.unreadable().map_or_else(String::new, |(first, last)| format!(", cannot read {first}..{last}"));
    let asleep = if raft.is_asleep() { ", asleep" } else { "" };
    format!("n{name} is {role_state}{asleep}, log {log}, commit {commit}, applied {applied}{unreadable}{members}")
}

fn of_down(name: NodeId, cluster: &Cluster) -> String {
    let disk = &cluster.node(name).disk;
    format!("n{name} is down, log {}{}", notation::log(&disk.log), members_if_changed(&disk.configurations))
}

/// The members, unless they are those with which the group began.
fn members_if_changed(configurations: &Configurations) -> String {
    match configurations.newest_at() {
        LogIndex::ZERO => String::new(),
        at => format!(", members of {at}: {}", notation::members(configurations.newest())),
    }
}

fn milliseconds(word: &str) -> Duration {
    Duration::from_millis(word.trim_end_matches("ms").parse().unwrap_or_else(|_| panic!("{word} is no time")))
}
