//! Runs a target with no tool: on the inputs that are kept, and on some that are made by chance.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

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
