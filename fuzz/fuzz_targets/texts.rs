//! See `vlot_fuzz::texts`.

#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vlot_fuzz::texts::run(bytes));
