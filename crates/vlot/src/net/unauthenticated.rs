//! Connections that have not said who they are: how many there may be, and which has to go when there is one more.
//!
//! Owns the bound. Must not know what such a connection says.

use std::collections::VecDeque;

use tokio::task::AbortHandle;

/// The unauthenticated connections of a node. Those from hosts where a peer is known to be have places of their own, so
/// that no crowd from elsewhere keeps a peer out.
#[derive(Debug)]
pub(crate) struct Unauthenticated {
    from_peers: Places,
    others: Places,
}

#[derive(Debug)]
struct Places {
    /// In the order in which they came.
    taken: VecDeque<Place>,
    max: usize,
}

#[derive(Debug)]
struct Place {
    host: String,
    task: AbortHandle,
}

impl Unauthenticated {
    /// So many of each kind.
    pub fn new(max: usize) -> Self {
        let [from_peers, others] = [(); 2].map(|()| Places { taken: VecDeque::new(), max });
        Self { from_peers, others }
    }

    /// Takes in a connection from this host. Returns one that has to go for it, if there are too many.
    pub fn take_in(&mut self, host: &str, is_peers: bool, task: AbortHandle) -> Option<AbortHandle> {
        let places = if is_peers { &mut self.from_peers } else { &mut self.others };
        places.taken.retain(|place| !place.task.is_finished());
        let evicted = if places.taken.len() >= places.max { places.evict() } else { None };
        places.taken.push_back(Place { host: host.to_owned(), task });
        evicted
    }
}

impl Places {
    /// Of the host that has the most of them the oldest: a crowd from one host costs no other host its place. It is the
    /// oldest rather than the newest because a peer introduces itself within a few round trips, so that the connection that
    /// has waited longest is the least likely to be one.
    fn evict(&mut self) -> Option<AbortHandle> {
        let count = |host: &str| self.taken.iter().filter(|place| place.host == host).count();
        let most = self.taken.iter().map(|place| count(&place.host)).max()?;
        let oldest = self.taken.iter().position(|place| count(&place.host) == most)?;
        self.taken.remove(oldest).map(|place| place.task)
    }
}

/// The host of a `host:port`; all of it if it has no port.
pub(crate) fn host_of(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    /// Takes in connections from hosts of one letter, those of peers in upper case; returns the numbers of those that are
    /// left.
    async fn left(max: usize, hosts: &str) -> Vec<usize> {
        let mut unauthenticated = Unauthenticated::new(max);
        let mut tasks = Vec::new();
        for host in hosts.chars() {
            let task = tokio::spawn(pending::<()>());
            if let Some(evicted) = unauthenticated.take_in(&host.to_string(), host.is_uppercase(), task.abort_handle())
            {
                evicted.abort();
            }
            tasks.push(task);
        }
        tokio::task::yield_now().await;
        (0..tasks.len()).filter(|number| !tasks[*number].is_finished()).collect()
    }

    #[tokio::test]
    async fn the_oldest_of_the_host_with_the_most_has_to_go() {
        let rows = [
            ("aaa", vec![0, 1, 2]),
            ("aaaa", vec![1, 2, 3]),
            ("baaaa", vec![0, 3, 4]),
            ("abcd", vec![1, 2, 3]),
            // What comes from a peer's host goes for no other, and the other way round.
            ("PaaaaP", vec![0, 2, 3, 4, 5]),
        ];
        for (hosts, expected) in rows {
            assert_eq!(left(3, hosts).await, expected, "{hosts}");
        }
    }

    #[tokio::test]
    async fn one_that_is_over_makes_room() {
        let mut unauthenticated = Unauthenticated::new(1);
        for _ in 0..3 {
            let task = tokio::spawn(async {});
            let handle = task.abort_handle();
            task.await.unwrap();
            assert!(unauthenticated.take_in("a", false, handle).is_none());
        }
    }

    #[test]
    fn a_host_is_what_stands_before_the_port() {
        for (address, host) in [("10.0.0.1:99", "10.0.0.1"), ("[::1]:99", "[::1]"), ("a", "a"), ("", "")] {
            assert_eq!(host_of(address), host);
        }
    }
}
