//! See `vlot_fuzz::backup`.

#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vlot_fuzz::backup::run(bytes));
