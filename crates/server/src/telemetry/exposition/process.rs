//! What the system says of this process. Reads Linux's `/proc`; elsewhere these metrics are missing.

use super::text::Exposition;

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
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        text.gauge("process_open_fds", "Open file descriptors.", open.count());
    }
    if let Some(most) = max_fds() {
        text.gauge("process_max_fds", "Most file descriptors that may be open.", most);
    }
}

fn kibibytes_of(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses and may hold blanks. User and system time are the 14th and
    // 15th, in hundredths of a second.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<f64>().ok();
    Some((next()? + next()?) / 100.0)
}

fn max_fds() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
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
}
