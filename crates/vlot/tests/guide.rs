//! The guide and what it points to: pages that are listed and tested, links that lead somewhere, bounds as the code has them.
//!
//! That its blocks compile is a doc test of this crate (`src/guide.rs`). The pages lie in the repository and not in the crate's
//! package; without them there is nothing to try.

use std::fs;
use std::path::{Path, PathBuf};

use vlot::Options;

fn docs() -> Option<PathBuf> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    docs.is_dir().then_some(docs)
}

fn pages(docs: &Path) -> Vec<PathBuf> {
    let guide = fs::read_dir(docs.join("guide")).unwrap().map(|entry| entry.unwrap().path());
    guide.chain(["ancestor.md", "limits.md"].map(|name| docs.join(name))).collect()
}

#[test]
fn each_page_is_listed_in_reading_order_and_its_blocks_are_tested() {
    let Some(docs) = docs() else { return };
    let mut names: Vec<String> =
        pages(&docs).iter().map(|page| page.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    names.retain(|name| name.starts_with(|first: char| first.is_ascii_digit()));
    names.sort();
    let list = fs::read_to_string(docs.join("guide/README.md")).unwrap();
    let tests = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/guide.rs")).unwrap();
    for (at, name) in names.iter().enumerate() {
        let number = at + 1;
        assert!(name.starts_with(&format!("{number:02}-")), "{name} is number {number}");
        assert!(
            list.contains(&format!("| [{number}. ")) && list.contains(&format!("]({name})")),
            "{name} is not listed"
        );
        assert!(tests.contains(&format!("\"{name}\"")), "the blocks of {name} are not tested");
    }
    assert!(names.len() > 10, "{names:?}");
}

#[test]
fn links_lead_somewhere() {
    let Some(docs) = docs() else { return };
    let mut count = 0;
    for page in pages(&docs) {
        let text = fs::read_to_string(&page).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            if file.starts_with("http") {
                continue;
            }
            let to = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(to.exists(), "{} points to {target}", page.display());
            if !heading.is_empty() {
                let headings = fs::read_to_string(&to).unwrap();
                let mut headings = headings.lines().filter_map(|line| line.strip_prefix('#')).map(anchor);
                assert!(headings.any(|it| it == heading), "{} points to {target}", page.display());
            }
            count += 1;
        }
    }
    assert!(count > 30, "{count} links");
}

/// By what a heading is pointed to.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    text.chars().filter(|it| it.is_alphanumeric() || *it == '-').collect()
}

#[test]
fn the_files_that_the_ancestor_s_table_names_are_there() {
    let Some(docs) = docs() else { return };
    let text = fs::read_to_string(docs.join("ancestor.md")).unwrap();
    let mut count = 0;
    // Files by their whole path, several as `crates/a/{b,c}.rs`.
    for path in text.split('`').filter(|word| word.starts_with("crates/")) {
        let (before, names, after) = match path.split_once('{') {
            Some((before, rest)) => rest.split_once('}').map(|(names, after)| (before, names, after)).unwrap(),
            None => (path, "", ""),
        };
        for name in names.split(',') {
            let file = docs.join("..").join(format!("{before}{name}{after}"));
            assert!(file.exists(), "{path}: there is no {}", file.display());
            count += 1;
        }
    }
    assert!(count > 40, "{count} files");
}

/// Whatever is measured anew is measured there.
#[test]
fn figures_of_the_comparison_are_those_of_the_results() {
    let Some(docs) = docs() else { return };
    let results = fs::read_to_string(docs.join("../bench/RESULTS.md")).unwrap().replace(',', "");
    let text = fs::read_to_string(docs.join("guide/13-comparison.md")).unwrap();
    let ours = text.split("## Figures").nth(1).unwrap().split("### Claims").next().unwrap();
    let words = ours.split(|it: char| !it.is_ascii_digit() && it != ',').map(|word| word.trim_matches(','));
    let mut count = 0;
    for word in words.filter(|word| word.len() >= 5 && word.contains(',')) {
        assert!(
            results.contains(&word.replace(',', "")),
            "13-comparison.md says {word}, which is not in bench/RESULTS.md"
        );
        count += 1;
    }
    assert!(count > 20, "{count} figures");
}

