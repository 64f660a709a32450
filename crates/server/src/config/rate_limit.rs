//! The rules of `--rate-limit`: how they are written.
//!
//! Owns their notation, `user=alice,prefix=/app/,call=write,rate=100,burst=200`. What a rule does is in `limits.rs`.

use std::fmt;

use bytes::Bytes;

/// A greater rate or burst is no limit.
const NUMBER_MAX: f64 = 1e9;
/// There are at most so many rules: each call is held against all.
const RULES_MAX: usize = 256;

/// How often some calls may be made on this node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rule {
    /// As it was written: its name in metrics.
    pub(crate) text: String,
    pub(crate) callers: Callers,
    /// Only calls that name keys which begin so; empty for all calls.
    pub(crate) prefix: Bytes,
    /// Only calls of this kind; none for all.
    pub(crate) call: Option<CallKind>,
    /// Calls a second, in the long run.
    pub(crate) rate: f64,
    /// Calls at once, after a while without any.
    pub(crate) burst: f64,
}

/// Whose calls a rule counts, and which of them together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Callers {
    /// Those of all callers, users or not, together.
    All,
    /// Those of one user.
    User(String),
    /// Those of each user by themselves.
    Each,
}

/// What kind of call it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum CallKind {
    Read,
    Write,
    Watch,
    Lease,
    Member,
    Maintenance,
    Auth,
}

const KINDS: [(&str, Option<CallKind>); 8] = [
    ("read", Some(CallKind::Read)),
    ("write", Some(CallKind::Write)),
    ("watch", Some(CallKind::Watch)),
    ("lease", Some(CallKind::Lease)),
    ("member", Some(CallKind::Member)),
    ("maintenance", Some(CallKind::Maintenance)),
    ("auth", Some(CallKind::Auth)),
    ("all", None),
];

/// Why a text is no rule. Displays as what was expected of the flag.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BadRule {
    /// The part that is wrong.
    part: String,
    flaw: Flaw,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Flaw {
    NoValue,
    UnknownName,
    Twice,
    BadEscape,
    EmptyUser,
    UnknownCall,
    BadNumber,
    BurstBelowOne,
    NoRate,
    SameRule,
    TooMany,
}

impl Rule {
    /// Reads rules with semicolons between them.
    pub(crate) fn parse_list(text: &str) -> Result<Vec<Rule>, BadRule> {
        let texts = text.split(';').map(str::trim).filter(|text| !text.is_empty());
        let rules = texts.map(Rule::parse).collect::<Result<Vec<_>, _>>()?;
        // By its text a rule is known in metrics.
        let is_known = |(place, rule): &(usize, &Rule)| rules[..*place].iter().any(|known| known.text == rule.text);
        if let Some((_, rule)) = rules.iter().enumerate().find(is_known) {
            return Err(bad(&rule.text, Flaw::SameRule));
        }
        if rules.len() > RULES_MAX { Err(bad(&rules.len().to_string(), Flaw::TooMany)) } else { Ok(rules) }
    }

    fn parse(text: &str) -> Result<Rule, BadRule> {
        let mut seen: Vec<&str> = Vec::new();
        let (mut callers, mut prefix, mut call) = (Callers::All, Bytes::new(), None);
        let (mut rate, mut burst) = (None, None);
        for part in text.split(',').map(str::trim) {
            let (name, value) = part.split_once('=').ok_or_else(|| bad(part, Flaw::NoValue))?;
            if seen.contains(&name) {
                return Err(bad(part, Flaw::Twice));
            }
            seen.push(name);
            match name {
                "user" => callers = callers_of(part, value)?,
                "prefix" => prefix = unescaped(part, value)?.into(),
                "call" => call = kind_of(value).ok_or_else(|| bad(part, Flaw::UnknownCall))?,
                "rate" => rate = Some(number_of(part, value)?),
                "burst" => burst = Some(number_of(part, value)?),
                _ => return Err(bad(part, Flaw::UnknownName)),
            }
            if name == "burst" && burst.is_some_and(|burst| burst < 1.0) {
                return Err(bad(part, Flaw::BurstBelowOne));
            }
        }
        let rate = rate.ok_or_else(|| bad(text, Flaw::NoRate))?;
        // What comes within a second may come at once.
        let burst = burst.unwrap_or(rate.max(1.0));
        Ok(Rule { text: text.to_owned(), callers, prefix, call, rate, burst })
    }
}

fn bad(part: &str, flaw: Flaw) -> BadRule {
    BadRule { part: part.to_owned(), flaw }
}

fn callers_of(part: &str, value: &str) -> Result<Callers, BadRule> {
    if value == "*" {
        return Ok(Callers::Each);
    }
    let name = String::from_utf8(unescaped(part, value)?).map_err(|_| bad(part, Flaw::BadEscape))?;
    if name.is_empty() { Err(bad(part, Flaw::EmptyUser)) } else { Ok(Callers::User(name)) }
}

fn kind_of(value: &str) -> Option<Option<CallKind>> {
    KINDS.into_iter().find(|(name, _)| *name == value).map(|(_, kind)| kind)
}

