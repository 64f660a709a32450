//! CPU time of processes, as the kernel accounts for it in `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use super::error::BenchError;

/// CPU time that this process and the named ones have used.
#[derive(Clone, Debug)]
pub struct CpuTimes {
    pub own: Duration,
    /// Each process with the time of its threads, in the order they were named.
    pub of: Vec<(u32, ThreadTimes)>,
}

/// By a thread's name; threads of one name are counted together.
#[derive(Clone, Debug, Default)]
pub struct ThreadTimes(pub BTreeMap<String, Duration>);

impl ThreadTimes {
    /// Of all the threads.
    pub fn total(&self) -> Duration {
        self.0.values().sum()
    }

    fn since(&self, before: &ThreadTimes) -> ThreadTimes {
        let used = |(name, time): (&String, &Duration)| {
            (name.clone(), time.saturating_sub(before.0.get(name).copied().unwrap_or_default()))
        };
        ThreadTimes(self.0.iter().map(used).collect())
    }
}

impl CpuTimes {
    /// Reads the times so far.
    ///
    /// # Errors
    /// If a process does not exist or may not be looked at.
    pub fn read(pids: &[u32]) -> Result<CpuTimes, BenchError> {
        let of = pids.iter().map(|pid| Ok((*pid, times_of(&pid.to_string())?))).collect::<Result<_, BenchError>>()?;
        Ok(CpuTimes { own: times_of("self")?.total(), of })
    }

    /// What was used since `before`.
    pub fn since(&self, before: &CpuTimes) -> CpuTimes {
        let of = self.of.iter().zip(&before.of).map(|((pid, times), (_, then))| (*pid, times.since(then)));
        CpuTimes { own: self.own.saturating_sub(before.own), of: of.collect() }
    }

    /// Of all the named processes.
    pub fn total(&self) -> Duration {
        self.of.iter().map(|(_, times)| times.total()).sum()
    }
}

/// Threads that have ended are missing, but this counts nanoseconds where `/proc/PID/stat` counts hundredths of a second.
fn times_of(process: &str) -> Result<ThreadTimes, BenchError> {
    let directory = format!("/proc/{process}/task");
    let threads = fs::read_dir(&directory);
    let threads = threads.map_err(|error| BenchError::Process { process: process.to_owned(), error })?;
    let mut times = ThreadTimes::default();
    for thread in threads.flatten() {
        // A thread that ends while we look has no file any more.
        let file = |name: &str| fs::read_to_string(thread.path().join(name)).ok();
        let (Some(name), Some(text)) = (file("comm"), file("schedstat")) else { continue };
        let nanos = text.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0);
        *times.0.entry(name.trim_end().to_owned()).or_default() += Duration::from_nanos(nanos);
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_cpu_time() {
        let before = CpuTimes::read(&[std::process::id()]).unwrap();
        let work = move || {
            let start = std::time::Instant::now();
            while start.elapsed() < Duration::from_millis(20) {
                std::hint::spin_loop();
            }
            CpuTimes::read(&[std::process::id()]).unwrap().since(&before)
        };
        let used = std::thread::Builder::new().name("works-for-bench".to_owned()).spawn(work).unwrap().join().unwrap();
        let threads = &used.of[0].1.0;
        assert!(threads["works-for-bench"] > Duration::from_millis(1), "{used:?}");
        assert!(used.own > Duration::from_millis(1), "{used:?}");
        assert!(used.total() >= used.own / 2, "{used:?}");
        assert!(CpuTimes::read(&[u32::MAX]).is_err());
    }
}
