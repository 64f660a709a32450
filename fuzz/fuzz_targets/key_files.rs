//! See `vlot_fuzz::key_files`.

#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vlot_fuzz::key_files::run(bytes));
