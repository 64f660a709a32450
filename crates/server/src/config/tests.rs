//! Flags, variables, refusals and defaults.

use std::time::Duration;

use vlot::tls::{ServerCheck, Speaks, Verify};

use super::flags::{FLAGS, Kind, Treatment};
use super::*;
use crate::memory::Memory;
use vlot_tls::{KeyPairFiles, NameRule, Roots};

fn read(arguments: &str) -> Result<Config, ConfigError> {
    read_with(arguments, &[])
}

fn read_with(arguments: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let environment = environment.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    Config::read(arguments.split_whitespace().map(str::to_owned), environment)
}

fn refusal(arguments: &str) -> String {
    let line = read(arguments).expect_err(arguments).to_string();
    assert!(!line.contains('\n'), "{line}");
    line
}

#[test]
fn no_flags_are_a_single_node_on_the_loopback_address() {
    let config = read("").unwrap();
    assert_eq!((config.name.as_str(), config.data_dir.to_str()), ("default", Some("default.etcd")));
    assert_eq!(config.listen.client[0].bind_address(), Some(([127, 0, 0, 1], 2379).into()));
    assert_eq!(config.listen.peer[0].bind_address(), Some(([127, 0, 0, 1], 2380).into()));
    assert_eq!(config.cluster.members.len(), 1);
    assert_eq!(config.cluster.token, "etcd-cluster");
    assert_eq!((config.heartbeat.as_millis(), config.election_timeout.as_millis()), (100, 1000));
    assert_eq!(config.request_timeout(), Duration::from_secs(7));
    assert_eq!((config.limits.txn_ops, config.limits.request_bytes), (128, 1_572_864));
    assert_eq!(config.limits.quota_bytes, Some(2 << 30));
    assert_eq!(config.auto_compaction, None);
    assert!(config.hosts.is_none() && config.warnings.is_empty());
}

#[test]
fn a_value_may_follow_after_a_blank_or_an_equals_sign_and_one_dash_will_do() {
    for arguments in ["--name n1", "--name=n1", "-name n1", "-name=n1", "--name n2 --name n1"] {
        assert_eq!(read(arguments).unwrap().name, "n1", "{arguments}");
    }
}

#[test]
fn a_switch_needs_no_value() {
    let rows = [
        ("--socket-reuse-port", true),
        ("--socket-reuse-port --name n", true),
        ("--socket-reuse-port=false", false),
        ("--socket-reuse-port true", true),
        ("--socket-reuse-port false", false),
        ("-socket-reuse-port=T", true),
        ("", false),
    ];
    for (arguments, expected) in rows {
        assert_eq!(read(arguments).unwrap().listen.reuse_port, expected, "{arguments}");
    }
}

#[test]
fn a_flag_wins_over_its_variable() {
    let environment = [("ETCD_NAME", "from-env"), ("ETCD_ELECTION_TIMEOUT", "2000"), ("PATH", "/bin")];
    let config = read_with("--name flag", &environment).unwrap();
    assert_eq!((config.name.as_str(), config.election_timeout.as_millis()), ("flag", 2000));
    assert_eq!(read_with("", &environment).unwrap().name, "from-env");
}

#[test]
fn an_unknown_variable_is_warned_about_and_a_bad_value_in_one_is_refused() {
    let config = read_with("", &[("ETCD_NAM", "x"), ("ETCD_NAME", "")]).unwrap();
    assert_eq!(config.name, "default");
    assert_eq!(config.warnings, ["unrecognized environment variable ETCD_NAM"]);
    assert!(read_with("", &[("ETCD_ELECTION_TIMEOUT", "soon")]).is_err());
    assert!(read_with("", &[("ETCD_CERT_FILE", "a.pem")]).is_err());
}

#[test]
fn what_cannot_be_done_is_refused_by_name_with_a_reason() {
    let rows = [
        ("--discovery-srv example.com", "--discovery-srv is not supported: discovery"),
        ("--force-new-cluster", "--force-new-cluster is not supported: a cluster that has lost"),
        ("--unsafe-no-fsync", "--unsafe-no-fsync is not supported: nothing is acknowledged"),
        ("--wal-dir /x", "--wal-dir is not supported: the log"),
    ];
    for (arguments, start) in rows {
        let line = refusal(arguments);
        assert!(line.starts_with(start), "{line}");
    }
}

