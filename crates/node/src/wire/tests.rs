use super::*;
use crate::members::{MemberChange, Members, MembersEntry};
use crate::proposal_id::ProposalId;

const REFUSALS: [ChangeRefused; 13] = [
    ChangeRefused::NotLeader { leader: None },
    ChangeRefused::NotLeader { leader: Some(NodeId(1)) },
    ChangeRefused::TooSoon,
    ChangeRefused::InProgress,
    ChangeRefused::Transferring { to: NodeId(2) },
    ChangeRefused::NotCaughtUp { node: NodeId(3) },
    ChangeRefused::NoVoters,
    ChangeRefused::TooManyWitnesses,
    ChangeRefused::NotAMember { node: NodeId(4) },
    ChangeRefused::KeepsItsKind { node: NodeId(5) },
    ChangeRefused::Barred { node: NodeId(6) },
    ChangeRefused::NothingToDo,
    ChangeRefused::NoSpace,
];

fn every_parcel() -> Vec<PeerMessage> {
    let last = LogId::new(3, 9);
    let mut entries = TermRuns::one_term(LogId::new(1, 4), Term(2), 1);
    entries.push(Term(3), 1);
    let command = payload::command(ProposalId { origin: 7, sequence: 8 }, 1, |out| out.extend_from_slice(b"x"));
    let bodies = [
        Body::RequestPreVote { last },
        Body::PreVoteGranted,
        Body::PreVoteRefused,
        Body::RequestVote { last: LogId::ZERO, transfer: true },
        Body::VoteGranted,
        Body::VoteRefused,
        Body::AppendEntries {
            session: of(3),
            entries: TermRuns::empty(last),
            configurations: Vec::new(),
            commit: LogIndex(2),
        },
        Body::EntriesAccepted { session: of(3), upto: LogIndex(5) },
        Body::EntriesRefused { session: of(3), missing: last, hint: LogId::ZERO },
        Body::Heartbeat { session: of(3), round: 4, commit: LogIndex(3) },
        Body::Committed { upto: LogIndex(3) },
        Body::HeartbeatReply { session: of(3), round: 4, fit: true, full: true, priority: 2, asleep: true },
        Body::Sleep { session: of(3), round: 4, upto: last },
        Body::SnapshotNeeded { session: of(3), of: last },
        Body::TimeoutNow,
        Body::Removed { at: LogIndex(8) },
        Body::StaleTerm,
        Body::ReadIndex { read: ReadId(1) },
        Body::ReadIndexReply { read: ReadId(1), index: LogIndex(2) },
        Body::ReadIndexRefused { read: ReadId(1) },
    ];
    let raft = |body, payloads| PeerMessage::Raft { message: Message { term: Term(6), body }, payloads };
    let mut messages: Vec<PeerMessage> = bodies.into_iter().map(|body| raft(body, Vec::new())).collect();
    let members = Members::of_voters([(NodeId(1), "a:1".to_owned())]);
    let configurations = vec![(LogIndex(6), members.configuration().clone())];
    let set = payload::configuration(&MembersEntry { members, ..MembersEntry::default() });
    let append = Body::AppendEntries { session: of(0), entries, configurations, commit: LogIndex(2) };
    messages.push(raft(append, vec![command.clone(), set]));
    messages.push(PeerMessage::Propose { term: Term(6), payloads: vec![command] });
    let id = ProposalId { origin: 1, sequence: 2 };
    let changes = vec![MemberChange::Remove(NodeId(4))];
    messages.push(PeerMessage::Change { term: Term(6), request: ChangeRequest { id, changes, context: Bytes::new() } });
    messages.push(PeerMessage::ProposalsRefused { term: Term(6), sequences: vec![1, 1 << 40] });
    messages.extend(REFUSALS.map(|why| PeerMessage::ChangeRefused { sequence: 5, why }));
    messages
}

#[test]
fn what_is_sent_is_received() {
    for message in every_parcel() {
        let frame = message.clone().encode(GroupId(11));
        assert_eq!(PeerMessage::decode(frame), Ok((GroupId(11), message)));
    }
}

#[test]
fn damaged_frames_are_refused_or_another_valid_one() {
    for message in every_parcel() {
        let frame = message.encode(GroupId(11)).to_vec();
        for at in 0..frame.len() {
            for bit in 0..8 {
                let mut damaged = frame.clone();
                damaged[at] ^= 1 << bit;
                drop(PeerMessage::decode(damaged.into()));
            }
            drop(PeerMessage::decode(frame[..at].to_vec().into()));
        }
    }
}

#[test]
fn entries_without_payloads_are_refused() {
    let entries = TermRuns::one_term(LogId::ZERO, Term(1), u64::MAX - 1);
    let (session, configurations, commit) = (of(0), Vec::new(), LogIndex(0));
    let message = Message { term: Term(1), body: Body::AppendEntries { session, entries, configurations, commit } };
    let frame = PeerMessage::Raft { message, payloads: Vec::new() }.encode(GroupId(1));
    assert_eq!(PeerMessage::decode(frame), Err(BadFrame::PayloadsDoNotMatch));
}
