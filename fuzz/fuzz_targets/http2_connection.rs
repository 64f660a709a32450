//! See `vlot_fuzz::http2_connection`.

#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vlot_fuzz::http2_connection::run(bytes));
