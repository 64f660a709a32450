//! What a key was from one revision on.

use crate::mvcc::revision::Revision;

/// One version of a key, without key and value: 40 bytes that are copied freely.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Version {
    main: i64,
    /// The main revision of the put that brought the key to life. Zero for a deletion.
    pub create: i64,
    /// How many puts there were since then, this one included. Zero for a deletion.
    pub count: i64,
    /// The lease that the key is on. Zero is none.
    pub lease: i64,
    sub: u32,
    /// How long the value is, wherever it is.
    pub value_bytes: u32,
}

impl Version {
    /// # Panics
    /// If the value is 4 GiB or longer, which no request can be.
    pub fn put(revision: Revision, create: i64, count: i64, lease: i64, value_bytes: usize) -> Self {
        let value_bytes = u32::try_from(value_bytes).expect("a value is shorter than 4 GiB");
        Self { main: revision.main, create, count, lease, sub: revision.sub, value_bytes }
    }

    pub fn deletion(revision: Revision) -> Self {
        Self::put(revision, 0, 0, 0, 0)
    }

    pub fn revision(&self) -> Revision {
        Revision { main: self.main, sub: self.sub }
    }

    pub fn is_deletion(&self) -> bool {
        self.count == 0
    }
}

/// The newest version at or below a main revision.
pub(super) fn newest_upto(versions: &[Version], revision: i64) -> Option<&Version> {
    // Nearly every read is of the newest version.
    let newest = versions.last()?;
    if newest.main <= revision {
        return Some(newest);
    }
    versions[..versions.partition_point(|version| version.main <= revision)].last()
}
