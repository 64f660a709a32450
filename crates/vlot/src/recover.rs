//! A node that is left over goes on alone, as the first of a new cluster, after the quorum of its groups is lost for good.
//!
//! Offline: on the directory of a node that does not run. Owns how one log takes another's place in one step. What is
//! appended to a group's log, and for which groups that can be, is the node's: `vlot_node::members_recover`.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use vlot_log::damage::Damage;
use vlot_log::disk::Disk;
use vlot_log::disk::real::{DirError, RealDisk, exchange};
use vlot_log::error::{OpenError, ReadError, WriteError};
use vlot_log::index::GroupState;
use vlot_log::log::{self, Log};
use vlot_log::record::Write;
use vlot_node::members_recover::{CannotRecover, GroupFound};
use vlot_node::payload;
use vlot_raft::id::{GroupId, LogIndex};

use crate::begin_log::LogOwner;
use crate::recorder;

/// How many bytes of entries are copied at once.
const COPY_BYTES: usize = 1 << 20;

/// A node is to go on alone.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// Whose directory it is.
    pub owner: LogOwner,
    /// The number of the new cluster. Another than any that nodes of the old one know: it is what keeps them out.
    pub new_cluster: u64,
    /// Where this node listens for peers.
    pub address: String,
    /// What the state machines are given with their new members.
    pub context: Bytes,
    /// Without it nothing is done, and what was found is said: see [`RecoverError::NotConfirmed`]. Writes that others have
    /// acknowledged and this node does not have are lost. Use the node whose logs end last, and no other beside it.
    pub i_know_that_acknowledged_writes_may_be_lost: bool,
}

/// A node that can go on alone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Recovered {
    /// What it had, and goes on with.
    pub found: Vec<GroupFound>,
    /// Where the directory of before is. It is of no more use once the new cluster works; the node must never be started
    /// with it again.
    pub replaced: PathBuf,
}

/// Why a node does not go on alone. Its directory is as it was.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecoverError {
    /// It was not confirmed that writes may be lost.
    NotConfirmed {
        /// What the log holds.
        found: Vec<GroupFound>,
    },
    /// The new cluster must have another number.
    SameCluster,
    /// There is no directory.
    NoSuchDir(PathBuf),
    /// The directory cannot be used, or the node runs.
    Dir(DirError),
    /// The log is another node's or another cluster's, is damaged, or cannot be read.
    Open(OpenError),
    /// Entries of the log cannot be read, and no member is left that has them.
    Damaged(Damage),
    /// There is no group.
    NoGroups,
    /// A group's state is not here.
    Group(CannotRecover),
    /// Something else lies in the directory, which would be left behind.
    NotOurs(PathBuf),
    /// An entry cannot be read.
    Read(ReadError),
    /// The new log cannot be written.
    Write(WriteError),
    /// A file cannot be copied, or the directories cannot change places.
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// Makes the node whose log is in `dir` ([`Options::storage`](crate::Options::storage)) the only member of all its groups, in a new
/// cluster. For when a majority of their members is lost for good, **and for nothing else**: what a majority has acknowledged
/// and this node does not have is lost, and if any of the other nodes is started with its old directory and the new
/// cluster's number, there are two truths.
///
/// Look first, on each node that is left, without
/// [the confirmation](Recovery::i_know_that_acknowledged_writes_may_be_lost), and take the one whose logs end last. Then open
/// it with the new cluster's number, and add others as learners: with empty directories and *new numbers*, for those of
/// before are refused ([`ChangeRefused::Barred`](crate::ChangeRefused::Barred)). Nodes of the old cluster that come back are
/// refused by the new one's handshake.
///
/// The new directory is made beside the old one and takes its place in one step. Killed at any moment, `dir` is the old one
/// or the new one; and a second call does the whole again, or says that the directory is of another cluster already.
///
/// # Errors
/// See [`RecoverError`]. Nothing has changed then.
pub fn recover_from_lost_quorum(dir: &Path, recovery: &Recovery) -> Result<Recovered, RecoverError> {
    let LogOwner { cluster, node } = recovery.owner;
    if recovery.new_cluster == cluster {
        return Err(RecoverError::SameCluster);
    }
    if !dir.is_dir() {
        return Err(RecoverError::NoSuchDir(dir.to_owned()));
    }
    let disk = RealDisk::open(dir).map_err(RecoverError::Dir)?;
    let options = log::Options { keep: payload::sets_configuration, ..log::Options::default() };
    let (old, recovered) = Log::open(disk, log::Identity { cluster, node }, options).map_err(RecoverError::Open)?;
    if let Some(damage) = recovered.damaged.into_iter().next() {
        return Err(RecoverError::Damaged(damage));
    }
    let groups: Vec<(GroupId, GroupState)> = recovered.groups.into_iter().collect();
    let found = groups.iter().map(|(group, state)| GroupFound::new(*group, state)).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(RecoverError::Group)?;
    if !recovery.i_know_that_acknowledged_writes_may_be_lost {
        return Err(RecoverError::NotConfirmed { found });
    }
    if found.is_empty() {
        return Err(RecoverError::NoGroups);
    }
    found.iter().try_for_each(|group| group.check(node)).map_err(RecoverError::Group)?;
    let is_ours = |name: &str| name.ends_with(".log") || name.ends_with(".new") || OURS.contains(&name);
    for name in names(dir)? {
        if !is_ours(&name.to_string_lossy()) {
            return Err(RecoverError::NotOurs(dir.join(name)));
        }
    }
    let replaced = beside(dir, recovery.new_cluster);
    // The directory is the old cluster's still: this is what an earlier call has not finished.
    remove(&replaced)?;
    let disk = RealDisk::open(&replaced).map_err(RecoverError::Dir)?;
    copy(&old, &groups, &found, disk, recovery)?;
    link_snapshots(&dir.join(SNAPSHOTS), &replaced.join(SNAPSHOTS))?;
    sync_dir(&replaced)?;
    exchange(dir, &replaced).map_err(|error| RecoverError::Io { path: dir.to_owned(), error })?;
    sync_dir(parent(dir))?;
    Ok(Recovered { found, replaced })
}

