//! `vlot bench`: a load generator for any servers that speak etcd's v3 interface.
//!
//! Owns the flags and the course of a run: warm up, measure, report. What is sent is in `load.rs` and `watch.rs`. It must
//! cost little beside the servers it measures, so that one thread carries everything.

mod connections;
mod cpu;
mod error;
mod histogram;
mod load;
mod login;
mod memory;
mod pace;
mod page;
mod report;
mod session;
mod tally;
mod timeline;
mod user;
mod watch;

use std::cell::RefCell;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use clap::{ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::client::{Endpoint, Options, Security, security};
use connections::{Connections, DIAL_TIMEOUT};
use cpu::CpuTimes;
use error::{BenchError, ValueError};
use login::Logins;
use memory::Memory;
use pace::Pace;
use tally::Tally;
use user::UserFlags;

/// How often progress is shown and the end is looked for.
const BEAT: Duration = Duration::from_millis(100);
/// Measured time when neither an end nor a number of operations is given.
const SECONDS_DEFAULT: f64 = 10.0;
/// Into how many stretches a run is divided whose length is known.
const STRETCHES: u32 = 100;
/// How long the first connections and watches may take.
const START_PATIENCE: Duration = Duration::from_secs(20);

#[derive(Parser)]
#[command(name = "bench", about = "Load any etcd v3 endpoints and report throughput and latency")]
struct Bench {
    #[command(subcommand)]
    workload: Workload,
}

#[derive(Subcommand)]
enum Workload {
    /// Write keys
    Put {
        #[command(flatten)]
        load: Load,
        /// Take the keys one after the other instead of at random
        #[arg(long)]
        sequential: bool,
    },
    /// Read single keys; write them first with 'bench put --sequential --total=KEY_SPACE'
    Range {
        #[command(flatten)]
        load: Load,
        /// Linearizable or serializable
        #[arg(long, value_enum, default_value = "l")]
        consistency: Consistency,
    },
    /// Compare a key's revision, then write it; a client has a key of its own if the key space allows
    Txn {
        #[command(flatten)]
        load: Load,
    },
    /// Write keys and watch them; the latency is from sending a write to receiving its event
    Watch {
        #[command(flatten)]
        load: Load,
        #[command(flatten)]
        watching: Watching,
    },
    /// Log users in; the latency is that of a login, and no other call is made
    Login {
        #[command(flatten)]
        load: Load,
        #[command(flatten)]
        logins: Logins,
    },
}

#[derive(Args, Clone)]
struct Watching {
    /// Watchers; each receives every write
    #[arg(long, default_value_t = 100)]
    watchers: usize,
    /// Streams that the watchers share [default: one for each]
    #[arg(long, value_parser = at_least_one)]
    streams: Option<usize>,
    /// Each watcher watches one key, the next one the next key, and receives only the writes to it
    #[arg(long)]
    single_keys: bool,
    /// More watchers of every write, each on a connection of its own, that read nothing
    #[arg(long, default_value_t = 0)]
    stalled: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Consistency {
    L,
    S,
}

#[derive(Args, Clone)]
struct Load {
    /// Where the servers listen
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:2379")]
    endpoints: Vec<Endpoint>,
    #[command(flatten)]
    tls: TlsFlags,
    #[command(flatten)]
    user: UserFlags,
    /// Clients; each has one call in flight
    #[arg(long, default_value_t = 1, value_parser = at_least_one)]
    clients: usize,
    /// Connections that the clients share [default: one for each endpoint]
    #[arg(long, value_parser = at_least_one)]
    conns: Option<usize>,
    /// Operations to measure
    #[arg(long, conflicts_with = "seconds")]
    total: Option<u64>,
    /// Seconds to measure [default: 10]
    #[arg(long, value_parser = seconds)]
    seconds: Option<Duration>,
    /// Seconds of load before that
    #[arg(long, default_value = "1", value_parser = seconds)]
    warmup: Duration,
    /// Length of keys in bytes
    #[arg(long, default_value_t = 8)]
    key_size: usize,
    /// Length of values in bytes
    #[arg(long, default_value_t = 256)]
    val_size: usize,
    /// How many different keys there are
    #[arg(long, default_value_t = 100_000)]
    key_space: u64,
    /// Operations a second of all clients, begun on schedule and measured from it; 0 for as many as the servers take
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    /// Seconds that one call may take
    #[arg(long, default_value = "10", value_parser = seconds)]
    timeout: Duration,
    /// Where the random choice of keys begins
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Also write a page with pictures to this file: latencies, throughput and latency over time, CPU by thread
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Processes whose CPU time for each operation and memory are to be reported
    #[arg(long, value_delimiter = ',')]
    pids: Vec<u32>,
}

#[derive(Args, Clone)]
struct TlsFlags {
    /// Verify certificates of TLS servers by the CAs in this file
    #[arg(long, value_name = "FILE", default_value = "")]
    cacert: String,
    /// Identify the clients by the certificate in this file
    #[arg(long, value_name = "FILE", default_value = "")]
    cert: String,
    /// Key of --cert
    #[arg(long, value_name = "FILE", default_value = "")]
    key: String,
    /// Take any server
    #[arg(long)]
    insecure_skip_tls_verify: bool,
}

impl TlsFlags {
    fn security(&self) -> Result<Security, BenchError> {
        let TlsFlags { cacert, cert, key, insecure_skip_tls_verify } = self.clone();
        let flags =
            security::Flags { cacert, cert, key, skip_verify: insecure_skip_tls_verify, ..security::Flags::default() };
        Security::new(flags).map_err(BenchError::Security)
    }
}

/// The command and its flags, for the program's root command.
pub fn command() -> Command {
    Bench::command()
}

/// Runs the workload that the command's matches name. Fails if not a single operation succeeded.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let outcome = Bench::from_arg_matches(matches).map_err(BenchError::Flags).and_then(start);
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(flaw) => {
            // Nowhere is left to complain if this fails.
            let _ = writeln!(std::io::stderr(), "Error: {flaw}");
            ExitCode::FAILURE
        }
    }
}

