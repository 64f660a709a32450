//! The task that drives a node: gathers what has happened, ends the turn, carries out its acts in their order.
//!
//! Asks the clock. Decides nothing: that is [`Node`]'s.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use vlot_node::act::{Act, Answer, ClosedLog, GroupEvent};
use vlot_node::input::Input;
use vlot_node::node::Node;
use vlot_raft::effect::RoleName;
use vlot_raft::id::GroupId;
use vlot_raft::time::Time;

use crate::awake::stay_awake;
use crate::clock::Clock;
use crate::end::Ended;
use crate::events::{Beginning, Event, Events};
use crate::figures::Measures;
use crate::group::ClosedGroup;
use crate::log_thread::LogThread;
use crate::machine::Machine;
use crate::net::{self, Inbox, Net};
use crate::recorder::{self, DumpError, Kind, Recorder, Why};
use crate::shown::Shown;
use crate::snapshots::Snapshots;
use crate::stages::Stages;

/// Deliveries of the network that one turn takes in, at most, so that no turn is endless.
const DELIVERIES_MAX: usize = 256;
/// Turns in a row that what was written and applied in place makes due, at most, before others get to run.
const TURNS_IN_PLACE_MAX: usize = 4;

pub(crate) struct Driver {
    pub(crate) node: Node,
    pub(crate) events: Arc<Events>,
    pub(crate) net: Arc<Net>,
    pub(crate) inbox: Inbox,
    pub(crate) log: LogThread,
    pub(crate) snapshots: Snapshots,
    pub(crate) groups: BTreeMap<GroupId, Driven>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) heartbeat: Duration,
    /// How long it looks for more to do before it sleeps.
    pub(crate) busy_poll: Duration,
    pub(crate) measures: Arc<Measures>,
    pub(crate) recorder: Option<Recorder>,
    pub(crate) stages: Stages,
    /// Told when the driver ends, and why.
    pub(crate) ended: watch::Sender<Option<Ended>>,
}

/// A group's state machine and what is shown of it.
pub(crate) struct Driven {
    machine: Box<dyn Machine>,
    shown: Arc<Shown>,
    closed: Option<oneshot::Sender<ClosedGroup>>,
}

impl Driver {
    /// Drives until asked to stop or until the node cannot go on.
    pub(crate) async fn run(mut self) {
        let why = self.turns().await;
        if why != Ended::Stopped {
            tracing::error!(%why, "the node stops");
        }
        self.net.shutdown().await;
        let closing = self.end(why);
        // A state machine that stands still is not waited for.
        let _ = tokio::time::timeout(CLOSING_MAX, async {
            for closed in closing {
                let _ = closed.await;
            }
        })
        .await;
    }

    async fn turns(&mut self) -> Ended {
        let mut gathered = Vec::new();
        let mut alarm = self.clock.alarm();
        let mut is_set_to = Time::NEVER;
        loop {
            let due = self.recorder.as_ref().map_or(Time::NEVER, Recorder::deadline);
            let deadline = self.node.deadline().min(due);
            if is_set_to != deadline {
                alarm.set(deadline);
                is_set_to = deadline;
            }
            let delivery = tokio::select! {
                biased;
                delivery = self.inbox.next() => delivery,
                () = self.events.filled() => None,
                () = poll_fn(|context| alarm.poll(context)) => None,
                never = stay_awake(self.busy_poll) => match never {},
            };
            let more = std::iter::from_fn(|| self.inbox.try_next()).take(DELIVERIES_MAX - 1);
            let deliveries: Vec<net::Event> = delivery.into_iter().chain(more).collect();
            let waited_since = self.events.take(&mut gathered);
            // Read after everything is in hand: a read that came while the process stood still must not be taken for one
            // of the moment before (the contract of leases).
            let now = self.clock.now();
            self.record(|recorder| recorder.turn(now));
            if now > deadline + self.heartbeat {
                self.note_late_turn(now.since(deadline));
            }
            for delivery in deliveries {
                self.deliver(now, delivery);
            }
            if self.stages.look(now) {
                self.note_arrivals(&gathered, waited_since);
            }
            for event in gathered.drain(..) {
                if let Err(end) = self.take(now, event) {
                    return end;
                }
            }
            if let Err(end) = self.end_turns(now) {
                return end;
            }
            self.dump_if_due();
        }
    }

