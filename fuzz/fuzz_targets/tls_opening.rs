//! See `vlot_fuzz::tls_opening`.

#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vlot_fuzz::tls_opening::run(bytes));
