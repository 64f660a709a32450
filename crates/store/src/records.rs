//! The small records beside history: where the store stands, the attributes, and the leases.
//!
//! Owns their names and bytes, as `docs/disk-format.md` describes them.

use bytes::Bytes;

use crate::damage::BadRecord;
use crate::engine::Record;
use crate::lease::Time;
use crate::mvcc::revision::Position;

const STANDING: &[u8] = b"s";
const ATTRIBUTE: u8 = b'a';
const LEASE: u8 = b'l';
const LEASE_TIME: &[u8] = b"t";
/// The first byte of the standing: how blocks and records are encoded.
const FORMAT: u8 = 1;
const STANDING_BYTES: usize = 1 + 4 * 8 + 4;

/// Where the store stands. Written in the same transaction as the history that led there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Standing {
    pub position: Position,
    /// Kept apart from history, which may lose its newest event to compaction: the revision never falls.
    pub revision: i64,
    pub compacted: i64,
}

impl Standing {
    pub const EMPTY: Self = Self { position: Position { term: 0, index: 0 }, revision: 1, compacted: -1 };

    pub fn record(&self) -> Record {
        let mut bytes = Vec::with_capacity(STANDING_BYTES);
        bytes.push(FORMAT);
        for number in [self.position.term, self.position.index, self.revision as u64, self.compacted as u64] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        (STANDING.to_vec(), bytes)
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        let (numbers, checksum) = bytes.split_last_chunk::<4>()?;
        if bytes.len() != STANDING_BYTES
            || u32::from_le_bytes(*checksum) != crc32c::crc32c(numbers)
            || bytes[0] != FORMAT
        {
            return None;
        }
        let number = |place: usize| {
            let bytes = &numbers[1 + 8 * place..][..8];
            u64::from_le_bytes(bytes.try_into().expect("a slice of eight bytes"))
        };
        let position = Position { term: number(0), index: number(1) };
        Some(Self { position, revision: number(2) as i64, compacted: number(3) as i64 })
    }
}

/// The record of an attribute; an empty value removes it.
pub(crate) fn attribute(name: &[u8], value: &[u8]) -> Record {
    let mut full = Vec::with_capacity(1 + name.len());
    full.push(ATTRIBUTE);
    full.extend_from_slice(name);
    (full, value.to_vec())
}

/// A lease as it is written down. Its keys are found in history.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct LeaseRecord {
    pub id: i64,
    pub ttl: i64,
    pub renewal: u64,
    pub end: Option<u64>,
}

impl LeaseRecord {
    pub fn record(&self) -> Record {
        // Zero says that it does not run: no lease ends at zero, since each lives for a second at least.
        let numbers = [self.ttl as u64, self.renewal, self.end.unwrap_or(0)];
        (lease_name(self.id), numbers.iter().flat_map(|number| number.to_le_bytes()).collect())
    }

    fn of(short: &[u8], value: &[u8]) -> Option<Self> {
        let id = i64::from_be_bytes(short.try_into().ok()?);
        let [ttl, renewal, end] = numbers(value)?;
        Some(Self { id, ttl: ttl as i64, renewal, end: (end != 0).then_some(end) })
    }
}

/// Takes the record of a lease away.
pub(crate) fn no_lease(id: i64) -> Record {
    (lease_name(id), Vec::new())
}

fn lease_name(id: i64) -> Vec<u8> {
    let mut name = vec![LEASE];
    name.extend_from_slice(&id.to_be_bytes());
    name
}

/// The record of cluster time.
pub(crate) fn lease_time(Time { now, renewals }: Time) -> Record {
    (LEASE_TIME.to_vec(), [now, renewals].iter().flat_map(|number| number.to_le_bytes()).collect())
}

/// Exactly so many numbers of eight bytes.
fn numbers<const COUNT: usize>(bytes: &[u8]) -> Option<[u64; COUNT]> {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let chunks: &[[u8; 8]; COUNT] = chunks.try_into().ok().filter(|_| rest.is_empty())?;
    Some(chunks.map(u64::from_le_bytes))
}

/// What a store finds in its records.
#[derive(Debug)]
pub(crate) struct Found {
    /// None in an engine that was never written to.
    pub standing: Option<Standing>,
    pub attributes: Vec<(Bytes, Bytes)>,
    pub leases: Vec<LeaseRecord>,
    pub lease_time: Time,
}

/// Reads the records, or names the first that is not as it should be.
pub(crate) fn read(records: Vec<Record>) -> Result<Found, BadRecord> {
    let mut found = Found { standing: None, attributes: Vec::new(), leases: Vec::new(), lease_time: Time::default() };
    for (name, value) in records {
        match name.split_first() {
            Some((&ATTRIBUTE, short)) => {
                found.attributes.push((Bytes::copy_from_slice(short), value.into()));
            }
            Some((&LEASE, short)) => {
                let lease = LeaseRecord::of(short, &value);
                found.leases.push(lease.ok_or_else(|| BadRecord::Lease { name: name.clone() })?);
            }
            _ if name == LEASE_TIME => {
                let [now, renewals] = numbers(&value).ok_or(BadRecord::Lease { name })?;
                found.lease_time = Time { now, renewals };
            }
            _ if name == STANDING => {
                let standing = Standing::of(&value).ok_or(BadRecord::Standing)?;
                found.standing = Some(standing);
            }
            _ => return Err(BadRecord::Unknown { name }),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_and_damage_is_seen() {
        let standing = Standing { position: Position { term: 3, index: 9 }, revision: 7, compacted: -1 };
        let found = read(vec![standing.record(), attribute(b"name", b"value")]).unwrap();
        assert_eq!(found.standing, Some(standing));
        assert_eq!(found.attributes, [(Bytes::from("name"), Bytes::from("value"))]);
        let leases = [
            LeaseRecord { id: -3, ttl: 60, renewal: 9, end: None },
            LeaseRecord { id: 5, ttl: 2, renewal: 11, end: Some(7) },
        ];
        let time = Time { now: 5, renewals: 11 };
        let found = read(vec![leases[0].record(), lease_time(time), leases[1].record()]).unwrap();
        assert_eq!((&found.leases[..], found.lease_time), (&leases[..], time));
        for (name, value) in [leases[0].record(), lease_time(time)] {
            assert!(read(vec![(name.clone(), value[1..].to_vec())]).is_err());
            assert!(read(vec![([&name[..], &[0]].concat(), value)]).is_err());
        }
        let (name, bytes) = standing.record();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(read(vec![(name.clone(), damaged)]).is_err(), "bit {bit}");
        }
        assert!(read(vec![(b"x".to_vec(), vec![])]).is_err());
    }
}
