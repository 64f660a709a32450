//! `vlot log dump|verify|stat`: look at the log in a data directory, whether or not a node runs on it.
//!
//! Owns flags, output and exit codes: 0 for a log that a node would open, 2 for one that is damaged, 1 for whatever keeps
//! the command from telling. Must not know how a log is read, nor change anything.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};
use vlot::inspect::{self, Damage, Judgement, OpenError, Outlived, TornTail};

mod dump;
mod stat;

/// The folder of a data directory that has the log.
const FOLDER: &str = "log";
/// How many bytes of a payload or a note are shown.
const HEAD_BYTES: usize = 32;

const ABOUT: &str = "\
Look at the log in a data directory. Nothing is written and nothing is locked: DIR may be of a node that runs, and is then \
seen as it is at some moment, a write under way as a torn tail.

DIR is a data directory, or the folder 'log' in it.";

const EXIT_CODES: &str = "\
Exit codes: 0 if a node would open the log, 2 if it is damaged, 1 if there is no log in DIR or it cannot be read. A torn \
tail, the remains of a write that was never reported as durable, is no damage: a node that starts cuts it.";

const DUMP: &str = "\
Print what is written in the log, in the order in which it was written, a record a line and a line for each of its entries:

  FILE:OFFSET segment bytes=N cluster=ID node=ID
  FILE:OFFSET vote group=N term=N vote=ID|none
  FILE:OFFSET append group=N after=INDEX entries=FIRST..LAST|none     the log is cut after INDEX, then entries follow
  FILE:OFFSET entry group=N index=N term=N bytes=N \"HEAD\"...          where its payload is, and how it begins
  FILE:OFFSET begin group=N after=INDEX@TERM stays=true|false bytes=N \"HEAD\"...     the log begins after an entry
  FILE:OFFSET rewrite group=N entries=FIRST..LAST                     entries that are in the log, once more
  FILE:OFFSET first-segment oldest=FILE                               segments before are not needed
  FILE:OFFSET remove group=G                                          the group is gone
  FILE:OFFSET mark                                                    what comes before is durable
  FILE:OFFSET end                                                     another segment follows
  FILE:OFFSET unreadable bytes=N FLAW                                 damage or a torn tail: see 'vlot log verify'
  FILE:OFFSET refused FLAW                                            the segment as a whole

Records end with durable=OFFSET: what comes before it in the segment was known to be durable when they were written. What a \
record says may be undone by a later one: 'vlot log stat' has what is left. docs/disk-format.md has every byte.";

const VERIFY: &str = "\
Read the whole log as a node does when it starts, check every checksum, and say what is found:

  intact: ...                 all that was ever known to be durable is there
  torn tail: ...              a write that was never reported as durable is there in part
  outlived damage: ...        entries have changed that have left the log since
  damaged: entries ...        these entries have changed; a node gets them from its peers
  damaged: all after ...      the log can be told up to there, and no further";

const STAT: &str = "\
Print what there is of each segment and each group, a line each:

  segment FILE bytes=N records=N entries=N record_bytes=N live_bytes=N
  group N records=N entries=N payload_bytes=N term=N vote=ID|none after=INDEX@TERM last=INDEX@TERM live_entries=N live_payload_bytes=N
  total segments=N bytes=N records=N entries=N record_bytes=N live_bytes=N

What is written is counted first, what of it is still in the log after it: live_bytes is what keeps a segment. It is not \
told of a damaged log.";

/// The command and its subcommands.
pub(crate) fn command() -> Command {
    let dir = || {
        let help = "A data directory, or the folder 'log' in it";
        Arg::new("dir").value_name("DIR").required(true).value_parser(value_parser!(PathBuf)).help(help)
    };
    let number = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("N").value_parser(value_parser!(u64)).help(help)
    };
    let command = |name: &'static str, about: &'static str, long: &'static str| {
        Command::new(name).about(about).long_about(long).after_help(EXIT_CODES).arg(dir())
    };
    Command::new("log")
        .about("Look at the log in a data directory: records, damage, sums")
        .long_about(ABOUT)
        .after_help(EXIT_CODES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([
            command("dump", "Print what is written, a record a line", DUMP)
                .arg(number("group", "Only what is of this group"))
                .arg(number("from", "Only entries from this index on"))
                .arg(number("upto", "Only entries up to this index"))
                .arg(Arg::new("brief").long("brief").num_args(0).help("Records alone, without a line for each entry")),
            command("verify", "Check every byte as a node that starts does", VERIFY),
            command("stat", "Print sums for each segment and each group", STAT),
        ])
}

