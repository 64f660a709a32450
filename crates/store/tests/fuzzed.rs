//! Commands, records, snapshots and transactions (`fuzz/src/`), run without a tool: see `docs/fuzzing.md`.

#[path = "../../../fuzz/src/ordinary.rs"]
mod ordinary;
#[path = "../../../fuzz/src/reader.rs"]
mod reader;
#[path = "../../../fuzz/src/store_commands.rs"]
mod store_commands;
#[path = "../../../fuzz/src/store_records.rs"]
mod store_records;
#[path = "../../../fuzz/src/store_snapshot.rs"]
mod store_snapshot;
#[path = "../../../fuzz/src/txn.rs"]
mod txn;

#[test]
fn store_commands_stays_sound() {
    ordinary::run_corpus("store_commands", store_commands::run);
    ordinary::run_mutated("store_commands", store_commands::run, 1_500);
}

#[test]
fn store_records_stays_sound() {
    ordinary::run_corpus("store_records", store_records::run);
    ordinary::run_mutated("store_records", store_records::run, 5_000);
}

#[test]
fn store_snapshot_stays_sound() {
    ordinary::run_corpus("store_snapshot", store_snapshot::run);
    ordinary::run_mutated("store_snapshot", store_snapshot::run, 2_000);
}

#[test]
fn txn_stays_sound() {
    ordinary::run_corpus("txn", txn::run);
    ordinary::run_mutated("txn", txn::run, 10_000);
}
