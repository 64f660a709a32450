//! The body of a gateway's call: what is read is written so that it is read again.

/// Runs one input.
///
/// # Panics
/// If something does not hold that must.
pub fn run(bytes: &[u8]) {
    vlot_server::fuzzing::json_requests(bytes);
}
