//! See `vlot_fuzz::config_file`.

#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vlot_fuzz::config_file::run(bytes));
