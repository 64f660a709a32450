//! The members of the cluster, how they change, and which of them leads.
//!
//! Owns the translation of what consensus refuses into what etcd's clients know, and whether it may pass. Which changes
//! are allowed is the services' business.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep};
use tracing::info;
use vlot::{
    ChangeError, ChangeRefused, Event, GroupEvent, MemberChange, Members, NodeId, Seat, TransferError, TransferRefused,
};
use vlot_proto::etcdserverpb::Member;

use super::StoreGroup;
use crate::members::member::{Membership, voters_to_be};
use crate::status::Status;

/// Between two attempts at what is refused for a reason that passes.
pub(crate) const ATTEMPT_PAUSE: Duration = Duration::from_millis(50);
/// Between two attempts to let a member vote that has not caught up.
const PROMOTION_PAUSE: Duration = Duration::from_millis(100);

/// Why the members are as they were.
#[derive(Debug)]
pub(crate) enum Unchanged {
    /// For a reason that passes: what holds may be looked at again, and the change tried again.
    ForNow,
    /// For good, or the outcome is unknown.
    Because(Status),
}

impl StoreGroup {
    /// The members and their seats, as this node's log says.
    pub(crate) fn members(&self) -> Members {
        self.group().members().borrow().clone()
    }

    /// The members as clients see them.
    pub(crate) fn list(&self, membership: &Membership) -> Vec<Member> {
        membership.list(&self.members(), &self.facts())
    }

    /// Whether this node is a learner to clients. One that is to vote once it has caught up is none.
    pub(crate) fn is_learner(&self) -> bool {
        self.learns.load(Relaxed) && !voters_to_be(&self.members(), &self.facts()).contains(&self.node)
    }

    /// Whether this node is a witness: it votes and acknowledges, and keeps no data.
    pub(crate) fn is_witness(&self) -> bool {
        *self.is_witness.borrow()
    }

    /// Waits until it is one.
    pub(crate) async fn becomes_witness(&self) {
        // The sender lives as long as this does.
        let _ = self.is_witness.subscribe().wait_for(|is_witness| *is_witness).await;
    }

    /// Makes a change of members; `about` is the member as it is afterwards, or the id of one that leaves.
    ///
    /// # Errors
    /// See [`Unchanged`].
    pub(crate) async fn change_members(&self, change: MemberChange, about: &Member) -> Result<(), Unchanged> {
        let leaves = matches!(change, MemberChange::Remove(node) if node == self.node);
        let context = Bytes::from(about.encode_to_vec());
        let outcome = tokio::select! {
            outcome = self.group().change_members(vec![change], context) => outcome,
            // A member that leaves does not apply the entry that says so.
            () = self.removed(), if leaves => Ok(()),
        };
        outcome.map_err(|error| match error {
            ChangeError::Refused(why) => self.unchanged_because(why),
            ChangeError::AddressInUse { .. } => Unchanged::Because(Status::PEER_URL_EXISTS),
            ChangeError::TooLarge => Unchanged::Because(Status::REQUEST_TOO_LARGE),
            ChangeError::Unknown => Unchanged::Because(Status::TIMEOUT),
            ChangeError::Stopped => Unchanged::Because(Status::STOPPED),
        })
    }

    fn unchanged_because(&self, why: ChangeRefused) -> Unchanged {
        match why {
            ChangeRefused::NotLeader { .. }
            | ChangeRefused::TooSoon
            | ChangeRefused::InProgress
            | ChangeRefused::Transferring { .. } => Unchanged::ForNow,
            // A member is about to become a voter.
            ChangeRefused::NoVoters if !voters_to_be(&self.members(), &self.facts()).is_empty() => Unchanged::ForNow,
            ChangeRefused::NoVoters | ChangeRefused::TooManyWitnesses | ChangeRefused::KeepsItsKind { .. } => {
                Unchanged::Because(Status::NOT_ENOUGH_STARTED)
            }
            ChangeRefused::NotCaughtUp { .. } => Unchanged::Because(Status::LEARNER_NOT_READY),
            ChangeRefused::NoSpace => Unchanged::Because(Status::NO_SPACE),
            // Ids are never given again.
            ChangeRefused::Barred { .. } => Unchanged::Because(Status::MEMBER_NOT_FOUND),
            ChangeRefused::NotAMember { .. } => Unchanged::Because(Status::MEMBER_NOT_FOUND),
            // Only a promotion can find that everything is as it should be.
            ChangeRefused::NothingToDo => Unchanged::Because(Status::MEMBER_NOT_LEARNER),
        }
    }

