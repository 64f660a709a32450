//! etcd-client for Rust: keys, transactions, watches, leases, locks and elections over a balanced channel to all nodes.

use std::error::Error;
use std::fmt::Debug;
use std::io::BufRead;
use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, DeleteOptions, EventType, GetOptions, LockOptions, Permission,
    ProclaimOptions, PutOptions, ResignOptions, SortOrder, SortTarget, Txn, TxnOp, WatchOptions, WatchStream,
};
use tokio::time::{sleep, timeout};

type Checked = Result<(), Box<dyn Error>>;

/// How long something may take that is bound to come.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Checked {
    let endpoints = std::env::args().nth(1).ok_or("no endpoints")?;
    let endpoints: Vec<_> = endpoints.split(',').collect();
    let mut client = Client::connect(&endpoints, None).await?;
    let mut other = Client::connect(&endpoints[1..2], None).await?;
    members(&mut client, endpoints.len()).await?;
    keys(&mut client, &mut other).await?;
    transactions(&mut client).await?;
    watches(&mut client, &mut other).await?;
    leases(&mut client, &mut other).await?;
    locks(&mut client, &mut other).await?;
    elections(&mut client, &mut other).await?;
    users(&mut client, &endpoints).await?;
    leader_dies(&endpoints).await
}

/// Says what was checked; ends the program if it is not so.
fn same<T: Debug + PartialEq>(sentence: &str, seen: T, expected: T) {
    if seen != expected {
        eprintln!("NOT SO: {sentence}\n  expected {expected:?}\n  seen     {seen:?}");
        std::process::exit(1);
    }
    println!("ok: {sentence}");
}

/// Says what was refused; ends the program if it was not, or otherwise.
fn refused<T: Debug>(sentence: &str, answer: Result<T, etcd_client::Error>, text: &str) {
    let says_so = answer.as_ref().is_err_and(|error| error.to_string().contains(text));
    same(sentence, if says_so { text.to_owned() } else { format!("{answer:?}") }, text.to_owned());
}

async fn members(client: &mut Client, number: usize) -> Checked {
    let members = client.member_list().await?;
    same("All members are listed.", members.members().len(), number);
    let leader = client.status().await?.leader();
    same(
        "The status names a leader that is a member.",
        members.members().iter().any(|member| member.id() == leader),
        true,
    );
    Ok(())
}

async fn keys(client: &mut Client, other: &mut Client) -> Checked {
    client.put("rs/a", "1", None).await?;
    same("Another node reads a put.", other.get("rs/a", None).await?.kvs()[0].value_str()?, "1");
    let put = client.put("rs/a", "2", Some(PutOptions::new().with_prev_key())).await?;
    same("A put returns the value before.", put.prev_key().map(|kv| kv.value()), Some(b"1".as_slice()));
    let revision = put.header().map_or(0, |header| header.revision());
    let then = other.get("rs/a", Some(GetOptions::new().with_revision(revision - 1))).await?;
    same("A revision is kept.", then.kvs()[0].value_str()?, "1");
    let future = client.get("rs/a", Some(GetOptions::new().with_revision(revision + 1000))).await;
    refused("A revision of the future is refused.", future, "etcdserver: mvcc: required revision is a future revision");
    client.put("rs/b", vec![0, 255], None).await?;
    let options = GetOptions::new().with_prefix().with_sort(SortTarget::Key, SortOrder::Descend).with_limit(1);
    let last = other.get("rs/", Some(options)).await?;
    same("A prefix is read in order, up to a limit.", (last.kvs()[0].value(), last.count()), ([0, 255].as_slice(), 2));
    let deleted = client.delete("rs/", Some(DeleteOptions::new().with_prefix().with_prev_key())).await?;
    same("A deletion tells what it deleted.", (deleted.deleted(), deleted.prev_kvs().len()), (2, 2));
    client.compact(revision, None).await?;
    let past = client.get("rs/a", Some(GetOptions::new().with_revision(revision - 1))).await;
    refused("What is compacted away is refused.", past, "etcdserver: mvcc: required revision has been compacted");
    Ok(())
}

async fn transactions(client: &mut Client) -> Checked {
    let inner =
        Txn::new().when([Compare::version("txn/b", CompareOp::Equal, 0)]).and_then([TxnOp::put("txn/b", "1", None)]);
    let txn = Txn::new()
        .when([Compare::create_revision("txn/a", CompareOp::Equal, 0)])
        .and_then([TxnOp::put("txn/a", "1", None), TxnOp::txn(inner)])
        .or_else([TxnOp::get("txn/a", None)]);
    same("A transaction with one inside succeeds.", client.txn(txn.clone()).await?.succeeded(), true);
    same("What the one inside wrote is there.", client.get("txn/b", None).await?.kvs()[0].value_str()?, "1");
    let answer = client.txn(txn).await?;
    same("It fails with its other half.", (answer.succeeded(), answer.op_responses().len()), (false, 1));
    let twice = Txn::new().and_then([TxnOp::put("txn/c", "1", None), TxnOp::put("txn/c", "2", None)]);
    refused("No key is put twice.", client.txn(twice).await, "etcdserver: duplicate key given in txn request");
    Ok(())
}

