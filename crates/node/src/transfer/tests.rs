//! Nodes that send each other snapshots under virtual time, on a network that loses frames and breaks, with disks that
//! fail and processes that restart, as told by a seed.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use vlot_log::disk::sim::{Rng, SimDisk};
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId};
use vlot_raft::time::Time;

use super::frame::{Body, Frame};
use super::{BadTransferFrame, EndReason, Limits, TransferAct, TransferFailed, TransferOut, Transfers};
use crate::members::MembersAt;
use crate::snapshot::dir::SnapshotDir;
use crate::snapshot::{Header, SnapshotInfo};
use crate::state_machine::Snapshot;

const GROUP: GroupId = GroupId(5);
const LIMITS: Limits = Limits {
    rate_bytes_per_second: 1_000_000,
    chunk_bytes: 1000,
    window: 4,
    timeout: Duration::from_secs(2),
    pause: Duration::from_millis(100),
    sent_at_once_max: 2,
    received_at_once_max: 2,
};

/// A state of so many bytes. Those of one entry are the same on every node unless told otherwise.
struct State {
    index: u64,
    bytes: usize,
    flavour: u8,
}

impl Snapshot for State {
    fn at(&self) -> LogId {
        LogId::new(1, self.index)
    }

    fn write_to(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let mut rng = Rng::new(self.index);
        let bytes: Vec<u8> = (0..self.bytes).map(|_| rng.draw() as u8 ^ self.flavour).collect();
        out.write_all(&bytes)
    }
}

fn header(group: GroupId, index: u64) -> Header {
    let members = MembersAt { at: LogIndex(1), ..MembersAt::default() };
    Header { group, id: LogId::new(1, index), members }
}

struct Host {
    disk: SimDisk,
    dir: SnapshotDir<SimDisk>,
    transfers: Transfers,
    /// Answers of its disk that are on their way.
    done: VecDeque<(Time, Done)>,
    news: Vec<TransferOut>,
    read_errors: u64,
}

enum Done {
    Found(GroupId, NodeId, u64, Option<SnapshotInfo>),
    Saved(GroupId, Option<SnapshotInfo>),
    Read(GroupId, NodeId, u64, u64, io::Result<Bytes>),
    Opened(GroupId, u64, io::Result<u64>),
    Written(GroupId, u64, io::Result<u64>),
    Finished(GroupId, u64, Result<Header, crate::snapshot::SnapshotError>),
}

/// Some nodes, numbered from 1.
struct World {
    now: Time,
    rng: Rng,
    hosts: BTreeMap<NodeId, Host>,
    /// Frames on their way, each lane in order.
    lanes: BTreeMap<(NodeId, NodeId), VecDeque<(Time, Bytes)>>,
    /// Of 1000 frames so many are lost.
    loss: u64,
    restarts: u64,
    /// When chunks went out of each node, and how long they were.
    sent: Vec<(NodeId, Time, u64)>,
    latency: Duration,
    disk_latency: Duration,
}

impl World {
    fn new(nodes: u64, seed: u64) -> Self {
        let host = |node: u64| {
            let disk = SimDisk::new();
            let dir = SnapshotDir::open(disk.clone()).expect("no fault");
            let transfers = Transfers::new(LIMITS, node << 32, BTreeMap::new());
            (NodeId(node), Host { disk, dir, transfers, done: VecDeque::new(), news: Vec::new(), read_errors: 0 })
        };
        Self {
            now: Time::from_millis(1000),
            rng: Rng::new(seed),
            hosts: (1..=nodes).map(host).collect(),
            lanes: BTreeMap::new(),
            loss: 0,
            restarts: 0,
            sent: Vec::new(),
            latency: Duration::from_micros(200),
            disk_latency: Duration::from_micros(100),
        }
    }

    fn host(&mut self, node: u64) -> &mut Host {
        self.hosts.get_mut(&NodeId(node)).expect("it is there")
    }

    fn save(&mut self, node: u64, group: GroupId, index: u64, bytes: usize) -> SnapshotInfo {
        let state = &mut State { index, bytes, flavour: 0 };
        self.host(node).dir.save(&header(group, index), state).expect("no fault")
    }

