//! What two nodes say to each other, to the byte: the hello, its answer, and the length before a frame.
//!
//! Owns layouts. Must not know of sockets, time or tasks. All numbers are big-endian.
//!
//! ```text
//! hello   magic[8] version_min:u16 version_max:u16 lane:u16 more:u16 cluster:u64 from:u64 to:u64      40 bytes
//!         disk:u64 disk_expected:u64 address_length:u16 address[address_length]                       `more` bytes
//! answer  magic[8] refusal:u16     version:u16     more:u16 zero:u16 cluster:u64 node:u64             32 bytes
//!         disk:u64                                                                                    `more` bytes
//! frame   length:u32 bytes[length]
//! echo    0xffffffff:u32                                  asked for, in the place of a frame, from version 4 on
//! echoed  0:u8                                            the answer, on the same connection
//! ```
//!
//! The first 40 bytes of a hello and the first 32 of an answer keep their layout in every version, so that two nodes
//! that share no version can still tell each other so. What follows them, at most 1024 bytes, may grow at its end: a
//! reader skips what only a later version knows. Version 1 has nothing there and zero in the place of `more`.
//!
//! A refusal of zero means accepted. A disk of zero is one that is not told or not known, and an empty address one that
//! is not told.
//!
//! A frame has no checksum. A receiver could do nothing with a mismatch but close the connection, TCP and the link
//! below already do that for all but a sliver of errors, and what must be right end to end (the entries) is checked by
//! the log that stores it. The length alone is distrusted: it is bounded, and never allocated on its word.

use bytes::{Buf, BufMut};
use vlot_raft::id::NodeId;

use super::refusal::Refusal;

/// The oldest and the newest protocol this node speaks.
pub(crate) const VERSION_MIN: u16 = 3;
pub(crate) const VERSION_MAX: u16 = 5;
/// The first version that knows an echo.
pub(crate) const ECHO_SINCE: u16 = 4;
/// The first version that knows entries that commands share.
pub(crate) const SHARED_SINCE: u16 = 5;
/// Asks for an echo. No frame is so long.
pub(crate) const ECHO: u32 = u32::MAX;

pub(crate) const MAGIC: [u8; 8] = *b"vlotpeer";
pub(crate) const HELLO_BYTES: usize = 40;
pub(crate) const ANSWER_BYTES: usize = 32;
/// How much may follow a hello or an answer, in every version.
pub(crate) const MORE_BYTES_MAX: usize = 1024;
/// The longest address that is told: a domain name at its longest, a colon and a port, rounded up.
pub(crate) use vlot_node::members::ADDRESS_BYTES_MAX;
pub(crate) const LENGTH_BYTES: usize = 4;

/// What a dialler says first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Hello {
    pub version_min: u16,
    pub version_max: u16,
    /// A number rather than a [`super::lane::Lane`]: a later version may dial a lane that this one does not have.
    pub lane: u16,
    /// How many bytes of [`Introduction`] follow.
    pub more: u16,
    pub cluster: u64,
    pub from: NodeId,
    pub to: NodeId,
}

impl Hello {
    pub fn encode(&self) -> [u8; HELLO_BYTES] {
        let mut bytes = [0; HELLO_BYTES];
        let mut out = &mut bytes[..];
        out.put_slice(&MAGIC);
        out.put_u16(self.version_min);
        out.put_u16(self.version_max);
        out.put_u16(self.lane);
        out.put_u16(self.more);
        out.put_u64(self.cluster);
        out.put_u64(self.from.0);
        out.put_u64(self.to.0);
        bytes
    }

    /// # Errors
    /// [`Refusal::NotVlot`] without the magic. What the numbers mean is not judged here.
    pub fn decode(bytes: &[u8; HELLO_BYTES]) -> Result<Self, Refusal> {
        let (magic, mut rest) = bytes.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(Refusal::NotVlot);
        }
        // The array's length is fixed: the reads below cannot run out of bytes.
        let (version_min, version_max) = (rest.get_u16(), rest.get_u16());
        let (lane, more) = (rest.get_u16(), rest.get_u16());
        let (cluster, from, to) = (rest.get_u64(), NodeId(rest.get_u64()), NodeId(rest.get_u64()));
        Ok(Self { version_min, version_max, lane, more, cluster, from, to })
    }
}

