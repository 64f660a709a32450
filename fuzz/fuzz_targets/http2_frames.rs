//! See `vlot_fuzz::http2_frames`.

#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vlot_fuzz::http2_frames::run(bytes));
