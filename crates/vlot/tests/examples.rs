//! The examples, run as somebody runs them who has just read them: as processes that talk over loopback.

mod programs;

use std::path::Path;
use std::time::{Duration, Instant};

use programs::{Program, Scratch, built, free_addresses};

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
fn the_counter_is_a_program_of_forty_lines() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/counter.rs")).unwrap();
    let is_code = |line: &&str| !line.is_empty() && !line.starts_with("//") && !line.starts_with("use ");
    let lines = text.lines().filter(is_code).count();
    assert!(lines <= 40, "{lines} lines");
}