/// Where the directory of a node that has recovered is kept; there the new one is made.
#[must_use]
pub fn beside(dir: &Path, new_cluster: u64) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(format!(".before-recovery-{new_cluster:016x}"));
    name.into()
}

const SNAPSHOTS: &str = "snapshots";
/// What a node keeps in its directory beside segments.
const OURS: [&str; 4] = ["LOCK", "disk", SNAPSHOTS, recorder::FOLDER];

/// Writes the log of the new cluster: all of the old one's, and behind it what makes this node the only member.
fn copy<D: Disk, E: Disk>(
    old: &Log<D>,
    groups: &[(GroupId, GroupState)],
    found: &[GroupFound],
    disk: E,
    recovery: &Recovery,
) -> Result<(), RecoverError> {
    let identity = log::Identity { cluster: recovery.new_cluster, node: recovery.owner.node };
    let (mut new, _) = Log::open(disk, identity, log::Options::default()).map_err(RecoverError::Open)?;
    for ((group, state), found) in groups.iter().zip(found) {
        let (group, last) = (*group, state.runs.last());
        let start = Write::LogStart { group, after: state.runs.after(), note: state.note.clone() };
        new.write(&[start]).map_err(RecoverError::Write)?;
        let mut after: LogIndex = state.runs.after().index;
        while after < last {
            let entries = old.read(group, after, last, COPY_BYTES).map_err(RecoverError::Read)?;
            let upto = entries.last().map_or(last, |entry| entry.id.index);
            new.write(&[Write::Append { group, after, entries }]).map_err(RecoverError::Write)?;
            after = upto;
        }
        let alone = found.writes(recovery.owner.node, &recovery.address, recovery.context.clone());
        new.write(&alone).map_err(RecoverError::Write)?;
    }
    new.sync().map_err(RecoverError::Write)
}

/// The files of snapshots never change: both directories have them.
fn link_snapshots(from: &Path, to: &Path) -> Result<(), RecoverError> {
    let io = |path: &Path, error| RecoverError::Io { path: path.to_owned(), error };
    fs::create_dir(to).map_err(|error| io(to, error))?;
    if from.is_dir() {
        for name in names(from)?.into_iter().filter(|name| name != "LOCK") {
            fs::hard_link(from.join(&name), to.join(&name)).map_err(|error| io(&from.join(&name), error))?;
        }
    }
    sync_dir(to)
}

fn names(dir: &Path) -> Result<Vec<std::ffi::OsString>, RecoverError> {
    let io = |error| RecoverError::Io { path: dir.to_owned(), error };
    let entries = fs::read_dir(dir).map_err(io)?;
    entries.map(|entry| entry.map(|entry| entry.file_name()).map_err(io)).collect()
}

fn remove(dir: &Path) -> Result<(), RecoverError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(RecoverError::Io { path: dir.to_owned(), error }),
        _ => Ok(()),
    }
}

fn parent(dir: &Path) -> &Path {
    dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync_dir(dir: &Path) -> Result<(), RecoverError> {
    let done = File::open(dir).and_then(|dir| dir.sync_all());
    done.map_err(|error| RecoverError::Io { path: dir.to_owned(), error })
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConfirmed { found } => {
                f.write_str(
                    "it was not confirmed that acknowledged writes may be lost; nothing was done. Use the node whose logs \
                     end last. Found here:",
                )?;
                found.iter().try_for_each(|group| write!(f, "\n{group}"))
            }
            Self::SameCluster => f.write_str("the new cluster must have another number than the old one"),
            Self::NoSuchDir(dir) => write!(f, "there is no directory {}", dir.display()),
            Self::Dir(error) => error.fmt(f),
            Self::Open(error) => error.fmt(f),
            Self::Damaged(damage) => {
                write!(f, "entries of the log are damaged ({damage:?}); use another node that is left, or a backup")
            }
            Self::NoGroups => f.write_str("the log holds no group; use another node that is left, or a backup"),
            Self::Group(error) => error.fmt(f),
            Self::NotOurs(path) => {
                write!(f, "{} is not the node's, and would be left behind; move it elsewhere first", path.display())
            }
            Self::Read(error) => error.fmt(f),
            Self::Write(error) => error.fmt(f),
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for RecoverError {}

#[cfg(test)]
mod tests;