/// What a dialler says of itself after its hello.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Introduction {
    /// The disk the dialler has; zero if it does not tell.
    pub disk: u64,
    /// The disk that it expects the node it dials to have; zero if it does not know.
    pub disk_expected: u64,
    /// Where it listens, as `host:port`; empty if it does not tell.
    pub address: String,
}

impl Introduction {
    /// The bytes that follow a hello, which has to name their count. An address beyond the bound is not told.
    pub fn encode(&self) -> Vec<u8> {
        let address = Some(&self.address).filter(|address| address.len() <= ADDRESS_BYTES_MAX);
        let address = address.map_or(&[][..], |address| address.as_bytes());
        let mut bytes = Vec::with_capacity(18 + address.len());
        bytes.put_u64(self.disk);
        bytes.put_u64(self.disk_expected);
        bytes.put_u16(address.len() as u16);
        bytes.put_slice(address);
        bytes
    }

    /// # Errors
    /// [`Refusal::Garbled`] if these are no such bytes.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, Refusal> {
        Self::read(&mut bytes).ok_or(Refusal::Garbled)
    }

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        let (disk, disk_expected) = (bytes.try_get_u64().ok()?, bytes.try_get_u64().ok()?);
        let length = usize::from(bytes.try_get_u16().ok()?);
        let address = bytes.get(..length).filter(|_| length <= ADDRESS_BYTES_MAX)?;
        let address = std::str::from_utf8(address).ok()?.to_owned();
        Some(Self { disk, disk_expected, address })
    }
}

/// What the node that was dialled says to a hello.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Answer {
    /// The version both will speak, or why there will be no talk.
    pub verdict: Result<u16, Refusal>,
    pub cluster: u64,
    pub node: NodeId,
    /// The disk the node has; zero if it does not tell.
    pub disk: u64,
}

