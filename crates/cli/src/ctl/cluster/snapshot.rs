//! `vlot snapshot save`: a member's whole store, in a file.
//!
//! The file has its name only once it is whole, checked and on the disk. Until then it is called `NAME.part`.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{ArgMatches, Command};
use sha2::{Digest, Sha256};
use vlot_proto::etcdserverpb::{SnapshotRequest, SnapshotResponse};

use crate::client::{Endpoint, path};
use crate::ctl::flags::{Settings, exit_of, words, words_of};
use crate::ctl::notation::{self, process::cause};
use crate::ctl::{Exit, inform, show};

/// A snapshot ends with a hash of what stands before.
const HASH_BYTES: usize = 32;

/// The command and its subcommands.
pub fn command() -> Command {
    Command::new("snapshot")
        .about("Manages etcd node snapshots")
        .after_help("Without a server, see their --help:\n  status   Gets the status of a given snapshot file\n  restore  Makes a member's data directory of a snapshot file")
        .subcommand(
            Command::new("save").about("Stores an etcd node backend snapshot to a given file").arg(words("FILENAME")),
        )
}

/// Fetches the snapshot and says where it is.
pub async fn run(settings: &Settings, matches: &ArgMatches) -> Result<(), Exit> {
    let (_, matches) = matches.subcommand().expect("snapshot requires a subcommand");
    let words = words_of(matches);
    let [name] = words.as_slice() else { return Err(Exit::bad_args("snapshot save expects one argument")) };
    let name = String::from_utf8_lossy(name).into_owned();
    let [endpoint] = settings.endpoints.as_slice() else {
        let endpoints: Vec<_> = settings.endpoints.iter().map(ToString::to_string).collect();
        let flaw = format!("snapshot must be requested to one selected node, not multiple [{}]", endpoints.join(" "));
        return Err(Exit::new(Exit::INTERRUPTED, flaw));
    };
    let saving = save(settings, endpoint, Path::new(&name));
    let saved = match settings.command_timeout_is_given {
        true => tokio::time::timeout(settings.command_timeout, saving)
            .await
            .unwrap_or_else(|_| Err(Exit::error("context deadline exceeded"))),
        false => saving.await,
    };
    let version = saved.map_err(|exit| Exit { code: Exit::INTERRUPTED, ..exit })?;
    show(format!("Snapshot saved at {name}\n").as_bytes())?;
    if version.is_empty() { Ok(()) } else { show(format!("Server version {version}\n").as_bytes()) }
}

/// Saves it, and returns the version of the server, which servers tell from release 3.6 on.
async fn save(settings: &Settings, endpoint: &Endpoint, target: &Path) -> Result<String, Exit> {
    let part = PartialFile::create(target)?;
    inform("created temporary db file", "path", &part.path.display().to_string());
    let mut file = Checked::new(&part.file);
    let mut client = settings.client_of(endpoint);
    let failed = |failure| exit_of(&failure);
    let mut stream = client
        .stream::<SnapshotRequest, SnapshotResponse>(path::SNAPSHOT, &[], settings.command_timeout)
        .await
        .map_err(failed)?;
    stream.send(&SnapshotRequest {}).await.map_err(failed)?;
    stream.finish().map_err(failed)?;
    inform("fetching snapshot", "endpoint", &endpoint.to_string());
    let mut version = String::new();
    while let Some(piece) = stream.next().await.map_err(failed)? {
        file.write(&piece.blob).map_err(|error| part.unwritten(&error))?;
        if !piece.version.is_empty() {
            version = piece.version;
        }
    }
    let bytes = file.finish().map_err(|flaw| match flaw {
        Flaw::Disk(error) => part.unwritten(&error),
        Flaw::Hash(flaw) => Exit::error(flaw),
    })?;
    part.file.sync_all().map_err(|error| part.unwritten(&error))?;
    inform("fetched snapshot", "size", &notation::size(bytes));
    part.rename(target)?;
    inform("saved", "path", &target.display().to_string());
    Ok(version)
}

/// The file while it is being written. Goes with its owner unless it got its name.
struct PartialFile {
    file: File,
    path: PathBuf,
}

impl PartialFile {
    fn create(target: &Path) -> Result<PartialFile, Exit> {
        let mut path = target.as_os_str().to_owned();
        path.push(".part");
        let path = PathBuf::from(path);
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let file = file
            .map_err(|error| Exit::error(format!("could not open {} (open {0}: {})", path.display(), cause(&error))))?;
        Ok(PartialFile { file, path })
    }

    fn unwritten(&self, error: &std::io::Error) -> Exit {
        Exit::error(format!("write {}: {}", self.path.display(), cause(error)))
    }

    fn rename(&self, target: &Path) -> Result<(), Exit> {
        let renamed = fs::rename(&self.path, target).and_then(|()| {
            // The name is on the disk only once its folder is.
            let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        });
        renamed.map_err(|error| {
            let (part, target) = (self.path.display(), target.display());
            Exit::error(format!("could not rename {part} to {target} ({})", cause(&error)))
        })
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        // Fails if it got its name, or if nothing more can be done about it.
        let _ = fs::remove_file(&self.path);
    }
}

/// Writes pieces, and looks whether the last bytes of them are the hash of the others.
struct Checked<W> {
    target: W,
    hash: Sha256,
    /// The last bytes so far, which may be the hash: not hashed themselves.
    tail: Vec<u8>,
    bytes: u64,
}

#[derive(Debug)]
enum Flaw {
    Disk(std::io::Error),
    Hash(String),
}

impl<W: Write> Checked<W> {
    fn new(target: W) -> Checked<W> {
        Checked { target, hash: Sha256::new(), tail: Vec::new(), bytes: 0 }
    }

    fn write(&mut self, piece: &[u8]) -> std::io::Result<()> {
        self.target.write_all(piece)?;
        self.bytes += piece.len() as u64;
        self.tail.extend_from_slice(piece);
        let settled = self.tail.len().saturating_sub(HASH_BYTES);
        self.hash.update(&self.tail[..settled]);
        self.tail.drain(..settled);
        Ok(())
    }

    /// How many bytes there are, the hash included.
    fn finish(mut self) -> Result<u64, Flaw> {
        self.target.flush().map_err(Flaw::Disk)?;
        if self.bytes <= HASH_BYTES as u64 {
            return Err(Flaw::Hash(format!("sha256 checksum not found [bytes: {}]", self.bytes)));
        }
        if self.hash.finalize()[..] != self.tail[..] {
            return Err(Flaw::Hash(format!("sha256 checksum does not match [bytes: {}]", self.bytes)));
        }
        Ok(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_taken_only_with_its_own_hash_behind_it() {
        let content = [b"all there is ".repeat(20), vec![0; 7]].concat();
        let whole = [&content[..], &Sha256::digest(&content)[..]].concat();
        for piece_bytes in [1, 5, 32, 33, whole.len()] {
            let mut written = Vec::new();
            let mut checked = Checked::new(&mut written);
            whole.chunks(piece_bytes).for_each(|piece| checked.write(piece).unwrap());
            assert_eq!(checked.finish().unwrap(), whole.len() as u64);
            assert_eq!(written, whole);
        }
        let mut damaged = whole.clone();
        damaged[3] ^= 1;
        for broken in [&whole[..whole.len() - 1], &whole[1..], &damaged, b""] {
            let mut checked = Checked::new(Vec::new());
            checked.write(broken).unwrap();
            assert!(matches!(checked.finish(), Err(Flaw::Hash(_))), "{} bytes", broken.len());
        }
    }
}