/// The next events of a stream as texts.
async fn events(stream: &mut WatchStream) -> Result<Vec<String>, Box<dyn Error>> {
    loop {
        let message = timeout(PATIENCE, stream.message()).await??.ok_or("the stream has ended")?;
        let shown = message.events().iter().filter_map(|event| {
            let kv = event.kv()?;
            let verb = if event.event_type() == EventType::Put { "put" } else { "delete" };
            Some(format!("{verb} {} {}", kv.key_str().ok()?, kv.value_str().ok()?))
        });
        let shown: Vec<_> = shown.collect();
        if !shown.is_empty() {
            return Ok(shown);
        }
    }
}

async fn watches(client: &mut Client, other: &mut Client) -> Checked {
    let mut stream = client.watch("watched/", Some(WatchOptions::new().with_prefix().with_prev_key())).await?;
    let put = other.put("watched/a", "1", None).await?;
    let revision = put.header().map_or(0, |header| header.revision());
    same("An event has key and value.", events(&mut stream).await?, vec!["put watched/a 1".to_owned()]);
    other.delete("watched/a", None).await?;
    same("A deletion is an event.", events(&mut stream).await?, vec!["delete watched/a ".to_owned()]);
    stream.request_progress().await?;
    let progress = timeout(PATIENCE, stream.message()).await??.ok_or("the stream has ended")?;
    let known = progress.header().map_or(0, |header| header.revision());
    same("Progress is told when asked for.", (progress.events().len(), known > revision), (0, true));
    let past = WatchOptions::new().with_start_revision(revision).with_watch_id(7);
    stream.watch("watched/a", Some(past)).await?;
    let both = vec!["put watched/a 1".to_owned(), "delete watched/a ".to_owned()];
    same("A second watch on the stream begins in the past.", events(&mut stream).await?, both);
    stream.cancel(7).await?;
    let canceled = timeout(PATIENCE, stream.message()).await??.ok_or("the stream has ended")?;
    same("It is cancelled by its id.", (canceled.watch_id(), canceled.canceled()), (7, true));
    stream.watch("watched/a", Some(WatchOptions::new().with_start_revision(1))).await?;
    let compacted = loop {
        let message = timeout(PATIENCE, stream.message()).await??.ok_or("the stream has ended")?;
        if message.canceled() {
            break message.compact_revision();
        }
    };
    same("A watch from what is compacted away is told so.", compacted > 1, true);
    Ok(())
}

async fn leases(client: &mut Client, other: &mut Client) -> Checked {
    let lease = client.lease_grant(60, None).await?.id();
    other.put("leased/a", "1", Some(PutOptions::new().with_lease(lease))).await?;
    let (mut keeper, mut answers) = client.lease_keep_alive(lease).await?;
    keeper.keep_alive().await?;
    same("A lease is renewed.", answers.message().await?.map(|answer| answer.ttl()), Some(60));
    let about = other.lease_time_to_live(lease, Some(etcd_client::LeaseTimeToLiveOptions::new().with_keys())).await?;
    same("A lease tells its time and its keys.", (about.granted_ttl(), about.keys().len()), (60, 1));
    same("Leases are listed.", other.leases().await?.leases().iter().any(|status| status.id() == lease), true);
    client.lease_revoke(lease).await?;
    same("A revoked lease takes its keys along.", other.get("leased/a", None).await?.kvs().len(), 0);
    keeper.keep_alive().await?;
    same("A revoked lease is not renewed.", answers.message().await?.map(|answer| answer.ttl()), Some(0));
    refused("It is not revoked twice.", client.lease_revoke(lease).await, "etcdserver: requested lease not found");
    let put = client.put("leased/a", "1", Some(PutOptions::new().with_lease(lease))).await;
    refused("It takes no key.", put, "etcdserver: requested lease not found");
    Ok(())
}

async fn locks(client: &mut Client, other: &mut Client) -> Checked {
    let lease = client.lease_grant(60, None).await?.id();
    let key = client.lock("gate", Some(LockOptions::new().with_lease(lease))).await?.key().to_vec();
    same("A lock is a key below its name.", key.starts_with(b"gate/"), true);
    let waits = timeout(Duration::from_millis(500), other.lock("gate", None)).await;
    same("Nobody else gets it.", waits.is_err(), true);
    let mut waiting = other.clone();
    let waiter = async move { waiting.lock("gate", None).await.map(|answer| answer.key().to_vec()) };
    let release = async {
        sleep(Duration::from_millis(300)).await;
        client.unlock(key.clone()).await
    };
    let (next, released) = tokio::join!(timeout(PATIENCE, waiter), release);
    released?;
    same("Who waits gets it when it is released.", next?? != key, true);
    Ok(())
}

