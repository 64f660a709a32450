//! The bytes of history: events, and the blocks that they are packed in.
//!
//! Owns the encoding that `docs/disk-format.md` describes. Must not know where a block is kept or what is asked of it.

use prost::encoding::{decode_varint, encode_varint};

use crate::damage::BadBlock;
use crate::mvcc::revision::Revision;

/// A block takes events until it would grow beyond this many bytes; a larger event has a block of its own. One insert
/// into the engine's tree is thereby shared by some fifty small events. With what the engine adds it fills a page of 16 KiB
/// and no more: pages are as long as a power of two.
pub(crate) const BLOCK_BYTES_MAX: usize = (16 << 10) - 128;

/// A block with more events than these takes memory for a whole block at once.
const EVENTS_OF_A_SHORT_BLOCK: usize = 4;

/// What a block starts with, in front of its events: their CRC32C.
const CHECKSUM_BYTES: usize = 4;

const PUT: u8 = 0;
const DELETE: u8 = 1;

/// One change of one key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Event<'a> {
    pub revision: Revision,
    pub key: &'a [u8],
    /// None for a deletion.
    pub put: Option<Written<'a>>,
}

/// What a put left behind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Written<'a> {
    pub create: i64,
    pub version: i64,
    pub lease: i64,
    pub value: &'a [u8],
}

impl<'a> Event<'a> {
    pub fn encode(&self, into: &mut Vec<u8>) {
        into.push(if self.put.is_some() { PUT } else { DELETE });
        encode_varint(self.revision.main as u64, into);
        encode_varint(u64::from(self.revision.sub), into);
        encode_bytes(self.key, into);
        if let Some(put) = self.put {
            encode_varint(put.create as u64, into);
            encode_varint(put.version as u64, into);
            encode_varint(put.lease as u64, into);
            encode_bytes(put.value, into);
        }
    }

    /// Takes the first event off `rest`.
    pub fn decode(rest: &mut &'a [u8]) -> Result<Self, BadBlock> {
        let (&kind, after) = rest.split_first().ok_or(BadBlock::Truncated)?;
        *rest = after;
        let main = varint(rest)? as i64;
        let sub = u32::try_from(varint(rest)?).map_err(|_| BadBlock::Truncated)?;
        let key = slice(rest)?;
        let put = match kind {
            PUT => Some(Written {
                create: varint(rest)? as i64,
                version: varint(rest)? as i64,
                lease: varint(rest)? as i64,
                value: slice(rest)?,
            }),
            DELETE => None,
            other => return Err(BadBlock::UnknownKind(other)),
        };
        Ok(Self { revision: Revision { main, sub }, key, put })
    }

    /// At most so many bytes are needed to encode the event.
    pub fn encoded_bytes_max(&self) -> usize {
        64 + self.key.len() + self.put.map_or(0, |put| put.value.len())
    }
}

fn encode_bytes(bytes: &[u8], into: &mut Vec<u8>) {
    encode_varint(bytes.len() as u64, into);
    into.extend_from_slice(bytes);
}

fn varint(rest: &mut &[u8]) -> Result<u64, BadBlock> {
    // Most numbers here are small.
    if let Some((&byte @ 0..0x80, after)) = rest.split_first() {
        *rest = after;
        return Ok(u64::from(byte));
    }
    decode_varint(rest).map_err(|_| BadBlock::Truncated)
}

fn slice<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], BadBlock> {
    let length = usize::try_from(varint(rest)?).map_err(|_| BadBlock::Truncated)?;
    let (slice, after) = rest.split_at_checked(length).ok_or(BadBlock::Truncated)?;
    *rest = after;
    Ok(slice)
}

/// Events in the order of their revisions, as bytes with a checksum in front that [`Block::sealed`] fills in.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub first: Revision,
    pub last: Revision,
    bytes: Vec<u8>,
    /// Where each event begins.
    starts: Vec<u32>,
}

impl Block {
    pub fn of(event: &Event<'_>) -> Self {
        let mut bytes = Vec::with_capacity(CHECKSUM_BYTES + event.encoded_bytes_max());
        bytes.extend_from_slice(&[0; CHECKSUM_BYTES]);
        event.encode(&mut bytes);
        Self { first: event.revision, last: event.revision, bytes, starts: vec![CHECKSUM_BYTES as u32] }
    }

