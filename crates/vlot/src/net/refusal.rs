//! Why a handshake fails: the reasons, and their numbers on the wire.

use std::fmt;

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Refusal {
    /// What arrived is not this protocol.
    NotVlot,
    /// The two share no version.
    NoCommonVersion,
    /// The two belong to different clusters.
    WrongCluster,
    /// The dialler reached another node than it meant to.
    WrongNode,
    /// The dialler cannot be a peer: it claims to be the node that it dials.
    UnknownNode,
    /// The lane is one this version does not have.
    UnknownLane,
    /// The caller did not introduce itself in time.
    TooSlow,
    /// The caller hung up before it had introduced itself.
    CutShort,
    /// Too many callers had not introduced themselves, and this was the oldest of them.
    Crowded,
    /// What the caller or the one it called says of itself makes no sense.
    Garbled,
    /// The dialler is not among the peers, and there are as many unlisted peers as may be.
    TooManyUnlisted,
    /// One of the two has another disk than the one that is entitled to its seat.
    OtherDisk,
    /// A connection in the clear, where TLS is required.
    NoTls,
    /// TLS, where connections are in the clear.
    TlsUnexpected,
    /// The caller shows no certificate.
    NoCertificate,
    /// The other end's certificate has expired.
    Expired,
    /// The other end's certificate is not valid yet.
    NotYetValid,
    /// The other end's certificate is signed by no CA that is trusted.
    UnknownAuthority,
    /// The other end's certificate is revoked.
    Revoked,
    /// The other end's certificate has none of the names that are allowed, or is not that of the node that it claims to be.
    WrongName,
    /// The other end's certificate is not good for another reason.
    BadCertificate,
    /// The two ends have no version or cipher suite in common, or what came is no TLS.
    TlsFailed,
    /// The other end has ended the TLS handshake.
    TlsDenied,
    /// A reason that only a later version knows.
    Unrecognised,
}

impl Refusal {
    pub(crate) const ALL: [Self; 24] = [
        Self::NotVlot,
        Self::NoCommonVersion,
        Self::WrongCluster,
        Self::WrongNode,
        Self::UnknownNode,
        Self::UnknownLane,
        Self::TooSlow,
        Self::CutShort,
        Self::Crowded,
        Self::Garbled,
        Self::TooManyUnlisted,
        Self::OtherDisk,
        Self::NoTls,
        Self::TlsUnexpected,
        Self::NoCertificate,
        Self::Expired,
        Self::NotYetValid,
        Self::UnknownAuthority,
        Self::Revoked,
        Self::WrongName,
        Self::BadCertificate,
        Self::TlsFailed,
        Self::TlsDenied,
        Self::Unrecognised,
    ];

    /// One word for it, as counters name it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NotVlot => "not_vlot",
            Self::NoCommonVersion => "version",
            Self::WrongCluster => "wrong_cluster",
            Self::WrongNode => "wrong_node",
            Self::UnknownNode => "unknown_node",
            Self::UnknownLane => "unknown_lane",
            Self::TooSlow => "too_slow",
            Self::CutShort => "cut_short",
            Self::Crowded => "crowded",
            Self::Garbled => "garbled",
            Self::TooManyUnlisted => "too_many_unlisted",
            Self::OtherDisk => "other_disk",
            Self::NoTls => "no_tls",
            Self::TlsUnexpected => "tls_unexpected",
            Self::NoCertificate => "no_certificate",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::UnknownAuthority => "unknown_ca",
            Self::Revoked => "revoked",
            Self::WrongName => "wrong_name",
            Self::BadCertificate => "bad_certificate",
            Self::TlsFailed => "tls_failed",
            Self::TlsDenied => "tls_denied",
            Self::Unrecognised => "unrecognised",
        }
    }

    /// Where the reason's count stands in an array with one element per reason.
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// The number on the wire. Zero is "accepted"; a number keeps its meaning for ever.
    pub(crate) fn number(self) -> u16 {
        match self {
            Self::NotVlot => 1,
            Self::NoCommonVersion => 2,
            Self::WrongCluster => 3,
            Self::WrongNode => 4,
            Self::UnknownNode => 5,
            Self::UnknownLane => 6,
            Self::TooSlow => 7,
            Self::CutShort => 8,
            Self::Crowded => 9,
            Self::Garbled => 10,
            Self::TooManyUnlisted => 11,
            Self::OtherDisk => 12,
            Self::NoTls => 13,
            Self::TlsUnexpected => 14,
            Self::NoCertificate => 15,
            Self::Expired => 16,
            Self::NotYetValid => 17,
            Self::UnknownAuthority => 18,
            Self::Revoked => 19,
            Self::WrongName => 20,
            Self::BadCertificate => 21,
            Self::TlsFailed => 22,
            Self::TlsDenied => 23,
            Self::Unrecognised => u16::MAX,
        }
    }

    /// The reason of that number. What a later version calls a reason is one all the same.
    pub(crate) fn from_number(number: u16) -> Self {
        Self::ALL.into_iter().find(|refusal| refusal.number() == number).unwrap_or(Self::Unrecognised)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotVlot => "not the peers' protocol; is it another program's port?",
            Self::NoCommonVersion => "no common version of the peers' protocol; upgrade the older of the two nodes",
            Self::WrongCluster => "a node of another cluster; correct the address, or give all nodes of one cluster its number",
            Self::WrongNode => "another node than expected; correct the address of the one, or the number of the other",
            Self::UnknownNode => "a node with this node's own number; give each node a number of its own",
            Self::UnknownLane => "unknown lane",
            Self::TooSlow => "too slow to introduce itself",
            Self::CutShort => "hung up before introducing itself",
            Self::Crowded => "too many unknown callers",
            Self::Garbled => "an introduction that makes no sense",
            Self::TooManyUnlisted => "not a peer, and too many unlisted",
            Self::OtherDisk => "another disk than the node is known to have: what it had vouched for is lost; remove the member and add it \
                                again, with an empty directory",
            Self::NoTls => "no TLS, which is required; is the scheme of the address to be https?",
            Self::TlsUnexpected => "TLS, where none is expected; is the scheme of the address to be http?",
            Self::NoCertificate => "no certificate; give every node one, of a CA that all trust",
            Self::Expired => "an expired certificate; replace its files, they are read again at the next attempt",
            Self::NotYetValid => "a certificate that is not valid yet; is the clock right?",
            Self::UnknownAuthority => "a certificate of an unknown CA; have one CA sign the certificates of all nodes, and let all trust it",
            Self::Revoked => "a revoked certificate",
            Self::WrongName => "a certificate for another name; it must be good for the host at which the node is dialled",
            Self::BadCertificate => "a certificate that is not good",
            Self::TlsFailed => "the TLS handshake failed",
            Self::TlsDenied => "the other end refused the TLS handshake; its log says why: is this node's certificate of a CA that it trusts?",
            Self::Unrecognised => "a reason of a later version",
        })
    }
}
