//! See `vlot_fuzz::tokens`.

#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vlot_fuzz::tokens::run(bytes));
