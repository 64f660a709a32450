//! The text of a Huffman-coded string of HPACK (RFC 7541 §5.2, appendix B).
//!
//! Owns the code as far as text needs it. The code is canonical: of one length, code words are consecutive numbers in the
//! order of what they stand for, and longer ones continue where shorter ones end. So the table is a list of lengths.

/// How many code words there are of each length, shortest first, and what they stand for; what is not printable ASCII
/// stands for no text and is left out.
const LENGTHS: [(u32, u32, &[u8]); 21] = [
    (5, 10, b"012aceiost"),
    (6, 26, b" %-./3456789=A_bdfghlmnpru"),
    (7, 32, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, 6, b"&*,;XZ"),
    (10, 5, b"!\"()?"),
    (11, 3, b"'+|"),
    (12, 2, b"#>"),
    (13, 6, b"\0$@[]~"),
    (14, 2, b"^}"),
    (15, 3, b"<`{"),
    (19, 3, b"\\"),
    (20, 8, b""),
    (21, 13, b""),
    (22, 26, b""),
    (23, 29, b""),
    (24, 12, b""),
    (25, 4, b""),
    (26, 15, b""),
    (27, 19, b""),
    (28, 29, b""),
    // The last of these ends a string, and is never sent (RFC 7541 §5.2).
    (30, 4, b""),
];
/// What stands for a byte that is no text.
const NOT_TEXT: u8 = 0;

/// The text that was coded, byte for byte as long; what is not ASCII is replaced. `None` if it is no code.
pub(super) fn decode(coded: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(coded.len() * 8 / 5);
    // The bits that are not decoded yet, and how many.
    let (mut bits, mut count) = (0_u64, 0_u32);
    let mut coded = coded.iter();
    loop {
        while count <= 32
            && let Some(byte) = coded.next()
        {
            bits = bits << 8 | u64::from(*byte);
            count += 8;
        }
        match first_word(bits, count) {
            Some((length, byte)) => {
                text.push(byte?);
                count -= length;
                bits &= (1 << count) - 1;
            }
            // What is left over fills the last byte with ones (RFC 7541 §5.2).
            None => return (count < 8 && bits == (1 << count) - 1).then_some(text),
        }
    }
}

/// How long the code word is with which these bits begin, and what it stands for: `None` inside for the end of a string.
/// `None` if there are not enough bits.
fn first_word(bits: u64, count: u32) -> Option<(u32, Option<u8>)> {
    let (mut first, mut before) = (0_u64, 0);
    for (length, words, text) in LENGTHS {
        first <<= length - before;
        before = length;
        if count < length {
            return None;
        }
        let place = (bits >> (count - length)).wrapping_sub(first);
        if place < u64::from(words) {
            let ends = length == 30 && place == 3;
            let byte = text.get(place as usize).copied().unwrap_or(NOT_TEXT);
            return Some((length, (!ends).then_some(byte)));
        }
        first += u64::from(words);
    }
    unreachable!("the code is complete: {bits:b} of {count} bits begins with no word")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_complete() {
        let used: u64 = LENGTHS.iter().map(|(length, words, _)| u64::from(*words) << (30 - length)).sum();
        assert_eq!(used, 1 << 30);
        assert_eq!(LENGTHS.iter().map(|(_, words, _)| words).sum::<u32>(), 257);
        let text: usize = LENGTHS.iter().map(|(_, _, text)| text.len()).sum();
        // All of printable ASCII, and zero.
        assert_eq!(text, 95 + 1);
    }

    #[test]
    fn text_is_decoded() {
        // The first three are from RFC 7541, C.4 and C.6.
        let rows: [(&[u8], &[u8]); 8] = [
            (b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff", b"www.example.com"),
            (b"\xa8\xeb\x10\x64\x9c\xbf", b"no-cache"),
            (b"\x9d\x29\xad\x17\x18\x63\xc7\x8f\x0b\x97\xc8\xe9\xae\x82\xae\x43\xd3", b"https://www.example.com"),
            (HASH, b"#initially=[127.0.0.1:2379]"),
            (BACKSLASH, b"a\\b"),
            // An e with an acute accent: two bytes.
            (ACCENT, b"\0\0"),
            (b"", b""),
            (b"\x07", b"0"),
        ];
        for (coded, text) in rows {
            assert_eq!(decode(coded).as_deref(), Some(text));
        }
    }

    const HASH: &[u8] = b"\xff\xa3\x54\x64\x98\x74\x51\xea\x0f\xfd\x84\x4e\xae\x05\xc0\xb8\x6e\x09\x97\x5f\xff\xe7";
    const BACKSLASH: &[u8] = b"\x1f\xff\xf0\x8f";
    const ACCENT: &[u8] = b"\xff\xfe\x3f\xff\xee\xff";

    #[test]
    fn what_is_no_code_is_refused() {
        // The end of a string inside it; a byte of filling too much; filling that is not all ones.
        for coded in [&b"\xff\xff\xff\xff"[..], b"\x07\xff", b"\x00"] {
            assert_eq!(decode(coded), None, "{coded:?}");
        }
    }

    #[test]
    fn any_bytes_are_decoded_or_refused() {
        let mut state = 1_u64;
        for length in 0..2000 {
            let mut bytes = Vec::new();
            for _ in 0..length % 40 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                bytes.push((state >> 56) as u8);
            }
            if let Some(text) = decode(&bytes) {
                assert!(text.len() <= bytes.len() * 8 / 5);
            }
        }
    }
}
