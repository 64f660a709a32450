//! etcd's configuration file: one YAML mapping whose keys are the flags' names, some of them in sections.
//!
//! Owns which flag a key means, what its value is as the flag's text, and where in the file it stands. What comes of it is
//! judged as if it came from the command line. Must not know what a value means to the server (`config.rs`).

mod error;
mod plain;
mod yaml;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use super::Config;
use super::arguments::Settings;
use super::error::ConfigError;
use super::flags::{self, Flag, Kind};
pub use error::FileError;
use error::FileFlaw;
use plain::Plain;
use yaml::{Entry, Node, Scalar, Value};

/// A longer file is refused.
const FILE_BYTES_MAX: usize = 1 << 20;

/// Values that mean the default in a file, as in etcd, though as a flag they are wrong.
const ARE_DEFAULT: [(&str, &str); 4] =
    [("initial-cluster-state", ""), ("discovery-fallback", ""), ("proxy", ""), ("self-signed-cert-validity", "0")];

/// The file that settings are from.
#[derive(Debug, Default)]
pub(crate) struct Source {
    pub(crate) path: String,
    places: BTreeMap<&'static str, Place>,
}

/// Where in the file a flag is set.
#[derive(Debug)]
struct Place {
    line: usize,
    /// With the section that it is in.
    key: String,
    /// By `<<`, which is there to be set again.
    is_merged: bool,
}

impl Source {
    /// An error about a flag, with the place in the file that the flag is from.
    pub(crate) fn locate(&self, error: ConfigError) -> ConfigError {
        let place = error.flag().and_then(|flag| self.places.get(flag));
        let key = place.filter(|place| error.flag() != Some(&place.key)).map(|place| place.key.clone());
        let (path, line) = (self.path.clone(), place.map(|place| place.line));
        ConfigError::InFile { path, line, key, error: Box::new(error) }
    }

    /// What a line about a flag begins with.
    pub(crate) fn place_of(&self, flag: &str) -> String {
        match self.places.get(flag) {
            Some(place) => self.at(place.line),
            None => format!("{}: ", self.path),
        }
    }

    fn at(&self, line: usize) -> String {
        format!("{}:{line}: ", self.path)
    }
}

/// Reads a file, and no more of it than is needed to see that it is too long.
pub(crate) fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The flags that a configuration file sets.
pub(super) fn read(
    path: &str,
    read_file: impl FnOnce(&Path) -> std::io::Result<Vec<u8>>,
) -> Result<Settings, ConfigError> {
    let flawed = |line, flaw| ConfigError::File(FileError { path: path.to_owned(), line, flaw });
    let bytes =
        read_file(Path::new(path)).map_err(|error| flawed(None, FileFlaw::Unreadable { error: error.to_string() }))?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(flawed(None, FileFlaw::TooLong { bytes_max: FILE_BYTES_MAX }));
    }
    let text = String::from_utf8(bytes).map_err(|_| flawed(None, FileFlaw::NotUtf8))?;
    let document =
        yaml::parse(text.strip_prefix('\u{feff}').unwrap_or(&text)).map_err(|(line, flaw)| flawed(Some(line), flaw))?;
    let mut reader = Reader::default();
    reader.source.path = path.to_owned();
    if let Some(line) = document.next_line {
        reader.warn(line, "a second document begins; it has no effect");
    }
    match document.root {
        // As in etcd, an empty file is one in which nothing is set.
        None => {}
        Some(Node { value: Value::Mapping(entries), .. }) => reader.read_mapping(entries)?,
        Some(Node { value: Value::Scalar(scalar), .. }) if is_null(&scalar) => {}
        Some(Node { line, .. }) => return Err(flawed(Some(line), FileFlaw::NotAMapping)),
    }
    let mut settings = reader.settings;
    settings.source = Some(reader.source);
    Ok(settings)
}

#[derive(Default)]
struct Reader {
    settings: Settings,
    source: Source,
}

impl Reader {
    fn read_mapping(&mut self, entries: Vec<Entry>) -> Result<(), ConfigError> {
        let mut sections = Vec::new();
        for Entry { key, value, is_merged } in entries {
            let name = self.name_of(&key)?;
            if flags::is_section(&name) {
                sections.push((key.line, name, value));
            } else {
                self.read_key("", &name, (key.line, is_merged), value)?;
            }
        }
        // Behind all others: what is said twice, counts as it does in etcd, which reads these keys in sections alone.
        for (line, section, value) in sections {
            match value.value {
                Value::Mapping(entries) => {
                    for Entry { key, value, is_merged } in entries {
                        let name = self.name_of(&key)?;
                        self.read_key(&section, &name, (key.line, is_merged), value)?;
                    }
                }
                Value::Scalar(scalar) if is_null(&scalar) => {}
                _ => return Err(self.flawed(line, FileFlaw::NotASection { section })),
            }
        }
        Ok(())
    }

    /// A key as the table of flags writes it. As in etcd, capitals do not matter.
    fn name_of(&self, key: &Node) -> Result<String, ConfigError> {
        match &key.value {
            Value::Scalar(scalar) => Ok(scalar.text.to_ascii_lowercase()),
            _ => Err(self.flawed(key.line, FileFlaw::KeyIsNoText)),
        }
    }

