//! What a file's keys mean, what is refused with which line, and what is only said.

use super::*;
use crate::config::flags::FLAGS;

/// The flags that a file sets, as `name=text`, and what is said about it.
fn set_by(text: &str) -> (Vec<String>, Vec<String>) {
    let settings = read("f.yml", |_| Ok(text.as_bytes().to_vec())).unwrap_or_else(|error| panic!("{text}: {error}"));
    let set = FLAGS.iter().filter_map(|flag| Some(format!("{}={}", flag.name, settings.given(flag.name)?)));
    (set.collect(), settings.warnings)
}

fn config_of(text: &str) -> Result<Config, ConfigError> {
    Config::read_with(["--config-file=f.yml".to_owned()], [], |_| Ok(text.as_bytes().to_vec()))
}

fn refusal(text: &str) -> String {
    let line = config_of(text).expect_err(text).to_string();
    assert!(!line.contains('\n'), "{line}");
    line
}

#[test]
fn a_key_is_the_name_of_a_flag() {
    let rows = [
        ("name: n1", "name=n1"),
        ("Name: n1", "name=n1"),
        ("{\"name\": \"n1\"}", "name=n1"),
        ("\u{feff}name: 'n1'\n", "name=n1"),
        ("name: !!str 12", "name=12"),
        ("heartbeat-interval: 100", "heartbeat-interval=100"),
        ("heartbeat-interval: 1e2", "heartbeat-interval=100"),
        ("heartbeat-interval: 0x64", "heartbeat-interval=100"),
        ("pre-vote: no", "pre-vote=false"),
        ("pre-vote: 'false'", "pre-vote=false"),
        ("log-outputs: [stdout]", "log-outputs=stdout"),
        ("log-outputs: stdout", "log-outputs=stdout"),
        ("cors: [http://a, http://b]", "cors=http://a,http://b"),
        ("cipher-suites:\n- A\n- B\n", "cipher-suites=A,B"),
        ("rate-limit: ['rate=1', 'user=a,rate=2']", "rate-limit=rate=1;user=a,rate=2"),
        ("rate-limit: rate=1", "rate-limit=rate=1"),
        ("audit-log: '-'", "audit-log=-"),
        ("client-transport-security: {cert-file: a}", "cert-file=a"),
        ("client-transport-security: {allowed-cn: [a, b]}", "client-cert-allowed-cn=a,b"),
        ("client-transport-security: {allowed-hostname: [a]}", "client-cert-allowed-hostname=a"),
        ("peer-transport-security: {cert-file: a}", "peer-cert-file=a"),
        ("Peer-Transport-Security: {Auto-TLS: true}", "peer-auto-tls=true"),
        ("peer-transport-security: {skip-client-san-verification: true}", "peer-skip-client-san-verification=true"),
        ("socket-options: {reuse-port: true}", "socket-reuse-port=true"),
        ("experimental-snapshot-catch-up-entries: 7", "snapshot-catchup-entries=7"),
        ("peer-cert-file: a", "peer-cert-file=a"),
    ];
    for (text, expected) in rows {
        assert_eq!(set_by(text), (vec![expected.to_owned()], Vec::new()), "{text}");
    }
}

#[test]
fn what_has_no_value_is_unset() {
    let rows = [
        "",
        "---",
        "null",
        "# nothing",
        "name:",
        "name: ~",
        "cors: ''",
        "listen-peer-urls: \"\"",
        "log-outputs: []",
        "initial-cluster-state: ''",
        "proxy: ''",
        "self-signed-cert-validity: 0",
        "client-transport-security:",
        "client-transport-security: {cert-file: , allowed-cn: }",
    ];
    for text in rows {
        assert_eq!(set_by(text), (Vec::new(), Vec::new()), "{text}");
    }
    // But an empty text is one where the flag may be empty.
    assert_eq!(set_by("auth-token: ''").0, ["auth-token="]);
}

