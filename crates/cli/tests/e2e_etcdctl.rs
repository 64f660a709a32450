//! The same commands of etcdctl against etcd and against us: the same output, line by line, and the same exit codes.
//!
//! One script runs against clusters of one and of three nodes of both. What may differ is taken out of the output
//! before it is compared: ids, terms, the log's indexes, sizes, times, ports and the server's version.

mod support;

use support::Etcd;
use support::cluster::Cluster;
use support::process::{Output, Until};

/// One command of the script.
struct Step {
    arguments: Vec<String>,
    input: String,
    /// A watch does not end by itself: it has shown everything once it shows this.
    until: Option<String>,
    /// Nodes answer in any order.
    unordered: bool,
}

impl Step {
    fn feed(mut self, input: impl Into<String>) -> Step {
        self.input = input.into();
        self
    }

    fn until(mut self, text: &str) -> Step {
        self.until = Some(text.to_owned());
        self
    }

    fn unordered(mut self) -> Step {
        self.unordered = true;
        self
    }
}

/// A step from a line of words. A word is quoted with `'`; `''` is the empty one.
fn step(line: &str) -> Step {
    let mut arguments = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split_once('\'').expect("a quote ends"),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        arguments.push(word.to_owned());
        rest = after.trim_start();
    }
    Step { arguments, input: String::new(), until: None, unordered: false }
}

fn steps(lines: &str) -> Vec<Step> {
    lines.lines().map(str::trim).filter(|line| !line.is_empty()).map(step).collect()
}

fn script(nodes: usize) -> Vec<Step> {
    let mut script = puts_and_gets();
    script.extend(deletions());
    script.extend(transactions());
    if nodes == 1 {
        // Of several nodes of etcd 3.5 only the one that was asked refuses this as a whole. The others do the put, and
        // their revisions differ from then on.
        script.push(step("txn").feed("\nput t 1\nget t --rev=9999\n\n\n"));
        script.push(step("get t -w json"));
    }
    script.extend(watches());
    script.extend(compactions());
    script.extend(refusals());
    script.extend(members());
    script
}

