//! `vlot server`, or `etcd`: one node, as a process.
//!
//! Owns which signals a process heeds, how it is told to stop, and its exit code. The flags are read, and the node is run, by the library.

use std::io::Read;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use tokio::runtime::Runtime;
use tokio::signal::unix::SignalKind;
use tokio::sync::Notify;
use vlot_server::ETCD_VERSION;
use vlot_server::config::{self, Config};
use vlot_server::descriptors;
use vlot_server::serve::{ServeError, serve};

use crate::{logging, signals};

/// Runs a server with etcd's arguments. `program` is what the user calls it: `vlot server`, or `etcd`.
pub(crate) fn run(program: &'static str, arguments: Vec<String>) -> ExitCode {
    let fail = |error: &dyn std::fmt::Display| {
        eprintln!("{program}: {error}");
        ExitCode::FAILURE
    };
    if arguments.iter().any(|argument| matches!(argument.as_str(), "--help" | "-help" | "-h")) {
        print!("{}", config::help());
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|argument| matches!(argument.as_str(), "--version" | "-version")) {
        print!("{}", version(program));
        return ExitCode::SUCCESS;
    }
    let environment =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let config = match Config::read(arguments, environment) {
        Ok(config) => config,
        Err(error) => return fail(&error),
    };
    logging::start(&config.logging);
    if let Err(error) = descriptors::raise_limit() {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().thread_name("vlot-blocking").build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format_args!("cannot start: {error}")),
    };
    // Not the main thread: its name is the process's.
    let node = thread::Builder::new().name("vlot-node".to_owned()).stack_size(STACK_BYTES);
    match node.spawn(move || run_node(&runtime, config)) {
        Ok(node) => match node.join() {
            Ok(Ok(())) => ExitCode::SUCCESS,
            Ok(Err(error)) => fail(&error),
            Err(panic) => std::panic::resume_unwind(panic),
        },
        Err(error) => fail(&format_args!("cannot start: {error}")),
    }
}

/// As much as a main thread usually has. Memory is taken as it is used.
const STACK_BYTES: usize = 8 << 20;

/// Runs the node on this thread until it has stopped.
fn run_node(runtime: &Runtime, config: Config) -> Result<(), ServeError> {
    let asked_to_stop = asked_to_stop(config.stop_with_parent);
    let asked_to_reopen = Arc::new(Notify::new());
    let within = runtime.enter();
    if config.has_audit_file() {
        // Before the node starts, which may take its time. Without such a file SIGHUP ends the process, as it does etcd.
        signals::tell_of_each(SignalKind::hangup(), asked_to_reopen.clone());
    }
    let asked_to_dump = Arc::new(Notify::new());
    signals::tell_of_each(SignalKind::user_defined1(), asked_to_dump.clone());
    drop(within);
    runtime.block_on(serve(config, asked_to_stop, asked_to_reopen, asked_to_dump))
}

/// Under etcd's name the first line is etcd's, for scripts that compare it.
fn version(program: &str) -> String {
    let own = env!("CARGO_PKG_VERSION");
    match program {
        "etcd" => {
            let (system, machine) = (std::env::consts::OS, std::env::consts::ARCH);
            format!("etcd Version: {ETCD_VERSION}\nServed by: vlot {own}\nOS/Arch: {system}/{machine}\n")
        }
        _ => format!("vlot {own} (etcd API {ETCD_VERSION})\n"),
    }
}

/// Waits for SIGTERM, SIGINT, or where the parent asked for it, the end of standard input: a parent that dies closes
/// it, however it dies.
async fn asked_to_stop(with_parent: bool) -> &'static str {
    let (closed, parent_gone) = tokio::sync::oneshot::channel();
    if with_parent {
        // A thread, because reading standard input blocks. It ends with the process.
        thread::spawn(move || {
            let mut rest = [0; 64];
            while matches!(std::io::stdin().read(&mut rest), Ok(1..)) {}
            let _ = closed.send(());
        });
    }
    let parent_gone = async {
        match parent_gone.await {
            Ok(()) => {}
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = signals::received(SignalKind::terminate()) => "SIGTERM",
        () = signals::received(SignalKind::interrupt()) => "SIGINT",
        () = parent_gone => "the parent process has ended",
    }
}
