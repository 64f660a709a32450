//! Ranges of keys as etcd writes them: a key and an end, with two special ends.

use bytes::Bytes;

/// As an end: all keys from the first one on.
pub const NO_END: &[u8] = b"\0";

/// A request's `key` and `range_end`; an empty end means the key alone.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeyRange {
    pub key: Bytes,
    pub end: Bytes,
}

impl KeyRange {
    /// Keys in `[key, end)`; the key alone if there is no end.
    pub fn between(key: Bytes, end: Option<Bytes>) -> KeyRange {
        KeyRange { key, end: end.unwrap_or_default() }
    }

    /// All keys that begin so; all keys there are for the empty prefix.
    pub fn with_prefix(prefix: Bytes) -> KeyRange {
        if prefix.is_empty() {
            return KeyRange::from(prefix);
        }
        let end = prefix_end(&prefix);
        KeyRange { key: prefix, end }
    }

    /// This key and all after it. A request may not have an empty key, so the first possible one stands for it.
    pub fn from(key: Bytes) -> KeyRange {
        let key = if key.is_empty() { Bytes::from_static(b"\0") } else { key };
        KeyRange { key, end: Bytes::from_static(NO_END) }
    }
}

/// The first key after all that begin with `prefix`.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    match prefix.iter().rposition(|byte| *byte < 0xff) {
        Some(last) => {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            Bytes::from(end)
        }
        None => Bytes::from_static(NO_END),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_its_successor() {
        for (prefix, key, end) in [
            (&b"a"[..], &b"a"[..], &b"b"[..]),
            (b"a\xff", b"a\xff", b"b"),
            (b"az\xff\xff", b"az\xff\xff", b"a{"),
            (b"\xff\xff", b"\xff\xff", b"\0"),
            (b"", b"\0", b"\0"),
        ] {
            let range = KeyRange::with_prefix(Bytes::from_static(prefix));
            assert_eq!((&range.key[..], &range.end[..]), (key, end));
        }
    }
}
