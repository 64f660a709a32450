//! One replica whose peers say anything (`fuzz/src/replica.rs`), run without a tool: see `docs/fuzzing.md`.

#[path = "../../../fuzz/src/message.rs"]
mod message;
#[path = "../../../fuzz/src/ordinary.rs"]
mod ordinary;
#[path = "../../../fuzz/src/reader.rs"]
mod reader;
#[path = "../../../fuzz/src/replica.rs"]
mod replica;

#[test]
fn what_was_found_interesting_stays_sound() {
    ordinary::run_corpus("replica", replica::run);
}

#[test]
fn chance_breaks_nothing() {
    ordinary::run_rng("replica", replica::run, 3000, 1000);
}
