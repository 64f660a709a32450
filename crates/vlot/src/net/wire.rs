//! What two nodes say to each other, to the byte: the hello, its answer, and the length before a frame.
//!
//! Owns layouts. Must not know of sockets, time or tasks. All numbers are big-endian.
//!
//! ```text
//! hello   magic[8] version_min:u16 version_max:u16 lane:u16 zero:u16 cluster:u64 from:u64 to:u64      40 bytes
//! answer  magic[8] refusal:u16     version:u16     zero:u32          cluster:u64 node:u64             32 bytes
//! frame   length:u32 bytes[length]
//! ```
//!
//! The hello and the answer keep their lengths in every version, so that two nodes that share no version can still
//! tell each other so. A refusal of zero means accepted.
//!
//! A frame has no checksum. A receiver could do nothing with a mismatch but close the connection, TCP and the link
//! below already do that for all but a sliver of errors, and what must be right end to end (the entries) is checked by
//! whoever stores it. The length alone is distrusted: it is bounded, and never allocated on its word.

use bytes::{Buf, BufMut};
use vlot_raft::id::NodeId;

use super::refusal::Refusal;

/// The oldest and the newest protocol this node speaks.
pub(crate) const VERSION_MIN: u16 = 1;
pub(crate) const VERSION_MAX: u16 = 1;

pub(crate) const MAGIC: [u8; 8] = *b"vlotpeer";
pub(crate) const HELLO_BYTES: usize = 40;
pub(crate) const ANSWER_BYTES: usize = 32;
pub(crate) const LENGTH_BYTES: usize = 4;

/// What a dialler says first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Hello {
    pub version_min: u16,
    pub version_max: u16,
    /// A number rather than a [`super::lane::Lane`]: a later version may dial a lane that this one does not have.
    pub lane: u16,
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
        out.put_u16(0);
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
        let (version_min, version_max, lane) = (rest.get_u16(), rest.get_u16(), rest.get_u16());
        rest.advance(2);
        let (cluster, from, to) = (rest.get_u64(), NodeId(rest.get_u64()), NodeId(rest.get_u64()));
        Ok(Self { version_min, version_max, lane, cluster, from, to })
    }
}

/// What the node that was dialled says to a hello.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Answer {
    /// The version both will speak, or why there will be no talk.
    pub verdict: Result<u16, Refusal>,
    pub cluster: u64,
    pub node: NodeId,
}

impl Answer {
    pub fn encode(&self) -> [u8; ANSWER_BYTES] {
        let mut bytes = [0; ANSWER_BYTES];
        let mut out = &mut bytes[..];
        out.put_slice(&MAGIC);
        out.put_u16(self.verdict.map_or_else(Refusal::number, |_| 0));
        out.put_u16(self.verdict.unwrap_or(VERSION_MAX));
        out.put_u32(0);
        out.put_u64(self.cluster);
        out.put_u64(self.node.0);
        bytes
    }

    /// # Errors
    /// [`Refusal::NotVlot`] without the magic.
    pub fn decode(bytes: &[u8; ANSWER_BYTES]) -> Result<Self, Refusal> {
        let (magic, mut rest) = bytes.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(Refusal::NotVlot);
        }
        // The array's length is fixed: the reads below cannot run out of bytes.
        let (refusal, version) = (rest.get_u16(), rest.get_u16());
        rest.advance(4);
        let (cluster, node) = (rest.get_u64(), NodeId(rest.get_u64()));
        let verdict = if refusal == 0 { Ok(version) } else { Err(Refusal::from_number(refusal)) };
        Ok(Self { verdict, cluster, node })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: Hello = Hello { version_min: 1, version_max: 7, lane: 2, cluster: 9, from: NodeId(3), to: NodeId(4) };

    #[test]
    fn a_hello_is_laid_out_as_documented() {
        let bytes = HELLO.encode();
        assert_eq!(&bytes[..8], b"vlotpeer");
        assert_eq!(bytes[8..16], [0, 1, 0, 7, 0, 2, 0, 0]);
        assert_eq!(bytes[16..40], [0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4]);
        assert_eq!(Hello::decode(&bytes), Ok(HELLO));
    }

    #[test]
    fn every_answer_survives_the_wire() {
        for verdict in Refusal::ALL.into_iter().map(Err).chain([Ok(1), Ok(7)]) {
            let answer = Answer { verdict, cluster: 9, node: NodeId(4) };
            assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
        }
    }

    #[test]
    fn a_reason_of_a_later_version_is_still_a_refusal() {
        let mut bytes = Answer { verdict: Ok(1), cluster: 9, node: NodeId(4) }.encode();
        bytes[8..10].copy_from_slice(&[0x12, 0x34]);
        assert_eq!(Answer::decode(&bytes).map(|answer| answer.verdict), Ok(Err(Refusal::Unrecognised)));
    }

    #[test]
    fn without_the_magic_nothing_is_believed() {
        let mut hello = HELLO.encode();
        hello[7] ^= 1;
        assert_eq!(Hello::decode(&hello), Err(Refusal::NotVlot));
        assert_eq!(Answer::decode(&[0; ANSWER_BYTES]), Err(Refusal::NotVlot));
    }
}