fn start(bench: Bench) -> Result<bool, BenchError> {
    let load = match &bench.workload {
        Workload::Put { load, .. } | Workload::Range { load, .. } => load,
        Workload::Txn { load } | Workload::Watch { load, .. } | Workload::Login { load, .. } => load,
    };
    load.check()?;
    let security = load.tls.security()?;
    let credentials = load.user.credentials()?;
    let options = Options { dial_timeout: DIAL_TIMEOUT, keepalive: None, credentials, security };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(BenchError::Runtime)?;
    LocalSet::new().block_on(&runtime, measure(&bench.workload, load, &options))
}

/// The course of a run.
async fn measure(workload: &Workload, load: &Load, options: &Options) -> Result<bool, BenchError> {
    let tally = Rc::new(RefCell::new(Tally::default()));
    let mut options = options.clone();
    if let Workload::Login { logins, .. } = workload {
        logins.prepare(load, &options).await.map_err(BenchError::Users)?;
        // Who logs in is nobody yet.
        options.credentials = None;
    }
    let connections = Rc::new(Connections::open(load, &options, &tally).await.map_err(BenchError::Connect)?);
    if let Workload::Watch { watching, .. } = workload {
        let created = watch::start(watching, load, &options, &connections, &tally);
        let created = tokio::time::timeout(START_PATIENCE, created).await;
        created.map_err(|_| BenchError::WatchesLate { within: START_PATIENCE })?.map_err(BenchError::Connect)?;
    }
    let pace = Rc::new(Pace::new(Instant::now(), load.rate, load.clients));
    load::start(workload, load, &connections, &pace, &tally);

    tokio::time::sleep(load.warmup).await;
    let cpu_before = CpuTimes::read(&load.pids)?;
    tally.borrow_mut().begin();
    if let Some(total) = load.total {
        tally.borrow_mut().wake_at(total);
        pace.allow_only(total);
    }
    let start = Instant::now();
    until_done(load, start, &tally).await;
    let elapsed = start.elapsed();
    tally.borrow_mut().timeline.look(elapsed, BEAT / 2);
    let cpu = CpuTimes::read(&load.pids)?.since(&cpu_before);
    let memory = Memory::read(&load.pids)?;

    // What is still in flight is not counted any more, and is dropped with the runtime.
    let tally = tally.borrow();
    let report = report::Report { load, workload: workload.name(), tally: &tally, elapsed, cpu, memory };
    let output = if load.json { report.json() } else { report.text() };
    std::io::stdout().write_all(output.as_bytes()).map_err(BenchError::Output)?;
    if let Some(path) = &load.html {
        let written = std::fs::write(path, page::draw(&report));
        written.map_err(|error| BenchError::Page { path: path.clone(), error })?;
    }
    Ok(tally.operations() > 0)
}

