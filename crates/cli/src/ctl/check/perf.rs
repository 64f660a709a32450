//! `vlot check perf`: whether a cluster keeps up with so many writes a second for a minute.

use std::time::Duration;

use bytes::Bytes;
use clap::ArgMatches;
use tokio::time::{Instant, sleep_until};
use vlot_proto::etcdserverpb::PutRequest;

use super::writers::{Keys, Outcome, Writers};
use super::{Size, compact_if_asked, defragment_if_asked, delete, require_unused, show_errors};
use crate::ctl::flags::{Settings, text_of};
use crate::ctl::{Exit, asked_to_stop, show};

pub const PREFIX: &str = "/etcdctl-check-perf/";

const SECONDS: u64 = 60;
const KEY_BYTES: usize = 256;
const VALUE_BYTES: usize = 1024;
/// What was missed for longer is not made good, for the check is of a rate; a clock that ticks in milliseconds is made up for.
const LATE_MAX: Duration = Duration::from_millis(5);
/// The part of the load that must be kept up with.
const RATE_MIN: f64 = 0.9;
/// The slowest write may take so many seconds.
const SLOWEST_MAX: f64 = 0.5;
/// And the times may scatter so far.
const DEVIATION_MAX: f64 = 0.1;

/// Writes a second, and clients.
fn load(size: Size) -> (u32, usize) {
    match size {
        Size::Small => (150, 50),
        Size::Medium => (1000, 200),
        Size::Large => (8000, 500),
        Size::XLarge => (15000, 1000),
    }
}

pub async fn run(settings: &Settings, matches: &ArgMatches) -> Result<(), Exit> {
    let (rate, clients) = load(Size::read(matches)?);
    let prefix = text_of(matches, "prefix");
    require_unused(settings, prefix, &format!("'etcdctl del --prefix {prefix}'")).await?;

    let writers = Writers::start(settings, clients);
    tokio::select! {
        outcome = write(&writers, prefix, rate) => outcome?,
        () = asked_to_stop() => {}
    }
    let outcome = writers.finish().await;
    match delete(settings, prefix).await {
        Ok(revision) => compact_if_asked(settings, matches, revision).await?,
        Err(exit) => {
            show(format!("FAIL: Cleanup failed during key deletion: ERROR({})\n", exit.message).as_bytes())?;
        }
    }
    defragment_if_asked(settings, matches).await?;
    judge(&outcome, rate)
}

/// Writes evenly, and shows the seconds as they pass.
async fn write(writers: &Writers, prefix: &str, rate: u32) -> Result<(), Exit> {
    let mut keys = Keys::new(prefix, KEY_BYTES);
    let value = Bytes::from(vec![0; VALUE_BYTES]);
    let begun = Instant::now();
    let mut due = begun;
    let mut shown = None;
    while begun.elapsed() < Duration::from_secs(SECONDS) {
        let second = begun.elapsed().as_secs();
        if shown != Some(second) {
            shown = Some(second);
            show_progress(second)?;
        }
        sleep_until(due).await;
        due = (due + Duration::from_secs(1) / rate).max(Instant::now() - LATE_MAX);
        writers.write(PutRequest { key: keys.draw(), value: value.clone(), ..PutRequest::default() }).await;
    }
    show_progress(SECONDS)?;
    show(b"\n")
}

fn show_progress(second: u64) -> Result<(), Exit> {
    let percent = second as f64 * 100.0 / SECONDS as f64;
    show(format!("\r {second} / {SECONDS}   {percent:.2}% 00m{:02}s", SECONDS - second).as_bytes())
}

fn judge(outcome: &Outcome, rate: u32) -> Result<(), Exit> {
    show_errors(outcome)?;
    let mut passed = outcome.errors.is_empty();
    let mut say = |good: bool, told: String| {
        passed &= good;
        show(told.as_bytes())
    };
    let written = outcome.per_second();
    let shown = written as u64 + 1;
    if written / f64::from(rate) <= RATE_MIN {
        say(false, format!("FAIL: Throughput too low: {shown} writes/s\n"))?;
    } else {
        say(true, format!("PASS: Throughput is {shown} writes/s\n"))?;
    }
    let slowest = outcome.slowest();
    if slowest > SLOWEST_MAX {
        say(false, format!("Slowest request took too long: {slowest:.6}s\n"))?;
    } else {
        say(true, format!("PASS: Slowest request took {slowest:.6}s\n"))?;
    }
    let deviation = outcome.deviation();
    if deviation > DEVIATION_MAX {
        say(false, format!("Stddev too high: {deviation:.6}s\n"))?;
    } else {
        say(true, format!("PASS: Stddev is {deviation:.6}s\n"))?;
    }
    if passed {
        return show(b"PASS\n");
    }
    show(b"FAIL\n")?;
    Err(Exit::error(""))
}
