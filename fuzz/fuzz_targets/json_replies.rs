//! See `vlot_fuzz::json_replies`.

#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vlot_fuzz::json_replies::run(bytes));