    /// Hands the leadership over to a member, and waits until it leads.
    ///
    /// # Errors
    /// If this node does not lead, the other cannot, or does not in time.
    pub(crate) async fn transfer_leadership(&self, to: u64) -> Result<(), Status> {
        let deadline = Instant::now() + self.request_timeout;
        loop {
            match self.group().transfer_leadership(Some(NodeId(to))).await {
                Ok(()) if self.raft_status().leader == to => return Ok(()),
                Err(TransferError::Refused(TransferRefused::InProgress { .. })) if Instant::now() < deadline => {
                    sleep(ATTEMPT_PAUSE).await;
                }
                Err(TransferError::Refused(TransferRefused::NotLeader { .. })) => return Err(Status::NOT_LEADER),
                Err(TransferError::Refused(TransferRefused::CannotLead { .. } | TransferRefused::Nobody)) => {
                    return Err(Status::BAD_LEADER_TRANSFEREE);
                }
                Err(TransferError::Stopped) => return Err(Status::STOPPED),
                Ok(()) | Err(TransferError::TimedOut | TransferError::Refused(TransferRefused::InProgress { .. })) => {
                    return Err(Status::LEADER_TRANSFER_TIMEOUT);
                }
            }
        }
    }

    /// Hands the leadership over to the fittest of the others, if there is one.
    pub(crate) async fn give_up_leadership(&self) {
        if let Err(error) = self.group().transfer_leadership(None).await {
            info!(%error, "the leadership was not given up");
        }
    }

    /// Waits until this node was told that it is no member any more.
    pub(crate) async fn removed(&self) {
        let mut removed = self.removed.subscribe();
        // The sender lives as long as this replica.
        let _ = removed.wait_for(|removed| *removed).await;
    }

    /// Takes note that this node is no member any more.
    pub(crate) fn note_removed(&self) {
        self.removed.send_replace(true);
    }

    /// Keeps what is known of this node's own seat current, for ever.
    pub(super) async fn watch_own_seat(&self) {
        let mut members = self.group().members();
        loop {
            let own = members.borrow_and_update().configuration().get(self.node);
            self.learns.store(own.is_some_and(|own| own.seat == Seat::Learner), Relaxed);
            self.is_witness.send_replace(own.is_some_and(|own| own.witness));
            // Ends with the node.
            if members.changed().await.is_err() {
                return;
            }
        }
    }

    /// Counts what happens, and hears of this node's own removal, for ever.
    pub(super) async fn watch_events(&self) {
        let mut events = self.group().events();
        loop {
            match events.recv().await {
                Ok(GroupEvent::Consensus(Event::Removed { .. })) => self.note_removed(),
                Ok(GroupEvent::Consensus(Event::DiskStalled)) => drop(self.metrics.disk_stalls.fetch_add(1, Relaxed)),
                Ok(GroupEvent::Consensus(Event::DiskFull)) => drop(self.metrics.disk_fillings.fetch_add(1, Relaxed)),
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                // Ends with the node.
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// As long as this node leads: lets members vote that came in to vote, as soon as each has caught up. For ever.
    ///
    /// A new voter counts from the moment it is one, so that a cluster of one node could decide nothing until the second
    /// has started; one that learns first delays nothing.
    pub(super) async fn promote_voters(&self) {
        let mut members = self.group().members();
        loop {
            let waiting = voters_to_be(&members.borrow_and_update().clone(), &self.facts());
            if waiting.is_empty() {
                // Ends with the node. What is applied after its entry is looked at with the next change, or soon.
                let _ = tokio::time::timeout(PROMOTION_PAUSE * 10, members.changed()).await;
                continue;
            }
            if self.raft_status().leader == self.node.0 {
                for node in waiting {
                    let promoted = self.group().change_members(vec![MemberChange::Promote(node)], Bytes::new()).await;
                    if promoted.is_ok() {
                        info!(member = format!("{:x}", node.0), "a new member has caught up, and votes");
                    }
                }
            }
            sleep(PROMOTION_PAUSE).await;
        }
    }
}
