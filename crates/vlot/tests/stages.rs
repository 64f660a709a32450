//! A recorder of the `metrics` facade sees every stage of the proposals of each group, and a subscriber of `tracing` its spans.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use vlot::{GroupId, LogId, Node, NodeId, Options, StateMachine};

/// Each command takes so long to apply.
struct Slow(Duration);

impl StateMachine for Slow {
    type Command = u64;
    type Reply = ();

    fn apply(&mut self, _: LogId, _: u64) {
        std::thread::sleep(self.0);
    }
}

/// What was recorded, by group and stage.
type Values = BTreeMap<(String, String), Vec<f64>>;

/// Keeps every value.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Values>>);

struct Of {
    kept: Kept,
    key: (String, String),
}

impl HistogramFn for Of {
    fn record(&self, value: f64) {
        self.kept.0.lock().unwrap().entry(self.key.clone()).or_default().push(value);
    }
}

struct Ignored;

impl CounterFn for Ignored {
    fn increment(&self, _: u64) {}

    fn absolute(&self, _: u64) {}
}

impl GaugeFn for Ignored {
    fn increment(&self, _: f64) {}

    fn decrement(&self, _: f64) {}

    fn set(&self, _: f64) {}
}

impl Recorder for Kept {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        assert_eq!((name.as_str(), unit), ("vlot_proposal_stage_seconds", Some(Unit::Seconds)));
    }

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(Ignored))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(Ignored))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        assert_eq!(key.name(), "vlot_proposal_stage_seconds");
        let label = |name| key.labels().find(|label| label.key() == name).expect(name).value().to_owned();
        Histogram::from_arc(Arc::new(Of { kept: self.clone(), key: (label("group"), label("stage")) }))
    }
}

/// Counts spans, and keeps the stages that are told within them.
#[derive(Clone, Default)]
struct Spans {
    opened: Arc<AtomicU64>,
    closed: Arc<AtomicU64>,
    stages: Arc<Mutex<Vec<String>>>,
}

struct StageOf<'s>(&'s mut Vec<String>);

impl Visit for StageOf<'_> {
    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "stage" {
            self.0.push(value.to_owned());
        }
    }
}

impl Subscriber for Spans {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "vlot::stages"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(self.opened.fetch_add(1, Relaxed) + 1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut StageOf(&mut self.stages.lock().unwrap()));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}

    fn try_close(&self, _: Id) -> bool {
        self.closed.fetch_add(1, Relaxed);
        true
    }
}

async fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not in time: {what}");
}

#[tokio::test]
async fn every_stage_of_each_group_is_seen() {
    const PROPOSALS: usize = 20;
    const SLOW: Duration = Duration::from_millis(15);
    let (kept, spans) = (Kept::default(), Spans::default());
    assert!(metrics::set_global_recorder(kept.clone()).is_ok(), "there is another");
    let _traced = tracing::subscriber::set_default(spans.clone());

    let dir = std::env::temp_dir().join(format!("vlot-stages-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    let node = Node::open(Options::new(&dir)).await.unwrap();
    let quick = node.group(GroupId(1), [NodeId(1)], Slow(Duration::ZERO)).await.unwrap();
    let slow = node.group(GroupId(2), [NodeId(1)], Slow(SLOW)).await.unwrap();
    // What was proposed before a leader was there waits for it.
    for group in [&quick, &slow] {
        group.propose(0).await.unwrap();
    }
    let begun = Instant::now();
    for _ in 0..PROPOSALS {
        quick.propose(1).await.unwrap();
    }
    for _ in 0..PROPOSALS {
        slow.propose(1).await.unwrap();
    }
    let took = begun.elapsed();
    let count = |group: &str, stage: &str| {
        kept.0.lock().unwrap().get(&(group.to_owned(), stage.to_owned())).map_or(0, Vec::len)
    };
    wait_until("all of it is applied", || ["1", "2"].iter().all(|group| count(group, "applied") > PROPOSALS)).await;

    let values = kept.0.lock().unwrap().clone();
    let groups: Vec<&str> = values.keys().map(|(group, _)| group.as_str()).collect();
    assert!(groups.iter().all(|group| ["1", "2"].contains(group)), "{groups:?}");
    for group in ["1", "2"] {
        for stage in ["queued", "durable", "committed", "applied"] {
            let of = &values[&(group.to_owned(), stage.to_owned())];
            // The entry with which the leader takes office, and the members' disks, are no proposals.
            assert!(of.len() > PROPOSALS && of.len() < PROPOSALS + 10, "{} of {stage} in group {group}", of.len());
            assert!(of.iter().all(|value| (0.0..10.0).contains(value)), "{stage} of group {group}: {of:?}");
            let whole: f64 = of.iter().skip(of.len() - PROPOSALS).sum();
            assert!(whole <= took.as_secs_f64(), "{stage} of group {group}: {whole} s of {took:?}");
        }
        let last = |stage: &str| *values[&(group.to_owned(), stage.to_owned())].last().unwrap();
        assert!(last("durable") > 0.0 && last("committed") >= last("durable"), "alone, it commits what is durable");
    }
    let applied = |group: &str| -> f64 {
        let of = &values[&(group.to_owned(), "applied".to_owned())];
        of.iter().skip(of.len() - PROPOSALS).sum::<f64>() / PROPOSALS as f64
    };
    assert!(applied("2") >= SLOW.as_secs_f64(), "{} s", applied("2"));
    assert!(applied("1") < applied("2"), "{} s is not that of the other group", applied("1"));

    // The same in spans: one for each write of entries, closed once it is applied.
    let stages = spans.stages.lock().unwrap().clone();
    for stage in ["queued", "durable", "committed", "applied"] {
        let told = stages.iter().filter(|told| *told == stage).count();
        assert!(told > 2 * PROPOSALS && told < 2 * (PROPOSALS + 10), "{told} of {stage}");
    }
    assert!(spans.opened.load(Relaxed) > 2 * PROPOSALS as u64);
    node.shutdown().await;
    assert_eq!(spans.opened.load(Relaxed), spans.closed.load(Relaxed), "no span is left open");
    std::fs::remove_dir_all(&dir).unwrap();
}
