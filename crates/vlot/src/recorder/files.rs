//! Dumps on disk: a folder of a few files, each written whole or not at all.
//!
//! Owns their names and how many there are. What cannot be written is lost: a record of trouble must not make more of it.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::text::Dump;
use super::utc::Utc;

/// The folder for dumps, in the directory of the node.
pub const FOLDER: &str = "flight";
/// How the names of dumps end.
pub const EXTENSION: &str = "flight";

/// Why no dump was written.
#[derive(Debug)]
pub enum DumpError {
    /// This node keeps no flight record.
    Off,
    /// The file cannot be written.
    Io {
        /// The file, or its folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The node has stopped.
    Stopped,
}

/// Writes a dump into a folder and removes the oldest ones there, so that at most `dumps_max` are left, and this one. Gives
/// back the path of the file.
pub(crate) fn write(folder: &Path, dumps_max: usize, dump: &Dump) -> Result<PathBuf, DumpError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error| DumpError::Io { path, error }
    };
    fs::create_dir_all(folder).map_err(at(folder))?;
    // Names in the order of time, whatever the calendar's punctuation, of which not every file system takes all.
    let time: String = Utc(dump.wall).to_string().chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let path = folder.join(format!("{time}-{}.{EXTENSION}", dump.why.word()));
    let unfinished = path.with_extension("new");
    fs::write(&unfinished, dump.encode()).map_err(at(&unfinished))?;
    fs::rename(&unfinished, &path).map_err(at(&path))?;
    let mut all = find(folder).map_err(at(folder))?;
    all.retain(|other| *other != path);
    for old in all.iter().rev().skip(dumps_max.saturating_sub(1)) {
        // Another process that looks at them may have removed it.
        drop(fs::remove_file(old));
    }
    Ok(path)
}

/// The dumps in a folder, the oldest first.
///
/// # Errors
/// If the folder cannot be read.
pub fn find(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut dumps = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) && path.is_file() {
            dumps.push(path);
        }
    }
    dumps.sort();
    Ok(dumps)
}

impl fmt::Display for DumpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("this node keeps no flight record: Options::recorder is none"),
            Self::Io { path, error } => write!(f, "cannot write the flight record {}: {error}", path.display()),
            Self::Stopped => f.write_str("the node has stopped"),
        }
    }
}

impl std::error::Error for DumpError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::{Origin, Why};
    use std::time::Duration;
    use vlot_raft::id::NodeId;

    #[test]
    fn only_the_newest_dumps_are_kept() {
        let folder = std::env::temp_dir().join(format!("vlot-flight-{}", std::process::id()));
        for second in 0..5 {
            let origin = Origin { node: NodeId(1), cluster: 1, boot: 1, label: String::new() };
            let wall = Duration::from_secs(1_796_033_533 + second);
            let dump = Dump { origin, why: Why::Asked, at: wall, wall, dropped: 0, events: Vec::new() };
            let path = write(&folder, 3, &dump).expect("it is written");
            assert_eq!(Dump::decode(&fs::read_to_string(path).unwrap()), Ok(dump));
        }
        fs::write(folder.join("notes.txt"), "not ours").unwrap();
        let names: Vec<String> =
            find(&folder).unwrap().iter().map(|path| path.file_name().unwrap().display().to_string()).collect();
        let expected = [15, 16, 17].map(|second| format!("20261130T1012{second}.000000Z-asked.flight"));
        assert_eq!(names, expected);
        fs::remove_dir_all(&folder).unwrap();
    }
}