async fn until_done(load: &Load, start: Instant, tally: &Rc<RefCell<Tally>>) {
    let shows_progress = std::io::stderr().is_terminal();
    loop {
        let elapsed = start.elapsed();
        let (done, operations) = {
            let mut tally = tally.borrow_mut();
            tally.timeline.look(elapsed, load.stretch());
            (tally.operations() + tally.failures(), tally.operations())
        };
        let fraction = match load.total {
            Some(total) => done as f64 / total.max(1) as f64,
            None => elapsed.as_secs_f64() / load.duration().as_secs_f64(),
        };
        if shows_progress {
            report::progress(fraction, operations, elapsed);
        }
        if fraction >= 1.0 {
            break;
        }
        match load.total {
            Some(_) => tally::changed_or(tally, BEAT).await,
            None => tokio::time::sleep(BEAT.min(load.duration().saturating_sub(elapsed))).await,
        }
    }
    if shows_progress {
        report::end_progress();
    }
}

impl Workload {
    fn name(&self) -> &'static str {
        match self {
            Workload::Put { .. } => "put",
            Workload::Range { .. } => "range",
            Workload::Txn { .. } => "txn",
            Workload::Watch { .. } => "watch",
            Workload::Login { .. } => "login",
        }
    }
}

impl Load {
    fn duration(&self) -> Duration {
        self.seconds.unwrap_or(Duration::from_secs_f64(SECONDS_DEFAULT))
    }

    /// How long each stretch of the run is that is told of by itself.
    fn stretch(&self) -> Duration {
        self.total.map_or(self.duration() / STRETCHES, |_| Duration::from_secs(1)).max(BEAT)
    }

    /// How many to open; those that have no client idle.
    fn connections(&self) -> usize {
        self.conns.unwrap_or(self.endpoints.len())
    }

    fn check(&self) -> Result<(), BenchError> {
        let keys_max = 10_u64.checked_pow(self.key_size.min(20) as u32).unwrap_or(u64::MAX);
        if self.key_space == 0 || self.key_space > keys_max {
            return Err(BenchError::KeySpace { keys_max, key_size: self.key_size });
        }
        if !self.rate.is_finite() || self.rate < 0.0 {
            return Err(BenchError::NegativeRate);
        }
        if self.total == Some(0) || self.duration().is_zero() {
            return Err(BenchError::NothingToMeasure);
        }
        Ok(())
    }
}

fn at_least_one(text: &str) -> Result<usize, ValueError> {
    match text.parse() {
        Ok(0) => Err(ValueError::Zero),
        Ok(number) => Ok(number),
        Err(error) => Err(ValueError::Integer(error)),
    }
}

fn seconds(text: &str) -> Result<Duration, ValueError> {
    let number = text.strip_suffix('s').unwrap_or(text).parse::<f64>().map_err(ValueError::Number)?;
    Duration::try_from_secs_f64(number).map_err(ValueError::Seconds)
}
