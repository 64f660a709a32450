//! How a session is written, and run.
//!
//! ```text
//! # A comment.
//! put a 'x y'              a command of the client, with its arguments
//! < one line               a line of its standard input
//! ETCDCTL_X=1 get a        with a variable; with --endpoints=... for others than the server's
//! &1 watch a               a command that goes on meanwhile, by a number
//! says 1 PUT               wait until that command has said so
//! stop 1 INT               send it a signal, wait for its end, and show all it said
//! ends 1                   wait for its end
//! raise NOSPACE            raise an alarm, which no client can
//! pause 3                  let so many seconds pass
//! ```
//!
//! `{lease}` is the lease that was granted last, `{member}` the server's id, `{dir}` a directory, `{server}` the endpoint and
//! `{peer}` the server's peer URL.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

use vlot_proto::etcdserverpb::alarm_request::AlarmAction;
use vlot_proto::etcdserverpb::{AlarmRequest, AlarmResponse, AlarmType};

use super::masks::Masks;
use super::support::cluster::{Cluster, PATIENCE, client, plain_client};
use super::support::process::{Output, run, signal};
use super::support::{TempDir, eventually, grpc};

/// Runs a session and returns what was to be seen of it.
pub fn run_session(text: &str, program: &Path, server: &Cluster) -> String {
    let mut session = Session::begin(program, server);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut input = String::new();
        while let Some(more) = lines.next_if(|line| line.starts_with('<')) {
            input.push_str(more.strip_prefix("< ").unwrap_or_default());
            input.push('\n');
        }
        session.step(line, &input);
    }
    session.seen
}

struct Session<'s> {
    program: &'s Path,
    server: &'s Cluster,
    dir: TempDir,
    lease: String,
    member: String,
    running: Vec<(String, Running)>,
    masks: Masks,
    seen: String,
}

impl<'s> Session<'s> {
    fn begin(program: &'s Path, server: &'s Cluster) -> Session<'s> {
        let dir = TempDir::new("session");
        let listed = server.told(0, &["member", "list"]);
        let mut masks = Masks::default();
        masks.place(&dir.path().display().to_string(), "DIR");
        masks.place(&server.nodes[0].endpoint(), "SERVER");
        masks.place(&peer(server), "PEER");
        Session {
            program,
            server,
            dir,
            lease: "0".to_owned(),
            member: listed.split(',').next().unwrap().to_owned(),
            running: Vec::new(),
            masks,
            seen: String::new(),
        }
    }

    fn step(&mut self, line: &str, input: &str) {
        let written = line;
        let line = line
            .replace("{lease}", &self.lease)
            .replace("{member}", &self.member)
            .replace("{dir}", &self.dir.path().display().to_string())
            .replace("{server}", &self.server.nodes[0].endpoint())
            .replace("{peer}", &peer(self.server));
        let (first, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match first {
            "says" => {
                let words = words(rest);
                let [number, text] = words.as_slice() else { panic!("says NUMBER TEXT: {written}") };
                let running = self.running_as(number);
                eventually(written, PATIENCE, || running.said().contains(text));
            }
            "stop" | "ends" => {
                let (number, name) = rest.split_once(' ').unwrap_or((rest, ""));
                let place = self.running.iter().position(|(known, _)| known == number).expect("it was started");
                let (_, running) = self.running.remove(place);
                if !name.is_empty() {
                    assert!(signal(running.child.id(), name), "{written}");
                }
                let output = running.end();
                self.show(written, &output);
            }
            "pause" => sleep(Duration::from_secs(rest.parse().unwrap())),
            "raise" => raise(self.server, rest),
            _ => match first.strip_prefix('&') {
                Some(number) => {
                    let command = self.command(rest);
                    self.running.push((number.to_owned(), Running::start(command, input)));
                }
                None => {
                    let output = run(&mut self.command(&line), input, PATIENCE);
                    if let Some((id, _)) =
                        output.stdout.strip_prefix("lease ").and_then(|told| told.split_once(" granted"))
                    {
                        id.clone_into(&mut self.lease);
                    }
                    self.show(written, &output);
                }
            },
        }
    }

    fn command(&self, line: &str) -> Command {
        let words = words(line);
        let mut command = match words.iter().any(|word| word.starts_with("--endpoints=")) {
            true => plain_client(self.program),
            false => client(self.program, &self.server.nodes[0].endpoint()),
        };
        let variables = words.iter().take_while(|word| word.starts_with("ETCDCTL_")).count();
        for variable in &words[..variables] {
            let (name, value) = variable.split_once('=').expect("NAME=VALUE");
            command.env(name, value);
        }
        command.args(&words[variables..]);
        command
    }

    fn running_as(&self, number: &str) -> &Running {
        &self.running.iter().find(|(known, _)| known == number).expect("it was started").1
    }

    fn show(&mut self, line: &str, output: &Output) {
        // Lines of JSON are a library's log, and those of stty a program's that one of the two runs.
        let errors = output.stderr.lines().filter(|line| !line.starts_with('{') && !line.starts_with("stty"));
        let errors: String = errors.map(|line| format!("! {line}\n")).collect();
        let seen = format!("$ {line}\n{}{errors}-> {:?}\n", output.stdout, output.code);
        self.seen.push_str(&self.masks.apply(&seen));
    }
}

