//! See `vlot_fuzz::store_commands`.

#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vlot_fuzz::store_commands::run(bytes));