    fn fetch(&mut self, node: u64, group: GroupId, leader: u64, others: &[u64], reach: u64) {
        let others: Vec<NodeId> = others.iter().map(|node| NodeId(*node)).collect();
        let now = self.now;
        self.host(node).transfers.fetch(now, group, NodeId(leader), &others, LogId::new(1, reach));
        self.carry_out(NodeId(node));
    }

    /// Breaks the connection, and what is on its way is lost.
    fn disconnect(&mut self, a: u64, b: u64) {
        for (one, other) in [(a, b), (b, a)] {
            self.lanes.remove(&(NodeId(one), NodeId(other)));
            let now = self.now;
            self.host(one).transfers.lost(now, NodeId(other));
            self.carry_out(NodeId(one));
        }
    }

    /// Ends a process and starts the next; with a loss of power if told so.
    fn restart(&mut self, node: u64, power: bool) {
        let nodes: Vec<u64> = self.hosts.keys().map(|node| node.0).collect();
        for other in nodes.into_iter().filter(|other| *other != node) {
            self.disconnect(node, other);
        }
        self.restarts += 1;
        let (seed, origin) = (self.rng.draw(), (node << 32) + (self.restarts << 20));
        let host = self.host(node);
        if power {
            host.disk.crash(seed);
        }
        host.disk.heal();
        host.done.clear();
        host.dir = SnapshotDir::open(host.disk.clone()).expect("no fault");
        host.transfers = Transfers::new(LIMITS, origin, host.dir.parts());
    }

    fn carry_out(&mut self, node: NodeId) {
        let (now, disk_latency) = (self.now, self.disk_latency);
        let host = self.hosts.get_mut(&node).expect("it is there");
        for act in host.transfers.take_acts() {
            let takes = disk_latency + Duration::from_micros(self.rng.below(50));
            let due = host.done.back().map_or(now, |(due, _)| *due).max(now + takes);
            let done = match act {
                TransferOut::Send { to, frame } => {
                    if let Ok(Frame { body: Body::Chunk { bytes, .. }, .. }) = Frame::decode(frame.clone()) {
                        self.sent.push((node, now, bytes.len() as u64));
                    }
                    if self.rng.below(1000) >= self.loss {
                        let lane = self.lanes.entry((node, to)).or_default();
                        let due = lane.back().map_or(now, |(due, _)| *due).max(now + self.latency);
                        lane.push_back((due, frame));
                    }
                    continue;
                }
                TransferOut::Act(TransferAct::FindSnapshot { group, to, attempt, reach, preferred }) => {
                    Done::Found(group, to, attempt, host.dir.find(group, reach, preferred).ok().flatten())
                }
                TransferOut::NeedSnapshot { group, reach } => {
                    // A state machine that has come ten entries further.
                    let state = &mut State { index: reach.index.0 + 10, bytes: 30_000, flavour: 0 };
                    Done::Saved(group, host.dir.save(&header(group, reach.index.0 + 10), state).ok())
                }
                TransferOut::Act(TransferAct::ReadChunk { group, to, attempt, info, offset, bytes }) => {
                    let fails = host.read_errors > 0 && self.rng.below(3) == 0;
                    host.read_errors -= u64::from(fails);
                    let error = || Err(io::Error::from_raw_os_error(5));
                    let read = if fails { error() } else { host.dir.read_chunk(group, &info, offset, bytes) };
                    Done::Read(group, to, attempt, offset, read)
                }
                TransferOut::Act(TransferAct::OpenPart { group, attempt, info, .. }) => {
                    Done::Opened(group, attempt, host.dir.part(group, &info))
                }
                TransferOut::Act(TransferAct::WriteChunk { group, attempt, info, offset, bytes }) => {
                    Done::Written(group, attempt, host.dir.write_chunk(group, &info, offset, &bytes))
                }
                TransferOut::Act(TransferAct::FinishPart { group, attempt, info, .. }) => {
                    Done::Finished(group, attempt, host.dir.finish_part(group, &info))
                }
                news => {
                    host.news.push(news);
                    continue;
                }
            };
            host.done.push_back((due, done));
        }
    }

