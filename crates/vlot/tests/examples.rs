//! The examples, run as somebody runs them who has just read them: as processes that talk over loopback.

mod programs;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use programs::{Program, Scratch, built, free_addresses, http};

#[test]
fn three_counters_agree_while_one_is_killed_and_started_again() {
    let (path, addresses, dir) = (built("counter"), free_addresses(3), Scratch::new("counter"));
    let start = |number: &str| Program::start(&path, &[number, &addresses, &dir.join(number)]);
    let [mut first, mut second, mut third] = ["1", "2", "3"].map(start);
    assert_eq!(first.ask("5"), "5");
    assert_eq!(second.ask("7"), "12");
    third.kill();
    assert_eq!(first.ask("30"), "42");
    second.kill();
    let (mut second, mut third) = (start("2"), start("3"));
    assert_eq!(third.ask("0"), "42", "what it has missed");
    assert_eq!(second.ask("8"), "50");
    first.kill();
    assert_eq!(third.ask("50"), "100");
}

#[test]
fn a_thousand_groups_are_led_by_all_three_and_cost_little_when_idle() {
    let (path, addresses, dir) = (built("many_groups"), free_addresses(3), Scratch::new("many_groups"));
    let mut nodes = ["1", "2", "3"].map(|number| Program::start(&path, &[number, &addresses, &dir.join(number)]));
    for node in &mut nodes {
        let taken_up = node.hear();
        assert!(taken_up.starts_with("1000 groups taken up in"), "{taken_up}");
    }
    let (written, begun) = (nodes[0].ask("each 1"), Instant::now());
    assert!(written.starts_with("added to 1000 in"), "{written}");
    loop {
        let leads = nodes.each_mut().map(|node| node.ask("leads"));
        if leads.iter().all(|leads| ["leads 333 of 1000", "leads 334 of 1000"].contains(&leads.as_str())) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{leads:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    let idle = loop {
        let idle = nodes[0].ask("idle 2");
        let (percent, mib) = idle.split_once(" % of a core, ").expect(&idle);
        let mib: u64 = mib.trim_end_matches(" MiB").parse().unwrap();
        // Groups fall asleep after three seconds in which nothing happens.
        if percent.parse::<f64>().unwrap() <= 5.0 && mib <= 100 {
            break idle;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{idle}");
    };
    nodes[2].kill();
    let after_a_death = nodes[0].ask("each 1");
    assert!(after_a_death.starts_with("added to 1000 in"), "{after_a_death}");
    assert_eq!(nodes[1].ask("add 999 40"), "42");
    println!("all: {written}; idle: {idle}; one killed: {after_a_death}");
}

#[test]
fn a_node_without_a_network_grows_to_three_where_its_data_is() {
    let (path, dir) = (built("grow"), Scratch::new("grow"));
    let mut alone = Program::start(&path, &["1", &dir.join("1")]);
    assert_eq!(alone.ask("20"), "20");
    assert_eq!(alone.ask("members"), "1 at", "nowhere");
    alone.kill();
    let addresses = free_addresses(3);
    let [first, second, third] = addresses.split(',').collect::<Vec<_>>()[..] else { panic!("three") };
    let start = |number: &str, address: &str| Program::start(&path, &[number, &dir.join(number), address]);
    let mut nodes = [start("1", first), start("2", second), start("3", third)];
    assert_eq!(nodes[0].ask("1"), "21", "the folder is the same");
    assert_eq!(nodes[0].ask(&format!("join 2 {second}")), "node 2 votes");
    assert_eq!(nodes[1].ask(&format!("join 3 {third}")), "node 3 votes");
    assert_eq!(nodes[2].ask("members"), format!("1 at {first}, 2 at {second}, 3 at {third}"));
    // The one that it began with is needed no more than the others.
    nodes[0].kill();
    assert_eq!(nodes[2].ask("21"), "42");
    nodes[0] = start("1", first);
    nodes[1].kill();
    assert_eq!(nodes[0].ask("8"), "50");
}

#[test]
fn a_map_is_read_everywhere_and_changes_its_members_while_it_runs() {
    let (path, addresses, dir) = (built("kv"), free_addresses(4), Scratch::new("kv"));
    let each: Vec<&str> = addresses.split(',').collect();
    let first = each[..3].join(",");
    let start = |at: usize| {
        let number = (at + 1).to_string();
        Program::start(&path, &[&number, each[at], &dir.join(&number), &first])
    };
    let mut nodes = [start(0), start(1), start(2)];
    assert_eq!(nodes[0].ask("put colour blue"), "none");
    for node in &mut nodes {
        assert_eq!(node.ask("get colour"), "blue", "what is read is not older than what was written, on followers too");
    }
    assert_eq!(nodes[1].ask("put colour red"), "blue");
    assert_eq!(nodes[2].ask("del colour"), "red");
    assert_eq!(nodes[0].ask("get colour"), "none");
    assert_eq!(nodes[0].ask("put shape round"), "none");

    let mut fourth = Program::start(&path, &["4", each[3], &dir.join("4")]);
    assert_eq!(nodes[1].ask(&format!("add 4 {}", each[3])), "done");
    assert_eq!(fourth.ask("get shape"), "round");
    assert_eq!(nodes[2].ask("promote 4"), "done");
    assert_eq!(fourth.ask("remove 1"), "done");
    let members = fourth.ask("members");
    assert_eq!(members, format!("2 Voter {}, 3 Voter {}, 4 Voter {}", each[1], each[2], each[3]));
    assert_eq!(nodes[0].ask("get shape"), "not done: this node is no member of the group");
    nodes[0].kill();
    nodes[1].kill();
    assert_eq!(fourth.ask("put shape square"), "round", "two of three");
    // Killed all at once, and started again.
    fourth.kill();
    nodes[2].kill();
    nodes[1] = start(1);
    nodes[2] = start(2);
    assert_eq!(nodes[1].ask("get shape"), "square");
}

#[test]
fn a_service_says_honestly_what_became_of_a_call() {
    let (path, addresses, dir) = (built("axum_service"), free_addresses(6), Scratch::new("axum"));
    let each: Vec<&str> = addresses.split(',').collect();
    let (peers, at) = (each[..3].join(","), &each[3..]);
    let start = |node: usize| {
        let number = (node + 1).to_string();
        Program::start(&path, &[&number, at[node], &peers, &dir.join(&number)])
    };
    let mut nodes = [start(0), start(1), start(2)];
    let begun = Instant::now();
    // It may be no leader at first, or not listen yet.
    let session = loop {
        match http(at[0], "POST", "/sessions", "") {
            Ok(answer) if answer.status == 200 => break answer.body,
            other => assert!(begun.elapsed() < Duration::from_secs(30), "{other:?}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let ask = |node: usize, method: &str, path: &str, body: &str| {
        let answer = http(at[node], method, path, body).unwrap();
        (answer.status, answer.body)
    };
    let call = |serial: u64| format!("/calls/{session}-{serial}");
    assert_eq!(ask(0, "PUT", &call(1), "one"), (200, "1".to_owned()));
    assert_eq!(ask(1, "PUT", &call(1), "one"), (200, "1".to_owned()), "the same call elsewhere");
    assert_eq!(ask(2, "GET", &call(1), ""), (200, "1".to_owned()));
    assert_eq!(ask(2, "GET", &call(2), "").0, 410);
    assert_eq!(ask(0, "PUT", &call(2), "two").0, 410, "it was given up");
    assert_eq!(ask(0, "PUT", "/calls/what", "two").0, 400);
    assert_eq!(ask(1, "PUT", &call(3), "three"), (200, "2".to_owned()));
    assert_eq!(ask(1, "GET", &call(1), "").0, 409, "it is settled");
    assert_eq!(ask(2, "GET", "/journal", ""), (200, "one\nthree".to_owned()));

    // Without a quorum: either it is certain that it was not done, or it is named.
    nodes[1].kill();
    nodes[2].kill();
    let answer = http(at[0], "PUT", &call(4), "four").unwrap();
    match answer.status {
        503 => assert!(answer.head.contains("retry-after: 1"), "{answer:?}"),
        504 => assert!(answer.head.contains(&format!("location: {}", call(4))), "{answer:?}"),
        _ => panic!("{answer:?}"),
    }
    nodes[1] = start(1);
    let begun = Instant::now();
    let resolved = loop {
        let resolved = ask(0, "GET", &call(4), "");
        if ![503, 504].contains(&resolved.0) {
            break resolved;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{resolved:?}");
    };
    let journal = if resolved.0 == 410 { "one\nthree" } else { "one\nthree\nfour" };
    assert_eq!(ask(1, "GET", "/journal", ""), (200, journal.to_owned()), "{resolved:?}");
}

/// What a three-node durable map over TCP takes, with commands and snapshots of its own.
#[test]
fn the_map_is_a_program_of_a_hundred_and_twenty_lines() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/kv.rs")).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with("//")).count();
    assert!(lines <= 120, "{lines} lines");
}

#[test]
fn a_cluster_in_memory_counts_on_through_partitions_and_power_loss() {
    let output = Command::new(built("in_memory")).output().expect("it starts");
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(
        (said.lines().collect::<Vec<_>>(), output.status.success()),
        (vec!["5", "12", "42", "42"], true),
        "{errors}"
    );
}

#[test]
fn the_counter_is_a_program_of_forty_lines() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/counter.rs")).unwrap();
    let is_code = |line: &&str| !line.is_empty() && !line.starts_with("//") && !line.starts_with("use ");
    let lines = text.lines().filter(is_code).count();
    assert!(lines <= 40, "{lines} lines");
}
