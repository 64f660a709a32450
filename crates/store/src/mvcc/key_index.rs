//! The ordered index of keys and their versions, in memory.
//!
//! Owns which version of a key is seen at which revision, and which versions compaction gives up. Must not know where a
//! value is. A clone is the index as it is at that moment: it costs nothing but a copy of each node that is changed while
//! the clone lives.
//!
//! Invariants: a key's versions are in the order of their revisions, there is at least one, and two deletions never
//! follow each other.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::mvcc::key_range::KeyRange;
use crate::mvcc::revision::Revision;

pub(crate) mod bulk;
mod node;
mod packed;
#[cfg(test)]
mod tests;
mod version;

use node::{Bound, Leaf, Node};
pub(crate) use version::Version;
use version::newest_upto;

/// All keys that have a version.
#[derive(Clone, Debug)]
pub(crate) struct KeyIndex {
    root: Arc<Node>,
    keys: usize,
    versions: usize,
    /// Of all keys together.
    key_bytes: usize,
}

impl Default for KeyIndex {
    fn default() -> Self {
        Self { root: Arc::new(Node::Leaf(Leaf::default())), keys: 0, versions: 0, key_bytes: 0 }
    }
}

impl KeyIndex {
    pub fn keys(&self) -> usize {
        self.keys
    }

    pub fn versions(&self) -> usize {
        self.versions
    }

    /// About how many bytes of memory it takes up: what is in its leaves, which are three quarters full when keys come in no
    /// order.
    pub fn bytes(&self) -> usize {
        (self.keys * node::SLOT_BYTES + self.key_bytes + self.versions * size_of::<Version>()) / 4 * 5
    }

    /// Adds the key's newest version, made from the one before it, and returns it.
    pub fn push(&mut self, key: &[u8], make: impl FnOnce(Option<&Version>) -> Version) -> Version {
        let mut pushed = None;
        let mut is_new = false;
        let split = Arc::make_mut(&mut self.root).push(key, |last| {
            is_new = last.is_none();
            *pushed.insert(make(last))
        });
        if let Some(split) = split {
            self.root = Arc::new(Node::above(Arc::clone(&self.root), split));
        }
        self.versions += 1;
        if is_new {
            self.keys += 1;
            self.key_bytes += key.len();
        }
        pushed.expect("a leaf makes the version that is pushed to it")
    }

    /// The key's newest version, unless it is deleted.
    pub fn newest(&self, key: &[u8]) -> Option<&Version> {
        self.at(key, i64::MAX)
    }

    /// What the key was at a main revision, unless it did not exist then.
    pub fn at(&self, key: &[u8], revision: i64) -> Option<&Version> {
        self.newest_upto(key, revision).filter(|version| !version.is_deletion())
    }

    fn newest_upto(&self, key: &[u8], revision: i64) -> Option<&Version> {
        let (leaf, _) = self.root.leaf(key, Revision::last_of(revision));
        newest_upto(leaf.versions_of(key), revision)
    }

    /// The version that was made at exactly this revision.
    pub fn exact(&self, key: &[u8], revision: Revision) -> Option<&Version> {
        let versions = self.root.leaf(key, revision).0.versions_of(key);
        versions.binary_search_by_key(&revision, Version::revision).ok().map(|place| &versions[place])
    }

    /// The keys of a range that existed at a main revision, in order.
    pub fn range_at<'a>(&'a self, range: &'a KeyRange, revision: i64) -> RangeAt<'a> {
        let start = if range.is_empty() { None } else { Some(range.start()) };
        let leaf = start.map(|start| self.seek(start));
        RangeAt { index: self, range, revision, leaf, looked_at: 0 }
    }

