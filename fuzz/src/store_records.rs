//! What the store reads again: records and blocks of history are read or refused, and what is read would be written so.

/// Runs one input.
///
/// # Panics
/// If something does not hold that must.
pub fn run(bytes: &[u8]) {
    match bytes.split_first() {
        Some((0..0x40, record)) => vlot_store::fuzzing::read_record(record),
        Some((_, events)) => vlot_store::fuzzing::read_block(events),
        None => {}
    }
}
