//! The tokens of a JSON value that `scan.rs` has found to be one.
//!
//! Owns what a string's text is: escapes, surrogates, UTF-8. Commas and colons are where they must be, and are passed over.

use std::borrow::Cow;
use std::ops::Range;

use super::decode::DecodeError;

/// The tokens of one value, from its first byte on.
pub(super) struct Tokens<'t> {
    text: &'t [u8],
    at: usize,
}

/// One of them, and where it stands.
pub(super) struct Token<'t> {
    pub(super) kind: TokenKind<'t>,
    pub(super) place: Range<usize>,
}

#[derive(Debug, Eq, PartialEq)]
pub(super) enum TokenKind<'t> {
    ObjectOpen,
    ObjectClose,
    ArrayOpen,
    ArrayClose,
    Null,
    Bool(bool),
    Number(&'t str),
    /// A string or a key.
    String(Cow<'t, str>),
}

impl<'t> Tokens<'t> {
    pub(super) fn of(text: &'t [u8]) -> Tokens<'t> {
        Tokens { text, at: 0 }
    }

    /// The next token.
    pub(super) fn next(&mut self) -> Result<Token<'t>, DecodeError> {
        let between = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',' | b':');
        let rest = &self.text[self.at..];
        let start = self.at + rest.iter().position(|byte| !between(byte)).ok_or(DecodeError::UnexpectedEnd)?;
        let (kind, length) = self.read(start)?;
        self.at = (start + length).min(self.text.len());
        Ok(Token { kind, place: start..self.at })
    }

    /// The next token if it is this one; otherwise it stays.
    pub(super) fn next_if(&mut self, kind: &TokenKind<'_>) -> Result<Option<Token<'t>>, DecodeError> {
        let before = self.at;
        let token = self.next()?;
        if token.kind == *kind {
            return Ok(Some(token));
        }
        self.at = before;
        Ok(None)
    }

    /// Passes over one value.
    pub(super) fn skip(&mut self) -> Result<(), DecodeError> {
        let mut depth = 0;
        loop {
            match self.next()?.kind {
                TokenKind::ObjectOpen | TokenKind::ArrayOpen => depth += 1,
                TokenKind::ObjectClose | TokenKind::ArrayClose => depth -= 1,
                _ => {}
            }
            // A key is no value, but only stands where the depth is above this.
            if depth <= 0 {
                return Ok(());
            }
        }
    }

    /// A token as it is written.
    pub(super) fn written(&self, token: &Token<'_>) -> String {
        String::from_utf8_lossy(&self.text[token.place.clone()]).into_owned()
    }

    /// In which line a byte stands, and as which character of it, both from one on.
    pub(super) fn position(&self, place: usize) -> (usize, usize) {
        let before = &self.text[..place.min(self.text.len())];
        let lines = before.iter().filter(|byte| **byte == b'\n').count();
        let line = before.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        (lines + 1, String::from_utf8_lossy(line).chars().count() + 1)
    }

    /// The token that begins here, and its length.
    fn read(&self, start: usize) -> Result<(TokenKind<'t>, usize), DecodeError> {
        let rest = &self.text[start..];
        Ok(match rest[0] {
            b'{' => (TokenKind::ObjectOpen, 1),
            b'}' => (TokenKind::ObjectClose, 1),
            b'[' => (TokenKind::ArrayOpen, 1),
            b']' => (TokenKind::ArrayClose, 1),
            b'n' => (TokenKind::Null, 4),
            b't' => (TokenKind::Bool(true), 4),
            b'f' => (TokenKind::Bool(false), 5),
            b'"' => self.string(start)?,
            _ => match leading_number(rest) {
                // The scanner has let nothing else through.
                "" => return Err(DecodeError::UnexpectedEnd),
                number => (TokenKind::Number(number), number.len()),
            },
        })
    }

    fn string(&self, start: usize) -> Result<(TokenKind<'t>, usize), DecodeError> {
        let mut rest = &self.text[start + 1..];
        let mut text = Cow::Borrowed("");
        loop {
            let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')).ok_or(DecodeError::UnexpectedEnd)?;
            let piece = std::str::from_utf8(&rest[..plain])
                .map_err(|_| DecodeError::InvalidUtf8 { at: self.position(start) })?;
            // The usual string is one piece, which is not copied.
            text += piece;
            rest = &rest[plain..];
            if rest[0] == b'"' {
                return Ok((TokenKind::String(text), self.text.len() - start - rest.len() + 1));
            }
            let invalid = |escape: &[u8]| DecodeError::invalid_escape(self.position(start), escape);
            let escape = *rest.get(1).ok_or(DecodeError::UnexpectedEnd)?;
            let char = match escape {
                b'"' | b'\\' | b'/' => char::from(escape),
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                b'n' => '\n',
                b'r' => '\r',
                b't' => '\t',
                _ => {
                    let (char, length) =
                        unicode(rest).map_err(|bad| bad.map_or(DecodeError::UnexpectedEnd, invalid))?;
                    text.to_mut().push(char);
                    rest = &rest[length..];
                    continue;
                }
            };
            text.to_mut().push(char);
            rest = &rest[2..];
        }
    }
}

/// The character that `\uXXXX` stands for, or two of them for a surrogate pair, and how long that is. `Err` is what stands
/// where an escape should, if there is enough of it.
fn unicode(rest: &[u8]) -> Result<(char, usize), Option<&[u8]>> {
    const LENGTH: usize = 6;
    let unit = |escape: &[u8]| {
        let digits = std::str::from_utf8(escape.strip_prefix(b"\\u")?).ok()?;
        u16::from_str_radix(digits, 16).ok()
    };
    let (first, rest) = rest.split_at_checked(LENGTH).ok_or(None)?;
    let high = unit(first).ok_or(Some(first))?;
    if let Some(char) = char::from_u32(high.into()) {
        return Ok((char, LENGTH));
    }
    let second = rest.get(..LENGTH).ok_or(None)?;
    let low = unit(second).ok_or(Some(second))?;
    match char::decode_utf16([high, low]).next() {
        Some(Ok(char)) => Ok((char, 2 * LENGTH)),
        _ => Err(Some(second)),
    }
}

/// The number that text begins with, if it is one to its end; else what looks like it.
pub(super) fn leading_number(text: &[u8]) -> &str {
    let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
    let length = text.iter().position(|byte| !is_part(byte)).unwrap_or(text.len());
    // All of it is ASCII.
    std::str::from_utf8(&text[..length]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &[u8]) -> Result<String, String> {
        match Tokens::of(text).next().map_err(|error| error.to_string())?.kind {
            TokenKind::String(text) => Ok(text.into_owned()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_string_is_text_without_its_escapes() {
        let rows: [(&[u8], &str); 5] = [
            (b"\"plain\"", "plain"),
            (br#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t"),
            (br#""a\u00e9b\u0000""#, "aéb\0"),
            (br#""\ud83d\ude00!""#, "😀!"),
            ("\"é😀\"".as_bytes(), "é😀"),
        ];
        for (text, expected) in rows {
            assert_eq!(string(text).as_deref(), Ok(expected));
        }
    }

    /// What etcd answered to each of these, but for the position, which it counts in the whole value.
    #[test]
    fn what_is_no_text_is_refused() {
        let rows: [(&[u8], &str); 6] = [
            (b"\"\xff\"", "proto: syntax error (line 1:1): invalid UTF-8 in string"),
            (b"\"\xed\xa0\x80\"", "proto: syntax error (line 1:1): invalid UTF-8 in string"),
            (br#""\ud800"}"#, "proto: unexpected EOF"),
            (br#""\ud800\u0041"}"#, r#"proto: syntax error (line 1:1): invalid escape code "\\u0041" in string"#),
            (br#""\ud800abcdef"}"#, r#"proto: syntax error (line 1:1): invalid escape code "abcdef" in string"#),
            (br#""\udc00\udc00"}"#, r#"proto: syntax error (line 1:1): invalid escape code "\\udc00" in string"#),
        ];
        for (text, expected) in rows {
            assert_eq!(string(text), Err(expected.to_owned()));
        }
    }

    #[test]
    fn a_value_is_skipped_as_a_whole() {
        let text = br#"{"a":{"b":[1,{"c":null}],"d":[]},"e":"x"}"#;
        let mut tokens = Tokens::of(text);
        assert_eq!(tokens.next().unwrap().kind, TokenKind::ObjectOpen);
        for key in ["a", "e"] {
            assert_eq!(tokens.next().unwrap().kind, TokenKind::String(key.into()));
            tokens.skip().unwrap();
        }
        assert_eq!(tokens.next().unwrap().kind, TokenKind::ObjectClose);
        assert_eq!(tokens.next().err(), Some(DecodeError::UnexpectedEnd));
    }

    #[test]
    fn positions_count_lines_and_characters() {
        let tokens = Tokens::of("{\"é\":\"ü\",\n\"ö\":2}".as_bytes());
        assert_eq!(tokens.position(0), (1, 1));
        assert_eq!(tokens.position(4), (1, 4));
        assert_eq!(tokens.position(17), (2, 5));
    }
}