fn number_of(part: &str, value: &str) -> Result<f64, BadRule> {
    let number = value.parse().ok().filter(|number| *number > 0.0 && *number <= NUMBER_MAX);
    number.ok_or_else(|| bad(part, Flaw::BadNumber))
}

/// A value in which `%2C` stands for a comma, and so on for any byte.
fn unescaped(part: &str, value: &str) -> Result<Vec<u8>, BadRule> {
    let mut pieces = value.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let digits = piece.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.ok_or_else(|| bad(part, Flaw::BadEscape))?);
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    Ok(bytes)
}

impl fmt::Display for BadRule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { part, flaw } = self;
        match flaw {
            Flaw::NoValue => write!(out, "name=value instead of '{part}'"),
            Flaw::UnknownName => write!(out, "user=, prefix=, call=, rate= or burst= instead of '{part}'"),
            Flaw::Twice => write!(out, "each part once; '{part}' is one too many"),
            Flaw::BadEscape => write!(out, "two hexadecimal digits after each % in '{part}'; % itself is %25"),
            Flaw::EmptyUser => write!(out, "a user's name or * in '{part}'; leave it out to mean all callers"),
            Flaw::UnknownCall => {
                let names: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
                write!(out, "one of {} in '{part}'", names.join(", "))
            }
            Flaw::BadNumber => write!(out, "a number above 0 and up to {NUMBER_MAX} in '{part}'"),
            Flaw::BurstBelowOne => write!(out, "a burst of at least 1 in '{part}': with less no call ever passes"),
            Flaw::NoRate => write!(out, "rate=, the number of calls a second, in '{part}'"),
            Flaw::SameRule => write!(out, "each rule once; '{part}' is there twice"),
            Flaw::TooMany => write!(out, "at most {RULES_MAX} rules instead of {part}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_has_each_part_at_most_once_and_a_rate() {
        let rules = Rule::parse_list(
            "user=alice,prefix=/app/,call=write,rate=100,burst=200; rate=0.5 ;user=*,call=all,rate=3,prefix=a%2Cb%3B%25%ff;",
        );
        let rules = rules.unwrap();
        let whole = &rules[0];
        assert_eq!(whole.text, "user=alice,prefix=/app/,call=write,rate=100,burst=200");
        assert_eq!((&whole.callers, &whole.prefix[..]), (&Callers::User("alice".into()), &b"/app/"[..]));
        assert_eq!((whole.call, whole.rate, whole.burst), (Some(CallKind::Write), 100.0, 200.0));
        let least = &rules[1];
        assert_eq!((&least.callers, &least.prefix[..], least.call), (&Callers::All, &b""[..], None));
        assert_eq!((least.rate, least.burst), (0.5, 1.0), "one call may always be made at once");
        assert_eq!((&rules[2].callers, &rules[2].prefix[..]), (&Callers::Each, &b"a,b;%\xff"[..]));
        assert_eq!((rules[2].call, rules[2].burst), (None, 3.0));
        assert_eq!(Rule::parse_list(""), Ok(Vec::new()));
    }

    #[test]
    fn what_is_wrong_with_a_rule_is_said_of_the_part_that_is() {
        let many: String = (1..=RULES_MAX + 1).map(|rate| format!("rate={rate};")).collect();
        let rows = [
            ("user", "name=value instead of 'user'"),
            ("rate=1,,burst=2", "name=value instead of ''"),
            ("rate=1,host=a", "user=, prefix=, call=, rate= or burst= instead of 'host=a'"),
            ("rate=1,rate=2", "each part once; 'rate=2' is one too many"),
            ("prefix=%2,rate=1", "two hexadecimal digits after each % in 'prefix=%2'; % itself is %25"),
            ("prefix=%+1,rate=1", "two hexadecimal digits after each % in 'prefix=%+1'; % itself is %25"),
            ("prefix=%é,rate=1", "two hexadecimal digits after each % in 'prefix=%é'; % itself is %25"),
            ("user=%ff,rate=1", "two hexadecimal digits after each % in 'user=%ff'; % itself is %25"),
            ("user=,rate=1", "a user's name or * in 'user='; leave it out to mean all callers"),
            ("call=put,rate=1", "one of read, write, watch, lease, member, maintenance, auth, all in 'call=put'"),
            ("rate=0", "a number above 0 and up to 1000000000 in 'rate=0'"),
            ("rate=-1", "a number above 0 and up to 1000000000 in 'rate=-1'"),
            ("rate=NaN", "a number above 0 and up to 1000000000 in 'rate=NaN'"),
            ("rate=inf", "a number above 0 and up to 1000000000 in 'rate=inf'"),
            ("rate=1,burst=many", "a number above 0 and up to 1000000000 in 'burst=many'"),
            ("rate=1,burst=0.5", "a burst of at least 1 in 'burst=0.5': with less no call ever passes"),
            ("user=a,call=read", "rate=, the number of calls a second, in 'user=a,call=read'"),
            ("rate=1;rate=2;rate=1", "each rule once; 'rate=1' is there twice"),
            (&many, "at most 256 rules instead of 257"),
        ];
        for (text, expected) in rows {
            assert_eq!(Rule::parse_list(text).expect_err(text).to_string(), expected);
        }
    }
}
