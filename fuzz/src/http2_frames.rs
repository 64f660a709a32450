//! Frames of HTTP/2 from a client: what passes is the same however it comes.

/// Runs one input.
///
/// # Panics
/// If something does not hold that must.
pub fn run(bytes: &[u8]) {
    vlot_server::fuzzing::http2_frames(bytes);
}
