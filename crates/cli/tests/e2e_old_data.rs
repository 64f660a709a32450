//! A data directory that an earlier version wrote opens, with all that is in it: one for each format there was.

mod support;

use std::fs::{self, File};
use std::io;
use std::path::Path;

use flate2::read::GzDecoder;
use support::cluster::Cluster;
use support::{TempDir, VLOT};

/// How long a segment of the log was made then. What was never written of it is not kept.
const SEGMENT_BYTES: u64 = 64 << 20;

/// Lays a directory out as the node left it. Of what is compressed, the end of the name says so.
fn unpack(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if path.is_dir() {
            unpack(&path, &to.join(name));
        } else if path.extension().is_some_and(|extension| extension == "gz") {
            let mut file = File::create(to.join(path.file_stem().unwrap())).unwrap();
            io::copy(&mut GzDecoder::new(File::open(&path).unwrap()), &mut file).unwrap();
            if path.to_str().unwrap().ends_with(".log.gz") {
                file.set_len(SEGMENT_BYTES).unwrap();
            }
        } else {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

/// Written by the commit before this test came: stopped once, so that the store has what was put until then, and killed after
/// three more writes, which only the log has.
#[test]
fn a_node_of_version_2_is_there_with_keys_lease_user_and_what_was_written_before_it_was_killed() {
    let old = TempDir::new("old-data");
    let dir = old.path().join("n1");
    unpack(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data-version-2"), &dir);
    let mut cluster = Cluster::vlot_unstarted(1, Path::new(VLOT));
    let peer = "http://127.0.0.1:23791";
    for (flag, value) in [
        ("data-dir", dir.to_str().unwrap()),
        ("initial-advertise-peer-urls", peer),
        ("initial-cluster", &format!("n1={peer}")),
        ("initial-cluster-token", "etcd-cluster"),
    ] {
        cluster.nodes[0].flag(flag, value);
    }
    cluster.nodes[0].start();
    cluster.ready();
    let ctl = |cluster: &Cluster, line: &str| cluster.told(0, &line.split(' ').collect::<Vec<_>>());
    for _ in 0..2 {
        assert_eq!(ctl(&cluster, "get colour --print-value-only"), "violet\n");
        assert_eq!(ctl(&cluster, "get after --print-value-only"), "the restart\n");
        assert_eq!(ctl(&cluster, "get many/ --prefix --keys-only"), "many/1\n\nmany/3\n\n");
        assert_eq!(ctl(&cluster, "get many/3 --print-value-only"), format!("{}\n", "3".repeat(3000)));
        assert_eq!(ctl(&cluster, "get colour --rev=5 --print-value-only"), "blue\n");
        let compacted = cluster.ctl(&["get", "colour", "--rev=3"]);
        assert!(compacted.stderr.contains("required revision has been compacted"), "{compacted:?}");
        let leases = ctl(&cluster, "lease list");
        let lease = leases.lines().last().unwrap();
        let kept = ctl(&cluster, &format!("lease timetolive {lease} --keys"));
        assert!(kept.contains("granted with TTL(1000000000s)") && kept.contains("leased"), "{kept}");
        assert_eq!(ctl(&cluster, "user get amelie"), "User: amelie\nRoles: reader\n");
        let role = ctl(&cluster, "role get reader");
        assert!(role.contains("KV Read:\n\tcolour\n"), "{role}");
        // Once more, as the version of today has written it anew.
        cluster.serves();
        cluster.nodes[0].kill();
        cluster.nodes[0].start();
        cluster.ready();
    }
}
