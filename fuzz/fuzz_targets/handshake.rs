//! See `vlot_fuzz::handshake`.

#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vlot_fuzz::handshake::run(bytes));
