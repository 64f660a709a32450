//! A YAML document as a tree that knows its lines.
//!
//! Owns what is bounded: how deep it is, and how much its aliases may stand for. Must not know which keys there are, or what
//! a scalar without quotes is (`plain.rs`).

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use super::error::FileFlaw;

/// Lists and mappings in each other.
const DEPTH_MAX: usize = 16;
/// What all nodes weigh together, with aliases counted as what they stand for.
const WEIGHT_MAX: usize = 8 << 20;
/// What a node weighs besides its text.
const NODE_WEIGHT: usize = 64;

/// The first document of a file.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) root: Option<Node>,
    /// Where another one begins.
    pub(super) next_line: Option<usize>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Node {
    /// From one.
    pub(super) line: usize,
    pub(super) value: Value,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    /// In the order in which they stand there. A key may be there twice, and the last one counts.
    Mapping(Vec<Entry>),
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// Without quotes, so that what it is depends on how it looks.
    pub(super) is_plain: bool,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Entry {
    pub(super) key: Node,
    pub(super) value: Node,
    /// It comes from what a `<<` names.
    pub(super) is_merged: bool,
}

type Flawed = (usize, FileFlaw);

/// Reads the first document of a text; what is wrong comes with its line.
pub(super) fn parse(text: &str) -> Result<Document, Flawed> {
    let mut parser = Parser::new_from_str(text);
    let mut builder = Builder::default();
    let mut document = Document::default();
    let mut documents = 0;
    // Event by event, and not by the parser's own loader, which calls itself for every list in a list.
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| {
            let reason = error.info().to_owned();
            (error.marker().line(), FileFlaw::Syntax { reason })
        })?;
        let line = span.start.line();
        if matches!(event, Event::DocumentStart(_)) {
            documents += 1;
        }
        if documents > 1 {
            document.next_line = Some(line);
            break;
        }
        if let Some(root) = builder.take(event, line)? {
            document.root = Some(root);
        }
    }
    Ok(document)
}

/// A list or a mapping that is not at its end.
#[derive(Debug)]
struct Open {
    line: usize,
    /// By which aliases name it; zero for none.
    anchor: usize,
    nodes: Nodes,
}

#[derive(Debug)]
enum Nodes {
    Items(Vec<Node>),
    /// With the key whose value comes next.
    Entries(Vec<Entry>, Option<Node>),
}

#[derive(Debug, Default)]
struct Builder {
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    weight: usize,
}

impl Builder {
    /// Takes one event. Returns the root once it is at its end.
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<Option<Node>, Flawed> {
        let (anchor, value) = match event {
            Event::SequenceStart(anchor, tag) => {
                check_tag(tag.as_deref(), "seq").map_err(|flaw| (line, flaw))?;
                return self.begin(Open { line, anchor, nodes: Nodes::Items(Vec::new()) });
            }
            Event::MappingStart(anchor, tag) => {
                check_tag(tag.as_deref(), "map").map_err(|flaw| (line, flaw))?;
                return self.begin(Open { line, anchor, nodes: Nodes::Entries(Vec::new(), None) });
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_plain = is_plain(style, tag.as_deref()).map_err(|flaw| (line, flaw))?;
                (anchor, Value::Scalar(Scalar { text: text.into_owned(), is_plain }))
            }
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).ok_or((line, FileFlaw::AliasOfItself))?.clone();
                (0, node.value)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                // The parser ends what it has begun; anything else is no document.
                let Some(ended) = self.open.pop() else { return Ok(None) };
                let value = match ended.nodes {
                    Nodes::Items(items) => Value::List(items),
                    Nodes::Entries(entries, _) => Value::Mapping(merged(entries)?),
                };
                return self.add(ended.anchor, Node { line: ended.line, value });
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                return Ok(None);
            }
        };
        let node = Node { line, value };
        self.weigh(line, weight(&node))?;
        self.add(anchor, node)
    }

    fn begin(&mut self, open: Open) -> Result<Option<Node>, Flawed> {
        if self.open.len() == DEPTH_MAX {
            return Err((open.line, FileFlaw::TooDeep { depth_max: DEPTH_MAX }));
        }
        self.weigh(open.line, NODE_WEIGHT)?;
        self.open.push(open);
        Ok(None)
    }

    fn weigh(&mut self, line: usize, weight: usize) -> Result<(), Flawed> {
        self.weight += weight;
        if self.weight > WEIGHT_MAX { Err((line, FileFlaw::TooMuch)) } else { Ok(()) }
    }

    fn add(&mut self, anchor: usize, node: Node) -> Result<Option<Node>, Flawed> {
        if anchor != 0 {
            // What aliases may give out is kept once more, and so weighs once more.
            self.weigh(node.line, weight(&node))?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.nodes) {
            None => return Ok(Some(node)),
            Some(Nodes::Items(items)) => items.push(node),
            Some(Nodes::Entries(entries, key)) => match key.take() {
                None => *key = Some(node),
                Some(key) => entries.push(Entry { key, value: node, is_merged: false }),
            },
        }
        Ok(None)
    }
}

/// What a node weighs with all that is in it. It is no deeper than is built, so that this calls itself a few times only.
fn weight(node: &Node) -> usize {
    NODE_WEIGHT
        + match &node.value {
            Value::Scalar(scalar) => scalar.text.len(),
            Value::List(items) => items.iter().map(weight).sum(),
            Value::Mapping(entries) => entries.iter().map(|entry| weight(&entry.key) + weight(&entry.value)).sum(),
        }
}

/// Puts what `<<` names into its place. As in etcd, the last one of equal keys counts, be it merged or not, but of several
/// mappings in one `<<` the first.
fn merged(entries: Vec<Entry>) -> Result<Vec<Entry>, Flawed> {
    let is_merge = |key: &Node| matches!(&key.value, Value::Scalar(key) if key.is_plain && key.text == "<<");
    let mut all = Vec::new();
    for entry in entries {
        if !is_merge(&entry.key) {
            all.push(entry);
            continue;
        }
        let mappings = match entry.value.value {
            Value::List(items) => items,
            _ => vec![entry.value],
        };
        for mapping in mappings.into_iter().rev() {
            let Value::Mapping(entries) = mapping.value else {
                return Err((entry.key.line, FileFlaw::MergeOfNoMapping));
            };
            all.extend(entries.into_iter().map(|entry| Entry { is_merged: true, ..entry }));
        }
    }
    Ok(all)
}

/// Whether a scalar is what it looks like. A tag may say so, or that it is a text; as in etcd, a tag of one's own says nothing.
fn is_plain(style: ScalarStyle, tag: Option<&Tag>) -> Result<bool, FileFlaw> {
    match tag.filter(|tag| tag.is_yaml_core_schema()) {
        None => Ok(style == ScalarStyle::Plain),
        Some(tag) => match tag.suffix.as_str() {
            "str" => Ok(false),
            "int" | "float" | "bool" | "null" => Ok(true),
            _ => Err(FileFlaw::UnknownTag { tag: tag.to_string() }),
        },
    }
}

fn check_tag(tag: Option<&Tag>, expected: &str) -> Result<(), FileFlaw> {
    match tag.filter(|tag| tag.is_yaml_core_schema() && tag.suffix != expected) {
        None => Ok(()),
        Some(tag) => Err(FileFlaw::UnknownTag { tag: tag.to_string() }),
    }
}
