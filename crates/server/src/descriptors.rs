//! The file descriptors of the process: how many it may have, and how many of them are for clients.
//!
//! Owns that the node itself has enough: its log and its store want new files at any time, and its peers new connections.
//! A client that is refused tries elsewhere or again; a node without a file for its log is none.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What is kept for the node: files of the log and the store, connections of peers. etcd keeps as many.
const RESERVED: u64 = 150;

/// Raises what the process may have to what it may raise it to, as programs in Go do by themselves. Returns how many that
/// is; `None` is no limit.
///
/// # Errors
/// The system does not allow it.
pub fn raise_limit() -> io::Result<Option<u64>> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    Ok(maximum)
}

/// How many connections clients may have at a time.
pub(crate) fn connections_max() -> usize {
    left_for_clients(getrlimit(Resource::Nofile).current)
}

/// Of few, the node has half.
fn left_for_clients(limit: Option<u64>) -> usize {
    let Some(limit) = limit else { return usize::MAX };
    usize::try_from(limit - RESERVED.min(limit / 2)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_has_its_share_of_many_and_of_few() {
        let rows =
            [(Some(1024), 874), (Some(300), 150), (Some(200), 100), (Some(10), 5), (Some(0), 0), (None, usize::MAX)];
        for (limit, expected) in rows {
            assert_eq!(left_for_clients(limit), expected, "{limit:?}");
        }
    }

    #[test]
    fn a_limit_that_is_raised_stays() {
        let raised = raise_limit().unwrap();
        assert_eq!(getrlimit(Resource::Nofile).current, raised);
        assert_eq!(raise_limit().unwrap(), raised);
    }
}
