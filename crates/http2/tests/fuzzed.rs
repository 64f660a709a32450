//! Bytes of clients (`fuzz/src/`), run without a tool: see `docs/fuzzing.md`.

#[path = "../../../fuzz/src/http2_connection.rs"]
mod http2_connection;
#[path = "../../../fuzz/src/ordinary.rs"]
mod ordinary;

#[test]
fn http2_connection_stays_sound() {
    ordinary::run_corpus("http2_connection", http2_connection::run);
    ordinary::run_mutated("http2_connection", http2_connection::run, 20_000);
}