    /// A block as it is stored, once its checksum holds.
    pub fn unsealed(stored: Vec<u8>) -> Result<Self, BadBlock> {
        let mut starts = Vec::new();
        let mut range: Option<(Revision, Revision)> = None;
        let mut events = unseal(&stored)?;
        while !events.rest.is_empty() {
            starts.push((stored.len() - events.rest.len()) as u32);
            let Some(event) = events.next().transpose()? else { break };
            if range.is_some_and(|(_, last)| last >= event.revision) {
                return Err(BadBlock::OutOfOrder(event.revision));
            }
            range = Some((range.map_or(event.revision, |(first, _)| first), event.revision));
        }
        let (first, last) = range.ok_or(BadBlock::Truncated)?;
        Ok(Self { first, last, bytes: stored, starts })
    }

    pub fn has_room_for(&self, bytes: usize) -> bool {
        self.bytes.len() + bytes <= BLOCK_BYTES_MAX
    }

    /// Adds a later event.
    pub fn push(&mut self, event: &Event<'_>) {
        assert!(event.revision > self.last, "{} comes after {}", event.revision, self.last);
        if self.count() == EVENTS_OF_A_SHORT_BLOCK {
            // More are probably to come: as many as fill it, if they are like those that it has.
            let room = BLOCK_BYTES_MAX.saturating_sub(self.bytes.len());
            self.starts.reserve(room / (self.bytes.len() / EVENTS_OF_A_SHORT_BLOCK).max(16));
            self.bytes.reserve(room);
        }
        self.starts.push(self.bytes.len() as u32);
        event.encode(&mut self.bytes);
        self.last = event.revision;
    }

    /// This block's events and those of a later one.
    pub fn joined(&self, later: &Block) -> Self {
        assert!(later.first > self.last, "{} comes after {}", later.first, self.last);
        let moved = (self.bytes.len() - CHECKSUM_BYTES) as u32;
        Self {
            first: self.first,
            last: later.last,
            bytes: [&self.bytes[..], &later.bytes[CHECKSUM_BYTES..]].concat(),
            starts: self.starts.iter().copied().chain(later.starts.iter().map(|start| start + moved)).collect(),
        }
    }

    /// What is left without the events that are not wanted.
    pub fn filtered(&self, mut is_wanted: impl FnMut(&Event<'_>) -> bool) -> Option<Self> {
        let mut left: Option<Self> = None;
        for event in self.events().flatten().filter(|event| is_wanted(event)) {
            match &mut left {
                Some(block) => block.push(&event),
                None => left = Some(Self::of(&event)),
            }
        }
        left
    }

    /// Gives back memory that was taken for events that did not come.
    pub fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.starts.shrink_to_fit();
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn count(&self) -> usize {
        self.starts.len()
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn events(&self) -> Events<'_> {
        Events { rest: &self.bytes[CHECKSUM_BYTES..] }
    }

    /// The event of this very revision.
    pub fn find(&self, revision: Revision) -> Option<Event<'_>> {
        let guess = revision.place_between(self.first, self.last, self.count());
        if self.revision_at(guess) == Some(revision) {
            return self.event_at(guess);
        }
        let place = first_from(self.count(), guess, |place| self.revision_at(place) < Some(revision));
        self.event_at(place).filter(|event| event.revision == revision)
    }

    /// Where the event of this place begins, or the last one ends.
    fn start(&self, place: usize) -> usize {
        self.starts.get(place).map_or(self.bytes.len(), |start| *start as usize)
    }

    /// How far the events from a place on fit into so many bytes.
    fn place_within(&self, place: usize, bytes: usize) -> usize {
        let end = self.start(place) + bytes;
        let behind =
            self.starts.get(place + 1..).map_or(0, |starts| starts.partition_point(|start| *start as usize <= end));
        place + behind + usize::from(place + behind + 1 == self.count() && self.bytes.len() <= end)
    }

