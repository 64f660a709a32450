//! See `vlot_fuzz::member_answers`.

#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vlot_fuzz::member_answers::run(bytes));
