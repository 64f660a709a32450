//! Acts: what a node asks for, carried out in the order of its list.
//!
//! The whole of the second shell is this match. Decides nothing; what an act takes of time, and what becomes of it, is
//! told by the file that is named in its arm.

use super::World;
use crate::checks::turn;
use crate::disk::log_thread::Job;
use crate::host::worker::{FileJob, MachineJob};
use crate::place::{Place, place_of, slot_of};
use crate::subject::{End, Subject};
use crate::transcript::Note;
use std::rc::Rc;
use vlot_log::record::Write;
use vlot_node::act::{Act, Answer, BatchId, Complaint, GroupEvent, Status};
use vlot_node::proposals::NotProposed;
use vlot_raft::effect::RoleName;
use vlot_raft::id::{GroupId, NodeId};
use vlot_raft::invariants::Violation;

impl<S: Subject> World<S> {
    pub(super) fn carry_out_one(&mut self, place: Place, act: Act, may_ask: bool) -> Result<(), Violation> {
        match act {
            Act::Write { batch, writes } => return self.write(place, batch, writes),
            Act::Send { to, lane, frame } => self.send(place, place_of(to), lane, frame, may_ask),
            Act::ReadLog { group, read } => {
                self.note(Note::Reads(place, slot_of(group), read));
                self.ask_disk(place, Job::Read(group, read));
            }
            Act::Restore { group, id } => return self.restore(place, slot_of(group), id),
            Act::Apply { group, entries } => return self.apply(place, slot_of(group), entries),
            Act::TakeSnapshot { group } => self.ask_machine(place, slot_of(group), MachineJob::TakeSnapshot),
            Act::Save { group, header } => return self.save(place, slot_of(group), header),
            Act::RemoveSnapshots { group, before } => self.ask_files(place, slot_of(group), FileJob::Remove(before)),
            Act::Transfer(act) => self.ask_transfer_step(place, act),
            Act::Answer { group, answer } => return self.hear_answer(place, group, answer),
            Act::SetPeers(peers) => self.set_peers(place, peers.into_keys().map(place_of).collect()),
            Act::SetDisks(disks) => self.set_disks(place, disks),
            Act::Show { group, status } => return self.show(place, group, status),
            // The members of a group are looked up where they are needed: see `watch.rs`.
            Act::ShowMembers { .. } | Act::ShowHealth { .. } => {}
            Act::Tell { group, event } => self.hear_event(place, group, event),
            // What the checks need of an election they see in the state of consensus.
            Act::Record { .. } => {}
            Act::Complain { peer, complaint } => return self.hear_complaint(place, peer, complaint),
            Act::Closed { group, log } => return self.closed(place, slot_of(group), log),
            Act::Stop(why) => return self.stop(place, &why.to_string()),
        }
        Ok(())
    }

    fn write(&mut self, place: Place, batch: BatchId, writes: Vec<Write>) -> Result<(), Violation> {
        self.check_cuts(place, &writes)?;
        let writes = Rc::new(writes);
        self.note(Note::Wrote(place, batch.0, Rc::clone(&writes)));
        self.ask_disk(place, Job::Write(batch, writes));
        Ok(())
    }

    /// Clients hear what their proposals and reads have come to; operators see what they want themselves.
    fn hear_answer(&mut self, place: Place, group: GroupId, answer: Answer) -> Result<(), Violation> {
        let (slot, bytes_max) = (slot_of(group), self.conditions.apply_bytes_max);
        let Some(replica) = self.hosts[place].process.as_mut().and_then(|it| it.replicas[slot].as_mut()) else {
            return Ok(());
        };
        match answer {
            Answer::NotProposed(sequence, why) => {
                if why == NotProposed::Busy {
                    // What is shown is from before this turn.
                    turn::check_refusal(place, replica.status.applying_bytes, bytes_max)?;
                    self.groups[slot].busy.extend(replica.proposals.get(&sequence));
                }
                if let Some(op) = replica.proposals.remove(&sequence) {
                    self.end(slot, op, End::Refused);
                }
            }
            Answer::Unknown(sequence) => {
                if let Some(op) = replica.proposals.remove(&sequence) {
                    self.end(slot, op, End::Unknown);
                }
            }
            Answer::Ready(reads) => self.answer_reads(place, slot, reads),
            Answer::NotRead(read, _) => {
                if let Some((op, _)) = replica.reads.remove(&read) {
                    self.end(slot, op, End::Refused);
                }
            }
            Answer::Changed(..) | Answer::Transfer(..) => self.note(Note::Answered(place, slot, answer)),
        }
        Ok(())
    }

    fn show(&mut self, place: Place, group: GroupId, status: Status) -> Result<(), Violation> {
        let slot = slot_of(group);
        self.check_status(place, slot, &status)?;
        if let Some(replica) = self.hosts[place].process.as_mut().and_then(|it| it.replicas[slot].as_mut()) {
            replica.status = status;
        }
        Ok(())
    }

    fn hear_event(&mut self, place: Place, group: GroupId, event: GroupEvent) {
        if let GroupEvent::Became(role_state) = &event {
            self.sums.elections += u64::from(role_state.role == RoleName::Leader);
        }
        self.note(Note::Told(place, slot_of(group), event));
    }

    /// No peer is wrong here, but one may have a group that this node has not begun, or another disk.
    fn hear_complaint(&mut self, place: Place, peer: NodeId, complaint: Complaint) -> Result<(), Violation> {
        let is_known = |group: GroupId| self.hosts[place].raft(slot_of(group)).is_some();
        match complaint {
            Complaint::OtherDisk { .. } => Ok(()),
            Complaint::UnknownGroup(group) if !is_known(group) => Ok(()),
            complaint => {
                let shown_by = format!("n{} of n{peer}: {complaint:?}", place + 1);
                Err(Violation { property: "No Correct Peer Is Accused", shown_by })
            }
        }
    }

    fn stop(&mut self, place: Place, why: &str) -> Result<(), Violation> {
        let shown_by = format!("n{}: {why}", place + 1);
        Err(Violation { property: "No Node Stops For Nothing", shown_by })
    }
}
