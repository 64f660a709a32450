//! `vlot log dump|verify|stat`: what a real node has written is told, damage is told with its place, and whatever is in the
//! directory stays as it is.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use support::cluster::{Cluster, PATIENCE};
use support::process::{Output, run};
use support::{TempDir, VLOT};

const FIRST: &str = "0000000000000001.log";

fn log(arguments: &[&str], dir: &Path) -> Output {
    run(Command::new(VLOT).arg("log").args(arguments).arg(dir), "", PATIENCE)
}

/// What is in a directory and below, to the byte.
fn contents(dir: &Path) -> BTreeMap<PathBuf, (SystemTime, Vec<u8>)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let changed = fs::metadata(&path).unwrap().modified().unwrap();
        if path.is_dir() {
            all.extend(contents(&path));
            all.insert(path, (changed, Vec::new()));
        } else {
            all.insert(path.clone(), (changed, fs::read(path).unwrap()));
        }
    }
    all
}

/// Runs each of the commands; they must change nothing.
fn look(dir: &Path) -> [Output; 3] {
    let before = contents(dir);
    let found = [&["dump"][..], &["verify"], &["stat"]].map(|arguments| log(arguments, dir));
    assert!(contents(dir) == before, "something in {} has changed", dir.display());
    found
}

/// The log that a node leaves behind, to which some keys were written, with a byte-exact copy for each damage.
struct Left {
    cluster: Cluster,
}

impl Left {
    fn new() -> Left {
        let mut cluster = Cluster::vlot(1, Path::new(VLOT));
        for n in 1..=20 {
            assert!(cluster.ctl(&["put", &format!("colour-{n}"), "green"]).succeeded());
        }
        let running = log(&["verify"], &cluster.nodes[0].data_dir);
        assert!(running.succeeded() && running.stdout.contains("intact: "), "beside a node that runs: {running:?}");
        cluster.serves();
        cluster.nodes[0].kill();
        Left { cluster }
    }

    fn data_dir(&self) -> &Path {
        &self.cluster.nodes[0].data_dir
    }

    /// A copy of the log whose first segment is changed.
    fn changed(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
        let copy = self.cluster.dir.path().join(name);
        fs::create_dir(&copy).unwrap();
        let mut bytes = fs::read(self.data_dir().join("log").join(FIRST)).unwrap();
        change(&mut bytes);
        fs::write(copy.join(FIRST), bytes).unwrap();
        copy
    }
}

fn place_of(bytes: &[u8], what: &str) -> usize {
    bytes.windows(what.len()).position(|window| window == what.as_bytes()).expect("it is written")
}

/// The lines of a kind.
fn lines<'o>(output: &'o str, kind: &str) -> Vec<&'o str> {
    output.lines().filter(|line| line.split(' ').nth(1) == Some(kind)).collect()
}

#[test]
fn a_nodes_log_is_told_and_left_alone() {
    let left = Left::new();
    let [dump, verify, stat] = look(left.data_dir());
    for output in [&dump, &verify, &stat] {
        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{}", output.stdout);
    }
    assert_eq!(look(&left.data_dir().join("log")), [dump.clone(), verify.clone(), stat.clone()], "the folder itself");

    assert!(dump.stdout.starts_with(&format!("{FIRST}:0 segment bytes=33554432 cluster=")), "{}", dump.stdout);
    assert!(!lines(&dump.stdout, "vote").is_empty() && !lines(&dump.stdout, "append").is_empty(), "{}", dump.stdout);
    let colours: Vec<_> = lines(&dump.stdout, "entry").into_iter().filter(|line| line.contains("colour-")).collect();
    assert_eq!(colours.len(), 20, "{}", dump.stdout);
    // The offset is where the payload is.
    let bytes = fs::read(left.data_dir().join("log").join(FIRST)).unwrap();
    let offset = colours[0].split([':', ' ']).nth(1).unwrap().parse::<usize>().unwrap();
    assert_eq!(bytes[offset], 1, "a command begins with its kind: {}", colours[0]);
    assert!(offset < place_of(&bytes, "colour-1"));

    let number = |line: &str, name: &str| {
        let value = line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_else(|| panic!("{name} in {line}")).parse::<usize>().unwrap()
    };
    let entries = lines(&dump.stdout, "entry").len();
    let group = stat.stdout.lines().find(|line| line.starts_with("group ")).expect("there is a group");
    assert_eq!(number(group, "entries"), entries, "{}", stat.stdout);
    assert!(group.contains(&format!(" last={entries}@1 live_entries={entries} ")), "{group}");
    let total = stat.stdout.lines().last().unwrap();
    assert!(total.starts_with("total segments=1 bytes=33554432 "), "{total}");
    let records = dump.stdout.lines().count() - entries - lines(&dump.stdout, "segment").len();
    assert_eq!(number(total, "records"), records);
    assert!(verify.stdout.starts_with("intact: 1 segments, "), "{}", verify.stdout);

    let id = group.split(' ').nth(1).unwrap();
    for (flags, expected) in [
        (&["--group", id][..], (entries, true)),
        (&["--group", "987654321"], (0, false)),
        (&["--from", "3", "--upto", "5"], (3, false)),
        (&["--brief"], (0, true)),
    ] {
        let dump = log(&[&["dump"], flags].concat(), left.data_dir());
        let found = (lines(&dump.stdout, "entry").len(), !lines(&dump.stdout, "vote").is_empty());
        assert_eq!(found, expected, "{flags:?}: {}", dump.stdout);
    }
}