fn puts_and_gets() -> Vec<Step> {
    let mut script = steps(
        "
        get nothing
        get nothing -w json
        get nothing -w fields
        put a 1
        put b/1 zebra
        put b/2 yak
        put b/3 xerus
        put b/2 yak2 --prev-kv
        put b/2 yak3 --prev-kv -w json
        put c 3 -w json
        put c 4 -w fields
        put c 5 -w fields --prev-kv
        put d ''
        put 'key with spaces' 'and a value'
        put --ignore-value b/1
        put --ignore-lease b/1 zebra2
        put --ignore-value absent
        put e -- -dashed
        get a
        get a -w json
        get a -w fields
        get a -w simple
        get a -w protobuf-is-no-such-thing
        get d
        get d -w json
        get a c
        get a c -w json
        get a a
        get c a
        get b/ --prefix
        get b/ --prefix -w json
        get b/ --prefix -w fields
        get '' --prefix
        get '' --from-key
        get b/2 --from-key
        get b/2 --from-key -w json
        get b/2 --from-key --prefix
        get b/2 c --from-key
        get b/2 c --prefix
        get '' --prefix --limit=2
        get '' --prefix --limit=2 -w json
        get '' --prefix --limit=2 -w fields
        get '' --prefix --limit=100 -w json
        get '' --prefix --limit=0 -w json
        get '' --prefix --limit=-1 -w json
        get b/ --prefix --order=ASCEND
        get b/ --prefix --order=DESCEND
        get b/ --prefix --order=descend
        get b/ --prefix --order=sideways
        get b/ --prefix --sort-by=KEY
        get '' --prefix --sort-by=CREATE
        get '' --prefix --sort-by=CREATE --order=DESCEND
        get '' --prefix --sort-by=MODIFY
        get '' --prefix --sort-by=MODIFY --order=DESCEND --limit=3
        get '' --prefix --sort-by=VALUE
        get '' --prefix --sort-by=VALUE --order=DESCEND
        get b/1 d --sort-by=MODIFY --order=DESCEND --limit=2 -w json
        get '' --prefix --sort-by=VERSION --order=ASCEND --limit=2
        get '' --prefix --sort-by=COLOUR
        get '' --prefix --order=DESCEND --limit=1 -w json
        get '' --prefix --keys-only
        get '' --prefix --keys-only -w json
        get b/ --prefix --keys-only -w fields
        get '' --prefix --keys-only --sort-by=VALUE
        get '' --prefix --count-only
        get '' --prefix --count-only -w json
        get '' --prefix --count-only -w fields
        get b/ --prefix --count-only --limit=1 -w json
        get nothing --count-only -w fields
        get '' --prefix --keys-only --count-only -w json
        get '' --prefix --print-value-only
        get a --print-value-only -w json
        get a --print-value-only -w fields
        get b/ --prefix --hex
        get b/ --prefix --hex -w json
        get '' --prefix --rev=1
        get '' --prefix --rev=1 -w json
        get '' --prefix --rev=5
        get '' --prefix --rev=5 -w json
        get b/2 --rev=6
        get b/2 --rev=7 -w fields
        get '' --prefix --rev=6 --sort-by=VALUE --order=DESCEND --limit=2 -w json
        get '' --prefix --rev=6 --count-only -w json
        get a --rev=0
        get a --rev=-1
        get a --rev=9999
        get a --rev=9999 --consistency=l
        get a --consistency=l
        get a --consistency=x
        get
        get a b c
        put
        put a b c
        put a 1 --lease=123
        put lonely --lease=0
        nonsense
        ",
    );
    script.push(step("put from-stdin").feed("several\nlines\n"));
    script.push(step("get from-stdin -w json"));
    script.push(step("put large").feed("x".repeat(1 << 20)));
    script.push(step("get large --print-value-only"));
    script
}

fn deletions() -> Vec<Step> {
    steps(
        "
        del nothing
        del nothing -w json
        del nothing -w fields
        del nothing --prev-kv -w json
        del large
        put x/1 1
        put x/2 2
        put x/3 3
        put y/1 1
        put z/1 1
        put z/2 2
        del x/1
        get x/1 -w json
        put x/1 again -w json
        get x/1 -w json
        del x/1 --prev-kv
        del x/ --prefix --prev-kv -w json
        del x/ --prefix
        del y/ --prefix --prev-kv -w fields
        put y/1 1
        put y/2 2
        del y/1 y/2
        del z/1 --from-key --prev-kv
        put z/1 1
        put z/2 2
        del z/1 zz --prev-kv
        del b a
        del a b --from-key
        del a --from-key --prefix
        del
        del ''
        get '' --prefix -w json
        ",
    )
}

