//! Text in quotes: as JSON has it, and as Go shows it in error messages.

use std::fmt::Write;

/// Adds text as a JSON string.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            8 => out.extend_from_slice(b"\\b"),
            12 => out.extend_from_slice(b"\\f"),
            ..b' ' => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// Bytes as Go's `%q` shows them: `"a\n\xff"`.
pub(super) fn quoted(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '"' => out.push_str("\\\""),
                _ => push_char(&mut out, char),
            }
        }
        chunk.invalid().iter().for_each(|byte| push_code(&mut out, 'x', u32::from(*byte)));
    }
    out.push('"');
    out
}

/// A byte as Go's JSON errors show it: as the character of this number.
pub(super) fn quoted_byte(byte: u8) -> String {
    let mut out = String::from("'");
    match char::from(byte) {
        '\'' => out.push_str("\\'"),
        char => push_char(&mut out, char),
    }
    out.push('\'');
    out
}

fn push_char(out: &mut String, char: char) {
    match char {
        '\\' => out.push_str("\\\\"),
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{b}' => out.push_str("\\v"),
        ..' ' | '\u{7f}' => push_code(out, 'x', char.into()),
        // What is not seen: control characters, the space that does not break, the hyphen that does not show.
        '\u{80}'..='\u{a0}' | '\u{ad}' => push_code(out, 'u', char.into()),
        _ => out.push(char),
    }
}

fn push_code(out: &mut String, letter: char, code: u32) {
    let digits = if letter == 'x' { 2 } else { 4 };
    // To write to a string cannot fail.
    let _ = write!(out, "\\{letter}{code:0digits$x}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_strings_are_read_back_by_others() {
        let all: String = (0..0x300).filter_map(char::from_u32).chain("\u{2028}\u{ffff}😀".chars()).collect();
        let mut out = Vec::new();
        push_string(&mut out, &all);
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), all);
    }

    #[test]
    fn bytes_are_shown_as_in_go() {
        let rows: [(&[u8], &str); 4] = [
            (b"\\u0041", r#""\\u0041""#),
            (b"a\"\n\x01\x7f", r#""a\"\n\x01\x7f""#),
            (b"\xc3", r#""\xc3""#),
            ("é\u{ad}".as_bytes(), r#""é\u00ad""#),
        ];
        for (bytes, expected) in rows {
            assert_eq!(quoted(bytes), expected);
        }
        for (byte, expected) in [(b'\'', r"'\''"), (b'"', "'\"'"), (0, r"'\x00'"), (0xff, "'ÿ'"), (0x85, r"'\u0085'")]
        {
            assert_eq!(quoted_byte(byte), expected);
        }
    }
}
