//! How the messages of a call are compressed: not at all, or by gzip, as etcd's server understands it.
//!
//! Owns the encodings and what they cost at most. A message is inflated to no more than a message may have. Replies are
//! compressed where the client has begun with it; long ones are not, because to compress them holds others up.

use std::io::{Read, Write};

use bytes::buf::Reader;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use http::HeaderName;

use crate::conversation::PREFIX_BYTES;
use crate::status::{Code, Status};

pub(super) const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// Bytes of a reply that is compressed at most: longer ones go as they are, which is every sender's choice.
const COMPRESSED_MAX: usize = 64 * 1024;
/// Bytes that are inflated before others have their turn.
const INFLATED_A_STEP: usize = 64 * 1024;

/// What a client has said that its compressed messages are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
}

impl Encoding {
    /// The encoding of a call's messages, for both ways, by what a header says of it.
    ///
    /// # Errors
    /// It is not known, whether or not a message has it: the words are gRPC's Go server's, as below.
    pub(super) fn of(value: Option<&[u8]>) -> Result<Encoding, Status> {
        match value.unwrap_or_default() {
            b"" | b"identity" => Ok(Encoding::Identity),
            b"gzip" => Ok(Encoding::Gzip),
            other => {
                let name = String::from_utf8_lossy(other);
                let text = format!("grpc: Decompressor is not installed for grpc-encoding {name:?}");
                Err(Status::new(Code::Unimplemented, text))
            }
        }
    }

    /// Whether a message with this flag is to be inflated.
    pub(super) fn is_compressed(self, flag: u8) -> Result<bool, Status> {
        match (flag, self) {
            (0, _) => Ok(false),
            (1, Encoding::Gzip) => Ok(true),
            (1, Encoding::Identity) => {
                Err(Status::new(Code::Internal, "grpc: compressed flag set with identity or empty encoding"))
            }
            (flag, _) => Err(Status::new(Code::Internal, format!("grpc: received unexpected payload format {flag}"))),
        }
    }
}

/// A message that is inflated step by step: few bytes may become many.
pub(super) struct Inflating {
    /// Nothing at all would be taken for nothing compressed.
    is_empty: bool,
    decoder: MultiGzDecoder<Reader<Bytes>>,
    message: Vec<u8>,
    inflated_bytes: usize,
}

impl Inflating {
    pub(super) fn new(compressed: Bytes) -> Inflating {
        let is_empty = compressed.is_empty();
        let decoder = MultiGzDecoder::new(compressed.reader());
        Inflating { is_empty, decoder, message: Vec::new(), inflated_bytes: 0 }
    }

    /// How much has been inflated so far.
    pub(super) fn inflated_bytes(&self) -> usize {
        self.inflated_bytes
    }

    /// Inflates some more. Returns the message as it was before it was compressed, once all of it is there.
    pub(super) fn step(&mut self, bytes_max: usize) -> Result<Option<Bytes>, Status> {
        let before = self.message.len();
        let read = if self.is_empty {
            Err(std::io::ErrorKind::UnexpectedEof.into())
        } else {
            // One byte more shows that there are more.
            let room = (bytes_max + 1 - before).min(INFLATED_A_STEP);
            self.decoder.by_ref().take(room as u64).read_to_end(&mut self.message)
        };
        self.inflated_bytes = self.message.len();
        match read {
            Ok(_) if self.message.len() > bytes_max => {
                let text = format!("grpc: received message after decompression larger than max {bytes_max}");
                Err(Status::new(Code::ResourceExhausted, text))
            }
            Ok(0) => Ok(Some(std::mem::take(&mut self.message).into())),
            Ok(_) => Ok(None),
            Err(error) => Err(Status::new(Code::Internal, format!("grpc: failed to decompress the message: {error}"))),
        }
    }
}

/// Messages that stand one behind the other, each behind its prefix, compressed one by one.
pub(super) fn compressed(batch: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(batch.len() / 2);
    let mut rest = batch;
    while let Some((&[_, a, b, c, d], behind)) = rest.split_first_chunk::<PREFIX_BYTES>() {
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let (message, following) = behind.split_at(length);
        put(message, &mut out);
        rest = following;
    }
    out.freeze()
}

