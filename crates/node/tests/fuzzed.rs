//! One node whose peers send any bytes (`fuzz/src/peer_frames.rs`), run without a tool: see `docs/fuzzing.md`.

#[path = "../../../fuzz/src/message.rs"]
mod message;
#[path = "../../../fuzz/src/ordinary.rs"]
mod ordinary;
#[path = "../../../fuzz/src/peer_frames.rs"]
mod peer_frames;
#[path = "../../../fuzz/src/reader.rs"]
mod reader;

#[test]
fn what_was_found_interesting_stops_nobody() {
    ordinary::run_corpus("peer_frames", peer_frames::run);
}

#[test]
fn chance_stops_nobody() {
    ordinary::run_rng("peer_frames", peer_frames::run, 4000, 600);
}
