//! The decoders of bytes from other nodes that only this library calls, for fuzzers that feed them made-up ones
//! (`docs/fuzzing.md`). No part of the interface.

use crate::net::wire::{ANSWER_BYTES, Answer, HELLO_BYTES, Hello, Introduction};

/// Reads the bytes as each of what two nodes say before the first frame.
///
/// # Panics
/// If what can be read would not be said so.
pub fn read_handshake(bytes: &[u8]) {
    if let Some(first) = bytes.first_chunk::<HELLO_BYTES>()
        && let Ok(hello) = Hello::decode(first)
    {
        assert_eq!(&hello.encode(), first, "{hello:?}");
    }
    if let Ok(introduction) = Introduction::decode(bytes) {
        assert!(bytes.starts_with(&introduction.encode()), "{introduction:?}");
    }
    if let Some((first, rest)) = bytes.split_first_chunk::<ANSWER_BYTES>()
        && let Ok((answer, _)) = Answer::decode(first)
    {
        let answer = Answer { disk: Answer::decode_disk(rest).unwrap_or_default(), ..answer };
        let said = answer.encode();
        let again = said.first_chunk().and_then(|first| Answer::decode(first).ok());
        assert_eq!(again.map(|(again, _)| Answer { disk: answer.disk, ..again }), Some(answer));
    }
}