    /// When the next thing happens.
    fn next(&self) -> Time {
        let frames = self.lanes.values().filter_map(|lane| Some(lane.front()?.0));
        let done = self.hosts.values().filter_map(|host| Some(host.done.front()?.0));
        let deadlines = self.hosts.values().map(|host| host.transfers.deadline());
        frames.chain(done).chain(deadlines).min().unwrap_or(Time::NEVER)
    }

    /// The next thing happens. False if nothing ever will.
    fn step(&mut self) -> bool {
        let next = self.next();
        if next == Time::NEVER {
            return false;
        }
        self.now = self.now.max(next);
        let now = self.now;
        let lane = self.lanes.iter_mut().find(|(_, lane)| lane.front().is_some_and(|(due, _)| *due <= now));
        if let Some((&(from, to), lane)) = lane {
            let (_, frame) = lane.pop_front().expect("it has one");
            let host = self.hosts.get_mut(&to).expect("it is there");
            host.transfers.frame(now, from, frame).expect("no correct node is refused");
            self.carry_out(to);
            return true;
        }
        let nodes: Vec<NodeId> = self.hosts.keys().copied().collect();
        for node in nodes {
            let host = self.hosts.get_mut(&node).expect("it is there");
            if host.done.front().is_some_and(|(due, _)| *due <= now) {
                let (_, done) = host.done.pop_front().expect("it has one");
                let transfers = &mut host.transfers;
                match done {
                    Done::Found(group, to, attempt, found) => transfers.found(now, group, to, attempt, found),
                    Done::Saved(group, saved) => transfers.saved(now, group, saved),
                    Done::Read(group, to, attempt, offset, read) => {
                        transfers.chunk_read(now, group, to, attempt, offset, read);
                    }
                    Done::Opened(group, attempt, opened) => transfers.part_opened(now, group, attempt, opened),
                    Done::Written(group, attempt, written) => transfers.chunk_written(now, group, attempt, written),
                    Done::Finished(group, attempt, done) => transfers.part_finished(now, group, attempt, done),
                }
                self.carry_out(node);
                return true;
            }
            if host.transfers.deadline() <= now {
                host.transfers.tick(now);
                assert!(host.transfers.deadline() > now, "what is due is done");
                self.carry_out(node);
                return true;
            }
        }
        true
    }

    /// Goes on until a node has a snapshot, or nothing happens any more.
    fn run(&mut self, node: u64, group: GroupId) -> Option<LogId> {
        for _ in 0..100_000 {
            self.has_no_lost_wake_up();
            if let Some(id) = self.newest(node, group) {
                return Some(id);
            }
            if !self.step() {
                return None;
            }
        }
        panic!("it never ends");
    }

    /// Whatever is under way has a deadline, or a frame or an act of a disk that will be answered.
    fn has_no_lost_wake_up(&self) {
        for (node, host) in &self.hosts {
            let is_under_way = host.transfers.is_under_way();
            let waits = host.transfers.deadline() < Time::NEVER || !host.done.is_empty();
            assert!(waits || !is_under_way, "{node} waits for nothing");
        }
    }

    fn newest(&mut self, node: u64, group: GroupId) -> Option<LogId> {
        let news = &self.host(node).news;
        let received = news.iter().filter_map(|act| match act {
            TransferOut::Received { group: of, header, .. } if *of == group => Some(header.id),
            _ => None,
        });
        received.max()
    }

    fn content(&mut self, node: u64, group: GroupId, info: &SnapshotInfo) -> Vec<u8> {
        self.host(node).dir.read_chunk(group, info, 0, usize::MAX).expect("it is there").to_vec()
    }

    fn failures(&mut self, node: u64) -> Vec<TransferFailed> {
        let why = |act: &TransferOut| match act {
            TransferOut::NotReceived { why, .. } => Some(*why),
            _ => None,
        };
        self.host(node).news.iter().filter_map(why).collect()
    }

    fn bytes_sent(&self) -> u64 {
        self.sent.iter().map(|(.., bytes)| bytes).sum()
    }

