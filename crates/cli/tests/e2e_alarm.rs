//! Alarms: what etcd answers and refuses, and the alarm that a member raises when its store has reached the quota.

mod support;

use std::time::Duration;

use prost::Message;
use support::cluster::{Cluster, PATIENCE};
use support::grpc::Client;
use support::http::fetch;
use support::{Etcd, VLOT, eventually};
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, AlarmType, CompactionRequest, CompactionResponse, DeleteRangeRequest,
    DeleteRangeResponse, DowngradeRequest, DowngradeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    RequestOp, StatusRequest, StatusResponse, TxnRequest, TxnResponse,
};

const NO_SPACE: &str = "8 etcdserver: mvcc: database space exceeded";

/// What a server says to one question after the other.
struct Asked {
    client: Client,
    port: u16,
    said: Vec<String>,
}

impl Asked {
    async fn call<R: Message + Default>(&mut self, path: &str, request: &impl Message) -> Option<R> {
        let answer: Result<R, String> = self.client.call(&format!("/etcdserverpb.{path}"), request).await;
        self.said.push(format!("{path}: {:?}", answer.as_ref().map(|_| ()).map_err(Clone::clone)));
        answer.ok()
    }

    async fn alarm(&mut self, action: i32, member_id: u64, alarm: i32) {
        let request = AlarmRequest { action, member_id, alarm };
        let Some(reply) = self.call::<AlarmResponse>("Maintenance/Alarm", &request).await else { return };
        let mut alarms: Vec<_> = reply.alarms.iter().map(|alarm| (alarm.alarm, alarm.member_id)).collect();
        alarms.sort_unstable();
        let revision = reply.header.map(|header| header.revision);
        self.said.push(format!("{action} {member_id} {alarm}: {alarms:?} at {revision:?}"));
    }

    /// Every call that an alarm may refuse, and what shows the alarms.
    async fn look(&mut self) {
        let op = |request| RequestOp { request: Some(request) };
        let put = PutRequest { key: "k".into(), value: "v".into(), ..Default::default() };
        let delete = DeleteRangeRequest { key: "nothing".into(), ..Default::default() };
        let range = RangeRequest { key: "k".into(), ..Default::default() };
        let txn = |request| TxnRequest { failure: vec![op(request)], ..Default::default() };
        self.call::<PutResponse>("KV/Put", &put).await;
        self.call::<DeleteRangeResponse>("KV/DeleteRange", &delete).await;
        self.call::<TxnResponse>("KV/Txn", &txn(Request::RequestPut(put.clone()))).await;
        self.call::<TxnResponse>("KV/Txn", &txn(Request::RequestDeleteRange(delete))).await;
        self.call::<TxnResponse>("KV/Txn", &txn(Request::RequestRange(range.clone()))).await;
        self.call::<RangeResponse>("KV/Range", &range).await;
        self.call::<CompactionResponse>("KV/Compact", &CompactionRequest { revision: 1000, physical: false }).await;
        let status = self.call::<StatusResponse>("Maintenance/Status", &StatusRequest {}).await;
        let mut errors = status.unwrap().errors;
        errors.sort();
        self.said.push(format!("{errors:?}"));
        for path in ["/health", "/health?exclude=NOSPACE", "/health?exclude=CORRUPT", "/readyz/data_corruption"] {
            let reply = fetch(self.port, path).unwrap_or_default();
            let (first, last) = (reply.lines().next().unwrap_or_default(), reply.lines().next_back());
            // The lines of a failed check have a format of their own.
            self.said.push(format!("{path}: {first} {:?}", last.filter(|_| path.starts_with("/health"))));
        }
    }
}

