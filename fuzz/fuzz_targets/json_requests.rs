//! See `vlot_fuzz::json_requests`.

#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vlot_fuzz::json_requests::run(bytes));
