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

/// What the whole process has used since it began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    pub(crate) user_cpu: Duration,
    pub(crate) system_cpu: Duration,
    /// Bytes given to the system to be written.
    pub(crate) written: u64,
    /// Bytes of the pages that became dirty by it, and so must go to the disk.
    pub(crate) dirtied: u64,
}

impl Used {
    pub(crate) fn now() -> Self {
        let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a process may ask for its own usage");
        let time =
            |time: nix::sys::time::TimeVal| Duration::new(time.tv_sec().unsigned_abs(), 1000 * time.tv_usec() as u32);
        let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
        let count = |name| {
            let found = io.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            found.and_then(|count| count.parse().ok()).unwrap_or(0)
        };
        Self {
            user_cpu: time(usage.user_time()),
            system_cpu: time(usage.system_time()),
            written: count("wchar"),
            dirtied: count("write_bytes"),
        }
    }

    /// What was used after `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self {
            user_cpu: self.user_cpu.saturating_sub(earlier.user_cpu),
            system_cpu: self.system_cpu.saturating_sub(earlier.system_cpu),
            written: self.written.saturating_sub(earlier.written),
            dirtied: self.dirtied.saturating_sub(earlier.dirtied),
        }
    }
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
