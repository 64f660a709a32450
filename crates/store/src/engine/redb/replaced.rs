//! Files that have lost their names, and how the system gets their space back.
//!
//! A system that tells the disk what is free does so for all of a file when the last of it goes, and what others write waits
//! meanwhile: some 50 ms for 100 MB. So a file stays open when its name is taken away, and is cut off piece by piece.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// How much is given back at a time.
pub(super) const FREED_BYTES: u64 = 1 << 20;

/// A file may still be read for as long as this is held.
pub(super) type InUse = Arc<()>;

/// The files, until nothing is left of them.
#[derive(Debug, Default)]
pub(super) struct Replaced(Mutex<Vec<(File, Weak<()>)>>);

impl Replaced {
    /// To be called before the file at `path` loses its name, if there is one: what it returns goes to [`Replaced::add`] afterwards.
    pub fn open(path: &Path) -> io::Result<Option<File>> {
        match OpenOptions::new().write(true).open(path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// It has lost its name.
    pub fn add(&self, file: Option<File>, readers: Weak<()>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(file.map(|file| (file, readers)));
    }

    /// Gives back what nobody reads any more. Calls `rest` between its pieces.
    pub fn free(&self, rest: &mut dyn FnMut()) {
        // Only whole values are moved under the lock.
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).extract_if(.., is_free).collect::<Vec<_>>();
        for (file, _) in free {
            // Of one that cannot be cut off all goes when it is closed. One that has another name is somebody's copy.
            let length = file.metadata().map_or(0, |metadata| if metadata.nlink() == 0 { metadata.len() } else { 0 });
            let _ = cut(length, 0, |len| file.set_len(len), rest);
        }
    }
}

fn is_free((_, readers): &mut (File, Weak<()>)) -> bool {
    readers.strong_count() == 0
}

/// Makes a file shorter, piece by piece. Calls `rest` between them.
pub(super) fn cut(
    mut len: u64,
    to: u64,
    mut set_len: impl FnMut(u64) -> io::Result<()>,
    rest: &mut dyn FnMut(),
) -> io::Result<()> {
    while len > to {
        len = len.saturating_sub(FREED_BYTES).max(to);
        set_len(len)?;
        if len > to {
            rest();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_cut_off_piece_by_piece_once_nobody_reads_it() {
        let path = std::env::current_exe().unwrap().with_extension(format!("{}.replaced", std::process::id()));
        let file = File::create(&path).unwrap();
        file.set_len(3 * FREED_BYTES + 1).unwrap();
        let (replaced, in_use) = (Replaced::default(), InUse::default());
        let opened = Replaced::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        replaced.add(opened, Arc::downgrade(&in_use));
        let free = || {
            let mut rests = 0;
            replaced.free(&mut || rests += 1);
            (rests, file.metadata().unwrap().len())
        };
        assert_eq!(free(), (0, 3 * FREED_BYTES + 1), "it is read");
        drop(in_use);
        assert_eq!(free(), (3, 0));
        assert_eq!(free(), (0, 0));
        assert!(Replaced::open(&path).unwrap().is_none());
    }
}