    fn event_at(&self, place: usize) -> Option<Event<'_>> {
        let mut rest = &self.bytes[*self.starts.get(place)? as usize..];
        Some(Event::decode(&mut rest).expect("a block in memory holds what was encoded into it"))
    }

    fn revision_at(&self, place: usize) -> Option<Revision> {
        let mut rest = &self.bytes[*self.starts.get(place)? as usize + 1..];
        let main = varint(&mut rest).ok()? as i64;
        Some(Revision { main, sub: varint(&mut rest).ok()? as u32 })
    }

    /// The block's bytes as they are stored.
    pub fn sealed(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        seal(&mut bytes);
        bytes
    }
}

/// The first of so many places that is not before what is looked for. A good guess makes for a short search.
pub(crate) fn first_from(count: usize, guess: usize, is_before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high);
    let mut step = 1;
    if guess < count && is_before(guess) {
        low = guess + 1;
        while low + step <= count && is_before(low + step - 1) {
            low += step;
            step *= 2;
        }
        high = count.min(low + step - 1);
    } else {
        high = count.min(guess);
        while high >= step && !is_before(high - step) {
            high -= step;
            step *= 2;
        }
        low = (high + 1).saturating_sub(step);
    }
    while low < high {
        let middle = (low + high) / 2;
        if is_before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// Blocks that follow each other as they are stored: each stored one is filled with events, wherever those in memory ended.
/// With the revision of its first event.
pub(crate) fn stored_blocks(blocks: &[impl std::borrow::Borrow<Block>]) -> Vec<(Revision, Vec<u8>)> {
    let mut stored: Vec<(Revision, Vec<u8>)> = Vec::new();
    for block in blocks {
        let block = block.borrow();
        let mut place = 0;
        while let Some(first) = block.revision_at(place) {
            let room = stored.last().map_or(0, |(_, bytes)| BLOCK_BYTES_MAX.saturating_sub(bytes.len()));
            let mut upto = block.place_within(place, room);
            if upto == place {
                let mut bytes = Vec::with_capacity(BLOCK_BYTES_MAX);
                bytes.extend_from_slice(&[0; CHECKSUM_BYTES]);
                stored.push((first, bytes));
                // An event that is larger than a block has one of its own.
                upto = block.place_within(place, BLOCK_BYTES_MAX - CHECKSUM_BYTES).max(place + 1);
            }
            if let Some((_, bytes)) = stored.last_mut() {
                bytes.extend_from_slice(&block.bytes[block.start(place)..block.start(upto)]);
            }
            place = upto;
        }
    }
    stored.iter_mut().for_each(|(_, bytes)| seal(bytes));
    stored
}

/// Fills in the checksum.
fn seal(block: &mut [u8]) {
    let (checksum, events) = block.split_at_mut(CHECKSUM_BYTES);
    checksum.copy_from_slice(&crc32c::crc32c(events).to_le_bytes());
}

/// The events of a stored block, once its checksum holds.
pub(crate) fn unseal(stored: &[u8]) -> Result<Events<'_>, BadBlock> {
    let (checksum, events) = stored.split_first_chunk::<CHECKSUM_BYTES>().ok_or(BadBlock::Truncated)?;
    let (expected, found) = (u32::from_le_bytes(*checksum), crc32c::crc32c(events));
    if expected != found {
        return Err(BadBlock::Checksum { expected, found });
    }
    Ok(Events { rest: events })
}

/// The event of this very revision in a stored block, once the block's checksum holds. What is behind it is not decoded.
pub(crate) fn find_stored(stored: &[u8], revision: Revision) -> Result<Option<Event<'_>>, BadBlock> {
    for event in unseal(stored)? {
        let event = event?;
        if event.revision >= revision {
            return Ok(Some(event).filter(|event| event.revision == revision));
        }
    }
    Ok(None)
}

