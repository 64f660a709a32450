//! Commands whose output cannot be held against etcdctl's word for word: they copy, save, measure, or are of a later release
//! than the etcdctl at hand.
//!
//! Needs the programs `etcd` and `etcdctl` of release 3.5; see `support`.

mod support;

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use support::cluster::{Cluster, PATIENCE, client};
use support::process::{Output, Process, run};
use support::{Etcd, TempDir, VLOT, eventually};

/// A check writes for long on a busy machine.
const LONG: Duration = Duration::from_secs(120);

fn etcd() -> Option<(Etcd, Cluster)> {
    let etcd = Etcd::find()?;
    let cluster = Cluster::etcd(1, &etcd.server, &etcd.ctl);
    Some((etcd, cluster))
}

fn vlot(cluster: &Cluster, arguments: &[&str], within: Duration) -> Output {
    run(client(Path::new(VLOT), &cluster.endpoints()).args(arguments), "", within)
}

fn told(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = vlot(cluster, arguments, PATIENCE);
    assert!(output.succeeded(), "{arguments:?}: {output:?}");
    output.stdout
}

#[test]
fn a_mirror_has_what_was_there_and_what_changes() {
    let Some((etcd, source)) = etcd() else { return };
    let destination = Cluster::etcd(1, &etcd.server, &etcd.ctl);
    for number in 0..3 {
        source.told(0, &["put", &format!("app/{number}"), "old"]);
    }
    source.told(0, &["put", "other", "stays"]);
    let mut command = client(Path::new(VLOT), &source.endpoints());
    command.args(["make-mirror", "--prefix=app/", "--dest-prefix=copy/", "--max-txn-ops=2", &destination.endpoints()]);
    let mirror = Process::start(command.stdout(Stdio::null()));
    let holds = |key: &str, value: &str| {
        eventually(&format!("{key} holds {value:?}"), PATIENCE, || {
            destination.told(0, &["get", key, "--print-value-only"]).trim_end() == value
        });
    };
    holds("copy/2", "old");
    // Three changes of one revision, in two transactions.
    let change = "\nput app/0 new\nput app/1 new\nput app/3 new\n\n\n";
    let changed = source.ctl_until(&["txn"], change, support::process::Until::Ended);
    assert!(changed.succeeded(), "{changed:?}");
    holds("copy/0", "new");
    holds("copy/1", "new");
    holds("copy/3", "new");
    source.told(0, &["del", "app/2"]);
    holds("copy/2", "");
    assert_eq!(destination.told(0, &["get", "", "--prefix", "--keys-only"]), "copy/0\n\ncopy/1\n\ncopy/3\n\n");
    drop(mirror);

    let whole = Cluster::etcd(1, &etcd.server, &etcd.ctl);
    let mut command = client(Path::new(VLOT), &source.endpoints());
    let _mirror = Process::start(command.args(["make-mirror", &whole.endpoints()]).stdout(Stdio::null()));
    eventually("all is copied", PATIENCE, || {
        whole.told(0, &["get", "", "--prefix"]) == source.told(0, &["get", "", "--prefix"])
    });
    for (arguments, flaw) in [
        (&["make-mirror"][..], "Error: make-mirror takes one destination argument\n"),
        (
            &["make-mirror", "--no-dest-prefix", "--dest-prefix=a", "127.0.0.1:1"],
            "Error: `--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one\n",
        ),
        (
            &["make-mirror", "--dest-cert=a", "127.0.0.1:1"],
            "Error: --cert is given without --key; a certificate needs its key, and a key its certificate\n",
        ),
    ] {
        assert_eq!(vlot(&source, arguments, PATIENCE).stderr, flaw);
    }
}

#[test]
fn a_snapshot_is_one_that_etcd_takes() {
    let Some((etcd, cluster)) = etcd() else { return };
    for number in 0..200 {
        cluster.told(0, &["put", &format!("key{number}"), &"x".repeat(1000)]);
    }
    let dir = TempDir::new("snapshot");
    let file = dir.path().join("all.db");
    let told = told(&cluster, &["snapshot", "save", file.to_str().unwrap()]);
    assert_eq!(told, format!("Snapshot saved at {}\n", file.display()));
    assert_eq!(dir.path().read_dir().unwrap().count(), 1, "no other file stays");
    let mut status = Command::new(etcd.ctl.with_file_name("etcdctl"));
    let status = run(status.args(["snapshot", "status", file.to_str().unwrap(), "-w", "json"]), "", PATIENCE);
    assert!(status.succeeded(), "{status:?}");
    assert!(status.stdout.contains("\"revision\":201") && status.stdout.contains("\"totalKey\":"), "{status:?}");
}

