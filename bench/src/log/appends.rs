//! Appends: how long one takes, how many there are in a second, and what they cost.
//!
//! Owns the rows of the table and the callers. One caller that waits for each of its batches; or many threads, each of which
//! appends one entry, waits until it is durable, and appends the next.

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_engine::{Engine, LogBatch};

use super::bare_file::BareFile;
use super::engine::{self, EngineJournal};
use super::host::Host;
use super::steady::Steady;
use super::vlot::VlotJournal;
use super::{GROUPS, Journal, payloads};
use crate::Outcome;
use crate::measure::{Meter, Used, median, print_table, with_commas};
use crate::plan::Plan;
use crate::scratch::Scratch;

/// The callers that append.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Callers {
    /// One, which owns the log and appends so many entries at once.
    Owner { at_once: usize },
    /// So many threads, through a thread that owns the log.
    Writers { count: usize },
    /// So many tasks of one thread, through a thread that owns the log: as in the product.
    Tasks { count: usize },
}

use Callers::{Owner, Tasks, Writers};

impl Callers {
    /// Into how many slices a round is cut, between which the sides take turns: the disk is not the same for long. Threads
    /// are started for each slice, which makes theirs longer.
    fn slices(self) -> u32 {
        match self {
            Owner { .. } => 16,
            Writers { .. } | Tasks { .. } => 2,
        }
    }
}

/// The callers, and the number of groups that they append to.
const ROWS: [(Callers, u64); 11] = [
    (Owner { at_once: 1 }, 1),
    (Owner { at_once: 1 }, GROUPS),
    (Writers { count: 1 }, 1),
    (Writers { count: 8 }, 1),
    (Writers { count: 8 }, GROUPS),
    (Writers { count: 64 }, 1),
    (Writers { count: 64 }, GROUPS),
    (Tasks { count: 64 }, 1),
    (Tasks { count: 64 }, GROUPS),
    (Owner { at_once: 64 }, 1),
    (Owner { at_once: 64 }, GROUPS),
];

/// The log that is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Side {
    Bare,
    Vlot,
    /// `raft-engine` behind the same thread as the others.
    Engine,
    /// `raft-engine`, called by as many threads as there are writers or tasks, each for itself: it gathers what they write.
    EngineGathers,
    /// The same, new and as it is set up by default: it uses no file again before it has 10 GB.
    NewEngineGathers,
}

impl Side {
    fn name(self, callers: Callers) -> &'static str {
        match self {
            Self::Bare => "bare file",
            Self::Vlot => "vlot-log",
            Self::Engine if matches!(callers, Owner { .. }) => "raft-engine",
            Self::Engine => "raft-engine, behind our thread",
            Self::EngineGathers if matches!(callers, Tasks { .. }) => "raft-engine, its own group commit of 64 threads",
            Self::EngineGathers => "raft-engine, its own group commit",
            Self::NewEngineGathers => "the same, files not used before",
        }
    }
}

/// What one side has done in one round.
#[derive(Default)]
struct Turn {
    entries: usize,
    used: Used,
    /// How long each append took, sorted once the round is over.
    latencies: Vec<Duration>,
}

impl Turn {
    fn add(&mut self, more: Self) {
        self.entries += more.entries;
        self.used.add(&more.used);
        self.latencies.extend(more.latencies);
        self.latencies.sort_unstable();
    }

    fn per_second(&self) -> f64 {
        self.entries as f64 / self.used.wall.as_secs_f64()
    }

    fn p50_us(&self) -> f64 {
        self.latency_us(0.5)
    }

    fn p99_us(&self) -> f64 {
        self.latency_us(0.99)
    }

    fn latency_us(&self, part: f64) -> f64 {
        let place = (self.latencies.len().saturating_sub(1) as f64 * part) as usize;
        self.latencies.get(place).map_or(0.0, |&latency| micros(latency))
    }
}

fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}

/// All turns of one row, side by side.
struct Row {
    callers: Callers,
    groups: u64,
    turns: Vec<(Side, Vec<Turn>)>,
}

impl Row {
    fn turns(&self, side: Side) -> &[Turn] {
        self.turns.iter().find(|(of, _)| *of == side).map_or(&[], |(_, turns)| turns)
    }

    fn median(&self, side: Side, number: impl Fn(&Turn) -> f64) -> f64 {
        median(self.turns(side).iter().map(number))
    }

