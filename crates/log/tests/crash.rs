//! Power is cut, processes die and storage fails at any act: what was synced is there, and nothing is there by half.

mod model;

use model::{Model, open};
use vlot_log::disk::sim::{Rng, SimDisk};
use vlot_log::error::{TidyError, WriteError};
use vlot_log::log::Log;
use vlot_log::log::tidy::Tidied;
use vlot_log::record::Write;
use vlot_raft::id::LogIndex;

/// Every state that the log may be found in: one per write, from what is durable on.
struct Possible {
    states: Vec<Model>,
    groups: u64,
}

impl Possible {
    /// A new log, to which so many groups write.
    fn new(groups: u64) -> Self {
        Self { states: vec![Model::default()], groups }
    }

    fn now(&self) -> &Model {
        self.states.last().expect("there is always a state")
    }

    fn synced(&mut self) {
        self.states.drain(..self.states.len() - 1);
    }
}

/// Writes and syncs at random, until storage fails or `turns` are over.
fn work(log: &mut Log<SimDisk>, possible: &mut Possible, turns: u64, rng: &mut Rng) -> Result<(), WriteError> {
    for _ in 0..turns {
        let mut batch: Vec<Write> = Vec::new();
        for _ in 0..1 + rng.below(4) {
            let write = possible.now().draw_among(possible.groups, rng);
            let mut next = possible.now().clone();
            next.apply(&write);
            possible.states.push(next);
            batch.push(write);
        }
        match log.write(&batch) {
            Err(WriteError::NoSpace(_)) => possible.states.truncate(possible.states.len() - batch.len()),
            done => done?,
        }
        if rng.below(3) > 0 {
            log.sync()?;
            possible.synced();
        }
        if rng.below(3) == 0 {
            unless_full(log.prepare())?;
        }
        if rng.below(4) == 0 {
            unless_full(log.seal())?;
            possible.synced();
        }
        if rng.below(2) == 0 {
            let tidied = unless_full(tidy(log))?;
            if tidied.segments_dropped > 0 || tidied.bytes_rewritten > 0 {
                possible.synced();
            }
        }
    }
    Ok(())
}

/// A disk that is full passes.
fn unless_full<T: Default>(done: Result<T, WriteError>) -> Result<T, WriteError> {
    match done {
        Err(WriteError::NoSpace(_)) => Ok(T::default()),
        done => done,
    }
}

fn tidy(log: &mut Log<SimDisk>) -> Result<Tidied, WriteError> {
    log.tidy().map_err(|error| match error {
        TidyError::Write(error) => error,
        TidyError::Read(error) => panic!("{error}"),
    })
}

/// Opens the log, in vain a few times.
fn reopen(disk: &SimDisk, rng: &mut Rng) -> (Log<SimDisk>, Model) {
    for _ in 0..rng.below(3) {
        if rng.below(2) == 0 {
            disk.fail_write(rng.below(4), rng.draw());
        } else {
            disk.fail_sync(rng.below(4), rng.draw());
        }
        let _ = open(disk);
        disk.heal();
        if rng.below(3) > 0 {
            disk.crash(rng.draw());
        }
    }
    disk.crash(rng.draw());
    let (log, recovered) = open(disk).unwrap_or_else(|error| panic!("{error}"));
    let found = Model::of(&log, &recovered);
    (log, found)
}

fn life(seed: u64) {
    let mut rng = Rng::new(seed);
    let disk = SimDisk::new();
    let mut possible = Possible::new(3);
    for round in 0..5 {
        let (mut log, found) = reopen(&disk, &mut rng);
        let groups = |model: &Model| model.0.values().map(|group| group.entries.len()).collect::<Vec<_>>();
        assert!(
            possible.states.contains(&found),
            "seed {seed} round {round}: found {:?} of {:?}",
            groups(&found),
            possible.states.iter().map(groups).collect::<Vec<_>>()
        );
        possible.states = vec![found];
        match rng.below(3) {
            0 => disk.fail_write(rng.below(40), rng.draw()),
            1 => disk.fail_sync(rng.below(30), rng.draw()),
            _ => {}
        }
        if rng.below(3) == 0 {
            disk.limit_capacity(Some(40_000 + rng.below(100_000)));
        }
        let turns = rng.below(40);
        if let Err(error) = work(&mut log, &mut possible, turns, &mut rng) {
            assert!(matches!(error, WriteError::Failed(_)), "seed {seed}: {error}");
            assert_eq!(log.sync(), Err(error), "seed {seed}: a failure is final");
        }
        drop(log);
        disk.heal();
        disk.limit_capacity(None);
        if rng.below(2) == 0 {
            // The process alone dies. What the next one reads and calls durable must outlive the loss of power.
            let (log, recovered) = open(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            let found = Model::of(&log, &recovered);
            assert!(possible.states.contains(&found), "seed {seed} round {round}: after the process died");
            possible.states = vec![found];
        }
    }
}

#[test]
fn what_was_synced_is_there_and_nothing_by_half() {
    (0..300).for_each(life);
}

/// Each subset of the sectors that one unsynced batch spans may be on the disk.
#[test]
fn a_torn_batch_leaves_whole_writes() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    let mut rng = Rng::new(7);
    let mut possible = Possible::new(3);
    work(&mut log, &mut possible, 1, &mut rng).expect("no fault");
    log.sync().expect("no fault");
    possible.synced();
    let durable = possible.now().clone();
    work(&mut log, &mut possible, 1, &mut rng).expect("no fault");
    possible.states.insert(0, durable);
    for seed in 0..400 {
        let disk = disk.fork();
        let (_, found) = reopen(&disk, &mut Rng::new(seed));
        assert!(possible.states.contains(&found), "seed {seed}");
    }
}