    fn wait(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        while self.next() <= until && self.step() {}
        self.now = self.now.max(until);
    }
}

#[test]
fn a_snapshot_goes_from_one_node_to_another() {
    let mut world = World::new(2, 1);
    let info = world.save(1, GROUP, 7, 50_000);
    world.fetch(2, GROUP, 1, &[], 5);
    assert!(world.host(2).transfers.is_fetching(GROUP));
    assert_eq!(world.run(2, GROUP), Some(LogId::new(1, 7)));
    assert_eq!(world.content(2, GROUP, &info), world.content(1, GROUP, &info));
    assert_eq!(world.bytes_sent(), info.bytes, "each byte once");
    while world.step() {}
    let sent = TransferOut::Sent { group: GROUP, to: NodeId(2), id: info.id };
    assert_eq!(world.host(1).news, [sent]);
    assert!(!world.host(1).transfers.is_under_way() && !world.host(2).transfers.is_under_way());
}

#[test]
fn one_that_is_not_there_is_saved_first() {
    let mut world = World::new(2, 1);
    world.save(1, GROUP, 7, 50_000);
    world.fetch(2, GROUP, 1, &[], 8);
    assert_eq!(world.run(2, GROUP), Some(LogId::new(1, 18)));
}

/// The connection breaks; the same member goes on where it stopped, and nothing is sent twice but what was on its way.
#[test]
fn after_a_break_it_goes_on_where_it_stopped() {
    let mut world = World::new(2, 1);
    let info = world.save(1, GROUP, 7, 100_000);
    world.fetch(2, GROUP, 1, &[], 5);
    for _ in 0..5 {
        world.wait(15);
        world.disconnect(1, 2);
        world.wait(100);
        world.fetch(2, GROUP, 1, &[], 5);
    }
    assert_eq!(world.run(2, GROUP), Some(info.id));
    assert_eq!(world.content(2, GROUP, &info), world.content(1, GROUP, &info));
    assert!(world.bytes_sent() <= info.bytes + 5 * LIMITS.window_bytes(), "{}", world.bytes_sent());
    let counters = world.host(2).transfers.counters();
    assert!(counters.bytes_resumed > 50_000, "{counters:?}");
    assert_eq!(counters.bytes_received, info.bytes);
}

/// Another member has a newer one. The connection breaks and comes back, and the first is gone on with.
#[test]
fn after_a_break_the_same_member_is_asked_for_the_rest() {
    let mut world = World::new(3, 1);
    let info = world.save(1, GROUP, 7, 100_000);
    world.save(3, GROUP, 9, 100_000);
    world.fetch(2, GROUP, 1, &[3], 5);
    world.wait(60);
    world.disconnect(1, 2);
    assert_eq!(world.host(1).transfers.oldest_sent(GROUP), Some(info.id), "it is kept meanwhile");
    world.wait(100);
    world.fetch(2, GROUP, 1, &[3], 5);
    assert_eq!(world.run(2, GROUP), Some(info.id));
    assert_eq!(world.host(3).transfers.counters().bytes_sent, 0);
    world.wait(50);
    assert_eq!(world.host(1).transfers.oldest_sent(GROUP), None);
    assert_eq!(world.host(1).transfers.oldest_followed(GROUP), Some(info.id), "it is being restored");
    world.wait(70_000);
    assert_eq!(world.host(1).transfers.oldest_followed(GROUP), None);
}

/// The sender dies. Another member has the same content and goes on with it.
#[test]
fn another_member_goes_on_with_the_same_content() {
    let mut world = World::new(3, 1);
    let info = world.save(1, GROUP, 7, 100_000);
    assert_eq!(world.save(3, GROUP, 7, 100_000), info);
    world.save(3, GROUP, 9, 100_000);
    world.fetch(2, GROUP, 1, &[3], 5);
    world.wait(60);
    world.disconnect(1, 2);
    let there = world.host(2).transfers.counters().bytes_received;
    assert!(there > 20_000, "{there}");
    world.wait(100);
    world.fetch(2, GROUP, 1, &[3], 5);
    // It is asked once more, and gone.
    world.disconnect(1, 2);
    world.wait(100);
    world.fetch(2, GROUP, 1, &[3], 5);
    assert_eq!(world.run(2, GROUP), Some(info.id), "the one that was begun, although there is a newer one");
    assert_eq!(world.content(2, GROUP, &info), world.content(1, GROUP, &info));
    assert_eq!(world.host(3).transfers.counters().bytes_sent, info.bytes - there);
}

