//! See `vlot_fuzz::typed`.

#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vlot_fuzz::typed::run(bytes));