    /// Of all rounds together: the system counts CPU in ticks, and a round has few.
    fn per_entry(&self, side: Side, number: impl Fn(&Used) -> f64) -> f64 {
        let turns = self.turns(side);
        let entries: usize = turns.iter().map(|turn| turn.entries).sum();
        turns.iter().map(|turn| number(&turn.used)).sum::<f64>() / entries as f64
    }

    fn user_us(&self, side: Side) -> f64 {
        self.per_entry(side, |used| micros(used.user_cpu))
    }

    fn written(&self, side: Side) -> f64 {
        self.per_entry(side, |used| used.written as f64)
    }

    /// The median of the rounds' ratios. Within a round both sides meet the same disk and the same neighbours.
    fn ratio(&self, side: Side, other: Side, number: impl Fn(&Turn) -> f64) -> f64 {
        median(self.turns(side).iter().zip(self.turns(other)).map(|(side, other)| number(side) / number(other)))
    }

    fn name(&self) -> String {
        let groups = if self.groups == 1 { "1 group".to_owned() } else { format!("{} groups", self.groups) };
        match self.callers {
            Owner { at_once } => format!("owner, {at_once} at once, {groups}"),
            Writers { count } => format!("{count} writers, {groups}"),
            Tasks { count } => format!("{count} tasks, {groups}"),
        }
    }

    fn lines(&self) -> impl Iterator<Item = Vec<String>> {
        self.turns.iter().map(|&(side, _)| {
            vec![
                self.name(),
                side.name(self.callers).to_owned(),
                with_commas(self.median(side, Turn::per_second)),
                format!("{:.0}", self.median(side, Turn::p50_us)),
                format!("{:.0}", self.median(side, Turn::p99_us)),
                format!("{:.2}", self.user_us(side)),
                format!("{:.2}", self.per_entry(side, |used| micros(used.system_cpu))),
                format!("{:.0}", self.written(side)),
            ]
        })
    }
}

/// Measures and prints.
pub(crate) fn run(plan: &Plan, scratch: &Scratch) -> Outcome<()> {
    let mut bare = BareFile::create(&scratch.place("bare"))?;
    let mut rows = Vec::new();
    for (callers, groups) in ROWS {
        rows.push(measure(plan, scratch, &mut bare, callers, groups)?);
    }
    let heads =
        ["appends", "log", "entries/s", "p50 us", "p99 us", "user CPU us/entry", "system us", "bytes written/entry"];
    print_table(&heads, &rows.iter().flat_map(Row::lines).collect::<Vec<_>>());
    print_ratios(&rows);
    Ok(())
}

fn print_ratios(rows: &[Row]) {
    let row = |callers, groups| rows.iter().find(|row| row.callers == callers && row.groups == groups);
    let groups_name = |groups| if groups == 1 { "1_group".to_owned() } else { format!("{groups}_groups") };

    if let Some(alone) = row(Owner { at_once: 1 }, 1) {
        println!("ratio latency_1_writer_vs_floor {:.3}", alone.ratio(Side::Vlot, Side::Bare, Turn::p50_us));
        println!("ratio latency_1_writer_vs_raft_engine {:.3}", alone.ratio(Side::Vlot, Side::Engine, Turn::p50_us));
    }
    if let Some(alone) = row(Owner { at_once: 1 }, GROUPS) {
        println!(
            "ratio latency_1_writer_{GROUPS}_groups_vs_floor {:.3}",
            alone.ratio(Side::Vlot, Side::Bare, Turn::p50_us)
        );
    }
    if let (Some(alone), Some(hosted)) = (row(Owner { at_once: 1 }, 1), row(Writers { count: 1 }, 1)) {
        let ratio = hosted.ratio(Side::Vlot, Side::Bare, Turn::p50_us);
        println!("ratio latency_1_writer_behind_thread_vs_floor_behind_thread {ratio:.3}");
        // What the thread itself costs: two wake-ups.
        let ratio = hosted.median(Side::Vlot, Turn::p50_us) / alone.median(Side::Bare, Turn::p50_us);
        println!("ratio latency_1_writer_behind_thread_vs_floor {ratio:.3}");
    }
    for row in rows {
        let who = match row.callers {
            Writers { count: 1 } | Owner { .. } => continue,
            Writers { count } => format!("{count}_writers"),
            Tasks { count } => format!("{count}_tasks"),
        };
        let name = format!("throughput_{who}_{}", groups_name(row.groups));
        for (side, name) in
            [(Side::NewEngineGathers, "raft_engine"), (Side::EngineGathers, "raft_engine_at_work_for_long")]
        {
            if !row.turns(side).is_empty() {
                let ratio = row.ratio(Side::Vlot, side, Turn::per_second);
                println!("ratio throughput_{who}_vs_{name} {ratio:.2}");
            }
        }
        let behind = row.ratio(Side::Vlot, Side::Engine, Turn::per_second);
        println!("ratio {name}_vs_raft_engine_behind_our_thread {behind:.2}");
        println!("ratio {name}_vs_floor {:.2}", row.ratio(Side::Vlot, Side::Bare, Turn::per_second));
    }
    for row in [1, GROUPS].iter().filter_map(|&groups| row(Owner { at_once: 64 }, groups)) {
        let name = groups_name(row.groups);
        let [ours, theirs] = [Side::Vlot, Side::Engine].map(|side| row.user_us(side));
        println!(
            "ratio throughput_64_at_once_{name}_vs_raft_engine {:.2}",
            row.ratio(Side::Vlot, Side::Engine, Turn::per_second)
        );
        println!("value user_cpu_us_per_entry_64_at_once_{name} {ours:.3} (raft-engine {theirs:.3})");
        let [ours, theirs] = [Side::Vlot, Side::Engine].map(|side| row.written(side));
        println!("value bytes_written_per_entry_64_at_once_{name} {ours:.0} (raft-engine {theirs:.0})");
    }
}