/// Runs the subcommand.
pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    let (name, matches) = matches.subcommand().expect("log requires a subcommand");
    let dir: &PathBuf = matches.get_one("dir").expect("DIR is required");
    let done = log_of(dir).and_then(|log| match name {
        "dump" => dump::run(&log, matches),
        "verify" => verify(&log),
        _ => stat::run(&log),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(end) => {
            if let Some(line) = end.line() {
                // If that fails there is nowhere left to say so.
                let _ = writeln!(std::io::stderr(), "Error: {line}");
            }
            end.code()
        }
    }
}

/// How a command ends when it does not succeed.
enum End {
    /// The log is damaged, and how that shows first.
    Damaged(Damage),
    /// The log cannot be opened.
    Open(OpenError),
    /// There is none.
    NoLog { dir: PathBuf },
    /// The output cannot be written.
    Unheard,
}

impl End {
    fn line(&self) -> Option<String> {
        match self {
            Self::Damaged(damage) => Some(format!("the log is damaged: {}", described(damage))),
            Self::Open(error) if self.is_of_damage() => Some(format!("the log is damaged: {error}")),
            Self::Open(error) => Some(error.to_string()),
            Self::NoLog { dir } => Some(format!("{}: there is no log here", dir.display())),
            Self::Unheard => None,
        }
    }

    fn is_of_damage(&self) -> bool {
        match self {
            Self::Damaged(_) => true,
            Self::Open(error) => match error {
                OpenError::Io(_) | OpenError::NoSpace(_) | OpenError::Dir(_) => false,
                OpenError::Corrupt { .. }
                | OpenError::Missing { .. }
                | OpenError::Damaged { .. }
                | OpenError::OtherIdentity { .. }
                | OpenError::OtherVersion { .. } => true,
            },
            Self::NoLog { .. } | Self::Unheard => false,
        }
    }

    fn code(&self) -> ExitCode {
        ExitCode::from(if self.is_of_damage() { 2 } else { 1 })
    }
}

impl From<OpenError> for End {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

impl From<std::io::Error> for End {
    fn from(_: std::io::Error) -> Self {
        Self::Unheard
    }
}

fn log_of(dir: &Path) -> Result<PathBuf, End> {
    inspect::find(dir, FOLDER)?.ok_or_else(|| End::NoLog { dir: dir.to_owned() })
}

/// What is printed, gathered into large writes.
fn output() -> BufWriter<std::io::StdoutLock<'static>> {
    BufWriter::with_capacity(64 * 1024, std::io::stdout().lock())
}

fn verify(log: &Path) -> Result<(), End> {
    let mut output = output();
    let judged = inspect::judge(log);
    match &judged {
        Ok(Judgement { segments, groups, torn, damaged, outlived }) => {
            damaged.iter().try_for_each(|damage| writeln!(output, "damaged: {}", described(damage)))?;
            torn.iter().try_for_each(|torn| writeln!(output, "torn tail: {}", described_tail(torn)))?;
            if let Some(Outlived { file, offset, flaw }) = outlived {
                writeln!(output, "outlived damage: {}:{offset}: {flaw}", file.display())?;
            }
            if damaged.is_empty() {
                let records: u64 = segments.iter().map(|segment| u64::from(segment.record_bytes)).sum();
                let (segments, groups) = (segments.len(), groups.len());
                writeln!(output, "intact: {segments} segments, {records} bytes of records, {groups} groups")?;
            }
        }
        Err(OpenError::Corrupt { file, offset, flaw }) => {
            writeln!(output, "damaged: all after {}:{offset}: {flaw}", file.display())?;
        }
        Err(_) => {}
    }
    output.flush()?;
    refuse_damage(judged).map(drop)
}

/// The log's judgement, if it is not damaged.
fn refuse_damage(judged: Result<Judgement, OpenError>) -> Result<Judgement, End> {
    let judgement = judged?;
    match judgement.damaged.first() {
        Some(damage) => Err(End::Damaged(damage.clone())),
        None => Ok(judgement),
    }
}

fn described(damage: &Damage) -> String {
    match damage {
        Damage::Entries { group, first, last, file, offset, flaw } => {
            format!("entries {first}..{last} of group {group} at {}:{offset}: {flaw}", file.display())
        }
        Damage::Rest { file, offset, flaw } => format!("all after {}:{offset}: {flaw}", file.display()),
    }
}

fn described_tail(TornTail { file, offset, bytes, flaw }: &TornTail) -> String {
    format!("{bytes} bytes at {}:{offset}: {flaw}", file.display())
}

/// How bytes begin: printable ones as they are, others as `\x00`.
fn head(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(HEAD_BYTES)];
    let mut text = format!("\"{}\"", shown.escape_ascii());
    if shown.len() < bytes.len() {
        text.push_str("...");
    }
    text
}

/// A node's id as etcd prints it, or `none`.
fn id(node: Option<vlot::NodeId>) -> String {
    node.map_or_else(|| "none".to_owned(), |node| format!("{:x}", node.0))
}
