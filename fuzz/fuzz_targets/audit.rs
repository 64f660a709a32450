//! See `vlot_fuzz::audit`.

#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vlot_fuzz::audit::run(bytes));
