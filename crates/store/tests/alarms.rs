//! Alarms are part of what members agree on: they refuse the same everywhere, and outlive restarts and snapshots.

use std::sync::Arc;

use vlot_proto::etcdserverpb::alarm_request::AlarmAction;
use vlot_proto::etcdserverpb::{AlarmRequest, AlarmType, CompactionRequest, DeleteRangeRequest, PutRequest};
use vlot_store::command::Command;
use vlot_store::engine::memory::MemoryEngine;
use vlot_store::refusal::Refusal;
use vlot_store::revision::Position;
use vlot_store::store::{Applied, Options, Store};

struct Member {
    store: Store,
    index: u64,
}

impl Member {
    fn open(engine: &MemoryEngine) -> Member {
        let store = Store::open_still(Arc::new(engine.clone()), Options::default()).unwrap();
        let index = store.applied().index;
        Member { store, index }
    }

    fn apply(&mut self, command: Command) -> Result<Applied, Refusal> {
        self.index += 1;
        let applied = self.store.apply(Position { term: 1, index: self.index }, command);
        self.store.end_batch();
        applied
    }

    fn put(&mut self, key: &str, bytes: usize) -> Result<Applied, Refusal> {
        let value = vec![b'x'; bytes].into();
        self.apply(Command::Put(PutRequest { key: key.to_owned().into(), value, ..Default::default() }))
    }

    fn alarm(&mut self, action: AlarmAction, member_id: u64, alarm: AlarmType) {
        let request = AlarmRequest { action: action.into(), member_id, alarm: alarm.into() };
        assert!(matches!(self.apply(Command::Alarm(request)), Ok(Applied::Alarm(_))));
    }

    fn delete_all(&mut self) -> Result<Applied, Refusal> {
        let all = DeleteRangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
        self.apply(Command::DeleteRange(all))
    }

    fn compact(&mut self) -> Result<Applied, Refusal> {
        let revision = self.store.revision();
        self.apply(Command::Compact(CompactionRequest { revision, physical: false }))
    }
}

#[test]
fn alarms_outlive_a_restart_and_travel_in_a_snapshot() {
    let engine = MemoryEngine::default();
    let mut member = Member::open(&engine);
    member.put("k", 1).unwrap();
    member.alarm(AlarmAction::Activate, 7, AlarmType::Nospace);
    assert_eq!(member.put("k", 1), Err(Refusal::NoSpace));
    member.store.flush().unwrap();
    drop(member);

    let mut member = Member::open(&engine);
    assert!(member.store.alarms().has_for(AlarmType::Nospace, 7));
    assert_eq!(member.put("k", 1), Err(Refusal::NoSpace));
    member.store.flush().unwrap();
    let mut bytes = Vec::new();
    member.store.snapshot().unwrap().write_to(&mut bytes).unwrap();
    let mut other = Member::open(&MemoryEngine::default());
    other.store.restore(&mut &bytes[..]).unwrap();
    other.index = member.index;
    assert_eq!(other.store.alarms(), member.store.alarms());
    for member in [&mut member, &mut other] {
        assert_eq!(member.put("k", 1), Err(Refusal::NoSpace));
        let revision = member.store.revision();
        assert!(member.delete_all().is_ok() && member.compact().is_ok());
        assert_eq!(member.store.revision(), revision + 1);
        member.alarm(AlarmAction::Activate, 9, AlarmType::Corrupt);
        assert_eq!(member.delete_all(), Err(Refusal::Corrupt));
        assert_eq!(member.compact(), Err(Refusal::Corrupt));
        member.alarm(AlarmAction::Deactivate, 9, AlarmType::Corrupt);
        member.alarm(AlarmAction::Deactivate, 7, AlarmType::Nospace);
        assert!(member.put("k", 1).is_ok());
    }
    assert_eq!(member.store.hash(0), other.store.hash(0));
}

#[test]
fn what_history_takes_up_falls_when_it_is_deleted_and_compacted() {
    let engine = MemoryEngine::default();
    let mut member = Member::open(&engine);
    assert_eq!(member.store.stored_bytes(), 0);
    for n in 0..100 {
        member.put(&format!("k{n}"), [10, 3_000, 40_000][n % 3]).unwrap();
        // What waits for the engine counts.
        assert!(member.store.stored_bytes() > 1_400_000 * (n as u64 / 3) / 34, "{n}");
    }
    member.store.flush().unwrap();
    let full = member.store.stored_bytes();
    assert!((1_400_000..4_000_000).contains(&full), "{full}");
    drop(member);

    // It is found again from what is stored.
    let mut member = Member::open(&engine);
    assert_eq!(member.store.stored_bytes(), full);
    member.delete_all().unwrap();
    member.compact().unwrap();
    member.store.flush().unwrap();
    while member.store.compact_step() {}
    member.store.flush().unwrap();
    let left = member.store.stored_bytes();
    assert!(left < 20_000, "{left}");
    drop(member);
    assert_eq!(Member::open(&engine).store.stored_bytes(), left);
}
