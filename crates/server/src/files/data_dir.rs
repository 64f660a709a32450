//! The data directory: which member it belongs to, and that no two processes use it at once.
//!
//! Owns the mark that binds a directory to one member of one cluster, for ever: a node's identity does not follow from
//! its flags once it has data.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::config::{Config, Url};
use crate::members::identity::Identity;

/// A data directory that belongs to this process for as long as this value lives.
#[derive(Debug)]
pub(crate) struct DataDir {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// The member that it is bound to; `None` if it has not been used.
    pub(crate) mark: Option<Mark>,
    _lock: File,
}

/// The member that a data directory belongs to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mark {
    pub(crate) identity: Identity,
    /// Whether the member joined a cluster that ran already.
    pub(crate) joined: bool,
    /// As the flags had them when the node was last started. Either may change, but not both at once.
    name: String,
    peer_urls: String,
    token: String,
}

/// Why a data directory is not used.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are what the variants name")]
pub enum DataDirError {
    /// Another process has locked it.
    InUse { path: PathBuf },
    /// It cannot be made, locked or written.
    Unusable { path: PathBuf, error: io::Error },
    /// Its mark cannot be read.
    Unreadable { path: PathBuf, error: io::Error },
    /// Its mark has a format that this version does not know.
    UnknownVersion { path: PathBuf },
    /// It is bound to another member than these flags are of.
    OtherMember { path: PathBuf, found: Box<Mark>, own: Box<Mark> },
}

impl DataDirError {
    fn other_member(path: &Path, found: &Mark, own: Mark) -> DataDirError {
        Self::OtherMember { path: path.to_owned(), found: Box::new(found.clone()), own: Box::new(own) }
    }

    fn unusable(path: &Path, error: io::Error) -> DataDirError {
        Self::Unusable { path: path.to_owned(), error }
    }
}

impl fmt::Display for DataDirError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse { path } => {
                let path = path.display();
                write!(out, "the data directory {path} is in use by another process; stop that one first")
            }
            Self::Unusable { path, error } => {
                let path = path.display();
                write!(out, "cannot use the data directory {path}: {error}; make it writable or choose another")
            }
            Self::Unreadable { path, error } => {
                write!(out, "cannot read the data directory {}: {error}", path.display())
            }
            Self::UnknownVersion { path } => {
                write!(out, "the data directory {} belongs to a version that is not known here", path.display())
            }
            Self::OtherMember { path, found, own } => write!(
                out,
                "the data directory {} belongs to {}, this is {} at {}; use its own flags, choose another directory, or \
                 remove it if its data is not needed",
                path.display(),
                found.seen_by(own.identity),
                own.name,
                own.peer_urls
            ),
        }
    }
}

impl std::error::Error for DataDirError {}

impl DataDir {
    /// Takes the directory, makes it if need be, and reads its mark.
    ///
    /// # Errors
    /// The directory cannot be used, or another process uses it.
    pub(crate) fn take(path: &Path) -> Result<DataDir, DataDirError> {
        let unusable = |error| DataDirError::unusable(path, error);
        create_private(path).map_err(unusable)?;
        let lock = File::create(path.join("lock")).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DataDirError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        // A process before this one may have failed to make durable what is read here.
        File::open(path).and_then(|dir| dir.sync_all()).map_err(unusable)?;
        Ok(DataDir { path: path.to_owned(), mark: read_mark(path)?, _lock: lock })
    }

    /// Whether this directory's member was told that it was removed.
    pub(crate) fn was_removed(&self) -> bool {
        self.path.join(REMOVED).exists()
    }

    /// Writes down that its member was removed, so that it is not started again.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn mark_removed(&self) -> Result<(), DataDirError> {
        replace(&self.path, REMOVED, "").map_err(|error| DataDirError::unusable(&self.path, error))
    }

    /// Binds the directory to a member, or holds the one it is bound to against the flags.
    ///
    /// # Errors
    /// The flags are another member's, or the mark cannot be written.
    pub(crate) fn bind(&mut self, config: &Config, identity: Identity, joined: bool) -> Result<(), DataDirError> {
        let mark = Mark::new(config, identity, joined);
        if let Some(found) = &self.mark {
            let may_be_the_same = mark.token == found.token
                && (mark.name == found.name || mark.peer_urls == found.peer_urls)
                || computed(config) == found.identity;
            if found.identity != identity || !may_be_the_same {
                return Err(DataDirError::other_member(&self.path, found, mark));
            }
        }
        if self.mark.as_ref() != Some(&mark) {
            replace(&self.path, MARK, &mark.text()).map_err(|error| DataDirError::unusable(&self.path, error))?;
            self.mark = Some(mark);
        }
        Ok(())
    }
}

