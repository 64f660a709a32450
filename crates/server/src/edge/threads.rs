//! The threads that serve connections: which of them takes a new one, and in which order they end.
//!
//! Owns the balance. The first of them is the thread that [`crate::serve::serve`] runs on, which drives the node too: what is
//! proposed there wakes no other thread. Each of the others has a runtime of its own. Must not know what a connection is used for.

use std::io;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::{Builder, JoinHandle, available_parallelism};

use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::DRAIN_TIMEOUT;
use crate::edge_thread;

/// Connections that are on their way to a thread. One that takes no more is passed over.
const HANDED_MAX: usize = 1024;
/// As much as the main thread of a process usually has. Memory is taken as it is used.
const STACK_BYTES: usize = 8 << 20;

/// The name of threads on which a runtime has done what blocks.
const BLOCKING: &str = "vlot-blocking";

/// A connection from its first byte to its last, on whichever thread it comes to.
pub(super) type Conversation = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How many edge threads there are by default: one for each core.
pub(crate) fn threads_by_default() -> usize {
    available_parallelism().map_or(1, NonZeroUsize::get)
}

/// The threads beside the first, as what starts and ends them holds them.
pub(crate) struct EdgeThreads {
    balance: Arc<Balance>,
    running: Vec<Running>,
}

struct Running {
    thread: JoinHandle<()>,
    runtime: Handle,
    /// Told when all of its connections have ended.
    ended: oneshot::Receiver<()>,
}

/// How many connections each thread has.
struct Balance {
    first: Arc<AtomicUsize>,
    others: Vec<Other>,
}

struct Other {
    connections: Arc<AtomicUsize>,
    inbox: Sender<(Conversation, Counted)>,
}

/// A connection among those of its thread, for as long as it lives.
pub(super) struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn on(connections: &Arc<AtomicUsize>) -> Counted {
        connections.fetch_add(1, Relaxed);
        Counted(connections.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl EdgeThreads {
    /// Starts so many threads less one: the first is the caller's.
    ///
    /// # Errors
    /// The system gives no thread, or no runtime for it.
    pub(crate) fn start(threads: usize, stopping: &watch::Receiver<bool>) -> io::Result<EdgeThreads> {
        let (mut others, mut running) = (Vec::new(), Vec::new());
        for number in 1..threads {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().thread_name(BLOCKING).build()?;
            let (inbox, handed) = channel(HANDED_MAX);
            let (tell, ended) = oneshot::channel();
            let (stopping, handle) = (stopping.clone(), runtime.handle().clone());
            let thread = Builder::new().name(format!("vlot-edge-{number}")).stack_size(STACK_BYTES);
            let thread = thread.spawn(move || {
                edge_thread::become_number(number);
                runtime.block_on(converse_all(handed, stopping));
                // A server that was dropped does not wait for it.
                let _ = tell.send(());
            })?;
            others.push(Other { connections: Arc::default(), inbox });
            running.push(Running { thread, runtime: handle, ended });
        }
        Ok(EdgeThreads { balance: Arc::new(Balance { first: Arc::default(), others }), running })
    }

    /// The runtimes of all threads but the first, in their order.
    pub(crate) fn runtimes(&self) -> impl Iterator<Item = &Handle> {
        self.running.iter().map(|running| &running.runtime)
    }

    /// Where a listener finds the thread for a connection.
    pub(crate) fn placing(&self) -> Placing {
        Placing(self.balance.clone())
    }

    /// Waits until all threads have ended, which they do when the server stops and no listener is left.
    pub(crate) async fn ended(self) {
        drop(self.balance);
        for Running { thread, ended, .. } in self.running {
            // An error means that the thread panicked, and has said so.
            let _ = ended.await;
            let _ = thread.join();
        }
    }
}

/// Finds the thread for a connection.
#[derive(Clone)]
pub(crate) struct Placing(Arc<Balance>);

impl Placing {
    /// Hands a connection to the thread that has the fewest, of those that have as few to the one that was started first: a lone
    /// connection stays on the thread of the node. Gives it back if it is for the caller's own thread.
    pub(super) fn place(&self, conversation: Conversation) -> Option<(Conversation, Counted)> {
        let Balance { first, others } = &*self.0;
        let mut least = None;
        let mut fewest = first.load(Relaxed);
        for other in others {
            let connections = other.connections.load(Relaxed);
            if connections < fewest {
                (least, fewest) = (Some(other), connections);
            }
        }
        let Some(other) = least else { return Some((conversation, Counted::on(first))) };
        match other.inbox.try_send((conversation, Counted::on(&other.connections))) {
            Ok(()) => None,
            // It stands still, or it has ended.
            Err(refused) => {
                let (conversation, _) = refused.into_inner();
                Some((conversation, Counted::on(first)))
            }
        }
    }
}

/// Serves connections until the server stops, then waits a moment for their calls to end.
async fn converse_all(mut handed: Receiver<(Conversation, Counted)>, mut stopping: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            come = handed.recv() => match come {
                Some((conversation, counted)) => drop(connections.spawn(async move {
                    let _counted = counted;
                    conversation.await;
                })),
                None => break,
            },
            Some(_) = connections.join_next() => {}
            // An error means that the server is gone altogether.
            _ = stopping.wait_for(|stop| *stop) => break,
        }
    }
    // What is on its way was never begun.
    drop(handed);
    drain(connections).await;
}

