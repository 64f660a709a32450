use vlot_log::disk::sim::SimDisk;
use vlot_log::record::Entry;
use vlot_node::members::{Members, MembersAt, MembersEntry};
use vlot_raft::id::{LogId, NodeId, Term};

use super::*;

const OLD: log::Identity = log::Identity { cluster: 7, node: NodeId(2) };
const NEW: log::Identity = log::Identity { cluster: 8, node: NodeId(2) };

fn options() -> log::Options {
    log::Options { segment_bytes: 8 << 10, keep: payload::sets_configuration, ..log::Options::default() }
}

fn recovery() -> Recovery {
    Recovery {
        owner: LogOwner { cluster: OLD.cluster, node: OLD.node },
        new_cluster: NEW.cluster,
        address: "n2:1".to_owned(),
        context: Bytes::new(),
        i_know_that_acknowledged_writes_may_be_lost: true,
    }
}

/// The log of a node with two groups, of which one was cut.
fn old_log(disk: SimDisk) {
    let (mut log, _) = Log::open(disk, OLD, options()).unwrap();
    let voters = (1..=3).map(|node| (NodeId(node), format!("n{node}:1")));
    let note = |at| {
        let entry = MembersEntry { members: Members::of_voters(voters.clone()), ..MembersEntry::default() };
        MembersAt { at: LogIndex(at), entry }.encode()
    };
    for (group, after) in [(GroupId(1), LogId::ZERO), (GroupId(2), LogId::new(3, 40))] {
        log.write(&[Write::LogStart { group, after, note: note(after.index.0.min(1)) }]).unwrap();
        log.write(&[Write::Vote { group, term: Term(5), vote: None }]).unwrap();
        for n in 1..=30 {
            let index = LogIndex(after.index.0 + n);
            let payload = payload::command(vlot_node::proposal_id::ProposalId { origin: 1, sequence: n }, 0, |bytes| {
                bytes.extend_from_slice(&vec![n as u8; 40 * n as usize]);
            });
            let entries = vec![Entry { id: LogId { term: Term(5), index }, payload }];
            log.write(&[Write::Append { group, after: index.prev(), entries }]).unwrap();
        }
    }
    log.sync().unwrap();
}

/// All that a log holds: of each group what it knows, and its entries.
fn content(disk: SimDisk, identity: log::Identity) -> Vec<(GroupId, GroupState, Vec<Entry>)> {
    let (log, recovered) = Log::open(disk, identity, options()).unwrap();
    let groups = recovered.groups.into_iter().map(|(group, state)| {
        let (after, last) = (state.runs.after().index, state.runs.last());
        let entries = log.read(group, after, last, usize::MAX).unwrap();
        (group, state, entries)
    });
    groups.collect()
}

fn copy_to(old: SimDisk, new: SimDisk) -> Result<(), RecoverError> {
    let (old, recovered) = Log::open(old, OLD, options()).unwrap();
    let groups: Vec<_> = recovered.groups.into_iter().collect();
    let found: Vec<_> = groups.iter().map(|(group, state)| GroupFound::new(*group, state).unwrap()).collect();
    copy(&old, &groups, &found, new, &recovery())
}

/// The power is cut at each write and each sync while the new log is made. The old one is what it was; and once it is said
/// that the new one is made, it is durable, and has all that the old one had and one entry more.
#[test]
fn killed_at_any_write_the_old_log_is_whole_and_what_is_done_is_durable() {
    let old = SimDisk::new();
    old_log(old.clone());
    let before = content(old.clone(), OLD);
    let mut nth = 0;
    loop {
        let new = SimDisk::new();
        new.turn_off(nth);
        let done = copy_to(old.clone(), new.clone());
        new.crash(nth);
        assert_eq!(content(old.clone(), OLD), before, "killed at act {nth}");
        if done.is_err() {
            nth += 1;
            assert!(nth < 10_000, "it ends");
            continue;
        }
        assert!(nth > 8, "{nth} acts");
        for ((group, was, entries), (same, is, more)) in before.iter().zip(content(new, NEW)) {
            assert_eq!(*group, same);
            assert_eq!(
                (is.runs.after(), &is.note, &more[..entries.len()]),
                (was.runs.after(), &was.note, &entries[..])
            );
            assert_eq!((is.term, is.vote, more.len()), (Term(6), Some(NodeId(2)), entries.len() + 1));
            let found = GroupFound::new(same, &is).unwrap();
            assert_eq!(found.members.configuration().voters().collect::<Vec<_>>(), [NodeId(2)]);
            assert!(found.members.is_barred(NodeId(1)) && found.members.is_barred(NodeId(3)));
        }
        return;
    }
}
