//! `vlot log stat`: sums for each segment and each group.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;

use vlot::GroupId;
use vlot::inspect::{self, GroupSizes, Record, Sight, WrittenEntry};

use super::{End, id, output, refuse_damage};

/// What is written, whether or not it is still in the log.
#[derive(Clone, Copy, Debug, Default)]
struct Written {
    /// Of a segment: how long the file is.
    file_bytes: u64,
    records: u64,
    record_bytes: u64,
    entries: u64,
    payload_bytes: u64,
}

impl Written {
    fn add(&mut self, record: &Record<'_>, entries: &[WrittenEntry<'_>]) {
        self.records += 1;
        self.record_bytes += u64::from(record.bytes);
        self.entries += entries.len() as u64;
        self.payload_bytes += entries.iter().map(|entry| entry.payload.len() as u64).sum::<u64>();
    }
}

/// Prints the sums; then says whether the log is damaged.
pub(super) fn run(log: &Path) -> Result<(), End> {
    let (segments, groups) = count(log)?;
    let judged = inspect::judge(log);
    let mut output = output();
    let live = |sequence| {
        let segments = judged.as_ref().map_or(&[][..], |judgement| &judgement.segments);
        segments.iter().find(|segment| segment.sequence == sequence).map_or(0, |segment| segment.live_bytes)
    };
    let (mut total, mut total_live) = (Written::default(), 0);
    for (&sequence, written) in &segments {
        let live = live(sequence);
        writeln!(output, "segment {} {} live_bytes={live}", inspect::name(sequence), of_segment(written))?;
        total.file_bytes += written.file_bytes;
        total.records += written.records;
        total.entries += written.entries;
        total.record_bytes += written.record_bytes;
        total_live += live;
    }
    for (group, Written { records, entries, payload_bytes, .. }) in &groups {
        write!(output, "group {group} records={records} entries={entries} payload_bytes={payload_bytes}")?;
        match judged.as_ref().ok().and_then(|judgement| judgement.groups.get(group)) {
            Some(sizes) => writeln!(output, " {}", of_group(sizes))?,
            None => writeln!(output)?,
        }
    }
    writeln!(output, "total segments={} {} live_bytes={total_live}", segments.len(), of_segment(&total))?;
    output.flush()?;
    refuse_damage(judged).map(drop)
}

/// What was written of each segment and of each group.
type Counts = (BTreeMap<u32, Written>, BTreeMap<GroupId, Written>);

fn count(log: &Path) -> Result<Counts, End> {
    let (mut segments, mut groups) = Counts::default();
    inspect::walk(log, &mut |sight| {
        match sight {
            Sight::Segment { sequence, bytes, .. } => {
                segments.entry(sequence).or_default().file_bytes = u64::from(bytes);
            }
            Sight::Record(record) => {
                let (group, entries) = super::dump::parts(&record.what);
                segments.entry(record.sequence).or_default().add(&record, entries);
                if let Some(group) = group {
                    groups.entry(group).or_default().add(&record, entries);
                }
            }
            Sight::Refused { .. } | Sight::Unreadable { .. } => {}
        }
        ControlFlow::Continue(())
    })?;
    Ok((segments, groups))
}

fn of_segment(written: &Written) -> String {
    let Written { file_bytes, records, record_bytes, entries, .. } = written;
    format!("bytes={file_bytes} records={records} entries={entries} record_bytes={record_bytes}")
}

fn of_group(GroupSizes { state, payload_bytes }: &GroupSizes) -> String {
    let (term, vote, after, last) = (state.term, id(state.vote), state.runs.after(), state.runs.last_id());
    let entries = last.index.since(after.index);
    format!(
        "term={term} vote={vote} after={after} last={last} live_entries={entries} live_payload_bytes={payload_bytes}"
    )
}
