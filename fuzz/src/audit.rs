//! A request as the audit tells of it: bounded, and without a value.

/// Runs one input.
///
/// # Panics
/// If something does not hold that must.
pub fn run(bytes: &[u8]) {
    vlot_server::fuzzing::audit(bytes);
}
