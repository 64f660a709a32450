//! A log whose files are not as they were left (`fuzz/src/log_recovery.rs`), run without a tool: see `docs/fuzzing.md`.

#[path = "../../../fuzz/src/log_recovery.rs"]
mod log_recovery;
mod model;
#[path = "../../../fuzz/src/ordinary.rs"]
mod ordinary;
#[path = "../../../fuzz/src/reader.rs"]
mod reader;

#[test]
fn what_was_found_interesting_is_refused_or_makes_sense() {
    ordinary::run_corpus("log_recovery", log_recovery::run);
}

#[test]
fn chance_makes_no_wrong_entry() {
    ordinary::run_rng("log_recovery", log_recovery::run, 2000, 120);
}