    /// Ends the turn, and those that follow at once from what was written and applied in place.
    fn end_turns(&mut self, now: Time) -> Result<(), Ended> {
        for turn in 1.. {
            let acts = self.node.end_turn(now);
            let mut done = Vec::new();
            for act in acts {
                self.carry_out(act, &mut done)?;
            }
            for input in done {
                self.note_done(&input);
                self.node.handle(now, input);
            }
            if !self.node.has_work() {
                break;
            }
            if turn == TURNS_IN_PLACE_MAX {
                // The next turn is due at once.
                let _ = self.events.push(Event::Wake);
                break;
            }
        }
        self.measures.recent_bytes.store(self.node.recent_bytes() as u64, Relaxed);
        Ok(())
    }

    /// What has come tells of stages of proposals that are over or begin. Called while something listens.
    fn note_arrivals(&mut self, gathered: &[Event], waited_since: Option<std::time::Instant>) {
        // What came before anything listened is not timed.
        self.events.time(true);
        for event in gathered {
            let Event::Input(input) = event else { continue };
            match (input, waited_since) {
                (Input::Propose { group, proposals }, Some(since)) => {
                    proposals.iter().for_each(|proposal| self.stages.proposed(*group, &proposal.payload, since));
                }
                (input, _) => self.note_done(input),
            }
        }
    }

    fn note_done(&mut self, input: &Input) {
        if !self.stages.is_on() {
            return;
        }
        match input {
            Input::Written { batch } => self.stages.durable(*batch),
            Input::Applied { group, upto, .. } => self.stages.applied(*group, upto.index),
            _ => {}
        }
    }

    fn take(&mut self, now: Time, event: Event) -> Result<(), Ended> {
        match event {
            Event::Input(input) => self.node.handle(now, input),
            Event::LogFailed(failed) => return Err(Ended::Log(failed)),
            Event::Begin(beginning) => self.begin(now, *beginning),
            Event::Close { group, remove, closed } => self.close(now, group, remove, closed),
            Event::Report { group, report } => {
                if let Some(made) = self.node.report(now, group) {
                    // A caller that went away does not want it.
                    drop(report.send(made));
                }
            }
            Event::DumpFlight { dumped } => self.dump(Why::Asked, Some(dumped)),
            Event::Wake => {}
            Event::Stop => return Err(Ended::Stopped),
        }
        Ok(())
    }

    /// Carries out one act; what is done at once is added to `done`.
    fn carry_out(&mut self, act: Act, done: &mut Vec<Input>) -> Result<(), Ended> {
        match act {
            Act::Write { batch, writes } => {
                if self.stages.is_on() {
                    self.stages.appended(batch, &writes);
                }
                self.log.write(batch, writes, done).map_err(Ended::Log)?;
            }
            Act::Send { to, lane, frame } => {
                // What cannot be sent is lost, as on any network; the transport counts it.
                let _ = self.net.send(to, lane, &[frame]);
            }
            Act::ReadLog { group, read } => self.log.read(group, read, done).map_err(Ended::Log)?,
            Act::Apply { group, entries } => {
                if let Some(last) = entries.last().filter(|_| self.stages.is_on()) {
                    self.stages.committed(group, last.id.index);
                }
                done.extend(self.groups.get_mut(&group).and_then(|driven| driven.machine.apply(entries)));
            }
            Act::Restore { group, id } => self.with(group, |driven| driven.machine.restore(id)),
            Act::TakeSnapshot { group } => self.with(group, |driven| driven.machine.take_snapshot()),
            Act::Save { group, header } => self.with(group, |driven| driven.machine.save(header)),
            Act::RemoveSnapshots { group, before } => self.snapshots.remove(group, before),
            Act::Transfer(act) => self.snapshots.transfer(act),
            Act::Answer { group, answer } => {
                if self.stages.is_on()
                    && let Answer::NotProposed(sequence, _) | Answer::Unknown(sequence) = answer
                {
                    self.stages.withdrawn(group, sequence);
                }
                self.with(group, |driven| driven.machine.answer(answer));
            }
            Act::SetPeers(peers) => self.net.set_peers(peers),
            Act::SetDisks(disks) => self.net.set_disks(disks),
            Act::Show { group, status } => {
                if self.stages.is_on() {
                    self.stages.committed(group, status.commit);
                }
                self.with(group, |driven| driven.shown.show(status));
            }
            Act::ShowHealth { group, health } => self.with(group, |driven| driven.shown.show_health(health)),
            Act::ShowMembers { group, members } => {
                self.record(|recorder| recorder.record_of(group, Kind::of_members(&members)));
                self.with(group, |driven| drop(driven.shown.members.send_replace(members)));
            }
            Act::Tell { group, event } => self.tell(group, event),
            Act::Record { group, event } => {
                self.record(|recorder| recorder.record_of(group, Kind::of_election(event)));
            }
            Act::Complain { peer, complaint } => self.net.note_misbehaved(peer, &complaint),
            Act::Closed { group, log } => self.closed(group, log.map(|log| *log)),
            Act::Stop(why) => return Err(Ended::MustStop(why)),
        }
        Ok(())
    }

