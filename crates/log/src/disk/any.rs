//! A directory of any type, for an owner that is told only when it runs which one it gets.
//!
//! Owns nothing. A call more for each act is nothing beside the act itself.

use crate::disk::Disk;
use std::any::Any;
use std::fmt;
use std::io::{self, Error, ErrorKind};
use std::path::PathBuf;

/// A directory of any type.
pub struct AnyDisk(Box<dyn Shared>);

/// An open file of an [`AnyDisk`].
pub struct AnyFile(Box<dyn Any + Send>);

impl AnyDisk {
    /// Takes a directory of any type. Clones of it must share it, as those of the ones that ship do.
    #[must_use]
    pub fn new<D>(disk: D) -> Self
    where
        D: Disk<File: Send + 'static> + Clone + Send + Sync + 'static,
    {
        Self(Box::new(Typed(disk)))
    }
}

/// What is put behind the table of calls.
trait Shared: Disk<File = AnyFile> + Send + Sync {
    fn another(&self) -> Box<dyn Shared>;
}

struct Typed<D>(D);

impl<D> Shared for Typed<D>
where
    D: Disk<File: Send + 'static> + Clone + Send + Sync + 'static,
{
    fn another(&self) -> Box<dyn Shared> {
        Box::new(Self(self.0.clone()))
    }
}

impl Clone for AnyDisk {
    fn clone(&self) -> Self {
        Self(self.0.another())
    }
}

impl fmt::Debug for AnyDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AnyDisk").field(&self.path("")).finish()
    }
}

impl fmt::Debug for AnyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyFile")
    }
}

/// The file as the directory's type has it.
fn typed<F: 'static>(file: &AnyFile) -> io::Result<&F> {
    let of_another = || Error::new(ErrorKind::InvalidInput, "a file of another type of disk");
    file.0.downcast_ref().ok_or_else(of_another)
}

/// All that is asked of a directory, passed on to the one within: it gets a file as `$as_typed`, and one that it has made is given
/// back as `$as_any`.
macro_rules! passed_on {
    ($file:ident => $as_typed:expr, $made:ident => $as_any:expr) => {
        type File = AnyFile;

        fn list(&mut self) -> io::Result<Vec<String>> {
            self.0.list()
        }

        fn create(&mut self, name: &str) -> io::Result<AnyFile> {
            let $made = self.0.create(name)?;
            Ok($as_any)
        }

        fn open(&mut self, name: &str) -> io::Result<AnyFile> {
            let $made = self.0.open(name)?;
            Ok($as_any)
        }

        fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
            self.0.rename(from, to)
        }

        fn remove(&mut self, name: &str) -> io::Result<()> {
            self.0.remove(name)
        }

        fn sync_dir(&mut self) -> io::Result<()> {
            self.0.sync_dir()
        }

        fn preallocate(&mut self, $file: &AnyFile, bytes: u64) -> io::Result<()> {
            self.0.preallocate($as_typed, bytes)
        }

        fn shorten(&mut self, $file: &AnyFile, bytes: u64) -> io::Result<()> {
            self.0.shorten($as_typed, bytes)
        }

        fn len(&self, $file: &AnyFile) -> io::Result<u64> {
            self.0.len($as_typed)
        }

        fn read_ahead(&mut self, name: &str) {
            self.0.read_ahead(name);
        }

        fn read_at(&self, $file: &AnyFile, into: &mut [u8], offset: u64) -> io::Result<()> {
            self.0.read_at($as_typed, into, offset)
        }

        fn write_at(&mut self, $file: &AnyFile, bytes: &[u8], offset: u64) -> io::Result<()> {
            self.0.write_at($as_typed, bytes, offset)
        }

        fn write_sectors(&mut self, $file: &AnyFile, bytes: &[u8], offset: u64) -> io::Result<()> {
            self.0.write_sectors($as_typed, bytes, offset)
        }

        fn sync_data(&mut self, $file: &AnyFile) -> io::Result<()> {
            self.0.sync_data($as_typed)
        }

        fn salt(&mut self) -> u64 {
            self.0.salt()
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path(name)
        }

        fn free_bytes(&self) -> Option<u64> {
            self.0.free_bytes()
        }

        fn is_prompt(&self) -> bool {
            self.0.is_prompt()
        }
    };
}

impl<D: Disk<File: Send + 'static>> Disk for Typed<D> {
    passed_on!(file => typed(file)?, made => AnyFile(Box::new(made)));
}

impl Disk for AnyDisk {
    passed_on!(file => file, file => file);
}
