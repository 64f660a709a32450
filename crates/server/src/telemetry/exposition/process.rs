//! What the system says of this process. Reads Linux's `/proc`; elsewhere these metrics are missing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::text::{Exposition, labels};

pub(super) fn process(process_start: f64, text: &mut Exposition) {
    text.gauge("process_start_time_seconds", "When the process started, since 1970.", process_start);
    if let Some(bytes) = kibibytes_of("VmRSS:") {
        text.gauge("process_resident_memory_bytes", "Resident memory.", bytes);
    }
    if let Some(bytes) = kibibytes_of("VmSize:") {
        text.gauge("process_virtual_memory_bytes", "Virtual memory.", bytes);
    }
    if let Some(seconds) = cpu_seconds() {
        text.counter("process_cpu_seconds_total", "User and system time.", seconds);
    }
    let threads = thread_seconds().into_iter();
    text.counters(
        "vlot_thread_cpu_seconds_total",
        "User and system time of the threads that there are, by their names.",
        threads.map(|(name, seconds)| (labels(&[("thread", &name)]), seconds)),
    );
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        text.gauge("process_open_fds", "Open file descriptors.", open.count());
    }
    if let Some(most) = max_fds() {
        text.gauge("process_max_fds", "Most file descriptors that may be open.", most);
    }
}

fn kibibytes_of(field: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses and may hold blanks. User and system time are the 14th and
    // 15th, in hundredths of a second.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<f64>().ok();
    Some((next()? + next()?) / 100.0)
}

/// What each thread has used, those of one name together: a pool's, say. What a thread has used that has ended is not in it.
fn thread_seconds() -> BTreeMap<String, f64> {
    let mut seconds = BTreeMap::new();
    for thread in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        // One that has ended meanwhile is left out.
        if let Some((name, used)) = thread_time(&thread.path()) {
            *seconds.entry(name).or_default() += used;
        }
    }
    seconds
}

fn thread_time(thread: &Path) -> Option<(String, f64)> {
    let name = fs::read_to_string(thread.join("comm")).ok()?;
    // In nanoseconds, unlike what else is told of a thread.
    let used = fs::read_to_string(thread.join("schedstat")).ok()?;
    let nanoseconds: u64 = used.split_whitespace().next()?.parse().ok()?;
    Some((name.trim_end().to_owned(), nanoseconds as f64 / 1e9))
}

fn max_fds() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_a_name_and_a_number() {
        let mut text = Exposition::default();
        process(1.5, &mut text);
        for line in text.0.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.rsplit_once(' ').is_some_and(|(_, value)| value.parse::<f64>().is_ok()), "{line}");
        }
        assert!(text.0.contains("process_start_time_seconds 1.5"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_that_works_is_told_by_its_name() {
        let work = || {
            let begun = std::time::Instant::now();
            while begun.elapsed() < std::time::Duration::from_millis(20) {}
            // The time of a thread that runs is counted up at each tick.
            std::thread::yield_now();
            thread_seconds()
        };
        let seconds = std::thread::Builder::new().name("vlot-edge-77".into()).spawn(work).unwrap().join().unwrap();
        assert!(seconds["vlot-edge-77"] > 0.0, "{seconds:?}");
    }
}