#[test]
fn alarms_are_answered_and_refuse_as_in_etcd() {
    let Some(etcd) = Etcd::find() else { return };
    let clusters = [Cluster::etcd(1, &etcd.server, &etcd.ctl), Cluster::vlot(1, &etcd.ctl)];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let [etcd, ours] = clusters.each_ref().map(|cluster| {
        let port = cluster.nodes[0].client_port;
        runtime.block_on(async {
            let mut asked = Asked { client: Client::connect(port).await, port, said: Vec::new() };
            let (get, activate, deactivate) = (0, 1, 2);
            let (none, no_space, corrupt) = (0, 1, 2);
            asked.look().await;
            asked.alarm(get, 0, none).await;
            asked.alarm(activate, 7, none).await;
            asked.alarm(activate, 7, no_space).await;
            asked.alarm(activate, 7, no_space).await;
            asked.look().await;
            asked.alarm(activate, 8, no_space).await;
            asked.alarm(get, 0, none).await;
            asked.alarm(get, 7, no_space).await;
            asked.alarm(get, 0, corrupt).await;
            asked.alarm(deactivate, 9, no_space).await;
            asked.alarm(deactivate, 7, none).await;
            asked.alarm(deactivate, 7, no_space).await;
            asked.look().await;
            asked.alarm(deactivate, 8, no_space).await;
            asked.look().await;
            asked.alarm(activate, 0, corrupt).await;
            asked.look().await;
            asked.alarm(get, 0, none).await;
            // etcd 3.5 forgets one kind of alarm when the last of the other is lowered; 3.6 does not.
            asked.alarm(deactivate, 0, corrupt).await;
            asked.look().await;
            asked.said
        })
    });
    for (line, (etcd, ours)) in etcd.iter().zip(&ours).enumerate() {
        assert_eq!(etcd, ours, "line {line}");
    }
    assert_eq!(etcd.len(), ours.len());
    let lists: Vec<_> =
        clusters.iter().map(|cluster| cluster.ctl(&["alarm", "list"])).map(|output| output.stdout).collect();
    assert_eq!(lists, ["", ""]);
}

#[test]
fn a_member_at_its_quota_raises_the_alarm_and_lowers_it_when_there_is_room() {
    let mut cluster = Cluster::vlot(3, std::path::Path::new(VLOT));
    for node in &mut cluster.nodes {
        node.stop();
        node.flag("quota-backend-bytes", "4000000");
        node.start();
    }
    cluster.ready();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut clients = Vec::new();
        for node in &cluster.nodes {
            clients.push(Client::connect(node.client_port).await);
        }
        let put =
            |n: usize| PutRequest { key: format!("k{n}").into(), value: vec![7; 60_000].into(), ..Default::default() };
        let mut refused_at = None;
        for n in 0..200 {
            let answer: Result<PutResponse, String> = clients[n % 3].call("/etcdserverpb.KV/Put", &put(n)).await;
            if let Err(error) = answer {
                assert_eq!(error, NO_SPACE);
                refused_at = Some(n);
                break;
            }
        }
        // Each takes up 64 KiB.
        assert!(refused_at.is_some_and(|n| (50..=70).contains(&n)), "{refused_at:?}");
        let small = PutRequest { key: "small".into(), ..Default::default() };
        for client in &clients {
            eventually_async("every member refuses", async || {
                let answer: Result<PutResponse, String> = client.call("/etcdserverpb.KV/Put", &small).await;
                answer.is_err_and(|error| error == NO_SPACE)
            })
            .await;
        }
        let listed: AlarmResponse =
            clients[1].call("/etcdserverpb.Maintenance/Alarm", &AlarmRequest::default()).await.unwrap();
        assert!(!listed.alarms.is_empty() && listed.alarms.iter().all(|alarm| alarm.alarm() == AlarmType::Nospace));
        // What is disarmed while there is no room is raised again by the next put.
        for alarm in listed.alarms {
            let disarm = AlarmRequest { action: 2, member_id: alarm.member_id, alarm: alarm.alarm };
            let _: AlarmResponse = clients[2].call("/etcdserverpb.Maintenance/Alarm", &disarm).await.unwrap();
        }
        let extra = std::cell::Cell::new(0);
        eventually_async("the alarm is back", async || {
            // There may just be room for one.
            let n = 1000 + extra.replace(extra.get() + 1);
            let _: Result<PutResponse, String> = clients[0].call("/etcdserverpb.KV/Put", &put(n)).await;
            let listed: AlarmResponse =
                clients[1].call("/etcdserverpb.Maintenance/Alarm", &AlarmRequest::default()).await.unwrap();
            !listed.alarms.is_empty()
        })
        .await;
        let all = DeleteRangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
        let deleted: DeleteRangeResponse = clients[0].call("/etcdserverpb.KV/DeleteRange", &all).await.unwrap();
        let revision = deleted.header.unwrap().revision;
        let compact = CompactionRequest { revision, physical: true };
        let _: CompactionResponse = clients[0].call("/etcdserverpb.KV/Compact", &compact).await.unwrap();
        for client in &clients {
            eventually_async("puts work again", async || {
                let answer: Result<PutResponse, String> = client.call("/etcdserverpb.KV/Put", &small).await;
                answer.is_ok()
            })
            .await;
        }
        // One that was raised by hand is left to the hand.
        let by_hand = AlarmRequest { action: 1, member_id: 1, alarm: 1 };
        let _: AlarmResponse = clients[0].call("/etcdserverpb.Maintenance/Alarm", &by_hand).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1200)).await;
        let answer: Result<PutResponse, String> = clients[0].call("/etcdserverpb.KV/Put", &small).await;
        assert_eq!(answer.unwrap_err(), NO_SPACE);
    });
    eventually("the alarm shows", PATIENCE, || {
        fetch(cluster.nodes[0].client_port, "/health").is_some_and(|reply| reply.contains("ALARM NOSPACE"))
    });
}