#[test]
fn tokens_are_simple_or_signed() {
    let tokens = |arguments| read(arguments).unwrap().auth.tokens;
    let simple = |seconds| TokenKind::Simple { ttl: Duration::from_secs(seconds) };
    assert_eq!(tokens(""), simple(300));
    assert_eq!(tokens("--auth-token=simple --auth-token-ttl=7"), simple(7));
    assert_eq!(tokens("--auth-token-ttl=0"), simple(300));
    assert_eq!(tokens("--auth-token="), TokenKind::None);
    let jwt = |method, public: Option<&str>, private: Option<&str>, seconds| {
        let (public_key, private_key) = (public.map(Into::into), private.map(Into::into));
        TokenKind::Jwt(JwtOptions { method, public_key, private_key, ttl: Duration::from_secs(seconds) })
    };
    assert_eq!(tokens("--auth-token=jwt,sign-method=RS256,pub-key=a"), jwt(SignMethod::Rs256, Some("a"), None, 300));
    assert_eq!(
        tokens("--auth-token=jwt,pub-key=a,priv-key=b,sign-method=EdDSA,ttl=10m --auth-token-ttl=7"),
        jwt(SignMethod::EdDsa, Some("a"), Some("b"), 600)
    );
    let unknown = read("--auth-token=jwt,sign-method=HS256,priv-key=b,x=y").unwrap();
    assert_eq!(unknown.warnings, ["--auth-token: the option x is unknown and has no effect"]);
    let rows = [
        ("other", "auth: invalid auth options: --auth-token=other: expected simple, or jwt,sign-method=..."),
        ("jwt,pub-key", "auth: invalid auth options: --auth-token has \"pub-key\": expected name=value"),
        ("jwt,pub-key=a=b", "auth: invalid auth options: --auth-token has \"pub-key=a=b\": expected name=value"),
        ("jwt,pub-key=a,pub-key=a", "auth: invalid auth options: --auth-token has pub-key twice"),
        (
            "jwt,sign-method=RS256,ttl=soon",
            "auth: invalid auth options: --auth-token has ttl=soon: expected a duration",
        ),
        ("jwt", "auth: invalid auth signature method: --auth-token has sign-method=: expected one of HS256,"),
        ("jwt,sign-method=none", "auth: invalid auth signature method: --auth-token has sign-method=none: expected"),
        ("jwt,sign-method=ES512", "auth: invalid auth signature method: --auth-token has sign-method=ES512: expected"),
    ];
    for (given, start) in rows {
        let line = refusal(&format!("--auth-token={given}"));
        assert!(line.starts_with(start), "{line}");
    }
}

#[test]
fn a_hash_costs_what_bcrypt_knows_and_etcds_default_otherwise() {
    for (given, expected) in [(10, 10), (4, 4), (31, 31), (3, 10), (32, 10), (-1, 10)] {
        let config = read(&format!("--bcrypt-cost={given}")).unwrap();
        assert_eq!(
            (config.auth.bcrypt_cost, config.warnings.len()),
            (expected, usize::from(given != i64::from(expected)))
        );
    }
}

