//! See `vlot_fuzz::replica`.

#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vlot_fuzz::replica::run(bytes));
