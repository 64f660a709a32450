//! The file that a client makes of `Maintenance/Snapshot`: the store's snapshot, and what etcd's tools expect around it.
//!
//! Owns the layout (`docs/disk-format.md`, *The snapshot that clients save*). What the store's snapshot is like is the
//! store's business.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use vlot_store::snapshot::{Contents, RestoreError, Snapshot, inspect};

/// etcd's tools tell by the remainder of a file's length whether it ends with a hash.
const SECTOR_BYTES: u64 = 512;
pub(crate) const HASH_BYTES: usize = 32;
/// The length of the store's snapshot ends the content.
const LENGTH_BYTES: u64 = 8;
/// How much of a file is hashed at a time.
const BUFFER_BYTES: usize = 64 << 10;

/// How long the content is, for a snapshot of so many bytes.
pub(crate) fn content_bytes(snapshot_bytes: u64) -> u64 {
    (snapshot_bytes + LENGTH_BYTES).next_multiple_of(SECTOR_BYTES)
}

/// Writes the content: all but the hash.
pub(crate) fn write_content(snapshot: &Snapshot, snapshot_bytes: u64, out: &mut dyn Write) -> io::Result<()> {
    snapshot.write_to(out)?;
    let padding = content_bytes(snapshot_bytes) - snapshot_bytes - LENGTH_BYTES;
    out.write_all(&[0; SECTOR_BYTES as usize][..padding as usize])?;
    out.write_all(&snapshot_bytes.to_le_bytes())
}

/// A file that a client has saved.
#[derive(Debug)]
pub(crate) struct Backup {
    path: PathBuf,
    file: File,
    content_bytes: u64,
    snapshot_bytes: u64,
    has_hash: bool,
}

/// What is in a backup, for an operator.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BackupStatus {
    /// A checksum of it.
    pub hash: u32,
    /// The newest revision.
    pub revision: i64,
    /// Keys at that revision.
    pub total_keys: usize,
    /// Bytes, the hash at its end aside.
    pub total_bytes: u64,
}

/// Why a file is no backup that can be used.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are what the variants name")]
pub enum BackupError {
    /// It cannot be read.
    Io { path: PathBuf, error: io::Error },
    /// Nothing that a member of ours has sent looks like this.
    NoBackup { path: PathBuf },
    /// There is no hash at its end.
    NoHash { path: PathBuf },
    /// The hash at its end is another one.
    OtherHash { path: PathBuf },
    /// It is not as it was written.
    Damaged { path: PathBuf, error: RestoreError },
}

impl Backup {
    /// Opens a file and looks at its end.
    pub(crate) fn open(path: &Path) -> Result<Backup, BackupError> {
        let io = |error| BackupError::Io { path: path.to_owned(), error };
        let mut file = File::open(path).map_err(io)?;
        let bytes = file.metadata().map_err(io)?.len();
        let has_hash = bytes % SECTOR_BYTES == HASH_BYTES as u64;
        let content_bytes = if has_hash { bytes - HASH_BYTES as u64 } else { bytes };
        let no_backup = || BackupError::NoBackup { path: path.to_owned() };
        if content_bytes == 0 || !content_bytes.is_multiple_of(SECTOR_BYTES) {
            return Err(no_backup());
        }
        let mut length = [0; LENGTH_BYTES as usize];
        file.seek(SeekFrom::Start(content_bytes - LENGTH_BYTES)).map_err(io)?;
        file.read_exact(&mut length).map_err(io)?;
        let snapshot_bytes = u64::from_le_bytes(length);
        if !(1..content_bytes).contains(&snapshot_bytes) || self::content_bytes(snapshot_bytes) != content_bytes {
            return Err(no_backup());
        }
        Ok(Backup { path: path.to_owned(), file, content_bytes, snapshot_bytes, has_hash })
    }

    /// Holds the content against the hash at its end.
    pub(crate) fn check_hash(&mut self) -> Result<(), BackupError> {
        if !self.has_hash {
            return Err(BackupError::NoHash { path: self.path.clone() });
        }
        match self.hashes_match() {
            Ok(true) => Ok(()),
            Ok(false) => Err(BackupError::OtherHash { path: self.path.clone() }),
            Err(error) => Err(self.io(error)),
        }
    }

    fn hashes_match(&mut self) -> io::Result<bool> {
        self.file.rewind()?;
        let mut hash = Sha256::new();
        let mut content = (&mut self.file).take(self.content_bytes);
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match content.read(&mut buffer)? {
                0 => break,
                read => hash.update(&buffer[..read]),
            }
        }
        let mut written = [0; HASH_BYTES];
        self.file.read_exact(&mut written)?;
        Ok(hash.finalize()[..] == written)
    }

    /// The store's snapshot in it.
    pub(crate) fn snapshot(&mut self) -> Result<impl Read + '_, BackupError> {
        if let Err(error) = self.file.rewind() {
            return Err(self.io(error));
        }
        Ok(BufReader::with_capacity(BUFFER_BYTES, (&self.file).take(self.snapshot_bytes)))
    }

    pub(crate) fn inspect(&mut self) -> Result<Contents, BackupError> {
        let path = self.path.clone();
        inspect(&mut self.snapshot()?).map_err(|error| BackupError::Damaged { path, error })
    }

    fn io(&self, error: io::Error) -> BackupError {
        BackupError::Io { path: self.path.clone(), error }
    }
}

/// Looks at a backup: every byte of it is checked.
///
/// # Errors
/// See [`BackupError`].
pub fn backup_status(path: &Path) -> Result<BackupStatus, BackupError> {
    let mut backup = Backup::open(path)?;
    if backup.has_hash {
        backup.check_hash()?;
    }
    let Contents { checksum, revision, keys, .. } = backup.inspect()?;
    Ok(BackupStatus { hash: checksum, revision, total_keys: keys, total_bytes: backup.content_bytes })
}

impl fmt::Display for BackupError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, error } => write!(out, "cannot read {}: {error}", path.display()),
            Self::NoBackup { path } => write!(
                out,
                "{} is no snapshot that a member of vlot has sent, or it was cut off; etcd's own snapshots cannot be read here",
                path.display()
            ),
            Self::NoHash { path } => write!(
                out,
                "{} has no sha256 checksum at its end, as 'snapshot save' leaves one; --skip-hash-check goes without",
                path.display()
            ),
            Self::OtherHash { path } => {
                write!(
                    out,
                    "{} is damaged: the sha256 checksum at its end does not match; use another copy",
                    path.display()
                )
            }
            Self::Damaged { path, error } => write!(out, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for BackupError {}