    fn deliver(&mut self, now: Time, event: net::Event) {
        match event {
            net::Event::Frames { from, lane, frames } => {
                for bytes in frames {
                    self.node.handle(now, Input::Frame { from, lane, bytes });
                }
            }
            net::Event::Connected { peer, disk, reads_shared } => {
                self.record(|recorder| recorder.record(Kind::Connected { peer, disk }));
                if !reads_shared {
                    tracing::warn!(
                        %peer,
                        "a peer runs an earlier version: commands have an entry each until it is upgraded, and if they shared some \
                         that it lacks it cannot follow; see docs/guide/07-upgrade.md"
                    );
                }
                self.node.handle(now, Input::Connected { peer, disk, reads_shared });
            }
            net::Event::Lost { peer } => {
                self.record(|recorder| recorder.record(Kind::Lost { peer }));
                self.node.handle(now, Input::Lost { peer });
            }
            net::Event::OtherDisk { peer, node, disk } => {
                self.node.handle(now, Input::OtherDisk { peer, node, disk });
            }
        }
    }

    fn begin(&mut self, now: Time, beginning: Beginning) {
        let Beginning { new, machine, shown, begun } = beginning;
        let group = new.begin.group;
        let outcome = self.node.add(now, new);
        if outcome.is_ok() {
            self.record(|recorder| recorder.record_of(group, Kind::Opened {}));
            self.groups.insert(group, Driven { machine, shown, closed: None });
        }
        // A caller that went away does not want to know.
        let _ = begun.send(outcome);
    }

    fn close(&mut self, now: Time, group: GroupId, remove: bool, closed: oneshot::Sender<ClosedGroup>) {
        // Without the group, dropping the sender tells the caller.
        if let Some(driven) = self.groups.get_mut(&group) {
            driven.closed = Some(closed);
            self.node.handle(now, Input::Close { group, remove });
        }
    }

    fn closed(&mut self, group: GroupId, log: Option<ClosedLog>) {
        let Some(mut driven) = self.groups.remove(&group) else { return };
        self.measures.forget(group);
        self.stages.forget(group);
        self.record(|recorder| {
            recorder.record_of(group, Kind::Closed {});
            recorder.forget(group);
        });
        let is_closed = driven.machine.close();
        driven.shown.end();
        if let Some(closed) = driven.closed {
            tokio::spawn(async move {
                // The sender goes with the state machine.
                let _ = is_closed.await;
                let _ = closed.send(ClosedGroup { log });
            });
        }
    }

    fn tell(&mut self, group: GroupId, event: GroupEvent) {
        self.record(|recorder| recorder.hear(group, &event));
        match &event {
            GroupEvent::Became(state) => tracing::info!(
                %group, term = %state.term, role = ?state.role,
                leader = ?state.leader.map(|node| format!("{:x}", node.0)), "role"
            ),
            GroupEvent::Fenced(why) => tracing::error!(%group, %why, "the state machine has stopped"),
            GroupEvent::Consensus(event) => tracing::info!(%group, ?event, "consensus"),
            GroupEvent::Compacted { after } => tracing::debug!(%group, %after, "cut the log"),
            GroupEvent::SnapshotRestored { of } => tracing::info!(%group, %of, "restored from a snapshot"),
            GroupEvent::SnapshotSent { to, of } => {
                self.measures.sent.succeeded(group, *to);
                tracing::info!(%group, %to, %of, "sent a snapshot");
            }
            GroupEvent::SnapshotNotSent { to, why } => {
                self.measures.sent.failed(group, *to);
                tracing::warn!(%group, %to, %why, "did not send a snapshot; the member asks again if it needs one");
            }
            GroupEvent::SnapshotNotReceived { from, why } => {
                self.measures.received.failed(group, *from);
                tracing::warn!(%group, %from, %why, "did not receive a snapshot; it is asked for again");
            }
            GroupEvent::SnapshotSaved { of } => tracing::debug!(%group, %of, "saved a snapshot"),
            GroupEvent::SnapshotNotSaved { why } => {
                tracing::warn!(%group, why, "did not save a snapshot; the log stays as long as it is");
            }
        }
        self.with(group, |driven| driven.shown.tell(event));
    }

