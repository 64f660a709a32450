//! Texts of headers, paths, URLs and durations: read or refused.

/// Runs one input.
///
/// # Panics
/// If something does not hold that must.
pub fn run(bytes: &[u8]) {
    vlot_server::fuzzing::texts(bytes);
}
