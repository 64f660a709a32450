//! A data directory of a new cluster's first member, made from a backup.
//!
//! Owns what of the old cluster goes along: all keys with their history and leases, at their revisions; and what does not:
//! its members, their alarms, and its tokens. The directory gets its name last, so that one that is half made is never started from.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ring::hmac;
use vlot::{BeginLogError, LogId, LogOwner, NodeId, begin_log};
use vlot_store::auth::{Asker, AuthCommand, TokenKey};
use vlot_store::command::Command;
use vlot_store::engine::EngineError;
use vlot_store::revision::Position;
use vlot_store::snapshot::RestoreError as BadSnapshot;
use vlot_store::store::{OpenError, Options, Store};

use crate::config::Config;
use crate::files::backup::{Backup, BackupError};
use crate::files::data_dir::{DataDir, DataDirError};
use crate::members::member::{Membership, is_of_a_cluster};
use crate::serve::STORE;

/// How a backup is restored.
#[derive(Clone, Copy, Debug, Default)]
pub struct RestoreOptions {
    /// The hash at its end is not looked at.
    pub skip_hash_check: bool,
    /// The revision is raised by so much, and everything before is compacted: clients that knew a later state begin anew.
    pub bump_revision: Option<u64>,
}

/// What was restored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Restored {
    /// Where.
    pub data_dir: PathBuf,
    /// This member's id.
    pub member: u64,
    /// The new cluster's.
    pub cluster: u64,
    /// The newest revision.
    pub revision: i64,
}

/// Why nothing was restored.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are what the variants name")]
pub enum RestoreError {
    /// The file cannot be used.
    Backup(BackupError),
    /// The file is not as it was written.
    Damaged {
        path: PathBuf,
        error: BadSnapshot,
    },
    /// The data directory holds something.
    NotEmpty {
        path: PathBuf,
    },
    /// Users count in the file, and none of them is root.
    NoRoot {
        path: PathBuf,
    },
    /// A directory cannot be written.
    Io {
        path: PathBuf,
        error: io::Error,
    },
    DataDir(DataDirError),
    /// The store cannot be made.
    Store(OpenError),
    /// The store cannot be written.
    Engine(EngineError),
    /// The log cannot be begun.
    Log(BeginLogError),
}

/// Makes the data directory that `config` names, as that of the first member of a new cluster which the configuration
/// describes: with the state in the backup. Every member of the cluster is to be made of the same file.
///
/// # Errors
/// See [`RestoreError`]: there is no data directory then, if there was none before.
pub fn restore(config: &Config, backup: &Path, options: RestoreOptions) -> Result<Restored, RestoreError> {
    let path = &config.data_dir;
    let io = |error| RestoreError::Io { path: path.clone(), error };
    if fs::read_dir(path).is_ok_and(|mut found| found.next().is_some()) {
        return Err(RestoreError::NotEmpty { path: path.clone() });
    }
    let mut file = Backup::open(backup).map_err(RestoreError::Backup)?;
    if !options.skip_hash_check {
        file.check_hash().map_err(RestoreError::Backup)?;
    }
    let mut unfinished = path.clone().into_os_string();
    unfinished.push(".restoring");
    let unfinished = PathBuf::from(unfinished);
    let restored = remove(&unfinished).map_err(io).and_then(|()| make(config, &mut file, backup, options, &unfinished));
    let named = restored.and_then(|restored| take_name(&unfinished, path).map_err(io).map(|()| restored));
    if named.is_err() {
        // What cannot be removed is said by the first error well enough.
        let _ = remove(&unfinished);
    }
    named
}

