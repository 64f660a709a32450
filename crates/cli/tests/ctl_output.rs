//! `vlot`'s commands print what etcdctl prints: both run the same script against a real etcd.
//!
//! The script avoids output that shows how many writes came before, because each write is made once by each program.
//!
//! Needs the programs `etcd` and `etcdctl` of release 3.5, in `$VLOT_ETCD_DIR/bin` or on the `PATH`. Without
//! them the test says loudly that it is skipped.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const FORMATS: [&str; 5] = ["simple", "json", "fields", "protobuf", "table"];

#[test]
fn commands_print_what_etcdctl_prints() {
    let Some(directory) = directory_of_etcd() else {
        eprintln!("SKIPPED: etcd not found: set VLOT_ETCD_DIR; nothing was compared");
        return;
    };
    let etcd = Etcd::start(&directory);
    let both = Both { etcdctl: directory.join("etcdctl"), endpoint: etcd.endpoint.clone() };
    both.fill();

    for format in FORMATS {
        for line in READS {
            both.compare(&[&line.split(' ').collect::<Vec<_>>()[..], &["-w", format]].concat(), "");
        }
        both.compare(&["get", "", "--prefix", "-w", format], "");
        both.compare(&["get", "", "--from-key", "--limit=2", "--hex", "-w", format], "");
        for transaction in TRANSACTIONS {
            both.compare(&["txn", "-w", format], transaction);
            both.compare(&["txn", "-i", "--hex", "-w", format], transaction);
        }
    }
    for line in REFUSED {
        both.compare(&line.split(' ').collect::<Vec<_>>(), "");
    }
    for broken in ["", "foo\n\n", "mod(\"a\") = 1\n\n", "zod(\"a\") = \"1\"\n\n", "\nput x\n\n", "\nget\n\n"] {
        both.compare(&["txn"], broken);
    }
    both.compare(&["put", "", "x"], "");
    both.compare(&["put", "from stdin"], "two\nlines\n");
    both.compare(&["get", "from stdin"], "");
    both.compare(&["put", "--", "a", "-dash"], "");
    both.compare(&["get", "a", "--print-value-only"], "");
    both.compare_members();
    both.compare_watches_and_compaction();
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (arguments, code, flaw) in [
        (&["get", "a", "--cacert", "x"][..], 2, "Error: x: there is no such file; check the path\n"),
        (&["get", "a", "--cacert="], 128, "Error: empty string is passed to --cacert option\n"),
        (
            &["get", "a", "--key", "x"],
            2,
            "Error: --key is given without --cert; a certificate needs its key, and a key its certificate\n",
        ),
        (
            &["--endpoints=unix://a:1", "get", "a"],
            128,
            "Error: endpoint \"unix://a:1\": unix is not supported, only http and https are\n",
        ),
        (
            &["get", "a", "--max-recv-bytes=1"],
            4,
            "Error: --max-recv-bytes is not supported: the limit is fixed at 1 GiB\n",
        ),
        (&["get", "a", "-w", "xml"], 4, "Error: unsupported output format\n"),
    ] {
        let output = run(Path::new(env!("CARGO_BIN_EXE_vlot")), arguments, "");
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(code), flaw.to_owned()));
    }
}

#[test]
fn a_command_without_its_subcommand_tells_which_there_are() {
    let vlot = Path::new(env!("CARGO_BIN_EXE_vlot"));
    let output = run(vlot, &["lease"], "");
    assert_eq!(output.status.code(), Some(0));
    for name in ["Usage: vlot lease", "grant", "revoke", "timetolive", "list", "keep-alive"] {
        assert!(text(&output.stdout).contains(name), "{name}: {}", text(&output.stdout));
    }
    assert_eq!(run(vlot, &["lease", "bogus"], "").status.code(), Some(1));
}

#[test]
fn an_endpoint_that_does_not_answer_is_named() {
    let arguments = ["--endpoints=127.0.0.1:1", "--command-timeout=100ms", "get", "a"];
    let output = run(Path::new(env!("CARGO_BIN_EXE_vlot")), &arguments, "");
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(stderr.ends_with("Error: context deadline exceeded\n"), "{stderr}");
    assert!(stderr.contains("127.0.0.1:1"), "{stderr}");
}

/// Read the same from both; words are split at spaces.
const READS: [&str; 23] = [
    "get a",
    "get a --prefix",
    "get a c",
    "get nothing",
    "get leased",
    "get a --rev 2",
    "get a --prefix --hex",
    "get a --prefix --keys-only",
    "get a --prefix --sort-by version --order descend",
    "get a --consistency s --limit 1 --prefix",
    "get a --count-only",
    "del nothing",
    "member list",
    "endpoint status",
    "endpoint hashkv",
    "lease list",
    "lease timetolive 123 --keys",
    "alarm list",
    "auth status",
    "user list",
    "user get u",
    "role list",
    "role get r",
];

