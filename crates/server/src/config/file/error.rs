//! Why a configuration file cannot be read.

use std::fmt;

/// Why a configuration file cannot be read. Its text is the one line an operator sees.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileError {
    pub(crate) path: String,
    pub(crate) line: Option<usize>,
    pub(crate) flaw: FileFlaw,
}

/// What is wrong with it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum FileFlaw {
    /// The system does not give it out.
    Unreadable {
        error: String,
    },
    TooLong {
        bytes_max: usize,
    },
    NotUtf8,
    /// It is no YAML, for the reason that the parser gives.
    Syntax {
        reason: String,
    },
    TooDeep {
        depth_max: usize,
    },
    /// With its aliases it stands for more than is read.
    TooMuch,
    /// An alias stands inside of what it is an alias of.
    AliasOfItself,
    /// What `<<` names is no mapping.
    MergeOfNoMapping,
    /// A tag that has no meaning here.
    UnknownTag {
        tag: String,
    },
    /// There are no keys.
    NotAMapping,
    KeyIsNoText,
    /// There are no keys below a section.
    NotASection {
        section: String,
    },
    /// A list or a mapping where a value is expected.
    NotAValue {
        key: String,
        may_be_list: bool,
    },
    /// An item of a list that would be two, or none.
    NotAnItem {
        key: String,
        item: String,
    },
}

impl fmt::Display for FileError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(out, "{}:{line}: {}", self.path, self.flaw),
            None => write!(out, "{}: {}", self.path, self.flaw),
        }
    }
}

impl fmt::Display for FileFlaw {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { error } => write!(out, "the configuration file cannot be read: {error}"),
            Self::TooLong { bytes_max } => write!(out, "the configuration file has more than {bytes_max} bytes"),
            Self::NotUtf8 => out.write_str("the configuration file is not in UTF-8"),
            Self::Syntax { reason } => write!(out, "no YAML: {reason}"),
            Self::TooDeep { depth_max } => write!(out, "more than {depth_max} lists and mappings in each other"),
            Self::TooMuch => out.write_str("too much for a configuration; are aliases repeated?"),
            Self::AliasOfItself => out.write_str("an alias in what it is an alias of"),
            Self::MergeOfNoMapping => out.write_str("<< needs a mapping, or a list of them"),
            Self::UnknownTag { tag } => write!(out, "the tag {tag:?} has no meaning here; leave it away"),
            Self::NotAMapping => out.write_str("expected keys and values, such as \"name: n1\""),
            Self::KeyIsNoText => out.write_str("a key is a list or a mapping; expected the name of a flag"),
            Self::NotASection { section } => {
                write!(out, "{section}: expected keys of its own, indented below it, such as \"cert-file: a.crt\"")
            }
            Self::NotAValue { key, may_be_list: true } => write!(out, "{key}: expected a text or a list of texts"),
            Self::NotAValue { key, may_be_list: false } => {
                write!(out, "{key}: expected one value, and found a list or a mapping")
            }
            Self::NotAnItem { key, item } => {
                write!(out, "{key}: an item of the list is {item:?}; expected a text without a comma")
            }
        }
    }
}