#[test]
fn downgrades_are_answered_as_by_etcd() {
    let Some(etcd) = Etcd::find() else { return };
    // Both tell another version of themselves: the one below is another, too.
    let clusters = [(Cluster::etcd(1, &etcd.server, &etcd.ctl), "3.4"), (Cluster::vlot(1, &etcd.ctl), "3.5")];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let [etcd, ours] = clusters.each_ref().map(|(cluster, below)| {
        runtime.block_on(async {
            let client = Client::connect(cluster.nodes[0].client_port).await;
            let (validate, enable, cancel) = (0, 1, 2);
            let exact = format!("{below}.0");
            let steps = [
                (validate, "abc"),
                (validate, ""),
                (validate, "3.3.0"),
                (validate, "4.0.0"),
                (validate, below),
                (validate, &exact),
                (enable, "3.2.0"),
                (enable, "x.y"),
                (enable, &exact),
                (validate, &exact),
                (enable, below),
                (cancel, ""),
                (validate, &exact),
                (9, &exact),
            ];
            let mut said = Vec::new();
            for (action, version) in steps {
                let request = DowngradeRequest { action, version: version.to_owned() };
                let answer: Result<DowngradeResponse, String> =
                    client.call("/etcdserverpb.Maintenance/Downgrade", &request).await;
                said.push(answer.map(|answer| (answer.version.len(), answer.header.is_some())));
            }
            said
        })
    });
    // etcd 3.5 does what it is asked for, and then waits in vain to hear of it.
    let done = |answer: Result<_, String>| {
        answer.or_else(|error| if error.starts_with("14 ") { Ok((5, true)) } else { Err(error) })
    };
    assert_eq!(etcd.into_iter().map(done).collect::<Vec<_>>(), ours);
    assert!(ours[8].is_ok() && ours[9].as_ref().is_err_and(|error| error.contains("in progress")), "{ours:?}");
}

async fn eventually_async(what: &str, is_so: impl AsyncFn() -> bool) {
    for _ in 0..500 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not in time: {what}");
}
