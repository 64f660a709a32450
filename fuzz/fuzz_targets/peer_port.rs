//! See `vlot_fuzz::peer_port`.

#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vlot_fuzz::peer_port::run(bytes));
