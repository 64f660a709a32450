//! Where a node's work is done: its tasks, what may block, and the thread of its log.
//!
//! Owns that interface. Sockets and timers are tokio's (`docs/decisions/0035-parts-that-can-be-replaced.md`), so that tasks run on
//! one of its runtimes: which one can be chosen, and how threads are made. Must not know what the work is.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::runtime::Handle;

pub mod conformance;

/// Work that is done once. It may block, and takes its own panics along.
pub type Work = Box<dyn FnOnce() + Send>;

/// Where a node's work is done. What is provided is tokio's and the standard library's way; a program that pins threads to
/// cores, names them, counts work, or has a pool of its own does it here.
///
/// ```
/// use std::sync::Arc;
/// use std::{io, thread};
/// use tokio::runtime::Handle;
/// use vlot::Options;
/// use vlot::tasks::{Runtime, Work};
///
/// #[derive(Debug)]
/// struct Pinned(Handle);
///
/// impl Runtime for Pinned {
///     fn tasks(&self) -> Handle {
///         self.0.clone()
///     }
///
///     fn spawn_thread(&self, name: &str, work: Work) -> io::Result<thread::JoinHandle<()>> {
///         thread::Builder::new().name(format!("vlot-{name}")).spawn(move || {
///             // here the thread would be pinned to a core
///             work();
///         })
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let options = Options { runtime: Some(Arc::new(Pinned(Handle::current()))), ..Options::new("data") };
/// # let _ = options;
/// # }
/// ```
pub trait Runtime: fmt::Debug + Send + Sync + 'static {
    /// The runtime on which tasks run: with I/O and time, and driven for as long as the node is to live. None of the node's tasks
    /// blocks. Asked once, when a node is opened.
    fn tasks(&self) -> Handle;

    /// Begins soon with work that may block, beside tasks and beside other such work, and not within an asynchronous task: a
    /// state machine applies what is not prompt, and files of snapshots are written and read. A group has at most three at once.
    fn spawn_blocking(&self, work: Work) {
        drop(self.tasks().spawn_blocking(work));
    }

    /// Starts a thread for work that lasts as long as the node: its log's, called `log`.
    ///
    /// # Errors
    /// If there can be no thread.
    fn spawn_thread(&self, name: &str, work: Work) -> io::Result<JoinHandle<()>> {
        thread::Builder::new().name(name.to_owned()).spawn(work)
    }
}

/// All work is done on this runtime, and the log's on a thread of its own.
impl Runtime for Handle {
    fn tasks(&self) -> Handle {
        self.clone()
    }
}

/// What a node's parts use to have work done.
#[derive(Clone, Debug)]
pub(crate) struct Spawner {
    tasks: Handle,
    runtime: Arc<dyn Runtime>,
}

impl Spawner {
    /// The chosen one, or by default the runtime that this is called on.
    pub(crate) fn new(chosen: Option<Arc<dyn Runtime>>) -> Self {
        let runtime = chosen.unwrap_or_else(|| Arc::new(Handle::current()));
        Self { tasks: runtime.tasks(), runtime }
    }

    pub(crate) fn tasks(&self) -> &Handle {
        &self.tasks
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> tokio::task::JoinHandle<()> {
        self.tasks.spawn(task)
    }

    pub(crate) fn spawn_blocking(&self, work: impl FnOnce() + Send + 'static) {
        self.runtime.spawn_blocking(Box::new(work));
    }

    pub(crate) fn spawn_thread(&self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
        self.runtime.spawn_thread(name, Box::new(work))
    }
}