    fn read_key(
        &mut self,
        section: &str,
        name: &str,
        (line, is_merged): (usize, bool),
        value: Node,
    ) -> Result<(), ConfigError> {
        let key = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
        let Some((flag, is_old)) = flags::find_key(section, name) else {
            self.warn(line, &format!("unknown key {key:?} has no effect; 'vlot server --help' lists all"));
            return Ok(());
        };
        if flag.name == "config-file" {
            self.warn(line, "a configuration file names no other; config-file has no effect");
            return Ok(());
        }
        let is_default =
            |text: &String| (flag.kind == Kind::List && text.is_empty()) || ARE_DEFAULT.contains(&(flag.name, text));
        let text = self.text_of(flag, &key, line, &value)?.filter(|text| !is_default(text));
        if is_old {
            self.warn(line, &format!("{key} is an old spelling of {}", flag.name));
        }
        // Without a value, a key takes back what it said itself, and not what another key of the flag says.
        let before = self.source.places.get(flag.name).filter(|before| text.is_some() || before.key == key);
        if let Some(before) = before.filter(|before| !before.is_merged) {
            let told = format!("{key} is set again; what {} in line {} says has no effect", before.key, before.line);
            self.warn(line, &told);
        }
        let Some(text) = text else {
            if self.source.places.get(flag.name).is_some_and(|before| before.key == key) {
                self.source.places.remove(flag.name);
                self.settings.unset(flag.name);
            }
            return Ok(());
        };
        self.source.places.insert(flag.name, Place { line, key, is_merged });
        self.settings.set(flag.name, text).map_err(|error| self.source.locate(error))
    }

    /// A value as the flag's text; `None` leaves the flag unset.
    fn text_of(&mut self, flag: &Flag, key: &str, line: usize, node: &Node) -> Result<Option<String>, ConfigError> {
        let is_list = flag.kind == Kind::List || flag.adds_up;
        let not_a_value = |line| (line, FileFlaw::NotAValue { key: key.to_owned(), may_be_list: is_list });
        match &node.value {
            Value::Scalar(scalar) => Ok(self.scalar(flag, key, line, scalar)),
            Value::List(items) if is_list => {
                let mut texts = Vec::new();
                for item in items {
                    let Value::Scalar(scalar) = &item.value else {
                        let (line, flaw) = not_a_value(item.line);
                        return Err(self.flawed(line, flaw));
                    };
                    let text = self.scalar(flag, key, item.line, scalar).unwrap_or_default();
                    // It would be two items of which neither was meant, or none: names that are let in, for instance.
                    if !flag.adds_up && (text.contains(',') || text.trim().is_empty()) {
                        return Err(self.flawed(item.line, FileFlaw::NotAnItem { key: key.to_owned(), item: text }));
                    }
                    texts.push(text);
                }
                Ok(Some(texts.join(if flag.adds_up { ";" } else { "," })))
            }
            Value::List(_) | Value::Mapping(_) => {
                let (line, flaw) = not_a_value(line);
                Err(self.flawed(line, flaw))
            }
        }
    }

    /// A scalar as etcd takes it: without quotes, numbers and switches are written as YAML has them. Where a flag is a text it
    /// is the text, whatever YAML takes it for; etcd refuses that.
    fn scalar(&mut self, flag: &Flag, key: &str, line: usize, scalar: &Scalar) -> Option<String> {
        let written = &scalar.text;
        if !scalar.is_plain {
            return Some(written.clone());
        }
        match (plain::read(written), flag.kind) {
            (Plain::Null, _) => None,
            (Plain::Switch(is_on), Kind::Switch) => Some(is_on.to_string()),
            (Plain::Number(number), Kind::Integer) => Some(number.to_string()),
            (Plain::Number(number), Kind::Duration) => {
                if (1..1_000_000).contains(&number) {
                    let told = format!("{key}: {written} is in nanoseconds, as in etcd; write 5s for five seconds");
                    self.warn(line, &told);
                }
                Some(format!("{number}ns"))
            }
            _ => Some(written.clone()),
        }
    }

    fn flawed(&self, line: usize, flaw: FileFlaw) -> ConfigError {
        ConfigError::File(FileError { path: self.source.path.clone(), line: Some(line), flaw })
    }

    fn warn(&mut self, line: usize, told: &str) {
        self.settings.warnings.push(format!("{}{told}", self.source.at(line)));
    }
}

fn is_null(scalar: &Scalar) -> bool {
    scalar.is_plain && plain::read(&scalar.text) == Plain::Null
}

/// Reads bytes as a configuration file, for fuzzers.
///
/// # Panics
/// If something does not hold that must.
pub(crate) fn read_as_file(bytes: &[u8]) {
    let config = Config::read_with(["--config-file=f".to_owned()], [], |_| Ok(bytes.to_vec()));
    match config {
        Err(error) => {
            let line = error.to_string();
            assert!(line.starts_with("f:") && !line.contains('\n'), "{line:?}");
        }
        Ok(config) => assert!(config.election_timeout >= config.heartbeat),
    }
    let Ok(settings) = read("f", |_| Ok(bytes.to_vec())) else { return };
    // JSON is YAML, and what is in quotes is taken as it is.
    let values: BTreeMap<_, _> =
        flags::FLAGS.iter().filter_map(|flag| settings.given(flag.name).map(|text| (flag.name, text))).collect();
    let written = serde_json::to_vec(&values).unwrap_or_default();
    if written.len() <= FILE_BYTES_MAX {
        let again = read("f", |_| Ok(written)).unwrap_or_else(|error| panic!("{error}: {values:?}"));
        for (flag, text) in values {
            assert_eq!(again.given(flag), Some(text), "{flag}");
        }
    }
}

#[cfg(test)]
mod tests;
