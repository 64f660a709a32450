//! Where a JSON value ends, found byte by byte as they come, and whether it is JSON at all.
//!
//! Owns the grammar, as far as brackets, commas and the form of tokens go; of text it knows that it ends at a quote. The
//! words of its errors are those of Go's `encoding/json`, which etcd's gateway reads with. Never recurses.

use std::fmt;

use super::quote::quoted_byte;

/// How deep arrays and objects may stand in each other.
const NESTING_MAX: usize = 10_000;

/// Reads the bytes of one value.
#[derive(Debug)]
pub(crate) struct Scanner {
    state: State,
    inside: Vec<Inside>,
}

/// What some bytes had of the value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Found {
    /// Only space before it.
    Nothing,
    /// Its beginning, or more of it.
    Part,
    /// Its end, after this many bytes.
    End(usize),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Inside {
    Array,
    Object,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// Before the value.
    Start,
    Value,
    /// After `[`: a value, or the end.
    FirstElement,
    /// After `{`: a key, or the end.
    FirstKey,
    Key,
    AfterKey,
    AfterValue,
    String(Role),
    Escape(Role),
    /// So many digits of `\uXXXX` are missing.
    Hex(Role, u8),
    Minus,
    Zero,
    Digits,
    Dot,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
    /// This many bytes of the word were there.
    Word(&'static str, usize),
    Done,
}

/// What a string is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Role {
    Key,
    Value,
}

/// Whether a byte belongs to the value.
enum Step {
    Taken,
    /// A number ends only by what follows it.
    NotTaken,
}

impl Scanner {
    pub(crate) fn new() -> Scanner {
        Scanner { state: State::Start, inside: Vec::new() }
    }

    /// Reads on, to the end of the value or of the bytes.
    ///
    /// # Errors
    /// They are not JSON.
    pub(crate) fn scan(&mut self, bytes: &[u8]) -> Result<Found, SyntaxError> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if let State::String(_) = self.state {
                // The most of a body is text, which is passed over as a whole.
                let text = &bytes[at..];
                at += text.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..b' ')).unwrap_or(text.len());
                let Some(&byte) = bytes.get(at) else { break };
                self.step(byte)?;
                at += 1;
            } else if let Step::Taken = self.step(byte)? {
                at += 1;
            }
            if self.state == State::Done {
                return Ok(Found::End(at));
            }
        }
        Ok(if self.state == State::Start { Found::Nothing } else { Found::Part })
    }

    fn step(&mut self, byte: u8) -> Result<Step, SyntaxError> {
        use State::*;
        let is_space = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        self.state = match (self.state, byte) {
            (Start | Value | FirstElement | FirstKey | Key | AfterKey | AfterValue, _) if is_space => self.state,
            (FirstElement, b']') => self.close(),
            (Start | Value | FirstElement, _) => self.begin(byte)?,
            (FirstKey, b'}') => self.close(),
            (FirstKey | Key, b'"') => String(Role::Key),
            (FirstKey | Key, _) => return refuse(byte, Place::Key),
            (AfterKey, b':') => Value,
            (AfterKey, _) => return refuse(byte, Place::AfterKey),
            (AfterValue, _) => self.after_value(byte)?,
            (String(Role::Key), b'"') => AfterKey,
            (String(Role::Value), b'"') => self.end_of_value(),
            (String(role), b'\\') => Escape(role),
            (String(_), ..b' ') => return refuse(byte, Place::String),
            (String(_), _) => self.state,
            (Escape(role), b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => String(role),
            (Escape(role), b'u') => Hex(role, 4),
            (Escape(_), _) => return refuse(byte, Place::Escape),
            (Hex(role, left), _) if byte.is_ascii_hexdigit() => {
                if left == 1 {
                    String(role)
                } else {
                    Hex(role, left - 1)
                }
            }
            (Hex(..), _) => return refuse(byte, Place::Hex),
            (Minus, b'0') => Zero,
            (Minus, b'1'..=b'9') => Digits,
            (Minus, _) => return refuse(byte, Place::Minus),
            (Digits, b'0'..=b'9') => Digits,
            (Zero | Digits, b'.') => Dot,
            (Zero | Digits | Fraction, b'e' | b'E') => Exponent,
            (Dot | Fraction, b'0'..=b'9') => Fraction,
            (Dot, _) => return refuse(byte, Place::Dot),
            (Exponent, b'+' | b'-') => ExponentSign,
            (Exponent | ExponentSign | ExponentDigits, b'0'..=b'9') => ExponentDigits,
            (Exponent | ExponentSign, _) => return refuse(byte, Place::Exponent),
            (Zero | Digits | Fraction | ExponentDigits, _) => {
                self.state = self.end_of_value();
                return Ok(Step::NotTaken);
            }
            (Word(word, seen), _) if word.as_bytes()[seen] == byte => {
                if seen + 1 == word.len() {
                    self.end_of_value()
                } else {
                    Word(word, seen + 1)
                }
            }
            (Word(word, seen), _) => return refuse(byte, Place::Word(word, seen)),
            (Done, _) => return Ok(Step::NotTaken),
        };
        Ok(Step::Taken)
    }

    fn begin(&mut self, byte: u8) -> Result<State, SyntaxError> {
        Ok(match byte {
            b'{' => {
                self.open(Inside::Object, byte)?;
                State::FirstKey
            }
            b'[' => {
                self.open(Inside::Array, byte)?;
                State::FirstElement
            }
            b'"' => State::String(Role::Value),
            b'-' => State::Minus,
            b'0' => State::Zero,
            b'1'..=b'9' => State::Digits,
            b't' => State::Word("true", 1),
            b'f' => State::Word("false", 1),
            b'n' => State::Word("null", 1),
            _ => return refuse(byte, Place::Value),
        })
    }

    fn open(&mut self, inside: Inside, byte: u8) -> Result<(), SyntaxError> {
        if self.inside.len() == NESTING_MAX {
            return refuse(byte, Place::TooDeep);
        }
        self.inside.push(inside);
        Ok(())
    }

    fn close(&mut self) -> State {
        self.inside.pop();
        self.end_of_value()
    }

    fn end_of_value(&self) -> State {
        if self.inside.is_empty() { State::Done } else { State::AfterValue }
    }

    fn after_value(&mut self, byte: u8) -> Result<State, SyntaxError> {
        match (self.inside.last(), byte) {
            (Some(Inside::Array), b',') => Ok(State::Value),
            (Some(Inside::Object), b',') => Ok(State::Key),
            (Some(Inside::Array), b']') | (Some(Inside::Object), b'}') => Ok(self.close()),
            (Some(Inside::Object), _) => refuse(byte, Place::AfterPair),
            (Some(Inside::Array) | None, _) => refuse(byte, Place::AfterElement),
        }
    }
}