/// Refused by both, in the same words and with the same exit code.
const REFUSED: [&str; 58] = [
    "get",
    "get a --rev 100000",
    "get a --order up",
    "get a --sort-by x",
    "get a b --prefix",
    "get a --prefix --from-key",
    "get a --consistency x",
    "get a --keys-only --count-only",
    "get a --print-value-only -w json",
    "get a -w nothing",
    "put a b --ignore-value",
    "put nothing --ignore-value",
    "put a b --lease 1234",
    "put a b --lease zz",
    "put a b --ignore-lease --lease 1",
    "del",
    "del a b c",
    "compaction",
    "compaction x",
    "compaction 100000",
    "txn a",
    "watch",
    "member add",
    "member add n2",
    "member add n2 n3",
    "member add n2 http://a:1",
    "member add n2 HTTP://a:1 http://b:1 --peer-urls=http://a:1",
    "member add n2 --peer-urls=",
    "member add n2 --peer-urls=foo",
    "member add n2 --peer-urls=:1",
    "member add n2 --peer-urls=a:1",
    "member add n2 --peer-urls=127.0.0.1:1",
    "member add n2 --peer-urls=http://127.0.0.1",
    "member add n2 --peer-urls=http://a:1/path",
    "member add n2 --peer-urls=http://a:b",
    "member add n2 --peer-urls=http://a:1,",
    "member remove",
    "member remove 1 2",
    "member remove xyz",
    "member remove +1",
    "member remove 10000000000000000",
    "member remove 1234",
    "member remove 1234 -w table",
    "member update",
    "member update 1234",
    "member update xyz",
    "member update xyz --peer-urls=http://a:1",
    "member update 1234 --peer-urls=foo",
    "member update 1234 --peer-urls=http://a:1",
    "member promote",
    "member promote 1 2",
    "member promote xyz",
    "member promote 1234",
    "move-leader",
    "move-leader 1 2",
    "move-leader xyz",
    "move-leader 0x12",
    "move-leader 1234",
];

/// They change nothing, so that both programs see the same.
const TRANSACTIONS: [&str; 2] = [
    "mod(\"a\") > \"0\"\nval(\"a\") = \"1\"\n\nget a\nget --prefix \"\"\ndel nothing\nget b --keys-only\n\nget nothing\n\n",
    "ver(\"a\") = \"77\"\n\nput a never\n\nget a\n\n",
];

/// The two programs under comparison.
struct Both {
    etcdctl: PathBuf,
    endpoint: String,
}

impl Both {
    fn fill(&self) {
        for (key, value) in [("a", "1"), ("ab", "2"), ("b", "x\u{1}<&>\"\\\n\tq"), ("é€", "日本")] {
            assert!(self.run(&self.etcdctl, &["put", key, value], "").status.success());
        }
        let lease = text(&self.run(&self.etcdctl, &["lease", "grant", "3600"], "").stdout);
        let lease = lease.split(' ').nth(1).expect("a lease was granted");
        for line in [
            &format!("put leased 1 --lease {lease}"),
            "user add u:pw",
            "role add r",
            "role grant-permission r readwrite a b",
            "role grant-permission r read c --from-key",
            "user grant-role u r",
        ] {
            let arguments: Vec<_> = line.split(' ').collect();
            assert!(self.run(&self.etcdctl, &arguments, "").status.success(), "{line}");
        }
    }

    fn compare_members(&self) {
        let listed = text(&self.run(&self.etcdctl, &["member", "list"], "").stdout);
        let columns: Vec<_> = listed.trim().split(", ").collect();
        let (own, url) = (columns[0], format!("--peer-urls={}", columns[3]));
        for format in FORMATS {
            self.compare(&["member", "list", "with", "words", "-w", format], "");
            self.compare(&["member", "update", own, &url, "-w", format], "");
            self.compare(&["member", "promote", own, "-w", format], "");
            self.compare(&["move-leader", own, "-w", format], "");
        }
        self.compare(&["member", "add", "n2", &url], "");
        self.compare(&["member", "remove", own], "");
        for (round, format) in ["simple", "json", "fields", "table"].into_iter().enumerate() {
            // etcd refuses the same URL within the same second.
            let change = |who: usize, output: &[&str]| {
                let url = format!("--peer-urls=http://127.0.0.1:{},http://localhost:7", 50_000 + 10 * round + who);
                let program = [&self.etcdctl, Path::new(env!("CARGO_BIN_EXE_vlot"))][who % 2];
                let added =
                    self.run(program, &[&["member", "add", "a \"name\"", "--learner", &url], output].concat(), "");
                let listed = text(&self.run(&self.etcdctl, &["member", "list"], "").stdout);
                let new = listed.lines().find(|line| line.contains("unstarted")).expect("a member was added");
                let removed =
                    self.run(program, &[&["member", "remove", &new[..new.find(',').unwrap()]], output].concat(), "");
                [added, removed].map(|output| (output.status.code(), pieces(&output.stdout), pieces(&output.stderr)))
            };
            assert_eq!(change(1, &["-w", format]), change(0, &["-w", format]), "{format}");
            assert_eq!(change(3, &["-w", format, "--hex"]), change(2, &["-w", format, "--hex"]), "{format}, hex");
        }
    }

