//! The committed code is what the `.proto` files say.

mod descriptors;

use std::fs;
use std::path::Path;

/// The packages that the product serves; the peers' frames are written out by hand.
const FILES: [&str; 7] = [
    "authpb.proto",
    "etcdserverpb.proto",
    "health.proto",
    "limits.proto",
    "mvccpb.proto",
    "v3electionpb.proto",
    "v3lockpb.proto",
];
/// The files whose messages are described in tables: all of etcd's interface, and Vlot's own.
const DESCRIBED: [&str; 4] = ["etcdserverpb.proto", "limits.proto", "v3electionpb.proto", "v3lockpb.proto"];

#[test]
fn generated_code_is_current() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = here.join("src/generated");
    let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join("generated");
    fs::create_dir_all(&fresh).unwrap();

    let descriptors = protox::compile(FILES, [here.join("../../proto")]).unwrap();
    prost_build::Config::new().bytes(["."]).out_dir(&fresh).compile_fds(descriptors).unwrap();
    let described = protox::compile(DESCRIBED, [here.join("../../proto")]).unwrap();
    fs::write(fresh.join("descriptors.rs"), descriptors::tables(&described)).unwrap();

    for entry in fs::read_dir(&fresh).unwrap() {
        let name = entry.unwrap().file_name();
        let new = fs::read_to_string(fresh.join(&name)).unwrap();
        if std::env::var_os("VLOT_REGENERATE").is_some() {
            fs::write(committed.join(&name), &new).unwrap();
        }
        let old = fs::read_to_string(committed.join(&name)).unwrap_or_default();
        assert!(old == new, "{name:?} is out of date: run VLOT_REGENERATE=1 cargo test -p vlot-proto");
    }
}