impl Answer {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(ANSWER_BYTES + size_of::<u64>());
        bytes.put_slice(&MAGIC);
        bytes.put_u16(self.verdict.map_or_else(Refusal::number, |_| 0));
        bytes.put_u16(self.verdict.unwrap_or(VERSION_MAX));
        bytes.put_u16(size_of::<u64>() as u16);
        bytes.put_u16(0);
        bytes.put_u64(self.cluster);
        bytes.put_u64(self.node.0);
        bytes.put_u64(self.disk);
        bytes
    }

    /// The answer of which these are the first bytes, without the disk, and how many bytes follow.
    ///
    /// # Errors
    /// [`Refusal::NotVlot`] without the magic.
    pub fn decode(bytes: &[u8; ANSWER_BYTES]) -> Result<(Self, u16), Refusal> {
        let (magic, mut rest) = bytes.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(Refusal::NotVlot);
        }
        // The array's length is fixed: the reads below cannot run out of bytes.
        let (refusal, version, more) = (rest.get_u16(), rest.get_u16(), rest.get_u16());
        rest.advance(2);
        let (cluster, node) = (rest.get_u64(), NodeId(rest.get_u64()));
        let verdict = if refusal == 0 { Ok(version) } else { Err(Refusal::from_number(refusal)) };
        Ok((Self { verdict, cluster, node, disk: 0 }, more))
    }

    /// The disk, from what follows those first bytes.
    ///
    /// # Errors
    /// [`Refusal::Garbled`] if these are no such bytes.
    pub fn decode_disk(mut bytes: &[u8]) -> Result<u64, Refusal> {
        bytes.try_get_u64().map_err(|_| Refusal::Garbled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: Hello =
        Hello { version_min: 2, version_max: 7, lane: 2, more: 21, cluster: 9, from: NodeId(3), to: NodeId(4) };

    fn introduction(address: &str) -> Introduction {
        Introduction { disk: 5, disk_expected: 6, address: address.into() }
    }

    #[test]
    fn a_hello_is_laid_out_as_documented() {
        let bytes = HELLO.encode();
        assert_eq!(&bytes[..8], b"vlotpeer");
        assert_eq!(bytes[8..16], [0, 2, 0, 7, 0, 2, 0, 21]);
        assert_eq!(bytes[16..40], [0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4]);
        assert_eq!(Hello::decode(&bytes), Ok(HELLO));
    }

    #[test]
    fn an_introduction_is_laid_out_as_documented() {
        let bytes = introduction("a:1").encode();
        assert_eq!(bytes, b"\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x06\0\x03a:1");
        assert_eq!(Introduction::decode(&bytes), Ok(introduction("a:1")));
        assert_eq!(Introduction::decode(&introduction("").encode()), Ok(introduction("")));
    }

    #[test]
    fn what_only_a_later_version_adds_is_skipped() {
        let mut bytes = introduction("a:1").encode();
        bytes.extend_from_slice(b"whatever");
        assert_eq!(Introduction::decode(&bytes), Ok(introduction("a:1")));
        assert_eq!(Answer::decode_disk(b"\0\0\0\0\0\0\0\x05whatever"), Ok(5));
    }

    #[test]
    fn an_introduction_that_is_cut_or_no_text_is_garbled() {
        let whole = introduction("a:1").encode();
        for length in 0..whole.len() {
            assert_eq!(Introduction::decode(&whole[..length]), Err(Refusal::Garbled), "{length} bytes");
        }
        let mut no_text = whole.clone();
        no_text[18] = 0xff;
        assert_eq!(Introduction::decode(&no_text), Err(Refusal::Garbled));
        let mut longer = whole;
        (longer[16], longer[17]) = (0xff, 0xff);
        assert_eq!(Introduction::decode(&longer), Err(Refusal::Garbled));
        assert_eq!(Answer::decode_disk(b"\0\0\0\0\0\0\0"), Err(Refusal::Garbled));
    }

    #[test]
    fn an_address_beyond_the_bound_is_neither_told_nor_believed() {
        let longest = introduction(&"a".repeat(ADDRESS_BYTES_MAX));
        assert_eq!(Introduction::decode(&longest.encode()), Ok(longest.clone()));
        assert!(longest.encode().len() <= MORE_BYTES_MAX);
        let mut beyond = longest.encode();
        beyond[16..18].copy_from_slice(&(ADDRESS_BYTES_MAX as u16 + 1).to_be_bytes());
        beyond.push(b'a');
        assert_eq!(Introduction::decode(&beyond), Err(Refusal::Garbled));
        let untold = introduction(&"a".repeat(ADDRESS_BYTES_MAX + 1)).encode();
        assert_eq!(Introduction::decode(&untold), Ok(introduction("")));
    }

    #[test]
    fn every_answer_survives_the_wire() {
        for verdict in Refusal::ALL.into_iter().map(Err).chain([Ok(2), Ok(7)]) {
            let answer = Answer { verdict, cluster: 9, node: NodeId(4), disk: 5 };
            let bytes = answer.encode();
            let (first, rest) = bytes.split_first_chunk().unwrap();
            let (decoded, more) = Answer::decode(first).unwrap();
            assert_eq!(usize::from(more), rest.len());
            assert_eq!(Answer { disk: Answer::decode_disk(rest).unwrap(), ..decoded }, answer);
        }
    }

    #[test]
    fn a_reason_of_a_later_version_is_still_a_refusal() {
        let mut bytes = [0; ANSWER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&[0x12, 0x34]);
        assert_eq!(Answer::decode(&bytes).map(|(answer, _)| answer.verdict), Ok(Err(Refusal::Unrecognised)));
    }

    #[test]
    fn without_the_magic_nothing_is_believed() {
        let mut hello = HELLO.encode();
        hello[7] ^= 1;
        assert_eq!(Hello::decode(&hello), Err(Refusal::NotVlot));
        assert_eq!(Answer::decode(&[0; ANSWER_BYTES]), Err(Refusal::NotVlot));
    }
}