/// Appends a message behind its prefix.
fn put(message: &[u8], out: &mut BytesMut) {
    let compressed = if message.len() <= COMPRESSED_MAX { deflate(message) } else { None };
    let (flag, bytes) = compressed.as_deref().map_or((0, message), |bytes| (1, bytes));
    out.reserve(PREFIX_BYTES + bytes.len());
    out.put_u8(flag);
    // No longer than the message that had such a length before, or a few bytes more than 64 KiB.
    out.put_u32(bytes.len() as u32);
    out.put_slice(bytes);
}

fn deflate(message: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing to memory does not fail; if it did, the message would go as it is.
    encoder.write_all(message).ok()?;
    encoder.finish().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::prefix;

    /// A message as it was before it was compressed, if its flag says so.
    fn decode(encoding: Encoding, flag: u8, message: Bytes, bytes_max: usize) -> Result<Bytes, Status> {
        if !encoding.is_compressed(flag)? {
            return Ok(message);
        }
        let mut inflating = Inflating::new(message);
        loop {
            if let Some(message) = inflating.step(bytes_max)? {
                return Ok(message);
            }
        }
    }

    fn gzip(message: &[u8]) -> Bytes {
        deflate(message).unwrap().into()
    }

    #[test]
    fn a_header_names_the_encoding() {
        let of = |value: &str| Encoding::of(Some(value.as_bytes()));
        assert_eq!(Encoding::of(None), Ok(Encoding::Identity));
        assert_eq!([of(""), of("identity")], [Ok(Encoding::Identity), Ok(Encoding::Identity)]);
        assert_eq!(of("gzip"), Ok(Encoding::Gzip));
        for other in ["GZIP", "snappy", "gzip,identity"] {
            let status = of(other).unwrap_err();
            let text = format!("grpc: Decompressor is not installed for grpc-encoding \"{other}\"");
            assert_eq!((status.code, status.message.as_ref()), (Code::Unimplemented, text.as_str()));
        }
    }

    #[test]
    fn messages_are_inflated_up_to_the_bound() {
        let decode = |message: Bytes| self::decode(Encoding::Gzip, 1, message, 1000);
        for length in [0, 1, 999, 1000] {
            assert_eq!(decode(gzip(&vec![7; length])), Ok(vec![7; length].into()));
        }
        for length in [1001, 10_000_000] {
            assert_eq!(decode(gzip(&vec![7; length])).unwrap_err().code, Code::ResourceExhausted);
        }
        // Two of them are one, as gzip has it.
        assert_eq!(decode([gzip(b"ab"), gzip(b"c")].concat().into()), Ok("abc".into()));
        assert_eq!(self::decode(Encoding::Gzip, 0, "plain".into(), 1), Ok("plain".into()));
    }

    #[test]
    fn what_is_not_compressed_as_it_says_is_refused() {
        let good = gzip(b"message");
        let mut wrong = good.to_vec();
        wrong[good.len() - 8] ^= 1;
        for bad in [&b""[..], b"abcde", &good[..5], &good[..good.len() - 1], &wrong, &[&good[..], b"junk"].concat()] {
            let status = decode(Encoding::Gzip, 1, bad.to_vec().into(), 1000).unwrap_err();
            assert_eq!(status.code, Code::Internal, "{bad:?}");
        }
        for (flag, encoding) in
            [(1, Encoding::Identity), (2, Encoding::Identity), (2, Encoding::Gzip), (255, Encoding::Gzip)]
        {
            assert_eq!(decode(encoding, flag, good.clone(), 1000).unwrap_err().code, Code::Internal);
        }
    }

    #[test]
    fn each_message_of_a_batch_is_compressed_and_long_ones_are_not() {
        let messages = [vec![], vec![1; 1000], vec![2; COMPRESSED_MAX], vec![3; COMPRESSED_MAX + 1]];
        let batch: Vec<u8> =
            messages.iter().flat_map(|message| [&prefix(message.len())[..], message].concat()).collect();
        let mut rest = compressed(&batch);
        assert!(rest.len() < 70_000);
        for message in messages {
            let head = rest.split_to(PREFIX_BYTES);
            let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
            assert_eq!(head[0], u8::from(message.len() <= COMPRESSED_MAX));
            assert_eq!(decode(Encoding::Gzip, head[0], rest.split_to(length), 1 << 20).unwrap(), message);
        }
        assert!(rest.is_empty());
    }
}
