//! Typed states on real nodes: calls that take effect once, sessions, versions, deadlines.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use vlot::net::Listen;
use vlot::net::memory::Hub;
use vlot::typed::state::Version;
use vlot::{
    CallError, CallId, Context, Group, GroupId, Node, NodeId, Options, ProposeError, Resolved, RoleName, SerdeState,
    State, Typed,
};

const GROUP: GroupId = GroupId(1);

/// The numbers that were added, in order.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct List(Vec<u64>);

/// A number to add. The reply is how many there are then.
impl SerdeState for List {
    type Command = u64;
    type Reply = usize;

    fn apply(&mut self, _: &Context, number: u64) -> usize {
        self.0.push(number);
        self.0.len()
    }
}

/// The next version of the program: a number has a sign, and its bytes say so; a list is written from behind.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Signed(Vec<i64>);

impl SerdeState for Signed {
    type Command = i64;
    type Reply = usize;

    const VERSIONS: RangeInclusive<Version> = 1..=2;

    fn apply(&mut self, _: &Context, number: i64) -> usize {
        self.0.push(number);
        self.0.len()
    }

    fn version_of(number: &i64) -> Version {
        if *number < 0 { 2 } else { 1 }
    }

    fn encode_command(number: &i64, version: Version, buffer: &mut vlot::BytesMut) {
        let bytes = match version {
            1 => postcard_of(&number.unsigned_abs()),
            _ => postcard_of(number),
        };
        buffer.extend_from_slice(&bytes);
    }

    fn decode_command(version: Version, bytes: &[u8]) -> Result<i64, vlot::BadCommand> {
        let number = match version {
            1 => postcard::from_bytes::<u64>(bytes).map(|number| number as i64),
            _ => postcard::from_bytes(bytes),
        };
        number.map_err(|error| vlot::BadCommand(error.to_string()))
    }

    fn write(&self, version: Version, out: &mut dyn io::Write) -> io::Result<()> {
        match version {
            1 => out.write_all(&postcard_of(&self.0.iter().map(|number| number.unsigned_abs()).collect::<Vec<u64>>())),
            _ => out.write_all(&postcard_of(&self.0.iter().rev().collect::<Vec<_>>())),
        }
    }

    fn read(version: Version, from: &mut dyn io::Read) -> Result<Self, vlot::BadSnapshot> {
        let bad = |why: String| vlot::BadSnapshot(why);
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).map_err(|error| bad(error.to_string()))?;
        match version {
            1 => {
                let numbers: Vec<u64> = postcard::from_bytes(&bytes).map_err(|error| bad(error.to_string()))?;
                Ok(Self(numbers.into_iter().map(|number| number as i64).collect()))
            }
            _ => {
                let numbers: Vec<i64> = postcard::from_bytes(&bytes).map_err(|error| bad(error.to_string()))?;
                Ok(Self(numbers.into_iter().rev().collect()))
            }
        }
    }
}

fn postcard_of<V: Serialize>(value: &V) -> Vec<u8> {
    postcard::to_stdvec(value).unwrap()
}

/// Three nodes of one process, and where they keep their data.
struct World {
    dir: PathBuf,
    hub: Hub,
}

impl World {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("vlot-typed-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        Self { dir, hub: Hub::default() }
    }

    fn options(&self, node: u64) -> Options {
        let peers: BTreeMap<NodeId, String> = (1..=3).map(|node| (NodeId(node), format!("n{node}"))).collect();
        let listen = Listen::through(self.hub.at(&format!("n{node}")));
        let mut options = Options {
            node: NodeId(node),
            listen,
            peers,
            heartbeat: Duration::from_millis(30),
            election_timeout: Duration::from_millis(300),
            ..Options::new(self.dir.join(node.to_string()))
        };
        options.log.segment_bytes = 1 << 20;
        options
    }

    async fn start<T: State + Default>(&self, node: u64) -> (Node, Group<Typed<T>>) {
        self.start_with(self.options(node)).await
    }

    async fn start_with<T: State + Default>(&self, options: Options) -> (Node, Group<Typed<T>>) {
        let node = Node::open(options).await.unwrap();
        let group = node.typed(GROUP, (1..=3).map(NodeId), T::default()).await.unwrap();
        (node, group)
    }

