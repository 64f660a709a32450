//! `vlot dev`: a real cluster on this machine, for trying things out.
//!
//! Starts one `vlot server` process per node, waits until they serve, says where they are, and stops them all in the
//! end. A node's standard input is a pipe from here: when this process ends, however it ends, the pipe closes and the
//! node stops by itself.

mod error;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::{Arg, ArgMatches, Command, value_parser};
use tokio::signal::unix::SignalKind;

use vlot_server::check_mark;
use vlot_server::config::Config;

use crate::signals;
use error::{DevError, Ended};

/// How far apart the nodes' ports are: 2379, 22379, 32379.
const PORT_STEP: u16 = 10_000;
/// How long the nodes may take to serve.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a node may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// The token of the clusters made here, so that no other cluster's data is taken for theirs.
const TOKEN: &str = "vlot-dev";

/// The command's flags.
pub(crate) fn command() -> Command {
    Command::new("dev")
        .about("Start a cluster of real processes on this machine, until Ctrl-C")
        .arg(
            Arg::new("nodes")
                .long("nodes")
                .value_name("N")
                .default_value("3")
                .value_parser(["1", "3", "5"])
                .help("How many nodes"),
        )
        .arg(
            Arg::new("dir")
                .long("dir")
                .value_name("DIR")
                .default_value("vlot-dev")
                .value_parser(value_parser!(PathBuf))
                .help("Where data and logs are kept; started again there, the cluster goes on"),
        )
        .arg(
            Arg::new("port")
                .long("port")
                .value_name("PORT")
                .default_value("2379")
                .value_parser(value_parser!(u16).range(1024..10_000))
                .help("The first node's client port; its peer port is the next one"),
        )
}

