//! Runs a target with no tool: on the inputs that are kept, and on some that are made by chance.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

/// Every input in `fuzz/corpus/` that is kept for this target; or the one in the file that `VLOT_INPUT` names.
///
/// # Panics
/// If one fails, or there is none.
pub fn run_corpus(target: &str, run: fn(&[u8])) {
    if let Some(path) = std::env::var_os("VLOT_INPUT") {
        return run(&std::fs::read(path).expect("the file that VLOT_INPUT names"));
    }
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let files = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut count = 0;
    for file in files {
        let path = file.expect("a file of the corpus").path();
        let bytes = std::fs::read(&path).expect("a readable file of the corpus");
        run_one(run, &bytes, || println!("{} fails", path.display()));
        count += 1;
    }
    assert!(count >= 10, "a corpus in {}", dir.display());
}

/// As many inputs of chance, each of up to `bytes_max` bytes. One that fails is kept for a closer look.
///
/// # Panics
/// If one fails.
pub fn run_rng(target: &str, run: fn(&[u8]), count: u64, bytes_max: usize) {
    for seed in 0..count {
        let mut state = seed;
        let length = draw(&mut state) as usize % bytes_max;
        let bytes: Vec<u8> = (0..length).map(|_| draw(&mut state) as u8).collect();
        run_one(run, &bytes, || {
            let kept = std::env::temp_dir().join(format!("vlot-{target}-{seed}"));
            println!("seed {seed} fails; its input is in {}: {:?}", kept.display(), std::fs::write(&kept, &bytes));
        });
    }
}

fn run_one(run: fn(&[u8]), bytes: &[u8], tell: impl FnOnce()) {
    if let Err(failure) = catch_unwind(AssertUnwindSafe(|| run(bytes))) {
        tell();
        resume_unwind(failure);
    }
}

/// SplitMix64.
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Inputs of the corpus, changed by chance from the same seed each time: so many of them, or as many as fit into the seconds that
/// `VLOT_FUZZ_SECONDS` says. One that fails is kept for a closer look.
///
/// # Panics
/// If one fails, or there is no corpus.
pub fn run_mutated(target: &str, run: fn(&[u8]), count: u64) {
    if std::env::var_os("VLOT_INPUT").is_some() {
        return;
    }
    let corpus = corpus(target);
    let until = std::env::var("VLOT_FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let until = until.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    for seed in 0.. {
        if until.map_or(seed >= count, |until| Instant::now() >= until) {
            return;
        }
        let bytes = mutated(&corpus, &mut (seed ^ 0x5eed_0000_0000));
        run_one(run, &bytes, || {
            let kept = std::env::temp_dir().join(format!("vlot-{target}-mutated-{seed}"));
            println!("seed {seed} fails; its input is in {}: {:?}", kept.display(), std::fs::write(&kept, &bytes));
        });
    }
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let files = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut paths: Vec<_> = files.map(|file| file.expect("a file of the corpus").path()).collect();
    // The same order everywhere.
    paths.sort();
    assert!(!paths.is_empty(), "a corpus in {}", dir.display());
    paths.iter().map(|path| std::fs::read(path).expect("a readable file of the corpus")).collect()
}

fn mutated(corpus: &[Vec<u8>], state: &mut u64) -> Vec<u8> {
    let mut below = |bound: usize| draw(state) as usize % bound.max(1);
    let mut bytes = corpus[below(corpus.len())].clone();
    for _ in 0..=below(6) {
        let place = below(bytes.len());
        match below(7) {
            0 if !bytes.is_empty() => bytes[place] ^= 1 << below(8),
            1 if !bytes.is_empty() => bytes[place] = below(256) as u8,
            2 => bytes.insert(place, below(256) as u8),
            3 if !bytes.is_empty() => drop(bytes.drain(place..(place + 1 + below(8)).min(bytes.len()))),
            4 => {
                let end = (place + below(32)).min(bytes.len());
                let again = bytes[place..end].to_vec();
                bytes.splice(place..place, again);
            }
            5 => {
                let other = &corpus[below(corpus.len())];
                let from = below(other.len());
                bytes.truncate(place);
                bytes.extend_from_slice(&other[from..]);
            }
            _ if !bytes.is_empty() => bytes[place] = [0, 1, 0x7f, 0x80, 0xff][below(5)],
            _ => {}
        }
    }
    bytes.truncate(1 << 16);
    bytes
}
