//! Memory of processes, as the kernel shows it in `/proc`.

use std::fs;

use super::error::BenchError;

/// Resident memory of a process.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Memory {
    /// What it has.
    pub bytes: u64,
    /// The most it ever had.
    pub bytes_max: u64,
}

impl Memory {
    /// Of all these processes together.
    ///
    /// # Errors
    /// If one does not exist or may not be looked at.
    pub fn read(pids: &[u32]) -> Result<Memory, BenchError> {
        let mut sum = Memory::default();
        for pid in pids {
            let status = fs::read_to_string(format!("/proc/{pid}/status"));
            let status = status.map_err(|error| BenchError::Process { process: pid.to_string(), error })?;
            sum.bytes += line(&status, "VmRSS:");
            sum.bytes_max += line(&status, "VmHWM:");
        }
        Ok(sum)
    }
}

/// A line's number of KiB, as bytes.
fn line(status: &str, name: &str) -> u64 {
    let rest = status.lines().find_map(|line| line.strip_prefix(name));
    let kibibytes = rest.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or_default() * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory_and_no_more_than_it_had() {
        let Memory { bytes, bytes_max } = Memory::read(&[std::process::id()]).unwrap();
        assert!(bytes > 100_000 && bytes_max >= bytes, "{bytes} {bytes_max}");
        assert_eq!(Memory::read(&[]).unwrap(), Memory::default());
        assert!(Memory::read(&[u32::MAX]).is_err());
    }
}