/// Reads one event after the other. Ends after the first one that cannot be read.
#[derive(Clone, Debug)]
pub(crate) struct Events<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Events<'a> {
    type Item = Result<Event<'a>, BadBlock>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let event = Event::decode(&mut self.rest);
        if event.is_err() {
            self.rest = &[];
        }
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(main: i64, value: &[u8]) -> Event<'_> {
        let put = Written { create: 2, version: main - 1, lease: 0, value };
        Event { revision: Revision { main, sub: 3 }, key: b"key", put: Some(put) }
    }

    fn sealed() -> Vec<u8> {
        let mut block = Block::of(&put(2, b"value"));
        block.push(&Event { revision: Revision::first_of(3), key: b"gone", put: None });
        block.joined(&Block::of(&put(i64::MAX, b""))).sealed()
    }

    #[test]
    fn events_survive_their_block() {
        let stored = sealed();
        let events: Vec<_> = unseal(&stored).unwrap().map(Result::unwrap).collect();
        let gone = Event { revision: Revision::first_of(3), key: b"gone", put: None };
        assert_eq!(events, [put(2, b"value"), gone, put(i64::MAX, b"")]);
    }

    #[test]
    fn an_event_is_found_by_its_revision() {
        let mut block = Block::of(&put(2, b"2"));
        block.push(&put(4, b"4"));
        let block = block.joined(&Block::of(&put(9, b"9")));
        for main in 1..11 {
            let value = main.to_string();
            let expected = [2, 4, 9].contains(&main).then(|| put(main, value.as_bytes()));
            assert_eq!(block.find(Revision { main, sub: 3 }), expected);
            assert_eq!(block.find(Revision { main, sub: 2 }), None);
        }
        let unsealed = Block::unsealed(block.sealed()).unwrap();
        assert!((2..10).all(|main| unsealed.find(Revision { main, sub: 3 }) == block.find(Revision { main, sub: 3 })));
        let stored = block.sealed();
        assert!((1..11).all(|main| {
            [2, 3, 4]
                .map(|sub| Revision { main, sub })
                .into_iter()
                .all(|revision| find_stored(&stored, revision) == Ok(block.find(revision)))
        }));
        let without = block.filtered(|event| event.revision.main != 4).unwrap();
        assert_eq!((without.count(), without.find(Revision { main: 9, sub: 3 })), (2, Some(put(9, b"9"))));
        assert!(block.filtered(|_| false).is_none());
    }

    #[test]
    fn stored_blocks_are_filled_and_hold_all_events_in_order() {
        let values: Vec<Vec<u8>> =
            (0..400_usize).map(|place| vec![7; if place % 90 == 89 { 20_000 } else { place * 13 % 700 }]).collect();
        for per_block in [1, 3, 50] {
            let mut blocks: Vec<Block> = Vec::new();
            for (place, value) in values.iter().enumerate() {
                let event = put(2 + place as i64, value);
                match blocks.last_mut().filter(|block| block.count() < per_block) {
                    Some(block) => block.push(&event),
                    None => blocks.push(Block::of(&event)),
                }
            }
            let stored = stored_blocks(&blocks);
            let mut found = Vec::new();
            for (place, (first, bytes)) in stored.iter().enumerate() {
                let events: Vec<_> = unseal(bytes).unwrap().map(Result::unwrap).collect();
                assert_eq!(events[0].revision, *first);
                assert!(bytes.len() <= BLOCK_BYTES_MAX || events.len() == 1);
                let next = stored.get(place + 1).and_then(|(_, next)| unseal(next).unwrap().next()?.ok());
                let would_fit = next.is_some_and(|next| {
                    let mut encoded = Vec::new();
                    next.encode(&mut encoded);
                    bytes.len() + encoded.len() <= BLOCK_BYTES_MAX
                });
                assert!(!would_fit, "block {place} of {} bytes has room", bytes.len());
                found.extend(events);
            }
            assert_eq!(found.len(), values.len());
            assert!(found.iter().zip(&values).all(|(event, value)| event.put.unwrap().value == value));
        }
        assert!(stored_blocks(&[] as &[Block]).is_empty());
    }

    #[test]
    fn a_search_finds_the_same_place_from_any_guess() {
        for count in 0..40 {
            for place in 0..=count {
                for guess in 0..count + 3 {
                    assert_eq!(first_from(count, guess, |other| other < place), place, "{count} {guess}");
                }
            }
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let stored = sealed();
        for bit in 0..stored.len() * 8 {
            let mut damaged = stored.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(&damaged).is_err() && find_stored(&damaged, Revision::first_of(3)).is_err(), "bit {bit}");
        }
        for length in 0..stored.len() {
            assert!(unseal(&stored[..length]).is_err(), "length {length}");
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_panic() {
        let mut noise = 1u32;
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..20)
                .map(|_| {
                    noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (noise >> 24) as u8 & 0x8f
                })
                .collect();
            Events { rest: &bytes }.for_each(drop);
        }
    }
}