#[test]
fn a_downgrade_is_told_as_in_release_3_6() {
    let Some((_, cluster)) = etcd() else { return };
    for (arguments, code, told) in [
        (&["validate", "3.4.0"][..], 0, "Downgrade validate success, cluster version 3.5.0\n"),
        (&["validate"], 128, "Error: TARGET_VERSION not provided\n"),
        (&["validate", ""], 128, "Error: target version not provided\n"),
        (&["enable", "3.4.0", "x"], 128, "Error: too many arguments\n"),
        (&["validate", "2.0.0"], 1, "Error: etcdserver: invalid downgrade target version\n"),
        (&["cancel"], 1, "Error: etcdserver: no inflight downgrade job\n"),
        (&["validate", "3.4.0", "-w", "fields"], 4, "Error: fields not supported as output format\n"),
    ] {
        let output = vlot(&cluster, &[&["downgrade"], arguments].concat(), PATIENCE);
        let errors: String =
            output.stderr.lines().filter(|line| !line.starts_with('{')).map(|line| format!("{line}\n")).collect();
        assert_eq!((output.code, output.stdout + &errors), (Some(code), told.to_owned()), "{arguments:?}");
    }
    let json = told(&cluster, &["downgrade", "validate", "3.4.0", "-w", "json"]);
    assert!(json.starts_with("{\"header\":{\"cluster_id\":") && json.ends_with("\"version\":\"3.5.0\"}\n"), "{json}");
}

#[test]
fn a_check_of_scale_tells_what_memory_it_took_and_tidies_up() {
    let Some((_, cluster)) = etcd() else { return };
    let output = vlot(&cluster, &["check", "datascale", "--auto-compact", "--auto-defrag"], LONG);
    assert!(output.succeeded(), "{output:?}");
    let shown: Vec<_> = output.stdout.lines().collect();
    assert_eq!(
        shown[0],
        "Start data scale check for work load [10000 key-value pairs, 1024 bytes per key-value, 50 concurrent clients]."
    );
    assert!(output.stdout.contains(" 10000 / 10000   100.00%"), "{}", output.stdout);
    assert!(output.stdout.contains("Compacted with revision "), "{}", output.stdout);
    assert!(output.stdout.contains(&format!("Defragmented \"{}\"", cluster.endpoints())), "{}", output.stdout);
    assert!(shown.last().unwrap().starts_with("PASS: Approximate system memory used : "), "{}", output.stdout);
    assert_eq!(cluster.told(0, &["get", "", "--prefix"]), "");
}

#[test]
fn revisions_bound_what_is_read() {
    let Some((_, cluster)) = etcd() else { return };
    for key in ["a", "b", "c", "a"] {
        cluster.told(0, &["put", key, "v"]);
    }
    for (flags, keys) in [
        (&["--min-mod-rev=3"][..], "a\n\nb\n\nc\n\n"),
        (&["--min-mod-rev=5"], "a\n\n"),
        (&["--max-mod-rev=3"], "b\n\n"),
        (&["--min-create-rev=3"], "b\n\nc\n\n"),
        (&["--min-create-rev=3", "--max-create-rev=3"], "b\n\n"),
    ] {
        assert_eq!(told(&cluster, &[&["get", "", "--prefix", "--keys-only"], flags].concat()), keys, "{flags:?}");
    }
    let output = vlot(&cluster, &["get", "a", "--min-mod-rev=3", "--max-mod-rev=2"], PATIENCE);
    assert_eq!((output.code, &output.stderr[..]), (Some(4), "Error: getMinModRev(=3) > getMaxModRev(=2)\n"));
    assert_eq!(told(&cluster, &["member", "list", "--consistency=s"]), told(&cluster, &["member", "list"]));
}

/// The program under another name, as a package or an image would have it.
fn called(name: &str, arguments: &[&str]) -> Output {
    let dir = TempDir::new(name);
    let program = dir.path().join(name);
    symlink(VLOT, &program).unwrap();
    run(Command::new(&program).args(arguments), "", PATIENCE)
}

#[test]
fn its_name_says_what_the_program_is() {
    let output = called("etcdctl", &["version"]);
    assert_eq!(output.stdout, "etcdctl version: 3.6.0\nAPI version: 3.6\n");
    let output = called("etcdctl", &["--help"]);
    assert!(output.stdout.contains("Usage: etcdctl") && !output.stdout.contains("\n  bench"), "{}", output.stdout);
    assert_eq!(called("etcdctl", &["server"]).code, Some(1));

    let output = called("etcd", &["--version"]);
    assert!(output.succeeded() && output.stdout.starts_with("etcd Version: 3.6.0\n"), "{output:?}");
    let output = called("etcd", &["--listen-client-urls=nonsense"]);
    assert!(output.code == Some(1) && output.stderr.starts_with("etcd: "), "{output:?}");
    assert!(called("etcd", &["--help"]).stdout.contains("--initial-cluster-state"));

    let output = called("vlot", &["version"]);
    assert!(output.stdout.starts_with("vlot version: "), "{output:?}");
}

