//! What two nodes say before the first frame: whatever comes is read or refused, and what is read would be said so.

/// Reads the bytes as each of it.
///
/// # Panics
/// If something does not hold that must.
pub fn run(bytes: &[u8]) {
    vlot::fuzzing::read_handshake(bytes);
}
