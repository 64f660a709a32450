//! See `vlot_fuzz::peer_frames`.

#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vlot_fuzz::peer_frames::run(bytes));
