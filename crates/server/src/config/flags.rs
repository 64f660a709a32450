//! The one table of the server's flags, which are etcd's but for a few: name, kind of value, default, and what becomes of each here.
//!
//! Owns names and verdicts. Must not know how a flag is written on the command line (`arguments.rs`) or in a configuration
//! file (`file.rs`), or what its value means to the server (`config.rs`).

use Kind::{Duration, Integer, List, Switch, Text};
use Treatment::{Accepted, Honoured, Refused};

/// One flag of `vlot server`. Its environment form is `ETCD_` and the name in upper case, dashes as underscores.
#[derive(Debug)]
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// The value without the flag, written as on the command line.
    pub(crate) default: &'static str,
    pub(crate) treatment: Treatment,
    /// Whether `experimental-<name>` means the same flag.
    pub(crate) formerly_experimental: bool,
    /// Whether each value adds to those before. They are kept with semicolons between them, as one value may have them too.
    pub(crate) adds_up: bool,
    /// The key that means the flag in a configuration file besides its name.
    pub(crate) key: Option<FileKey>,
}

/// A key of etcd's configuration file that is not its flag's name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct FileKey {
    /// The section that it stands in; empty for none.
    pub(crate) section: &'static str,
    pub(crate) name: &'static str,
}

/// What a flag's value looks like. Durations are written as in Go: `1h30m`, `500ms`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Text,
    /// Texts with commas between them.
    List,
    Switch,
    Integer,
    Duration,
}

