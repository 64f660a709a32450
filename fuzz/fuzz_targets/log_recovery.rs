//! See `vlot_fuzz::log_recovery`.

#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vlot_fuzz::log_recovery::run(bytes));
