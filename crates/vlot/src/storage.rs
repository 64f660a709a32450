//! Where a node keeps what must outlive it: its log, the number of its disk, and its snapshots.
//!
//! Owns the choice between a folder, memory and a storage of the program's own, and the file with the disk's number. Must not
//! know what is in a log or in a snapshot.
//!
//! ```
//! use vlot::storage::MemoryDisk;
//! use vlot::{GroupId, LogId, Node, NodeId, Options, StateMachine};
//!
//! # #[derive(Default)]
//! # struct Sum(u64);
//! # impl StateMachine for Sum {
//! #     type Command = u64;
//! #     type Reply = u64;
//! #     fn apply(&mut self, _: LogId, more: u64) -> u64 {
//! #         self.0 += more;
//! #         self.0
//! #     }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let disk = MemoryDisk::new(); // kept by the program
//! let node = Node::open(Options::on(&disk)).await?;
//! let sum = node.group(GroupId(1), [NodeId(1)], Sum::default()).await?;
//! assert_eq!(sum.propose(5).await?, 5);
//! node.shutdown().await;
//!
//! let node = Node::open(Options::on(&disk)).await?; // started again, on the same disk
//! let sum = node.group(GroupId(1), [NodeId(1)], Sum::default()).await?;
//! assert_eq!(sum.read(|sum| sum.0).await?, 5);
//! # node.shutdown().await;
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Error, ErrorKind};
use std::path::{Path, PathBuf};

pub use vlot_log::disk::any::AnyDisk;
pub use vlot_log::disk::memory::MemoryDisk;
pub use vlot_log::disk::real::{DirError, RealDisk};
pub use vlot_log::disk::{Disk, conformance};

/// Where a node keeps what must outlive it.
#[derive(Clone)]
#[non_exhaustive]
pub enum Storage {
    /// A folder of a file system. Made if it is not there.
    Dir(PathBuf),
    /// Memory, for as long as the program keeps the disk: for tests, and for data that need not outlive a program.
    Memory(MemoryDisk),
    /// Two directories of the program's own. They must do what [`conformance`] tries: an entry is acknowledged because it is on
    /// them. To make sure that no other node has them is the program's part.
    Own {
        /// For the log, and the number of the disk.
        log: AnyDisk,
        /// For snapshots.
        snapshots: AnyDisk,
    },
}

/// Both directories, open.
pub(crate) struct Opened {
    pub(crate) log: AnyDisk,
    pub(crate) snapshots: AnyDisk,
}

/// The folder of snapshots, in the one of the log.
const SNAPSHOTS: &str = "snapshots";
/// The file with the disk's number.
const NUMBER: &str = "disk";
const NUMBER_NEW: &str = "disk.new";
/// The number is shorter. What is longer is no number.
const NUMBER_BYTES_MAX: u64 = 64;

impl Storage {
    /// Two directories of the program's own, for the log and for snapshots.
    #[must_use]
    pub fn own<D>(log: D, snapshots: D) -> Self
    where
        D: Disk<File: Send + 'static> + Clone + Send + Sync + 'static,
    {
        Self::Own { log: AnyDisk::new(log), snapshots: AnyDisk::new(snapshots) }
    }

    pub(crate) fn open(self) -> Result<Opened, DirError> {
        Ok(match self {
            Self::Dir(dir) => {
                let log = RealDisk::open(&dir)?;
                Opened { log: AnyDisk::new(log), snapshots: AnyDisk::new(RealDisk::open(dir.join(SNAPSHOTS))?) }
            }
            Self::Memory(disk) => {
                let log = disk.open("log")?;
                Opened { log: AnyDisk::new(log), snapshots: AnyDisk::new(disk.open(SNAPSHOTS)?) }
            }
            Self::Own { log, snapshots } => Opened { log, snapshots },
        })
    }

    /// The directory of the log alone.
    pub(crate) fn open_log(self) -> Result<AnyDisk, DirError> {
        Ok(match self {
            Self::Dir(dir) => AnyDisk::new(RealDisk::open(dir)?),
            Self::Memory(disk) => AnyDisk::new(disk.open("log")?),
            Self::Own { log, .. } => log,
        })
    }
}

impl From<PathBuf> for Storage {
    fn from(dir: PathBuf) -> Self {
        Self::Dir(dir)
    }
}

impl From<&PathBuf> for Storage {
    fn from(dir: &PathBuf) -> Self {
        Self::Dir(dir.clone())
    }
}

impl From<&Path> for Storage {
    fn from(dir: &Path) -> Self {
        Self::Dir(dir.to_owned())
    }
}

impl From<MemoryDisk> for Storage {
    fn from(disk: MemoryDisk) -> Self {
        Self::Memory(disk)
    }
}

impl From<&MemoryDisk> for Storage {
    fn from(disk: &MemoryDisk) -> Self {
        Self::Memory(disk.clone())
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dir(dir) => f.debug_tuple("Dir").field(dir).finish(),
            // What is on it may be long.
            Self::Memory(_) => f.write_str("Memory"),
            Self::Own { log, snapshots } => {
                f.debug_struct("Own").field("log", log).field("snapshots", snapshots).finish()
            }
        }
    }
}

/// The number of this disk, drawn when it is first used. A node that loses the disk loses the number with it.
pub(crate) fn disk_number(disk: &mut AnyDisk) -> io::Result<u64> {
    let file = match disk.open(NUMBER) {
        Err(error) if error.kind() == ErrorKind::NotFound => return draw_number(disk),
        file => file?,
    };
    let mut text = vec![0; disk.len(&file)?.min(NUMBER_BYTES_MAX) as usize];
    disk.read_at(&file, &mut text, 0)?;
    let number = std::str::from_utf8(&text).ok().and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    let damaged = || Error::new(ErrorKind::InvalidData, format!("{} holds no number", disk.path(NUMBER).display()));
    number.ok_or_else(damaged)
}

fn draw_number(disk: &mut AnyDisk) -> io::Result<u64> {
    let number = draw().max(1);
    let file = disk.create(NUMBER_NEW)?;
    disk.write_at(&file, format!("{number:016x}\n").as_bytes(), 0)?;
    disk.sync_data(&file)?;
    disk.rename(NUMBER_NEW, NUMBER)?;
    disk.sync_dir()?;
    Ok(number)
}

/// A number that no other process draws, but by rare chance.
pub(crate) fn draw() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(disk: &MemoryDisk) -> AnyDisk {
        Storage::from(disk).open_log().expect("nothing has it")
    }

    #[test]
    fn the_number_of_a_disk_is_drawn_once_and_outlives_the_power() {
        let disk = MemoryDisk::new();
        let number = disk_number(&mut open(&disk)).expect("no fault");
        assert_eq!(disk_number(&mut open(&disk)).expect("no fault"), number);
        disk.lose_power();
        assert_eq!(disk_number(&mut open(&disk)).expect("no fault"), number);
        assert_ne!(disk_number(&mut open(&MemoryDisk::new())).expect("no fault"), number, "another disk has another");
    }

    #[test]
    fn what_is_no_number_is_refused_with_the_name_of_its_file() {
        for bytes in [&b"not a number"[..], &[0xff; 10], &[b'1'; 100], b""] {
            let mut dir = open(&MemoryDisk::new());
            let file = dir.create(NUMBER).expect("no fault");
            dir.write_at(&file, bytes, 0).expect("no fault");
            let error = disk_number(&mut dir).expect_err("no number");
            assert_eq!(error.to_string(), "memory:/log/disk holds no number");
        }
    }
}
