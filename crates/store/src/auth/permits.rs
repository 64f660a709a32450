//! What is permitted to a user: ranges of keys, made once of all the permissions of all roles.
//!
//! Owns etcd's rules for permissions on keys and ranges, and that a request is permitted if the union of what is granted
//! covers it.

use bytes::Bytes;
use vlot_proto::authpb::Permission;
use vlot_proto::authpb::permission::Type;

use crate::mvcc::key_range::KeyRange;

/// What a user may read and write.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Permits {
    /// What may be read.
    pub read: Ranges,
    /// What may be written.
    pub write: Ranges,
}

/// Ranges of keys, in order; no two of them touch.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Ranges {
    /// From a key on, up to but without another, if there is an end.
    spans: Vec<(Bytes, Option<Bytes>)>,
}

impl Permits {
    /// What these permissions permit together.
    pub(super) fn of<'a>(permissions: impl Iterator<Item = &'a Permission>) -> Self {
        let (mut read, mut write) = (Vec::new(), Vec::new());
        for permission in permissions {
            let span = span_of(permission);
            let kind = Type::try_from(permission.perm_type);
            if matches!(kind, Ok(Type::Read | Type::Readwrite)) {
                read.push(span.clone());
            }
            if matches!(kind, Ok(Type::Write | Type::Readwrite)) {
                write.push(span);
            }
        }
        Self { read: Ranges::united(read), write: Ranges::united(write) }
    }
}

/// Whether a permission can be for this key and range end.
pub(super) fn is_valid(key: &[u8], range_end: &[u8]) -> bool {
    !key.is_empty() && (range_end.is_empty() || range_end == [0] || key < range_end)
}

/// The keys of a permission, from and up to.
fn span_of(permission: &Permission) -> (Bytes, Option<Bytes>) {
    let start = Bytes::copy_from_slice(&permission.key);
    match KeyRange::of(&permission.key, &permission.range_end) {
        KeyRange::Single(key) => (start, Some([&key[..], &[0]].concat().into())),
        KeyRange::Span { end, .. } => (start, Some(Bytes::copy_from_slice(&end))),
        KeyRange::From { .. } => (start, None),
    }
}

impl Ranges {
    fn united(mut spans: Vec<(Bytes, Option<Bytes>)>) -> Self {
        spans.sort_unstable();
        let mut united: Vec<(Bytes, Option<Bytes>)> = Vec::with_capacity(spans.len());
        for (start, end) in spans {
            match united.last_mut() {
                Some((_, last)) if last.as_ref().is_none_or(|last| start <= *last) => {
                    *last = last.take().zip(end).map(|(left, right)| left.max(right));
                }
                _ => united.push((start, end)),
            }
        }
        Self { spans: united }
    }

    /// Whether all keys of a range are among these. A range without keys is covered if its first one would be.
    pub(crate) fn cover(&self, range: &KeyRange) -> bool {
        let behind = self.spans.partition_point(|(start, _)| &start[..] <= range.start());
        let Some((_, end)) = behind.checked_sub(1).map(|place| &self.spans[place]) else { return false };
        let Some(end) = end else { return true };
        match range {
            KeyRange::From { .. } => false,
            KeyRange::Span { end: upto, .. } if !range.is_empty() => upto <= end,
            KeyRange::Single(key) | KeyRange::Span { start: key, .. } => key < end,
        }
    }

    /// Whether this key is among them.
    #[must_use]
    pub fn has(&self, key: &[u8]) -> bool {
        let behind = self.spans.partition_point(|(start, _)| &start[..] <= key);
        let span = behind.checked_sub(1).map(|place| &self.spans[place]);
        span.is_some_and(|(_, end)| end.as_ref().is_none_or(|end| key < &end[..]))
    }

    /// The ranges, in order: from a key on, up to but without another if there is one.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.spans.iter().map(|(start, end)| (&start[..], end.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permission(kind: Type, key: &'static str, range_end: &'static str) -> Permission {
        Permission { perm_type: kind.into(), key: key.into(), range_end: range_end.into() }
    }

    #[test]
    fn a_permission_is_for_a_key_a_range_or_all_from_a_key_on() {
        let rows = [
            ("a", "", true),
            ("a", "b", true),
            ("a", "\0", true),
            ("\0", "\0", true),
            ("", "", false),
            ("", "b", false),
            ("b", "b", false),
            ("b", "a", false),
        ];
        for (key, range_end, expected) in rows {
            assert_eq!(is_valid(key.as_bytes(), range_end.as_bytes()), expected, "{key:?} {range_end:?}");
        }
    }

    #[test]
    fn a_request_is_covered_by_the_union_of_what_is_granted() {
        let granted = [
            permission(Type::Read, "c", "e"),
            permission(Type::Readwrite, "e", "g"),
            permission(Type::Read, "b", ""),
            permission(Type::Write, "k", ""),
            permission(Type::Readwrite, "x", "\0"),
            permission(Type::Read, "k", "k\0a"),
        ];
        let Permits { read, write } = Permits::of(granted.iter());
        // Key, range end, whether it may be read, whether it may be written.
        let rows = [
            ("a", "", false, false),
            ("b", "", true, false),
            ("b", "b\0", true, false),
            ("b", "b\0\0", false, false),
            ("b", "c", false, false),
            ("c", "g", true, false),
            ("c", "ga", false, false),
            ("e", "g", true, true),
            ("d", "f", true, false),
            ("g", "", false, false),
            ("k", "", true, true),
            ("k", "k\0\0", true, false),
            ("k", "\0", false, false),
            ("x", "\0", true, true),
            ("xy", "\0", true, true),
            ("w", "\0", false, false),
            ("y", "z", true, true),
            // Ranges without keys.
            ("d", "c", true, false),
            ("a", "a", false, false),
        ];
        for (key, range_end, reads, writes) in rows {
            let range = KeyRange::of(&key.into(), &range_end.into());
            assert_eq!((read.cover(&range), write.cover(&range)), (reads, writes), "{range:?}");
        }
        assert_eq!(read.iter().count(), 4);
    }

    #[test]
    fn a_kind_that_is_not_known_permits_nothing() {
        let unknown = Permission { perm_type: 3, ..permission(Type::Read, "\0", "\0") };
        assert_eq!(Permits::of([unknown].iter()), Permits::default());
    }
}
