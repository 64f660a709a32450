//! The whole index at once: given out in order, and built from what comes in order.
//!
//! Owns how full the nodes of a built index are. Must not know where its keys come from or go to.

use std::sync::Arc;

use super::KeyIndex;
use super::node::{Leaf, Node};
use super::version::Version;

impl KeyIndex {
    /// Visits all keys in order, each with its versions, oldest first. A key with many versions may be visited several
    /// times in a row, each time with later ones.
    pub fn visit_all<E>(&self, visit: &mut impl FnMut(&[u8], &[Version]) -> Result<(), E>) -> Result<(), E> {
        self.root.visit_leaves(&mut |leaf| {
            (0..leaf.len()).try_for_each(|place| visit(leaf.key(place), leaf.versions(place)))
        })
    }
}

/// Builds an index from keys and versions in the order of [`KeyIndex::visit_all`].
#[derive(Debug, Default)]
pub(crate) struct Builder {
    leaf: Leaf,
    leaves: Vec<Arc<Node>>,
    keys: usize,
    versions: usize,
    key_bytes: usize,
}

impl Builder {
    /// Adds the next version: of the same key a later one, or the first of a later key. False if it is neither.
    #[must_use]
    pub fn push(&mut self, key: &[u8], version: Version) -> bool {
        let follows = match self.leaf.last() {
            None => true,
            Some((last, before)) if last == key => before.revision() < version.revision(),
            Some((last, _)) => last < key,
        };
        if !follows {
            return false;
        }
        if self.leaf.last().is_none_or(|(last, _)| last != key) {
            self.keys += 1;
            self.key_bytes += key.len();
        }
        self.versions += 1;
        if self.leaf.is_filled(key.len()) {
            let filled = self.leaf.take_filled();
            self.leaves.push(Arc::new(Node::Leaf(filled)));
        }
        self.leaf.push_last(key, version);
        true
    }

    pub fn finish(mut self) -> KeyIndex {
        let last = self.leaf.take_filled();
        if self.versions > 0 {
            self.leaves.push(Arc::new(Node::Leaf(last)));
        }
        let Some(root) = Node::over(self.leaves) else { return KeyIndex::default() };
        KeyIndex { root, keys: self.keys, versions: self.versions, key_bytes: self.key_bytes }
    }
}
