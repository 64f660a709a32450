//! See `vlot_fuzz::flags`.

#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vlot_fuzz::flags::run(bytes));
