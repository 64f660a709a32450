//! The flags and variables of a server: read, or refused with a line.

/// Runs one input.
///
/// # Panics
/// If something does not hold that must.
pub fn run(bytes: &[u8]) {
    vlot_server::fuzzing::flags(bytes);
}