#[test]
fn shells_complete_commands_and_flags() {
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = run(Command::new(VLOT).args(["completion", shell]), "", PATIENCE);
        assert!(script.succeeded(), "{script:?}");
        for word in ["keep-alive", "grant-permission", "print-value-only", "snapshot"] {
            assert!(script.stdout.contains(word), "{shell}: {word}");
        }
    }
    let script = called("etcdctl", &["completion", "bash"]).stdout;
    assert!(script.contains("_etcdctl()") && !script.contains("vlot"), "{script}");
    assert_eq!(run(Command::new(VLOT).args(["completion", "csh"]), "", PATIENCE).code, Some(1));
    // A shell must be able to read it.
    let dir = TempDir::new("completion");
    let file = dir.path().join("script");
    std::fs::write(&file, script).unwrap();
    assert!(run(Command::new("bash").arg("-n").arg(&file), "", PATIENCE).succeeded());
}

#[test]
fn flags_come_from_the_environment_and_are_shown() {
    let run_with = |variables: &[(&str, &str)], arguments: &[&str]| {
        let mut command = support::cluster::plain_client(Path::new(VLOT));
        run(command.envs(variables.iter().copied()).args(arguments), "", PATIENCE)
    };
    let at_nothing = ("ETCDCTL_ENDPOINTS", "127.0.0.1:1");
    let output = run_with(
        &[at_nothing, ("ETCDCTL_COMMAND_TIMEOUT", "50ms"), ("ETCDCTL_USER", "u:secret")],
        &["get", "a", "--debug"],
    );
    assert_eq!(output.code, Some(1));
    let shown: Vec<_> = output.stderr.lines().filter(|line| line.starts_with("ETCDCTL_")).collect();
    for flag in [
        "ETCDCTL_COMMAND_TIMEOUT=50ms",
        "ETCDCTL_DEBUG=true",
        "ETCDCTL_ENDPOINTS=[127.0.0.1:1]",
        "ETCDCTL_USER=u",
        "ETCDCTL_WRITE_OUT=simple",
    ] {
        assert!(shown.contains(&flag), "{flag} in {shown:?}");
    }
    assert!(!output.stderr.contains("secret"), "{}", output.stderr);

    let output = run_with(&[at_nothing], &["--endpoints=127.0.0.1:2", "get", "a"]);
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.contains("conflicting environment variable") && output.stderr.contains("ETCDCTL_ENDPOINTS"));
    let output = run_with(&[("ETCDCTL_API", "2")], &["get", "a"]);
    assert_eq!((output.code, &output.stderr[..]), (Some(1), "Error: only ETCDCTL_API=3 is supported\n"));
    let output = run_with(&[("ETCDCTL_CACERT", "/ca")], &["get", "a"]);
    let said = "Error: /ca: there is no such file; check the path\n";
    assert_eq!((output.code, &output.stderr[..]), (Some(2), said));
}

#[test]
fn the_beginning_of_a_command_is_enough() {
    let Some((_, cluster)) = etcd() else { return };
    assert_eq!(told(&cluster, &["mem", "list"]), told(&cluster, &["member", "list"]));
    assert_eq!(vlot(&cluster, &["m", "list"], PATIENCE).code, Some(1), "make-mirror, member or move-leader?");
}

/// Takes a lock and waits until it is held.
fn holder(endpoints: &str, flags: &[&str], log: &Path) -> Process {
    let mut command = client(Path::new(VLOT), endpoints);
    let log_file = std::fs::File::create(log).unwrap();
    command.args(["lock", "name"]).args(flags).stdout(log_file.try_clone().unwrap()).stderr(log_file);
    let holder = Process::start(&mut command);
    eventually("the lock is held", PATIENCE, || std::fs::read_to_string(log).unwrap().contains("name/"));
    holder
}