fn refuse<T>(byte: u8, place: Place) -> Result<T, SyntaxError> {
    Err(SyntaxError { byte, place })
}

/// A byte that cannot stand where it does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct SyntaxError {
    byte: u8,
    place: Place,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    Value,
    Key,
    AfterKey,
    AfterPair,
    AfterElement,
    String,
    Escape,
    Hex,
    Minus,
    Dot,
    Exponent,
    Word(&'static str, usize),
    TooDeep,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "invalid character {} ", quoted_byte(self.byte))?;
        out.write_str(match self.place {
            Place::Value => "looking for beginning of value",
            Place::Key => "looking for beginning of object key string",
            Place::AfterKey => "after object key",
            Place::AfterPair => "after object key:value pair",
            Place::AfterElement => "after array element",
            Place::String => "in string literal",
            Place::Escape => "in string escape code",
            Place::Hex => "in \\u hexadecimal character escape",
            Place::Minus => "in numeric literal",
            Place::Dot => "after decimal point in numeric literal",
            Place::Exponent => "in exponent of numeric literal",
            Place::TooDeep => "exceeded max depth",
            Place::Word(word, seen) => {
                return write!(out, "in literal {word} (expecting {})", quoted_byte(word.as_bytes()[seen]));
            }
        })
    }
}

impl std::error::Error for SyntaxError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(text: &str) -> Result<Found, String> {
        Scanner::new().scan(text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_value_ends_where_it_ends() {
        let rows = [
            ("{}", Found::End(2)),
            (" \n{\"a\":[1,2.5e-3,{}],\"b\\\"\":\"\\u00e9]\"} x", Found::End(37)),
            ("[[],[{}]]]", Found::End(9)),
            ("12 ", Found::End(2)),
            ("-0}", Found::End(2)),
            ("\"x\"y", Found::End(3)),
            ("nulll", Found::End(4)),
            ("", Found::Nothing),
            (" \t\r\n", Found::Nothing),
            ("{\"a\":", Found::Part),
            ("12", Found::Part),
        ];
        for (text, expected) in rows {
            assert_eq!(scanned(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn it_does_not_matter_how_the_bytes_come() {
        let text = b" {\"a\\n\":[true,-1.5E+3,\"\\uabcd\xff\"],\"b\":null} ";
        for split in 0..=text.len() {
            let mut scanner = Scanner::new();
            let found = match scanner.scan(&text[..split]).unwrap() {
                Found::End(end) => end,
                _ => match scanner.scan(&text[split..]).unwrap() {
                    Found::End(end) => split + end,
                    other => panic!("{other:?} at {split}"),
                },
            };
            assert_eq!(found, text.len() - 1, "split at {split}");
        }
    }

    /// What etcd answered to each of these.
    #[test]
    fn errors_have_the_words_of_go() {
        let rows = [
            ("abc", "invalid character 'a' looking for beginning of value"),
            ("{'key':1}", "invalid character '\\'' looking for beginning of object key string"),
            ("{\"key\":\"Zm9v\",}", "invalid character '}' looking for beginning of object key string"),
            ("{1:2}", "invalid character '1' looking for beginning of object key string"),
            ("{\"key\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 \"b\":2}", "invalid character '\"' after object key:value pair"),
            ("{\"limit\":01}", "invalid character '1' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("{\"a\":[1 2]}", "invalid character '2' after array element"),
            ("{\"limit\":1.}", "invalid character '}' after decimal point in numeric literal"),
            ("{\"limit\":-}", "invalid character '}' in numeric literal"),
            ("{\"limit\":1e}", "invalid character '}' in exponent of numeric literal"),
            ("{\"limit\":tru}", "invalid character '}' in literal true (expecting 'e')"),
            ("\"\\q\"", "invalid character 'q' in string escape code"),
            ("\"\\u00zz\"", "invalid character 'z' in \\u hexadecimal character escape"),
            ("\"Zm\u{1}9v\"", "invalid character '\\x01' in string literal"),
            ("\u{ef}", "invalid character 'Ã' looking for beginning of value"),
        ];
        for (text, expected) in rows {
            assert_eq!(scanned(text), Err(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| ["[".repeat(depth), "]".repeat(depth)].concat();
        assert_eq!(scanned(&nested(NESTING_MAX)), Ok(Found::End(2 * NESTING_MAX)));
        let error = scanned(&nested(NESTING_MAX + 1)).unwrap_err();
        assert_eq!(error, "invalid character '[' exceeded max depth");
    }
}