#[test]
fn damage_is_told_with_its_place() {
    let left = Left::new();
    let mut at = 0;
    let dir = left.changed("payload", |bytes| {
        at = place_of(bytes, "colour-7");
        bytes[at] ^= 1;
    });
    let [dump, verify, stat] = look(&dir);
    for output in [&dump, &verify, &stat] {
        assert_eq!(output.code, Some(2));
        assert!(output.stderr.starts_with("Error: the log is damaged: entries "), "{}", output.stderr);
    }
    let damaged: Vec<_> = dump.stdout.lines().filter(|line| line.contains(" damaged: ")).collect();
    assert!(damaged.len() == 1 && damaged[0].contains(" the checksum of the payload is "), "{damaged:?}");
    let offset = damaged[0].split([':', ' ']).nth(1).unwrap();
    assert!(at - offset.parse::<usize>().unwrap() < 40, "{offset} {at}");
    assert!(verify.stdout.starts_with("damaged: entries ") && verify.stdout.contains(&format!("{FIRST}:{offset}: ")));
    assert!(stat.stdout.contains("group ") && stat.stdout.contains("total segments=1 "), "{}", stat.stdout);

    // The header of the first record: a node goes no further, but the tool does.
    let [dump, verify, _] = look(&left.changed("header", |bytes| bytes[4096 + 9] ^= 1));
    assert_eq!((dump.code, verify.code), (Some(2), Some(2)));
    assert!(dump.stdout.contains(&format!("{FIRST}:4096 unreadable bytes=")), "{}", dump.stdout);
    assert_eq!(dump.stdout.matches("colour-").count(), 20, "what comes after it");
    let expected = format!("{FIRST}:4096: the checksum of the record's header is ");
    assert!(verify.stdout.starts_with("damaged: all after ") && verify.stdout.contains(&expected), "{verify:?}");

    let [dump, verify, _] = look(&left.changed("short", |bytes| bytes.truncate(100_000)));
    assert_eq!((dump.code, verify.code), (Some(2), Some(2)));
    assert!(dump.stdout.contains(" refused ") && dump.stdout.contains("100000 bytes long"), "{}", dump.stdout);
    assert_eq!(dump.stdout.matches("colour-").count(), 20, "what is left of it");
    assert!(verify.stdout.contains(&format!("{FIRST}:0: the segment is 100000 bytes long")), "{verify:?}");

    let [_, verify, stat] = look(&left.changed("segment's header", |bytes| bytes[20] ^= 1));
    assert_eq!((verify.code, stat.code), (Some(2), Some(2)));
    assert!(verify.stdout.contains("the checksum of the segment's header is "), "{verify:?}");
}

#[test]
fn a_torn_tail_is_no_damage() {
    let left = Left::new();
    let dir = left.changed("torn", |bytes| {
        // In the record of the last entry: its header, the fixed part, and a row come before its payload.
        let record = place_of(bytes, "colour-20") - 20 - (32 + 16 + 16);
        bytes[record + 40] ^= 1;
        // Nothing comes after it, which could say that it was durable.
        bytes[record + 120..].fill(0);
    });
    let [dump, verify, stat] = look(&dir);
    assert_eq!((dump.code, verify.code, stat.code), (Some(0), Some(0), Some(0)));
    assert!(dump.stdout.lines().last().unwrap().contains(" unreadable bytes="), "{}", dump.stdout);
    assert!(verify.stdout.starts_with("torn tail: "), "{}", verify.stdout);
    assert!(verify.stdout.contains("\nintact: 1 segments, "), "{}", verify.stdout);
}

#[test]
fn nonsense_is_refused_with_one_line() {
    let dir = TempDir::new("nonsense");
    let file = dir.path().join("file");
    fs::write(&file, "text").unwrap();
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for (place, flaw) in [
        (dir.path().join("nowhere"), "cannot list "),
        (file, "cannot list "),
        (empty.clone(), ": there is no log here\n"),
    ] {
        for command in ["dump", "verify", "stat"] {
            let output = log(&[command], &place);
            assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""), "{output:?}");
            assert!(output.stderr.starts_with("Error: ") && output.stderr.contains(flaw), "{}", output.stderr);
            assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
        }
    }
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);
    let noise: Vec<u8> = (0..9000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    for (name, bytes) in [("nothing", &[][..]), ("few", b"vlot-log"), ("noise", &noise)] {
        let dir = dir.path().join(name);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join(FIRST), bytes).unwrap();
        let outputs = look(&dir);
        assert!(outputs.iter().all(|output| output.code == Some(2)), "{name}: {outputs:?}");
        assert!(outputs[0].stdout.starts_with(&format!("{FIRST}:0 refused ")), "{}", outputs[0].stdout);
    }
}

#[test]
fn the_help_teaches() {
    let help = |arguments: &[&str]| run(Command::new(VLOT).arg("log").args(arguments), "", PATIENCE);
    for (arguments, words) in [
        (&["--help"][..], &["Nothing is written", "dump", "verify", "stat", "Exit codes: "][..]),
        (&["dump", "--help"], &["FILE:OFFSET entry group=N", "--group", "--from", "--upto", "--brief"]),
        (&["verify", "--help"], &["torn tail: ", "damaged: all after", "Exit codes: "]),
        (&["stat", "--help"], &["live_bytes=N"]),
    ] {
        let output = help(arguments);
        assert_eq!(output.code, Some(0));
        words.iter().for_each(|word| assert!(output.stdout.contains(word), "{word} in {}", output.stdout));
    }
    for mistake in [&[][..], &["dump"], &["dump", "--group", "x", "dir"], &["burn", "dir"]] {
        assert_eq!(help(mistake).code, Some(1), "{mistake:?}");
    }
}