fn transactions() -> Vec<Step> {
    let txn = |input: &str| step("txn").feed(input);
    let mut script = steps("put k one\nput k two\nput n 10\nput other 0");
    let compares = [
        r#"value("k") = "two""#,
        r#"value("k") != "two""#,
        r#"value("k") > "one""#,
        r#"value("k") < "one""#,
        r#"value("absent") = """#,
        r#"value("absent") != "x""#,
        r#"version("k") = "2""#,
        r#"version("k") > "2""#,
        r#"version("k") < "3""#,
        r#"version("k") != "2""#,
        r#"version("absent") = "0""#,
        r#"version("absent") > "0""#,
        r#"create("k") > "0""#,
        r#"create("absent") = "0""#,
        r#"create("k") = "1""#,
        r#"create("k") < "9999""#,
        r#"mod("k") > "0""#,
        r#"mod("k") != "0""#,
        r#"mod("absent") = "0""#,
        r#"mod("k") < "1""#,
        "version(\"k\") = \"2\"\nvalue(\"n\") = \"10\"",
        "version(\"k\") = \"2\"\nvalue(\"n\") = \"11\"",
        "",
    ];
    script.extend(compares.map(|compare| {
        let compare = if compare.is_empty() { String::new() } else { format!("{compare}\n") };
        txn(&format!("{compare}\nget k\n\nget n\n\n"))
    }));
    script.extend([
        txn("\nput t 1\nput u 2\nget t\nget k\n\n\n"),
        txn("version(\"t\") = \"1\"\n\nput t 2\nget t\ndel u\nget u\nget '' --prefix --limit=2 --order=DESCEND\n\nput t 3\n\n"),
        txn("version(\"t\") = \"7\"\n\nput t 2\n\nput t 3\ndel t\nput t 4\nget t\n\n"),
        txn("\n\n\n"),
        step("txn -w json").feed("\nput t 5\nget t\ndel absent\nget '' --prefix --keys-only\n\n\n"),
        step("txn -w fields").feed("\nput t 6\nget t\ndel other\n\n\n"),
        step("txn -w json").feed("version(\"t\") = \"99\"\n\nput t 5\n\nget t\n\n"),
        step("txn -w json").feed("\nget t --rev=2\n\n\n"),
        step("get '' --prefix -w json"),
        // Refused as a whole, before anything is done.
        txn("\nput t 1\nput t 2\n\n\n"),
        txn("\nput t 1\ndel t\n\n\n"),
        txn("\ndel a z\nput t 1\n\n\n"),
        txn("\nput v/1 1\ndel v/ --prefix\n\n\n"),
        txn("\ndel t\ndel t\n\n\n"),
        txn("version(\"t\") = \"0\"\n\nput t 1\n\nput w 1\nput w 2\n\n"),
        txn("\nput '' 1\n\n\n"),
        txn("\nput --ignore-value absent\n\n\n"),
        txn("\nput t 1 --lease=77\n\n\n"),
        txn("value('') = \"x\"\n\nget t\n\n\n"),
        txn("colour(\"t\") = \"x\"\n\nget t\n\n\n"),
        txn("version(\"t\") = \"x\"\n\nget t\n\n\n"),
        txn("\nfly t\n\n\n"),
        txn(&many_puts(128)),
        step("get many/ --prefix --count-only -w fields"),
        txn(&many_puts(129)),
        step("get '' --prefix -w json"),
    ]);
    script
}

fn many_puts(count: usize) -> String {
    let puts: String = (0..count).map(|number| format!("put many/{number:03} {number}\n")).collect();
    format!("\n{puts}\n\n")
}

fn watches() -> Vec<Step> {
    let mut script = steps(
        "
        put watched/1 one
        put watched/2 two
        put watched/1 one-again
        del watched/1
        put watched/1 back
        put watched-not hidden
        ",
    );
    script.push(step("txn").feed("\nput watched/3 3\ndel watched/2\nput watched/4 4\n\n\n"));
    script.push(step("del watched/ --prefix"));
    script.extend(steps("put watched/END .\nput watchedEND ."));
    let watches = [
        "watch watched/ --prefix --rev=1",
        "watch watched/ --prefix --rev=1 --prev-kv",
        "watch watched/ --prefix --rev=1 --prev-kv -w json",
        "watch watched/ --prefix --rev=1 -w fields --prev-kv",
        "watch watched/1 watched/F --rev=1 --prev-kv",
        "watch watched/2 --from-key --rev=1",
        "watch watched/ --prefix --rev=1 --hex",
    ];
    script.extend(watches.map(|watch| {
        let end = match watch {
            _ if watch.ends_with("json") => "d2F0Y2hlZC9FTkQ=",
            _ if watch.ends_with("hex") => r"\x45\x4e\x44",
            _ => "END",
        };
        step(watch).until(end)
    }));
    script.push(step("watch watched/1 --rev=1 --prev-kv").until("back"));
    script.extend(steps(
        "
        watch
        watch a --rev=x
        watch a b --prefix
        watch z a --rev=1
        ",
    ));
    script
}

