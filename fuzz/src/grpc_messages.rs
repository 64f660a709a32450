//! The body of a gRPC call, compressed or not: messages are the same wherever its pieces end.

/// Runs one input.
///
/// # Panics
/// If something does not hold that must.
pub fn run(bytes: &[u8]) {
    vlot_server::fuzzing::grpc_messages(bytes);
}