impl DataDir {
    /// The member goes on in another cluster.
    ///
    /// # Errors
    /// If that cannot be written.
    pub(crate) fn rebind(&mut self, cluster: u64) -> Result<(), DataDirError> {
        let Some(mark) = &mut self.mark else { return Ok(()) };
        mark.identity.cluster = cluster;
        replace(&self.path, MARK, &mark.text()).map_err(|error| DataDirError::unusable(&self.path, error))
    }
}

/// Refuses a directory whose mark is not that of a first member with these flags.
///
/// # Errors
/// The directory is another member's, or cannot be read.
pub fn check_mark(path: &Path, config: &Config) -> Result<(), DataDirError> {
    let identity = computed(config);
    match read_mark(path)? {
        Some(found) if found.identity != identity => {
            Err(DataDirError::other_member(path, &found, Mark::new(config, identity, false)))
        }
        _ => Ok(()),
    }
}

fn computed(config: &Config) -> Identity {
    crate::members::member::Membership::first(config).identity()
}

/// The file that says which member a data directory belongs to.
const MARK: &str = "member";
/// The file that says that its member was removed from the cluster.
const REMOVED: &str = "removed";

impl Mark {
    fn new(config: &Config, identity: Identity, joined: bool) -> Mark {
        let own = config.cluster.members.iter().find(|(name, _)| *name == config.name);
        // A name may hold anything; a line of the file may not.
        let line = |text: &str| text.escape_debug().to_string();
        Mark {
            identity,
            joined,
            name: line(&config.name),
            peer_urls: own.map_or_else(String::new, |(_, urls)| Url::texts(urls).join(",")),
            token: line(&config.cluster.token),
        }
    }

    /// Where the member listens for peers, as the flags had it when the node was last started.
    pub(crate) fn peer_urls(&self) -> Vec<String> {
        self.peer_urls.split(',').filter(|url| !url.is_empty()).map(str::to_owned).collect()
    }

    /// The directory's member, as told to a member that is not it.
    fn seen_by(&self, own: Identity) -> String {
        let Identity { cluster, member } = self.identity;
        if self.identity == own {
            format!("member {member:x}, {} at {}", self.name, self.peer_urls)
        } else if cluster == own.cluster {
            format!("member {member:x}")
        } else {
            format!("another cluster ({cluster:x})")
        }
    }

    fn text(&self) -> String {
        let Mark { identity: Identity { cluster, member }, joined, name, peer_urls, token } = self;
        let came = if *joined { "joined" } else { "first" };
        format!(
            "vlot 2\ncluster {cluster:016x}\nmember {member:016x}\ncame {came}\nname {name}\npeers {peer_urls}\n\
             token {token}\n"
        )
    }

    fn read(text: &str) -> Option<Mark> {
        let mut lines = text.lines();
        let mut value = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned);
        let number = |text: String| u64::from_str_radix(&text, 16).ok();
        let version = value("vlot")?;
        let identity = Identity { cluster: number(value("cluster")?)?, member: number(value("member")?)? };
        match version.as_str() {
            // It says no more, and its member is always a first one.
            "1" => Some(Mark {
                identity,
                joined: false,
                name: String::new(),
                peer_urls: String::new(),
                token: String::new(),
            }),
            "2" => {
                let joined = match value("came")?.as_str() {
                    "joined" => true,
                    "first" => false,
                    _ => return None,
                };
                Some(Mark {
                    identity,
                    joined,
                    name: value("name")?,
                    peer_urls: value("peers")?,
                    token: value("token")?,
                })
            }
            _ => None,
        }
    }
}

