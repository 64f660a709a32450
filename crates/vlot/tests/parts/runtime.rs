//! Nodes whose work is done elsewhere than where they are called, and runtimes that are broken.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fmt, io};

use tokio::runtime::{Builder, Handle};
use vlot::storage::MemoryDisk;
use vlot::tasks::{Runtime, Work, conformance};
use vlot::{Node, NodeId, Options};

use crate::world::{GROUP, Sum, World};
use crate::{each_is_found, one_thread};

#[tokio::test]
async fn tokios_runtimes_conform() {
    conformance::check(&Handle::current()).await;
    let other = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    conformance::check(other.handle()).await;
    other.shutdown_background();
}

/// A program's own: work that may block has threads of its own, and all of it is counted.
struct Counting {
    tasks: Handle,
    blocking: AtomicU64,
    threads: Mutex<Vec<String>>,
}

impl Counting {
    fn new(tasks: Handle) -> Arc<Self> {
        Arc::new(Self { tasks, blocking: AtomicU64::new(0), threads: Mutex::default() })
    }
}

impl fmt::Debug for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counting")
    }
}

impl Runtime for Counting {
    fn tasks(&self) -> Handle {
        self.tasks.clone()
    }

    fn spawn_blocking(&self, work: Work) {
        self.blocking.fetch_add(1, Relaxed);
        thread::spawn(work);
    }

    fn spawn_thread(&self, name: &str, work: Work) -> io::Result<JoinHandle<()>> {
        let name = format!("counted-{name}");
        self.threads.lock().unwrap().push(name.clone());
        thread::Builder::new().name(name).spawn(work)
    }
}

#[tokio::test]
async fn a_runtime_of_a_programs_own_conforms() {
    conformance::check(&*Counting::new(Handle::current())).await;
}

#[tokio::test]
async fn a_programs_own_runtime_does_what_may_block_and_names_the_threads() {
    let runtime = Counting::new(Handle::current());
    let chosen: Arc<dyn Runtime> = Arc::clone(&runtime) as _;
    // A log in memory has a thread only if some thread must look whether there is room.
    let options = Options { headroom_bytes: 1, ..Options::on(MemoryDisk::new()) };
    let node = Node::open(Options { runtime: Some(chosen), ..options }).await.unwrap();
    let sum = node.group(GROUP, [NodeId(1)], Sum::default()).await.unwrap();
    for _ in 0..20 {
        sum.propose(1).await.unwrap();
    }
    assert!(runtime.blocking.load(Relaxed) > 0, "a state machine that is not prompt is applied there");
    assert_eq!(*runtime.threads.lock().unwrap(), ["counted-log"]);
    node.shutdown().await;
}

/// The callers' runtime has one thread. While it stands, nodes whose tasks are elsewhere do what they must.
#[test]
fn nodes_on_another_runtime_go_on_while_the_callers_stands() {
    let nodes = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let handle = nodes.handle().clone();
    one_thread().block_on(async move {
        let configure = move |options: &mut Options| {
            options.runtime = Some(Arc::new(handle.clone()));
            (options.heartbeat, options.election_timeout) = (Duration::from_millis(100), Duration::from_secs(1));
        };
        let world = World::start(configure).await;
        let leader = world.leader_soon().await;
        world.group(leader).propose(5).await.unwrap();
        let before = world.group(leader).status().role_state;
        // Three election timeouts: a leader that stood still as long would have been given up.
        thread::sleep(Duration::from_secs(3));
        let after: Vec<_> = (0..3).map(|node| world.group(node).status().role_state).collect();
        assert!(after.iter().all(|role| role.term == before.term && role.leader == before.leader), "{after:?}");
        assert_eq!(world.group(leader).propose(5).await.unwrap(), 10);
        world.end().await;
    });
    nodes.shutdown_timeout(Duration::from_secs(5));
}

#[test]
fn a_node_may_be_opened_and_used_where_there_is_no_runtime() {
    let nodes = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let options = Options { runtime: Some(Arc::new(nodes.handle().clone())), ..Options::on(MemoryDisk::new()) };
    let opening = must_be_send(Node::open(options));
    // A bare executor: what waits is polled by a thread that knows nothing of tokio.
    let node = block_on(opening).unwrap();
    let sum = block_on(node.group(GROUP, [NodeId(1)], Sum::default())).unwrap();
    assert_eq!(block_on(sum.look(|state| state.sum)).unwrap(), 0);
    block_on(node.shutdown());
}

fn must_be_send<F: Future + Send>(future: F) -> F {
    future
}

fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::task::Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        if let std::task::Poll::Ready(done) = future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            return done;
        }
        thread::park();
    }
}

/// What is wrong with a runtime.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fault {
    HasNoTime,
    HasNoSockets,
    OneAtATime,
    DropsWork,
    RunsInTheCaller,
    RunsAsTasks,
    DiesOfPanics,
    NamesNothing,
    RunsElsewhere,
}

#[derive(Debug)]
struct Broken {
    tasks: Handle,
    fault: Fault,
    one: mpsc::Sender<Work>,
    is_dead: Arc<AtomicU64>,
}

fn no_more() {}

impl Runtime for Broken {
    fn tasks(&self) -> Handle {
        self.tasks.clone()
    }

    fn spawn_blocking(&self, work: Work) {
        match self.fault {
            Fault::OneAtATime => self.one.send(work).unwrap(),
            Fault::DropsWork => drop(work),
            Fault::RunsInTheCaller => work(),
            Fault::RunsAsTasks => drop(self.tasks.spawn(async move { work() })),
            Fault::DiesOfPanics => {
                let is_dead = Arc::clone(&self.is_dead);
                thread::spawn(move || {
                    let lives = is_dead.load(Relaxed) == 0;
                    if lives && std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err() {
                        is_dead.store(1, Relaxed);
                    }
                });
            }
            _ => drop(self.tasks.spawn_blocking(work)),
        }
    }

    fn spawn_thread(&self, name: &str, work: Work) -> io::Result<JoinHandle<()>> {
        match self.fault {
            Fault::NamesNothing => Ok(thread::spawn(work)),
            Fault::RunsElsewhere => {
                drop(thread::Builder::new().name(name.to_owned()).spawn(work)?);
                Ok(thread::spawn(no_more))
            }
            _ => thread::Builder::new().name(name.to_owned()).spawn(work),
        }
    }
}

#[test]
fn each_rule_that_a_runtime_breaks_is_found() {
    use Fault::*;
    let rows = [
        (HasNoTime, "tasks:"),
        (HasNoSockets, "tasks:"),
        (OneAtATime, "blocking: work begins although"),
        (DropsWork, "blocking: work begins although"),
        (RunsInTheCaller, "blocking: the caller waits"),
        (RunsAsTasks, "waiting:"),
        (DiesOfPanics, "panics:"),
        (NamesNothing, "thread: \"\" does not say"),
        (RunsElsewhere, "thread: its work is done on the thread"),
    ];
    each_is_found(&rows, |fault| {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(16);
        match fault {
            HasNoTime => builder.enable_io(),
            HasNoSockets => builder.enable_time(),
            _ => builder.enable_all(),
        };
        let runtime = builder.build().unwrap();
        let (one, work) = mpsc::channel::<Work>();
        thread::spawn(move || work.into_iter().for_each(|work| work()));
        let broken = Broken { tasks: runtime.handle().clone(), fault, one, is_dead: Arc::default() };
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            one_thread().block_on(conformance::check(&broken));
        }));
        runtime.shutdown_background();
        checked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}
