//! One process: started, fed, waited for with a bound, and killed by its id when its owner goes.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{PoisonError, RwLock};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

/// A process that is being started has this program's sockets for a moment. Who needs to know that a socket is closed
/// when it closes it takes this for writing.
pub static SPAWNING: RwLock<()> = RwLock::new(());

/// A running process, killed at the latest when this is dropped.
pub struct Process(Child);

impl Process {
    pub fn start(command: &mut Command) -> Process {
        let _spawning = SPAWNING.read().unwrap_or_else(PoisonError::into_inner);
        let child = command.spawn();
        Process(child.unwrap_or_else(|error| panic!("cannot start {:?}: {error}", command.get_program())))
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// The end of a process as by `kill -9`.
    pub fn kill(&mut self) {
        // Fails only if it has ended and was waited for already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Sends a signal by name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        assert!(signal(self.id(), name), "cannot send {name}");
    }

    /// How the process ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap()
    }

    /// Waits for the end. `None` if it does not come in time.
    pub fn wait(&mut self, within: Duration) -> Option<ExitStatus> {
        let begun = Instant::now();
        loop {
            match self.ended() {
                Some(status) => return Some(status),
                None if begun.elapsed() > within => return None,
                None => sleep(Duration::from_millis(2)),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether a process runs. One that has ended counts for nothing, though nobody may have waited for it.
pub fn runs(id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"));
    let is_zombie = stat.is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|state| state.starts_with('Z')));
    signal(id, "0") && !is_zombie
}

/// Sends a signal to a process; `false` if there is none. The name `0` only asks.
pub fn signal(id: u32, name: &str) -> bool {
    let mut kill = Command::new("kill");
    let kill = Process::start(kill.arg(format!("-{name}")).arg(id.to_string()).stderr(Stdio::null())).0.wait();
    kill.unwrap().success()
}

/// What a command said, and how it ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Output {
    pub stdout: String,
    pub stderr: String,
    /// `None` after a signal.
    pub code: Option<i32>,
}

impl Output {
    pub fn succeeded(&self) -> bool {
        self.code == Some(0)
    }
}

/// When to stop a command that does not end by itself.
pub enum Until<'t> {
    /// It ends by itself.
    Ended,
    /// This text is in its output.
    Said(&'t str),
}

/// Runs a command to its end.
///
/// # Panics
/// If it takes too long; it is killed then.
pub fn run(command: &mut Command, input: &str, within: Duration) -> Output {
    run_until(command, input, Until::Ended, within)
}

/// Runs a command until it ends or has said enough.
///
/// # Panics
/// If that takes too long; it is killed then.
pub fn run_until(command: &mut Command, input: &str, until: Until<'_>, within: Duration) -> Output {
    let mut running = Running::start(command, within);
    let (mut stdin, input) = (running.process.0.stdin.take().unwrap(), input.to_owned());
    // A thread, because the command may write before it has read everything.
    let feeding = thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    while running.hear() {
        if let Until::Said(enough) = until
            && text(running.said.clone()).contains(enough)
        {
            break;
        }
    }
    if let Until::Said(_) = until {
        running.process.kill();
    }
    let output = running.end();
    let _ = feeding.join();
    output
}

/// Runs a command to its end, and answers those lines of its output that `answer` knows an answer to.
///
/// # Panics
/// If it takes too long; it is killed then.
pub fn converse(command: &mut Command, within: Duration, mut answer: impl FnMut(&str) -> Option<String>) -> Output {
    let mut running = Running::start(command, within);
    let mut stdin = running.process.0.stdin.take().unwrap();
    let mut heard = 0;
    while running.hear() {
        while let Some(length) = running.said[heard..].iter().position(|byte| *byte == b'\n') {
            let line = text(running.said[heard..heard + length].to_vec());
            heard += length + 1;
            if let Some(answer) = answer(&line) {
                // Fails only if the command has ended, which is seen next.
                let _ = writeln!(stdin, "{answer}");
            }
        }
    }
    running.end()
}

/// A command that is listened to.
struct Running {
    process: Process,
    shown: String,
    stdout: Receiver<Vec<u8>>,
    stderr: Receiver<Vec<u8>>,
    said: Vec<u8>,
    within: Duration,
    deadline: Instant,
}

impl Running {
    fn start(command: &mut Command, within: Duration) -> Running {
        let shown = format!("{command:?}");
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Process::start(pipes);
        let stdout = pieces(process.0.stdout.take().unwrap());
        let stderr = pieces(process.0.stderr.take().unwrap());
        Running { process, shown, stdout, stderr, said: Vec::new(), within, deadline: Instant::now() + within }
    }

    /// Waits for more output; `false` if there will be none.
    fn hear(&mut self) -> bool {
        match self.stdout.recv_timeout(self.deadline.saturating_duration_since(Instant::now())) {
            Ok(piece) => self.said.extend(piece),
            Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) => {
                self.process.kill();
                let (said, errors) = (text(self.said.clone()), text(self.stderr.iter().flatten().collect()));
                panic!("too slow: {}\n{said}\n{errors}", self.shown);
            }
        }
        true
    }

    fn end(mut self) -> Output {
        let status = self.process.wait(self.within).unwrap_or_else(|| panic!("does not end: {}", self.shown));
        Output { stdout: text(self.said), stderr: text(self.stderr.iter().flatten().collect()), code: status.code() }
    }
}

/// Reads a pipe to its end on a thread of its own.
fn pieces(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(read @ 1..) = pipe.read(&mut buffer) {
            if sender.send(buffer[..read].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}
