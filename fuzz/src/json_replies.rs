//! A reply on its way to JSON: the same in whatever pieces it comes, or refused.

/// Runs one input.
///
/// # Panics
/// If something does not hold that must.
pub fn run(bytes: &[u8]) {
    vlot_server::fuzzing::json_replies(bytes);
}