/// Without faults, the log is the model: through restarts, rolls and cuts.
#[test]
fn the_log_is_a_list_per_group() {
    for seed in 0..100 {
        let mut rng = Rng::new(seed);
        let disk = SimDisk::new();
        let mut possible = Possible::new([1, 3, 40, 1000][seed as usize % 4]);
        for _ in 0..4 {
            let (mut log, recovered) = open(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert_eq!(recovered.torn, None, "seed {seed}");
            assert_eq!(&Model::of(&log, &recovered), possible.now(), "seed {seed}");
            work(&mut log, &mut possible, 30, &mut rng).expect("no fault");
            log.sync().expect("no fault");
            possible.synced();
            for (&id, group) in &possible.now().0 {
                let all = log.read(id, group.after.index, LogIndex(u64::MAX), usize::MAX);
                assert_eq!(all.as_ref(), Ok(&group.entries), "seed {seed}: read while open");
            }
        }
    }
}

/// Calls `run` once for each way in which the choices it makes can come out if there are at most `runs_max`, else with so
/// many drawn from a seed. Returns how often, and whether that was each way.
fn every_way(runs_max: u64, seed: u64, mut run: impl FnMut(&mut dyn FnMut(u64) -> u64)) -> (u64, bool) {
    let mut chosen: Vec<(u64, u64)> = Vec::new();
    let mut runs = 0;
    loop {
        let mut made = 0;
        run(&mut |bound| {
            if made == chosen.len() {
                chosen.push((0, bound));
            }
            made += 1;
            chosen[made - 1].0
        });
        runs += 1;
        let ways = chosen.iter().fold(1_u64, |ways, &(_, bound)| ways.saturating_mul(bound));
        if ways > runs_max {
            let mut rng = Rng::new(seed);
            (0..runs_max).for_each(|_| run(&mut |bound| rng.below(bound)));
            return (runs + runs_max, false);
        }
        // The next way: as a number is counted up.
        while let Some((digit, bound)) = chosen.pop() {
            if digit + 1 < bound {
                chosen.push((digit + 1, bound));
                break;
            }
        }
        if chosen.is_empty() {
            return (runs, true);
        }
    }
}

/// Power is lost after each single write and each sync of a workload. Each sector that was not synced has any of the
/// contents it had since, each name that was not synced is there or not, in any combination: all of them if there are at
/// most 256, else 256 by chance. Whatever was found then is found again if power is lost once more while it is recovered.
#[test]
fn every_crash_point_in_every_order() {
    const WAYS_MAX: u64 = 256;
    let (mut crashes, mut complete, mut points) = (0, 0, 0);
    for act in 0.. {
        let disk = SimDisk::new();
        let (mut log, _) = open(&disk).expect("a new log");
        let mut possible = Possible::new(3);
        disk.turn_off(act);
        let worked = work(&mut log, &mut possible, 24, &mut Rng::new(11));
        points += 1;
        let (ways, is_complete) = every_way(WAYS_MAX, act, |choose| {
            let disk = disk.fork();
            disk.crash_as(choose);
            let again = disk.fork();
            let (log, recovered) = open(&disk).unwrap_or_else(|error| panic!("act {act}: {error}"));
            let found = Model::of(&log, &recovered);
            assert!(possible.states.contains(&found), "act {act}: what was acknowledged is there, nothing by half");

            let mut rng = Rng::new(act + crashes);
            let acts = disk.acts() - again.acts();
            again.turn_off(rng.below(acts));
            assert!(open(&again).is_err(), "act {act}: power is lost while it is recovered");
            again.crash_as(&mut |bound| rng.below(bound));
            let (log, recovered) = open(&again).unwrap_or_else(|error| panic!("act {act}, again: {error}"));
            assert!(found == Model::of(&log, &recovered), "act {act}: a second crash changes nothing");
            crashes += 1;
        });
        assert!(ways > 0);
        complete += u64::from(is_complete);
        if worked.is_ok() {
            break;
        }
    }
    assert!(points > 80 && complete * 10 > points * 9, "{points} points, {complete} of them completely");
    assert!(crashes > 1000, "{crashes} crashes");
    println!("{points} points, {complete} of them in every order, {crashes} crashes");
}
