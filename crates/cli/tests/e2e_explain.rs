//! `vlot explain` names the true cause: of changes of leader in clusters of real processes that are killed, paused and asked to
//! hand over, on a disk that stands still, and between nodes of this process whose connections are cut.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use support::cluster::{Cluster, PATIENCE};
use support::process::{Output, Until, run_until};
use support::volume::Volume;
use support::{TempDir, VLOT, eventually};
use vlot::net::{Listen, memory::Hub};
use vlot::recorder::{self, Dump};
use vlot::{Group, GroupId, LogId, Node, NodeId, Options, RoleName, StateMachine};

fn explain(arguments: &[&Path]) -> Output {
    run_until(Command::new(VLOT).arg("explain").args(arguments), "", Until::Ended, PATIENCE)
}

fn told(arguments: &[&Path]) -> String {
    let output = explain(arguments);
    assert!(output.succeeded(), "{output:?}");
    output.stdout
}

/// Whether one change has all of this. There may be others besides: on a busy machine leaders change by themselves.
fn has_change(told: &str, parts: &[&str]) {
    let is_meant = |change: &&str| parts.iter().all(|part| change.contains(part));
    assert!(told.split("\n\n").any(|change| is_meant(&change)), "no change has all of {parts:#?}:\n{told}");
}

