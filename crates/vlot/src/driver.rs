//! The task that drives a node: gathers what has happened, ends the turn, carries it out.
//!
//! Owns the clock and the order of a turn: what goes to the disk and to peers is on its way before anything is applied.
//! Decides nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use vlot_raft::id::GroupId;
use vlot_raft::time::Time;

use crate::events::{Event, Events};
use crate::log_thread::{Done, LogThread};
use crate::machine::Machine;
use crate::net::{self, Inbox, Net};
use crate::node::{Input, NodeCore, Turn};
use crate::view::View;

/// Deliveries of the network that one turn takes in, at most, so that no turn is endless.
const DELIVERIES_MAX: usize = 256;

pub(crate) struct Driver {
    pub(crate) core: NodeCore,
    pub(crate) events: Arc<Events>,
    pub(crate) net: Net,
    pub(crate) inbox: Inbox,
    pub(crate) log: LogThread,
    pub(crate) groups: BTreeMap<GroupId, Driven>,
    pub(crate) started: Instant,
}

/// A group's state machine and what is shown of it.
pub(crate) struct Driven {
    machine: Box<dyn Machine>,
    view: Arc<View>,
}

/// Why a driver ends.
enum End {
    Asked,
    Failed(String),
}

impl Driver {
    /// Drives until asked to stop (then `None`) or until the node cannot go on: then why.
    pub(crate) async fn run(mut self) -> Option<String> {
        let end = self.turns().await;
        for driven in self.groups.values_mut() {
            driven.machine.dismiss();
        }
        self.net.shutdown().await;
        match end {
            End::Asked => None,
            End::Failed(why) => {
                tracing::error!(why, "the node stops");
                Some(why)
            }
        }
    }

    async fn turns(&mut self) -> End {
        let mut gathered = Vec::new();
        let alarm = sleep_until(self.started);
        tokio::pin!(alarm);
        loop {
            let deadline = self.moment(self.core.deadline());
            if alarm.deadline() != deadline {
                alarm.as_mut().reset(deadline);
            }
            let delivery = tokio::select! {
                biased;
                delivery = self.inbox.next() => delivery,
                () = self.events.filled() => None,
                () = &mut alarm => None,
            };
            let now = Time(self.started.elapsed());
            let more = std::iter::from_fn(|| self.inbox.try_next()).take(DELIVERIES_MAX);
            for delivery in delivery.into_iter().chain(more) {
                deliver(&mut self.core, now, delivery);
            }
            self.events.take(&mut gathered);
            for event in gathered.drain(..) {
                if let Err(end) = self.take(now, event) {
                    return end;
                }
            }
            let turn = self.core.end_turn(now);
            if let Err(why) = self.carry_out(turn) {
                return End::Failed(why);
            }
        }
    }

    fn take(&mut self, now: Time, event: Event) -> Result<(), End> {
        match event {
            Event::Input(input) => self.core.handle(now, input),
            Event::Log(Done::Written(batch)) => self.core.handle(now, Input::Written { batch }),
            Event::Log(Done::Fetched { group, purpose, entries }) => {
                self.core.handle(now, Input::Fetched { group, purpose, entries });
            }
            Event::Log(Done::Failed(why)) => return Err(End::Failed(why)),
            Event::Begin(new) => {
                let id = new.id();
                let begun = self.core.add(now, new.begin);
                if begun.is_ok() {
                    self.groups.insert(id, Driven { machine: new.machine, view: new.view });
                }
                // Whoever asked for it and went away does not want to know.
                let _ = new.begun.send(begun);
            }
            Event::Stop => return Err(End::Asked),
        }
        Ok(())
    }

    fn carry_out(&mut self, turn: Turn) -> Result<(), String> {
        if let Some(bad) = turn.broken {
            return Err(format!("entry {} of the log is none that this version knows", bad.0));
        }
        if let Some((batch, writes)) = turn.write {
            self.log.write(batch, writes);
        }
        for (to, lane, frame) in turn.frames {
            // What cannot be sent is lost, as on any network; the transport counts it.
            let _ = self.net.send(to, lane, &[frame]);
        }
        for (group, read) in turn.log_reads {
            self.log.read(group, read);
        }
        for (peer, complaint) in turn.complaints {
            tracing::warn!(%peer, ?complaint, "a peer sent what no correct peer sends");
        }
        for (group, standing) in turn.became {
            tracing::info!(%group, term = %standing.term, role = ?standing.role, leader = ?standing.leader.map(|node| format!("{:x}", node.0)), "standing");
            if let Some(driven) = self.groups.get(&group) {
                driven.view.standing.send_replace(standing);
            }
        }
        for (group, committed) in turn.committed {
            if let Some(driven) = self.groups.get_mut(&group) {
                driven.machine.apply(committed)?;
            }
        }
        for (group, driven) in &self.groups {
            driven.view.show(&self.core, *group);
        }
        for (group, reads) in turn.reads_ready {
            if let Some(driven) = self.groups.get_mut(&group) {
                driven.machine.answer_reads(reads);
            }
        }
        Ok(())
    }

    /// The clock's moment of `time`, or one far away.
    fn moment(&self, time: Time) -> Instant {
        const FAR: Duration = Duration::from_secs(3600);
        self.started + time.0.min(self.started.elapsed() + FAR)
    }
}

fn deliver(core: &mut NodeCore, now: Time, event: net::Event) {
    match event {
        net::Event::Frames { from, frames, .. } => {
            for bytes in frames {
                core.handle(now, Input::Frame { from, bytes });
            }
        }
        net::Event::Connected { peer, .. } => core.handle(now, Input::Connected { peer }),
        net::Event::Lost { peer } => core.handle(now, Input::Lost { peer }),
        net::Event::OtherDisk { peer, node, disk } => {
            tracing::error!(%peer, %node, disk, "a member has lost its disk: remove it and add it again");
        }
    }
}
