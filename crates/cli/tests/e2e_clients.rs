//! Clients that others wrote, from their package registries: each runs its script in `clients/` over three nodes of ours, and over
//! three of etcd's, which proves the script.
//!
//! Needs what `.ci/get-clients` installs, in `$VLOT_CLIENTS_DIR`.

mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::cluster::Cluster;
use support::process::converse;
use support::{Etcd, VLOT};

/// How long a script may take, on a busy machine.
const SCRIPT_PATIENCE: Duration = Duration::from_secs(180);

/// The folder that `.ci/get-clients` has filled.
struct Clients(PathBuf);

impl Clients {
    /// # Panics
    /// If there is none and `VLOT_REQUIRE_CLIENTS` is set: then tests must not pass without them.
    fn find() -> Option<Clients> {
        let dir = std::env::var_os("VLOT_CLIENTS_DIR").map(PathBuf::from).filter(|dir| dir.is_dir());
        if dir.is_none() {
            assert!(std::env::var_os("VLOT_REQUIRE_CLIENTS").is_none(), "no clients found: set VLOT_CLIENTS_DIR");
            // Not by a macro, whose output the test harness would keep to itself.
            let _ = writeln!(std::io::stderr(), "SKIPPED: no clients found: set VLOT_CLIENTS_DIR");
        }
        dir.map(Clients)
    }

    fn python(&self, client: &str) -> Command {
        let scripts = scripts();
        let mut command = Command::new(self.0.join("python/bin/python"));
        command.arg(scripts.join(client).join("session.py")).env("PYTHONPATH", scripts);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    fn node(&self, client: &str) -> Command {
        let mut command = Command::new("node");
        command.arg(scripts().join(client).join("session.js")).env("NODE_PATH", self.0.join("node/node_modules"));
        command
    }

    fn rust(&self, client: &str) -> Command {
        Command::new(self.0.join("rust/debug").join(client))
    }
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../clients")
}

fn against_vlot(session: impl Fn(&Clients) -> Command) {
    let Some(clients) = Clients::find() else { return };
    succeeds(session(&clients), Cluster::vlot(3, Path::new(VLOT)));
}

fn against_etcd(session: impl Fn(&Clients) -> Command) {
    let (Some(clients), Some(etcd)) = (Clients::find(), Etcd::find()) else { return };
    succeeds(session(&clients), Cluster::etcd(3, &etcd.server, &etcd.ctl));
}

/// Runs a script to its end, and does to the cluster what it asks for.
fn succeeds(mut session: Command, mut cluster: Cluster) {
    let output = converse(session.arg(cluster.endpoints()), SCRIPT_PATIENCE, |line| {
        line.strip_prefix("! ").map(|request| obey(&mut cluster, request))
    });
    assert!(output.succeeded(), "{:?}\n{}\n{}", output.code, output.stdout, output.stderr);
    // A script that ends before it has checked anything has proven nothing.
    assert!(output.stdout.lines().filter(|line| line.starts_with("ok: ")).count() >= 10, "{}", output.stdout);
}

/// Kills a node by its endpoint, or the one that leads, or starts those that are dead. Answers with the endpoint.
fn obey(cluster: &mut Cluster, request: &str) -> String {
    match request.split_once(' ') {
        Some(("kill", which)) => {
            let place = match which {
                "leader" => cluster.leader(),
                endpoint => cluster.nodes.iter().position(|node| node.endpoint() == endpoint).unwrap(),
            };
            cluster.nodes[place].kill();
            cluster.nodes[place].endpoint()
        }
        _ if request == "start" => {
            for node in &mut cluster.nodes {
                if !node.runs() {
                    node.start();
                }
            }
            cluster.ready();
            "started".to_owned()
        }
        _ => panic!("a script asks for {request:?}"),
    }
}

macro_rules! clients {
    ($($name:ident: $how:ident($folder:literal)),* $(,)?) => {$(
        mod $name {
            #[test]
            fn finds_us_as_etcd() {
                super::against_vlot(|clients| clients.$how($folder));
            }

            #[test]
            fn finds_etcd_as_the_script_says() {
                super::against_etcd(|clients| clients.$how($folder));
            }
        }
    )*};
}

clients! {
    etcd3gw: python("etcd3gw"),
    python_etcd3: python("python-etcd3"),
    patroni: python("patroni"),
    node_etcd3: node("node-etcd3"),
    rust_etcd_client: rust("rust-etcd-client"),
}