/// What becomes of a flag that is set to another value than its default.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Treatment {
    /// It has the effect it has in etcd.
    Honoured,
    /// The server runs as well without its effect; the sentence is logged as a warning.
    Accepted(&'static str),
    /// The server does not start: running without its effect would not be what was asked for.
    Refused(&'static str),
}

/// The flag of this name, also under its former `experimental-` spelling. The second value tells whether it was that.
pub(crate) fn find(name: &str) -> Option<(&'static Flag, bool)> {
    let exact = FLAGS.iter().find(|flag| flag.name == name).map(|flag| (flag, false));
    exact.or_else(|| {
        let plain = name.strip_prefix("experimental-")?;
        FLAGS.iter().find(|flag| flag.formerly_experimental && flag.name == plain).map(|flag| (flag, true))
    })
}

/// The flag that a key of a configuration file means. The second value tells whether it is an old spelling.
pub(crate) fn find_key(section: &str, name: &str) -> Option<(&'static Flag, bool)> {
    let by_name = if section.is_empty() { find(name) } else { None };
    let is_meant = |flag: &&Flag| flag.key.is_some_and(|key| (key.section, key.name) == (section, name));
    by_name.or_else(|| FLAGS.iter().find(is_meant).map(|flag| (flag, false)))
}

/// Whether a configuration file may have a section of this name.
pub(crate) fn is_section(name: &str) -> bool {
    !name.is_empty() && FLAGS.iter().filter_map(|flag| flag.key).any(|key| key.section == name)
}

const fn flag(name: &'static str, kind: Kind, default: &'static str, treatment: Treatment) -> Flag {
    Flag { name, kind, default, treatment, formerly_experimental: false, adds_up: false, key: None }
}

const fn adds_up(flag: Flag) -> Flag {
    Flag { adds_up: true, ..flag }
}

const fn keyed(section: &'static str, name: &'static str, flag: Flag) -> Flag {
    Flag { key: Some(FileKey { section, name }), ..flag }
}

const fn formerly_experimental(flag: Flag) -> Flag {
    Flag { formerly_experimental: true, ..flag }
}

/// Sections of etcd's configuration file.
const CLIENT_TLS: &str = "client-transport-security";
const PEER_TLS: &str = "peer-transport-security";
const SOCKETS: &str = "socket-options";
const DISCOVERY: &str = "discovery-config";

const OWN_CALLS: Treatment = Accepted("the gateway calls its own node without a connection");
const NO_DISCOVERY: Treatment = Refused("discovery is not supported; name all members with --initial-cluster");
const NO_TRACES: Treatment = Accepted("no traces are exported");
const NO_BBOLT: Treatment = Accepted("it tunes a storage engine that is not used here");
const NO_CHECKPOINTS: Treatment = Accepted("what is left of a lease is always replicated");
const NO_V2: Treatment = Refused("etcd's v2 interface is not served");
const NO_V2_PROXY: Treatment = Accepted("it tunes the v2 proxy, which does not exist here");
const COMPACTION_PACE: Treatment = Accepted("compaction paces itself");

/// Every flag that etcd 3.5 to 3.7 knows, in the order of etcd's help text, with etcd's defaults; behind those of a kind, the
/// ones that are not etcd's.
pub(crate) const FLAGS: &[Flag] = &[
    // Member
    flag("name", Text, "default", Honoured),
    flag("data-dir", Text, "", Honoured),
    flag("wal-dir", Text, "", Refused("the log lives in the data directory; place the whole data directory instead")),
    flag("snapshot-count", Integer, "10000", Honoured),
    flag("heartbeat-interval", Integer, "100", Honoured),
    flag("election-timeout", Integer, "1000", Honoured),
    flag("initial-election-tick-advance", Switch, "true", Accepted("a node that starts waits one election timeout")),
    flag("listen-peer-urls", List, "http://localhost:2380", Honoured),
    flag("listen-client-urls", List, "http://localhost:2379", Honoured),
    flag("listen-client-http-urls", List, "", Honoured),
    flag("max-snapshots", Integer, "5", Accepted("old files are dropped as soon as nothing needs them")),
    flag("max-wals", Integer, "5", Accepted("old files are dropped as soon as nothing needs them")),
    formerly_experimental(flag("memory-mlock", Switch, "false", Accepted("memory is not locked"))),
    flag("quota-backend-bytes", Integer, "0", Honoured),
    flag("backend-bbolt-freelist-type", Text, "map", NO_BBOLT),
    flag("backend-batch-interval", Duration, "0s", NO_BBOLT),
    flag("backend-batch-limit", Integer, "0", NO_BBOLT),
    // Not etcd's: how much memory is taken.
    flag("value-cache-bytes", Integer, "134217728", Honoured),
    flag("memory-budget", Integer, "0", Honoured),
    flag("max-txn-ops", Integer, "128", Honoured),
    flag("max-request-bytes", Integer, "1572864", Honoured),
    flag("max-concurrent-streams", Integer, "4294967295", Honoured),
    // Not etcd's: threads that serve connections; 0 is one for each core.
    flag("edge-threads", Integer, "0", Honoured),
    // Not etcd's: off leads back to a version that reads one command in each entry of the log.
    flag("share-entries", Switch, "true", Honoured),
    // Not etcd's: what the clients of one address may hold.
    flag("max-connections-per-address", Integer, "0", Honoured),
    flag("max-streams-per-address", Integer, "65536", Honoured),
    flag("max-watches-per-address", Integer, "1000000", Honoured),
    flag("max-pending-bytes-per-address", Integer, "536870912", Honoured),
    flag("grpc-keepalive-min-time", Duration, "5s", Accepted("clients are not punished for frequent pings")),
    flag("grpc-keepalive-interval", Duration, "2h", Honoured),
    flag("grpc-keepalive-timeout", Duration, "20s", Honoured),
    keyed(SOCKETS, "reuse-port", flag("socket-reuse-port", Switch, "false", Honoured)),
    keyed(SOCKETS, "reuse-address", flag("socket-reuse-address", Switch, "false", Honoured)),
    flag("enable-grpc-gateway", Switch, "true", Honoured),
    flag("raft-read-timeout", Duration, "5s", Accepted("the peers' connections have timeouts of their own")),
    flag("raft-write-timeout", Duration, "5s", Accepted("the peers' connections have timeouts of their own")),
    flag("feature-gates", List, "", Honoured),
    // Clustering
    flag("initial-advertise-peer-urls", List, "http://localhost:2380", Honoured),
    flag("initial-cluster", List, "", Honoured),
    flag("initial-cluster-state", Text, "new", Honoured),
    flag("initial-cluster-token", Text, "etcd-cluster", Honoured),
    flag("advertise-client-urls", List, "http://localhost:2379", Honoured),
    flag("discovery", Text, "", NO_DISCOVERY),
    keyed(DISCOVERY, "token", flag("discovery-token", Text, "", NO_DISCOVERY)),
    flag("discovery-endpoints", List, "", NO_DISCOVERY),
    flag("discovery-dial-timeout", Duration, "2s", NO_DISCOVERY),
    flag("discovery-request-timeout", Duration, "5s", NO_DISCOVERY),
    flag("discovery-keepalive-time", Duration, "2s", NO_DISCOVERY),
    flag("discovery-keepalive-timeout", Duration, "6s", NO_DISCOVERY),
    flag("discovery-insecure-transport", Switch, "true", NO_DISCOVERY),
    flag("discovery-insecure-skip-tls-verify", Switch, "false", NO_DISCOVERY),
    flag("discovery-cert", Text, "", NO_DISCOVERY),
    flag("discovery-key", Text, "", NO_DISCOVERY),
    flag("discovery-cacert", Text, "", NO_DISCOVERY),
    flag("discovery-user", Text, "", NO_DISCOVERY),
    flag("discovery-password", Text, "", NO_DISCOVERY),
    flag("discovery-fallback", Text, "exit", Accepted("there is no discovery that could fail")),
    flag("discovery-proxy", Text, "", NO_DISCOVERY),
    flag("discovery-srv", Text, "", NO_DISCOVERY),
    flag("discovery-srv-name", Text, "", NO_DISCOVERY),
    flag("strict-reconfig-check", Switch, "true", Honoured),
    flag("pre-vote", Switch, "true", Accepted("elections always have a pre-vote")),
    flag("auto-compaction-retention", Text, "0", Honoured),
    flag("auto-compaction-mode", Text, "periodic", Honoured),
    flag("enable-v2", Switch, "false", NO_V2),
    flag("v2-deprecation", Text, "not-yet", Accepted("there is no v2 store")),
    // Security
    keyed(CLIENT_TLS, "cert-file", flag("cert-file", Text, "", Honoured)),
    keyed(CLIENT_TLS, "key-file", flag("key-file", Text, "", Honoured)),
    keyed(CLIENT_TLS, "client-cert-auth", flag("client-cert-auth", Switch, "false", Honoured)),
    keyed(CLIENT_TLS, "client-cert-file", flag("client-cert-file", Text, "", OWN_CALLS)),
    keyed(CLIENT_TLS, "client-key-file", flag("client-key-file", Text, "", OWN_CALLS)),
    keyed(CLIENT_TLS, "crl-file", flag("client-crl-file", Text, "", Honoured)),
    // Not a flag of etcd's, whose configuration file has it.
    keyed(CLIENT_TLS, "allowed-cn", flag("client-cert-allowed-cn", List, "", Honoured)),
    keyed(CLIENT_TLS, "allowed-hostname", flag("client-cert-allowed-hostname", List, "", Honoured)),
    keyed(CLIENT_TLS, "trusted-ca-file", flag("trusted-ca-file", Text, "", Honoured)),
    keyed(CLIENT_TLS, "auto-tls", flag("auto-tls", Switch, "false", Honoured)),
    keyed(PEER_TLS, "cert-file", flag("peer-cert-file", Text, "", Honoured)),
    keyed(PEER_TLS, "key-file", flag("peer-key-file", Text, "", Honoured)),
    keyed(PEER_TLS, "client-cert-auth", flag("peer-client-cert-auth", Switch, "false", Honoured)),
    keyed(PEER_TLS, "client-cert-file", flag("peer-client-cert-file", Text, "", Honoured)),
    keyed(PEER_TLS, "client-key-file", flag("peer-client-key-file", Text, "", Honoured)),
    keyed(PEER_TLS, "trusted-ca-file", flag("peer-trusted-ca-file", Text, "", Honoured)),
    keyed(PEER_TLS, "allowed-cn", flag("peer-cert-allowed-cn", List, "", Honoured)),
    keyed(PEER_TLS, "allowed-hostname", flag("peer-cert-allowed-hostname", List, "", Honoured)),
    keyed(PEER_TLS, "auto-tls", flag("peer-auto-tls", Switch, "false", Honoured)),
    flag("self-signed-cert-validity", Integer, "1", Honoured),
    keyed(PEER_TLS, "crl-file", flag("peer-crl-file", Text, "", Honoured)),
    // Not etcd's: for the time of a move from http to https.
    flag("experimental-peer-allow-plaintext", Switch, "false", Honoured),
    flag("cipher-suites", List, "", Honoured),
    flag("cors", List, "*", Honoured),
    flag("host-whitelist", List, "*", Honoured),
    flag("tls-min-version", Text, "TLS1.2", Honoured),
    flag("tls-max-version", Text, "", Honoured),
    // Auth
    flag("auth-token", Text, "simple", Honoured),
    flag("bcrypt-cost", Integer, "10", Honoured),
    flag("auth-token-ttl", Integer, "300", Honoured),
    // Profiling and monitoring
    flag("enable-pprof", Switch, "false", Accepted("no profiles are served")),
    flag("metrics", Text, "basic", Honoured),
    flag("listen-metrics-urls", List, "", Honoured),
    // Logging
    flag("logger", Text, "zap", Refused("as in etcd, zap is the only value")),
    flag("log-outputs", List, "default", Honoured),
    flag("log-level", Text, "info", Honoured),
    flag("log-format", Text, "json", Honoured),
    flag(
        "enable-log-rotation",
        Switch,
        "false",
        Refused("logs go to stderr or stdout; rotate them where they are kept"),
    ),
    flag(
        "log-rotation-config-json",
        Text,
        r#"{"maxsize":100,"maxage":0,"maxbackups":0,"localtime":false,"compress":false}"#,
        Accepted("logs go to stderr or stdout, which are not rotated"),
    ),
    // Not etcd's: who did what.
    flag("audit-log", Text, "", Honoured),
    flag("audit-reads", Switch, "false", Honoured),
    formerly_experimental(flag("warning-unary-request-duration", Duration, "300ms", Honoured)),
    // Distributed tracing
    formerly_experimental(flag("enable-distributed-tracing", Switch, "false", NO_TRACES)),
    formerly_experimental(flag("distributed-tracing-address", Text, "localhost:4317", NO_TRACES)),
    formerly_experimental(flag("distributed-tracing-service-name", Text, "etcd", NO_TRACES)),
    formerly_experimental(flag("distributed-tracing-instance-id", Text, "", NO_TRACES)),
    formerly_experimental(flag("distributed-tracing-sampling-rate", Integer, "0", NO_TRACES)),
    // The v2 proxy of etcd 3.5
    flag("proxy", Text, "off", NO_V2),
    flag("proxy-failure-wait", Integer, "5000", NO_V2_PROXY),
    flag("proxy-refresh-interval", Integer, "30000", NO_V2_PROXY),
    flag("proxy-dial-timeout", Integer, "1000", NO_V2_PROXY),
    flag("proxy-write-timeout", Integer, "5000", NO_V2_PROXY),
    flag("proxy-read-timeout", Integer, "0", NO_V2_PROXY),
    // Features
    formerly_experimental(flag("corrupt-check-time", Duration, "1h", Honoured)),
    formerly_experimental(flag("compact-hash-check-time", Duration, "1m", Honoured)),
    formerly_experimental(flag("compaction-batch-limit", Integer, "1000", COMPACTION_PACE)),
    keyed(
        PEER_TLS,
        "skip-client-san-verification",
        formerly_experimental(flag("peer-skip-client-san-verification", Switch, "false", Honoured)),
    ),
    formerly_experimental(flag("watch-progress-notify-interval", Duration, "10m", Honoured)),
    formerly_experimental(flag("warning-apply-duration", Duration, "100ms", Honoured)),
    formerly_experimental(flag("bootstrap-defrag-threshold-megabytes", Integer, "0", NO_BBOLT)),
    formerly_experimental(flag("max-learners", Integer, "1", Honoured)),
    formerly_experimental(flag("compaction-sleep-interval", Duration, "10ms", COMPACTION_PACE)),
    formerly_experimental(flag("downgrade-check-time", Duration, "5s", Accepted("there are no downgrades"))),
    keyed(
        "",
        "experimental-snapshot-catch-up-entries",
        formerly_experimental(flag("snapshot-catchup-entries", Integer, "5000", Honoured)),
    ),
    flag("experimental-initial-corrupt-check", Switch, "true", Honoured),
    flag("experimental-compact-hash-check-enabled", Switch, "true", Honoured),
    flag("experimental-enable-lease-checkpoint", Switch, "false", NO_CHECKPOINTS),
    flag("experimental-enable-lease-checkpoint-persist", Switch, "false", NO_CHECKPOINTS),
    flag("experimental-stop-grpc-service-on-defrag", Switch, "false", Accepted("nothing stops for a defragmentation")),
    flag("experimental-txn-mode-write-with-shared-buffer", Switch, "true", NO_BBOLT),
    flag("experimental-enable-v2v3", Text, "", NO_V2),
    // Unsafe
    flag(
        "force-new-cluster",
        Switch,
        "false",
        Refused(
            "a cluster that has lost its quorum is not restarted by a flag; see 'vlot recover-from-lost-quorum --help'",
        ),
    ),
    flag("unsafe-no-fsync", Switch, "false", Refused("nothing is acknowledged before it is on disk")),
    // Not etcd's
    adds_up(flag("rate-limit", Text, "", Honoured)),
    // The file that stands for all of the above
    flag("config-file", Text, "", Honoured),
];
