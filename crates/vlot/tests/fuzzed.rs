//! The peers' port and whatever is said to it (`fuzz/src/peer_port.rs`), run without a tool: see `docs/fuzzing.md`.

#[path = "../../../fuzz/src/ordinary.rs"]
mod ordinary;
#[path = "../../../fuzz/src/peer_port.rs"]
mod peer_port;

#[test]
fn what_was_found_interesting_stops_nobody() {
    ordinary::run_corpus("peer_port", peer_port::run);
}

#[test]
fn chance_stops_nobody() {
    ordinary::run_rng("peer_port", peer_port::run, 1000, 400);
}
