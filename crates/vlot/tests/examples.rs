//! The examples, run as somebody runs them who has just read them: as processes that talk over loopback.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A program that reads lines and answers each with one.
struct Program {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Program {
    fn start(path: &Path, arguments: &[&str]) -> Program {
        let mut command = Command::new(path);
        let mut process =
            command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let (input, output) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        Program { process, input, output }
    }

    fn ask(&mut self, line: &str) -> String {
        writeln!(self.input, "{line}").unwrap();
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Has Cargo build an example, which it does not if this test alone is asked for, and says where it is.
fn built(example: &str) -> PathBuf {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--locked", "-p", "vlot", "--example", example]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    assert!(build.status().expect("cargo runs").success(), "{example} does not build");
    let this = std::env::current_exe().unwrap();
    let profile = this.ancestors().nth(2).expect("tests are in a folder beside the examples");
    profile.join("examples").join(example)
}

/// Addresses that nobody listens at.
fn free_addresses(count: usize) -> String {
    let listeners: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<String> = listeners.iter().map(|each| each.local_addr().unwrap().to_string()).collect();
    addresses.join(",")
}

/// A folder that is gone when this is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let dir = std::env::temp_dir().join(format!("vlot-examples-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Scratch(dir)
    }

    fn join(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

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