fn measure(plan: &Plan, scratch: &Scratch, bare: &mut BareFile, callers: Callers, groups: u64) -> Outcome<Row> {
    let places = ["vlot", "engine", "engine-gathers", "new-engine"].map(|name| scratch.place(name));
    let [ours, theirs, gathering, new] = &places;
    let payloads: Arc<[Bytes]> = payloads().into();
    let mut vlot = Steady::<VlotJournal>::open(ours, &payloads)?;
    let mut engine = Steady::<EngineJournal>::open(theirs, &payloads)?;
    // It takes entries of one group in the order of their indices, so writers of one group cannot leave it to gather.
    let own = match callers {
        Writers { count } | Tasks { count } if groups >= count as u64 && count > 1 => {
            let steady = Steady::<EngineJournal>::open(gathering, &payloads)?;
            Some([steady.into_inner().into_engine(), EngineJournal::open_plain(new)?.into_engine()])
        }
        _ => None,
    };
    let mut turns: Vec<(Side, Vec<Turn>)> =
        [Side::Bare, Side::Vlot, Side::Engine].map(|side| (side, Vec::new())).into();
    if own.is_some() {
        turns.extend([Side::EngineGathers, Side::NewEngineGathers].map(|side| (side, Vec::new())));
    }
    let slice = plan.turn / callers.slices();
    let load = Load { payloads, groups, slice };
    for _ in 0..plan.rounds {
        turns.iter_mut().for_each(|(_, turns)| turns.push(Turn::default()));
        for _ in 0..callers.slices() {
            for (side, turns) in &mut turns {
                let done = match (*side, &own, callers) {
                    (Side::EngineGathers, Some([engine, _]), Writers { count } | Tasks { count }) => {
                        let done = load.gathered(engine, count)?;
                        engine::compact(engine)?;
                        done
                    }
                    (Side::NewEngineGathers, Some([_, engine]), Writers { count } | Tasks { count }) => {
                        load.gathered(engine, count)?
                    }
                    (Side::Bare, ..) => load.appended(bare, callers)?,
                    (Side::Vlot, ..) => load.appended(&mut vlot, callers)?,
                    _ => load.appended(&mut engine, callers)?,
                };
                if let Some(turn) = turns.last_mut() {
                    turn.add(done);
                }
            }
        }
    }
    drop((vlot, engine, own));
    for dir in places.iter().filter(|dir| dir.is_dir()) {
        std::fs::remove_dir_all(dir)?;
    }
    Ok(Row { callers, groups, turns })
}

/// What callers append in one slice.
struct Load {
    payloads: Arc<[Bytes]>,
    groups: u64,
    slice: Duration,
}

impl Load {
    fn appended(&self, journal: &mut dyn Journal, callers: Callers) -> Outcome<Turn> {
        match callers {
            Owner { at_once } => self.owned(journal, at_once),
            Writers { count } => self.hosted(journal, count),
            Tasks { count } => self.tasked(journal, count),
        }
    }

    /// The entries of one of `callers`, for ever: its groups in turn, which are no other's if there are enough.
    fn entries(&self, caller: usize, callers: usize) -> impl Iterator<Item = (u64, Bytes)> + use<> {
        let (payloads, groups) = (Arc::clone(&self.payloads), self.groups);
        let groups = (caller as u64..).step_by(callers).map(move |n| n % groups + 1);
        groups.zip((caller..).map(move |n| payloads[n % payloads.len()].clone()))
    }