    async fn start_all<T: State + Default>(&self) -> Vec<(Node, Group<Typed<T>>)> {
        vec![self.start(1).await, self.start(2).await, self.start(3).await]
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

async fn shut_down<T: State>(nodes: Vec<(Node, Group<Typed<T>>)>) {
    for (node, _) in nodes {
        node.shutdown().await;
    }
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// Waits until this holds.
macro_rules! wait_until {
    ($holds:expr) => {
        let begun = Instant::now();
        while !$holds {
            assert!(begun.elapsed() < Duration::from_secs(20), "{} does not come true", stringify!($holds));
            pause().await;
        }
    };
}

#[tokio::test]
async fn a_call_takes_effect_once_wherever_and_however_often_it_is_made() {
    let world = World::new("once");
    let nodes = world.start_all::<List>().await;
    let [first, second, third] = [0, 1, 2].map(|at: usize| nodes[at].1.clone());
    assert_eq!(first.call(10).await, Ok(1));
    assert_eq!(second.call(20).await, Ok(2));

    let session = first.open_session().await.unwrap();
    let id = |serial| CallId { session, serial };
    assert_eq!(first.call_as(id(1), 1, 30).await, Ok(3));
    assert_eq!(second.call_as(id(1), 1, 30).await, Ok(3));
    assert_eq!(third.resolve(id(1)).await, Ok(Resolved::Applied(3)));
    assert_eq!(third.resolve(id(2)).await, Ok(Resolved::NotApplied));
    assert_eq!(first.call_as(id(2), 1, 40).await, Err(CallError::GivenUp(id(2))));
    first.save_snapshot().await.unwrap();
    shut_down(nodes).await;

    let nodes = world.start_all::<List>().await;
    let [first, second, third] = [0, 1, 2].map(|at: usize| nodes[at].1.clone());
    assert_eq!(third.call_as(id(1), 1, 30).await, Ok(3), "after a restart of all");
    assert_eq!(first.call_as(id(3), 3, 50).await, Ok(4), "and 1 and 2 are settled");
    assert_eq!(first.call_as(id(1), 1, 30).await, Err(CallError::Forgotten(id(1))));
    assert_eq!(second.resolve(id(2)).await, Ok(Resolved::Forgotten));
    second.close_session(session).await.unwrap();
    assert_eq!(first.call_as(id(4), 4, 60).await, Err(CallError::NoSession(session)));
    assert_eq!(first.call_at_most_once(70).await, Ok(5));
    let other = second.session().await.unwrap();
    assert_eq!(other.call(80).await, Ok(6));
    other.clone().close().await.unwrap();
    assert_eq!(other.call(90).await, Err(CallError::NoSession(other.id())));
    assert_eq!(third.read(|list| list.0.clone()).await.unwrap(), [10, 20, 30, 50, 70, 80]);
    assert_eq!(second.view().await.unwrap().0.len(), 6);
    shut_down(nodes).await;
}

#[tokio::test]
async fn many_calls_at_once_are_all_applied_once_through_changes_of_leader() {
    let world = World::new("many");
    let nodes = world.start_all::<List>().await;
    let calls = (0..300).map(|number| {
        let group = nodes[number as usize % 3].1.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(number * 5)).await;
            group.within(Duration::from_secs(20)).call(number).await
        })
    });
    let calls: Vec<_> = calls.collect();
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let leads = |(_, group): &&(Node, Group<Typed<List>>)| group.status().role_state.role == RoleName::Leader;
        if let Some((_, leader)) = nodes.iter().find(leads) {
            // It may have lost its office meanwhile.
            let _ = leader.transfer_leadership(None).await;
        }
    }
    for call in calls {
        assert!(call.await.unwrap().is_ok());
    }
    let mut numbers = nodes[0].1.read(|list| list.0.clone()).await.unwrap();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..300).collect::<Vec<_>>());
    shut_down(nodes).await;
}

#[tokio::test]
async fn what_is_unknown_is_named_and_can_be_resolved() {
    let world = World::new("unknown");
    let mut nodes = world.start_all::<List>().await;
    assert_eq!(nodes[0].1.call(1).await, Ok(1));
    // Nothing is decided any more.
    for _ in 0..2 {
        nodes.pop().unwrap().0.shutdown().await;
    }
    let alone = nodes[0].1.within(Duration::from_millis(200));
    let begun = Instant::now();
    let outcome = alone.call(2).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "a deadline is kept");
    nodes.extend([world.start::<List>(2).await, world.start::<List>(3).await]);
    match outcome {
        Err(CallError::Unknown(Some(id))) => {
            let resolved = nodes[1].1.resolve(id).await.unwrap();
            let numbers = nodes[2].1.read(|list| list.0.clone()).await.unwrap();
            let expected = if resolved == Resolved::NotApplied { vec![1] } else { vec![1, 2] };
            assert_eq!(numbers, expected, "{resolved:?}");
            let again = nodes[1].1.call_as(id, id.serial, 2).await;
            assert!(matches!(again, Ok(2) | Err(CallError::GivenUp(_))), "{again:?}");
        }
        other => assert_eq!(other, Err(CallError::Refused(ProposeError::NoLeader))),
    }
    shut_down(nodes).await;
}

