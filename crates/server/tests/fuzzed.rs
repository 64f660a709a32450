//! Bytes of clients and operators (`fuzz/src/`), run without a tool: see `docs/fuzzing.md`.

#[path = "../../../fuzz/src/audit.rs"]
mod audit;
#[path = "../../../fuzz/src/backup.rs"]
mod backup;
#[path = "../../../fuzz/src/config_file.rs"]
mod config_file;
#[path = "../../../fuzz/src/flags.rs"]
mod flags;
#[path = "../../../fuzz/src/grpc_messages.rs"]
mod grpc_messages;
#[path = "../../../fuzz/src/json_replies.rs"]
mod json_replies;
#[path = "../../../fuzz/src/json_requests.rs"]
mod json_requests;
#[path = "../../../fuzz/src/key_files.rs"]
mod key_files;
#[path = "../../../fuzz/src/member_answers.rs"]
mod member_answers;
#[path = "../../../fuzz/src/ordinary.rs"]
mod ordinary;
#[path = "../../../fuzz/src/reader.rs"]
mod reader;
#[path = "../../../fuzz/src/texts.rs"]
mod texts;
#[path = "../../../fuzz/src/tls_opening.rs"]
mod tls_opening;
#[path = "../../../fuzz/src/tokens.rs"]
mod tokens;

#[test]
fn audit_stays_sound() {
    ordinary::run_corpus("audit", audit::run);
    ordinary::run_mutated("audit", audit::run, 2_000);
}

#[test]
fn backup_stays_sound() {
    ordinary::run_corpus("backup", backup::run);
    ordinary::run_mutated("backup", backup::run, 500);
}

#[test]
fn config_file_stays_sound() {
    ordinary::run_corpus("config_file", config_file::run);
    ordinary::run_mutated("config_file", config_file::run, 5_000);
}

#[test]
fn flags_stays_sound() {
    ordinary::run_corpus("flags", flags::run);
    ordinary::run_mutated("flags", flags::run, 2_000);
}

#[test]
fn grpc_messages_stays_sound() {
    ordinary::run_corpus("grpc_messages", grpc_messages::run);
    ordinary::run_mutated("grpc_messages", grpc_messages::run, 2_000);
}

#[test]
fn json_replies_stays_sound() {
    ordinary::run_corpus("json_replies", json_replies::run);
    ordinary::run_mutated("json_replies", json_replies::run, 2_000);
}

#[test]
fn json_requests_stays_sound() {
    ordinary::run_corpus("json_requests", json_requests::run);
    ordinary::run_mutated("json_requests", json_requests::run, 2_000);
}

#[test]
fn key_files_stays_sound() {
    ordinary::run_corpus("key_files", key_files::run);
    ordinary::run_mutated("key_files", key_files::run, 1_000);
}

#[test]
fn member_answers_stays_sound() {
    ordinary::run_corpus("member_answers", member_answers::run);
    ordinary::run_mutated("member_answers", member_answers::run, 5_000);
}

#[test]
fn texts_stays_sound() {
    ordinary::run_corpus("texts", texts::run);
    ordinary::run_mutated("texts", texts::run, 5_000);
}

#[test]
fn tls_opening_stays_sound() {
    ordinary::run_corpus("tls_opening", tls_opening::run);
    ordinary::run_mutated("tls_opening", tls_opening::run, 1_500);
}

#[test]
fn tokens_stays_sound() {
    ordinary::run_corpus("tokens", tokens::run);
    ordinary::run_mutated("tokens", tokens::run, 3_000);
}
