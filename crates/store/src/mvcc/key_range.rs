//! Which keys a request means.
//!
//! Owns etcd's rules for `key` and `range_end`: they are turned into a [`KeyRange`] once, so that "one key" and "from
//! this key on" are never taken for each other.

use bytes::Bytes;

/// The keys that a request means.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum KeyRange {
    /// Just this key.
    Single(Bytes),
    /// From `start` on, up to but without `end`.
    Span { start: Bytes, end: Bytes },
    /// From `start` on.
    From { start: Bytes },
}

impl KeyRange {
    /// The range that `key` and `range_end` stand for: no end is one key, an end of one zero byte is all that follow.
    pub fn of(key: &Bytes, range_end: &Bytes) -> Self {
        match &range_end[..] {
            [] => Self::Single(key.clone()),
            [0] => Self::From { start: key.clone() },
            _ => Self::Span { start: key.clone(), end: range_end.clone() },
        }
    }

    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Span { start, end } if start >= end)
    }

    #[cfg(test)]
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::Single(only) => only == key,
            Self::Span { start, end } => &start[..] <= key && key < &end[..],
            Self::From { start } => &start[..] <= key,
        }
    }

    /// The first key that may be in the range.
    pub fn start(&self) -> &[u8] {
        match self {
            Self::Single(start) | Self::Span { start, .. } | Self::From { start } => start,
        }
    }

    /// Makes it begin with this key, which is in it.
    pub fn start_at(&mut self, key: Bytes) {
        match self {
            Self::Single(start) | Self::Span { start, .. } | Self::From { start } => *start = key,
        }
    }

    /// Whether a key that is not before the start is in the range.
    pub fn ends_behind(&self, key: &[u8]) -> bool {
        match self {
            Self::Single(only) => only == key,
            Self::Span { end, .. } => key < &end[..],
            Self::From { .. } => true,
        }
    }

    /// The same keys, in memory of their own: a request's slices would hold on to the whole buffer they came in.
    pub fn detached(&self) -> Self {
        let copy = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
        match self {
            Self::Single(only) => Self::Single(copy(only)),
            Self::Span { start, end } => Self::Span { start: copy(start), end: copy(end) },
            Self::From { start } => Self::From { start: copy(start) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_and_range_end_mean_what_etcd_says() {
        // Key, range_end, whether it is empty, what it holds, what it does not.
        type Row = (&'static str, &'static str, bool, &'static [&'static str], &'static [&'static str]);
        let rows: [Row; 6] = [
            ("b", "", false, &["b"], &["a", "ba", "c"]),
            ("b", "\0", false, &["b", "ba", "c"], &["a"]),
            ("\0", "\0", false, &["\0", "a", "z"], &[]),
            ("b", "c", false, &["b", "ba", "bz"], &["a", "c"]),
            ("b", "b", true, &[], &["a", "b", "c"]),
            ("c", "b", true, &[], &["b", "bb", "c"]),
        ];
        for (key, range_end, empty, inside, outside) in rows {
            let range = KeyRange::of(&key.into(), &range_end.into());
            assert_eq!(range.is_empty(), empty, "{range:?}");
            assert!(inside.iter().all(|key| range.contains(key.as_bytes())), "{range:?}");
            assert!(!outside.iter().any(|key| range.contains(key.as_bytes())), "{range:?}");
        }
    }
}