fn has_all(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

/// Kills nothing and waits for another leader than this one.
fn other_leader(cluster: &Cluster, old: usize) -> usize {
    let mut leader = None;
    eventually("another node leads", PATIENCE, || {
        leader = (0..cluster.nodes.len()).find(|place| *place != old && cluster.nodes[*place].leads());
        leader.is_some()
    });
    leader.unwrap()
}

/// Has each node that runs write its record, and waits until it is there.
fn dump(cluster: &Cluster, places: &[usize]) {
    for place in places {
        let folder = cluster.nodes[*place].data_dir.join("log").join(recorder::FOLDER);
        let count = || recorder::find(&folder).map_or(0, |files| files.iter().filter(|file| is_asked(file)).count());
        let before = count();
        cluster.nodes[*place].signal("USR1");
        eventually("the record is written", PATIENCE, || count() > before);
    }
}

fn is_asked(file: &Path) -> bool {
    file.file_name().unwrap().to_string_lossy().ends_with("-asked.flight")
}

#[test]
fn a_leader_that_was_killed_paused_or_asked_to_hand_over_is_named_with_the_cause() {
    let mut cluster = Cluster::vlot(3, Path::new(VLOT));
    let dir = cluster.dir.path().to_owned();
    let name = |place: usize| format!("n{}", place + 1);

    // Killed: its record ends before, and a new process of it says that there was another.
    let killed = cluster.leader();
    cluster.nodes[killed].kill();
    let second = other_leader(&cluster, killed);
    let [old, new] = [killed, second].map(name);
    dump(&cluster, &(0..3).filter(|place| *place != killed).collect::<Vec<_>>());
    let others: Vec<PathBuf> =
        (0..3).filter(|place| *place != killed).map(|place| cluster.nodes[place].data_dir.clone()).collect();
    has_change(
        &told(&[&others[0], &others[1]]),
        &["it has no record of that time", " lost its connection to ", "Cause: the connection to ", "A record of "],
    );
    cluster.nodes[killed].start();
    cluster.nodes[killed].ready();
    dump(&cluster, &[0, 1, 2]);
    has_change(
        &told(&[&dir]),
        &[
            &format!(": {new} leads term "),
            &format!(", after {old} in term "),
            &format!("{new} lost its connection to {old} at "),
            "Asked whether it should campaign: ",
            "voted for it",
            &format!("Cause: the process of {old} ended without a word (killed, crashed, or its machine went down)"),
        ],
    );

    // Paused for longer than an election: it says so itself once it goes on.
    let paused = cluster.leader();
    cluster.nodes[paused].signal("STOP");
    let third = other_leader(&cluster, paused);
    sleep(Duration::from_secs(1));
    cluster.nodes[paused].signal("CONT");
    eventually("it follows", PATIENCE, || !cluster.nodes[paused].leads());
    cluster.ready();
    dump(&cluster, &[0, 1, 2]);
    let [old, new] = [paused, third].map(name);
    has_change(
        &told(&[&dir]),
        &[
            &format!(": {new} leads term "),
            &format!("{new} had heard nothing from {old} for "),
            " s when it asked, at ",
            &format!("{old} led term "),
            &format!("Cause: the process of {old} did nothing for "),
            "it was paused, or its machine was overloaded",
        ],
    );

    // Asked to hand over.
    let leader = cluster.leader();
    let target = (0..3).find(|place| *place != leader).unwrap();
    let status = cluster.told(target, &["endpoint", "status", "--write-out=json"]);
    let id: u64 = {
        let at = status.split("\"member_id\":").nth(1).unwrap();
        at.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
    };
    cluster.told(leader, &["move-leader", &format!("{id:x}")]);
    other_leader(&cluster, leader);
    dump(&cluster, &[0, 1, 2]);
    let [old, new] = [leader, target].map(name);
    let whole = told(&[&dir]);
    has_change(
        &whole,
        &[
            &format!("{new} campaigned at "),
            &format!("because {old} told it to."),
            &format!("Cause: the leadership was transferred from {old} to {new}, as {old} was asked to."),
        ],
    );
    // All of it stays on record, and is drawn.
    has_all(&whole, &["ended without a word", "did nothing for ", "was transferred"]);
    let picture = dir.join("picture.svg");
    told(&[&dir, Path::new("--picture"), &picture]);
    let drawn = fs::read_to_string(&picture).unwrap();
    has_all(&drawn, &["<svg ", "class=\"leader\"", "class=\"paused\"", "class=\"granted\"", "</svg>"]);
    for name in ["n1", "n2", "n3"] {
        assert!(drawn.contains(&format!(">{name}</text>")), "{name} has a lane");
    }
    if let Some(kept) = std::env::var_os("VLOT_KEEP_PICTURE") {
        fs::copy(&picture, kept).unwrap();
    }
}

#[test]
fn a_leader_whose_disk_stands_still_is_blamed_for_its_disk() {
    let dir = TempDir::new("frozen");
    let Some(volume) = Volume::new(dir.path(), "disk", 400 << 20) else { return };
    // Whichever leads at first, the node on the volume is made to.
    let dirs = [dir.path().join("n1"), dir.path().join("n2"), volume.path().join("data")];
    let cluster = Cluster::vlot_in(&dirs, Path::new(VLOT));
    let slow = 2;
    if cluster.leader() != slow {
        let status = cluster.told(slow, &["endpoint", "status", "--write-out=json"]);
        let at = status.split("\"member_id\":").nth(1).unwrap();
        let id: u64 = at.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap();
        cluster.told(cluster.leader(), &["move-leader", &format!("{id:x}")]);
        eventually("it leads", PATIENCE, || cluster.nodes[slow].leads());
    }
    let frozen = volume.frozen();
    // Something has to wait for the disk.
    let _ = cluster.ctl_at(slow, &["--command-timeout=1s", "put", "waits", "for the disk"]);
    other_leader(&cluster, slow);
    drop(frozen);
    cluster.ready();
    dump(&cluster, &[0, 1, 2]);
    has_change(
        &told(&[&dirs[0], &dirs[1], &dirs[2]]),
        &[
            ", after n3 in term ",
            "because n3 told it to.",
            "Cause: the disk of n3 had stalled: a write waited for longer",
        ],
    );
}

#[derive(Default)]
struct Count(u64);

impl StateMachine for Count {
    type Command = u64;
    type Reply = u64;

    fn apply(&mut self, _: LogId, more: u64) -> u64 {
        self.0 += more;
        self.0
    }
}

/// Three nodes of this process.
struct Within {
    dir: TempDir,
    hub: Hub,
    up: Vec<(Node, Group<Count>)>,
}

fn address(node: u64) -> String {
    format!("n{node}:1")
}

impl Within {
    async fn new() -> Within {
        let mut within = Within { dir: TempDir::new("within"), hub: Hub::default(), up: Vec::new() };
        for node in 1..=3 {
            let mut options = Options::new(within.dir.path().join(node.to_string()));
            options.node = NodeId(node);
            options.listen = Listen::through(within.hub.at(&address(node)));
            options.peers = (1..=3).map(|node| (NodeId(node), address(node))).collect();
            // It is awake, so that it notices what is lost by itself.
            options.sleep_after = None;
            let node = Node::open(options).await.unwrap();
            let group = node.group(GroupId(1), (1..=3).map(NodeId), Count::default()).await.unwrap();
            within.up.push((node, group));
        }
        within
    }

    async fn leader_but(&self, old: u64) -> u64 {
        for _ in 0..1000 {
            let leads = |node: &u64| self.up[*node as usize - 1].1.status().role_state.role == RoleName::Leader;
            if let Some(node) = (1..=3).filter(|node| *node != old).find(leads) {
                return node;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no other leader than {old}");
    }

    /// Waits until the old leader follows.
    async fn settled(&self, old: u64) {
        for _ in 0..1000 {
            let state = self.up[old as usize - 1].1.status().role_state;
            if state.role == RoleName::Follower && state.leader.is_some() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("n{old} does not follow");
    }

    /// The newest record of each node.
    async fn dumps(&self) -> Vec<PathBuf> {
        let mut dumps = Vec::new();
        for (node, _) in &self.up {
            dumps.push(node.dump_flight().await.unwrap());
        }
        dumps
    }
}

#[tokio::test]
async fn connections_that_are_cut_and_messages_that_are_lost_are_told_apart() {
    let within = Within::new().await;
    let first = within.leader_but(0).await;
    within.up[0].1.propose(1).await.unwrap();
    within.hub.isolate(&address(first));
    let second = within.leader_but(first).await;
    // Until it has left office.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    within.hub.heal();
    within.settled(first).await;
    let dumps = within.dumps().await;
    let paths: Vec<&Path> = dumps.iter().map(PathBuf::as_path).collect();
    let change = told(&paths);
    let (other, cut) = (6 - first - second, [1, 2, 3].into_iter().filter(|node| *node != first));
    let cut: Vec<String> = cut.map(|node| format!("n{node}")).collect();
    has_change(
        &change,
        &[
            &format!("n{second} leads term "),
            &format!("n{second} lost its connection to n{first} at "),
            &format!("n{other} voted for it"),
            "left office at ",
            "no quorum had answered it for an election timeout",
            &format!("Cause: the network: n{first} went on, and its connections to {} broke", cut.join(" and ")),
        ],
    );

    // What n{second} sends gets lost on its way, and connections stand.
    let others: Vec<u64> = (1..=3).filter(|node| *node != second).collect();
    others.iter().for_each(|node| within.hub.lose(&address(second), &address(*node)));
    let third = within.leader_but(second).await;
    within.hub.heal();
    within.settled(second).await;
    let dumps = within.dumps().await;
    let paths: Vec<&Path> = dumps.iter().map(PathBuf::as_path).collect();
    has_change(
        &told(&paths),
        &[
            &format!("n{third} leads term "),
            &format!("n{third} had heard nothing from n{second} for "),
            &format!(
                "Cause: the network: n{second} went on and connections stood, but what it sent did not come to n{third}"
            ),
        ],
    );

    // The same with clocks that differ by days: they are aligned by the votes.
    let reference = explain(&paths).stdout;
    let skewed: Vec<PathBuf> =
        dumps.iter().zip([0_u64, 86_400, 7 * 86_400]).map(|(path, ahead)| skew(path, ahead)).collect();
    let skewed_paths: Vec<&Path> = skewed.iter().map(PathBuf::as_path).collect();
    let by_votes = told(&skewed_paths);
    has_all(&by_votes, &["its clock is ", " the others', as votes show, to within "]);
    let causes = |text: &str| -> Vec<String> {
        text.lines().filter(|line| line.contains("Cause: ")).map(str::to_owned).collect()
    };
    assert_eq!(causes(&by_votes), causes(&reference), "{by_votes}\n{reference}");

    // Without the record of the old leader less is known, and that is said.
    let without: Vec<&Path> = paths.iter().copied().filter(|path| !is_of(path, second)).collect();
    has_change(
        &told(&without),
        &[
            "it has no record of that time",
            &format!("Cause: n{second} fell silent while its connection stood"),
            "would tell.",
        ],
    );
    has_all(&told(&without), &[&format!("  n{second} at n{second}:1: nothing; a record of it would tell more")]);

    // A dump that is broken is one clear error.
    let text = fs::read_to_string(paths[0]).unwrap();
    let broken = within.dir.path().join("broken.flight");
    fs::write(&broken, &text[..text.len() / 2]).unwrap();
    let refused = explain(&[paths[1], &broken]);
    assert_eq!(
        (refused.code, refused.stdout.as_str(), refused.stderr.lines().count()),
        (Some(1), "", 1),
        "{refused:?}"
    );
    has_all(&refused.stderr, &["Error: ", "broken.flight: the flight record is "]);
    let other = within.dir.path().join("other.flight");
    let mut dump = Dump::decode(&text).unwrap();
    dump.origin.cluster += 1;
    fs::write(&other, dump.encode()).unwrap();
    has_all(&explain(&[paths[1], &other]).stderr, &["give the records of one cluster"]);
    has_all(&explain(&[Path::new("/dev/null")]).stderr, &["no flight record: it does not begin with 'vlot-flight'"]);
    let empty = TempDir::new("empty");
    has_all(&explain(&[empty.path()]).stderr, &["there is no flight record"]);

    for (node, _) in within.up {
        node.shutdown().await;
    }
}

fn is_of(path: &Path, node: u64) -> bool {
    Dump::decode(&fs::read_to_string(path).unwrap()).unwrap().origin.node == NodeId(node)
}

/// The same record by a clock that runs so many seconds ahead.
fn skew(path: &Path, ahead: u64) -> PathBuf {
    let mut dump = Dump::decode(&fs::read_to_string(path).unwrap()).unwrap();
    let ahead = Duration::from_secs(ahead);
    dump.wall += ahead;
    dump.events.iter_mut().for_each(|event| event.wall += ahead);
    let skewed = path.with_extension("skewed");
    fs::write(&skewed, dump.encode()).unwrap();
    skewed
}
