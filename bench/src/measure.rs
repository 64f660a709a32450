//! What a measurement is made of: time, CPU, medians, and tables to read.

use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::time::{ClockId, clock_gettime};

/// What a piece of work took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Took {
    pub(crate) wall: Duration,
    /// Of the thread that did it.
    pub(crate) cpu: Duration,
}

/// Does it and says what it took.
pub(crate) fn took(work: impl FnOnce()) -> Took {
    let (begun, cpu) = (Instant::now(), thread_cpu());
    work();
    Took { wall: begun.elapsed(), cpu: thread_cpu() - cpu }
}

fn thread_cpu() -> Duration {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every thread has this clock");
    now.into()
}

/// What the whole process used for a piece of work.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    pub(crate) wall: Duration,
    pub(crate) user_cpu: Duration,
    pub(crate) system_cpu: Duration,
    /// Bytes given to the system to be written.
    pub(crate) written: u64,
}

impl Used {
    pub(crate) fn add(&mut self, more: &Self) {
        self.wall += more.wall;
        self.user_cpu += more.user_cpu;
        self.system_cpu += more.system_cpu;
        self.written += more.written;
    }
}

/// Measures what the process uses from when it is started until it is stopped, but for its own work.
pub(crate) struct Meter {
    written: u64,
    cpu: [Duration; 2],
    begun: Instant,
}

impl Meter {
    pub(crate) fn start() -> Self {
        Self { written: written(), cpu: process_cpu(), begun: Instant::now() }
    }

    pub(crate) fn stop(self) -> Used {
        let wall = self.begun.elapsed();
        let [user_cpu, system_cpu] = process_cpu();
        Used {
            wall,
            user_cpu: user_cpu.saturating_sub(self.cpu[0]),
            system_cpu: system_cpu.saturating_sub(self.cpu[1]),
            written: written() - self.written,
        }
    }
}

fn process_cpu() -> [Duration; 2] {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a process may ask for its own usage");
    [usage.user_time(), usage.system_time()]
        .map(|time| Duration::new(time.tv_sec().unsigned_abs(), 1000 * time.tv_usec() as u32))
}

/// Bytes this process has given to the system to be written, to whatever file; zero if the system does not count them.
fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    io.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse().ok()).unwrap_or(0)
}

/// The one in the middle; of an even number, the lower of the two.
///
/// # Panics
/// If there is none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    values[(values.len() - 1) / 2]
}

/// Prints rows under their heads as a Markdown table.
pub(crate) fn print_table(heads: &[&str], rows: &[Vec<String>]) {
    println!("| {} |", heads.join(" | "));
    println!("|{}", "---|".repeat(heads.len()));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
}

/// A whole number with commas between its thousands.
pub(crate) fn with_commas(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The processor's name, as the system gives it.
pub(crate) fn processor() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    format!("{}, {cores} cores", name.map_or("unknown processor", |(_, name)| name))
}

/// Bytes that look like chance and are the same in every run.
pub(crate) fn noise(bytes: usize) -> Vec<u8> {
    let mut mixed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        mixed = mixed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (mixed >> 56) as u8
    };
    (0..bytes).map(|_| next()).collect()
}
