//! One node whose peers send any bytes (`fuzz/src/peer_frames.rs`), and a typed state that is given any calls (`typed.rs`), run without a tool: see `docs/fuzzing.md`.

#[path = "../../../fuzz/src/message.rs"]
mod message;
#[path = "../../../fuzz/src/ordinary.rs"]
mod ordinary;
#[path = "../../../fuzz/src/peer_frames.rs"]
mod peer_frames;
#[path = "../../../fuzz/src/reader.rs"]
mod reader;
#[path = "../../../fuzz/src/typed.rs"]
mod typed;

#[test]
fn what_was_found_interesting_stops_nobody() {
    ordinary::run_corpus("peer_frames", peer_frames::run);
}

#[test]
fn chance_stops_nobody() {
    ordinary::run_rng("peer_frames", peer_frames::run, 4000, 600);
}

#[test]
fn typed_stays_sound() {
    ordinary::run_corpus("typed", typed::run);
    ordinary::run_mutated("typed", typed::run, 5_000);
}