#[test]
fn durations_are_nanoseconds_as_in_etcd_or_texts() {
    let rows = [
        ("grpc-keepalive-interval: 5000000000", "grpc-keepalive-interval=5000000000ns"),
        ("grpc-keepalive-interval: 5e9", "grpc-keepalive-interval=5000000000ns"),
        ("grpc-keepalive-interval: 5s", "grpc-keepalive-interval=5s"),
        ("grpc-keepalive-interval: 0", "grpc-keepalive-interval=0ns"),
    ];
    for (text, expected) in rows {
        assert_eq!(set_by(text), (vec![expected.to_owned()], Vec::new()), "{text}");
    }
    let (set, warnings) = set_by("grpc-keepalive-timeout: 20");
    assert_eq!(set, ["grpc-keepalive-timeout=20ns"]);
    assert_eq!(
        warnings,
        ["f.yml:1: grpc-keepalive-timeout: 20 is in nanoseconds, as in etcd; write 5s for five seconds"]
    );
}

#[test]
fn a_text_is_what_is_written_whatever_yaml_takes_it_for() {
    for text in ["yes", "010", "1.10", "1_000", "'null'", "2026-01-01", "!!str 12", "!mine 12"] {
        let expected = text.trim_matches('\'').rsplit(' ').next().unwrap();
        assert_eq!(set_by(&format!("name: {text}")), (vec![format!("name={expected}")], Vec::new()));
    }
}

#[test]
fn what_counts_for_nothing_is_said() {
    let rows = [
        ("nmae: n1", "", "f.yml:1: unknown key \"nmae\" has no effect; 'vlot server --help' lists all"),
        (
            "\nclient-transport-security:\n  name: n1\n",
            "",
            "f.yml:3: unknown key \"client-transport-security.name\" has no effect",
        ),
        ("unknown: {a: [b, {c: d}]}", "", "f.yml:1: unknown key \"unknown\" has no effect"),
        ("config-file: g.yml", "", "f.yml:1: a configuration file names no other"),
        ("name: a\nname: b", "name=b", "f.yml:2: name is set again; what name in line 1 says has no effect"),
        (
            "client-transport-security: {key-file: a}\nkey-file: b",
            "key-file=a",
            "f.yml:1: client-transport-security.key-file is set again; what key-file in line 2 says has no effect",
        ),
        ("name: a\nname:", "", "f.yml:2: name is set again; what name in line 1 says has no effect"),
        ("name: a\n<<: {name: b}", "name=b", "f.yml:2: name is set again; what name in line 1 says has no effect"),
        ("name: a\n---\nname: b", "name=a", "f.yml:2: a second document begins; it has no effect"),
        (
            "experimental-max-learners: 2",
            "max-learners=2",
            "f.yml:1: experimental-max-learners is an old spelling of max-learners",
        ),
    ];
    for (text, set, start) in rows {
        let (found, warnings) = set_by(text);
        assert_eq!((found.concat(), warnings.len()), (set.to_owned(), 1), "{text}: {warnings:?}");
        assert!(warnings[0].starts_with(start), "{warnings:?}");
    }
}

#[test]
fn flags_without_effect_are_accepted_or_refused_as_on_the_command_line() {
    let config = config_of("\nmax-wals: 7").unwrap();
    assert_eq!(
        config.warnings,
        ["f.yml:2: --max-wals has no effect: old files are dropped as soon as nothing needs them"]
    );
    assert!(refusal("name: a\nunsafe-no-fsync: true").starts_with("f.yml:2: --unsafe-no-fsync is not supported: "));
    assert!(
        refusal("discovery-config: {token: a}").starts_with("f.yml:1: discovery-config.token: --discovery-token is")
    );
}

