//! Clusters of real server processes, ours or etcd's: both take the same flags.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use super::http::fetch;
use super::process::{Output, Process, Until, run_until};
use super::{TempDir, VLOT, eventually, free_port};

/// How long a cluster may take to serve, and a command to end, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A cluster on a directory of its own.
pub struct Cluster {
    pub dir: TempDir,
    pub nodes: Vec<Node>,
    ctl: PathBuf,
}

/// One of its nodes, running or not.
pub struct Node {
    pub name: String,
    pub client_port: u16,
    pub peer_port: u16,
    pub data_dir: PathBuf,
    pub log: PathBuf,
    program: PathBuf,
    arguments: Vec<String>,
    /// How many files it may have open, if not as many as this program.
    pub descriptors: Option<u32>,
    process: Option<Process>,
}

impl Cluster {
    /// Starts a cluster of ours and waits until it serves. `ctl` is the client that asks it.
    pub fn vlot(nodes: usize, ctl: &Path) -> Cluster {
        Cluster::start("vlot", Path::new(VLOT), &["server", "--stop-with-parent"], nodes, ctl)
    }

    /// A cluster of ours that is not started.
    pub fn vlot_unstarted(nodes: usize, ctl: &Path) -> Cluster {
        Cluster::of("vlot", Path::new(VLOT), &["server", "--stop-with-parent"], nodes, ctl)
    }

    /// Starts a cluster of etcd's and waits until it serves.
    pub fn etcd(nodes: usize, server: &Path, ctl: &Path) -> Cluster {
        Cluster::start("etcd", server, &[], nodes, ctl)
    }

    /// Starts a cluster of ours, each node with its data in one of these directories, and waits until it serves.
    pub fn vlot_in(dirs: &[PathBuf], ctl: &Path) -> Cluster {
        let mut cluster = Cluster::of("vlot", Path::new(VLOT), &["server", "--stop-with-parent"], dirs.len(), ctl);
        for (node, dir) in cluster.nodes.iter_mut().zip(dirs) {
            node.data_dir.clone_from(dir);
            node.flag("data-dir", &dir.display().to_string());
        }
        cluster.begun()
    }

    /// Starts a cluster of ours, or of etcd's `server`, whose nodes have one more flag, and waits until it serves.
    pub fn with_flag(server: Option<&Path>, nodes: usize, ctl: &Path, (name, value): (&str, &str)) -> Cluster {
        let mut cluster = match server {
            Some(server) => Cluster::of("etcd", server, &[], nodes, ctl),
            None => Cluster::of("vlot", Path::new(VLOT), &["server", "--stop-with-parent"], nodes, ctl),
        };
        cluster.nodes.iter_mut().for_each(|node| node.flag(name, value));
        cluster.begun()
    }

    fn start(what: &str, program: &Path, first: &[&str], nodes: usize, ctl: &Path) -> Cluster {
        Cluster::of(what, program, first, nodes, ctl).begun()
    }

    fn of(what: &str, program: &Path, first: &[&str], nodes: usize, ctl: &Path) -> Cluster {
        let dir = TempDir::new(what);
        let ports: Vec<_> = (0..nodes).map(|_| (free_port(), free_port())).collect();
        let members: Vec<_> = (1..).zip(&ports).map(|(n, (_, peer))| format!("n{n}=http://127.0.0.1:{peer}")).collect();
        let node = |(n, ports): (usize, &(u16, u16))| {
            let mut node = Node::new(dir.path(), n, *ports, program, first);
            node.flag("initial-cluster", &members.join(","));
            node
        };
        let nodes = (1..).zip(&ports).map(node).collect();
        Cluster { dir, nodes, ctl: ctl.to_owned() }
    }

    fn begun(mut self) -> Cluster {
        self.nodes.iter_mut().for_each(Node::start);
        self.ready();
        self
    }