fn compactions() -> Vec<Step> {
    let mut script = steps(
        "
        compaction
        compaction x
        compaction 9999
        compaction 10
        compaction 10
        compaction 5
        compaction 0
        get a --rev=9
        get a --rev=10
        get '' --prefix --rev=11 -w json
        compaction 20 --physical
        get a --rev=19
        get b/ --prefix --rev=20 -w json
        get '' --prefix -w json
        watch a --rev=5
        watch a --rev=19 -w json
        ",
    );
    script.push(step("txn").feed("\nget a --rev=9\n\n\n"));
    script.push(step("watch watched/ --prefix --rev=20 --prev-kv").until("END"));
    script
}

fn refusals() -> Vec<Step> {
    let mut script = steps(
        "
        put '' value
        get ''
        del ''
        put k v --lease=7
        ",
    );
    script.push(step("put too-large").feed("x".repeat((3 << 19) + 1)));
    script.push(step("put too-large").feed("x".repeat(3 << 19)));
    script.push(step("put just-fits -w json").feed("x".repeat((3 << 19) - 512)));
    script.extend(steps("get too-large\nget just-fits --count-only -w fields\ndel just-fits"));
    script
}

fn members() -> Vec<Step> {
    let shapes = steps(
        "
        endpoint health
        endpoint health -w json
        endpoint health --cluster
        endpoint status
        endpoint status -w json
        endpoint status -w fields
        endpoint status --cluster
        member list
        member list -w json
        member list -w fields
        alarm list
        ",
    );
    shapes.into_iter().map(Step::unordered).collect()
}

#[test]
fn one_node_answers_as_etcd() {
    compare(1);
}

#[test]
fn three_nodes_answer_as_etcd() {
    compare(3);
}

fn compare(nodes: usize) {
    let Some(etcd) = Etcd::find() else { return };
    let theirs = Cluster::etcd(nodes, &etcd.server, &etcd.ctl);
    let ours = Cluster::vlot(nodes, &etcd.ctl);
    let mut differences = 0;
    for step in script(nodes) {
        let [expected, seen] = [&theirs, &ours].map(|cluster| play(cluster, &step));
        if expected != seen {
            differences += 1;
            println!("etcdctl {}\n{}", step.arguments.join(" "), step.input.get(..400).unwrap_or(&step.input));
            println!("  etcd: {}\n  vlot: {}\n", show(&expected), show(&seen));
        }
    }
    assert_eq!(differences, 0, "commands that answer otherwise than etcd's");
}

fn show(output: &Output) -> String {
    let text = format!("code {:?}\n{}{}", output.code, output.stdout, output.stderr);
    text.get(..2000).unwrap_or(&text).to_owned()
}

/// Runs a step, and takes out of its output what may differ between two clusters.
fn play(cluster: &Cluster, step: &Step) -> Output {
    let arguments: Vec<_> = step.arguments.iter().map(String::as_str).collect();
    let until = step.until.as_deref().map_or(Until::Ended, Until::Said);
    let Output { stdout, stderr, code } = cluster.ctl_until(&arguments, &step.input, until);
    // What else is there is the client's log, with times and addresses.
    let errors =
        stderr.lines().filter(|line| !line.starts_with('{')).map(|line| format!("{line}\n")).collect::<String>();
    // How much follows what was waited for is up to chance.
    let said = step.until.as_ref().and_then(|until| Some(stdout.find(until)? + until.len()));
    let stdout = stdout[..said.unwrap_or(stdout.len())].to_owned();
    let stdout = if arguments[0] == "watch" { without_header_revision(&stdout) } else { stdout };
    let [mut stdout, stderr] = [stdout, errors].map(|text| neutral(&text, cluster));
    if step.unordered {
        let mut lines: Vec<_> = stdout.split_inclusive('\n').map(ordered_objects).collect();
        lines.sort();
        stdout = lines.concat();
    }
    Output { stdout, stderr, code }
}

