//! The ordered index of keys and their versions, in memory.
//!
//! Owns which version of a key is seen at which revision, and which versions compaction gives up. Must not know where a
//! value is when it is not here.
//!
//! Invariants: a key's versions are in the order of their revisions, there is at least one, and two deletions never
//! follow each other.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

use bytes::Bytes;

use crate::mvcc::key_range::KeyRange;
use crate::mvcc::revision::Revision;

/// What a key was from one revision on. 64 bytes, and the value.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub revision: Revision,
    /// The main revision of the put that brought the key to life.
    pub create: i64,
    /// How many puts there were since then, this one included. Zero for a deletion.
    pub count: i64,
    /// None if the value is only in the engine. A deletion has none.
    pub value: Option<Bytes>,
}

impl Version {
    pub fn is_deletion(&self) -> bool {
        self.count == 0
    }

    /// The bytes of the value that are in memory.
    pub fn resident_bytes(&self) -> usize {
        self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// All keys that have a version.
#[derive(Debug, Default)]
pub(crate) struct KeyIndex {
    keys: BTreeMap<Bytes, Vec<Version>>,
    versions: usize,
}

impl KeyIndex {
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    pub fn versions(&self) -> usize {
        self.versions
    }

    /// Adds the key's newest version, made from the one before it, and returns the key as the index holds it.
    ///
    /// `key` may be a slice of a larger buffer: what the index keeps is a copy of its own.
    pub fn push<T>(&mut self, key: &Bytes, make: impl FnOnce(&Bytes, Option<&Version>) -> (Version, T)) -> T {
        self.versions += 1;
        if let Entry::Occupied(mut entry) = self.keys.entry(key.clone()) {
            let (version, made) = make(entry.key(), entry.get().last());
            let versions = entry.get_mut();
            // Most keys have few versions: grow by half, from one.
            if versions.len() == versions.capacity() {
                versions.reserve_exact(1 + versions.len() / 2);
            }
            versions.push(version);
            return made;
        }
        let key = Bytes::copy_from_slice(key);
        let (version, made) = make(&key, None);
        self.keys.insert(key, vec![version]);
        made
    }

    /// The key's newest version, unless it is deleted.
    pub fn newest(&self, key: &[u8]) -> Option<(&Bytes, &Version)> {
        let (key, versions) = self.keys.get_key_value(key)?;
        versions.last().filter(|version| !version.is_deletion()).map(|version| (key, version))
    }

    /// What the key was at a main revision, unless it did not exist then.
    pub fn at(&self, key: &[u8], revision: i64) -> Option<(&Bytes, &Version)> {
        let (key, versions) = self.keys.get_key_value(key)?;
        visible(versions, revision).map(|version| (key, version))
    }

    /// The version that was made at exactly this revision.
    pub fn exact(&self, key: &[u8], revision: Revision) -> Option<&Version> {
        let versions = self.keys.get(key)?;
        versions.binary_search_by_key(&revision, |version| version.revision).ok().map(|place| &versions[place])
    }

    /// As [`KeyIndex::exact`], to change where its value is.
    pub fn exact_mut(&mut self, key: &[u8], revision: Revision) -> Option<&mut Version> {
        let versions = self.keys.get_mut(key)?;
        versions.binary_search_by_key(&revision, |version| version.revision).ok().map(|place| &mut versions[place])
    }

    /// The keys of a range that existed at a main revision, in order.
    pub fn range_at<'a>(
        &'a self,
        range: &'a KeyRange,
        revision: i64,
    ) -> impl Iterator<Item = (&'a Bytes, &'a Version)> {
        let keys = (!range.is_empty()).then(|| self.keys.range::<[u8], _>(range.bounds()));
        keys.into_iter().flatten().filter_map(move |(key, versions)| Some((key, visible(versions, revision)?)))
    }

    /// The versions of one key whose main revision is at least `from`, oldest first.
    pub fn versions_since(&self, key: &[u8], from: i64) -> impl Iterator<Item = &Version> {
        let versions = self.keys.get(key).map_or(&[][..], Vec::as_slice);
        versions[versions.partition_point(|version| version.revision.main < from)..].iter()
    }

    /// Whether a version made at this revision belongs to the history from `compacted` on, gone from memory or not.
    pub fn survives(&self, key: &[u8], revision: Revision, compacted: i64) -> bool {
        if revision.main > compacted {
            return true;
        }
        self.keys.get(key).is_some_and(|versions| {
            let given_up = given_up(versions, compacted);
            versions[given_up..].first().is_some_and(|version| version.revision == revision)
        })
    }

    /// Gives up what compaction at `compacted` makes unreadable, in up to `keys_max` keys from `from` on, and calls
    /// `dropped` for each version. Returns where to go on, or None at the end.
    pub fn compact(
        &mut self,
        from: &[u8],
        keys_max: usize,
        compacted: i64,
        mut dropped: impl FnMut(&Version),
    ) -> Option<Bytes> {
        let mut next = None;
        let mut emptied = Vec::new();
        let mut fewer = 0;
        let bounds = (Bound::Included(from), Bound::Unbounded);
        for (seen, (key, versions)) in self.keys.range_mut::<[u8], _>(bounds).enumerate() {
            if seen == keys_max {
                next = Some(key.clone());
                break;
            }
            let given_up = given_up(versions, compacted);
            if given_up == 0 {
                continue;
            }
            versions[..given_up].iter().for_each(&mut dropped);
            fewer += given_up;
            if given_up == versions.len() {
                emptied.push(key.clone());
            } else {
                versions.drain(..given_up);
                versions.shrink_to(versions.len() + versions.len() / 2);
            }
        }
        self.versions -= fewer;
        for key in emptied {
            self.keys.remove(&key);
        }
        next
    }
}

/// The newest version at or below a main revision, unless it is a deletion.
fn visible(versions: &[Version], revision: i64) -> Option<&Version> {
    // Nearly every read is of the newest version.
    let newest = versions.last()?;
    let version = if newest.revision.main <= revision {
        newest
    } else {
        let later = versions.partition_point(|version| version.revision.main <= revision);
        versions[..later].last()?
    };
    (!version.is_deletion()).then_some(version)
}

/// How many of the oldest versions compaction gives up: all that are superseded at `compacted`. A deletion goes as well,
/// unless it is that very revision: a watch may still start there and must be told of it.
fn given_up(versions: &[Version], compacted: i64) -> usize {
    let upto = versions.partition_point(|version| version.revision.main <= compacted);
    match versions[..upto].last() {
        None => 0,
        Some(version) if version.is_deletion() && version.revision.main < compacted => upto,
        Some(_) => upto - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Versions from a row of main revisions; negative ones are deletions.
    fn versions(row: &[i64]) -> Vec<Version> {
        row.iter()
            .map(|&main| Version {
                revision: Revision::first_of(main.abs()),
                create: 0,
                count: i64::from(main > 0),
                value: None,
            })
            .collect()
    }

    #[test]
    fn the_newest_version_at_a_revision_is_seen() {
        let rows =
            [(1, None), (2, Some(2)), (3, Some(2)), (4, Some(4)), (5, None), (6, None), (7, Some(7)), (9, Some(7))];
        for (revision, expected) in rows {
            let seen = visible(&versions(&[2, 4, -5, 7]), revision).map(|version| version.revision.main);
            assert_eq!(seen, expected, "at {revision}");
        }
    }

    #[test]
    fn compaction_keeps_what_can_still_be_seen() {
        let rows: [(&[i64], i64, usize); 9] = [
            (&[2, 4, -5, 7], 1, 0),
            (&[2, 4, -5, 7], 2, 0),
            (&[2, 4, -5, 7], 3, 0),
            (&[2, 4, -5, 7], 4, 1),
            (&[2, 4, -5, 7], 5, 2),
            (&[2, 4, -5, 7], 6, 3),
            (&[2, 4, -5, 7], 8, 3),
            (&[2, -5], 5, 1),
            (&[2, -5], 6, 2),
        ];
        for (row, compacted, expected) in rows {
            assert_eq!(given_up(&versions(row), compacted), expected, "{row:?} at {compacted}");
        }
    }
}
