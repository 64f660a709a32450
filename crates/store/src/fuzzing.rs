//! The readers of what the store has written, for fuzzers that feed them made-up bytes (`docs/fuzzing.md`). No part of the
//! interface.

use crate::mvcc::history::{Block, Event, find_stored, unseal};
use crate::records;

/// Reads the bytes as one record: the length of its name, the name, the value.
///
/// # Panics
/// If what can be read would not be written so.
pub fn read_record(bytes: &[u8]) {
    let Some((&length, rest)) = bytes.split_first() else { return };
    let (name, value) = rest.split_at(usize::from(length).min(rest.len()));
    let Ok(found) = records::read(vec![(name.to_vec(), value.to_vec())]) else { return };
    let record = (name.to_vec(), value.to_vec());
    if let Some(standing) = found.standing {
        assert_eq!(standing.record(), record);
    }
    for (name, value) in found.attributes {
        assert_eq!(records::attribute(&name, &value), record);
    }
    for lease in found.leases {
        assert_eq!(lease.record(), record);
    }
}

/// Reads the bytes as the events of a block, whose checksum holds.
///
/// # Panics
/// If what can be read is not there to be found, or would not be read again.
pub fn read_block(events: &[u8]) {
    let stored = [&crc32c::crc32c(events).to_le_bytes()[..], events].concat();
    let all: Result<Vec<Event<'_>>, _> = unseal(&stored).expect("the checksum holds").collect();
    let Ok(block) = Block::unsealed(stored.clone()) else { return };
    let all = all.expect("a block has events");
    assert_eq!((block.count(), &block.sealed()), (all.len(), &stored));
    for event in all {
        assert_eq!(block.find(event.revision).as_ref(), Some(&event));
        assert_eq!(find_stored(&stored, event.revision), Ok(Some(event)));
        let mut bytes = Vec::new();
        event.encode(&mut bytes);
        assert!(bytes.len() <= event.encoded_bytes_max());
        assert_eq!(Event::decode(&mut &bytes[..]).as_ref(), Ok(&event));
    }
}
