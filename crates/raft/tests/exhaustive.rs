//! Every state that a small group of real replicas can come to, and what must hold of each.

#[path = "exhaustive/mod.rs"]
mod space;

use space::rules::Rules;
use space::search::{Found, search};

fn show(rules: &Rules, found: &Found) {
    println!(
        "{}: {} states, {} moves, depth {}, {} nodes, {} messages, {:?}, {} MB, to the end {}",
        rules.name,
        found.states,
        found.moves,
        found.depth,
        found.nodes,
        found.messages,
        found.time,
        found.bytes >> 20,
        found.to_the_end
    );
    if let Some((broken, story)) = &found.broken {
        println!("{}: {}", broken.property, broken.shown_by);
        for line in story {
            println!("  {line}");
        }
    }
}

fn env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |v| v.parse().unwrap())
}

#[test]
fn trial() {
    let mut rules = Rules::of_three("trial");
    rules.terms = env("T", 2);
    rules.proposals = env("P", 1);
    rules.symmetry = env("SYM", 1) == 1;
    rules.window = env("W", 2) as usize;
    rules.writes_behind = env("SLOW", 0) as usize;
    rules.reconnects = env("RE", 0) == 1;
    rules.refusals = env("REF", 0) == 1;
    rules.pre_votes = env("PRE", 0) == 1;
    if env("CHANGE", 0) > 0 {
        use vlot_raft::id::NodeId;
        use vlot_raft::membership::Change;
        rules.nodes = 4;
        rules.changes = vec![vec![Change::Voter(NodeId(4))], vec![Change::Remove(NodeId(env("GO", 1)))]];
        rules.changes_upto = env("CHANGE", 0);
    }
    rules.heartbeats = env("HB", 0) == 1;
    rules.compaction = env("COMP", 0) == 1;
    let found = search(&rules, env("MAX", 3_000_000) as usize);
    show(&rules, &found);
}
