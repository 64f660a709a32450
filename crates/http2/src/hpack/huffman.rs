//! Huffman codes of strings (RFC 7541 §5.2, appendix B).
//!
//! The code is canonical: codes of one length follow each other in the order of their symbols, and longer ones follow shorter ones. So
//! the lengths say all.

use super::Malformed;

/// The length of each symbol's code, in bits. The last one is the end of a string, which is never sent.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

const SYMBOLS: usize = 257;
const LONGEST: usize = 30;
/// Codes of at most so many bits are looked up at once.
const SHORT: usize = 8;

/// All codes by their length.
struct Codes {
    /// For each beginning of eight bits the code that it begins with: the symbol, and its length, which is zero where the code
    /// is longer.
    short: [(u8, u8); 1 << SHORT],
    /// Symbols in the order of their codes.
    symbols: [u16; SYMBOLS],
    /// Of each length: the first code, how many there are, and where they begin among the symbols.
    first: [u32; LONGEST + 1],
    count: [u32; LONGEST + 1],
    start: [u32; LONGEST + 1],
}

static CODES: Codes = Codes::new();

impl Codes {
    const fn new() -> Codes {
        let mut codes = Codes {
            short: [(0, 0); 1 << SHORT],
            symbols: [0; SYMBOLS],
            first: [0; LONGEST + 1],
            count: [0; LONGEST + 1],
            start: [0; LONGEST + 1],
        };
        let (mut code, mut found, mut length) = (0_u32, 0, 1);
        while length <= LONGEST {
            code <<= 1;
            codes.first[length] = code;
            codes.start[length] = found as u32;
            let mut symbol = 0;
            while symbol < SYMBOLS {
                if LENGTHS[symbol] as usize == length {
                    codes.symbols[found] = symbol as u16;
                    found += 1;
                    if length <= SHORT {
                        let mut following = 0;
                        while following < 1 << (SHORT - length) {
                            let beginning = ((code as usize) << (SHORT - length)) + following;
                            codes.short[beginning] = (symbol as u8, length as u8);
                            following += 1;
                        }
                    }
                    code += 1;
                }
                symbol += 1;
            }
            codes.count[length] = code - codes.first[length];
            length += 1;
        }
        codes
    }

    /// The symbol with which these bits begin, and its length.
    fn symbol(&self, window: u32) -> Option<(u16, u32)> {
        let (symbol, length) = self.short[(window >> (32 - SHORT)) as usize];
        if length > 0 {
            return Some((u16::from(symbol), u32::from(length)));
        }
        (SHORT + 1..=LONGEST).find_map(|length| {
            let ahead = (window >> (32 - length)).checked_sub(self.first[length])?;
            (ahead < self.count[length]).then(|| (self.symbols[(self.start[length] + ahead) as usize], length as u32))
        })
    }
}

/// Decodes a string, which is appended to `out`.
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    // The lowest `count` bits are those that are read and not decoded yet.
    let (mut bits, mut count) = (0_u64, 0_u32);
    let mut rest = coded.iter();
    loop {
        while count <= 56 {
            let Some(byte) = rest.next() else { break };
            bits = bits << 8 | u64::from(*byte);
            count += 8;
        }
        // Padding is the beginning of the code that ends a string, which is all ones.
        let window = match count.checked_sub(32) {
            Some(behind) => (bits >> behind) as u32,
            None => ((bits << (32 - count)) as u32) | u32::MAX.checked_shr(count).unwrap_or(0),
        };
        let (symbol, length) = CODES.symbol(window).ok_or(Malformed::Huffman)?;
        if length > count {
            let is_padding = window == u32::MAX && count < 8;
            return if is_padding { Ok(()) } else { Err(Malformed::Huffman) };
        }
        out.push(u8::try_from(symbol).map_err(|_| Malformed::Huffman)?);
        count -= length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(coded: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut out = Vec::new();
        decode(coded, &mut out).map(|()| out)
    }

    /// Every symbol's code, as the appendix has it.
    fn coded(text: &[u8]) -> Vec<u8> {
        let (mut bits, mut count, mut out) = (0_u64, 0, Vec::new());
        for &byte in text {
            let length = usize::from(LENGTHS[usize::from(byte)]);
            let place = CODES.symbols.iter().position(|&symbol| symbol == u16::from(byte)).unwrap() as u32;
            let code = CODES.first[length] + place - CODES.start[length];
            bits = bits << length | u64::from(code);
            count += length;
            while count >= 8 {
                count -= 8;
                out.push((bits >> count) as u8);
            }
        }
        if count > 0 {
            out.push((bits << (8 - count)) as u8 | (0xff >> count));
        }
        out
    }

    #[test]
    fn codes_are_those_of_the_appendix() {
        // One of each length, and the ends of the longest.
        let rows: [(usize, u32); 23] = [
            (48, 0x0),
            (32, 0x14),
            (58, 0x5c),
            (38, 0xf8),
            (33, 0x3f8),
            (39, 0x7fa),
            (35, 0xffa),
            (0, 0x1ff8),
            (94, 0x3ffc),
            (60, 0x7ffc),
            (92, 0x7fff0),
            (128, 0xfffe6),
            (153, 0x1fffdc),
            (129, 0x3fffd2),
            (1, 0x7fffd8),
            (9, 0xffffea),
            (199, 0x1ffffec),
            (192, 0x3ffffe0),
            (203, 0x7ffffde),
            (2, 0xfffffe2),
            (10, 0x3ffffffc),
            (22, 0x3ffffffe),
            (256, 0x3fffffff),
        ];
        for (symbol, code) in rows {
            let length = usize::from(LENGTHS[symbol]);
            let window = code << (32 - length);
            assert_eq!(CODES.symbol(window), Some((symbol as u16, length as u32)), "{symbol}");
        }
    }

    #[test]
    fn every_byte_comes_back() {
        for first in 0..=255 {
            let text: Vec<u8> = (0..40).map(|n: u8| first ^ n.wrapping_mul(7)).collect();
            assert_eq!(decoded(&coded(&text)).as_deref(), Ok(&text[..]));
            assert_eq!(decoded(&coded(&[first])).as_deref(), Ok(&[first][..]));
        }
        assert_eq!(decoded(b"").as_deref(), Ok(&b""[..]));
    }

    #[test]
    fn padding_is_short_and_all_ones() {
        // RFC 7541 §5.2: "a" is 00011.
        assert_eq!(decoded(&[0b0001_1111]).as_deref(), Ok(&b"a"[..]));
        for wrong in [
            &[0b0001_1000][..],        // padded with zeros
            &[0b0001_1110],            // not all ones
            &[0b0001_1111, 0xff],      // longer than seven bits
            &[0xff],                   // nothing but padding of eight bits
            &[0xff, 0xff, 0xff, 0xff], // the end of a string within one
            &[0xff, 0xff, 0xff, 0xfc], // the same, and its code is whole
            &[0xff, 0xff, 0xff],       // a code that is cut
        ] {
            assert_eq!(decoded(wrong), Err(Malformed::Huffman), "{wrong:x?}");
        }
    }
}
