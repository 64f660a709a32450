//! The data directory: whose it is, and that no two processes use it at once.
//!
//! Owns the mark that binds a directory to one member of one cluster.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::identity::Identity;

/// A data directory that belongs to this process for as long as this value lives.
#[derive(Debug)]
pub(crate) struct DataDir {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Whether the directory was marked by an earlier run.
    pub(crate) used: bool,
    _lock: File,
}

impl DataDir {
    /// Takes the directory, makes it if need be, and checks or writes its mark.
    ///
    /// # Errors
    /// One line that names the directory and says what to do.
    pub(crate) fn take(path: &Path, identity: Identity, existing: bool) -> Result<DataDir, String> {
        let shown = path.display();
        let unusable = |error: io::Error| {
            format!("cannot use the data directory {shown}: {error}; make it writable or choose another")
        };
        create_private(path).map_err(unusable)?;
        let lock = File::create(path.join("lock")).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(format!("the data directory {shown} is in use by another process; stop that one first"));
            }
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        let used = check_mark(path, identity)?;
        if !used {
            if existing {
                return Err(format!(
                    "--initial-cluster-state=existing, but the data directory {shown} is empty: joining a running \
                     cluster is not supported; use the member's own data directory"
                ));
            }
            write_mark(path, identity).map_err(unusable)?;
        }
        Ok(DataDir { path: path.to_owned(), used, _lock: lock })
    }
}

/// Compares a directory's mark with who wants to use it. Returns whether there is one.
///
/// # Errors
/// One line: the directory is another member's, or cannot be read.
pub(crate) fn check_mark(path: &Path, identity: Identity) -> Result<bool, String> {
    let shown = path.display();
    let found = match fs::read_to_string(path.join(MARK)) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(format!("cannot read the data directory {shown}: {error}")),
    };
    if found == mark(identity) {
        return Ok(true);
    }
    let whose = match identity_in(&found) {
        Some(found) if found.cluster == identity.cluster => format!("member {:x}", found.member),
        Some(found) => format!("another cluster ({:x})", found.cluster),
        None => "a version that is not known here".to_owned(),
    };
    let Identity { cluster, member } = identity;
    Err(format!(
        "the data directory {shown} belongs to {whose}, this is member {member:x} of cluster {cluster:x}; use its own \
         flags, choose another directory, or remove it if its data is not needed"
    ))
}

/// The file that says whose a data directory is.
const MARK: &str = "member";

fn mark(Identity { cluster, member }: Identity) -> String {
    format!("vlot 1\ncluster {cluster:016x}\nmember {member:016x}\n")
}

fn identity_in(mark: &str) -> Option<Identity> {
    let mut lines = mark.lines();
    let mut number = |name| u64::from_str_radix(lines.next()?.strip_prefix(name)?, 16).ok();
    number("vlot ")?;
    Some(Identity { cluster: number("cluster ")?, member: number("member ")? })
}

/// Writes the mark so that a crash leaves all of it or nothing.
fn write_mark(path: &Path, identity: Identity) -> io::Result<()> {
    let unfinished = path.join("member.new");
    let mut file = File::create(&unfinished)?;
    file.write_all(mark(identity).as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, path.join(MARK))?;
    File::open(path)?.sync_all()
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

    #[test]
    fn a_data_directory_belongs_to_one_member() {
        let dir = std::env::temp_dir().join(format!("vlot-data-dir-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let identity = Identity { cluster: 0xc, member: 0xa };
        assert!(DataDir::take(&dir, identity, true).unwrap_err().contains("joining a running cluster"));
        let taken = DataDir::take(&dir, identity, false).unwrap();
        assert!(!taken.used);
        let busy = DataDir::take(&dir, identity, false).unwrap_err();
        assert!(busy.contains("in use by another process"), "{busy}");
        drop(taken);
        let taken = DataDir::take(&dir, identity, true).unwrap();
        assert!(taken.used);
        drop(taken);
        let rows = [
            (Identity { member: 0xb, ..identity }, "belongs to member a,"),
            (Identity { cluster: 0xd, ..identity }, "belongs to another cluster (c),"),
        ];
        for (other, expected) in rows {
            let line = DataDir::take(&dir, other, false).unwrap_err();
            assert!(line.contains(expected) && !line.contains('\n'), "{line}");
        }
        fs::write(dir.join(MARK), "vlot 2\nsomething else").unwrap();
        assert!(DataDir::take(&dir, identity, false).unwrap_err().contains("a version that is not known"));
        fs::remove_dir_all(&dir).unwrap();
    }
}