    fn owned(&self, journal: &mut dyn Journal, at_once: usize) -> Outcome<Turn> {
        let mut entries = self.entries(0, 1);
        let mut batch = Vec::new();
        let mut latencies = Vec::new();
        let meter = Meter::start();
        let begun = Instant::now();
        while begun.elapsed() < self.slice {
            batch.clear();
            batch.extend(entries.by_ref().take(at_once));
            let asked = Instant::now();
            journal.append(&batch)?;
            latencies.push(asked.elapsed());
            journal.prepare()?;
        }
        let used = meter.stop();
        Ok(Turn { entries: latencies.len() * at_once, used, latencies })
    }

    fn hosted(&self, journal: &mut dyn Journal, writers: usize) -> Outcome<Turn> {
        let host = Host::new();
        thread::scope(|scope| {
            scope.spawn(|| host.serve(journal));
            let turn = self.written(writers, |writer| {
                let (host, mut entries) = (&host, self.entries(writer, writers));
                move || {
                    let (group, payload) = entries.next().unwrap_or_default();
                    host.append(group, payload)
                }
            });
            host.close();
            turn
        })
    }

    fn tasked(&self, journal: &mut dyn Journal, tasks: usize) -> Outcome<Turn> {
        let (host, local) = (Arc::new(Host::new()), tokio::task::LocalSet::new());
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        thread::scope(|scope| {
            scope.spawn(|| host.serve(journal));
            let (slice, meter, begun) = (self.slice, Meter::start(), Instant::now());
            let latencies = local.block_on(&runtime, async {
                let task = |task| {
                    let (host, mut entries) = (Arc::clone(&host), self.entries(task, tasks));
                    tokio::task::spawn_local(async move {
                        let mut latencies = Vec::new();
                        while begun.elapsed() < slice {
                            let asked = Instant::now();
                            let (group, payload) = entries.next().unwrap_or_default();
                            host.append_from_task(group, payload).await?;
                            latencies.push(asked.elapsed());
                        }
                        Outcome::Ok(latencies)
                    })
                };
                let mut latencies = Vec::new();
                for task in (0..tasks).map(task).collect::<Vec<_>>() {
                    latencies.extend(task.await??);
                }
                Outcome::Ok(latencies)
            });
            let used = meter.stop();
            host.close();
            let latencies = latencies?;
            Ok(Turn { entries: latencies.len(), used, latencies })
        })
    }

    fn gathered(&self, engine: &Engine, writers: usize) -> Outcome<Turn> {
        // Where the groups end, as no two writers share one.
        let last: Vec<u64> = (0..=self.groups).map(|group| engine.last_index(group).unwrap_or(0)).collect();
        self.written(writers, |writer| {
            let (mut last, mut entries) = (last.clone(), self.entries(writer, writers));
            let mut batch = LogBatch::default();
            move || {
                let entry = entries.next().unwrap_or_default();
                let last = &mut last[entry.0 as usize];
                *last = engine::add(&mut batch, entry.0, *last, &[entry])?;
                engine.write(&mut batch, true)?;
                Ok(())
            }
        })
    }

    /// Lets threads append, each as fast as its entries become durable.
    fn written<A>(&self, writers: usize, appending: impl Fn(usize) -> A) -> Outcome<Turn>
    where
        A: FnMut() -> Outcome<()> + Send,
    {
        let start = Barrier::new(writers + 1);
        thread::scope(|scope| {
            let threads: Vec<_> = (0..writers)
                .map(|writer| {
                    let (start, mut append) = (&start, appending(writer));
                    scope.spawn(move || -> Outcome<Vec<Duration>> {
                        let mut latencies = Vec::new();
                        start.wait();
                        let begun = Instant::now();
                        while begun.elapsed() < self.slice {
                            let asked = Instant::now();
                            append()?;
                            latencies.push(asked.elapsed());
                        }
                        Ok(latencies)
                    })
                })
                .collect();
            let meter = Meter::start();
            start.wait();
            let latencies: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
            let used = meter.stop();
            let latencies = latencies.into_iter().map(|joined| joined.map_err(|_| "a writer has panicked")?);
            let latencies = latencies.collect::<Outcome<Vec<_>>>()?.concat();
            Ok(Turn { entries: latencies.len(), used, latencies })
        })
    }
}
