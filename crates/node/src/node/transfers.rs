//! Snapshots on their way to and from this node: which are asked for, and what comes of each.
//!
//! Must not know how they get from one node to another, which is in `transfer.rs`.

use vlot_raft::id::{GroupId, NodeId};
use vlot_raft::time::Time;

use super::Node;
use crate::act::{Act, GroupEvent};
use crate::input::TransferDone;
use crate::lane::Lane;
use crate::snapshot::Header;
use crate::transfer::TransferOut;
use crate::turn::Turn;

impl Node {
    pub(super) fn transfer_done(&mut self, now: Time, done: TransferDone) {
        let transfers = &mut self.transfers;
        match done {
            TransferDone::Found { group, to, attempt, found } => transfers.found(now, group, to, attempt, found),
            TransferDone::ChunkRead { group, to, attempt, offset, read } => {
                transfers.chunk_read(now, group, to, attempt, offset, read);
            }
            TransferDone::PartOpened { group, attempt, opened } => transfers.part_opened(now, group, attempt, opened),
            TransferDone::ChunkWritten { group, attempt, written } => {
                transfers.chunk_written(now, group, attempt, written);
            }
            TransferDone::PartFinished { group, attempt, finished } => {
                transfers.part_finished(now, group, attempt, finished);
            }
        }
    }

    /// Adds what transfers of snapshots want done, and takes in what has come of them.
    pub(super) fn carry_transfers_on(&mut self, now: Time, turn: &mut Turn) {
        for (group, saved) in std::mem::take(&mut turn.saved) {
            self.transfers.saved(now, group, saved);
        }
        // A snapshot that cannot be saved is an answer to the transfer that needs it.
        let mut refused = Vec::new();
        for out in self.transfers.take_acts() {
            match out {
                TransferOut::Send { to, frame } => turn.sends.push(Act::Send { to, lane: Lane::Snapshot, frame }),
                TransferOut::NeedSnapshot { group, .. } => {
                    let is_saved = self.groups.get_mut(&group).is_some_and(|group| group.take_snapshot(turn));
                    refused.extend((!is_saved).then_some(group));
                }
                TransferOut::Received { group, header, .. } => self.snapshot_received(now, group, header),
                TransferOut::NotReceived { group, from, why } => {
                    turn.rest.push(Act::Tell { group, event: GroupEvent::SnapshotNotReceived { from, why } });
                }
                TransferOut::Sent { group, to, id } => {
                    turn.rest.push(Act::Tell { group, event: GroupEvent::SnapshotSent { to, of: id } });
                    if let Some(group) = self.groups.get_mut(&group) {
                        group.snapshot_sent(turn);
                    }
                }
                TransferOut::NotSent { group, to, why } => {
                    turn.rest.push(Act::Tell { group, event: GroupEvent::SnapshotNotSent { to, why } });
                }
                TransferOut::Act(act) => turn.rest.push(Act::Transfer(act)),
            }
        }
        for group in refused {
            self.transfers.saved(now, group, None);
        }
    }

    fn snapshot_received(&mut self, now: Time, id: GroupId, header: Header) {
        self.with(now, id, |group, _, _| {
            group.replica.snapshot_received(now, header.id, header.members, &mut group.work);
        });
    }

    /// Asks members for the snapshots that groups need, unless the disk is full. They are asked for again until they are
    /// here.
    pub(super) fn fetch_snapshots(&mut self, now: Time, turn: &mut Turn) {
        for (id, leader, reach) in std::mem::take(&mut turn.fetches) {
            let Some(group) = self.groups.get(&id).filter(|_| !self.is_full) else { continue };
            let members = group.replica.raft().configuration().members().iter();
            let others = members.filter(|member| !member.witness).map(|member| member.node);
            let own = self.options.config.node;
            let others: Vec<NodeId> = others.filter(|node| *node != own && *node != leader).collect();
            self.transfers.fetch(now, id, leader, &others, reach);
        }
        self.carry_transfers_on(now, turn);
        for (group, before) in std::mem::take(&mut turn.removals) {
            // What is being sent stays.
            let before = self.transfers.oldest_sent(group).map_or(before, |oldest| oldest.min(before));
            turn.rest.push(Act::RemoveSnapshots { group, before });
        }
    }
}
