//! CPU time of processes, as the kernel accounts for it in `/proc`.

use std::fs;
use std::time::Duration;

use super::error::BenchError;

/// CPU time that this process and the named ones have used.
#[derive(Clone, Debug)]
pub struct CpuTimes {
    pub own: Duration,
    /// Each process with its time, in the order they were named.
    pub of: Vec<(u32, Duration)>,
}

impl CpuTimes {
    /// Reads the times so far.
    ///
    /// # Errors
    /// If a process does not exist or may not be looked at.
    pub fn read(pids: &[u32]) -> Result<CpuTimes, BenchError> {
        let of = pids.iter().map(|pid| Ok((*pid, time_of(&pid.to_string())?))).collect::<Result<_, BenchError>>()?;
        Ok(CpuTimes { own: time_of("self")?, of })
    }

    /// What was used since `before`.
    pub fn since(&self, before: &CpuTimes) -> CpuTimes {
        let of = self.of.iter().zip(&before.of).map(|((pid, time), (_, then))| (*pid, time.saturating_sub(*then)));
        CpuTimes { own: self.own.saturating_sub(before.own), of: of.collect() }
    }

    /// Of all the named processes.
    pub fn total(&self) -> Duration {
        self.of.iter().map(|(_, time)| time).sum()
    }
}

/// The sum over a process's threads. Threads that have ended are missing, but this counts nanoseconds where
/// `/proc/PID/stat` counts hundredths of a second.
fn time_of(process: &str) -> Result<Duration, BenchError> {
    let directory = format!("/proc/{process}/task");
    let threads = fs::read_dir(&directory);
    let threads = threads.map_err(|error| BenchError::Process { process: process.to_owned(), error })?;
    // A thread that ends while we look has no file any more.
    let files = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok());
    let nanos = files.filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    Ok(Duration::from_nanos(nanos.sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_cpu_time() {
        let before = CpuTimes::read(&[std::process::id()]).unwrap();
        let start = std::time::Instant::now();
        while start.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        let used = CpuTimes::read(&[std::process::id()]).unwrap().since(&before);
        assert!(used.own > Duration::from_millis(1), "{used:?}");
        assert!(used.total() >= used.own / 2, "{used:?}");
        assert!(CpuTimes::read(&[u32::MAX]).is_err());
    }
}