/// It has another content: all of that one is sent.
#[test]
fn another_content_is_sent_from_its_beginning() {
    let mut world = World::new(3, 1);
    world.save(1, GROUP, 7, 100_000);
    let other = &mut State { index: 7, bytes: 100_000, flavour: 1 };
    let info = world.host(3).dir.save(&header(GROUP, 7), other).expect("no fault");
    world.fetch(2, GROUP, 1, &[3], 5);
    world.wait(60);
    for _ in 0..2 {
        world.disconnect(1, 2);
        world.wait(100);
        world.fetch(2, GROUP, 1, &[3], 5);
    }
    assert_eq!(world.run(2, GROUP), Some(info.id));
    assert_eq!(world.content(2, GROUP, &info), world.content(3, GROUP, &info));
    assert_eq!(world.host(3).transfers.counters().bytes_sent, info.bytes);
}

/// A file that was damaged on the sender's disk is found out at the end, dropped, and got from another member.
#[test]
fn damage_is_found_and_another_member_is_asked() {
    let mut world = World::new(3, 1);
    let info = world.save(1, GROUP, 7, 10_000);
    world.save(3, GROUP, 7, 10_000);
    let name = format!("{:016x}-{:016x}-{:016x}.snapshot", 5, 1, 7);
    world.host(1).disk.tamper(&name, |bytes| bytes[5000] ^= 4);
    for _ in 0..2 {
        world.fetch(2, GROUP, 1, &[3], 5);
        world.wait(500);
    }
    assert_eq!(world.failures(2), [TransferFailed::Damaged]);
    assert_eq!(world.newest(2, GROUP), Some(info.id));
    assert_eq!(world.content(2, GROUP, &info), world.content(3, GROUP, &info));
}

/// A member that says nothing is given up, and the next one is asked.
#[test]
fn a_silent_member_is_given_up() {
    let mut world = World::new(3, 1);
    let info = world.save(3, GROUP, 7, 10_000);
    world.loss = 1000;
    world.fetch(2, GROUP, 1, &[3], 5);
    world.wait(1900);
    assert_eq!(world.failures(2), []);
    world.wait(200);
    assert_eq!(world.failures(2), [TransferFailed::Silent]);
    world.loss = 0;
    world.fetch(2, GROUP, 1, &[3], 5);
    assert_eq!(world.run(2, GROUP), Some(info.id));
}

#[test]
fn the_others_wait_in_line_and_none_blocks_them() {
    let mut world = World::new(3, 1);
    let groups: Vec<GroupId> = (10..16).map(GroupId).collect();
    for group in &groups {
        world.save(1, *group, 7, 5000);
        // The first two are asked of a node that never answers.
        let leader = if group.0 < 12 { 9 } else { 1 };
        world.fetch(2, *group, leader, &[1], 5);
    }
    world.hosts.insert(NodeId(9), World::new(1, 1).hosts.remove(&NodeId(1)).expect("it is there"));
    world.host(9).transfers = Transfers::new(LIMITS, 0, BTreeMap::new());
    world.loss = 0;
    for _ in 0..40 {
        world.lanes.retain(|(_, to), _| to.0 != 9);
        world.wait(100);
        for group in &groups {
            if world.newest(2, *group).is_none() {
                world.fetch(2, *group, 1, &[], 5);
            }
        }
    }
    for group in groups {
        assert_eq!(world.newest(2, group), Some(LogId::new(1, 7)), "group {group}");
    }
}