    fn compare_watches_and_compaction(&self) {
        for format in &FORMATS[..3] {
            // A command that fails ends the watch after its first answer.
            self.compare(&["watch", "a", "--prefix", "--rev=2", "--prev-kv", "-w", format, "--", "false"], "");
        }
        let output = self.run(Path::new(env!("CARGO_BIN_EXE_vlot")), &["compaction", "4"], "");
        assert_eq!(text(&output.stdout), "compacted revision 4\n");
        self.compare(&["compaction", "3"], "");
        self.compare(&["get", "a", "--rev=3"], "");
        for format in &FORMATS[..3] {
            self.compare(&["watch", "a", "--rev=2", "-w", format], "");
        }
    }

    fn compare(&self, arguments: &[&str], input: &str) {
        let theirs = self.run(&self.etcdctl, arguments, input);
        let ours = self.run(Path::new(env!("CARGO_BIN_EXE_vlot")), arguments, input);
        let told = |output: &Output| {
            // Warnings of the client library are lines of JSON, and the two libraries differ.
            let stderr = text(&output.stderr);
            let errors: Vec<_> = stderr.lines().filter(|line| !line.starts_with('{')).map(str::to_owned).collect();
            (output.status.code(), errors)
        };
        assert_eq!(told(&ours), told(&theirs), "{arguments:?}");
        let (ours, theirs) = (ours.stdout, theirs.stdout);
        assert!(ours == theirs, "{arguments:?}\n--- etcdctl\n{}\n--- vlot\n{}", text(&theirs), text(&ours));
    }

    fn run(&self, program: &Path, arguments: &[&str], input: &str) -> Output {
        run(program, &[&["--endpoints", &self.endpoint], arguments].concat(), input)
    }
}

fn run(program: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    // A program that refuses its arguments may be gone before it reads.
    let _ = child.stdin.take().expect("stdin is piped").write_all(input.as_bytes());
    child.wait_with_output().expect("the program runs to its end")
}

/// What is told of members, without ids and ports, and in an order of its own: members are listed by their ids.
fn pieces(output: &[u8]) -> Vec<String> {
    let told = text(output);
    let lines = told.lines().filter(|line| !line.starts_with("{\"level\""));
    let words = lines.flat_map(|line| line.split_inclusive([',', '{', '}', '[', ']', '"', ' ']));
    let mut pieces: Vec<_> = words
        .map(|word| {
            let digits = |part: &str| part.len() >= 14 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            let parts = word.split([':', ',', '"', '=', ' ', '}']);
            let longest = parts.clone().find(|part| digits(part)).unwrap_or_default();
            let port = parts.clone().find(|part| part.len() == 5 && part.starts_with("500")).unwrap_or_default();
            [longest, port]
                .iter()
                .filter(|part| !part.is_empty())
                .fold(word.to_owned(), |word, part| word.replace(part, "N"))
        })
        .map(|word| word.trim_matches([',', '{', '}', '[', ']', '"', ' ']).to_owned())
        // Short ids have blanks before them.
        .filter(|word| !word.is_empty())
        .collect();
    pieces.sort();
    pieces
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn directory_of_etcd() -> Option<PathBuf> {
    let named = std::env::var_os("VLOT_ETCD_DIR").map(|dir| PathBuf::from(dir).join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories = named.into_iter().chain(std::env::split_paths(&path));
    let found = directories.find(|directory| directory.join("etcd").is_file() && directory.join("etcdctl").is_file());
    let required = std::env::var_os("VLOT_REQUIRE_ETCD").is_some();
    assert!(found.is_some() || !required, "etcd not found: set VLOT_ETCD_DIR");
    found
}

/// A server with data of its own, both of which end with the test.
struct Etcd {
    process: Child,
    endpoint: String,
    data: PathBuf,
}

impl Etcd {
    fn start(directory: &Path) -> Etcd {
        let [client, peer] = [free_port(), free_port()].map(|port| format!("http://127.0.0.1:{port}"));
        let data = std::env::temp_dir().join(format!("vlot-ctl-output-{}", std::process::id()));
        let process = Command::new(directory.join("etcd"))
            .args(["--name=one", "--log-level=error", "--data-dir"])
            .arg(&data)
            .args([format!("--listen-client-urls={client}"), format!("--advertise-client-urls={client}")])
            .args([format!("--listen-peer-urls={peer}"), format!("--initial-advertise-peer-urls={peer}")])
            .arg(format!("--initial-cluster=one={peer}"))
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd starts");
        let etcd = Etcd { process, endpoint: client, data };
        let deadline = Instant::now() + Duration::from_secs(20);
        let healthy = ["--endpoints", &etcd.endpoint, "--command-timeout=1s", "endpoint", "health"];
        while !run(&directory.join("etcdctl"), &healthy, "").status.success() {
            assert!(Instant::now() < deadline, "etcd does not become healthy");
        }
        etcd
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // Nothing more can be done about a server that does not end or a directory that stays.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}