fn make(
    config: &Config,
    file: &mut Backup,
    path: &Path,
    options: RestoreOptions,
    dir: &Path,
) -> Result<Restored, RestoreError> {
    let mut data_dir = DataDir::take(dir).map_err(RestoreError::DataDir)?;
    let membership = Membership::first(config);
    let identity = membership.identity();
    let (position, revision) = make_store(&dir.join("store"), file, path, options, identity.cluster)?;
    let voters = membership.first_members().iter();
    let voters = voters.filter_map(|member| Some((NodeId(member.id), member.peer_urls.first()?.peer_address())));
    let owner = LogOwner { cluster: identity.cluster, node: NodeId(identity.member) };
    begin_log(dir.join("log"), owner, STORE, LogId::new(position.term, position.index), voters)
        .map_err(RestoreError::Log)?;
    data_dir.bind(config, identity, false).map_err(RestoreError::DataDir)?;
    let data_dir = config.data_dir.clone();
    Ok(Restored { data_dir, member: identity.member, cluster: identity.cluster, revision })
}

fn make_store(
    dir: &Path,
    file: &mut Backup,
    path: &Path,
    options: RestoreOptions,
    cluster: u64,
) -> Result<(Position, i64), RestoreError> {
    let mut store = Store::open(dir, Options::default()).map_err(RestoreError::Store)?;
    let mut snapshot = file.snapshot().map_err(RestoreError::Backup)?;
    store.restore(&mut snapshot).map_err(|error| RestoreError::Damaged { path: path.to_owned(), error })?;
    let at = store.applied();
    let names: Vec<Bytes> = store.attributes().map(|(name, _)| name.clone()).collect();
    for name in names.into_iter().filter(|name| is_of_a_cluster(name)) {
        // To forget a fact is never refused.
        let _ = store.apply(at, Command::SetAttribute { name, value: Bytes::new() });
    }
    if !replace_token_key(&mut store, at, cluster) {
        return Err(RestoreError::NoRoot { path: path.to_owned() });
    }
    if let Some(by) = options.bump_revision {
        store.bump_revision(by);
    }
    let revision = store.revision();
    store.close().map_err(RestoreError::Engine)?;
    Ok((at, revision))
}

/// Tokens of the old cluster are none of the new one's. Some that have ended would be good again, and for long: cluster time
/// begins where it was when the backup was made. All members must come to the same key, and so it follows from the old one. Returns
/// whether authentication is as it was: it cannot be enabled again without root, and a file may come from anywhere.
fn replace_token_key(store: &mut Store, at: Position, cluster: u64) -> bool {
    if !store.auth().is_enabled() {
        return true;
    }
    let old = hmac::Key::new(hmac::HMAC_SHA256, &store.auth().token_key().0);
    let new = hmac::sign(&old, &cluster.to_be_bytes());
    // The length of a digest of SHA-256 depends on nothing that is in the file.
    let token_key = TokenKey(new.as_ref().try_into().expect("SHA-256 has 32 bytes"));
    for change in [AuthCommand::Disable, AuthCommand::Enable { token_key }] {
        let _ = store.apply(at, Command::By { asker: Asker::Server, command: Box::new(Command::Auth(change)) });
    }
    store.auth().is_enabled()
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn take_name(unfinished: &Path, dir: &Path) -> io::Result<()> {
    // An empty directory gives way.
    fs::rename(unfinished, dir)?;
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(parent)?.sync_all()
}

impl fmt::Display for RestoreError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backup(error) => error.fmt(out),
            Self::Damaged { path, error } => write!(out, "{}: {error}", path.display()),
            Self::NotEmpty { path } => {
                write!(out, "the data directory {} is not empty; choose another, or remove it", path.display())
            }
            Self::NoRoot { path } => write!(
                out,
                "{}: authentication is enabled in it and no user is root; the file is damaged, use another backup",
                path.display()
            ),
            Self::Io { path, error } => write!(out, "cannot make the data directory {}: {error}", path.display()),
            Self::DataDir(error) => error.fmt(out),
            Self::Store(error) => write!(out, "the restored store cannot be opened: {error}"),
            Self::Engine(error) => write!(out, "the restored store cannot be written: {error}"),
            Self::Log(error) => write!(out, "the log cannot be begun: {error}"),
        }
    }
}

impl std::error::Error for RestoreError {}
