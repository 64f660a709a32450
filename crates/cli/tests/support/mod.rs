//! What the end-to-end tests share: real processes on free ports of this machine, each of which ends with its test.
//!
//! Owns starting, killing and asking processes, with a bound on every wait. Must not know what a test expects of them.

// Each test program uses a part of this.
#![allow(dead_code)]

pub mod certificates;
pub mod cluster;
pub mod dice;
pub mod exposition;
pub mod frames;
pub mod grpc;
pub mod http;
pub mod process;
pub mod volume;

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The program that is tested.
pub const VLOT: &str = env!("CARGO_BIN_EXE_vlot");

/// etcd's own programs, by which ours is judged.
pub struct Etcd {
    pub server: PathBuf,
    pub ctl: PathBuf,
}

impl Etcd {
    /// Looks in `$VLOT_ETCD_DIR/bin`, or without that variable in `PATH`.
    ///
    /// # Panics
    /// If there is none and `VLOT_REQUIRE_ETCD` is set: then tests must not pass without it.
    pub fn find() -> Option<Etcd> {
        let folders: Vec<PathBuf> = match std::env::var_os("VLOT_ETCD_DIR") {
            Some(dir) => vec![PathBuf::from(dir).join("bin")],
            None => std::env::var_os("PATH").iter().flat_map(std::env::split_paths).collect(),
        };
        let found = |name: &str| folders.iter().map(|folder| folder.join(name)).find(|program| program.is_file());
        match (found("etcd"), found("etcdctl")) {
            (Some(server), Some(ctl)) => Some(Etcd { server, ctl }),
            _ => {
                assert!(std::env::var_os("VLOT_REQUIRE_ETCD").is_none(), "etcd not found: set VLOT_ETCD_DIR");
                // Not by a macro, whose output the test harness would keep to itself.
                let _ = writeln!(std::io::stderr(), "SKIPPED: etcd not found: set VLOT_ETCD_DIR");
                None
            }
        }
    }
}

/// A directory that goes when the test has passed. After a failure it stays, to be looked at.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new(name: &str) -> TempDir {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("vlot-e2e-{}-{count}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        TempDir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("data and logs are in {}", self.0.display());
        } else {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// A port that nobody listens on, and that this program has not given out before. It lies below the ports that the
/// system gives to outgoing connections, so that it stays free while the node that has it is down.
pub fn free_port() -> u16 {
    const FIRST: u32 = 11_000;
    const PORTS: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Programs that run at the same time start far from each other.
    let start = std::process::id().wrapping_mul(7919);
    let _not_spawning = process::SPAWNING.write().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..PORTS {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = (FIRST + start.wrapping_add(next) % PORTS) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

/// Waits until something is true.
///
/// # Panics
/// If it is not in time.
pub fn eventually(what: &str, within: Duration, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < within, "not within {within:?}: {what}");
        sleep(Duration::from_millis(10));
    }
}