#[test]
fn a_mistake_is_told_with_its_file_line_and_key() {
    let rows = [
        ("name: [a]", "f.yml:1: name: expected one value, and found a list or a mapping"),
        ("cors: {a: b}", "f.yml:1: cors: expected a text or a list of texts"),
        ("cors:\n- a\n- [b]\n", "f.yml:3: cors: expected a text or a list of texts"),
        (
            "peer-transport-security:\n  allowed-cn:\n  - a,b\n",
            "f.yml:3: peer-transport-security.allowed-cn: an item of the list is \"a,b\"; expected a text without",
        ),
        (
            "client-transport-security: {allowed-cn: [a, ]}\npeer-cert-allowed-cn: ['']",
            "f.yml:2: peer-cert-allowed-cn: an item of the list is \"\"; ",
        ),
        ("client-transport-security: {allowed-cn: [~]}", "f.yml:1: client-transport-security.allowed-cn: an item of"),
        ("client-transport-security: true", "f.yml:1: client-transport-security: expected keys of its own, indented"),
        ("just a text", "f.yml:1: expected keys and values, such as \"name: n1\""),
        ("- a", "f.yml:1: expected keys and values, such as \"name: n1\""),
        ("[a]: b", "f.yml:1: a key is a list or a mapping; expected the name of a flag"),
        ("name: a\n\tb: c", "f.yml:1: no YAML: while scanning a plain scalar, found a tab"),
        ("name: a\n name: b", "f.yml:2: no YAML: "),
        ("name: [a", "f.yml:2: no YAML: while parsing a flow sequence, expected ',' or ']'"),
        ("name: !!binary a", "f.yml:1: the tag \"tag:yaml.org,2002:!binary\" has no meaning here; leave it away"),
        ("\n\nheartbeat-interval: soon", "f.yml:3: --heartbeat-interval=soon: expected a whole number"),
        ("heartbeat-interval: 1.5", "f.yml:1: --heartbeat-interval=1.5: expected a whole number"),
        ("pre-vote: maybe", "f.yml:1: --pre-vote=maybe: expected true or false"),
        ("name: a\nlog-level: loud", "f.yml:2: --log-level=loud: expected debug, info,"),
        ("log-level: |\n  a\n  b\n", "f.yml:1: --log-level=a b : expected debug, info,"),
        (
            "peer-transport-security:\n  cert-file: a\n",
            "f.yml:2: peer-transport-security.cert-file: --peer-cert-file is given without --peer-key-file; ",
        ),
        ("name: a\ninitial-cluster: b=http://b:1", "f.yml:2: couldn't find local name \"a\" in the initial cluster"),
        ("listen-peer-urls: https://1.1.1.1:1", "f.yml: https://1.1.1.1:1 needs TLS, and there is no certificate"),
    ];
    for (text, start) in rows {
        let line = refusal(text);
        assert!(line.starts_with(start), "{line}");
    }
}

#[test]
fn a_file_that_is_missing_or_no_text_is_refused() {
    let missing = Config::read(["--config-file=/nowhere/f.yml".to_owned()], []).unwrap_err().to_string();
    assert!(missing.starts_with("/nowhere/f.yml: the configuration file cannot be read: No such file"), "{missing}");
    let given = |bytes: Vec<u8>| read("f.yml", |_| Ok(bytes)).map(|_| ()).map_err(|error| error.to_string());
    assert_eq!(given(vec![0xff, 0xfe]), Err("f.yml: the configuration file is not in UTF-8".into()));
    assert_eq!(given(vec![b' '; FILE_BYTES_MAX]), Ok(()));
    let too_long = Err("f.yml: the configuration file has more than 1048576 bytes".into());
    assert_eq!(given(vec![b' '; FILE_BYTES_MAX + 1]), too_long);
    let endless = read_bounded(Path::new("/dev/zero")).unwrap();
    assert_eq!(given(endless), too_long);
}

#[test]
fn aliases_and_merges_are_followed_as_far_as_a_configuration_goes() {
    let merged = "x: &tls {cert-file: a, key-file: b}\nclient-transport-security: {<<: *tls, key-file: c}\n\
                  peer-transport-security: {<<: [*tls, {key-file: d, crl-file: e}]}\nname: &n n1\ninitial-cluster-token: *n";
    let (set, warnings) = set_by(merged);
    let expected = [
        "name=n1",
        "initial-cluster-token=n1",
        "cert-file=a",
        "key-file=c",
        "peer-cert-file=a",
        "peer-key-file=b",
        "peer-crl-file=e",
    ];
    assert_eq!(set, expected);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    // Nothing is said: what is merged is there to be set again.
    assert_eq!(set_by("<<: [{name: a}, {name: b}]").0, ["name=a"]);
    assert_eq!(set_by("<<: {name: a}\nname:"), (Vec::new(), Vec::new()));
    assert_eq!(set_by("key-file: a\nclient-transport-security: {key-file: }").0, ["key-file=a"]);
    // Nine lists of nine, ten times in each other.
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for n in 1..10 {
        let before = vec![format!("*a{}", n - 1); 9].join(", ");
        bomb.push_str(&format!("a{n}: &a{n} [{before}]\n"));
    }
    let too_much = refusal(&bomb);
    assert!(too_much.ends_with(": too much for a configuration; are aliases repeated?"), "{too_much}");
    let long_text = format!("a: &a {}\ncors: [{}]", "x".repeat(500_000), vec!["*a"; 100].join(", "));
    assert!(refusal(&long_text).ends_with("too much for a configuration; are aliases repeated?"));
    assert_eq!(refusal("a: &a [*a]"), "f.yml:1: an alias in what it is an alias of");
    assert!(refusal("a: *b").starts_with("f.yml:1: no YAML: "));
    assert_eq!(refusal("<<: a"), "f.yml:1: << needs a mapping, or a list of them");
}