/// Runs `vlot dev` until a signal stops it or no node is left.
pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    // Clap has checked all three and filled in what was not given.
    let nodes = matches.get_one::<String>("nodes").and_then(|nodes| nodes.parse().ok()).unwrap_or(3);
    let port = matches.get_one::<u16>("port").copied().unwrap_or(2379);
    let dir = matches.get_one::<PathBuf>("dir").cloned().unwrap_or_else(|| PathBuf::from("vlot-dev"));
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(DevError::Runtime)
        .and_then(|runtime| runtime.block_on(run_cluster(&plan(nodes, port, &dir), &dir)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vlot dev: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One node to be started.
struct Plan {
    name: String,
    client_port: u16,
    peer_port: u16,
    data_dir: PathBuf,
    log: PathBuf,
    arguments: Vec<String>,
}

fn plan(nodes: u16, port: u16, dir: &Path) -> Vec<Plan> {
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    // The first node has the plain ports, the second those with a 2 in front, the third with a 3, as etcd's examples.
    let ports = |node: u16| if node == 1 { port } else { port + node * PORT_STEP };
    let cluster: Vec<_> = (1..=nodes).map(|node| format!("n{node}={}", url(ports(node) + 1))).collect();
    let cluster = cluster.join(",");
    let plan = |node: u16| {
        let (name, client_port) = (format!("n{node}"), ports(node));
        let peer_port = client_port + 1;
        let data_dir = dir.join(&name);
        let flags = [
            ("name", name.clone()),
            ("data-dir", data_dir.display().to_string()),
            ("listen-client-urls", url(client_port)),
            ("advertise-client-urls", url(client_port)),
            ("listen-peer-urls", url(peer_port)),
            ("initial-advertise-peer-urls", url(peer_port)),
            ("initial-cluster", cluster.clone()),
            ("initial-cluster-token", TOKEN.to_owned()),
            ("log-format", "console".to_owned()),
        ];
        let mut arguments: Vec<_> = flags.into_iter().map(|(flag, value)| format!("--{flag}={value}")).collect();
        arguments.push("--stop-with-parent".to_owned());
        Plan { log: dir.join(format!("{name}.log")), name, client_port, peer_port, data_dir, arguments }
    };
    (1..=nodes).map(plan).collect()
}

async fn run_cluster(plans: &[Plan], dir: &Path) -> Result<(), DevError> {
    prepare(plans, dir)?;
    let begun = Instant::now();
    let mut nodes = plans.iter().map(Node::start).collect::<Result<Vec<_>, _>>()?;
    let stopped = async {
        tokio::select! {
            () = signals::received(SignalKind::interrupt()) => {}
            () = signals::received(SignalKind::terminate()) => {}
        }
    };
    tokio::pin!(stopped);
    let outcome = tokio::select! {
        () = &mut stopped => Ok(()),
        outcome = run_nodes(&mut nodes, plans, begun) => outcome,
    };
    if outcome.is_ok() {
        say("stopping");
    }
    stop(&mut nodes).await;
    outcome
}

/// Finds out what would go wrong while nothing runs yet.
fn prepare(plans: &[Plan], dir: &Path) -> Result<(), DevError> {
    let unusable = |error| DevError::Directory { dir: dir.to_owned(), error };
    fs::create_dir_all(dir).map_err(unusable)?;
    for plan in plans {
        File::options().create(true).append(true).open(&plan.log).map_err(unusable)?;
        for port in [plan.client_port, plan.peer_port] {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| DevError::PortTaken {
                port,
                node: plan.name.clone(),
                error,
            })?;
        }
        let config = Config::read(plan.arguments.clone(), []).map_err(DevError::Config)?;
        check_mark(&plan.data_dir, &config).map_err(DevError::DataDir)?;
    }
    Ok(())
}

/// Waits until all nodes serve, says so, and returns when all of them have ended.
async fn run_nodes(nodes: &mut [Node], plans: &[Plan], begun: Instant) -> Result<(), DevError> {
    while !plans.iter().all(|plan| is_healthy(plan.client_port)) {
        running(nodes)?;
        if begun.elapsed() > START_TIMEOUT {
            return Err(DevError::NoLeader { log: plans[0].log.clone() });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let ready = begun.elapsed();
    for (node, plan) in nodes.iter().zip(plans) {
        let role = if leads(plan.client_port) { "leader" } else { "follower" };
        let (pid, name) = (node.process.id(), &plan.name);
        let (client, peer) = (plan.client_port, plan.peer_port);
        say(&format!(
            "{name}  pid {pid:<7}  client http://127.0.0.1:{client:<5}  peer http://127.0.0.1:{peer:<5}  {role}"
        ));
    }
    say(&format!("ready after {:.2} s", ready.as_secs_f64()));
    let endpoints: Vec<_> = plans.iter().map(|plan| format!("127.0.0.1:{}", plan.client_port)).collect();
    let endpoints = endpoints.join(",");
    say("");
    say("In another terminal (or with etcdctl):");
    say(&format!("  vlot --endpoints={endpoints} put hello world"));
    say(&format!("  vlot --endpoints={endpoints} get hello"));
    say(&format!(
        "Ctrl-C stops all nodes; the data stays in {}.",
        plans[0].log.parent().unwrap_or(Path::new(".")).display()
    ));
    // A node may be killed to see what the others do without it.
    while nodes.iter().any(|node| !node.ended) {
        for node in nodes.iter_mut() {
            if let Some(ended) = node.has_ended() {
                say(&ended.to_string());
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(DevError::AllEnded)
}

/// One line to the terminal. If it is gone, the cluster goes on.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// `Err` if a node has ended by itself.
fn running(nodes: &mut [Node]) -> Result<(), DevError> {
    nodes.iter_mut().find_map(Node::has_ended).map_or(Ok(()), |ended| Err(DevError::Ended(ended)))
}

/// Closes the nodes' pipes, by which they stop, and kills those that do not.
async fn stop(nodes: &mut [Node]) {
    nodes.iter_mut().for_each(|node| drop(node.process.stdin.take()));
    let begun = Instant::now();
    let is_gone = |node: &mut Node| !matches!(node.process.try_wait(), Ok(None));
    while begun.elapsed() < STOP_TIMEOUT && !nodes.iter_mut().all(is_gone) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What has ended already cannot be killed again; dropping does the rest.
}

/// One running node. Dropped, it is killed and waited for, so that no process is left behind on any way out.
struct Node {
    name: String,
    log: PathBuf,
    process: Child,
    /// Whether it has ended by itself and this was said.
    ended: bool,
}

impl Node {
    fn start(plan: &Plan) -> Result<Node, DevError> {
        let failed = |error: std::io::Error| DevError::Start { node: plan.name.clone(), error };
        let program = std::env::current_exe().map_err(failed)?;
        let log = File::options().create(true).append(true).open(&plan.log).map_err(failed)?;
        let process = std::process::Command::new(program)
            .arg("server")
            .args(&plan.arguments)
            // A file would take the place of all arguments, and so make all nodes one.
            .env_remove("ETCD_CONFIG_FILE")
            .stdin(Stdio::piped())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        Ok(Node { name: plan.name.clone(), log: plan.log.clone(), process, ended: false })
    }

    /// The first time after a node has ended by itself: how, with the last it has said itself.
    fn has_ended(&mut self) -> Option<Ended> {
        if self.ended {
            return None;
        }
        let status = self.process.try_wait().ok()??;
        self.ended = true;
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let last = log.lines().next_back().unwrap_or("nothing").to_owned();
        Some(Ended { node: self.name.clone(), status, log: self.log.clone(), last })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Both fail only for a process that has ended and been waited for.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn is_healthy(port: u16) -> bool {
    fetch(port, "/health").is_some_and(|reply| reply.contains(r#""health":"true""#))
}

fn leads(port: u16) -> bool {
    fetch(port, "/metrics").is_some_and(|reply| reply.lines().any(|line| line == "etcd_server_is_leader 1"))
}

/// The reply of a node of ours to one plain HTTP request.
fn fetch(port: u16, path: &str) -> Option<String> {
    let within = Duration::from_secs(1);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, within).ok()?;
    stream.set_read_timeout(Some(within)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    Some(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_have_the_ports_of_etcds_examples() {
        let plans = plan(3, 2379, Path::new("d"));
        let ports: Vec<_> = plans.iter().map(|plan| (plan.client_port, plan.peer_port)).collect();
        assert_eq!(ports, [(2379, 2380), (22379, 22380), (32379, 32380)]);
    }

    #[test]
    fn every_size_and_port_makes_flags_that_a_server_takes() {
        for (nodes, port) in [(1, 1024), (3, 2379), (5, 9_999)] {
            for plan in plan(nodes, port, Path::new("d")) {
                let config = Config::read(plan.arguments, []).unwrap();
                assert!(config.stop_with_parent && config.warnings.is_empty());
            }
        }
    }
}
