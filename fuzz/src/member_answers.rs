//! What a member answers to the question for the cluster's members: read or refused, whoever it is that answers.

/// Runs one input.
///
/// # Panics
/// If something does not hold that must.
pub fn run(bytes: &[u8]) {
    vlot_server::fuzzing::member_answers(bytes);
}
