//! A process that is killed at any time leaves a prefix of what it applied, whole and consistent.

use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::sync::Arc;
use std::time::Duration;

use vlot_store::command::Command;
use vlot_store::engine::memory::MemoryEngine;
use vlot_store::revision::Position;
use vlot_store::store::{Options, Store};

mod obvious;
use obvious::Dice;

const DIR: &str = "VLOT_STORE_KILL_DIR";

/// The log: the same commands by index in every process.
fn command(index: u64) -> Command {
    Dice(index * 7_919).command(1 + index as i64 / 3)
}

fn advance(store: &mut Store) {
    let index = store.applied().index + 1;
    store.apply(Position { term: 1, index }, command(index)).ok();
    if index.is_multiple_of(7) {
        store.end_batch();
        store.compact_step();
    }
}

/// Does nothing on its own: it is what the other test starts and kills.
#[test]
fn the_victim() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let options =
        Options { commit_interval: Duration::from_millis(2), index_interval_bytes: 300, ..Options::default() };
    let mut store = Store::open(Path::new(&dir), options).unwrap();
    loop {
        advance(&mut store);
    }
}

#[test]
fn a_killed_process_leaves_a_prefix() {
    let dir = std::env::temp_dir().join(format!("vlot-store-kill-{}", std::process::id()));
    let mut replayed = Store::open_still(Arc::new(MemoryEngine::default()), Options::default()).unwrap();
    let mut reached = 0;
    for round in 0..5 {
        let mut victim = Process::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_victim", "--nocapture"])
            .env(DIR, &dir)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(150 + round * 37));
        victim.kill().unwrap();
        victim.wait().unwrap();

        let store = Store::open(&dir, Options::default()).unwrap();
        assert!(store.durable().index >= reached, "what was durable stays");
        reached = store.durable().index;
        while replayed.applied().index < reached {
            advance(&mut replayed);
        }
        assert_eq!((store.revision(), store.hash(0)), (replayed.revision(), replayed.hash(0)), "at {reached}");
        assert!(store.attributes().eq(replayed.attributes()));
    }
    assert!(reached > 0, "the victim lived long enough to make something durable");
    std::fs::remove_dir_all(&dir).unwrap();
}
