//! What is in a log: how long it takes to open it again, and to read from it.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::engine::EngineJournal;
use super::vlot::VlotJournal;
use super::{ENTRY_BYTES, GROUPS, Kept, payloads};
use crate::Outcome;
use crate::measure::{median, noise, print_table};
use crate::plan::Plan;
use crate::scratch::{Scratch, make_cold};

/// Entries of the log that is opened, and how many were written at once.
const ENTRIES: u64 = 256_000;
const AT_ONCE: u64 = 64;
/// Entries that are read, many at once in order, and one by one by chance.
const IN_ORDER: u64 = 64_000;
const IN_ORDER_AT_ONCE: u64 = 64;
const BY_CHANCE: usize = 20_000;

/// What one round took.
struct Took {
    opened: Duration,
    in_order: Duration,
    by_rng: Duration,
}

/// Measures and prints.
pub(crate) fn run(plan: &Plan, scratch: &Scratch) -> Outcome<()> {
    let mut lines = Vec::new();
    let mut ratios = Vec::new();
    for groups in [1, GROUPS] {
        let stored = Stored { groups, payloads: payloads() };
        let [ours, theirs] = ["vlot-kept", "engine-kept"].map(|name| scratch.place(name));
        stored.write::<VlotJournal>(&ours)?;
        stored.write::<EngineJournal>(&theirs)?;
        let (mut bare, mut vlot, mut engine) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..plan.rounds.min(3) {
            bare.push(read_bare(&ours)?);
            vlot.push(stored.take::<VlotJournal>(&ours)?);
            engine.push(stored.take::<EngineJournal>(&theirs)?);
        }
        lines.push(vec![
            groups.to_string(),
            "bare reading".to_owned(),
            seconds(bare.iter().copied()),
            String::new(),
            String::new(),
        ]);
        lines.push(line(groups, "vlot-log", &vlot));
        lines.push(line(groups, "raft-engine", &engine));
        let name = if groups == 1 { "1_group".to_owned() } else { format!("{groups}_groups") };
        let mut ratio = |what: &str, number: fn(&Took) -> Duration| {
            let ratio = median(engine.iter().zip(&vlot).map(|(engine, vlot)| of(number(engine), number(vlot))));
            ratios.push(format!("ratio {what}_{name}_vs_raft_engine {ratio:.2}"));
        };
        ratio("recovery", |took| took.opened);
        ratio("reads_in_order", |took| took.in_order);
        ratio("reads_by_rng", |took| took.by_rng);
        for dir in [ours, theirs] {
            fs::remove_dir_all(dir)?;
        }
    }
    println!("\n{ENTRIES} entries, {AT_ONCE} written at once. Opened with none of it in memory, then read:");
    let in_order = format!("{IN_ORDER_AT_ONCE} at once, in order, us/entry");
    print_table(&["groups", "log", "opened in s", &in_order, "one by one, by rng, us/entry"], &lines);
    ratios.iter().for_each(|ratio| println!("{ratio}"));
    Ok(())
}

fn of(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}

fn seconds(times: impl Iterator<Item = Duration>) -> String {
    format!("{:.3}", median(times.map(|time| time.as_secs_f64())))
}

fn line(groups: u64, name: &str, rounds: &[Took]) -> Vec<String> {
    let micros = |count: f64, number: fn(&Took) -> Duration| {
        format!("{:.2}", median(rounds.iter().map(|took| number(took).as_secs_f64() * 1e6 / count)))
    };
    vec![
        groups.to_string(),
        name.to_owned(),
        seconds(rounds.iter().map(|took| took.opened)),
        micros(IN_ORDER as f64, |took| took.in_order),
        micros(BY_CHANCE as f64, |took| took.by_rng),
    ]
}

/// Reads all that a log has written, and nothing more than that.
fn read_bare(dir: &Path) -> Outcome<Duration> {
    make_cold(dir)?;
    let begun = Instant::now();
    let mut buffer = vec![0; 1024 * 1024];
    for entry in fs::read_dir(dir)? {
        let mut file = File::open(entry?.path())?;
        while file.read(&mut buffer)? > 0 {
            black_box(&buffer);
        }
    }
    Ok(begun.elapsed())
}

/// Entries as they are dealt out to groups, one to each in turn.
struct Stored {
    groups: u64,
    payloads: Vec<Bytes>,
}

impl Stored {
    fn write<K: Kept>(&self, dir: &Path) -> Outcome<()> {
        let mut journal = K::open(dir)?;
        let mut entries = (0..ENTRIES).map(|n| (n % self.groups + 1, n / self.groups + 1));
        for _ in 0..ENTRIES / AT_ONCE {
            let batch = entries
                .by_ref()
                .take(AT_ONCE as usize)
                .map(|(group, index)| (group, self.payload(group, index).clone()));
            journal.append(&batch.collect::<Vec<_>>())?;
        }
        Ok(())
    }

    fn take<K: Kept>(&self, dir: &Path) -> Outcome<Took> {
        make_cold(dir)?;
        let begun = Instant::now();
        let journal = K::open(dir)?;
        let opened = begun.elapsed();
        Ok(Took { opened, in_order: self.read_in_order(&journal)?, by_rng: self.read_by_rng(&journal)? })
    }

    fn read_in_order<K: Kept>(&self, journal: &K) -> Outcome<Duration> {
        let per_group = ENTRIES / self.groups / IN_ORDER_AT_ONCE * IN_ORDER_AT_ONCE;
        let begun = Instant::now();
        let mut left = IN_ORDER;
        for group in 1..=self.groups {
            let mut first = 1;
            while first <= per_group && left > 0 {
                let count = IN_ORDER_AT_ONCE.min(left);
                self.check(journal, group, first, count)?;
                first += count;
                left -= count;
            }
        }
        Ok(begun.elapsed())
    }

    fn read_by_rng<K: Kept>(&self, journal: &K) -> Outcome<Duration> {
        let places: Vec<(u64, u64)> = noise(8 * BY_CHANCE)
            .chunks(8)
            .map(|word| {
                let n = u64::from_le_bytes(word.try_into().unwrap_or_default()) % ENTRIES;
                (n % self.groups + 1, n / self.groups + 1)
            })
            .collect();
        let begun = Instant::now();
        for (group, index) in places {
            self.check(journal, group, index, 1)?;
        }
        Ok(begun.elapsed())
    }

    /// Reads entries and compares them with what was written.
    fn check<K: Kept>(&self, journal: &K, group: u64, first: u64, count: u64) -> Outcome<()> {
        let mut index = first;
        let mut equal = true;
        journal.read(group, first, count, |payload| {
            equal &= payload.len() == ENTRY_BYTES && payload == self.payload(group, index);
            index += 1;
        })?;
        if equal && index == first + count {
            Ok(())
        } else {
            Err(format!("entries {first}.. of group {group} are not what was written").into())
        }
    }

    fn payload(&self, group: u64, index: u64) -> &Bytes {
        let n = (index - 1) * self.groups + group - 1;
        &self.payloads[n as usize % self.payloads.len()]
    }
}
