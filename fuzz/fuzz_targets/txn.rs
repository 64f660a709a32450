//! See `vlot_fuzz::txn`.

#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vlot_fuzz::txn::run(bytes));