/// Waits a moment for connections to end their calls. What is left is cut off.
pub(super) async fn drain(mut connections: JoinSet<()>) {
    let ended = async { while connections.join_next().await.is_some() {} };
    // What is left is cut off when the set is dropped.
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, ended).await;
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    use super::*;

    /// Where a connection is served, as it tells itself; it lasts until it is let go.
    fn conversation(seen: &mpsc::Sender<usize>, let_go: oneshot::Receiver<()>) -> Conversation {
        let seen = seen.clone();
        Box::pin(async move {
            seen.send(edge_thread::number()).unwrap();
            let _ = let_go.await;
        })
    }

    /// Serves a connection as a listener does.
    fn serve(placing: &Placing, own: &mut JoinSet<()>, conversation: Conversation) {
        if let Some((conversation, counted)) = placing.place(conversation) {
            own.spawn(async move {
                let _counted = counted;
                conversation.await;
            });
        }
    }

    /// Waits until so many connections were begun, and says on which threads.
    async fn threads_of(seen: &mpsc::Receiver<usize>, connections: usize) -> Vec<usize> {
        let mut threads = Vec::new();
        while threads.len() < connections {
            threads.extend(seen.try_iter());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        threads
    }

    #[tokio::test]
    async fn the_first_connection_stays_and_the_next_goes_where_there_are_fewest() {
        let (_stop, stopping) = watch::channel(false);
        let threads = EdgeThreads::start(3, &stopping).unwrap();
        let (placing, mut own) = (threads.placing(), JoinSet::new());
        let (tell, seen) = mpsc::channel();
        let mut open = Vec::new();
        for expected in [0, 1, 2, 0, 1, 2] {
            let (let_go, held) = oneshot::channel();
            serve(&placing, &mut own, conversation(&tell, held));
            assert_eq!(threads_of(&seen, 1).await, [expected]);
            open.push(let_go);
        }
        // Both of the second thread end.
        drop((open.remove(4), open.remove(1)));
        while placing.0.others[0].connections.load(Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for expected in [1, 1, 0] {
            let (let_go, held) = oneshot::channel();
            serve(&placing, &mut own, conversation(&tell, held));
            assert_eq!(threads_of(&seen, 1).await, [expected]);
            open.push(let_go);
        }
    }

    #[tokio::test]
    async fn a_thread_that_stands_still_holds_up_no_other() {
        let (_stop, stopping) = watch::channel(false);
        let threads = EdgeThreads::start(3, &stopping).unwrap();
        let (placing, mut own) = (threads.placing(), JoinSet::new());
        let (let_go, held) = mpsc::channel::<()>();
        let (stands, stood) = mpsc::channel();
        let (tell, seen) = mpsc::channel();
        let (_idle, waits) = oneshot::channel();
        serve(&placing, &mut own, conversation(&tell, waits));
        serve(
            &placing,
            &mut own,
            Box::pin(async move {
                stands.send(()).unwrap();
                let _ = held.recv();
            }),
        );
        stood.recv().unwrap();
        let open: Vec<_> = (0..7)
            .map(|_| {
                let (let_go, held) = oneshot::channel();
                serve(&placing, &mut own, conversation(&tell, held));
                let_go
            })
            .collect();
        // It has its share of the connections, which wait for it.
        let mut begun = threads_of(&seen, 6).await;
        begun.sort_unstable();
        assert_eq!(begun, [0, 0, 0, 2, 2, 2]);
        let_go.send(()).unwrap();
        assert_eq!(threads_of(&seen, 2).await, [1, 1]);
        drop(open);
    }

    #[tokio::test]
    async fn all_threads_end_with_the_server_and_wait_a_moment_for_their_connections() {
        let (stop, stopping) = watch::channel(false);
        let threads = EdgeThreads::start(3, &stopping).unwrap();
        let (placing, mut own) = (threads.placing(), JoinSet::new());
        let ended = Arc::new(AtomicUsize::new(0));
        let (tell, seen) = mpsc::channel();
        for number in 0..6 {
            let (mut stopping, ended, tell) = (stopping.clone(), ended.clone(), tell.clone());
            let conversation = Box::pin(async move {
                tell.send(number).unwrap();
                let _ = stopping.wait_for(|stop| *stop).await;
                // The last one on its thread does not come to an end.
                let more = if number == 5 { Duration::from_secs(3600) } else { Duration::from_millis(50) };
                tokio::time::sleep(more).await;
                ended.fetch_add(1, Relaxed);
            });
            serve(&placing, &mut own, conversation);
        }
        threads_of(&seen, 6).await;
        let begun = Instant::now();
        stop.send_replace(true);
        drop(placing);
        drain(own).await;
        threads.ended().await;
        assert_eq!(ended.load(Relaxed), 5);
        assert!(begun.elapsed() < 2 * DRAIN_TIMEOUT, "{:?}", begun.elapsed());
    }
}
