//! See `vlot_fuzz::store_records`.

#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vlot_fuzz::store_records::run(bytes));
