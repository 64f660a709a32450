//! What is made of files, and made anew when they change.
//!
//! Owns when files are looked at. Must not know what is made of them.

use std::fmt;
use std::fs::Metadata;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use tracing::{info, warn};

use crate::files::{Content, FileError};

/// How long it is believed that no file has changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A file that was changed so short a time before it was read may have changed once more within the same tick of the file
/// system's clock, so that nothing shows it. It is read again.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// What is made of the contents of files, in the order of their names.
pub(crate) trait Made: Sized {
    /// What it is made by.
    type Options: fmt::Debug;

    /// The files that it is made of.
    fn files(options: &Self::Options) -> Result<Vec<PathBuf>, FileError>;

    /// Makes it. `before` is what is in use.
    fn make(options: &Self::Options, contents: &[Content], before: Option<&Self>) -> Result<Self, FileError>;
}

/// Something that is made of files, and follows them.
pub(crate) struct Reloaded<M: Made> {
    options: M::Options,
    current: RwLock<Arc<M>>,
    watch: Mutex<Watch>,
}

struct Watch {
    looked: Instant,
    stamps: Vec<Stamp>,
    contents: Vec<Content>,
    /// What was last said of files that cannot be used, so that it is not said every second.
    complaint: Option<String>,
}

impl<M: Made> Reloaded<M> {
    /// Reads the files for the first time.
    pub(crate) fn load(options: M::Options) -> Result<Reloaded<M>, FileError> {
        let files = M::files(&options)?;
        let stamps = stamps(&files);
        let contents = read(&files)?;
        let made = M::make(&options, &contents, None)?;
        let watch = Watch { looked: Instant::now(), stamps, contents, complaint: None };
        Ok(Reloaded { options, current: RwLock::new(Arc::new(made)), watch: Mutex::new(watch) })
    }

    /// What is in use, without a look at the files.
    pub(crate) fn current(&self) -> Arc<M> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// By what it is made.
    pub(crate) fn options(&self) -> &M::Options {
        &self.options
    }

    /// Whether it is time to look at the files. Who is told so should look: nobody else is told so for a while.
    pub(crate) fn is_due(&self) -> bool {
        let mut watch = match self.watch.try_lock() {
            Ok(watch) => watch,
            Err(std::sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Somebody looks at them.
            Err(std::sync::TryLockError::WouldBlock) => return false,
        };
        let is_due = watch.looked.elapsed() >= LOOK_EVERY;
        if is_due {
            watch.looked = Instant::now();
        }
        is_due
    }

    /// Looks at the files, and takes what is new if it can be used. Reads files, and so may take long.
    pub(crate) fn look(&self) {
        let mut watch = self.watch();
        watch.looked = Instant::now();
        match self.renewed(&mut watch) {
            Ok(None) => {}
            Ok(Some(made)) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(made);
                watch.complaint = None;
                info!(files = %names(&watch.contents), "TLS files have changed and are in use");
            }
            Err(error) => {
                let complaint = error.to_string();
                if watch.complaint.as_ref() != Some(&complaint) {
                    warn!("{complaint}; what was read before stays in use");
                    watch.complaint = Some(complaint);
                }
            }
        }
    }

    fn renewed(&self, watch: &mut Watch) -> Result<Option<M>, FileError> {
        let files = M::files(&self.options)?;
        // Before they are read: a change in between shows at the next look.
        let stamps = stamps(&files);
        if stamps == watch.stamps && stamps.iter().all(|stamp| stamp.settled) {
            return Ok(None);
        }
        let contents = read(&files)?;
        let is_new = contents != watch.contents;
        let made = is_new.then(|| M::make(&self.options, &contents, Some(&self.current()))).transpose()?;
        watch.stamps = stamps;
        watch.contents = contents;
        if !is_new {
            // As they were before somebody broke one.
            watch.complaint = None;
        }
        Ok(made)
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: Made> fmt::Debug for Reloaded<M> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Reloaded").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Looks at the files on a thread that may block, if it is time; then returns what is in use.
pub(crate) async fn fresh<M>(reloaded: &Arc<Reloaded<M>>) -> Arc<M>
where
    M: Made + Send + Sync + 'static,
    M::Options: Send + Sync,
{
    if reloaded.is_due() {
        let looking = reloaded.clone();
        // An error means that the runtime ends.
        let _ = tokio::task::spawn_blocking(move || looking.look()).await;
    }
    reloaded.current()
}

fn read(files: &[PathBuf]) -> Result<Vec<Content>, FileError> {
    files.iter().map(|file| Content::read(file)).collect()
}

fn names(contents: &[Content]) -> String {
    contents.iter().map(|content| content.path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// What tells that a file is another one, or was written to.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Stamp {
    file: Option<(u64, Option<SystemTime>, [i64; 4])>,
    /// Whether it was last changed so long ago that a further change would show.
    settled: bool,
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    files
        .iter()
        .map(|file| std::fs::metadata(file).map_or(Stamp { file: None, settled: true }, |file| Stamp::of(&file)))
        .collect()
}

impl Stamp {
    fn of(file: &Metadata) -> Stamp {
        let modified = file.modified().ok();
        let age = modified.and_then(|modified| modified.elapsed().ok());
        Stamp {
            file: Some((file.len(), modified, system_stamp(file))),
            settled: age.is_some_and(|age| age >= SETTLED_AFTER),
        }
    }
}

#[cfg(unix)]
fn system_stamp(file: &Metadata) -> [i64; 4] {
    use std::os::unix::fs::MetadataExt;
    [file.dev().cast_signed(), file.ino().cast_signed(), file.ctime(), file.ctime_nsec()]
}

#[cfg(not(unix))]
fn system_stamp(_: &Metadata) -> [i64; 4] {
    [0; 4]
}