#[tokio::test]
async fn a_session_that_was_idle_for_too_long_is_opened_anew() {
    let world = World::new("idle");
    let options = |node| {
        let mut options = world.options(node);
        options.sessions.idle_max = Duration::from_millis(300);
        options
    };
    let mut nodes = Vec::new();
    for node in 1..=3 {
        nodes.push(world.start_with::<List>(options(node)).await);
    }
    let (first, second) = (nodes[0].1.clone(), nodes[1].1.clone());
    let session = second.open_session().await.unwrap();
    assert_eq!(first.call(1).await, Ok(1));
    tokio::time::sleep(Duration::from_millis(700)).await;
    // Time is told with what is called.
    assert_eq!(second.call_at_most_once(2).await, Ok(2));
    let id = CallId { session, serial: 1 };
    assert_eq!(second.call_as(id, 1, 3).await, Err(CallError::NoSession(session)));
    assert_eq!(first.call(4).await, Ok(3));
    assert_eq!(first.read(|typed| typed.sessions().len()).await, Ok(1));
    shut_down(nodes).await;
}

#[tokio::test]
async fn without_forwarding_a_caller_is_told_which_node_leads() {
    let world = World::new("forward");
    let mut nodes = Vec::new();
    for node in 1..=3 {
        nodes.push(world.start_with::<List>(Options { forward: false, ..world.options(node) }).await);
    }
    let leader_of = |at: usize| nodes[at].1.status().role_state.leader;
    wait_until!((0..3).all(|at| leader_of(at).is_some() && leader_of(at) == leader_of(0)));
    let leader = leader_of(0).unwrap();
    for (node, group) in &nodes {
        let outcome = group.call_at_most_once(7).await;
        if node.node() == leader {
            assert!(outcome.is_ok(), "{outcome:?}");
        } else {
            let not_leader = ProposeError::NotLeader { leader: Some(leader) };
            assert_eq!(outcome, Err(CallError::Refused(not_leader)));
        }
    }
    shut_down(nodes).await;
}

/// Adds numbers at one node until it is told to stop; each once.
async fn add_while<T: State<Reply = usize>>(
    group: &Group<Typed<T>>,
    next: &mut u64,
    command: impl Fn(u64) -> T::Command,
) {
    for _ in 0..20 {
        group.call(command(*next)).await.unwrap();
        *next += 1;
    }
}

#[tokio::test]
async fn a_new_version_is_rolled_out_and_taken_back() {
    let world = World::new("versions");
    let mut next = 0;
    let mut old: Vec<_> = world.start_all::<List>().await;
    add_while(&old[0].1, &mut next, |n| n).await;

    // Out, node by node. Until the last runs the new program, the old version is written.
    let mut new = Vec::new();
    for node in 1..=3 {
        old.remove(0).0.shutdown().await;
        new.push(world.start::<Signed>(node).await);
        add_while(&new[0].1, &mut next, |n| n as i64).await;
        if let Some((_, group)) = old.first() {
            add_while(group, &mut next, |n| n).await;
            let refused = CallError::NeedsVersion { needed: 2, in_use: 1 };
            assert_eq!(new[0].1.call(-1).await, Err(refused));
        }
    }
    for (_, group) in &new {
        wait_until!(group.versions().await.unwrap().in_use() == 2);
    }
    let count = new[2].1.call(-1).await.unwrap() as u64;
    assert_eq!(count, next + 1);
    let bad = new[1].1.limit_version(Some(3)).await.unwrap_err();
    assert_eq!(bad.to_string(), "node 1 understands versions 1 to 2 alone; nothing is changed");

    // And back. What the first version cannot hold is written without a sign.
    new[1].1.limit_version(Some(1)).await.unwrap();
    assert_eq!(new[0].1.call(-1).await, Err(CallError::NeedsVersion { needed: 2, in_use: 1 }));
    for (_, group) in &new {
        group.barrier().await.unwrap();
        group.save_snapshot().await.unwrap();
    }
    let mut old = Vec::new();
    for node in 1..=3 {
        new.remove(0).0.shutdown().await;
        old.push(world.start::<List>(node).await);
        add_while(&old[0].1, &mut next, |n| n).await;
        if let Some((_, group)) = new.first() {
            add_while(group, &mut next, |n| n as i64).await;
        }
    }
    let mut numbers = old[1].1.read(|list| list.0.clone()).await.unwrap();
    numbers.sort_unstable();
    let mut expected: Vec<u64> = (0..next).chain([1]).collect();
    expected.sort_unstable();
    assert_eq!(numbers, expected);
    shut_down(old).await;
}
