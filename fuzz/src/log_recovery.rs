//! A log whose files are not as they were left: opening it gives a state or a refusal, never a panic and never a guess.
//!
//! Each run begins with a log that was written by the real one, on the simulated disk, and then changes its files. Either
//! as storage may: then whatever opens is a state that the log was in, and the log goes on from it. Or as an enemy may,
//! who puts any bytes anywhere and mends every checksum: then what opens need not be what was written, but it must make
//! sense, and the log must go on from it all the same.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};
use vlot_log::damage::Damage;
use vlot_log::disk::Disk;
use vlot_log::disk::sim::{Rng, SimDisk};
use vlot_log::error::{OpenError, ReadError};
use vlot_log::log::{Log, Options};
use vlot_log::record::{Entry, Write};
use vlot_log::recover::Recovered;
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};

use crate::model::{IDENTITY, Model, SMALL};
use crate::reader::Reader;

/// Logs to begin with.
const BASES: u64 = 16;
/// Edits of one run. With enough flipped bits storage could put any value anywhere, a matching checksum too.
const DAMAGES_MAX: usize = 8;
const CRAFTS_MAX: usize = 64;
/// Where the first record of a segment is.
const FIRST_RECORD: usize = 4096;
/// The fixed part at the front of a record.
const HEADER_BYTES: usize = 32;
/// Names of files that no log has made, or made for something else.
const STRANGE_NAMES: [&str; 8] = [
    "DAMAGED",
    "LOCK",
    "0000000000000009.new",
    "0000000000000000.log",
    "0000000000000002.log",
    "0000000000000007.log",
    "00000000ffffffff.log",
    "ffffffffffffffff.log",
];

