//! Where audit lines go: a bounded queue, a thread that writes, a file that may be moved away or cut.
//!
//! Owns the bound, and that losses are told in the file itself. Must not know what a line says.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;
use tracing::warn;

use super::timestamp;

/// Lines that wait to be written, and their bytes.
const LINES_MAX: usize = 16_384;
const BYTES_MAX: usize = 32 << 20;
/// How often it is looked whether the file was moved away, and tried again to write after a failure.
const LOOK: Duration = Duration::from_millis(500);
/// How often a failure is logged that goes on.
const COMPLAIN: Duration = Duration::from_secs(60);
/// How long the end of the process waits for the last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// The way to the thread that writes.
pub(super) struct Lines {
    queue: SyncSender<Item>,
    waiting: Arc<Waiting>,
}

#[derive(Default)]
struct Waiting {
    bytes: AtomicUsize,
    lost: AtomicU64,
    /// Whether the file is to be opened anew before anything more is written. What waits already goes to the new one too: the
    /// old one may be compressed and gone.
    reopen: AtomicBool,
}

enum Item {
    Line(String),
    Flush(SyncSender<()>),
    /// Nothing: it is looked what else there is to do.
    Wake,
}

impl Lines {
    /// Begins to write to this file; to standard error without one.
    pub(super) fn start(path: Option<PathBuf>) -> io::Result<Lines> {
        let output = match path {
            None => Output::StandardError,
            Some(path) => Output::File { file: Some(open(&path)?), path },
        };
        let (queue, lines) = sync_channel(LINES_MAX);
        let waiting = Arc::new(Waiting::default());
        let writer = Writer {
            output,
            waiting: waiting.clone(),
            batch: Vec::new(),
            lines_in_batch: 0,
            looked: Instant::now(),
            complained: None,
        };
        std::thread::Builder::new().name("vlot-audit".into()).spawn(move || writer.run(&lines))?;
        Ok(Lines { queue, waiting })
    }

    /// Adds a line, or counts it as lost if too many wait. Never waits.
    pub(super) fn push(&self, line: String) {
        let Waiting { bytes, lost, .. } = &*self.waiting;
        let length = line.len();
        if bytes.fetch_add(length, Relaxed) + length <= BYTES_MAX && self.queue.try_send(Item::Line(line)).is_ok() {
            return;
        }
        bytes.fetch_sub(length, Relaxed);
        lost.fetch_add(1, Relaxed);
    }

    /// Has the file opened anew where it is to be, before anything more is written. Never waits.
    pub(super) fn reopen(&self) {
        self.waiting.reopen.store(true, Relaxed);
        // A queue that is full keeps its thread awake.
        let _ = self.queue.try_send(Item::Wake);
    }

