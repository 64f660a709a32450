//! How commands that may share an entry come into as few of them as can be.
//!
//! What an entry costs each member (a record of the log, a piece of a message, what is known of it in memory) is then paid once
//! for all commands that came together. Owns how much one entry holds. The layout of an entry is `payload.rs`'s.

use bytes::{Bytes, BytesMut};

use crate::payload;

/// How much an entry holds at most, if it has more than one command.
const ENTRY_BYTES_MAX: usize = 64 << 10;
/// What is longer than this has an entry of its own: it would be copied for little.
const COMMAND_BYTES_MAX: usize = 4 << 10;

/// Payloads on their way into entries, in their order.
#[derive(Debug)]
pub(crate) struct Packing {
    /// Commands that come alone may still share an entry with others elsewhere: at the leader.
    goes_on: bool,
    done: Vec<Bytes>,
    /// The newest, which others may join; it is copied only when one does.
    newest: Option<Bytes>,
    /// The newest, once others have joined it. There is one of the two at most.
    joined: BytesMut,
}

impl Packing {
    /// Of payloads that this node appends to its log.
    pub(crate) fn to_append() -> Self {
        Self { goes_on: false, done: Vec::new(), newest: None, joined: BytesMut::new() }
    }

    /// Of payloads that go to a leader, which packs them once more with those of others.
    pub(crate) fn to_forward() -> Self {
        Self { goes_on: true, ..Self::to_append() }
    }

    /// Adds a payload that shares its entry with none.
    pub(crate) fn push_alone(&mut self, payload: Bytes) {
        self.close();
        self.done.push(payload);
    }

    /// Adds a command's payload, or that of several, which may share an entry with those before and after it.
    pub(crate) fn push(&mut self, payload: &Bytes) {
        if payload.len() > COMMAND_BYTES_MAX && !payload::is_shared(payload) {
            return self.push_alone(payload.clone());
        }
        let bytes = self.joined.len() + self.newest.as_ref().map_or(0, Bytes::len) + payload.len();
        if bytes + 2 * payload::SHARE_BYTES > ENTRY_BYTES_MAX {
            self.close();
        }
        match self.newest.take() {
            Some(newest) => {
                self.joined.reserve(newest.len() + payload.len() + 2 * payload::SHARE_BYTES);
                payload::join(&mut self.joined, &newest);
            }
            None if self.joined.is_empty() => return self.newest = Some(payload.clone()),
            None => {}
        }
        payload::join(&mut self.joined, payload);
    }

    /// All of them.
    pub(crate) fn finish(mut self) -> Vec<Bytes> {
        self.close();
        self.done
    }

    fn close(&mut self) {
        match self.newest.take() {
            Some(lone) if self.goes_on && !payload::is_shared(&lone) => payload::join(&mut self.joined, &lone),
            lone => self.done.extend(lone),
        }
        if !self.joined.is_empty() {
            self.done.push(self.joined.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Payload;
    use crate::proposal_id::ProposalId;

    fn command(sequence: u64, bytes: usize) -> Bytes {
        payload::command(ProposalId { origin: 7, sequence }, bytes, |out| out.resize(payload::HEADER_BYTES + bytes, 1))
    }

    /// The sequence numbers in each entry.
    fn sequences(entries: &[Bytes]) -> Vec<Vec<u64>> {
        entries.iter().map(|entry| payload::proposal_ids(entry).map(|id| id.sequence).collect()).collect()
    }

    #[test]
    fn what_comes_together_shares_an_entry_and_stays_in_order() {
        let mut packing = Packing::to_append();
        for sequence in 1..=3 {
            packing.push(&command(sequence, 10));
        }
        packing.push_alone(command(4, 10));
        packing.push(&command(5, 10));
        packing.push_alone(payload::blank());
        packing.push(&command(6, COMMAND_BYTES_MAX));
        packing.push(&command(7, 0));
        packing.push(&command(8, 0));
        let entries = packing.finish();
        assert_eq!(sequences(&entries), [vec![1, 2, 3], vec![4], vec![5], vec![], vec![6], vec![7, 8]]);
        assert_eq!(entries[2], command(5, 10), "one alone is as it was");
        let Ok(Payload::Commands(commands)) = payload::decode(entries[0].clone()) else { panic!("{entries:?}") };
        assert!(commands.iter().all(|(id, command)| id.origin == 7 && command[..] == [1; 10]), "{commands:?}");
    }

    #[test]
    fn a_leader_packs_what_was_packed() {
        let forwarded = |sequences: &[u64]| {
            let mut packing = Packing::to_forward();
            sequences.iter().for_each(|sequence| packing.push(&command(*sequence, 10)));
            packing.finish()
        };
        let mut packing = Packing::to_append();
        for payload in [forwarded(&[1, 2]), forwarded(&[3]), vec![command(4, 10)], forwarded(&[5, 6])].concat() {
            packing.push(&payload);
        }
        assert_eq!(sequences(&packing.finish()), [[1, 2, 3, 4, 5, 6]]);
    }

    #[test]
    fn an_entry_has_a_bound() {
        for bytes in [0, 100, COMMAND_BYTES_MAX - payload::HEADER_BYTES] {
            let mut packing = Packing::to_append();
            (0..5000).for_each(|sequence| packing.push(&command(sequence, bytes)));
            let entries = packing.finish();
            assert!(entries.iter().all(|entry| entry.len() <= ENTRY_BYTES_MAX), "{bytes}");
            assert_eq!(sequences(&entries).concat(), (0..5000).collect::<Vec<_>>());
            let needed = 5000 * (bytes + payload::HEADER_BYTES + payload::SHARE_BYTES) / ENTRY_BYTES_MAX;
            assert!(entries.len() <= needed + needed / 8 + 1, "{bytes}: {} for {needed}", entries.len());
        }
    }
}