#[test]
fn the_bounds_of_the_library_are_as_the_page_says() {
    let Some(docs) = docs() else { return };
    let text = fs::read_to_string(docs.join("limits.md")).unwrap();
    let text = text.split("## The library").nth(1).unwrap();
    let Options { group, sessions, replica, log, retention, transfer, net, .. } = Options::new("data");
    let mib = |bytes: usize| format!("{} MiB", bytes >> 20);
    let number = |number: u64| {
        let digits = number.to_string();
        let mut groups: Vec<&str> = digits.as_bytes().rchunks(3).map(|it| str::from_utf8(it).unwrap()).collect();
        groups.reverse();
        groups.join(",")
    };
    let rows = [
        ("| `timeout` | ", format!("{} s", group.timeout.as_secs())),
        ("| `command_bytes_max` | ", mib(group.command_bytes_max)),
        ("| `waiting_bytes_max` | ", mib(group.waiting_bytes_max)),
        ("| `waiting_reads_max` | ", number(group.waiting_reads_max as u64)),
        ("| `idle_max` | ", format!("{} hour", sessions.idle_max.as_secs() / 3600)),
        ("| `sessions_max` | ", number(sessions.sessions_max as u64)),
        ("| `unsettled_max` | ", number(sessions.unsettled_max.into())),
        ("| `reply_bytes_max` | ", mib(sessions.reply_bytes_max)),
        ("| `message_bytes_max` | ", mib(replica.message_bytes_max)),
        (
            "`inflight_bytes_max` | ",
            format!("{} messages, {} MiB", replica.inflight_max, replica.inflight_bytes_max >> 20),
        ),
        ("| `uncommitted_max` | ", number(replica.uncommitted_max)),
        ("| `replay_bytes_max` | ", mib(replica.replay_bytes_max)),
        ("| `log.segment_bytes` | ", mib(log.segment_bytes as usize)),
        ("| `log.slack_bytes` | ", mib(log.slack_bytes as usize)),
        ("`retention.bytes` | ", format!("{} entries, {} MiB", number(retention.entries), retention.bytes >> 20)),
        (
            "`retention.bytes_kept` | ",
            format!("{} entries, {} MiB", number(retention.entries_kept), retention.bytes_kept >> 20),
        ),
        ("| `rate_bytes_per_second` | ", mib(transfer.rate_bytes_per_second as usize)),
        ("`window` | ", format!("{} KiB, {}", transfer.chunk_bytes >> 10, transfer.window)),
        ("`pause` | ", format!("{} s, {} ms", transfer.timeout.as_secs(), transfer.pause.as_millis())),
        ("`received_at_once_max` | ", format!("{}, {}", transfer.sent_at_once_max, transfer.received_at_once_max)),
        ("| `control` | ", lane(&net.control)),
        ("| `entries` | ", lane(&net.entries)),
        ("| `snapshot` | ", lane(&net.snapshot)),
        ("`redial_max` | ", format!("{} ms, {} s", net.redial_min.as_millis(), net.redial_max.as_secs())),
        ("| `handshake_timeout` | ", format!("{} s", net.handshake_timeout.as_secs())),
        ("| `silence_max` | ", format!("{} s", net.silence_max.as_secs())),
        ("| `snapshot_idle_max` | ", format!("{} s", net.snapshot_idle_max.as_secs())),
        ("| `strangers_max` | ", number(net.strangers_max as u64)),
        ("| `strange_handshakes_per_second` | ", number(net.strange_handshakes_per_second.into())),
        ("`unlisted_silence_max` | ", format!("{}, {} s", net.unlisted_max, net.unlisted_silence_max.as_secs())),
    ];
    for (name, value) in rows {
        let said = text.split(name).nth(1).unwrap_or_else(|| panic!("nothing is said of {name}"));
        assert!(said.starts_with(&value), "{name}{value}, and the page says {}", said.lines().next().unwrap());
    }
}

fn lane(limits: &vlot::net::LaneLimits) -> String {
    let mib = |bytes: usize| bytes >> 20;
    let (queue, inbox, frame) = (limits.queue_bytes_max, limits.inbox_bytes_max, limits.frame_bytes_max);
    format!("{} MiB | {} MiB | {} MiB", mib(queue), mib(inbox), mib(frame))
}