fn read_mark(path: &Path) -> Result<Option<Mark>, DataDirError> {
    match fs::read_to_string(path.join(MARK)) {
        Ok(text) => Mark::read(&text).map(Some).ok_or_else(|| DataDirError::UnknownVersion { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DataDirError::Unreadable { path: path.to_owned(), error }),
    }
}

/// Writes a file so that a crash leaves all of it or what was there before.
fn replace(dir: &Path, name: &str, text: &str) -> io::Result<()> {
    let unfinished = dir.join(format!("{name}.new"));
    let mut file = File::create(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, dir.join(name))?;
    File::open(dir)?.sync_all()
}

/// Makes a directory that only its owner may look into.
fn create_private(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(flags: &str) -> Config {
        Config::read(flags.split_whitespace().map(str::to_owned), []).unwrap()
    }

    fn flags(name: &str, port: u16, token: &str) -> Config {
        config(&format!(
            "--name {name} --initial-advertise-peer-urls http://a:{port} --initial-cluster {name}=http://a:{port} \
             --initial-cluster-token {token}"
        ))
    }

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("vlot-data-dir-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        dir
    }

    #[test]
    fn a_data_directory_belongs_to_one_process() {
        let dir = scratch("process");
        let taken = DataDir::take(&dir).unwrap();
        let busy = DataDir::take(&dir).unwrap_err();
        assert!(matches!(busy, DataDirError::InUse { .. }), "{busy}");
        drop(taken);
        assert!(!DataDir::take(&dir).unwrap().was_removed());
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_data_directory_belongs_to_one_member() {
        let dir = scratch("member");
        let mut taken = DataDir::take(&dir).unwrap();
        assert_eq!(taken.mark, None);
        let identity = Identity { cluster: 0xc, member: 0xa };
        taken.bind(&flags("n1", 1, "t"), identity, true).unwrap();
        drop(taken);
        let rows = [
            (flags("n1", 1, "t"), None),
            // One at a time may change.
            (flags("n2", 1, "t"), None),
            (flags("n2", 2, "t"), None),
            (flags("n2", 2, "u"), Some("belongs to member a, n2 at http://a:2, this is n2 at http://a:2;")),
            (flags("n1", 1, "t"), Some("belongs to member a, n2 at http://a:2, this is n1 at http://a:1;")),
        ];
        for (config, expected) in rows {
            let mut taken = DataDir::take(&dir).unwrap();
            let mark = taken.mark.clone().unwrap();
            assert!(mark.joined && mark.identity == identity);
            let bound = taken.bind(&config, mark.identity, mark.joined);
            match expected {
                None => bound.unwrap(),
                Some(expected) => {
                    let line = bound.unwrap_err().to_string();
                    assert!(line.contains(expected), "{line}");
                }
            }
        }
        fs::write(dir.join(MARK), "vlot 3\nsomething else").unwrap();
        assert!(matches!(DataDir::take(&dir), Err(DataDirError::UnknownVersion { .. })));
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn an_earlier_mark_needs_the_flags_that_led_to_it() {
        let dir = scratch("earlier");
        fs::create_dir_all(&dir).unwrap();
        let Identity { cluster, member } = computed(&flags("n1", 1, "t"));
        fs::write(dir.join(MARK), format!("vlot 1\ncluster {cluster:016x}\nmember {member:016x}\n")).unwrap();
        assert!(check_mark(&dir, &flags("n1", 1, "t")).is_ok());
        let line = check_mark(&dir, &flags("n1", 2, "t")).unwrap_err().to_string();
        assert!(line.contains("belongs to another cluster (") && line.contains("this is n1 at http://a:2"), "{line}");
        let mut taken = DataDir::take(&dir).unwrap();
        let found = taken.mark.clone().unwrap().identity;
        assert!(taken.bind(&flags("n2", 2, "t"), found, false).is_err());
        taken.bind(&flags("n1", 1, "t"), found, false).unwrap();
        taken.bind(&flags("n1", 2, "t"), found, false).unwrap();
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_name_with_a_line_break_is_still_one_line() {
        let mut config = flags("n1", 1, "t");
        config.name = "a\nb".to_owned();
        let mark = Mark::new(&config, Identity { cluster: 1, member: 2 }, true);
        assert_eq!(Mark::read(&mark.text()), Some(mark));
    }
}
