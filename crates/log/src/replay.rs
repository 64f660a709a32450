//! What records mean, taken in one after the other.
//!
//! Owns the groups while a log is read. Must not know of files, nor of what makes a record durable.

use crate::decode::{Body, Record, Rows};
use crate::error::Flaw;
use crate::index::{Group, GroupState, Position};
use crate::record::Entry;
use bytes::Bytes;
use std::collections::BTreeMap;
use vlot_raft::id::{GroupId, LogId, LogIndex};

/// All groups, as of the records that were taken in.
#[derive(Debug)]
pub(crate) struct Replay {
    drafts: BTreeMap<GroupId, Draft>,
    keep: fn(&[u8]) -> bool,
}

#[derive(Debug, Default)]
struct Draft {
    group: Group,
    note: Bytes,
    kept: BTreeMap<LogIndex, Entry>,
}

impl Replay {
    pub(crate) fn new(keep: fn(&[u8]) -> bool) -> Self {
        Self { drafts: BTreeMap::new(), keep }
    }

    /// Takes in the next record, which lies in the segment with these bytes.
    pub(crate) fn take_in(&mut self, bytes: &[u8], segment: u32, record: &Record<'_>) -> Result<(), Flaw> {
        let draft = match record.body {
            Body::End => return Ok(()),
            _ => self.drafts.entry(record.group).or_default(),
        };
        match record.body {
            Body::Vote { term, vote } => draft.group.save_vote(term, vote),
            Body::Append { after, rows } => {
                draft.append(segment, after, rows)?;
                draft.keep(bytes, after, rows, self.keep);
            }
            Body::Begin { after, stays, note } => draft.begin_after(after, stays, note)?,
            Body::End => {}
        }
        Ok(())
    }

    /// The groups, for the log and for its owner.
    pub(crate) fn finish(self) -> (BTreeMap<GroupId, Group>, BTreeMap<GroupId, GroupState>) {
        let finish = |(id, Draft { group, note, kept }): (GroupId, Draft)| {
            let state = group.state(note, kept.into_values().collect());
            ((id, group), (id, state))
        };
        self.drafts.into_iter().map(finish).unzip()
    }
}

impl Draft {
    fn append(&mut self, segment: u32, after: LogIndex, rows: Rows<'_>) -> Result<(), Flaw> {
        self.group.check(after, rows.iter().map(|(term, _)| term))?;
        self.group.cut_after(after);
        self.kept.split_off(&after.next());
        rows.iter().for_each(|(term, payload)| self.group.push(term, Position { segment, payload }));
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8], after: LogIndex, rows: Rows<'_>, keep: fn(&[u8]) -> bool) {
        let mut index = after;
        for (term, payload) in rows.iter() {
            index = index.next();
            let found = &bytes[payload.offset as usize..][..payload.length as usize];
            if keep(found) {
                let id = LogId { term, index };
                self.kept.insert(index, Entry { id, payload: Bytes::copy_from_slice(found) });
            }
        }
    }

    fn begin_after(&mut self, after: LogId, stays: bool, note: &[u8]) -> Result<(), Flaw> {
        let present = self.group.after();
        if after.index < present.index {
            let (expected, found) = (present.index.0, after.index.0);
            return Err(Flaw::Value { of: "index after which the log begins", expected, found });
        }
        if stays != self.group.contains(after) {
            return Err(Flaw::Value {
                of: "mark of entries that stay",
                expected: u64::from(!stays),
                found: u64::from(stays),
            });
        }
        self.group.begin_after(after, stays);
        self.kept = if stays { self.kept.split_off(&after.index.next()) } else { BTreeMap::new() };
        self.note = Bytes::copy_from_slice(note);
        Ok(())
    }
}
