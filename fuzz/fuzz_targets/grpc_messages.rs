//! See `vlot_fuzz::grpc_messages`.

#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vlot_fuzz::grpc_messages::run(bytes));