/// Does what the bytes say.
///
/// # Panics
/// If something does not hold that must.
pub fn run(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    let kind = reader.byte();
    let (is_crafted, accept_damage) = (kind % 2 == 1, kind / 2 % 2 == 1);
    let bases = BASE.get_or_init(|| (0..BASES).map(Base::new).collect());
    let base = &bases[usize::from(kind / 4) % bases.len()];
    let disk = base.disk.fork();
    let (edit, edits_max): (fn(&SimDisk, &mut Reader<'_>), _) =
        if is_crafted { (craft, CRAFTS_MAX) } else { (damage, DAMAGES_MAX) };
    for _ in 0..edits_max {
        if reader.is_empty() {
            break;
        }
        edit(&disk, &mut reader);
    }
    if is_crafted {
        mend_checksums(&disk);
    }
    let options = Options { accept_damage, ..SMALL };
    match Log::open(disk.clone(), IDENTITY, options) {
        Ok((log, recovered)) => {
            if !is_crafted {
                base.recognise(&log, &recovered, accept_damage);
            }
            go_on(&disk, log, recovered, options);
        }
        Err(OpenError::Corrupt { .. } | OpenError::Missing { .. } | OpenError::Damaged { .. }) => {}
        Err(OpenError::OtherIdentity { .. } | OpenError::OtherVersion { .. }) if is_crafted => {}
        Err(other) => panic!("no refusal for what is wrong: {other}"),
    }
}

static BASE: OnceLock<Vec<Base>> = OnceLock::new();

/// A log, and what it has been.
struct Base {
    disk: SimDisk,
    /// Before the first write and after each.
    states: Vec<Model>,
    /// Every entry that was ever in it.
    written: BTreeSet<(GroupId, LogId, Bytes)>,
}

impl Base {
    fn new(seed: u64) -> Self {
        let (mut rng, disk) = (Rng::new(seed), SimDisk::new());
        let (mut log, _) = Log::open(disk.clone(), IDENTITY, SMALL).expect("a new log");
        let (mut states, mut written) = (vec![Model::default()], BTreeSet::new());
        for _ in 0..2 + 3 * seed {
            let now = &states[states.len() - 1];
            let write = now.draw(&mut rng);
            let mut next = now.clone();
            next.apply(&write);
            if let Write::Append { group, entries, .. } = &write {
                written.extend(entries.iter().map(|entry| (*group, entry.id, entry.payload.clone())));
            }
            states.push(next);
            log.write(&[write]).expect("no fault");
            // The last ones may have been in flight.
            if rng.below(3) > 0 {
                log.sync().expect("no fault");
            }
            if rng.below(4) == 0 {
                log.prepare().expect("no fault");
            }
            if rng.below(4) == 0 {
                log.tidy().expect("no fault");
            }
        }
        Self { disk, states, written }
    }

    /// What opens after damage is what the log was at some time; with damage accepted, at least every entry in it is one
    /// that was written under its name.
    fn recognise(&self, log: &Log<SimDisk>, recovered: &Recovered, accept_damage: bool) {
        if !accept_damage || recovered.damaged.is_empty() {
            assert_eq!(recovered.damaged, [], "none is accepted");
            assert!(self.states.contains(&Model::of(log, recovered)), "it never held this: {recovered:?}");
            return;
        }
        for (group, entry) in readable(log, recovered) {
            let is_known = self.written.contains(&(group, entry.id, entry.payload.clone()));
            assert!(is_known, "{group:?} never had {entry:?}");
        }
    }
}

/// Every entry that can be read. Those that cannot are reported.
fn readable(log: &Log<SimDisk>, recovered: &Recovered) -> Vec<(GroupId, Entry)> {
    let mut found = Vec::new();
    for (&group, state) in &recovered.groups {
        for (_, first, last) in state.runs.iter() {
            for index in first.0..=last.0 {
                match log.read(group, LogIndex(index - 1), LogIndex(index), usize::MAX) {
                    Ok(entries) => {
                        let [entry] = &entries[..] else { panic!("one entry at {index}: {entries:?}") };
                        assert!(state.runs.contains(entry.id), "{} in {:?}", entry.id, state.runs);
                        found.push((group, entry.clone()));
                    }
                    Err(ReadError::Corrupt { .. }) => {
                        let is_reported = recovered.damaged.iter().any(|damage| match damage {
                            Damage::Entries { group: of, first, last, .. } => {
                                *of == group && (first.0..=last.0).contains(&index)
                            }
                            Damage::Rest { .. } => false,
                        });
                        assert!(is_reported, "{group:?} {index} is damaged: {:?}", recovered.damaged);
                    }
                    Err(other) => panic!("{group:?} {index}: {other}"),
                }
            }
        }
    }
    found
}

/// What is written from here on is there when the log is opened again, and so is what was there before.
fn go_on(disk: &SimDisk, mut log: Log<SimDisk>, recovered: Recovered, options: Options) {
    let mut groups = recovered.groups.clone();
    let before = readable(&log, &recovered);
    let group = groups.keys().next_back().copied().unwrap_or(GroupId(1));
    let state = groups.entry(group).or_default();
    (state.term, state.vote) = (Term(state.term.0.saturating_add(1)), Some(NodeId(2)));
    let last = state.runs.last_id();
    let mut writes = vec![Write::Vote { group, term: state.term, vote: state.vote }];
    let mut after = before.clone();
    if last.index.0 < u64::MAX - 1 {
        let entry = Entry { id: LogId { index: last.index.next(), ..last }, payload: Bytes::from_static(b"more") };
        state.runs.push(last.term, 1);
        writes.push(Write::Append { group, after: last.index, entries: vec![entry.clone()] });
        after.push((group, entry));
    }
    log.write(&writes).expect("no fault");
    log.sync().expect("no fault");
    // What is damaged cannot be carried away, and stays where it is.
    let _ = log.tidy();
    drop(log);
    let (log, again) = Log::open(disk.clone(), IDENTITY, options).expect("what was opened opens again");
    assert_eq!(again.torn, None, "everything is synced");
    let found = readable(&log, &again);
    if let Some((group, Entry { id, .. })) = after.iter().find(|entry| !found.contains(entry)) {
        panic!("{group:?} had {id}, and has it no more: {again:?}");
    }
    assert_eq!(found.len(), after.len(), "there is more: {again:?}");
    for (group, state) in groups {
        // Of a group that never had anything there need be no record.
        let is = again.groups.get(&group).cloned().unwrap_or_default();
        assert_eq!((is.term, is.vote, is.runs, is.note), (state.term, state.vote, state.runs, state.note), "{group:?}");
    }
}

/// What storage may do to files.
fn damage(disk: &SimDisk, reader: &mut Reader<'_>) {
    let Some(name) = file(disk, reader) else { return };
    match reader.below(12) {
        0..=3 => edit(disk, &name, reader, 1, |part, reader| part[0] ^= 1 << reader.below(8)),
        4 => edit(disk, &name, reader, 4096, |part, _| part.fill(0)),
        5 => edit(disk, &name, reader, 4096, |part, _| part.fill(0xff)),
        6 => edit(disk, &name, reader, 4096, |part, reader| {
            let mut rng = Rng::new(u64::from(reader.byte()));
            part.iter_mut().for_each(|byte| *byte = rng.draw() as u8);
        }),
        // A write went elsewhere.
        7 => edit(disk, &name, reader, 4096, |part, reader| {
            let from = file(disk, reader).and_then(|name| disk.bytes(&name)).unwrap_or_default();
            let at = place(&from, reader);
            let length = part.len().min(from.len() - at);
            part[..length].copy_from_slice(&from[at..at + length]);
        }),
        8 => disk.tamper(&name, |bytes| bytes.truncate(place(bytes, reader))),
        9 => disk.tamper(&name, |bytes| bytes.resize(bytes.len() + 512 * reader.below(32), reader.byte() % 2)),
        10 => disk.clone().remove(&name).expect("it is there"),
        _ => copy(disk, &name, reader),
    }
}

/// What an enemy may do besides.
fn craft(disk: &SimDisk, reader: &mut Reader<'_>) {
    let Some(name) = file(disk, reader) else { return };
    match reader.below(8) {
        0 => damage(disk, reader),
        1 => edit(disk, &name, reader, 8, |part, reader| {
            let number = reader.number().to_le_bytes();
            part.copy_from_slice(&number[..part.len()]);
        }),
        2 => edit(disk, &name, reader, 64, |part, reader| {
            let bytes = reader.bytes(part.len());
            part[..bytes.len()].copy_from_slice(bytes);
        }),
        _ => disk.tamper(&name, |bytes| add_record(bytes, reader)),
    }
}

/// Puts a record behind the last one; its checksums are still to come.
fn add_record(bytes: &mut [u8], reader: &mut Reader<'_>) {
    let end = records(bytes).last().map_or(FIRST_RECORD, |(_, end)| end);
    let (kind, group, durable) = (1 + reader.byte() % 7, reader.byte() % 4, reader.byte());
    let mut body = Vec::new();
    match kind {
        1 => (0..3).for_each(|_| body.extend_from_slice(&reader.number().to_le_bytes())),
        2 | 5 => {
            let payloads: Vec<&[u8]> = (0..reader.below(4)).map(|_| reader.bytes(3)).collect();
            body.extend_from_slice(&reader.number().to_le_bytes());
            body.extend_from_slice(&(payloads.len() as u64).to_le_bytes());
            for payload in &payloads {
                body.extend_from_slice(&reader.number().to_le_bytes());
                body.extend_from_slice(&(payload.len() as u32).to_le_bytes());
                body.extend_from_slice(&[0; 4]);
            }
            payloads.iter().for_each(|payload| body.extend_from_slice(payload));
        }
        4 => {
            (0..2).for_each(|_| body.extend_from_slice(&reader.number().to_le_bytes()));
            body.extend_from_slice(&u64::from(reader.byte() % 3).to_le_bytes());
            body.extend_from_slice(reader.bytes(4));
        }
        6 => body.extend_from_slice(&reader.number().to_le_bytes()),
        7 => body.resize(8 * reader.below(4), 0),
        _ => {}
    }
    let mut record = [0; HEADER_BYTES].to_vec();
    record[..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
    (record[4], record[8]) = (kind, if matches!(kind, 3 | 6 | 7) { 0 } else { group });
    let durable = if durable % 2 == 0 { end } else { FIRST_RECORD };
    record[16..20].copy_from_slice(&(durable as u32).to_le_bytes());
    record.append(&mut body);
    if let Some(place) = bytes.get_mut(end..end + record.len()) {
        place.copy_from_slice(&record);
    }
}

/// One of the files.
fn file(disk: &SimDisk, reader: &mut Reader<'_>) -> Option<String> {
    let mut names = disk.clone().list().expect("no fault");
    (!names.is_empty()).then(|| names.swap_remove(reader.below(names.len())))
}

/// Changes a part of a file, up to so many bytes.
fn edit(
    disk: &SimDisk,
    name: &str,
    reader: &mut Reader<'_>,
    bytes_max: usize,
    change: impl FnOnce(&mut [u8], &mut Reader<'_>),
) {
    let Some(mut bytes) = disk.bytes(name) else { return };
    let at = place(&bytes, reader);
    let upto = bytes.len().min(at + 1 + (bytes_max - 1) * usize::from(reader.byte()) / 255);
    if at < upto {
        change(&mut bytes[at..upto], reader);
        disk.tamper(name, |shown| *shown = bytes);
    }
}

/// Somewhere in a file: mostly in one of its records, in the fixed parts at its front or anywhere.
fn place(bytes: &[u8], reader: &mut Reader<'_>) -> usize {
    let records: Vec<_> = records(bytes).collect();
    let (choice, along) = (usize::from(reader.byte()), usize::from(reader.byte()));
    let at = match choice {
        0..=15 => along,
        _ if records.is_empty() => FIRST_RECORD * choice / 16 + along,
        _ => {
            let (begin, end) = records[choice / 2 % records.len()];
            if choice % 2 == 0 { begin + along % 64 } else { begin + (end - begin) * along / 255 }
        }
    };
    at.min(bytes.len())
}

/// A file gets what another holds, under a name that there may be no file of yet.
fn copy(disk: &SimDisk, name: &str, reader: &mut Reader<'_>) {
    let held = disk.bytes(name).unwrap_or_default();
    let to = reader.among(&STRANGE_NAMES);
    disk.clone().create(to).expect("no fault");
    disk.tamper(to, |bytes| *bytes = held);
}

/// Where each record of a segment begins and ends, as far as there are any.
fn records(bytes: &[u8]) -> impl Iterator<Item = (usize, usize)> + '_ {
    let mut at = FIRST_RECORD;
    std::iter::from_fn(move || {
        let header = bytes.get(at..at + HEADER_BYTES).filter(|header| **header != [0; HEADER_BYTES])?;
        let end = (at + HEADER_BYTES + number(&header[..4]) as usize).next_multiple_of(8);
        (end <= bytes.len()).then(|| (std::mem::replace(&mut at, end), end))
    })
}

/// Makes every checksum in every segment match, and every header say which segment this is and how long.
fn mend_checksums(disk: &SimDisk) {
    let mut previous = 0;
    for name in disk.clone().list().expect("no fault") {
        let Some(sequence) = name.strip_suffix(".log").and_then(|name| u64::from_str_radix(name, 16).ok()) else {
            continue;
        };
        disk.tamper(&name, |bytes| {
            if bytes.len() >= FIRST_RECORD {
                let length = bytes.len() as u64;
                bytes[32..40].copy_from_slice(&sequence.to_le_bytes());
                bytes[40..48].copy_from_slice(&length.to_le_bytes());
                let crc = crc32c(&bytes[..60]);
                bytes[60..64].copy_from_slice(&crc.to_le_bytes());
                let salt = [bytes[48], bytes[49], bytes[50]];
                for (at, end) in records(bytes).collect::<Vec<_>>() {
                    previous = mend_record(&mut bytes[at..end], at as u32, (crc, salt), previous);
                }
            }
        });
    }
}

/// The checksum of the record, which matches afterwards.
fn mend_record(record: &mut [u8], at: u32, (segment_crc, salt): (u32, [u8; 3]), previous: u32) -> u32 {
    let (header, body) = record.split_at_mut(HEADER_BYTES);
    let body = &mut body[..number(&header[..4]) as usize];
    let covered = match header[4] {
        1 | 4 | 6 => body.len(),
        2 | 5 => mend_payloads(body).unwrap_or_default(),
        _ => 0,
    };
    header[5..8].copy_from_slice(&salt);
    header[20..24].copy_from_slice(&crc32c(&body[..covered]).to_le_bytes());
    header[24..28].copy_from_slice(&previous.to_le_bytes());
    let crc = crc32c_append(crc32c_append(segment_crc, &at.to_le_bytes()), &header[..28]);
    header[28..32].copy_from_slice(&crc.to_le_bytes());
    crc
}

/// How long the table of entries is, with all before it.
fn mend_payloads(body: &mut [u8]) -> Option<usize> {
    let table = 16 + 16 * usize::try_from(number(body.get(8..16)?)).ok().filter(|&count| count <= body.len())?;
    let (front, payloads) = body.split_at_mut_checked(table)?;
    let mut rest = &*payloads;
    for row in front[16..].chunks_exact_mut(16) {
        let (payload, behind) = rest.split_at_checked(number(&row[8..12]) as usize).unwrap_or_default();
        row[12..16].copy_from_slice(&crc32c(payload).to_le_bytes());
        rest = behind;
    }
    Some(table)
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}