    /// Waits until what was added is written, but not for ever.
    pub(super) fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.queue.try_send(Item::Flush(done)).is_ok() {
            let _ = written.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

/// Where the lines are written to.
enum Output {
    StandardError,
    File {
        path: PathBuf,
        /// `None` after a failure.
        file: Option<File>,
    },
}

struct Writer {
    output: Output,
    waiting: Arc<Waiting>,
    /// Lines that are written together.
    batch: Vec<u8>,
    lines_in_batch: u64,
    looked: Instant,
    complained: Option<Instant>,
}

impl Writer {
    fn run(mut self, lines: &Receiver<Item>) {
        loop {
            let mut flushed = None;
            match lines.recv_timeout(LOOK) {
                Ok(item) => flushed = self.take(item),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.write(),
            }
            while flushed.is_none()
                && self.batch.len() < BYTES_MAX / 32
                && let Ok(item) = lines.try_recv()
            {
                flushed = self.take(item);
            }
            self.write();
            if let Some(done) = flushed {
                let _ = done.send(());
            }
        }
    }

    /// Takes a line into the batch; or returns whom to tell once all before is written.
    fn take(&mut self, item: Item) -> Option<SyncSender<()>> {
        match item {
            Item::Line(line) => {
                self.waiting.bytes.fetch_sub(line.len(), Relaxed);
                self.batch.extend_from_slice(line.as_bytes());
                self.batch.push(b'\n');
                self.lines_in_batch += 1;
                None
            }
            Item::Flush(done) => Some(done),
            Item::Wake => None,
        }
    }

    /// Writes the batch, and how many lines were lost before it.
    fn write(&mut self) {
        self.reopen_if_due();
        let lost = self.waiting.lost.swap(0, Relaxed);
        if lost > 0 {
            let line = json!({"time": timestamp(SystemTime::now()), "event": "lost", "lines": lost});
            self.batch.extend_from_slice(format!("{line}\n").as_bytes());
        }
        if self.batch.is_empty() {
            return;
        }
        let written = match &mut self.output {
            Output::StandardError => io::stderr().lock().write_all(&self.batch),
            Output::File { file: Some(file), .. } => file.write_all(&self.batch),
            Output::File { file: None, path } => Err(io::Error::other(format!("{} is not open", path.display()))),
        };
        if let Err(error) = written {
            // How much of it is there is not known; what comes next must begin a line.
            self.waiting.lost.fetch_add(lost + self.lines_in_batch, Relaxed);
            self.complain(&error);
            if let Output::File { file, .. } = &mut self.output {
                *file = None;
            }
        }
        self.batch.clear();
        self.lines_in_batch = 0;
    }

    /// Opens the file anew where it is to be if that was asked for, or if it is there no longer, as after a rotation, or could
    /// not be written.
    fn reopen_if_due(&mut self) {
        let Output::File { path, file } = &mut self.output else { return };
        let is_asked = self.waiting.reopen.swap(false, Relaxed);
        if !is_asked && self.looked.elapsed() < LOOK {
            return;
        }
        self.looked = Instant::now();
        if !is_asked && file.as_ref().is_some_and(|file| is_at(file, path)) {
            return;
        }
        match open(path) {
            Ok(opened) => *file = Some(opened),
            // The old one is still better than none.
            Err(error) => self.complain(&error),
        }
    }

    fn complain(&mut self, error: &io::Error) {
        if self.complained.is_none_or(|complained| complained.elapsed() >= COMPLAIN) {
            self.complained = Some(Instant::now());
            warn!(%error, "the audit log cannot be written: lines are lost");
        }
    }
}

/// Whether a file is the one at this place.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.metadata()) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// Opens a file to add to it. Nobody but its owner may read it: it names keys and users.
fn open(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    // A line that an earlier process could not finish must not swallow the next one.
    if file.metadata()?.len() > 0 && !ends_with_newline(path)? {
        file.write_all(b"\n")?;
    }
    Ok(file)
}

fn ends_with_newline(path: &Path) -> io::Result<bool> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = File::open(path)?;
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("vlot-audit-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn lines_follow_each_other_and_a_file_that_was_moved_is_begun_anew() {
        let dir = dir("moved");
        let (path, moved) = (dir.join("audit"), dir.join("moved"));
        std::fs::write(&path, "half a li").unwrap();
        let lines = Lines::start(Some(path.clone())).unwrap();
        lines.push("one".into());
        lines.flush();
        std::fs::rename(&path, &moved).unwrap();
        std::thread::sleep(2 * LOOK);
        lines.push("two".into());
        lines.flush();
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "half a li\none\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_file_that_is_to_be_opened_anew_gets_not_one_line_more() {
        let dir = dir("asked");
        let (path, moved) = (dir.join("audit"), dir.join("moved"));
        let lines = Lines::start(Some(path.clone())).unwrap();
        for round in 0..20 {
            lines.push(format!("old {round}"));
            lines.flush();
            std::fs::rename(&path, &moved).unwrap();
            lines.reopen();
            lines.push(format!("new {round}"));
            lines.flush();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("new {round}\n"));
            assert!(std::fs::read_to_string(&moved).unwrap().ends_with(&format!("old {round}\n")));
        }
        // Where no file can be opened, the old one goes on.
        std::fs::rename(&path, &moved).unwrap();
        std::fs::create_dir(&path).unwrap();
        lines.reopen();
        lines.push("kept".into());
        lines.flush();
        assert!(std::fs::read_to_string(&moved).unwrap().ends_with("kept\n"));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_file_that_is_cut_is_written_from_its_beginning() {
        let dir = dir("cut");
        let path = dir.join("audit");
        let lines = Lines::start(Some(path.clone())).unwrap();
        lines.push("copied".into());
        lines.flush();
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        lines.push("new".into());
        lines.flush();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new\n");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn what_there_is_no_room_for_is_lost_and_told() {
        let dir = dir("lost");
        let path = dir.join("audit");
        let lines = Lines::start(Some(path.clone())).unwrap();
        lines.waiting.bytes.store(BYTES_MAX, Relaxed);
        lines.push("lost".into());
        lines.push("lost too".into());
        lines.waiting.bytes.store(0, Relaxed);
        lines.push("kept".into());
        lines.flush();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("kept\n") && text.contains("\"event\":\"lost\",\"lines\":2"), "{text}");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_disk_that_is_full_loses_lines_and_holds_up_nobody() {
        // It takes nothing, and says so.
        let Ok(lines) = Lines::start(Some("/dev/full".into())) else { return };
        for _ in 0..10 {
            lines.push("line".into());
            lines.flush();
        }
        assert!(lines.waiting.lost.load(Relaxed) >= 9);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_an_error_at_once() {
        assert!(Lines::start(Some("/proc/no/audit".into())).is_err());
    }
}