/// More peers ask than may be served at once: the others are told so, and come again.
#[test]
fn the_rate_is_shared_and_holds() {
    let mut world = World::new(5, 1);
    let info = world.save(1, GROUP, 7, 200_000);
    let begun = world.now;
    for _ in 0..200 {
        for node in 2..=5 {
            if world.newest(node, GROUP).is_none() {
                world.fetch(node, GROUP, 1, &[], 5);
            }
        }
        world.wait(100);
    }
    for node in 2..=5 {
        assert_eq!(world.content(node, GROUP, &info), world.content(1, GROUP, &info));
        let busy = TransferFailed::Ended(EndReason::Busy);
        assert!(world.failures(node).iter().all(|why| *why == busy));
    }
    let rate = u128::from(LIMITS.rate_bytes_per_second);
    for (n, (_, from, _)) in world.sent.iter().enumerate() {
        let mut bytes = 0;
        for (_, at, length) in &world.sent[n..] {
            bytes += u128::from(*length);
            // A bucket, a chunk, and a chunk of each transfer that was read before.
            let allowed = rate * at.since(*from).as_micros() / 1_000_000 + 4 * u128::from(LIMITS.chunk_bytes);
            assert!(bytes <= allowed, "{bytes} bytes within {:?}", at.since(*from));
        }
    }
    let took = world.sent.last().expect("much was sent").1.since(begun);
    assert!(took < Duration::from_millis(1500), "the rate is made use of: {took:?}");
}

/// What is being sent is told, so that it is not removed meanwhile.
#[test]
fn what_is_being_sent_is_known() {
    let mut world = World::new(2, 1);
    let info = world.save(1, GROUP, 7, 100_000);
    world.fetch(2, GROUP, 1, &[], 5);
    assert_eq!(world.host(1).transfers.oldest_sent(GROUP), None);
    world.wait(50);
    assert_eq!(world.host(1).transfers.oldest_sent(GROUP), Some(info.id));
    let now = world.now;
    world.host(2).transfers.cancel(now, GROUP);
    world.carry_out(NodeId(2));
    world.wait(50);
    assert_eq!(world.host(1).transfers.oldest_sent(GROUP), None);
    assert!(!world.host(2).transfers.is_fetching(GROUP));
}

/// Everything goes wrong for a while, as told by a seed. In the end the receiver has exactly the bytes.
#[test]
fn whatever_goes_wrong_in_the_end_the_receiver_has_exactly_the_bytes() {
    let (mut resumed, mut restarts, mut failures) = (0, 0, BTreeMap::new());
    for seed in 0..120 {
        let mut rng = Rng::new(seed);
        let mut world = World::new(3, seed);
        let infos = [world.save(1, GROUP, 7, 60_000), world.save(3, GROUP, 7, 60_000)];
        assert_eq!(infos[0], infos[1]);
        if rng.below(3) == 0 {
            world.save(3, GROUP, 9, 40_000);
        }
        let mut rounds = 0;
        while world.newest(2, GROUP).is_none() {
            rounds += 1;
            assert!(rounds < 2000, "seed {seed}: it never comes");
            let is_troubled = rounds < 60;
            world.loss = if is_troubled { [0, 20, 300][rng.below(3) as usize] } else { 0 };
            world.fetch(2, GROUP, 1, &[3], 5);
            match rng.below(if is_troubled { 12 } else { u64::MAX }) {
                0 => world.disconnect(2, 1),
                1 => world.disconnect(2, 3),
                2 => world.restart(2, rng.below(2) == 0),
                3 => world.restart(1 + 2 * rng.below(2), false),
                4 => world.host(2).disk.fail_act(rng.below(6), seed),
                5 => world.host(1).read_errors = 1 + rng.below(2),
                6 => world.host(2).disk.refuse_write(rng.below(6)),
                _ => {}
            }
            world.has_no_lost_wake_up();
            world.wait(10 + rng.below(60));
        }
        let id = world.newest(2, GROUP).expect("it has come");
        world.host(2).disk.heal();
        let found = world.host(2).dir.saved(GROUP, id).expect("whole").expect("it is there");
        let from = if id.index.0 == 7 { 1 } else { 3 };
        assert_eq!(world.content(2, GROUP, &found.info), world.content(from, GROUP, &found.info), "seed {seed}");
        resumed += world.host(2).transfers.counters().bytes_resumed;
        restarts += world.restarts;
        for why in world.failures(2) {
            *failures.entry(format!("{why:?}")).or_insert(0) += 1;
        }
    }
    assert!(resumed > 400_000 && restarts > 40 && failures.len() > 3, "{resumed} {restarts} {failures:?}");
}

