//! Handles for callers on runtimes of their own: the same answers as by any other, and an end to each wait.

use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use vlot::storage::MemoryDisk;
use vlot::{Group, Node, NodeId, Options, ProposeError, ReadError};

use crate::one_thread;
use crate::world::{GROUP, SOON, Sum};

const TASKS: u64 = 8;
const ROUNDS: u64 = 100;

/// A runtime whose tasks are not on the thread that waits for them.
fn one_worker() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Runs something on a runtime of its own, with a handle for it.
fn on_own_runtime<T, F>(sum: &Group<Sum>, work: impl FnOnce(Group<Sum>) -> F + Send + 'static) -> thread::JoinHandle<T>
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    on_runtime(one_thread, sum, work)
}

/// Runs something on such a runtime, with a handle for it.
fn on_runtime<T, F>(
    runtime: fn() -> Runtime,
    sum: &Group<Sum>,
    work: impl FnOnce(Group<Sum>) -> F + Send + 'static,
) -> thread::JoinHandle<T>
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    let sum = sum.clone();
    thread::spawn(move || {
        let runtime = runtime();
        let sum = sum.for_runtime(runtime.handle());
        runtime.block_on(work(sum))
    })
}

async fn joined<T: Send + 'static>(thread: thread::JoinHandle<T>) -> T {
    tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap()
}

#[tokio::test]
async fn every_call_of_every_runtime_is_answered_with_what_is_its_own() {
    let node = Node::open(Options::on(MemoryDisk::new())).await.unwrap();
    let sum = node.group(GROUP, [NodeId(1)], Sum::default()).await.unwrap();
    let add = |sum: Group<Sum>| async move {
        let task = |sum: Group<Sum>| async move {
            let mut last = 0;
            for _ in 0..ROUNDS {
                let total = sum.propose(1).await.unwrap();
                assert!(total > last, "{total} after {last}");
                last = total;
                assert!(
                    sum.read(|sum| sum.sum).await.unwrap() >= total,
                    "a read that is older than what it comes after"
                );
            }
        };
        let tasks: Vec<_> = (0..TASKS).map(|_| tokio::spawn(task(sum.clone()))).collect();
        for task in tasks {
            task.await.unwrap();
        }
    };
    let runtimes: [fn() -> Runtime; 3] = [one_thread, one_thread, one_worker];
    let threads = runtimes.map(|runtime| on_runtime(runtime, &sum, add));
    for thread in threads {
        joined(thread).await;
    }
    assert_eq!(sum.read(|sum| sum.sum).await, Ok(runtimes.len() as u64 * TASKS * ROUNDS));
    assert_eq!(sum.proposals_waiting(), 0);
    node.shutdown().await;
}

/// On its runtime of one thread there is room for others, and it ends when it is told to.
#[tokio::test]
async fn a_node_that_stays_awake_holds_nobody_up() {
    let options = Options { busy_poll: Duration::from_secs(3600), ..Options::on(MemoryDisk::new()) };
    let node = Node::open(options).await.unwrap();
    let sum = node.group(GROUP, [NodeId(1)], Sum::default()).await.unwrap();
    let others = on_own_runtime(&sum, |sum| async move { sum.propose(1).await });
    assert!(joined(others).await.is_ok());
    for total in 2..100 {
        assert_eq!(sum.propose(1).await, Ok(total));
        // Timers of this thread, too.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    node.shutdown().await;
}

#[tokio::test]
async fn where_no_majority_is_each_call_waits_as_long_as_it_may() {
    let node = Node::open(Options::on(MemoryDisk::new())).await.unwrap();
    let sum = node.group(GROUP, [1, 2, 3].map(NodeId), Sum::default()).await.unwrap();
    let wait = |sum: Group<Sum>| async move {
        let (brief, long) = (Duration::from_millis(50), Duration::from_millis(300));
        let begun = Instant::now();
        let (brief, long) = (sum.within(brief), sum.within(long));
        // They wait together, and not for each other.
        let both = tokio::join!(
            async { (brief.barrier().await, begun.elapsed()) },
            async { (long.barrier().await, begun.elapsed()) },
            brief.propose(1),
        );
        let ((first, first_took), (second, second_took), proposed) = both;
        assert_eq!((first, second), (Err(ReadError::TimedOut), Err(ReadError::TimedOut)));
        assert!(first_took >= Duration::from_millis(45) && first_took < second_took, "{first_took:?} {second_took:?}");
        assert!(matches!(proposed, Err(ProposeError::NoLeader | ProposeError::Unknown)), "{proposed:?}");
        // One that is given up is forgotten.
        let given_up = tokio::time::timeout(Duration::from_millis(20), sum.propose(1)).await;
        assert!(given_up.is_err());
        assert_eq!(sum.proposals_waiting(), 0);
    };
    joined(on_own_runtime(&sum, wait)).await;
    node.shutdown().await;
}

#[tokio::test]
async fn calls_of_all_runtimes_end_with_the_node() {
    let node = Node::open(Options::on(MemoryDisk::new())).await.unwrap();
    let sum = node.group(GROUP, [1, 2, 3].map(NodeId), Sum::default()).await.unwrap();
    let (waits, has_begun) = std::sync::mpsc::channel();
    let wait = |sum: Group<Sum>| async move {
        let sum = sum.within(SOON * 2);
        let begun = async { waits.send(()).unwrap() };
        let (read, proposed, ()) = tokio::join!(sum.barrier(), sum.propose(1), begun);
        // What comes afterwards is told too.
        (read, proposed, sum.barrier().await, sum.propose(1).await)
    };
    let waiting = on_own_runtime(&sum, wait);
    tokio::task::spawn_blocking(move || has_begun.recv().unwrap()).await.unwrap();
    node.shutdown().await;
    let (stopped, unsent) = (Err(ReadError::Stopped), Err(ProposeError::Stopped));
    assert_eq!(joined(waiting).await, (stopped, unsent.clone(), stopped, unsent));
}
