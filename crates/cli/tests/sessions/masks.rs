//! What may differ between two runs of a session, made the same: ids, addresses, times.

use std::collections::HashMap;

/// Ids get names in the order in which they come, so that a wrong one still shows.
#[derive(Default)]
pub struct Masks {
    names: HashMap<String, String>,
    /// Texts that stand for the place where the session ran, and what is written instead.
    places: Vec<(String, String)>,
}

/// What stands behind these differs from run to run, up to a character that belongs to no number or time.
const CHANGING: [&str; 13] = [
    "\"raft_term\":",
    "\"RaftTerm\" : ",
    "remaining(",
    "\"ttl\":",
    "\"TTL\" : ",
    "took = ",
    "took ",
    "\"took\":\"",
    "\"Took\" : ",
    "\"hash\":",
    "\"Hash\" : ",
    "\"raftTerm\":",
    "bytes: ",
];
/// Decimal numbers so long are ids.
const ID_DIGITS: usize = 14;
/// And so are hexadecimal ones of this length.
const HEX_DIGITS: std::ops::RangeInclusive<usize> = 13..=16;

impl Masks {
    /// Writes `instead` for a text from here on.
    pub fn place(&mut self, text: &str, instead: &str) {
        self.places.push((text.to_owned(), instead.to_owned()));
    }

    /// The text without what may differ.
    pub fn apply(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        for (place, instead) in &self.places {
            text = text.replace(place, instead);
        }
        for changing in CHANGING {
            text = without_number_behind(&text, changing);
        }
        let mut masked = String::new();
        let mut rest = text.as_str();
        while let Some(start) = rest.find(|letter: char| letter.is_ascii_alphanumeric()) {
            masked.push_str(&rest[..start]);
            let word = &rest[start..];
            let (word, after) =
                word.split_at(word.find(|letter: char| !letter.is_ascii_alphanumeric()).unwrap_or(word.len()));
            let name = self.name_of(word);
            if name != word {
                // Short ids have blanks before them.
                masked.truncate(masked.trim_end_matches(' ').len() + usize::from(masked.ends_with(' ')));
            }
            masked.push_str(&name);
            rest = after;
        }
        masked + rest
    }

    fn name_of(&mut self, word: &str) -> String {
        let is_decimal = word.len() >= ID_DIGITS && word.bytes().all(|byte| byte.is_ascii_digit());
        let is_hex = HEX_DIGITS.contains(&word.len())
            && word.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            && word.bytes().any(|byte| byte.is_ascii_digit());
        if !is_decimal && !is_hex {
            return word.to_owned();
        }
        let next = format!("ID{}", self.names.len() + 1);
        self.names.entry(word.to_owned()).or_insert(next).clone()
    }
}

fn without_number_behind(text: &str, prefix: &str) -> String {
    let mut pieces = text.split(prefix);
    let mut masked = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let number = piece.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '.' && letter != 'µ');
        let number = number.unwrap_or(piece.len());
        let is_number = piece.starts_with(|first: char| first.is_ascii_digit());
        masked.push_str(prefix);
        masked.push_str(if is_number { "N" } else { &piece[..number] });
        masked.push_str(&piece[number..]);
    }
    masked
}

#[test]
fn ids_keep_their_identity_and_times_go() {
    let mut masks = Masks::default();
    masks.place("127.0.0.1:7", "SERVER");
    let text = "lease 7413a229b3d9ee03 granted with TTL(100s), remaining(99s)\n127.0.0.1:7 took = 2.5ms";
    assert_eq!(masks.apply(text), "lease ID1 granted with TTL(100s), remaining(N)\nSERVER took = N");
    assert_eq!(masks.apply("{\"ID\":8364207232951905797}a/7413a229b3d9ee03"), "{\"ID\":ID2}a/ID1");
    assert_eq!(masks.apply("cluster   413a229b3d9ee03"), "cluster ID3");
    assert_eq!(masks.apply("key 12 deadbeefdeadbeef"), "key 12 deadbeefdeadbeef");
}
