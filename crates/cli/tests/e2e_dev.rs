//! `vlot dev`: a cluster of real processes that starts with one command, and of which nothing is left behind.

mod support;

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::PoisonError;
use std::time::Duration;

use support::cluster::{PATIENCE, client};
use support::http::fetch;
use support::process::{Output, Process, SPAWNING, run, runs, signal};
use support::{Etcd, TempDir, VLOT, eventually};

/// Where the ports of each test begin, so that tests that run at once do not meet. The third node's are higher by
/// 30,000, and still below those that the system gives to outgoing connections.
const PORTS: [u16; 3] = [1_300, 1_700, 2_100];

/// A running `vlot dev` that has said where its nodes are.
struct Dev {
    process: Process,
    port: u16,
    said: PathBuf,
}

impl Dev {
    fn start(dir: &Path, near: u16) -> Dev {
        let port = {
            let _not_spawning = SPAWNING.write().unwrap_or_else(PoisonError::into_inner);
            (near..).step_by(2).find(|port| ports(*port).into_iter().all(is_free)).unwrap()
        };
        Dev::start_at(dir, port)
    }

    fn start_at(dir: &Path, port: u16) -> Dev {
        let said = dir.join("said");
        let out = File::create(&said).unwrap();
        let mut command = Command::new(VLOT);
        command.arg("dev").arg("--dir").arg(dir.join("cluster")).arg("--port").arg(port.to_string());
        // A file of some other cluster's node, which is nothing to these.
        command.env("ETCD_CONFIG_FILE", "no such file");
        let process = Process::start(command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out));
        let mut dev = Dev { process, port, said };
        eventually("it is ready", PATIENCE, || {
            assert!(dev.process.ended().is_none(), "{}", dev.said());
            dev.said().contains("Ctrl-C stops all nodes")
        });
        dev
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap()
    }

    /// The process ids of the nodes, as told.
    fn nodes(&self) -> Vec<u32> {
        let said = self.said();
        let ids = said.lines().filter_map(|line| line.split_once("  pid ")?.1.split_whitespace().next()?.parse().ok());
        ids.collect()
    }

    fn endpoints(&self) -> String {
        [0, 20_000, 30_000].map(|step| format!("127.0.0.1:{}", self.port + step)).join(",")
    }

    fn ctl(&self, ctl: &Path, arguments: &[&str]) -> Output {
        run(client(ctl, &self.endpoints()).args(arguments), "", PATIENCE)
    }
}

/// The client and peer ports that three nodes take.
fn ports(first: u16) -> [u16; 6] {
    [0, 1, 20_000, 20_001, 30_000, 30_001].map(|step| first + step)
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[test]
fn it_says_where_the_nodes_are_and_keeps_their_data() {
    let Some(Etcd { ctl, .. }) = Etcd::find() else { return };
    let dir = TempDir::new("dev");
    let mut dev = Dev::start(dir.path(), PORTS[0]);
    let said = dev.said();
    for (name, step) in [("n1", 0), ("n2", 20_000), ("n3", 30_000)] {
        let line = said.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in:\n{said}"));
        assert!(line.contains(&format!("http://127.0.0.1:{}", dev.port + step)), "{line}");
    }
    assert_eq!(said.lines().filter(|line| line.ends_with("  leader")).count(), 1, "{said}");
    assert!(said.lines().any(|line| line.starts_with("ready after ")), "{said}");
    let nodes = dev.nodes();
    assert_eq!(nodes.len(), 3);
    assert!(dev.ctl(&ctl, &["put", "kept", "value"]).succeeded());

    dev.process.signal("INT");
    assert_eq!(dev.process.wait(PATIENCE).and_then(|status| status.code()), Some(0), "{}", dev.said());
    assert!(nodes.iter().all(|node| !runs(*node)), "a node is left behind");

    let again = Dev::start_at(dir.path(), dev.port);
    assert_eq!(again.ctl(&ctl, &["get", "kept", "--print-value-only"]).stdout, "value\n");
}

#[test]
fn no_node_outlives_it_when_it_is_killed() {
    let dir = TempDir::new("dev-killed");
    let mut dev = Dev::start(dir.path(), PORTS[1]);
    let nodes = dev.nodes();
    assert!(nodes.len() == 3 && nodes.iter().all(|node| runs(*node)));
    dev.process.kill();
    eventually("the nodes end", Duration::from_secs(10), || nodes.iter().all(|node| !runs(*node)));
    // Everything is free again, too.
    Dev::start_at(dir.path(), dev.port);
}

#[test]
fn it_goes_on_when_one_node_is_killed_and_refuses_taken_ports() {
    let Some(Etcd { ctl, .. }) = Etcd::find() else { return };
    let dir = TempDir::new("dev-node");
    let dev = Dev::start(dir.path(), PORTS[2]);

    let second = run(
        Command::new(VLOT).arg("dev").arg("--dir").arg(dir.path().join("2")).arg("--port").arg(dev.port.to_string()),
        "",
        PATIENCE,
    );
    assert_eq!((second.code, second.stderr.lines().count()), (Some(1), 1), "{second:?}");
    assert!(second.stderr.contains(&format!("port {} of node n1 is not free", dev.port)), "{second:?}");

    assert!(signal(dev.nodes()[0], "KILL"));
    eventually("it says so", PATIENCE, || dev.said().contains("node n1 has ended"));
    assert!(fetch(dev.port, "/health").is_none());
    eventually("the others serve", PATIENCE, || dev.ctl(&ctl, &["put", "after", "all"]).succeeded());
}