    fn with(&mut self, group: GroupId, act: impl FnOnce(&mut Driven)) {
        if let Some(driven) = self.groups.get_mut(&group) {
            act(driven);
        }
    }

    fn record(&mut self, act: impl FnOnce(&mut Recorder)) {
        if let Some(recorder) = &mut self.recorder {
            act(recorder);
        }
    }

    /// This turn began so much after it was due.
    fn note_late_turn(&mut self, late: Duration) {
        if self.leads() {
            self.measures.turn_was_late();
        }
        self.record(|recorder| recorder.record(Kind::LateTurn { late }));
    }

    fn dump_if_due(&mut self) {
        if let Some(why) = self.recorder.as_mut().and_then(Recorder::take_due) {
            self.dump(why, None);
        }
    }

    /// Has the flight record written, on a thread that may wait for a disk.
    fn dump(&mut self, why: Why, dumped: Option<oneshot::Sender<Result<PathBuf, DumpError>>>) {
        let written = match &mut self.recorder {
            Some(recorder) => {
                let (dump, (folder, dumps_max)) = (recorder.dump(why), recorder.place());
                tokio::task::spawn_blocking(move || recorder::write(&folder, dumps_max, &dump))
            }
            None => tokio::task::spawn_blocking(|| Err(DumpError::Off)),
        };
        tokio::spawn(async move {
            let written = written.await.unwrap_or(Err(DumpError::Stopped));
            match (dumped, written) {
                // A caller that went away does not want to know.
                (Some(dumped), written) => drop(dumped.send(written)),
                (None, Ok(path)) => tracing::info!(path = %path.display(), "wrote the flight record"),
                (None, Err(error)) => tracing::warn!(%error, "did not write the flight record"),
            }
        });
    }

    /// The last entry of the flight record. It is written, on this thread, unless the node was asked to stop and led nothing:
    /// the process is about to end.
    fn record_end(&mut self, why: &Ended) {
        let (leads, now) = (self.leads(), self.clock.now());
        let Some(mut recorder) = self.recorder.take() else { return };
        // The last turn may be long ago.
        recorder.turn(now);
        recorder.record(Kind::Stop { why: why.to_string() });
        let (folder, dumps_max) = recorder.place();
        if dumps_max == 0 || (*why == Ended::Stopped && !leads) {
            return;
        }
        if let Err(error) = recorder::write(&folder, dumps_max, &recorder.dump(Why::Ended)) {
            tracing::warn!(%error, "did not write the flight record");
        }
    }

    /// Nothing is done any more. Returns what tells when state machines are closed.
    fn end(&mut self, why: Ended) -> Vec<oneshot::Receiver<()>> {
        self.record_end(&why);
        self.events.close();
        let closing = self.groups.values_mut().map(|driven| {
            driven.shown.end();
            driven.machine.close()
        });
        let closing = closing.collect();
        self.groups.clear();
        self.ended.send_replace(Some(why));
        closing
    }

    /// Whether this node leads any group.
    fn leads(&self) -> bool {
        self.groups.values().any(|driven| driven.shown.role_state.borrow().role == RoleName::Leader)
    }
}

/// How long a node that ends waits for its state machines to be closed.
pub(crate) const CLOSING_MAX: Duration = Duration::from_secs(10);

impl Drop for Driver {
    /// However the driver ends, by a panic or with its runtime: no caller waits for it any more.
    fn drop(&mut self) {
        if self.ended.borrow().is_none() {
            let why = if std::thread::panicking() { Ended::Panicked } else { Ended::Stopped };
            drop(self.end(why));
        }
    }
}
