//! A snapshot of the store that was damaged or forged, with its checksums mended or not: who looks at it and who takes it over
//! say the same, and a store that does not take it over stays what it was.

use std::sync::Arc;
use std::sync::LazyLock;

use vlot_proto::etcdserverpb::{DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest};
use vlot_store::command::Command;
use vlot_store::engine::memory::MemoryEngine;
use vlot_store::revision::Position;
use vlot_store::snapshot::{RestoreError, inspect};
use vlot_store::store::{Options, Store};

use super::reader::Reader;

const MAGIC_BYTES: usize = 8;
const FRONT_BYTES: usize = 5;
const CRC_BYTES: usize = 4;
const BLOCK: u8 = 2;
const END: u8 = 3;
/// Where a block's own checksum is in its part, behind its revision.
const BLOCK_CRC_AT: usize = 12;

/// Runs one input.
///
/// # Panics
/// If something does not hold that must.
pub fn run(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    let stream = if reader.one_in(4) { reader.bytes(bytes.len()).to_vec() } else { forged(&mut reader) };
    let seen = inspect(&mut &stream[..]);
    let mut store = new();
    apply(&mut store, 1, Command::Put(PutRequest { key: "own".into(), ..PutRequest::default() }));
    let before = (store.revision(), store.applied());
    match (seen, store.restore(&mut &stream[..])) {
        (Ok(seen), Ok(())) => {
            // One of the very position changes nothing.
            if store.applied() != before.1 {
                assert_eq!((seen.position, seen.revision), (store.applied(), store.revision()));
            }
        }
        // What is in it fits together no more than piece by piece, or is before what is here.
        (Ok(_), Err(RestoreError::Open(_) | RestoreError::Older { .. })) => {}
        (Ok(_), Err(error)) => panic!("{error}"),
        (Err(_), Ok(())) => panic!("a stream is taken over that cannot be looked at"),
        (Err(_), Err(_)) => assert_eq!((store.revision(), store.applied()), before),
    }
    let all = RangeRequest { key: "\0".into(), range_end: "\0".into(), ..RangeRequest::default() };
    let _ = store.range(&all);
}

fn new() -> Store {
    Store::open_still(Arc::new(MemoryEngine::default()), Options::default()).expect("a new engine opens")
}

fn apply(store: &mut Store, index: u64, command: Command) {
    let _ = store.apply(Position { term: 1, index }, command);
    store.end_batch();
}

/// A snapshot that the store has written.
static WRITTEN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut store = new();
    apply(&mut store, 1, Command::LeaseGrant(LeaseGrantRequest { id: 7, ttl: 60 }));
    for index in 2..20 {
        let (key, value) = (format!("k{}", index % 5).into(), format!("v{index}").into());
        let put = PutRequest { key, value, lease: if index % 3 == 0 { 7 } else { 0 }, ..PutRequest::default() };
        apply(&mut store, index, Command::Put(put));
        store.flush().expect("memory takes it");
    }
    let delete = DeleteRangeRequest { key: "k1".into(), range_end: "k3".into(), ..DeleteRangeRequest::default() };
    apply(&mut store, 20, Command::DeleteRange(delete));
    store.flush().expect("memory takes it");
    let mut stream = Vec::new();
    store.snapshot().expect("the engine can be read").write_to(&mut stream).expect("memory takes it");
    stream
});

/// The kinds and contents of its parts.
fn parts(stream: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut parts = Vec::new();
    let mut rest = &stream[MAGIC_BYTES..];
    while let Some((&[kind, a, b, c, d], behind)) = rest.split_first_chunk::<FRONT_BYTES>() {
        let (body, behind) = behind.split_at(u32::from_le_bytes([a, b, c, d]) as usize);
        parts.push((kind, body.to_vec()));
        rest = &behind[CRC_BYTES..];
    }
    parts
}

/// The same with parts changed, doubled, left out, in another order; checksums are mended most of the time.
fn forged(reader: &mut Reader<'_>) -> Vec<u8> {
    let mut parts = parts(&WRITTEN);
    for _ in 0..reader.below(8) {
        if parts.is_empty() {
            break;
        }
        let place = reader.below(parts.len());
        match reader.below(6) {
            0 => drop(parts.remove(place)),
            1 => parts.insert(reader.below(parts.len()), parts[place].clone()),
            2 => parts.swap(0, place),
            3 => parts[place].0 = reader.byte() % 5,
            _ => change(&mut parts[place].1, reader),
        }
    }
    let is_mended = !reader.one_in(4);
    if is_mended {
        let blocks = parts.iter().filter(|(kind, _)| *kind == BLOCK).count() as u64;
        let records = parts.iter().filter(|(kind, _)| *kind != BLOCK && *kind != END).count() as u64;
        for (kind, body) in &mut parts {
            match *kind {
                BLOCK if body.len() >= BLOCK_CRC_AT + CRC_BYTES => {
                    let (front, events) = body.split_at_mut(BLOCK_CRC_AT + CRC_BYTES);
                    front[BLOCK_CRC_AT..].copy_from_slice(&crc32c::crc32c(events).to_le_bytes());
                }
                END => *body = [records.to_le_bytes(), blocks.to_le_bytes()].concat(),
                _ => {}
            }
        }
    }
    let mut stream = WRITTEN[..MAGIC_BYTES].to_vec();
    let mut crc = 0;
    for (kind, body) in parts {
        let mut front = [kind; FRONT_BYTES];
        front[1..].copy_from_slice(&(body.len() as u32).to_le_bytes());
        crc = crc32c::crc32c_append(crc32c::crc32c_append(crc, &front), &body);
        stream.extend_from_slice(&front);
        stream.extend_from_slice(&body);
        stream.extend_from_slice(&crc.to_le_bytes());
    }
    if reader.one_in(8) {
        stream.truncate(stream.len().saturating_sub(usize::from(reader.byte())));
    }
    stream
}

fn change(body: &mut Vec<u8>, reader: &mut Reader<'_>) {
    if body.is_empty() {
        return;
    }
    // Small parts have what matters near their front; of long ones, anywhere.
    let place = (reader.below(256) * 256 + reader.below(256)) % body.len();
    match reader.below(4) {
        0 => drop(body.remove(place)),
        1 => body.insert(place, reader.byte()),
        2 => body.truncate(place),
        _ => body[place] = reader.byte(),
    }
}
