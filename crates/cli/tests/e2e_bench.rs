//! The load generator where users count: as whom it calls, what it does when a token ends, and logins as a load of their own.

mod support;

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::cluster::{Cluster, PATIENCE, client, plain_client};
use support::process::{Output, run};
use support::{Etcd, VLOT};

/// A node of etcd's and one of ours, on which anna may do everything and nora nothing.
fn nodes(etcd: &Etcd) -> [Cluster; 2] {
    let cost = ("bcrypt-cost", "4");
    let clusters =
        [Some(etcd.server.as_path()), None].map(|server| Cluster::with_flag(server, 1, Path::new(VLOT), cost));
    for cluster in &clusters {
        for words in [
            "user add root:r",
            "user grant-role root root",
            "user add anna:a",
            "user add nora:n",
            "role add all",
            "role grant-permission all readwrite 0 --from-key",
            "user grant-role anna all",
            "auth enable",
        ] {
            cluster.told(0, &words.split(' ').collect::<Vec<_>>());
        }
    }
    clusters
}

fn bench(cluster: &Cluster, words: &str) -> Command {
    let mut command = plain_client(Path::new(VLOT));
    command.arg("bench").args(words.split(' ')).args(["--endpoints", &cluster.endpoints(), "--json"]);
    command
}

fn report(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

/// Operations, failures, and logins after the first.
fn counts(report: &Value) -> [u64; 3] {
    ["operations", "failures", "logged_in_again"].map(|name| report[name].as_u64().unwrap())
}

const SHORT: &str = "--clients=4 --key-space=10 --seconds=0.5 --warmup=0.1";

#[test]
fn every_workload_is_made_as_a_user() {
    let Some(etcd) = Etcd::find() else { return };
    for cluster in nodes(&etcd) {
        for workload in ["put", "range", "range --consistency=s", "txn", "watch --watchers=3 --stalled=1"] {
            let output = run(&mut bench(&cluster, &format!("{workload} {SHORT} --user=anna:a")), "", PATIENCE);
            let [operations, failures, logins] = counts(&report(&output));
            assert!(operations > 0 && (failures, logins) == (0, 0), "{workload}: {output:?}");
        }
        let by_variables = [("ETCDCTL_USER", "anna"), ("ETCDCTL_PASSWORD", "a")];
        let output = run(bench(&cluster, &format!("put {SHORT}")).envs(by_variables), "", PATIENCE);
        assert!(output.succeeded() && counts(&report(&output))[1] == 0, "{output:?}");

        for (words, why) in [
            ("put --user=anna:b", "Error: etcdserver: authentication failed, invalid user ID or password\n"),
            ("put --user=anna", "Error: --user=anna has no password: give --user=anna:PASSWORD, or --password\n"),
            ("watch --user=nora:n", "permission denied\n"),
        ] {
            let output = run(&mut bench(&cluster, &format!("{words} {SHORT}")), "", PATIENCE);
            assert!(!output.succeeded() && output.stderr.ends_with(why) && output.stdout.is_empty(), "{output:?}");
        }
        for (user, why) in [("", "etcdserver: user name is empty"), (" --user=nora:n", "etcdserver: permission denied")]
        {
            let output = run(&mut bench(&cluster, &format!("put {SHORT}{user}")), "", PATIENCE);
            let report = report(&output);
            assert!(!output.succeeded() && counts(&report)[1] > 0, "{output:?}");
            assert!(report["errors"][why].as_u64().is_some(), "{report}");
        }
    }
}

/// Another password, though it is the same, ends all tokens of a user.
#[test]
fn a_token_that_ends_is_replaced_and_no_call_fails() {
    let Some(etcd) = Etcd::find() else { return };
    for cluster in nodes(&etcd) {
        let output = std::thread::scope(|scope| {
            let load = "range --clients=16 --conns=3 --rate=400 --seconds=3 --warmup=0 --user=anna:a";
            let load = scope.spawn(|| run(&mut bench(&cluster, load), "", PATIENCE));
            for _ in 0..2 {
                std::thread::sleep(std::time::Duration::from_secs(1));
                let mut change = client(Path::new(VLOT), &cluster.endpoints());
                change.args(["user", "passwd", "anna", "--interactive=false", "--user=root:r"]);
                assert!(run(&mut change, "a\n", PATIENCE).succeeded());
            }
            load.join().unwrap()
        });
        let [operations, failures, logins] = counts(&report(&output));
        assert!(operations > 1_000 && failures == 0 && (1..=2).contains(&logins), "{output:?}");
    }
}

#[test]
fn logins_are_a_load_of_their_own() {
    let Some(etcd) = Etcd::find() else { return };
    for cluster in nodes(&etcd) {
        let pid = cluster.nodes[0].process_id();
        let users = "login --users=5 --prefix=guest-";
        let create = format!("{users} --users-password=pw --create --user=root:r {SHORT} --pids={pid}");
        for _ in 0..2 {
            // The second time they are there already.
            let output = run(&mut bench(&cluster, &create), "", PATIENCE);
            let report = report(&output);
            let [operations, failures, logins] = counts(&report);
            assert!(operations > 5 && (failures, logins) == (0, 0), "{report}");
            assert_eq!(report["workload"], "login");
            for number in ["/latency_us/p50", "/latency_us/p99", "/server_cpu_us_per_operation"] {
                assert!(report.pointer(number).and_then(Value::as_f64).unwrap() > 0.0, "{number} of {report}");
            }
        }
        let listed = cluster.told(0, &["user", "list", "--user=root:r"]);
        assert_eq!(listed, "anna\nguest-0\nguest-1\nguest-2\nguest-3\nguest-4\nnora\nroot\n");

        // On schedule, and by nobody's leave.
        let rate = format!("{users} --users-password=pw --clients=4 --rate=20 --seconds=2 --warmup=0.1");
        let [operations, failures, _] = counts(&report(&run(&mut bench(&cluster, &rate), "", PATIENCE)));
        assert!((25..=45).contains(&operations) && failures == 0, "{operations} {failures}");
        let wrong = format!("{users} --users-password=no {SHORT}");
        let output = run(&mut bench(&cluster, &wrong), "", PATIENCE);
        let report = report(&output);
        assert!(!output.succeeded() && counts(&report)[0] == 0 && counts(&report)[1] > 0, "{report}");
        let text = "etcdserver: authentication failed, invalid user ID or password";
        assert!(report["errors"][text].as_u64().is_some(), "{report}");
        let none = run(&mut bench(&cluster, &format!("{users} --users-password=pw --create {SHORT}")), "", PATIENCE);
        assert!(none.stderr.starts_with("Error: cannot create the users that are to log in: "), "{none:?}");
    }
}

#[test]
fn a_run_is_a_page_with_pictures() {
    let Some(etcd) = Etcd::find() else { return };
    let dir = support::TempDir::new("bench-page");
    for cluster in [Cluster::etcd(1, &etcd.server, &etcd.ctl), Cluster::vlot(1, &etcd.ctl)] {
        let (pid, file) = (cluster.nodes[0].process_id(), dir.path().join("page.html"));
        let words = format!("put {SHORT} --pids={pid} --html={}", file.display());
        let output = run(&mut bench(&cluster, &words), "", PATIENCE);
        let report = report(&output);
        let page = std::fs::read_to_string(&file).unwrap();
        assert_eq!(page.matches("<svg ").count(), 4, "{page}");
        assert_eq!(page.matches("<svg ").count(), page.matches("</svg>").count());
        assert!(page.contains(&format!("{} operations, 0 failures", report["operations"])), "{page}");
        // What is drawn is what was counted: stretches of 100 ms are the whole run, and some thread has done the work.
        let stretches = report["timeline"].as_array().unwrap();
        let sum: u64 = stretches.iter().map(|stretch| stretch["operations"].as_u64().unwrap()).sum();
        assert_eq!(report["operations"], sum);
        assert!((3..=6).contains(&stretches.len()), "{stretches:?}");
        let threads = report["server_threads"][pid.to_string()].as_object().unwrap();
        let busiest = threads.iter().max_by(|a, b| a.1.as_f64().unwrap().total_cmp(&b.1.as_f64().unwrap())).unwrap().0;
        assert!(page.contains(&format!("{pid} {busiest}")), "{busiest}: {page}");
        let nowhere = dir.path().join("none").join("page.html");
        let output = run(&mut bench(&cluster, &format!("put {SHORT} --html={}", nowhere.display())), "", PATIENCE);
        assert!(!output.succeeded() && output.stderr.starts_with("Error: --html: cannot write "), "{output:?}");
    }
}
