//! `vlot log dump`: what is written, a record a line.

use std::io::{self, Write};
use std::ops::{ControlFlow, RangeInclusive};
use std::path::Path;

use clap::ArgMatches;
use vlot::GroupId;
use vlot::inspect::{self, Record, Sight, What, WrittenEntry};

use super::{End, head, id, output, refuse_damage};

/// What is to be printed.
struct Wanted {
    group: Option<GroupId>,
    indices: RangeInclusive<u64>,
    /// Whether some entries are not wanted: then nothing but entries, and the records that they are in, is.
    only_entries: bool,
    brief: bool,
}

impl Wanted {
    fn read(matches: &ArgMatches) -> Wanted {
        let number = |name: &str| matches.get_one::<u64>(name).copied();
        let (from, upto) = (number("from"), number("upto"));
        Wanted {
            group: number("group").map(GroupId),
            indices: from.unwrap_or(0)..=upto.unwrap_or(u64::MAX),
            only_entries: from.is_some() || upto.is_some(),
            brief: matches.get_flag("brief"),
        }
    }

    fn has(&self, entry: &WrittenEntry<'_>) -> bool {
        self.indices.contains(&entry.id.index.0)
    }

    /// Whether a record is wanted that is of this group and has these entries.
    fn takes(&self, group: Option<GroupId>, entries: &[WrittenEntry<'_>]) -> bool {
        (self.group.is_none() || self.group == group)
            && (!self.only_entries || entries.iter().any(|entry| self.has(entry)))
    }
}

/// Prints the records; then says whether the log is damaged.
pub(super) fn run(log: &Path, matches: &ArgMatches) -> Result<(), End> {
    let wanted = Wanted::read(matches);
    let mut output = output();
    let mut heard = Ok(());
    inspect::walk(log, &mut |sight| {
        heard = print(&sight, &wanted, &mut output);
        if heard.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    heard.and_then(|()| output.flush())?;
    refuse_damage(inspect::judge(log)).map(drop)
}

fn print(sight: &Sight<'_>, wanted: &Wanted, output: &mut impl Write) -> io::Result<()> {
    match sight {
        Sight::Segment { sequence, bytes, identity } => {
            let (name, cluster, node) = (inspect::name(*sequence), identity.cluster, identity.node.0);
            writeln!(output, "{name}:0 segment bytes={bytes} cluster={cluster:x} node={node:x}")
        }
        Sight::Refused { sequence, refusal } => writeln!(output, "{}:0 refused {refusal}", inspect::name(*sequence)),
        Sight::Unreadable { sequence, offset, upto, flaw } => {
            writeln!(output, "{}:{offset} unreadable bytes={} {flaw}", inspect::name(*sequence), upto - offset)
        }
        Sight::Record(record) => print_record(record, wanted, output),
    }
}

fn print_record(record: &Record<'_>, wanted: &Wanted, output: &mut impl Write) -> io::Result<()> {
    let Record { sequence, offset, durable, what, .. } = record;
    let (group, entries) = parts(what);
    if !wanted.takes(group, entries) {
        return Ok(());
    }
    let name = inspect::name(*sequence);
    writeln!(output, "{name}:{offset} {} durable={durable}", said(what))?;
    if wanted.brief {
        return Ok(());
    }
    // Whatever has entries has a group.
    let group = group.unwrap_or_default();
    for entry in entries.iter().filter(|entry| wanted.has(entry)) {
        let WrittenEntry { id, offset, payload, flaw } = entry;
        write!(output, "{name}:{offset} entry group={group} index={} term={}", id.index, id.term)?;
        write!(output, " bytes={} {}", payload.len(), head(payload))?;
        match flaw {
            Some(flaw) => writeln!(output, " damaged: {flaw}")?,
            None => writeln!(output)?,
        }
    }
    Ok(())
}

pub(super) fn parts<'a>(what: &'a What<'a>) -> (Option<GroupId>, &'a [WrittenEntry<'a>]) {
    match what {
        What::Append { group, entries, .. } | What::Rewrite { group, entries } => (Some(*group), entries),
        What::Vote { group, .. } | What::LogStart { group, .. } | What::Remove { group } => (Some(*group), &[]),
        What::FirstSegment { .. } | What::Mark | What::End => (None, &[]),
    }
}

fn said(what: &What<'_>) -> String {
    match what {
        What::Vote { group, term, vote } => format!("vote group={group} term={term} vote={}", id(*vote)),
        What::Append { group, after, entries } => {
            format!("append group={group} after={after} entries={}", range(entries))
        }
        What::LogStart { group, after, stays, note } => {
            format!("begin group={group} after={after} stays={stays} bytes={} {}", note.len(), head(note))
        }
        What::Rewrite { group, entries } => format!("rewrite group={group} entries={}", range(entries)),
        What::Remove { group } => format!("remove group={group}"),
        What::FirstSegment { oldest } => format!("first-segment oldest={}", inspect::name(*oldest)),
        What::Mark => "mark".to_owned(),
        What::End => "end".to_owned(),
    }
}

fn range(entries: &[WrittenEntry<'_>]) -> String {
    match entries {
        [] => "none".to_owned(),
        [first, .., last] => format!("{}..{}", first.id.index, last.id.index),
        [one] => format!("{0}..{0}", one.id.index),
    }
}