#[test]
fn a_lock_outlives_a_server_and_not_its_lease() {
    let Some(etcd) = Etcd::find() else { return };
    let mut cluster = Cluster::etcd(3, &etcd.server, &etcd.ctl);
    let dir = TempDir::new("lock");
    let log = dir.path().join("log");
    let mut holding = holder(&cluster.endpoints(), &["--ttl=5"], &log);
    // The one that the client speaks to. Renewing goes on at another, for longer than the lease lasts without.
    cluster.nodes[0].kill();
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(
        cluster.told(1, &["get", "name", "--prefix", "--count-only", "-w", "fields"]).lines().last(),
        Some("\"Count\" : 1")
    );
    holding.signal("INT");
    assert_eq!(holding.wait(PATIENCE).and_then(|status| status.code()), Some(0));
    assert_eq!(cluster.told(1, &["get", "name", "--prefix"]), "");

    let mut holding = holder(&cluster.nodes[1].endpoint(), &["--ttl=2"], &log);
    cluster.nodes[1].kill();
    assert_eq!(holding.wait(PATIENCE).and_then(|status| status.code()), Some(1));
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.ends_with("Error: session expired\n"), "{said}");
}

#[test]
fn all_members_are_asked_and_the_leadership_moves() {
    let Some(etcd) = Etcd::find() else { return };
    let cluster = Cluster::etcd(3, &etcd.server, &etcd.ctl);
    for verb in ["health", "hashkv", "status"] {
        let sorted = |program: &Path| {
            let mut command = client(program, &cluster.nodes[0].endpoint());
            let output = run(command.args(["endpoint", verb, "--cluster"]), "", PATIENCE);
            assert!(output.succeeded(), "{output:?}");
            let mut lines: Vec<_> =
                output.stdout.lines().map(|line| line.split(" took = ").next().unwrap().to_owned()).collect();
            lines.sort_unstable();
            lines
        };
        let (theirs, ours) = (sorted(&etcd.ctl), sorted(Path::new(VLOT)));
        assert_eq!((ours.len(), &ours), (3, &theirs), "{verb}");
    }
    let finished = told(&cluster, &["defrag", "--cluster"]);
    assert_eq!(finished.lines().filter(|line| line.starts_with("Finished defragmenting etcd member[http")).count(), 3);

    let follower = cluster.nodes.iter().position(|node| !node.leads()).unwrap();
    let id = |column: &str| column.split(", ").nth(1).unwrap().to_owned();
    let target = id(&cluster.told(follower, &["endpoint", "status"]));
    let leader = id(&cluster.told(cluster.leader(), &["endpoint", "status"]));
    let moved = told(&cluster, &["move-leader", &target]);
    assert_eq!(moved, format!("Leadership transferred from {leader} to {target}\n"));
    eventually("it leads", PATIENCE, || cluster.nodes[follower].leads());
}

#[test]
fn a_user_whose_token_has_expired_logs_in_again() {
    let Some((etcd, source)) = etcd() else { return };
    let mut destination = Cluster::etcd(1, &etcd.server, &etcd.ctl);
    destination.nodes[0].stop();
    destination.nodes[0].flag("auth-token-ttl", "1");
    destination.nodes[0].start();
    destination.ready();
    for line in ["user add root:pw", "user grant-role root root", "auth enable"] {
        told(&destination, &line.split(' ').collect::<Vec<_>>());
    }
    source.told(0, &["put", "a", "1"]);
    let mut command = client(Path::new(VLOT), &source.endpoints());
    command.args(["make-mirror", "--dest-user=root:pw", &destination.endpoints()]);
    let _mirror = Process::start(command.stdout(Stdio::null()));
    let holds = |value: &str| {
        eventually("it is copied", PATIENCE, || {
            destination.told(0, &["get", "a", "--print-value-only", "--user=root:pw"]).trim_end() == value
        });
    };
    holds("1");
    // Longer than a token lasts that is not used.
    std::thread::sleep(Duration::from_secs(4));
    source.told(0, &["put", "a", "2"]);
    holds("2");
}

#[test]
fn who_logs_in_waits_for_a_server_that_can_say_who_they_are() {
    let Some(etcd) = Etcd::find() else { return };
    let mut cluster = Cluster::etcd(3, &etcd.server, &etcd.ctl);
    for line in ["user add root:pw", "user grant-role root root", "auth enable"] {
        told(&cluster, &line.split(' ').collect::<Vec<_>>());
    }
    // One endpoint is gone, and the others can log nobody in until they have found a leader.
    let leader = cluster.leader();
    cluster.nodes.swap(0, leader);
    cluster.nodes[0].kill();
    let written = vlot(&cluster, &["put", "a", "1", "--user=root:pw", "--command-timeout=15s"], PATIENCE);
    assert_eq!((written.code, &written.stdout[..]), (Some(0), "OK\n"), "{written:?}");
    let refused = vlot(&cluster, &["put", "a", "1", "--user=root:other"], PATIENCE);
    let flaw = "Error: etcdserver: authentication failed, invalid user ID or password\n";
    assert_eq!((refused.code, &refused.stderr[..]), (Some(2), flaw));
}