    /// From the first key that is not before this one.
    fn seek(&self, key: &[u8]) -> Place<'_> {
        let (leaf, behind) = self.root.leaf(key, Revision::default());
        Place { leaf, place: leaf.find(key).unwrap_or_else(|place| place), behind }
    }

    /// From the first key behind this one.
    fn seek_behind(&self, key: &[u8]) -> Place<'_> {
        let (leaf, behind) = self.root.leaf(key, Revision::MAX);
        Place { leaf, place: leaf.find(key).map_or_else(|place| place, |place| place + 1), behind }
    }

    /// Visits the versions of one key whose main revision is at least `from`, oldest first, until `visit` breaks.
    pub fn versions_since(&self, key: &[u8], from: i64, mut visit: impl FnMut(&Version) -> ControlFlow<()>) {
        let (mut leaf, mut behind) = self.root.leaf(key, Revision::first_of(from));
        loop {
            let versions = leaf.versions_of(key);
            let first = versions.partition_point(|version| version.revision().main < from);
            if versions[first..].iter().any(|version| visit(version).is_break()) {
                return;
            }
            let Some((next, revision)) = behind.filter(|(next, _)| *next == key) else { return };
            (leaf, behind) = self.root.leaf(next, revision);
        }
    }

    /// The keys of a range that have a version whose main revision is at least `from`, and how many were looked at.
    /// Nothing if these are more than `keys_max`.
    pub fn changed_since(&self, range: &KeyRange, from: i64, keys_max: usize) -> Option<(Vec<&[u8]>, usize)> {
        let mut changed = Vec::new();
        let mut looked_at = 0;
        if range.is_empty() {
            return Some((changed, looked_at));
        }
        let mut at = self.seek(range.start());
        while at.go_to_key(self) && range.ends_behind(at.leaf.key(at.place)) {
            if looked_at == keys_max {
                return None;
            }
            looked_at += 1;
            let key = at.leaf.key(at.place);
            let goes_on = at.key_goes_on();
            let newest = if goes_on { self.newest_upto(key, i64::MAX) } else { at.leaf.versions(at.place).last() };
            if newest.is_some_and(|version| version.revision().main >= from) {
                changed.push(key);
            }
            if goes_on {
                at = self.seek_behind(key);
            } else {
                at.place += 1;
            }
        }
        Some((changed, looked_at))
    }

    /// Whether a version made at this revision belongs to the history from `compacted` on, gone from memory or not.
    pub fn survives(&self, key: &[u8], revision: Revision, compacted: i64) -> bool {
        revision.main > compacted || (self.kept_from(key, compacted) <= revision && self.exact(key, revision).is_some())
    }

    /// What compaction leaves of a key begins here: all versions are given up that are superseded at `compacted`. A
    /// deletion goes as well, unless it is that very revision: a watch may still start there and must be told of it.
    fn kept_from(&self, key: &[u8], compacted: i64) -> Revision {
        kept_from(self.newest_upto(key, compacted), compacted)
    }

    /// Gives up what compaction at `compacted` makes unreadable, in up to `keys_max` keys from `from` on, and calls
    /// `dropped` for each version. Returns where to go on, or None at the end.
    pub fn compact(
        &mut self,
        from: &[u8],
        keys_max: usize,
        compacted: i64,
        mut dropped: impl FnMut(&Version),
    ) -> Option<Vec<u8>> {
        let (pieces, next) = self.pieces_to_remove(from, keys_max, compacted, &mut dropped);
        for piece in pieces {
            self.versions -= piece.versions;
            Arc::make_mut(&mut self.root).remove(&piece.key, piece.first, piece.last);
            if piece.may_empty_key && self.newest_upto(&piece.key, i64::MAX).is_none() {
                self.keys -= 1;
                self.key_bytes -= piece.key.len();
            }
            while let Some(child) = self.root.only_child() {
                self.root = child;
            }
            if self.root.is_hollow() {
                self.root = Self::default().root;
            }
        }
        next
    }

    fn pieces_to_remove(
        &self,
        from: &[u8],
        keys_max: usize,
        compacted: i64,
        dropped: &mut impl FnMut(&Version),
    ) -> (Vec<Piece>, Option<Vec<u8>>) {
        let mut pieces = Vec::new();
        let mut at = self.seek(from);
        let mut left = keys_max.max(1);
        while at.go_to_key(self) {
            let key = at.leaf.key(at.place);
            if left == 0 {
                return (pieces, Some(key.to_vec()));
            }
            let versions = at.leaf.versions(at.place);
            let goes_on = at.key_goes_on();
            let newest = if goes_on { self.newest_upto(key, compacted) } else { newest_upto(versions, compacted) };
            let kept_from = kept_from(newest, compacted);
            let given_up = &versions[..versions.partition_point(|version| version.revision() < kept_from)];
            if let (Some(first), Some(last)) = (given_up.first(), given_up.last()) {
                given_up.iter().for_each(&mut *dropped);
                pieces.push(Piece {
                    key: key.to_vec(),
                    first: first.revision(),
                    last: last.revision(),
                    versions: given_up.len(),
                    may_empty_key: last.is_deletion(),
                });
            }
            // A leaf's share of a key counts as one key, so that the work is bounded for keys of many versions too.
            left -= 1;
            if goes_on && given_up.len() < versions.len() {
                at = self.seek_behind(key);
            } else {
                at.place += 1;
            }
        }
        (pieces, None)
    }
}

/// Versions of one key in one leaf.
struct Piece {
    key: Vec<u8>,
    first: Revision,
    last: Revision,
    versions: usize,
    may_empty_key: bool,
}

fn kept_from(newest: Option<&Version>, compacted: i64) -> Revision {
    match newest {
        None => Revision::default(),
        Some(version) if version.is_deletion() && version.revision().main < compacted => version.revision().after(),
        Some(version) => version.revision(),
    }
}

/// A key in a leaf, or the end of the leaf.
struct Place<'a> {
    leaf: &'a Leaf,
    place: usize,
    behind: Option<Bound<'a>>,
}

impl<'a> Place<'a> {
    /// Goes on to the next leaf if this one has no more keys. False at the end of the index.
    fn go_to_key(&mut self, index: &'a KeyIndex) -> bool {
        while self.place == self.leaf.len() {
            let Some((key, revision)) = self.behind else { return false };
            (self.leaf, self.behind) = index.root.leaf(key, revision);
            self.place = 0;
        }
        true
    }

    /// Whether the next leaf begins with more versions of this key.
    fn key_goes_on(&self) -> bool {
        self.place + 1 == self.leaf.len() && self.behind.is_some_and(|(key, _)| key == self.leaf.key(self.place))
    }
}

/// See [`KeyIndex::range_at`].
pub(crate) struct RangeAt<'a> {
    index: &'a KeyIndex,
    range: &'a KeyRange,
    revision: i64,
    leaf: Option<Place<'a>>,
    looked_at: usize,
}

impl RangeAt<'_> {
    /// How many keys were looked at, those included that did not exist at the revision.
    pub fn looked_at(&self) -> usize {
        self.looked_at
    }
}

impl<'a> Iterator for RangeAt<'a> {
    type Item = (&'a [u8], &'a Version);

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.leaf.as_mut()?;
        while at.go_to_key(self.index) {
            let leaf = at.leaf;
            let key = leaf.key(at.place);
            if !self.range.ends_behind(key) {
                break;
            }
            self.looked_at += 1;
            let version = if at.key_goes_on() {
                *at = self.index.seek_behind(key);
                self.index.newest_upto(key, self.revision)
            } else {
                at.place += 1;
                newest_upto(leaf.versions(at.place - 1), self.revision)
            };
            if let Some(version) = version.filter(|version| !version.is_deletion()) {
                return Some((key, version));
            }
        }
        self.leaf = None;
        None
    }
}