/// The text without what may differ.
fn neutral(text: &str, cluster: &Cluster) -> String {
    let mut text = text.to_owned();
    for node in &cluster.nodes {
        text = text.replace(&node.endpoint(), "CLIENT");
        text = text.replace(&format!("127.0.0.1:{}", node.peer_port), "PEER");
    }
    let lines: String = text.split_inclusive('\n').map(neutral_line).collect();
    without_ids(&lines)
}

/// Names of figures that may differ, in all of etcdctl's formats.
const FIGURES: [&str; 14] = [
    "raft_term",
    "RaftTerm",
    "raftTerm",
    "raftIndex",
    "RaftIndex",
    "raftAppliedIndex",
    "RaftAppliedIndex",
    "dbSize",
    "DBSize",
    "dbSizeInUse",
    "DBSizeInUse",
    "version",
    "Version",
    "took",
];

fn neutral_line(line: &str) -> String {
    // endpoint, id, version, size, leads, learns, term, index, applied index, errors
    let columns: Vec<_> = line.split(", ").collect();
    if let [endpoint, _, _, _, leads, learns, _, _, _, errors] = columns[..]
        && endpoint.ends_with("CLIENT")
    {
        return format!("{endpoint}, leads {leads}, learns {learns}, {errors}");
    }
    if let Some((before, _)) = line.split_once("took = ") {
        return format!("{before}\n");
    }
    FIGURES.iter().fold(line.to_owned(), |line, figure| without_figure(&line, figure))
}

/// The line without the values after `"figure":` or `"figure" :`. A key's version is a number without quotes and
/// stays; a server's has quotes.
fn without_figure(line: &str, figure: &str) -> String {
    let name = format!("\"{figure}\"");
    let mut kept = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(&name) {
        let (before, after) = rest.split_at(at + name.len());
        kept.push_str(before);
        let value_at = after.find(|c: char| c != ':' && c != ' ').unwrap_or(after.len());
        let (separator, value) = after.split_at(value_at);
        kept.push_str(separator);
        let end = match value.strip_prefix('"') {
            Some(quoted) => quoted.find('"').map_or(value.len(), |end| end + 2),
            None => value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len()),
        };
        let is_of_key = figure.eq_ignore_ascii_case("version") && !value.starts_with('"');
        kept.push_str(if is_of_key { &value[..end] } else { "_" });
        rest = &value[end..];
    }
    kept + rest
}

/// A watch's output without the revision in the header: etcd tells the store's there while a watch catches up, and none
/// where it cancels; we tell the one of the last event, and the store's.
fn without_header_revision(text: &str) -> String {
    let lines = text.split_inclusive('\n').map(|line| match line.split_once("},\"Events\"") {
        Some((header, events)) => {
            let header = without_figure(header, "revision").replace("\"revision\":_,", "");
            format!("{header}}},\"Events\"{events}")
        }
        None if line.starts_with("\"Revision\"") => String::new(),
        None => line.to_owned(),
    });
    lines.collect()
}

/// The text with `ID` for every long number, decimal or hexadecimal. No key or value of the script is one.
fn without_ids(text: &str) -> String {
    let mut kept = String::new();
    for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let (word, end) = match word.strip_suffix(|c: char| !c.is_ascii_alphanumeric()) {
            Some(stripped) => word.split_at(stripped.len()),
            None => (word, ""),
        };
        let is_id = (14..=20).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        kept.push_str(if is_id { "ID" } else { word });
        kept.push_str(end);
    }
    kept
}

/// A line with the pieces of its JSON in an order of their own. A line without JSON is one piece.
fn ordered_objects(line: &str) -> String {
    let mut pieces: Vec<_> = line.split(['{', '}', '\n']).map(|piece| piece.trim_matches([',', '[', ']'])).collect();
    pieces.sort_unstable();
    pieces.join("\n")
}
