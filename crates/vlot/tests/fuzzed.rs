//! The peers' port and whatever is said to it (`fuzz/src/peer_port.rs`, `fuzz/src/handshake.rs`), run without a tool: see
//! `docs/fuzzing.md`.

#[path = "../../../fuzz/src/handshake.rs"]
mod handshake;
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

#[test]
fn what_two_nodes_say_first_is_read_or_refused() {
    ordinary::run_corpus("handshake", handshake::run);
    ordinary::run_mutated("handshake", handshake::run, 20_000);
}