/// A chunk that was under way when all was asked for again is taken where it continues what is there. The peer pulls on from
/// behind it, in a round in which nothing was sent yet.
#[test]
fn a_chunk_of_an_earlier_round_may_come_late() {
    let (now, peer) = (Time::from_millis(1), NodeId(2));
    let info = SnapshotInfo { id: LogId::new(1, 5), bytes: 10_000, checksum: 7 };
    let mut transfers = Transfers::new(LIMITS, 0, BTreeMap::new());
    let frame = |body| Frame { group: GROUP, attempt: 1, body }.encode();
    transfers.frame(now, peer, frame(Body::Ask { reach: info.id, part: None })).expect("as it should be");
    transfers.found(now, GROUP, peer, 1, Some(info));
    transfers.frame(now, peer, frame(Body::Pull { round: 1, offset: 0, upto: 4000 })).expect("as it should be");
    transfers.chunk_read(now, GROUP, peer, 1, 0, Ok(Bytes::from(vec![0; 1000])));
    transfers.frame(now, peer, frame(Body::Pull { round: 2, offset: 0, upto: 4000 })).expect("as it should be");
    let pulled = transfers.frame(now, peer, frame(Body::Pull { round: 2, offset: 1000, upto: 5000 }));
    pulled.expect("the chunk of the first round has come");
    let refused = transfers.frame(now, peer, frame(Body::Pull { round: 2, offset: 1001, upto: 5000 }));
    assert!(matches!(refused, Err(BadTransferFrame::BadPull { .. })), "{refused:?}");
}

/// Frames that no correct peer sends are told, end what they belong to, and are never a panic.
#[test]
fn malformed_and_malicious_frames_are_told() {
    let now = Time::from_millis(1);
    let info = SnapshotInfo { id: LogId::new(1, 7), bytes: 10_000, checksum: 3 };
    let peer = NodeId(1);
    let frame = |body: Body| Frame { group: GROUP, attempt: 1, body }.encode();
    let receiver = |offered: bool, opened: Option<u64>| {
        let mut transfers = Transfers::new(LIMITS, 0, BTreeMap::new());
        transfers.fetch(now, GROUP, peer, &[], LogId::new(1, 5));
        if offered {
            transfers.frame(now, peer, frame(Body::Offer { info })).expect("as it should be");
        }
        if let Some(bytes) = opened {
            transfers.part_opened(now, GROUP, 1, Ok(bytes));
        }
        transfers.take_acts();
        transfers
    };
    for bad in [
        SnapshotInfo { id: LogId::new(1, 4), ..info },
        SnapshotInfo { bytes: 0, ..info },
        SnapshotInfo { bytes: 55, ..info },
    ] {
        let mut transfers = receiver(false, None);
        let refused = transfers.frame(now, peer, frame(Body::Offer { info: bad }));
        assert!(matches!(refused, Err(BadTransferFrame::BadOffer { .. })), "{refused:?}");
        assert!(!transfers.is_fetching(GROUP));
    }
    let bytes = |length: usize| Bytes::from(vec![0; length]);
    for (offset, bytes) in [(0, bytes(0)), (0, bytes(4001)), (u64::MAX, bytes(1)), (3999, bytes(2))] {
        let mut transfers = receiver(true, Some(0));
        let refused = transfers.frame(now, peer, frame(Body::Chunk { round: 1, offset, bytes }));
        assert!(matches!(refused, Err(BadTransferFrame::BadChunk { .. })), "{refused:?}");
        assert!(!transfers.is_fetching(GROUP));
    }
    // Chunks that this peer was not asked for are not kept.
    let mut transfers = receiver(true, Some(0));
    transfers.frame(now, NodeId(3), frame(Body::Chunk { round: 1, offset: 0, bytes: bytes(10) })).expect("ignored");
    assert!(matches!(&transfers.take_acts()[..], [TransferOut::Send { to: NodeId(3), .. }]), "it is told so");
    let sender = || {
        let mut transfers = Transfers::new(LIMITS, 0, BTreeMap::new());
        transfers.frame(now, peer, frame(Body::Ask { reach: info.id, part: None })).expect("as it should be");
        transfers.found(now, GROUP, peer, 1, Some(info));
        transfers.frame(now, peer, frame(Body::Pull { round: 1, offset: 0, upto: 4000 })).expect("as it should be");
        transfers.take_acts();
        transfers
    };
    for (round, offset) in [(1, 1), (2, 10_001), (u64::MAX, u64::MAX)] {
        let refused = sender().frame(now, peer, frame(Body::Pull { round, offset, upto: u64::MAX }));
        assert!(matches!(refused, Err(BadTransferFrame::BadPull { .. })), "{refused:?}");
    }
    // However much is asked for, a window is sent.
    let mut transfers = sender();
    transfers.frame(now, peer, frame(Body::Pull { round: 2, offset: 0, upto: u64::MAX })).expect("as it should be");
    let mut sent = 0;
    let mut later = now;
    while sent < 4000 {
        transfers.chunk_read(later, GROUP, peer, 1, sent, Ok(bytes(1000)));
        sent += 1000;
        later = later + Duration::from_secs(1);
        transfers.tick(later);
    }
    let acts = transfers.take_acts();
    let chunks = acts.iter().filter(|act| matches!(act, TransferOut::Act(TransferAct::ReadChunk { .. }))).count();
    assert_eq!(chunks, 3, "the first was read already: {acts:?}");
}

