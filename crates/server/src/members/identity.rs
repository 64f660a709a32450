//! Which node of which cluster this is: the ids, and how they are computed.
//!
//! The ids of a cluster's first members must never change for the same addresses, or a node that starts again would be a
//! stranger to its own data.

use std::time::Duration;

use crate::config::Url;

/// The ids by which a node and its cluster are known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Identity {
    pub(crate) cluster: u64,
    pub(crate) member: u64,
}

/// A member's id: a hash of its peer URLs, in order, and the cluster's token. Its name is not part of it, so that a
/// member may be renamed.
pub(crate) fn member_id(peer_urls: &[Url], token: &str) -> u64 {
    let mut urls = Url::texts(peer_urls);
    urls.sort();
    let mut hash = StableHash::new(b"vlot member 1");
    urls.iter().for_each(|url| hash.field(url.as_bytes()));
    hash.field(token.as_bytes());
    hash.id()
}

/// An id for a member that comes in at this moment: another one each time, so that no former member is taken for
/// a new one with the same addresses.
pub(crate) fn fresh_member_id(
    peer_urls: &[Url],
    token: &str,
    since_1970: Duration,
    is_taken: impl Fn(u64) -> bool,
) -> u64 {
    let mut urls = Url::texts(peer_urls);
    urls.sort();
    let id = |attempt: u64| {
        let mut hash = StableHash::new(b"vlot member that joins 1");
        urls.iter().for_each(|url| hash.field(url.as_bytes()));
        hash.field(token.as_bytes());
        hash.field(&since_1970.as_nanos().to_be_bytes());
        hash.field(&attempt.to_be_bytes());
        hash.id()
    };
    // Of 2^64 ids not all are taken.
    (0..).map(id).find(|id| !is_taken(*id)).unwrap_or(1)
}

/// A cluster's id: a hash of its first members' ids, in order, and its token.
pub(crate) fn cluster_id(members: impl Iterator<Item = u64>, token: &str) -> u64 {
    let mut members: Vec<u64> = members.collect();
    members.sort_unstable();
    let mut hash = StableHash::new(b"vlot cluster 1");
    members.iter().for_each(|id| hash.field(&id.to_be_bytes()));
    hash.field(token.as_bytes());
    hash.id()
}

/// The id of the cluster that a member begins alone after this one has lost its quorum. It follows from what the member knows,
/// so that a command which was killed half way can be given again; and another member would begin another cluster.
pub(crate) fn recovered_cluster_id(lost: u64, member: u64) -> u64 {
    let mut hash = StableHash::new(b"vlot cluster that recovered 1");
    hash.field(&lost.to_be_bytes());
    hash.field(&member.to_be_bytes());
    hash.id()
}

/// FNV-1a with 64 bits over fields that are preceded by their lengths, finished by the mixer of SplitMix64 so that
/// ids of neighbouring addresses do not look alike.
struct StableHash(u64);

impl StableHash {
    fn new(purpose: &[u8]) -> StableHash {
        let mut hash = StableHash(0xcbf2_9ce4_8422_2325);
        hash.field(purpose);
        hash
    }

    fn field(&mut self, bytes: &[u8]) {
        for byte in (bytes.len() as u64).to_be_bytes().iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Never zero, which stands for "none" in etcd's messages.
    fn id(&self) -> u64 {
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(list: &str) -> Vec<Url> {
        Url::parse_list(list).unwrap()
    }

    #[test]
    fn ids_never_change() {
        let member = member_id(&urls("http://localhost:2380"), "etcd-cluster");
        let cluster = cluster_id([member].into_iter(), "etcd-cluster");
        assert_eq!((member, cluster), (0xdc50_1636_4079_6788, 0xd309_f1a8_00c5_2610));
    }

    #[test]
    fn ids_depend_on_addresses_and_token_and_not_on_their_order() {
        let id = |list, token| member_id(&urls(list), token);
        assert_eq!(id("http://a:1,http://b:2", "t"), id("http://b:2,http://a:1", "t"));
        assert_ne!(id("http://a:1", "t"), id("http://a:2", "t"));
        assert_ne!(id("http://a:1", "t"), id("http://a:1", "u"));
        assert_eq!(cluster_id([1, 2].into_iter(), "t"), cluster_id([2, 1].into_iter(), "t"));
        assert_ne!(cluster_id([1, 2].into_iter(), "t"), cluster_id([1, 3].into_iter(), "t"));
    }

    #[test]
    fn a_member_that_joins_has_an_id_that_nobody_had() {
        let id = |nanos, is_taken: &dyn Fn(u64) -> bool| {
            fresh_member_id(&urls("http://a:1"), "t", Duration::from_nanos(nanos), is_taken)
        };
        let first = id(1, &|_| false);
        assert_ne!(first, member_id(&urls("http://a:1"), "t"));
        assert_ne!(first, id(2, &|_| false));
        let second = id(1, &|id| id == first);
        assert!(![0, first].contains(&second));
    }
}
