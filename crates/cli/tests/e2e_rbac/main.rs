//! Who may do what, as a matrix: every call, every user, against a plain model, and against etcd where that is right.
//!
//! The calls go to three nodes in turn. What is refused changes nothing, and the members stay alike.

mod administration;
mod cells;
mod changes;
mod gateway;
mod json;
mod judged;
mod model;
mod open;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;

use vlot_proto::descriptors::METHODS;
use vlot_proto::etcdserverpb::{HashKvRequest, HashKvResponse};

use cells::cells;
use judged::Judged;
use model::{LIAR, NOBODY, USERS, refusal};
use support::Etcd;

/// Lock and election pass on what they are refused as text alone.
fn without_code(status: &str) -> &str {
    status.split_once(' ').map_or(status, |(_, text)| text)
}

/// etcd 3.5 passes on some refusals in its own inner words.
fn translated(status: &str) -> String {
    let inner = [("invalid auth token", 16), ("permission denied", 7), ("user name is empty", 3)];
    let known = inner.iter().find(|(text, _)| status == format!("2 auth: {text}"));
    known.map_or_else(|| status.to_owned(), |(text, code)| format!("{code} etcdserver: {text}"))
}

fn is_refusal(status: &str) -> bool {
    ["user name is empty", "invalid auth token", "permission denied"].iter().any(|text| status.ends_with(text))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn every_rpc_and_every_path_of_the_gateway_is_in_the_matrix() {
    let cells = cells();
    let is_in_it = |path: &str| cells.iter().any(|cell| cell.path == path);
    for method in METHODS {
        assert!(is_in_it(method.path), "{}", method.path);
        let has_none = method.path == "/etcdserverpb.KV/RangeStream";
        assert_eq!(gateway::paths(method.path).next().is_none(), has_none, "{}", method.path);
    }
    for (path, _) in gateway::PATHS {
        assert!(is_in_it(path), "{path}");
    }
}

#[test]
fn every_call_of_every_user_is_answered_as_the_model_says_and_as_by_etcd() {
    let Some(etcd) = Etcd::find() else { return };
    runtime().block_on(async {
        let ours = Judged::vlot(3, &etcd).await;
        let theirs = Judged::etcd(&etcd).await;
        let mut wrong = Vec::new();
        let (mut calls, mut refused, mut compared) = (0, 0, 0);
        let mut in_grpc = BTreeMap::new();
        // These hold until a call is not refused that may have changed something.
        let (mut revision, mut leases_are_new) = (None, false);
        let users: Vec<_> = USERS.iter().map(|(name, _)| *name).chain([NOBODY, LIAR]).collect();
        for cell in cells() {
            for user in &users {
                if *user == "root" && cell.is_not_for_root {
                    continue;
                }
                if cell.on_leases && !leases_are_new {
                    tokio::join!(ours.renew_leases(), theirs.renew_leases());
                    (revision, leases_are_new) = (None, true);
                }
                calls += 1;
                let expected = refusal(user, &cell.need);
                let before = match (expected, revision) {
                    (Some(_), None) => Some(ours.revision().await),
                    (Some(_), known) => known,
                    (None, _) => None,
                };
                let found = ours.ends(&cell, user, calls).await;
                let is_right = match expected {
                    Some(expected) if cell.tells_by_text => without_code(&found) == without_code(expected),
                    Some(expected) => found == expected,
                    None => !is_refusal(&found),
                };
                if !is_right {
                    wrong.push(format!("{}, {user}: {found:?} instead of {expected:?}", cell.name));
                }
                match &cell.same_as {
                    Some(name) => {
                        let alike: &String = &in_grpc[&(name.clone(), *user)];
                        if *alike != found {
                            wrong.push(format!("{}, {user}: {found:?}, and in gRPC {alike:?}", cell.name));
                        }
                    }
                    None => _ = in_grpc.insert((cell.name.clone(), *user), found.clone()),
                }
                if let Some(before) = before {
                    refused += 1;
                    let after = ours.revision().await;
                    if before != after {
                        wrong.push(format!("{}, {user}: refused, and revision {after} instead of {before}", cell.name));
                    }
                    revision = Some(after);
                } else if !cell.only_reads {
                    (revision, leases_are_new) = (None, false);
                }
                if cell.not_as_etcd.is_none() {
                    compared += 1;
                    let judged = translated(&theirs.ends(&cell, user, calls).await);
                    if judged != found {
                        wrong.push(format!("{}, {user}: {found:?}, and etcd {judged:?}", cell.name));
                    }
                }
            }
        }
        eprintln!("{calls} calls, {refused} of them refused, {compared} compared with etcd, {} wrong", wrong.len());
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(refused > calls / 4 && refused < calls * 9 / 10, "{refused} of {calls}");

        // The same entries with the same outcome, refusals among them.
        let mut hashes = Vec::new();
        for node in 0..ours.clients.len() {
            let hash = HashKvRequest { revision: ours.revision().await };
            let reply: HashKvResponse =
                ours.at(node, "root").call("/etcdserverpb.Maintenance/HashKV", &hash).await.unwrap();
            hashes.push(reply.hash);
        }
        assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "{hashes:?}");
    });
}