/// Bytes at random, and random frames of attempts that there are, in any order.
#[test]
fn no_input_is_a_panic_or_grows_without_bound() {
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let mut transfers = Transfers::new(LIMITS, 0, BTreeMap::new());
        let mut now = Time::from_millis(1);
        let mut acts_max = 0;
        for _ in 0..500 {
            now = now + Duration::from_millis(rng.below(50));
            let (peer, group) = (NodeId(rng.below(3)), GroupId(rng.below(4)));
            let attempt = 1 + rng.below(4);
            let edges = [0, 1, 999, 1000, 4000, 56, u64::MAX - 1, u64::MAX];
            let mut number = || edges[rng.below(edges.len() as u64) as usize];
            let info = SnapshotInfo { id: LogId::new(1, number()), bytes: number(), checksum: 0 };
            let (round, offset, upto) = (number() % 4, number(), number());
            let bytes = Bytes::from(vec![0; (number() % 4001) as usize]);
            let (answer, length) = (number(), number());
            let body = match rng.below(16) {
                0 => Body::Ask { reach: info.id, part: Some(info) },
                1 => Body::Offer { info },
                2 => Body::Pull { round, offset, upto },
                3 => Body::Chunk { round, offset, bytes },
                4 => Body::End { reason: EndReason::Complete },
                5 => Body::Refuse { reason: EndReason::Busy },
                other => {
                    match other {
                        6 => transfers.fetch(now, group, peer, &[], LogId::new(1, 1)),
                        7 => transfers.found(now, group, peer, attempt, Some(info)),
                        8 => transfers.saved(now, group, (answer % 2 == 0).then_some(info)),
                        9 => transfers.chunk_read(now, group, peer, attempt, offset, Ok(bytes)),
                        10 => transfers.part_opened(now, group, attempt, Ok(length)),
                        11 => transfers.chunk_written(now, group, attempt, Ok(length)),
                        12 => transfers.tick(now),
                        13 => transfers.lost(now, peer),
                        14 => {
                            let noise: Vec<u8> = (0..rng.below(40)).map(|_| rng.draw() as u8).collect();
                            let _ = transfers.frame(now, peer, noise.into());
                        }
                        _ => transfers.cancel(now, group),
                    }
                    acts_max = acts_max.max(transfers.take_acts().len());
                    continue;
                }
            };
            let _ = transfers.frame(now, peer, Frame { group, attempt, body }.encode());
            acts_max = acts_max.max(transfers.take_acts().len());
        }
        assert!(acts_max < 40, "seed {seed}: {acts_max} acts of one input");
    }
}
