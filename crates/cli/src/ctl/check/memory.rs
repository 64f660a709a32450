//! A server's memory, as its metrics tell it.

use std::fmt;
use std::time::Duration;

use crate::client::security::ConnectError;
use crate::client::{Endpoint, Security};

const METRIC: &str = "process_resident_memory_bytes";
const WITHIN: Duration = Duration::from_secs(10);
/// Metrics of a server are far shorter.
const PAGE_BYTES_MAX: u64 = 16 << 20;

/// Why a server's memory is not known.
#[derive(Debug)]
pub enum Unknown {
    Unreachable(ConnectError),
    TimedOut,
    /// There is no such figure, or it is none.
    NotFound,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => write!(f, "fetch error: {error}"),
            Self::TimedOut => f.write_str("fetch error: no answer in time"),
            Self::NotFound => write!(f, "could not find: {METRIC}"),
        }
    }
}

impl std::error::Error for Unknown {}

/// The bytes that the server's process has in memory.
///
/// # Errors
/// [`Unknown`].
pub async fn resident(server: &Endpoint, security: &Security) -> Result<f64, Unknown> {
    let page = tokio::time::timeout(WITHIN, server.metrics(security, PAGE_BYTES_MAX)).await;
    let page = page.map_err(|_| Unknown::TimedOut)?.map_err(Unknown::Unreachable)?;
    find(&page).ok_or(Unknown::NotFound)
}

fn find(page: &str) -> Option<f64> {
    let value = page.lines().find_map(|line| line.strip_prefix(METRIC))?;
    value.trim().parse().ok().filter(|bytes| *bytes > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figure_is_found_among_the_others() {
        let page = "HTTP/1.0 200 OK\r\n\r\n# HELP process_resident_memory_bytes Resident.\n\
                    process_resident_memory_bytes 5.6512512e+07\nprocess_start_time_seconds 1\n";
        assert_eq!(find(page), Some(56_512_512.0));
        assert_eq!(find("process_resident_memory_bytes NaN\n"), None);
        assert_eq!(find("HTTP/1.0 404 Not Found\r\n\r\n"), None);
    }
}
