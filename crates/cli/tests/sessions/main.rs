//! Scripted sessions of a client with a server: each is run by etcdctl against etcd, and must read the same when either of the
//! two is ours.
//!
//! A session is a file beside this one; `script.rs` says how it is written. Whoever writes a service of the server adds its
//! topic to [`SERVED`].
//!
//! Needs the programs `etcd` and `etcdctl` of release 3.5; see `support`.

mod masks;
mod script;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;

use script::run_session;
use support::cluster::Cluster;
use support::{Etcd, VLOT};

/// The topics that our server serves.
const SERVED: &[&str] = &[
    "kv",
    "txn",
    "watch",
    "formats",
    "member",
    "lease",
    "lock",
    "elect",
    "alarm",
    "maintenance",
    "watch_headers",
    "auth",
    "roles",
];

/// What etcd 3.5 says of a user who may not defragment, hash or take a snapshot, where it forgets to say it as elsewhere.
const INNER: &str = "rpc error: code = Unknown desc = auth: permission denied";
const OUTER: &str = "etcdserver: permission denied";

fn client_is_as_etcdctl(text: &str) {
    let Some(etcd) = Etcd::find() else { return };
    let theirs = run_session(text, &etcd.ctl, &Cluster::etcd(1, &etcd.server, &etcd.ctl));
    let ours = run_session(text, Path::new(VLOT), &Cluster::etcd(1, &etcd.server, &etcd.ctl));
    assert_same(&theirs, &ours);
}

fn server_is_as_etcd(topic: &str, text: &str) {
    if !SERVED.contains(&topic) {
        eprintln!("not served yet: {topic}");
        return;
    }
    let Some(etcd) = Etcd::find() else { return };
    // The client asks the first of three. Members are listed by their ids, which are other ones in each cluster.
    let lists_members = ["alarm", "formats", "maintenance", "member"].contains(&topic);
    let sizes: &[usize] = if lists_members { &[1] } else { &[1, 3] };
    for &nodes in sizes {
        let theirs = run_session(text, &etcd.ctl, &Cluster::etcd(nodes, &etcd.server, &etcd.ctl));
        let theirs = theirs.replace(INNER, OUTER);
        let ours = run_session(text, &etcd.ctl, &Cluster::vlot(nodes, &etcd.ctl));
        assert_same(&theirs, &ours);
    }
}

fn assert_same(theirs: &str, ours: &str) {
    let differs = theirs.lines().zip(ours.lines()).position(|(theirs, ours)| theirs != ours);
    let place = differs.unwrap_or(theirs.lines().count().min(ours.lines().count()));
    let around = |transcript: &str| {
        let lines: Vec<_> = transcript.lines().skip(place.saturating_sub(4)).take(12).collect();
        lines.join("\n")
    };
    assert!(theirs == ours, "\n--- etcd's\n{}\n--- ours\n{}\n", around(theirs), around(ours));
}

macro_rules! sessions {
    ($($topic:ident),*) => {$(
        mod $topic {
            const TEXT: &str = include_str!(concat!(stringify!($topic), ".session"));

            #[test]
            fn our_client_is_as_etcdctl() {
                super::client_is_as_etcdctl(TEXT);
            }

            #[test]
            fn our_server_is_as_etcd() {
                super::server_is_as_etcd(stringify!($topic), TEXT);
            }
        }
    )*};
}

sessions!(kv, txn, watch, watch_headers, formats, member, lease, lock, elect, alarm, maintenance, auth, roles);