    /// One more node, which is not started. Returns its place.
    pub fn newcomer(&mut self) -> usize {
        let node = Node::new(
            self.dir.path(),
            self.nodes.len() + 1,
            (free_port(), free_port()),
            Path::new(VLOT),
            &["server", "--stop-with-parent"],
        );
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Waits until every node serves.
    pub fn ready(&self) {
        self.nodes.iter().for_each(Node::ready);
    }

    /// All nodes as etcdctl's `--endpoints` wants them.
    pub fn endpoints(&self) -> String {
        let endpoints: Vec<_> = self.nodes.iter().map(Node::endpoint).collect();
        endpoints.join(",")
    }

    /// The place in `nodes` of the one that leads.
    pub fn leader(&self) -> usize {
        let mut leader = None;
        eventually("a node leads", PATIENCE, || {
            leader = self.nodes.iter().position(Node::leads);
            leader.is_some()
        });
        leader.unwrap()
    }

    /// Runs a client's command against all nodes.
    pub fn ctl(&self, arguments: &[&str]) -> Output {
        self.ctl_until(arguments, "", Until::Ended)
    }

    /// The same with an input, until it has said enough.
    pub fn ctl_until(&self, arguments: &[&str], input: &str, until: Until<'_>) -> Output {
        run_until(client(&self.ctl, &self.endpoints()).args(arguments), input, until, PATIENCE)
    }

    /// Runs a client's command against one node.
    pub fn ctl_at(&self, node: usize, arguments: &[&str]) -> Output {
        let mut command = client(&self.ctl, &self.nodes[node].endpoint());
        run_until(command.args(arguments), "", Until::Ended, PATIENCE)
    }

    /// What the client prints, which must succeed.
    pub fn told(&self, node: usize, arguments: &[&str]) -> String {
        let output = self.ctl_at(node, arguments);
        assert!(output.succeeded(), "{arguments:?}: {output:?}");
        output.stdout
    }

    /// Writes and reads through every node.
    pub fn serves(&self) {
        for (place, node) in self.nodes.iter().enumerate() {
            let value = format!("{}/{:?}", node.name, std::time::Instant::now());
            assert_eq!(self.told(place, &["put", "does it serve?", &value]), "OK\n");
            assert_eq!(self.told(place, &["get", "does it serve?", "--print-value-only"]), format!("{value}\n"));
        }
    }
}

impl Node {
    fn new(dir: &Path, n: usize, (client_port, peer_port): (u16, u16), program: &Path, first: &[&str]) -> Node {
        let name = format!("n{n}");
        let [client, peer] = [client_port, peer_port].map(|port| format!("http://127.0.0.1:{port}"));
        let data_dir = dir.join(&name);
        let mut node = Node {
            log: dir.join(format!("{name}.log")),
            client_port,
            peer_port,
            program: program.to_owned(),
            arguments: first.iter().map(|argument| (*argument).to_owned()).collect(),
            descriptors: None,
            process: None,
            name: name.clone(),
            data_dir: data_dir.clone(),
        };
        let flags = [
            ("name", name.as_str()),
            ("data-dir", &data_dir.display().to_string()),
            ("listen-client-urls", &client),
            ("advertise-client-urls", &client),
            ("listen-peer-urls", &peer),
            ("initial-advertise-peer-urls", &peer),
            ("initial-cluster-token", &dir.display().to_string()),
        ];
        flags.iter().for_each(|(flag, value)| node.flag(flag, value));
        node
    }

    /// One more flag for when it is started; the last one given counts.
    pub fn flag(&mut self, flag: &str, value: &str) {
        self.arguments.push(format!("--{flag}={value}"));
    }

    /// Starts the process, with what an earlier one left. Its output goes to the log.
    pub fn start(&mut self) {
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = self.command();
        // The pipe stays open as long as this program lives, however it ends: servers of ours end with it.
        self.process = Some(Process::start(command.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log)));
    }

    /// What starts it.
    pub fn command(&self) -> Command {
        let mut command = match self.descriptors {
            None => without_variables(&self.program, "ETCD_"),
            Some(limit) => {
                let mut shell = without_variables(Path::new("sh"), "ETCD_");
                shell.args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\"")]).arg(&self.program);
                shell
            }
        };
        command.args(&self.arguments);
        command
    }

    /// What starts it, with other values of some flags.
    pub fn command_with(&self, flags: &[(&str, &str)]) -> Command {
        let mut command = self.command();
        // The last one given counts.
        command.args(flags.iter().map(|(flag, value)| format!("--{flag}={value}")));
        command
    }

    /// Waits until it serves.
    pub fn ready(&self) {
        eventually(&format!("{} serves", self.name), PATIENCE, || self.is_healthy());
    }

    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    pub fn is_healthy(&self) -> bool {
        fetch(self.client_port, "/health").is_some_and(|reply| reply.contains(r#""health":"true""#))
    }

    pub fn leads(&self) -> bool {
        let reply = fetch(self.client_port, "/metrics").unwrap_or_default();
        reply.lines().any(|line| line == "etcd_server_is_leader 1")
    }

    /// Ends the process as by `kill -9`.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Sends a signal by name, such as `STOP`.
    pub fn signal(&self, name: &str) {
        self.process.as_ref().unwrap().signal(name);
    }

    /// Asks the process to end, and returns how it did.
    pub fn stop(&mut self) -> ExitStatus {
        let mut process = self.process.take().unwrap();
        process.signal("TERM");
        process.wait(PATIENCE).unwrap_or_else(|| panic!("{} does not stop", self.name))
    }

    /// The process's id.
    pub fn process_id(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    /// Whether the process runs.
    pub fn runs(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.ended().is_none())
    }
}

/// A client that knows nothing but these endpoints.
pub fn client(program: &Path, endpoints: &str) -> Command {
    let mut command = plain_client(program);
    command.arg(format!("--endpoints={endpoints}"));
    command
}

/// A client that knows no endpoints but its default.
pub fn plain_client(program: &Path) -> Command {
    without_variables(program, "ETCDCTL_")
}

/// A command that its caller's environment does not configure.
fn without_variables(program: &Path, prefix: &str) -> Command {
    let mut command = Command::new(program);
    let inherited = std::env::vars_os().map(|(name, _)| name);
    inherited.filter(|name| name.to_string_lossy().starts_with(prefix)).for_each(|name| {
        command.env_remove(name);
    });
    command
}
