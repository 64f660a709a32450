//! See `vlot_fuzz::cli_answers`.

#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vlot_fuzz::cli_answers::run(bytes));
