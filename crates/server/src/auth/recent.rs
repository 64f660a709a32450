//! What was seen lately, within a bound: the older half goes when the newer one is full.
//!
//! Must not know what is remembered, or why.

use std::collections::HashMap;
use std::hash::Hash;

/// A map that forgets. It holds no more than twice what one half may, and no less than the newest half.
pub(super) struct Recent<K, V> {
    newer: HashMap<K, V>,
    older: HashMap<K, V>,
    half: usize,
}

impl<K: Eq + Hash, V: Clone> Recent<K, V> {
    pub(super) fn new(half: usize) -> Recent<K, V> {
        Recent { newer: HashMap::new(), older: HashMap::new(), half }
    }

    /// What is known of a key. What is asked for counts as seen.
    pub(super) fn get(&mut self, key: &K) -> Option<V>
    where
        K: Clone,
    {
        if let Some(value) = self.newer.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.older.remove_entry(key)?;
        self.insert(key, value.clone());
        Some(value)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.newer.len() >= self.half && !self.newer.contains_key(&key) {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(key, value);
    }

    pub(super) fn clear(&mut self) {
        self.newer.clear();
        self.older.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stays_and_the_rest_goes() {
        let mut recent = Recent::new(4);
        recent.insert(0, "kept");
        for key in 1..100 {
            assert_eq!(recent.get(&0), Some("kept"));
            recent.insert(key, "passing");
            assert!(recent.newer.len() + recent.older.len() <= 8);
        }
        assert_eq!((recent.get(&99), recent.get(&1)), (Some("passing"), None));
        recent.clear();
        assert_eq!(recent.get(&0), None);
    }
}
