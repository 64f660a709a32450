//! What the command line is answered (`fuzz/src/cli_answers.rs`), run without a tool: see `docs/fuzzing.md`.

#[path = "../../../fuzz/src/cli_answers.rs"]
mod cli_answers;
#[path = "../../../fuzz/src/ordinary.rs"]
mod ordinary;

#[test]
fn cli_answers_stays_sound() {
    ordinary::run_corpus("cli_answers", cli_answers::run);
    ordinary::run_mutated("cli_answers", cli_answers::run, 10_000);
}