async fn elections(client: &mut Client, other: &mut Client) -> Checked {
    let lease = client.lease_grant(60, None).await?.id();
    let leader = client.campaign("post", "a", lease).await?.leader().ok_or("no leader key")?.clone();
    same("The first to campaign leads.", other.leader("post").await?.kv().map(|kv| kv.value()), Some(b"a".as_slice()));
    let mut observed = other.observe("post").await?;
    let first = timeout(PATIENCE, observed.message()).await??.ok_or("the stream has ended")?;
    same("Who looks on sees who leads.", first.kv().map(|kv| kv.value()), Some(b"a".as_slice()));
    client.proclaim("a2", Some(ProclaimOptions::new().with_leader(leader.clone()))).await?;
    let second = timeout(PATIENCE, observed.message()).await??.ok_or("the stream has ended")?;
    same("And what the leader says.", second.kv().map(|kv| kv.value()), Some(b"a2".as_slice()));
    client.resign(Some(ResignOptions::new().with_leader(leader))).await?;
    refused("Nobody leads when the leader has resigned.", other.leader("post").await, "election: no leader");
    Ok(())
}

async fn users(client: &mut Client, endpoints: &[&str]) -> Checked {
    for name in ["root", "anna"] {
        client.user_add(name, format!("{name}pw"), None).await?;
    }
    client.user_grant_role("root", "root").await?;
    client.role_add("rs").await?;
    client.role_grant_permission("rs", Permission::read_write("rs/").with_prefix()).await?;
    client.user_grant_role("anna", "rs").await?;
    same("A user tells its roles.", client.user_get("anna").await?.roles().to_vec(), vec!["rs".to_owned()]);
    same("A role tells what it permits.", client.role_get("rs").await?.permissions().len(), 1);
    same("Roles are listed.", client.role_list().await?.roles().to_vec(), vec!["rs".to_owned()]);
    client.auth_enable().await?;
    let log_in = |name: &str, password: &str, place: usize| {
        let options = ConnectOptions::new().with_user(name, password);
        let endpoint = endpoints[place].to_owned();
        async move { Client::connect([endpoint], Some(options)).await }
    };
    let failed = "etcdserver: authentication failed, invalid user ID or password";
    refused("A wrong password is refused.", log_in("anna", "wrong", 0).await.map(drop), failed);
    refused("So is an unknown user.", log_in("nobody", "annapw", 1).await.map(drop), failed);
    refused("Who says nothing may do nothing.", client.get("rs/a", None).await, "etcdserver: user name is empty");
    let (mut anna, mut root) = (log_in("anna", "annapw", 1).await?, log_in("root", "rootpw", 2).await?);
    anna.put("rs/a", "1", None).await?;
    same("A user reads what it may.", anna.get("rs/a", None).await?.kvs()[0].value_str()?, "1");
    let denied = "etcdserver: permission denied";
    refused("It does not read what it may not.", anna.get("other", None).await, denied);
    let beyond = GetOptions::new().with_from_key();
    refused("Nor beyond that.", anna.get("rs/a", Some(beyond)).await, denied);
    let txn = Txn::new().and_then([TxnOp::put("rs/a", "2", None)]).or_else([TxnOp::delete("other", None)]);
    refused("Nor in the half of a transaction that is not taken.", anna.txn(txn).await, denied);
    refused("It changes no users.", anna.user_add("more", "pw", None).await, denied);
    same("It is told of itself.", anna.user_get("anna").await?.roles().to_vec(), vec!["rs".to_owned()]);
    refused("And of nobody else.", anna.user_get("root").await, denied);
    root.user_change_password("anna", "other").await?;
    refused("A token ends with its password.", anna.get("rs/a", None).await, "etcdserver: invalid auth token");
    let mut anna = log_in("anna", "other", 0).await?;
    root.user_revoke_role("anna", "rs").await?;
    refused("What is permitted no more is refused.", anna.get("rs/a", None).await, denied);
    root.auth_disable().await?;
    same("Then nobody is asked any more.", client.get("rs/a", None).await?.kvs().len(), 1);
    Ok(())
}

async fn leader_dies(endpoints: &[&str]) -> Checked {
    let options =
        ConnectOptions::new().with_timeout(Duration::from_secs(5)).with_connect_timeout(Duration::from_secs(1));
    let mut client = Client::connect(endpoints, Some(options)).await?;
    let lease = client.lease_grant(60, None).await?.id();
    client.put("through/leased", "1", Some(PutOptions::new().with_lease(lease))).await?;
    println!("! kill leader");
    let dead = std::io::stdin().lock().lines().next().ok_or("no answer")??;
    let left: Vec<_> = endpoints.iter().filter(|endpoint| **endpoint != dead).collect();
    same("One node is dead.", left.len(), endpoints.len() - 1);
    // The channel passes over the dead node by itself, after calls that it has already sent there.
    let written = timeout(PATIENCE, async {
        while client.put("through/a", "after", None).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    });
    same("It writes without the leader.", written.await.is_ok(), true);
    let mut other = Client::connect(&left[..1], None).await?;
    same("The others read that.", other.get("through/a", None).await?.kvs()[0].value_str()?, "after");
    let about = other.lease_time_to_live(lease, None).await?;
    same("A lease outlives the leader.", (about.granted_ttl(), about.ttl() > 0), (60, true));
    Ok(())
}