fn peer(server: &Cluster) -> String {
    format!("http://127.0.0.1:{}", server.nodes[0].peer_port)
}

/// Words between blanks; what stands between single quotes is one, and `\n` there is a line's end.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split_once('\'').expect("a quote is closed"),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        words.push(word.replace("\\n", "\n"));
        rest = after.trim_start();
    }
    words
}

/// A command that goes on while others run.
struct Running {
    child: Child,
    stdout: Arc<Mutex<Vec<u8>>>,
    stderr: Arc<Mutex<Vec<u8>>>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

impl Running {
    fn start(mut command: Command, input: &str) -> Running {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Standard input stays open: what comes may be the beginning.
        child.stdin.as_mut().unwrap().write_all(input.as_bytes()).unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (stdout, first) = collected(out);
        let (stderr, second) = collected(err);
        Running { child, stdout, stderr, readers: vec![first, second] }
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&self.stdout.lock().unwrap()).into_owned()
    }

    fn end(mut self) -> Output {
        let mut ended: Option<ExitStatus> = None;
        eventually("a command ends", PATIENCE, || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        let stderr = String::from_utf8_lossy(&self.stderr.lock().unwrap()).into_owned();
        Output { stdout: self.said(), stderr, code: ended.unwrap().code() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails if it has ended, which is all that is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collected(mut pipe: impl Read + Send + 'static) -> (Arc<Mutex<Vec<u8>>>, std::thread::JoinHandle<()>) {
    let collected = Arc::new(Mutex::new(Vec::new()));
    let target = collected.clone();
    let reader = std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = pipe.read(&mut buffer) {
            target.lock().unwrap().extend_from_slice(&buffer[..read]);
        }
    });
    (collected, reader)
}

/// Raises an alarm of the member.
fn raise(server: &Cluster, alarm: &str) {
    let listed = server.told(0, &["member", "list", "-w", "fields"]);
    let id = listed.lines().find_map(|line| line.strip_prefix("\"ID\" : ")).unwrap();
    let request = AlarmRequest {
        action: AlarmAction::Activate.into(),
        member_id: id.parse().unwrap(),
        alarm: AlarmType::from_str_name(alarm).expect("an alarm that there is").into(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let raised: Result<AlarmResponse, String> = runtime.block_on(async {
        let client = grpc::Client::connect(server.nodes[0].client_port).await;
        client.call("/etcdserverpb.Maintenance/Alarm", &request).await
    });
    raised.unwrap();
}
