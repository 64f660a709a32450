//! The configuration file of a server: read, or refused with a line that names the file.

/// Runs one input.
///
/// # Panics
/// If something does not hold that must.
pub fn run(bytes: &[u8]) {
    vlot_server::fuzzing::config_file(bytes);
}