#[test]
fn bad_values_give_one_line() {
    let rows = [
        ("--bogus", "unknown flag --bogus; 'vlot server --help' lists all"),
        ("bogus", "'bogus' is not a valid flag"),
        ("--name", "--name needs a value"),
        ("--max-txn-ops many", "--max-txn-ops=many: expected a whole number"),
        ("--max-txn-ops 0", "--max-txn-ops=0: expected a number of at least 1"),
        ("--pre-vote=maybe", "--pre-vote=maybe: expected true or false"),
        ("--grpc-keepalive-timeout 5", "--grpc-keepalive-timeout=5: expected a duration such as 500ms or 2h"),
        (
            "--election-timeout 499",
            "--election-timeout[499ms] should be at least as 5 times as --heartbeat-interval[100ms]",
        ),
        ("--election-timeout 50001", "--election-timeout[50001ms] is too long, and should be set less than 50000ms"),
        ("--log-level loud", "--log-level=loud: expected debug, info, warn, error, panic or fatal"),
        ("--log-format text", "--log-format=text: expected json or console"),
        ("--initial-cluster-state old", "--initial-cluster-state=old: expected new or existing"),
        (
            "--listen-client-urls http://1.1.1.1:1",
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (
            "--listen-peer-urls http://example.com:2380",
            "--listen-peer-urls=http://example.com:2380: expected an IP address or localhost to listen on",
        ),
        (
            "--listen-peer-urls https://1.1.1.1:1",
            "https://1.1.1.1:1 needs TLS, and there is no certificate: give --peer-cert-file and --peer-key-file, or \
             --peer-auto-tls",
        ),
        ("--watch-progress-notify-interval 99ms", "--watch-progress-notify-interval=99ms: expected at least 100ms"),
        (
            "--auto-compaction-mode never --auto-compaction-retention 1",
            "--auto-compaction-mode=never: expected periodic or revision",
        ),
        ("--auto-compaction-mode foo", "--auto-compaction-mode=foo: expected periodic or revision"),
        (
            "--v2-deprecation never",
            "--v2-deprecation=never: expected not-yet, write-only, write-only-drop-data or gone",
        ),
    ];
    for (arguments, expected) in rows {
        assert_eq!(refusal(arguments), expected);
    }
}

#[test]
fn a_cluster_names_its_members_and_this_one_among_them() {
    let three = "--initial-cluster a=http://h1:1,b=http://h2:2,c=http://h3:3";
    let config = read(&format!("{three} --name b --initial-advertise-peer-urls http://h2:2")).unwrap();
    let names: Vec<_> = config.cluster.members.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    let rows = [
        (format!("{three} --name d"), "couldn't find local name \"d\" in the initial cluster configuration"),
        (
            format!("{three} --name b"),
            "--initial-cluster has b=http://h2:2 but --initial-advertise-peer-urls=http://localhost:2380",
        ),
        (
            "--initial-cluster a=http://h:1,b=http://h:1".into(),
            "--initial-cluster gives http://h:1 to both \"a\" and \"b\"",
        ),
    ];
    for (arguments, expected) in rows {
        assert_eq!(refusal(&arguments), expected);
    }
    let several =
        "--initial-cluster n=http://h:1,n=http://h:2 --name n --initial-advertise-peer-urls http://h:2,http://h:1";
    assert_eq!(read(several).unwrap().cluster.members[0].1.len(), 2);
}

#[test]
fn auto_compaction_counts_hours_durations_or_revisions() {
    let read = |mode, retention| {
        let arguments = format!("--auto-compaction-mode {mode} --auto-compaction-retention {retention}");
        self::read(&arguments).map(|config| config.auto_compaction)
    };
    assert_eq!(read("periodic", "0"), Ok(None));
    assert_eq!(read("periodic", "0s"), Ok(None));
    assert_eq!(read("periodic", "8"), Ok(Some(AutoCompaction::Periodic(Duration::from_secs(8 * 3600)))));
    assert_eq!(read("periodic", "10m"), Ok(Some(AutoCompaction::Periodic(Duration::from_secs(600)))));
    assert_eq!(read("revision", "1000"), Ok(Some(AutoCompaction::Revision(1000))));
    assert!(read("revision", "10m").is_err());
    assert!(read("periodic", "often").is_err());
    assert_eq!(self::read("--auto-compaction-mode=").unwrap().auto_compaction, None);
    assert!(self::read("--auto-compaction-mode= --auto-compaction-retention=1").is_err());
}

#[test]
fn a_flag_without_effect_is_accepted_with_a_warning_and_at_its_default_without() {
    let warnings = |arguments| read(arguments).unwrap().warnings;
    assert_eq!(warnings("--pre-vote=false"), ["--pre-vote has no effect: elections always have a pre-vote"]);
    assert!(warnings("--pre-vote --snapshot-count 10000 --cert-file= --cipher-suites=").is_empty());
    assert_eq!(
        warnings("--experimental-watch-progress-notify-interval=5s"),
        ["--experimental-watch-progress-notify-interval is an old spelling of --watch-progress-notify-interval"]
    );
    assert_eq!(warnings("--feature-gates=LeaseCheckpoint=true,InitialCorruptCheck=true").len(), 1);
}

#[test]
fn members_compare_their_data_unless_they_are_told_not_to() {
    let checks = |arguments| read(arguments).unwrap().corruption_checks;
    let minutes = |minutes: u64| Some(Duration::from_secs(60 * minutes));
    let of = |at_start, periodic, after_compaction| CorruptionChecks { at_start, periodic, after_compaction };
    assert_eq!(checks(""), of(true, minutes(60), minutes(1)));
    assert_eq!(checks("--corrupt-check-time=0s --compact-hash-check-time=5m"), of(true, None, minutes(5)));
    let old = "--experimental-initial-corrupt-check=false --experimental-compact-hash-check-enabled=false";
    assert_eq!(checks(old), of(false, minutes(60), None));
    assert_eq!(
        checks("--feature-gates=InitialCorruptCheck=false,CompactHashCheck=false"),
        of(false, minutes(60), None)
    );
}

#[test]
fn rules_add_up_and_a_flag_wins_over_its_variable() {
    let rules = |config: Config| config.rate_limits.into_iter().map(|rule| rule.text).collect::<Vec<_>>();
    let environment = [("ETCD_RATE_LIMIT", "rate=1;call=read,rate=2")];
    assert_eq!(rules(read_with("", &environment).unwrap()), ["rate=1", "call=read,rate=2"]);
    let flags = "--rate-limit rate=3 --rate-limit=user=a,rate=4";
    assert_eq!(rules(read_with(flags, &environment).unwrap()), ["rate=3", "user=a,rate=4"]);
    assert_eq!(rules(read("--rate-limit=").unwrap()), [""; 0]);
    assert_eq!(
        refusal("--rate-limit rate=1 --rate-limit user=a,rate=fast"),
        "--rate-limit=rate=1;user=a,rate=fast: expected a number above 0 and up to 1000000000 in 'rate=fast'"
    );
}

#[test]
fn every_flag_of_the_table_reads_its_own_default() {
    for flag in FLAGS {
        let argument = format!("--{}={}", flag.name, flag.default);
        let config = Config::read([argument.clone(), "--advertise-client-urls=http://a:1".into()], []);
        assert!(config.is_ok_and(|config| config.warnings.is_empty()), "{argument}");
    }
}

#[test]
fn every_flag_of_the_table_is_refused_or_warned_about_as_it_says() {
    for flag in FLAGS {
        let value = match flag.kind {
            Kind::Switch => {
                if flag.default == "true" {
                    "false"
                } else {
                    "true"
                }
            }
            Kind::Integer => "77",
            Kind::Duration => "77s",
            Kind::Text if flag.name == "v2-deprecation" => "gone",
            Kind::Text if flag.name == "rate-limit" => "rate=1",
            Kind::Text | Kind::List => "some-text",
        };
        let read = Config::read([format!("--{}={value}", flag.name)], []);
        match flag.treatment {
            Treatment::Refused(why) => {
                assert_eq!(read.err(), Some(ConfigError::Refused { flag: flag.name, why }));
            }
            Treatment::Accepted(_) => assert_eq!(read.unwrap().warnings.len(), 1, "{}", flag.name),
            Treatment::Honoured => {}
        }
    }
}

#[test]
fn a_certificate_is_for_urls_that_are_https() {
    let both =
        "--listen-client-urls http://127.0.0.1:1,https://127.0.0.1:2 --advertise-client-urls https://127.0.0.1:2";
    let pair = "--cert-file a.crt --key-file a.key";
    let config = read(&format!("{both} {pair} --trusted-ca-file ca.crt --client-crl-file crl.pem")).unwrap();
    let tls = config.client_tls.unwrap();
    assert_eq!(tls.own, OwnCertificate::Files(KeyPairFiles { cert: "a.crt".into(), key: "a.key".into() }));
    let clients = tls.clients.unwrap();
    assert_eq!((clients.roots, clients.crl), (Roots::File("ca.crt".into()), Some("crl.pem".into())));
    assert_eq!(
        config.warnings,
        [
            "http://127.0.0.1:1 is served in the clear, though there is a certificate: its scheme is http",
            "http://127.0.0.1:1 asks clients for no certificate: its scheme is http",
        ]
    );
    let auto = read(&format!("{both} --auto-tls --client-cert-auth --client-cert-allowed-hostname a,b")).unwrap();
    let tls = auto.client_tls.unwrap();
    assert_eq!((tls.own, auto.self_signed_days), (OwnCertificate::SelfSigned, 365));
    let clients = tls.clients.unwrap();
    assert_eq!(clients.roots, Roots::System);
    assert_eq!(clients.names, NameRule::Hosts(vec!["a".into(), "b".into()]));
    let by_cn = read(&format!("{both} --auto-tls --client-cert-auth --client-cert-allowed-cn a,b")).unwrap();
    let names = by_cn.client_tls.unwrap().clients.unwrap().names;
    assert_eq!(names, NameRule::CommonNames(vec!["a".into(), "b".into()]));
}

#[test]
fn what_has_no_effect_on_tls_is_warned_about() {
    let https = "--listen-client-urls https://127.0.0.1:2 --advertise-client-urls https://127.0.0.1:2";
    let rows = [
        ("--auto-tls".to_owned(), "http://localhost:2379 is served in the clear, though there is a certificate"),
        (format!("{https} --auto-tls --cert-file a --key-file b"), "--auto-tls has no effect: --cert-file and"),
        (format!("{https} --auto-tls --client-crl-file c"), "--client-crl-file has no effect: no client is asked"),
        (format!("{https} --auto-tls --client-cert-allowed-cn c"), "--client-cert-allowed-cn has no effect: no client"),
        (format!("{https} --auto-tls --client-cert-auth"), "--client-cert-auth without --trusted-ca-file takes"),
        ("--client-cert-auth".to_owned(), "http://localhost:2379 asks clients for no certificate"),
        ("--client-cert-file a".to_owned(), "--client-cert-file has no effect: the gateway calls its own node"),
    ];
    for (arguments, start) in rows {
        let warnings = read(&arguments).unwrap().warnings;
        assert!(warnings[0].starts_with(start), "{arguments}: {warnings:?}");
    }
}

#[test]
fn tls_that_cannot_be_spoken_is_refused() {
    let https = "--listen-client-urls https://127.0.0.1:2 --advertise-client-urls https://127.0.0.1:2";
    let rows = [
        (https, "https://127.0.0.1:2 needs TLS, and there is no certificate: give --cert-file and --key-file, or"),
        ("--listen-metrics-urls https://127.0.0.1:3", "https://127.0.0.1:3 needs TLS, and there is no certificate"),
        ("--cert-file a", "--cert-file is given without --key-file"),
        ("--key-file a", "--key-file is given without --cert-file"),
        ("--tls-min-version TLS1.1", "--tls-min-version: TLS version \"TLS1.1\" is broken and not supported"),
        ("--tls-max-version 1.3", "--tls-max-version: unexpected TLS version \"1.3\""),
        ("--tls-min-version TLS1.3 --tls-max-version TLS1.2", "--tls-max-version: the lowest TLS version is above"),
        ("--cipher-suites TLS_NOTHING", "--cipher-suites: unexpected TLS cipher suite \"TLS_NOTHING\" (known are: "),
        ("--tls-min-version TLS1.3 --cipher-suites TLS_AES_128_GCM_SHA256", "--cipher-suites: cipher suites cannot"),
        (
            "--auto-tls --client-cert-allowed-cn a --client-cert-allowed-hostname b",
            "AllowedCN and AllowedHostname are mutually exclusive (cn=\"a\", hostname=\"b\")",
        ),
        ("--self-signed-cert-validity 0", "--self-signed-cert-validity=0: expected a number of at least 1"),
        ("--self-signed-cert-validity 12345678", "--self-signed-cert-validity=12345678: expected 1 to 1000 years"),
    ];
    for (arguments, start) in rows {
        let line = refusal(arguments);
        assert!(line.starts_with(start), "{line}");
    }
}

#[test]
fn a_budget_of_memory_is_divided_and_a_part_of_it_may_be_given() {
    let usual = read("").unwrap().memory;
    assert_eq!(usual, Memory::default());
    assert_eq!(usual.values, 128 << 20);
    assert_eq!(read("--value-cache-bytes 7").unwrap().memory, Memory { values: 7, ..usual });
    let divided = read("--memory-budget 268435456").unwrap().memory;
    assert_eq!(divided, Memory::divided(256 << 20));
    let both = read("--memory-budget 268435456 --value-cache-bytes 7").unwrap().memory;
    assert_eq!(both, Memory { values: 7, ..divided });
    let line = refusal("--memory-budget 1000000");
    assert_eq!(line, "--memory-budget=1000000: expected a number of at least 67108864");
}

#[test]
fn the_host_whitelist_is_off_unless_it_names_hosts() {
    assert!(read("--host-whitelist=").unwrap().hosts.is_none());
    assert!(read("--host-whitelist=*").unwrap().hosts.is_none());
    assert_eq!(read("--host-whitelist=a,b").unwrap().hosts.unwrap(), ["a", "b"]);
}

#[test]
fn every_flag_is_in_the_compatibility_document_under_what_becomes_of_it() {
    let document = include_str!("../../../../docs/etcd-compatibility.md");
    for flag in FLAGS {
        let start = format!("| `--{}` | ", flag.name);
        let line = document.lines().find(|line| line.starts_with(&start));
        let mut columns = line.unwrap_or_else(|| panic!("--{} has no line", flag.name)).split(" | ").skip(1);
        let default = columns.next().unwrap().trim_matches(['`', ' ', '|']);
        // An empty cell leaves no column of its own.
        let verdict = if flag.default.is_empty() { default } else { columns.next().unwrap() };
        assert!(flag.default.is_empty() || default == flag.default, "{}", flag.name);
        let expected: &[&str] = match flag.treatment {
            Treatment::Honoured => &["same", "different"],
            Treatment::Accepted(_) => &["accepted"],
            Treatment::Refused(_) => &["refused"],
        };
        assert!(expected.contains(&verdict), "--{}: {verdict}", flag.name);
    }
}

#[test]
fn peers_speak_tls_as_etcds_flags_say() {
    const LISTENS: &str = "--listen-peer-urls https://1.1.1.1:1 --initial-advertise-peer-urls https://a:1 \
                           --initial-cluster default=https://a:1 --peer-cert-file c --peer-key-file k";
    let peer_tls = |more: &str| read(&format!("{LISTENS} {more}")).unwrap().peer_tls.unwrap();
    let files = peer_tls("");
    assert_eq!((files.callers.clone(), files.speaks, files.callers_by_address), (None, Speaks::Tls, true));
    let mutual = peer_tls("--peer-trusted-ca-file ca --peer-crl-file crl --peer-cert-allowed-cn a,b");
    let names = NameRule::CommonNames(vec!["a".into(), "b".into()]);
    let by = Verify { roots: Roots::File("ca".into()), crl: Some("crl".into()), names };
    assert_eq!((mutual.callers, mutual.dialled), (Some(by.clone()), ServerCheck::Verified { by, name: None }));
    assert_eq!(peer_tls("--peer-client-cert-auth").callers.unwrap().roots, Roots::System);
    assert!(!peer_tls("--experimental-peer-skip-client-san-verification").callers_by_address);
    assert_eq!(peer_tls("--experimental-peer-allow-plaintext").speaks, Speaks::Both);
    let own_to_dial = peer_tls("--peer-client-cert-file c2 --peer-client-key-file k2").own_to_dial.unwrap();
    assert_eq!((own_to_dial.cert, own_to_dial.key), ("c2".into(), "k2".into()));
    let auto = read("--listen-peer-urls https://1.1.1.1:1 --peer-auto-tls").unwrap().peer_tls.unwrap();
    assert_eq!((auto.own, auto.dialled), (OwnCertificate::SelfSigned, ServerCheck::Any));
    let plain = read("--peer-cert-file c --peer-key-file k").unwrap();
    assert_eq!(plain.peer_tls.unwrap().speaks, Speaks::PlainWhereItListens);
    assert!(plain.warnings.iter().any(|line| line.contains("its scheme is http")), "{:?}", plain.warnings);
}

#[test]
fn what_cannot_go_together_for_peers_is_said() {
    let rows = [
        ("--peer-cert-file c", "--peer-cert-file is given without --peer-key-file; a certificate needs its key"),
        ("--peer-key-file k", "--peer-key-file is given without --peer-cert-file; "),
        (
            "--peer-cert-file c --peer-key-file k --peer-client-key-file k",
            "--peer-client-key-file is given without --peer-client-cert-file; ",
        ),
        (
            "--peer-auto-tls --peer-cert-allowed-cn a --peer-cert-allowed-hostname b",
            "AllowedCN and AllowedHostname are mutually exclusive (cn=\"a\", hostname=\"b\")",
        ),
        (
            "--initial-cluster default=http://localhost:2380,b=https://b:1",
            "https://b:1 needs TLS, and there is no certificate: give --peer-cert-file",
        ),
    ];
    for (arguments, start) in rows {
        let line = refusal(arguments);
        assert!(line.starts_with(start), "{line}");
    }
    let warned = [
        ("--peer-auto-tls", "whoever reaches this node may call it as a peer"),
        ("--peer-auto-tls --peer-crl-file crl", "--peer-crl-file has no effect"),
        ("--peer-auto-tls --experimental-peer-allow-plaintext", "--experimental-peer-allow-plaintext has no effect"),
        (
            "--peer-auto-tls --listen-peer-urls https://1.1.1.1:1 --experimental-peer-allow-plaintext",
            "--experimental-peer-allow-plaintext: whoever reaches this node may call it in the clear",
        ),
    ];
    for (arguments, start) in warned {
        let warnings = read(arguments).unwrap().warnings;
        assert!(warnings.iter().any(|line| line.starts_with(start)), "{warnings:?}");
    }
}
