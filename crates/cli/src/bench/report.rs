//! What a run says about itself: text for people, one JSON object for programs, and a bar while it lasts.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::Load;
use super::cpu::{CpuTimes, ThreadTimes};
use super::histogram::Histogram;
use super::memory::Memory;
use super::tally::Tally;
use super::timeline::Stretch;

/// Cells of the progress bar and of the longest bar of a histogram.
const BAR_CELLS: usize = 40;
/// A thread that uses less of a core is not told of.
const SHOWN_CORES_MIN: f64 = 0.005;
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999)];

/// All there is to say.
pub struct Report<'a> {
    pub load: &'a Load,
    pub workload: &'static str,
    pub tally: &'a Tally,
    pub elapsed: Duration,
    pub cpu: CpuTimes,
    pub memory: Memory,
}

impl Report<'_> {
    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let tally = self.tally;
        let (load, seconds) = (self.load, self.elapsed.as_secs_f64());
        let clients = load.clients;
        writeln!(text, "{}: {clients} clients, {} endpoints, {seconds:.2} s", self.workload, load.endpoints.len())?;
        writeln!(text, "  operations  {} ({:.0}/s)", tally.operations(), tally.operations() as f64 / seconds)?;
        write_latency(text, "latency", &tally.latency)?;
        if tally.delivery.count() > 0 {
            let events = tally.delivery.count();
            writeln!(text, "  events      {events} ({:.0}/s)", events as f64 / seconds)?;
            write_latency(text, "delivery", &tally.delivery)?;
        }
        if tally.conflicts > 0 {
            writeln!(text, "  conflicts   {}", tally.conflicts)?;
        }
        writeln!(
            text,
            "  own CPU     {:.2} µs/op, {:.2} cores",
            self.per_operation(self.cpu.own),
            self.cores(self.cpu.own)
        )?;
        if !self.cpu.of.is_empty() {
            let total = self.cpu.total();
            writeln!(text, "  server CPU  {:.2} µs/op, {:.2} cores", self.per_operation(total), self.cores(total))?;
            for (pid, times) in &self.cpu.of {
                let time = times.total();
                writeln!(text, "    pid {pid}: {:.2} µs/op, {:.2} cores", self.per_operation(time), self.cores(time))?;
                for (name, time) in times.0.iter().filter(|(_, time)| self.cores(**time) >= SHOWN_CORES_MIN) {
                    let (each, cores) = (self.per_operation(*time), self.cores(*time));
                    writeln!(text, "      {name:<16} {each:.2} µs/op, {cores:.2} cores")?;
                }
            }
            if tally.delivery.count() > 0 {
                writeln!(text, "  server CPU  {:.2} µs/event", micros(total) / tally.delivery.count() as f64)?;
            }
            let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            let Memory { bytes, bytes_max } = self.memory;
            writeln!(text, "  memory      {:.0} MiB, at most {:.0} MiB", mebibytes(bytes), mebibytes(bytes_max))?;
        }
        if tally.logged_in_again > 0 {
            writeln!(text, "  logged in   {} times more, as the user's token had ended", tally.logged_in_again)?;
        }
        if tally.failures() > 0 || !tally.errors().is_empty() || tally.reopened > 0 {
            writeln!(text, "  failed      {} (reopened {})", tally.failures(), tally.reopened)?;
            for (error, count) in tally.errors() {
                writeln!(text, "    {count} x {error}")?;
            }
        }
        let shown = if tally.delivery.count() > 0 { &tally.delivery } else { &tally.latency };
        write_rows(text, shown)
    }

    /// For programs: one object in one line. Times are in microseconds.
    pub fn json(&self) -> String {
        let tally = self.tally;
        let seconds = self.elapsed.as_secs_f64();
        let mut report = json!({
            "workload": self.workload,
            "clients": self.load.clients,
            "endpoints": self.load.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "key_size": self.load.key_size,
            "val_size": self.load.val_size,
            "rate": self.load.rate,
            "seconds": seconds,
            "operations": tally.operations(),
            "operations_per_second": tally.operations() as f64 / seconds,
            "latency_us": latency_json(&tally.latency),
            "conflicts": tally.conflicts,
            "failures": tally.failures(),
            "reopened": tally.reopened,
            "logged_in_again": tally.logged_in_again,
            "errors": tally.errors(),
            "own_cpu_us_per_operation": self.per_operation(self.cpu.own),
            "timeline": tally.timeline.stretches().iter().map(stretch_json).collect::<Vec<_>>(),
        });
        if tally.delivery.count() > 0 {
            report["events"] = json!(tally.delivery.count());
            report["events_per_second"] = json!(tally.delivery.count() as f64 / seconds);
            report["delivery_us"] = latency_json(&tally.delivery);
        }
        if !self.cpu.of.is_empty() {
            report["server_cpu_us_per_operation"] = json!(self.per_operation(self.cpu.total()));
            report["server_cores"] = json!(self.cores(self.cpu.total()));
            report["server_threads"] =
                self.cpu.of.iter().map(|(pid, times)| (pid.to_string(), self.threads(times))).collect();
            if tally.delivery.count() > 0 {
                let per_event = micros(self.cpu.total()) / tally.delivery.count() as f64;
                report["server_cpu_us_per_event"] = json!(per_event);
            }
            report["server_memory_bytes"] = json!(self.memory.bytes);
            report["server_memory_bytes_max"] = json!(self.memory.bytes_max);
        }
        format!("{report}\n")
    }

    /// CPU time of each thread for an operation, in microseconds.
    fn threads(&self, times: &ThreadTimes) -> Value {
        times.0.iter().map(|(name, time)| (name.clone(), json!(self.per_operation(*time)))).collect()
    }

    pub fn per_operation(&self, cpu: Duration) -> f64 {
        micros(cpu) / (self.tally.operations() + self.tally.failures()).max(1) as f64
    }

    pub fn cores(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() / self.elapsed.as_secs_f64()
    }
}

