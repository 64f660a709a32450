//! Log Matching: if two logs contain an entry with the same index and term, then the logs are identical in all entries
//! up through the given index (Raft §5.3).
//!
//! By induction: whenever a name is seen, it names the same payload and stands after the same entry.

use super::{View, violation};
use bytes::Bytes;
use vlot_log::record::Entry;
use vlot_node::payload::{self, Payload};
use vlot_raft::id::{LogId, LogIndex, Term};
use vlot_raft::invariants::Violation;

const PROPERTY: &str = "Log Matching";

/// All entries that were ever in a log.
#[derive(Debug, Default)]
pub struct LogMatching {
    /// For each index after the first, the entries seen there.
    entries: Vec<Vec<Known>>,
}

#[derive(Debug)]
struct Known {
    term: Term,
    before: LogId,
    payload: Bytes,
}

impl LogMatching {
    /// A replica cuts its log after `after` and appends.
    ///
    /// # Errors
    /// If an entry is not what another log has under its name, or does not follow the same entry.
    pub fn appended(&mut self, view: &View<'_>, after: LogIndex, entries: &[Entry]) -> Result<(), Violation> {
        let Some(first) = entries.first() else { return Ok(()) };
        // In the view the entries are there already, or have been replaced within the same turn: then what was before
        // them in the meantime cannot be told, and what replaced them is checked by itself.
        let before_first = view.log.term_at(after).filter(|_| view.log.contains(first.id));
        let mut before = before_first.map(|term| LogId { term, index: after });
        for Entry { id, payload } in entries {
            if let Some(before) = before {
                self.meet(view, *id, before, payload)?;
            }
            before = Some(*id);
        }
        Ok(())
    }

    fn meet(&mut self, view: &View<'_>, id: LogId, before: LogId, payload: &Bytes) -> Result<(), Violation> {
        let index = id.index.0 as usize;
        if self.entries.len() <= index {
            self.entries.resize_with(index + 1, Vec::new);
        }
        let at_index = &mut self.entries[index];
        match at_index.iter_mut().find(|known| known.term == id.term) {
            Some(known) if known.before != before => {
                let shown_by = format!("{id} follows {before} at n{}, and {} elsewhere", view.node(), known.before);
                violation(PROPERTY, shown_by)
            }
            Some(known) if !are_one(&known.payload, payload) => {
                violation(PROPERTY, format!("{id} holds something else at n{} than elsewhere", view.node()))
            }
            Some(known) => {
                // What a witness has tells nothing of what the entry holds.
                if is_withheld(&known.payload) {
                    known.payload = payload.clone();
                }
                Ok(())
            }
            None => {
                at_index.push(Known { term: id.term, before, payload: payload.clone() });
                Ok(())
            }
        }
    }
}

fn is_withheld(payload: &Bytes) -> bool {
    payload.len() == 1 && payload::decode(payload.clone()) == Ok(Payload::Withheld)
}

fn are_one(a: &Bytes, b: &Bytes) -> bool {
    a == b || is_withheld(a) || is_withheld(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::testing::{founded, leader, log};

    fn append(check: &mut LogMatching, terms: &[u64], from: usize, payload: &'static [u8]) -> Result<(), Violation> {
        let (log, founded) = (log(terms), founded(3));
        let entries: Vec<Entry> = (from..terms.len())
            .map(|n| Entry { id: LogId::new(terms[n], n as u64 + 1), payload: Bytes::from_static(payload) })
            .collect();
        check.appended(&leader(0, 9, &log, &founded), LogIndex(from as u64), &entries)
    }

    #[test]
    fn the_same_entries_may_come_in_any_pieces() {
        let mut check = LogMatching::default();
        assert_eq!(append(&mut check, &[1, 1, 2], 0, b"x"), Ok(()));
        assert_eq!(append(&mut check, &[1, 1, 2], 1, b"x"), Ok(()));
        assert_eq!(append(&mut check, &[1, 3], 1, b"y"), Ok(()), "another entry at the same place");
    }

    #[test]
    fn another_payload_under_the_same_name_is_noticed() {
        let mut check = LogMatching::default();
        append(&mut check, &[1], 0, b"x").unwrap();
        assert!(append(&mut check, &[1], 0, b"y").is_err());
        let mut check = LogMatching::default();
        append(&mut check, &[1], 0, &[3]).unwrap();
        assert_eq!(append(&mut check, &[1], 0, b"x"), Ok(()), "it was withheld from a witness");
        assert!(append(&mut check, &[1], 0, b"y").is_err());
    }

    #[test]
    fn another_entry_before_it_is_noticed() {
        let mut check = LogMatching::default();
        append(&mut check, &[1, 1, 3], 0, b"x").unwrap();
        assert!(append(&mut check, &[1, 2, 3], 2, b"x").is_err());
    }
}
