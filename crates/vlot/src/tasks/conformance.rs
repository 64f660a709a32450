//! What every runtime must do, as a test to run on one of your own.
//!
//! ```
//! use tokio::runtime::Handle;
//! use vlot::tasks::conformance;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! conformance::check(&Handle::current()).await;
//! # }
//! ```

use std::sync::mpsc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{RwLock, oneshot};
use tokio::time::{sleep, timeout};

use super::{Runtime, Work};

/// Far longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much work may block at once, at least: that of a few groups.
const BLOCKED_AT_ONCE: usize = 8;

/// Tries everything that a node relies on.
///
/// # Panics
/// If the runtime fails in something; the message says in what.
pub async fn check(runtime: &dyn Runtime) {
    tasks_run_with_sockets_and_time(runtime).await;
    work_that_blocks_holds_nothing_up(runtime).await;
    work_may_wait_as_no_task_may(runtime).await;
    what_panics_takes_nothing_along(runtime).await;
    a_thread_has_a_name_and_ends_with_its_work(runtime).await;
}

/// What a task says of itself, if it does in time.
async fn soon<T>(what: &str, done: oneshot::Receiver<T>) -> T {
    let outcome = timeout(PATIENCE, done).await;
    let outcome = outcome.unwrap_or_else(|_| panic!("{what}: nothing has come of it in {PATIENCE:?}"));
    outcome.unwrap_or_else(|_| panic!("{what}: it was dropped before it was done, or has panicked"))
}

async fn tasks_run_with_sockets_and_time(runtime: &dyn Runtime) {
    let (told, done) = oneshot::channel();
    runtime.tasks().spawn(async move {
        let began = Instant::now();
        sleep(Duration::from_millis(20)).await;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (mut near, (mut far, _)) = tokio::try_join!(TcpStream::connect(listener.local_addr()?), listener.accept())?;
        near.write_all(b"words").await?;
        let mut heard = [0; 5];
        far.read_exact(&mut heard).await?;
        let _ = told.send((heard, began.elapsed()));
        std::io::Result::Ok(())
    });
    let (heard, took) = soon("tasks: one that sleeps and talks over a socket", done).await;
    assert_eq!(&heard, b"words");
    assert!(took >= Duration::from_millis(20), "tasks: a sleep of 20 ms took {took:?}");
}

async fn work_that_blocks_holds_nothing_up(runtime: &dyn Runtime) {
    let (mut gates, mut dones) = (Vec::new(), Vec::new());
    for _ in 0..BLOCKED_AT_ONCE {
        let ((open, gate), (begun, begins), (told, done)) = (mpsc::channel(), oneshot::channel(), oneshot::channel());
        let asked = Instant::now();
        runtime.spawn_blocking(Box::new(move || {
            let _ = begun.send(());
            let _ = told.send(gate.recv_timeout(PATIENCE * 3 / 2).is_ok());
        }));
        assert!(asked.elapsed() < PATIENCE / 2, "blocking: the caller waits for the work");
        soon("blocking: work begins although other work is blocked", begins).await;
        gates.push(open);
        dones.push(done);
    }
    let (told, done) = oneshot::channel();
    runtime.tasks().spawn(async move { told.send(()) });
    soon("blocking: a task runs although work is blocked", done).await;
    // What waits at a gate goes on when it is opened.
    gates.iter().for_each(|open: &mpsc::Sender<()>| open.send(()).unwrap_or_default());
    for done in dones {
        assert!(soon("blocking: work goes on", done).await, "blocking: work was held up");
    }
}

async fn work_may_wait_as_no_task_may(runtime: &dyn Runtime) {
    let (told, done) = oneshot::channel();
    runtime.spawn_blocking(Box::new(move || {
        let lock = RwLock::new(5);
        *lock.blocking_write() += 2;
        let _ = told.send(*lock.blocking_read());
    }));
    let sum = soon("waiting: work that waits for a lock, as is allowed outside of asynchronous tasks", done).await;
    assert_eq!(sum, 7);
}

async fn what_panics_takes_nothing_along(runtime: &dyn Runtime) {
    let (held, gone) = oneshot::channel::<()>();
    runtime.spawn_blocking(Box::new(move || {
        let _held = held;
        panic!("work that panics, to see what becomes of other work")
    }));
    // To tell of a panic may take long; what it holds is gone afterwards.
    let _ = timeout(PATIENCE, gone).await;
    for _ in 0..20 {
        // What a panic takes along may take a moment to go.
        sleep(Duration::from_millis(5)).await;
        let (told, done) = oneshot::channel();
        runtime.spawn_blocking(Box::new(move || told.send(()).unwrap_or_default()));
        soon("panics: work runs after other work has panicked", done).await;
    }
}

async fn a_thread_has_a_name_and_ends_with_its_work(runtime: &dyn Runtime) {
    let (told, done) = oneshot::channel();
    let work: Work = Box::new(move || {
        let thread = std::thread::current();
        let _ = told.send((thread.id(), thread.name().unwrap_or_default().to_owned()));
    });
    let thread = runtime.spawn_thread("log", work).expect("thread: one is started");
    let (id, name) = soon("thread: its work is done", done).await;
    assert_eq!(id, thread.thread().id(), "thread: its work is done on the thread that can be waited for");
    assert!(name.contains("log"), "thread: {name:?} does not say that it is the log's");
    assert!(thread.join().is_ok(), "thread: it ends with its work");
}