fn write_latency(text: &mut String, name: &str, histogram: &Histogram) -> std::fmt::Result {
    write!(text, "  {name:<10}  mean {}", shown(histogram.mean()))?;
    for (quantile, fraction) in QUANTILES {
        write!(text, "  {quantile} {}", shown(histogram.quantile(fraction)))?;
    }
    writeln!(text, "  max {}", shown(histogram.max()))
}

fn write_rows(text: &mut String, histogram: &Histogram) -> std::fmt::Result {
    let rows = histogram.rows();
    let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    for (bound, count) in rows {
        let percent = count as f64 * 100.0 / histogram.count() as f64;
        let bar = "█".repeat((count as f64 / most as f64 * BAR_CELLS as f64).round() as usize);
        writeln!(text, "  ≤ {:>8}  {percent:>6.2} %  {bar}", shown(bound))?;
    }
    Ok(())
}

fn latency_json(histogram: &Histogram) -> Value {
    let mut object = json!({ "mean": micros(histogram.mean()), "max": micros(histogram.max()) });
    for (name, fraction) in QUANTILES {
        object[name] = json!(micros(histogram.quantile(fraction)));
    }
    object
}

fn stretch_json(stretch: &Stretch) -> Value {
    json!({
        "from_seconds": stretch.from.as_secs_f64(),
        "upto_seconds": stretch.upto.as_secs_f64(),
        "operations": stretch.operations,
        "p50_us": micros(stretch.p50),
        "p99_us": micros(stretch.p99),
        "max_us": micros(stretch.max),
    })
}

fn micros(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e3
}

/// Three digits and a unit.
pub fn shown(duration: Duration) -> String {
    let nanos = duration.as_nanos() as f64;
    let (value, unit) = match nanos {
        ..1e3 => (nanos, "ns"),
        ..1e6 => (nanos / 1e3, "µs"),
        ..1e9 => (nanos / 1e6, "ms"),
        _ => (nanos / 1e9, "s"),
    };
    let decimals = match value {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    let digits = format!("{value:.decimals$}");
    let digits = if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { &digits };
    format!("{digits} {unit}")
}

/// Draws the bar over the one before.
pub fn progress(fraction: f64, operations: u64, elapsed: Duration) {
    let full = (fraction.clamp(0.0, 1.0) * BAR_CELLS as f64) as usize;
    let rate = operations as f64 / elapsed.as_secs_f64().max(0.001);
    let bar = format!("{}{}", "█".repeat(full), "·".repeat(BAR_CELLS - full));
    let mut stderr = std::io::stderr();
    // A bar that cannot be drawn is no reason to stop measuring.
    let _ = write!(stderr, "\r{bar} {:>3.0} %  {operations} operations, {rate:.0}/s   ", fraction.min(1.0) * 100.0);
    let _ = stderr.flush();
}

/// Wipes the bar away.
pub fn end_progress() {
    let _ = write!(std::io::stderr(), "\r{:width$}\r", "", width = BAR_CELLS + 50);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits() {
        for (nanos, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1 µs"),
            (1_234, "1.23 µs"),
            (45_678, "45.7 µs"),
            (200_000, "200 µs"),
            (12_000_000, "12 ms"),
            (3_456_000_000, "3.46 s"),
        ] {
            assert_eq!(shown(Duration::from_nanos(nanos)), text);
        }
    }
}
