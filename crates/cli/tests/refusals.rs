//! What stops the program before it starts: one line that says what is wrong and what to do, and an exit code.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A directory that is removed in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("vlot-refusals-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A process that is killed in the end.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn vlot(scratch: &Scratch, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vlot"));
    command.args(arguments.split_whitespace()).current_dir(&scratch.0).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ETCD_") {
            command.env_remove(name);
        }
    }
    command
}

/// The one line with which the program refuses to start.
fn refusal(scratch: &Scratch, arguments: &str) -> String {
    let output = vlot(scratch, arguments).output().unwrap();
    assert!(!output.status.success(), "{arguments} was not refused");
    let said = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<_> = said.lines().filter(|line| line.starts_with("vlot ")).collect();
    assert_eq!(lines.len(), 1, "{arguments}:\n{said}");
    lines[0].to_owned()
}

/// Ports that were free a moment ago.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

fn flags([client, peer]: [u16; 2]) -> String {
    format!(
        "server --listen-client-urls http://127.0.0.1:{client} --advertise-client-urls http://127.0.0.1:{client} \
         --listen-peer-urls http://127.0.0.1:{peer} --initial-advertise-peer-urls http://127.0.0.1:{peer}"
    )
}

fn serve(scratch: &Scratch, ports: [u16; 2], more: &str) -> Running {
    let mut command = vlot(scratch, &format!("{} {more}", flags(ports)));
    let process = Running(command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let begun = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", ports[0])).is_err() || !scratch.0.join("d/member").exists() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it does not serve");
        std::thread::sleep(Duration::from_millis(10));
    }
    process
}

#[test]
fn flags_are_refused_with_one_line() {
    let scratch = Scratch::new("flags");
    let rows = [
        ("server --peer-cert-file=a.pem", "vlot server: --peer-cert-file is given without --peer-key-file"),
        ("server --cert-file=a.pem", "vlot server: --cert-file is given without --key-file"),
        ("server --no-such-flag", "vlot server: unknown flag --no-such-flag"),
        ("server --election-timeout=100", "vlot server: --election-timeout[100ms] should be at least as 5 times"),
        ("server --config-file=a.yml", "vlot server: a.yml: the configuration file cannot be read: No such file"),
    ];
    for (arguments, start) in rows {
        let line = refusal(&scratch, arguments);
        assert!(line.starts_with(start), "{line}");
    }
}

#[test]
fn a_flag_that_would_not_be_heeded_is_refused() {
    let scratch = Scratch::new("unheeded");
    for (given, flag) in [("--endpoints=h:1", "endpoints"), ("-w json", "write-out"), ("--debug", "debug")] {
        for command in ["bench put", "dev", "log verify"] {
            let name = command.split(' ').next().unwrap();
            let said = refusal(&scratch, &format!("{given} {command} {}", if name == "log" { "." } else { "" }));
            assert!(said.starts_with(&format!("vlot {name}: --{flag} is no flag of it where it stands")), "{said}");
        }
    }
}

#[test]
fn variables_are_refused_like_flags() {
    let scratch = Scratch::new("variables");
    let output = vlot(&scratch, "server").env("ETCD_WAL_DIR", "elsewhere").output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("vlot server: --wal-dir is not supported"), "{said}");
}

#[test]
fn a_port_in_use_is_named() {
    let scratch = Scratch::new("ports");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let [free] = free_ports();
    for ports in [[port, free], [free, port]] {
        let line = refusal(&scratch, &format!("{} --data-dir d", flags(ports)));
        assert!(line.contains(&port.to_string()) && line.contains("in use"), "{line}");
    }
}

#[test]
fn a_data_directory_is_one_members_and_one_processes() {
    let scratch = Scratch::new("data");
    let [client, peer, other, elsewhere] = free_ports();
    let running = serve(&scratch, [client, peer], "--data-dir d");
    let line = refusal(&scratch, &format!("{} --data-dir d", flags([other, peer])));
    assert!(line.contains("is in use by another process"), "{line}");
    drop(running);
    let renamed = |port: u16| format!("--name other --initial-cluster other=http://127.0.0.1:{port}");
    let line = refusal(&scratch, &format!("{} --data-dir d {}", flags([client, elsewhere]), renamed(elsewhere)));
    assert!(line.contains("belongs to member ") && line.contains("this is other at "), "{line}");
    let line = refusal(&scratch, &format!("{} --data-dir d --initial-cluster-token t", flags([client, elsewhere])));
    assert!(line.contains("belongs to member "), "{line}");
    // Either of the two may change, as in etcd, where the data alone says who a node is.
    drop(serve(&scratch, [client, peer], &format!("--data-dir d {}", renamed(peer))));
}

#[test]
fn a_node_that_joins_needs_a_member_that_answers() {
    let scratch = Scratch::new("existing");
    let ports: [u16; 2] = free_ports();
    let line = refusal(&scratch, &format!("{} --initial-cluster-state existing", flags(ports)));
    assert!(line.contains("--initial-cluster names nobody but this node"), "{line}");
    let [nobody] = free_ports();
    let cluster = format!("default=http://127.0.0.1:{},other=http://127.0.0.1:{nobody}", ports[1]);
    let line =
        refusal(&scratch, &format!("{} --initial-cluster-state existing --initial-cluster {cluster}", flags(ports)));
    assert!(line.contains("no member that --initial-cluster names tells who its members are"), "{line}");
    assert!(line.contains(&format!("http://127.0.0.1:{nobody}: ")), "{line}");
    assert!(!scratch.0.join("default.etcd/member").exists());
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let scratch = Scratch::new("unwritable");
    std::fs::write(scratch.0.join("file"), "").unwrap();
    let line = refusal(&scratch, &format!("{} --data-dir file/d", flags(free_ports())));
    assert!(line.contains("cannot use the data directory file/d"), "{line}");
    let line = refusal(&scratch, "dev --dir file/d");
    assert!(line.contains("cannot write to file/d") && line.contains("--dir"), "{line}");
}

#[test]
fn a_node_ends_with_the_process_that_started_it() {
    let scratch = Scratch::new("parent");
    let mut node = serve(&scratch, free_ports(), "--data-dir d --stop-with-parent");
    assert_eq!(node.0.try_wait().unwrap(), None);
    // What the system does when a process dies: its end of the pipe is closed.
    drop(node.0.stdin.take());
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = node.0.try_wait().unwrap() {
            break status;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "it goes on");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(status.success());
}
