//! `vlot explain DUMP...`: why the leader changed, from the flight records of the nodes.
//!
//! Owns flags, where dumps are looked for, output and exit codes. How the records of several nodes become one is in
//! `chronicle.rs`, what changed and why in `story.rs`, its sentences in `sentences.rs`, the picture in `picture.rs`. Reads
//! files and nothing else: the nodes need not run.

mod chronicle;
mod picture;
mod sentences;
mod story;

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};
use vlot::GroupId;
use vlot::recorder::{BadDump, Dump, EXTENSION};

use chronicle::Chronicle;

/// How deep below a directory dumps are looked for: a folder of several data directories has them in DIR/NODE/log/flight.
const DEPTH_MAX: u32 = 4;
/// The longest file that is read. A node writes none that is nearly as long, unless it was told to keep very much.
const DUMP_BYTES_MAX: u64 = 256 << 20;

const ABOUT: &str = "\
Tell why a cluster's leader changed, from the flight records of its nodes: a paragraph for each change, with what each node knew \
and did, and the cause as far as the records tell.

DUMP is a file that a node has written, or a directory: every '*.flight' in it or a few levels below is read. A server keeps them \
in DATA_DIR/log/flight: it writes one when a leader changes, when it fails, and when it gets SIGUSR1. Give those of all nodes; \
what a missing one would have told is said. The clocks of nodes may differ: they are aligned by the votes that nodes gave each other.";

const EXIT_CODES: &str = "\
Exit codes: 0 if everything was read, 1 if there is no dump, or one is broken or cannot be read, or the picture cannot be written.";

/// The command.
pub(crate) fn command() -> Command {
    let dumps = Arg::new("dumps").value_name("DUMP").required(true).num_args(1..);
    let group = Arg::new("group").long("group").value_name("N").value_parser(value_parser!(u64));
    let picture = Arg::new("picture").long("picture").value_name("FILE.svg");
    Command::new("explain")
        .about("Tell why the leader changed, from the nodes' flight records")
        .long_about(ABOUT)
        .after_help(EXIT_CODES)
        .arg(dumps.value_parser(value_parser!(PathBuf)).help("A flight record, or a directory of them"))
        .arg(group.help("Only this group"))
        .arg(picture.value_parser(value_parser!(PathBuf)).help("Draw it too, a lane for each node, into this file"))
}

/// Runs it.
pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    match explain(matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !matches!(error, ExplainError::Unheard) {
                // If that fails there is nowhere left to say so.
                let _ = writeln!(io::stderr(), "Error: {error}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Why nothing is explained.
#[derive(Debug)]
enum ExplainError {
    Unreadable {
        path: PathBuf,
        error: io::Error,
    },
    TooLong {
        path: PathBuf,
    },
    NotText {
        path: PathBuf,
    },
    Broken {
        path: PathBuf,
        why: BadDump,
    },
    NoDumps,
    OtherCluster {
        path: PathBuf,
        cluster: u64,
        expected: u64,
    },
    NoGroup {
        group: GroupId,
    },
    Picture {
        path: PathBuf,
        error: io::Error,
    },
    /// The output cannot be written.
    Unheard,
}

fn explain(matches: &ArgMatches) -> Result<(), ExplainError> {
    let mut files = Vec::new();
    for path in matches.get_many::<PathBuf>("dumps").into_iter().flatten() {
        find(path, &mut files)?;
    }
    files.sort();
    files.dedup();
    let dumps: Vec<(PathBuf, Dump)> = files.into_iter().map(read).collect::<Result<_, _>>()?;
    let Some((_, first)) = dumps.first() else { return Err(ExplainError::NoDumps) };
    let expected = first.origin.cluster;
    if let Some((path, dump)) = dumps.iter().find(|(_, dump)| dump.origin.cluster != expected) {
        return Err(ExplainError::OtherCluster { path: path.clone(), cluster: dump.origin.cluster, expected });
    }
    let chronicle = Chronicle::of(dumps.into_iter().map(|(_, dump)| dump).collect());
    let asked = matches.get_one::<u64>("group").map(|group| GroupId(*group));
    let groups: Vec<GroupId> =
        chronicle.groups().into_iter().filter(|group| asked.is_none_or(|asked| asked == *group)).collect();
    if let Some(group) = asked.filter(|_| groups.is_empty()) {
        return Err(ExplainError::NoGroup { group });
    }
    let stories: Vec<(GroupId, Vec<story::Change>)> =
        groups.into_iter().map(|group| (group, story::changes(&chronicle, group))).collect();
    let text = sentences::tell(&chronicle, &stories);
    io::stdout().write_all(text.as_bytes()).map_err(|_| ExplainError::Unheard)?;
    if let Some(path) = matches.get_one::<PathBuf>("picture") {
        let drawn = picture::draw(&chronicle, &stories);
        fs::write(path, drawn).map_err(|error| ExplainError::Picture { path: path.clone(), error })?;
    }
    Ok(())
}

/// The dumps at a path, wherever they are below it.
fn find(path: &Path, found: &mut Vec<PathBuf>) -> Result<(), ExplainError> {
    let unreadable = |error| ExplainError::Unreadable { path: path.to_owned(), error };
    if !fs::metadata(path).map_err(unreadable)?.is_dir() {
        found.push(path.to_owned());
        return Ok(());
    }
    find_below(path, DEPTH_MAX, found).map_err(unreadable)
}

fn find_below(dir: &Path, depth: u32, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() && depth > 0 {
            find_below(&path, depth - 1, found)?;
        } else if kind.is_file() && path.extension().is_some_and(|extension| extension == EXTENSION) {
            found.push(path);
        }
    }
    Ok(())
}

fn read(path: PathBuf) -> Result<(PathBuf, Dump), ExplainError> {
    let unreadable = |error| ExplainError::Unreadable { path: path.clone(), error };
    let mut bytes = Vec::new();
    let file = fs::File::open(&path).map_err(unreadable)?;
    file.take(DUMP_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > DUMP_BYTES_MAX {
        return Err(ExplainError::TooLong { path });
    }
    let Ok(text) = String::from_utf8(bytes) else { return Err(ExplainError::NotText { path }) };
    match Dump::decode(&text) {
        Ok(dump) => Ok((path, dump)),
        Err(why) => Err(ExplainError::Broken { path, why }),
    }
}

impl fmt::Display for ExplainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, error } => write!(f, "cannot read {}: {error}", path.display()),
            Self::TooLong { path } => write!(f, "{}: too long for a flight record", path.display()),
            Self::NotText { path } => write!(f, "{}: no flight record: it is no text", path.display()),
            Self::Broken { path, why } => write!(f, "{}: {why}", path.display()),
            Self::NoDumps => write!(f, "there is no flight record: no file that ends with '.{EXTENSION}'"),
            Self::OtherCluster { path, cluster, expected } => write!(
                f,
                "{}: of cluster {cluster:x}, while another record is of cluster {expected:x}; give the records of one \
                 cluster",
                path.display()
            ),
            Self::NoGroup { group } => write!(f, "the records say nothing of group {group}"),
            Self::Picture { path, error } => write!(f, "cannot write {}: {error}", path.display()),
            Self::Unheard => f.write_str("the output cannot be written"),
        }
    }
}
