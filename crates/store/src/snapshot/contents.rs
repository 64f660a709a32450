//! What is in a snapshot's stream, without making a store of it.

use std::collections::HashSet;
use std::io::Read;

use super::{Flaw, Part, Reader, RestoreError};
use crate::damage::BadBlock;
use crate::mvcc::history;
use crate::mvcc::revision::Position;
use crate::records::{self, Standing};

/// What is in a snapshot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Contents {
    /// The position whose effect it has, and that of all before.
    pub position: Position,
    /// The newest revision.
    pub revision: i64,
    /// The oldest revision that can be read; -1 if nothing was ever compacted.
    pub compacted_revision: i64,
    /// Keys that are there at the newest revision.
    pub keys: usize,
    /// The checksum (CRC32C) of the whole stream.
    pub checksum: u32,
}

/// Reads a stream to its end, and checks all that [`Store::restore`](crate::store::Store::restore) checks. The keys are in
/// memory meanwhile, their values are not.
///
/// # Errors
/// `Io`, or `Damaged`.
pub fn inspect(from: &mut dyn Read) -> Result<Contents, RestoreError> {
    let mut stream = Reader { from, offset: 0, crc: 0 };
    stream.expect_magic()?;
    let mut living: HashSet<Vec<u8>> = HashSet::new();
    let mut standing: Option<Standing> = None;
    let (mut records, mut blocks, mut newest) = (0_u64, 0_u64, None);
    loop {
        match stream.next_part()? {
            Part::Record(name, value) => {
                records += 1;
                let found = records::read(vec![(name, value)]).map_err(|bad| stream.damaged(Flaw::Record(bad)))?;
                standing = found.standing.or(standing);
            }
            Part::Block(revision, block) => {
                blocks += 1;
                if newest.replace(revision).is_some_and(|newest| newest >= revision) {
                    return Err(stream.damaged(Flaw::BlocksOutOfOrder));
                }
                take_in(&block, &mut living).map_err(|bad| stream.damaged(Flaw::Block(bad)))?;
            }
            Part::End { records: all_records, blocks: all_blocks } => {
                if (records, blocks) != (all_records, all_blocks) {
                    return Err(stream.damaged(Flaw::PartsMissing));
                }
                break;
            }
        }
    }
    stream.expect_end()?;
    let Standing { position, revision, compacted } = standing.ok_or_else(|| stream.damaged(Flaw::NoPosition))?;
    Ok(Contents { position, revision, compacted_revision: compacted, keys: living.len(), checksum: stream.crc })
}

fn take_in(block: &[u8], living: &mut HashSet<Vec<u8>>) -> Result<(), BadBlock> {
    for event in history::unseal(block)? {
        let event = event?;
        if event.put.is_none() {
            living.remove(event.key);
        } else if !living.contains(event.key) {
            living.insert(event.key.to_vec());
        }
    }
    Ok(())
}