#[test]
fn nesting_is_bounded_however_it_is_written() {
    let deep = "f.yml:1: more than 16 lists and mappings in each other";
    assert_eq!(refusal(&format!("a: {}{}", "[".repeat(20), "]".repeat(20))), deep);
    assert_eq!(refusal(&format!("{}b{}", "{a: ".repeat(20), "}".repeat(20))), deep);
    // What the parser has to look through before it knows what it is, it bounds by itself.
    let limit = "f.yml:1: no YAML: recursion limit exceeded";
    assert_eq!(refusal(&format!("a: {}", "[".repeat(100_000))), limit);
    assert_eq!(refusal(&"{".repeat(100_000)), limit);
    assert_eq!(refusal(&"- ".repeat(100_000)), deep);
    let blocks: String = (0..100).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    assert_eq!(refusal(&blocks), "f.yml:17: more than 16 lists and mappings in each other");
}

#[test]
fn flags_and_variables_beside_a_file_have_no_effect_which_is_said() {
    let read = |arguments: &[&str], environment: &[(&str, &str)]| {
        let environment = environment.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        let file = |path: &Path| {
            assert_eq!(path, Path::new("f.yml"));
            Ok(b"name: in-file".to_vec())
        };
        Config::read_with(arguments.iter().map(|argument| argument.to_string()), environment, file)
    };
    let config = read(
        &["--name=flag", "--config-file", "f.yml", "--force-new-cluster", "--stop-with-parent"],
        &[("ETCD_NAME", "variable"), ("ETCD_LOG_LEVEL", ""), ("ETCD_VERSION", "3"), ("ETCD_HEARTBEAT_INTERVAL", "x")],
    )
    .unwrap();
    assert_eq!((config.name.as_str(), config.stop_with_parent), ("in-file", true));
    assert_eq!(
        config.warnings,
        ["without effect beside --config-file, as in etcd: --force-new-cluster, --name, ETCD_NAME, \
          ETCD_HEARTBEAT_INTERVAL; put what is meant into f.yml"]
    );
    for arguments in [&[] as &[&str], &["--config-file="]] {
        let config = read(arguments, &[("ETCD_CONFIG_FILE", "f.yml")]).unwrap();
        assert_eq!((config.name.as_str(), config.warnings.len()), ("in-file", 0));
    }
    let flag_first = read(&["--config-file=f.yml"], &[("ETCD_CONFIG_FILE", "other.yml")]).unwrap();
    assert_eq!(flag_first.name, "in-file");
    assert!(read(&["--config-file=f.yml", "--no-such"], &[]).is_err());
    assert_eq!(read(&["--config-file="], &[]).unwrap().name, "default");
}

#[test]
fn what_clients_are_told_may_be_left_out_as_in_etcd() {
    let config = config_of("listen-client-urls: http://127.0.0.1:7").unwrap();
    assert_eq!(config.advertise_client[0].to_string(), "http://localhost:2379");
    let told = "f.yml:1: advertise-client-urls is missing, so that clients are told http://localhost:2379";
    assert_eq!(config.warnings, [told]);
}

#[test]
fn every_key_that_etcd_has_is_known() {
    // The `json` names in etcd's `embed.Config`, of releases 3.5, 3.6 and 3.7.
    let keys = include_str!("keys_of_etcd.txt");
    assert!(keys.lines().count() > 100);
    for line in keys.lines().filter(|line| !line.starts_with('#')) {
        let (section, name) = line.split_once('.').unwrap_or(("", line));
        assert!(flags::find_key(section, name).is_some(), "{line}");
        assert!(section.is_empty() || flags::is_section(section), "{line}");
    }
}
