//! What one node is told by its operator: etcd's flags and `ETCD_*` variables, or its configuration file, read, checked and
//! typed.
//!
//! Owns the meaning of each honoured flag and the rules between flags. Must not touch disk or network, but for the
//! configuration file: whether a port is free or a directory writable is found out where it is used.

mod arguments;
mod auth;
mod checks;
mod error;
mod file;
pub(crate) mod flags;
mod peer_tls;
mod rate_limit;
mod tls;
mod values;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::audit::AuditOptions;
use crate::edge::threads_by_default;
use crate::memory::{MEMORY_BUDGET_MIN, Memory};
use arguments::Settings;
pub use auth::BadAuthToken;
pub(crate) use auth::{AuthOptions, JwtOptions, SignMethod, TokenKind};
pub(crate) use checks::CorruptionChecks;
pub use error::ConfigError;
use error::Expected;
pub use file::FileError;
pub(crate) use file::read_as_file;
pub(crate) use peer_tls::PeerTls;
pub use rate_limit::BadRule;
pub(crate) use rate_limit::{CallKind, Callers, Rule};
pub(crate) use tls::{ClientTls, OwnCertificate};
pub(crate) use values::Url;

/// Everything `vlot server` needs to know before it touches disk or network.
#[derive(Debug)]
pub struct Config {
    pub(crate) name: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) listen: Listen,
    /// How many threads serve connections.
    pub(crate) edge_threads: usize,
    /// Whether commands share entries of the log.
    pub(crate) share_entries: bool,
    /// Where clients reach this node; told to the other members.
    pub(crate) advertise_client: Vec<Url>,
    /// How clients are spoken to where an URL is https.
    pub(crate) client_tls: Option<ClientTls>,
    /// How peers are spoken to, if there is a certificate for them.
    pub(crate) peer_tls: Option<PeerTls>,
    /// Which versions and cipher suites of TLS are spoken.
    pub(crate) protocols: vlot_tls::Protocols,
    /// How long a certificate is good that this node makes for itself.
    pub(crate) self_signed_days: u32,
    pub(crate) cluster: InitialCluster,
    pub(crate) heartbeat: Duration,
    pub(crate) election_timeout: Duration,
    pub(crate) limits: Limits,
    pub(crate) memory: Memory,
    /// How often calls may be made.
    pub(crate) rate_limits: Vec<Rule>,
    pub(crate) auth: AuthOptions,
    /// Whether a change of members that endangers the quorum is refused.
    pub(crate) strict_reconfig: bool,
    pub(crate) log_kept: LogKept,
    pub(crate) keepalive: Keepalive,
    pub(crate) auto_compaction: Option<AutoCompaction>,
    pub(crate) corruption_checks: CorruptionChecks,
    pub(crate) watch_progress_interval: Duration,
    /// A call that takes longer is logged; zero turns that off.
    pub(crate) slow_call: Duration,
    /// A command that takes longer to be applied is logged.
    pub(crate) slow_apply: Duration,
    /// Whether it is counted how long calls take.
    pub(crate) extensive_metrics: bool,
    /// The hosts that HTTP/1 requests may name; `None` allows all.
    pub(crate) hosts: Option<Vec<String>>,
    /// The origins whose pages may read what is answered to HTTP requests; `None` allows all.
    pub(crate) origins: Option<Vec<String>>,
    /// Whether clients may call in JSON.
    pub(crate) has_gateway: bool,
    /// Whether and where it is told who did what.
    pub(crate) audit: Option<AuditOptions>,
    /// How much is logged, in which shape, and where.
    pub logging: Logging,
    /// Whether the node ends when its standard input does: when its parent process has ended.
    pub stop_with_parent: bool,
    /// What the operator should be told once logging is up.
    pub warnings: Vec<String>,
}

/// The addresses a node listens on.
#[derive(Debug)]
pub(crate) struct Listen {
    pub(crate) peer: Vec<Url>,
    /// gRPC, and HTTP/1 too unless `client_http` is given.
    pub(crate) client: Vec<Url>,
    /// HTTP/1 only.
    pub(crate) client_http: Vec<Url>,
    /// HTTP/1 only: metrics and health.
    pub(crate) metrics: Vec<Url>,
    pub(crate) reuse_port: bool,
    pub(crate) reuse_address: bool,
}

/// The members a cluster starts with.
#[derive(Debug)]
pub(crate) struct InitialCluster {
    /// Names and peer addresses of all members, this one included, in the order given.
    pub(crate) members: Vec<(String, Vec<Url>)>,
    pub(crate) token: String,
    /// Whether the operator says that the cluster runs already, so that a node with an empty data directory joins it.
    pub(crate) existing: bool,
}

/// What one client may ask for.
#[derive(Debug)]
pub(crate) struct Limits {
    /// Operations in each list of one transaction.
    pub(crate) txn_ops: usize,
    /// Bytes of one proposal. A request may be [`RECEIVE_SLACK`] larger before it is refused unread.
    pub(crate) request_bytes: usize,
    /// Calls in flight on one connection.
    pub(crate) streams: u32,
    /// Bytes the store may take before it accepts deletions only; `None` is no limit.
    pub(crate) quota_bytes: Option<u64>,
    /// Learners that a cluster may have.
    pub(crate) learners: usize,
    /// What the clients of one address may hold; of connections, `None` is three quarters of those that there may be.
    pub(crate) connections_per_address: Option<usize>,
    pub(crate) streams_per_address: usize,
    pub(crate) watches_per_address: usize,
    pub(crate) pending_bytes_per_address: usize,
}

/// How much of the log is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct LogKept {
    /// The log is cut when it has so many entries more than are kept for members that lag.
    pub(crate) snapshot_count: u64,
    /// So many are kept for them.
    pub(crate) catch_up: u64,
}

/// How far a request may exceed the size of a proposal before it is refused without being read to its end.
pub(crate) const RECEIVE_SLACK: usize = 512 * 1024;

/// How many heartbeats an election timeout has room for, at least; as in etcd.
const HEARTBEATS_MIN: u64 = 5;
/// The longest election timeout, in milliseconds; as in etcd.
const ELECTION_TIMEOUT_MAX: u64 = 50_000;

/// When the server asks a silent client whether it is there.
#[derive(Debug)]
pub(crate) struct Keepalive {
    /// `None` never asks.
    pub(crate) interval: Option<Duration>,
    pub(crate) timeout: Duration,
}

/// Which history is dropped without being asked to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum AutoCompaction {
    /// What is older than this.
    Periodic(Duration),
    /// All but this many of the newest revisions.
    Revision(i64),
}

/// How much is logged, in which shape, and where.
#[derive(Debug)]
pub struct Logging {
    /// What is less important is left out.
    pub level: tracing::level_filters::LevelFilter,
    /// One JSON object a line; plain text otherwise.
    pub json: bool,
    /// To standard output; to standard error otherwise.
    pub to_stdout: bool,
}

impl Config {
    /// Reads what follows `vlot server` and the environment, or the configuration file that either names.
    ///
    /// # Errors
    /// A [`ConfigError`] for the first thing that is wrong.
    pub fn read(
        arguments: impl IntoIterator<Item = String>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Config, ConfigError> {
        Config::read_with(arguments, environment, file::read_bounded)
    }

    /// [`Config::read`], with the configuration file from elsewhere than the disk.
    pub(crate) fn read_with(
        arguments: impl IntoIterator<Item = String>,
        environment: impl IntoIterator<Item = (String, String)>,
        read_file: impl FnOnce(&Path) -> std::io::Result<Vec<u8>>,
    ) -> Result<Config, ConfigError> {
        let mut settings = Settings::read(arguments, environment, read_file)?;
        Config::of(&mut settings).map_err(|error| settings.located(error))
    }

    fn of(settings: &mut Settings) -> Result<Config, ConfigError> {
        check_words(settings)?;
        let name = text(settings, "name").to_owned();
        let (heartbeat, election_timeout) = timing(settings)?;
        let listen = listen(settings)?;
        let cluster = initial_cluster(settings, &name)?;
        Ok(Config {
            data_dir: data_dir(settings, &name),
            client_tls: tls::client_tls(settings, &listen)?,
            peer_tls: peer_tls::peer_tls(settings, &listen, &cluster)?,
            protocols: tls::protocols(settings)?,
            self_signed_days: tls::self_signed_days(settings)?,
            listen,
            edge_threads: edge_threads(settings)?,
            share_entries: is_on(settings, "share-entries"),
            advertise_client: advertise_client(settings)?,
            cluster,
            heartbeat,
            election_timeout,
            limits: limits(settings)?,
            memory: memory(settings)?,
            rate_limits: rate_limits(settings)?,
            auth: auth::auth_options(settings)?,
            strict_reconfig: is_on(settings, "strict-reconfig-check"),
            log_kept: LogKept {
                snapshot_count: at_least(settings, "snapshot-count", 1)?,
                catch_up: at_least(settings, "snapshot-catchup-entries", 1)?,
            },
            keepalive: keepalive(settings),
            auto_compaction: auto_compaction(settings)?,
            corruption_checks: checks::corruption_checks(settings),
            watch_progress_interval: watch_progress_interval(settings)?,
            slow_call: span(settings, "warning-unary-request-duration"),
            slow_apply: span(settings, "warning-apply-duration"),
            // As in etcd, any other text means the usual ones.
            extensive_metrics: text(settings, "metrics") == "extensive",
            hosts: hosts(settings),
            origins: origins(settings)?,
            has_gateway: is_on(settings, "enable-grpc-gateway"),
            audit: audit(settings)?,
            logging: logging(settings)?,
            stop_with_parent: settings.stop_with_parent,
            warnings: std::mem::take(&mut settings.warnings),
            name,
        })
    }

    /// How long a call may wait for the cluster: etcd's 5 s and two election timeouts.
    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout
    }
}

/// The text of `vlot server --help`: the table of flags.
pub fn help() -> String {
    let mut text = String::from(
        "Usage: vlot server [flags]\n\nStarts one node. Flags are etcd's, each also as a variable ETCD_<FLAG>. With --config-file \
         they are all read\nfrom that file, which is etcd's: YAML, with the names of flags as its keys. Other flags and variables \
         have no effect then.\n\n",
    );
    for flag in flags::FLAGS {
        let fate = match flag.treatment {
            flags::Treatment::Honoured => String::new(),
            flags::Treatment::Accepted(why) => format!("  (no effect: {why})"),
            flags::Treatment::Refused(why) => format!("  (not supported: {why})"),
        };
        text.push_str(&format!("  --{} '{}'{fate}\n", flag.name, flag.default));
    }
    text
}

fn timing(settings: &Settings) -> Result<(Duration, Duration), ConfigError> {
    let heartbeat = at_least(settings, "heartbeat-interval", 1)?;
    let election = at_least(settings, "election-timeout", 1)?;
    if election < heartbeat.saturating_mul(HEARTBEATS_MIN) {
        return Err(ConfigError::ElectionTimeoutTooShort { election, heartbeat, heartbeats_min: HEARTBEATS_MIN });
    }
    if election > ELECTION_TIMEOUT_MAX {
        return Err(ConfigError::ElectionTimeoutTooLong { election, election_max: ELECTION_TIMEOUT_MAX });
    }
    Ok((Duration::from_millis(heartbeat), Duration::from_millis(election)))
}

fn data_dir(settings: &Settings, name: &str) -> PathBuf {
    match text(settings, "data-dir") {
        "" => PathBuf::from(format!("{name}.etcd")),
        given => PathBuf::from(given),
    }
}

fn listen(settings: &Settings) -> Result<Listen, ConfigError> {
    let listen = Listen {
        peer: bindable(settings, "listen-peer-urls")?,
        client: bindable(settings, "listen-client-urls")?,
        client_http: bindable(settings, "listen-client-http-urls")?,
        metrics: bindable(settings, "listen-metrics-urls")?,
        reuse_port: is_on(settings, "socket-reuse-port"),
        reuse_address: is_on(settings, "socket-reuse-address"),
    };
    for (urls, flag) in [(&listen.peer, "listen-peer-urls"), (&listen.client, "listen-client-urls")] {
        if urls.is_empty() {
            return Err(ConfigError::NoAddress { flag });
        }
    }
    Ok(listen)
}

/// A node gains nothing by more threads, and each costs a little.
const EDGE_THREADS_MAX: usize = 1024;

fn edge_threads(settings: &Settings) -> Result<usize, ConfigError> {
    let threads = match at_least(settings, "edge-threads", 0)? {
        0 => threads_by_default(),
        given => saturated(given),
    };
    Ok(threads.min(EDGE_THREADS_MAX))
}

fn advertise_client(settings: &mut Settings) -> Result<Vec<Url>, ConfigError> {
    const FLAG: &str = "advertise-client-urls";
    if settings.given("listen-client-urls").is_some() && settings.given(FLAG).is_none() {
        // As in etcd, a file may leave it away; clients are told a wrong address then.
        let Some(source) = &settings.source else { return Err(ConfigError::NotAdvertised) };
        let (place, told) = (source.place_of("listen-client-urls"), text(settings, FLAG));
        settings.warnings.push(format!("{place}{FLAG} is missing, so that clients are told {told}"));
    }
    urls(settings, "advertise-client-urls")
}

/// The members named by `--initial-cluster`, among which this node must find itself under its name and addresses.
fn initial_cluster(settings: &Settings, name: &str) -> Result<InitialCluster, ConfigError> {
    let own = urls(settings, "initial-advertise-peer-urls")?;
    if own.is_empty() {
        return Err(ConfigError::NoAddress { flag: "initial-advertise-peer-urls" });
    }
    let members = match text(settings, "initial-cluster") {
        "" => vec![(name.to_owned(), own.clone())],
        given => named_members(given)?,
    };
    let Some((_, listed)) = members.iter().find(|(member, _)| member == name) else {
        return Err(ConfigError::NotAMember { name: name.to_owned() });
    };
    if sorted(listed) != sorted(&own) {
        return Err(ConfigError::OtherPeerUrls { name: name.to_owned(), listed: listed.clone(), own });
    }
    let existing = match text(settings, "initial-cluster-state") {
        "new" => false,
        "existing" => true,
        other => return Err(invalid("initial-cluster-state", other, "new or existing")),
    };
    Ok(InitialCluster { members, token: text(settings, "initial-cluster-token").to_owned(), existing })
}

/// Reads `name=url,name=url`. A name may come several times: a member with several addresses.
fn named_members(given: &str) -> Result<Vec<(String, Vec<Url>)>, ConfigError> {
    let mut members: Vec<(String, Vec<Url>)> = Vec::new();
    for pair in given.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, url) = pair
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| invalid("initial-cluster", given, "a list of name=http://host:port"))?;
        let url = Url::parse(url).map_err(|error| unexpected("initial-cluster", given, Expected::MemberUrl(error)))?;
        if let Some((holder, _)) = members.iter().find(|(_, urls)| urls.contains(&url)) {
            return Err(ConfigError::SharedUrl { url, holder: holder.clone(), other: name.to_owned() });
        }
        match members.iter_mut().find(|(member, _)| member == name) {
            Some((_, urls)) => urls.push(url),
            None => members.push((name.to_owned(), vec![url])),
        }
    }
    Ok(members)
}

fn limits(settings: &Settings) -> Result<Limits, ConfigError> {
    let quota = match integer(settings, "quota-backend-bytes") {
        0 => Some(2 << 30),
        negative if negative < 0 => None,
        bytes => Some(bytes.unsigned_abs()),
    };
    let streams = at_least(settings, "max-concurrent-streams", 1)?;
    Ok(Limits {
        txn_ops: saturated(at_least(settings, "max-txn-ops", 1)?),
        request_bytes: saturated(at_least(settings, "max-request-bytes", 1)?),
        streams: u32::try_from(streams).unwrap_or(u32::MAX),
        quota_bytes: quota,
        learners: saturated(at_least(settings, "max-learners", 1)?),
        connections_per_address: Some(at_least(settings, "max-connections-per-address", 0)?)
            .filter(|connections| *connections > 0)
            .map(saturated),
        streams_per_address: saturated(at_least(settings, "max-streams-per-address", 1)?),
        watches_per_address: saturated(at_least(settings, "max-watches-per-address", 1)?),
        pending_bytes_per_address: saturated(at_least(settings, "max-pending-bytes-per-address", 1)?),
    })
}

fn memory(settings: &Settings) -> Result<Memory, ConfigError> {
    const BUDGET: &str = "memory-budget";
    let values = saturated(at_least(settings, "value-cache-bytes", 0)?);
    if integer(settings, BUDGET) == 0 {
        return Ok(Memory { values, ..Memory::default() });
    }
    let divided = Memory::divided(saturated(at_least(settings, BUDGET, MEMORY_BUDGET_MIN)?));
    let is_given = settings.given("value-cache-bytes").is_some();
    Ok(if is_given { Memory { values, ..divided } } else { divided })
}

fn rate_limits(settings: &Settings) -> Result<Vec<Rule>, ConfigError> {
    let given = text(settings, "rate-limit");
    Rule::parse_list(given).map_err(|bad| unexpected("rate-limit", given, Expected::Rule(bad)))
}

fn keepalive(settings: &Settings) -> Keepalive {
    let interval = Some(span(settings, "grpc-keepalive-interval")).filter(|interval| !interval.is_zero());
    Keepalive { interval, timeout: span(settings, "grpc-keepalive-timeout") }
}

fn auto_compaction(settings: &Settings) -> Result<Option<AutoCompaction>, ConfigError> {
    let (mode, retention) = (text(settings, "auto-compaction-mode"), text(settings, "auto-compaction-retention"));
    let bare: Option<u32> = retention.parse().ok();
    let unknown = || invalid("auto-compaction-mode", mode, "periodic or revision");
    match mode {
        // Also where nothing is to be compacted: a slip of the pen is found at the first start.
        other if !matches!(other, "periodic" | "revision" | "") => Err(unknown()),
        _ if retention.is_empty() || bare == Some(0) => Ok(None),
        "revision" => match bare {
            Some(kept) => Ok(Some(AutoCompaction::Revision(kept.into()))),
            None => Err(invalid("auto-compaction-retention", retention, "a number of revisions")),
        },
        "periodic" => {
            let hours = bare.map(|hours| Duration::from_secs(3600) * hours);
            match hours.or_else(|| values::duration(retention)) {
                Some(period) if period.is_zero() => Ok(None),
                Some(period) => Ok(Some(AutoCompaction::Periodic(period))),
                None => Err(invalid("auto-compaction-retention", retention, "hours, or a duration such as 10m")),
            }
        }
        _ => Err(unknown()),
    }
}

/// What is not used, and must be one of a few words all the same, as in etcd.
fn check_words(settings: &Settings) -> Result<(), ConfigError> {
    match text(settings, "v2-deprecation") {
        "" | "not-yet" | "write-only" | "write-only-drop-data" | "gone" => Ok(()),
        other => Err(invalid("v2-deprecation", other, "not-yet, write-only, write-only-drop-data or gone")),
    }
}

fn watch_progress_interval(settings: &Settings) -> Result<Duration, ConfigError> {
    let interval = span(settings, "watch-progress-notify-interval");
    if interval < Duration::from_millis(100) {
        let given = text(settings, "watch-progress-notify-interval");
        return Err(invalid("watch-progress-notify-interval", given, "at least 100ms"));
    }
    Ok(interval)
}

fn hosts(settings: &Settings) -> Option<Vec<String>> {
    let hosts: Vec<String> = text(settings, "host-whitelist").split(',').map(|host| host.trim().to_owned()).collect();
    let all = hosts.iter().any(|host| host == "*") || hosts.iter().all(String::is_empty);
    if all { None } else { Some(hosts) }
}

fn origins(settings: &Settings) -> Result<Option<Vec<String>>, ConfigError> {
    let given = text(settings, "cors");
    if given == "*" {
        return Ok(None);
    }
    let is_origin = |origin: &str| {
        let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@', '*']))
    };
    let origins: Vec<String> = given.split(',').map(|origin| origin.trim().to_owned()).collect();
    if origins.iter().all(|origin| is_origin(origin)) {
        Ok(Some(origins))
    } else {
        Err(invalid("cors", given, "* or a list of http://host:port"))
    }
}

fn audit(settings: &Settings) -> Result<Option<AuditOptions>, ConfigError> {
    let reads = is_on(settings, "audit-reads");
    match text(settings, "audit-log") {
        "" if reads => Err(ConfigError::Missing { flag: "audit-reads", needs: "audit-log" }),
        "" => Ok(None),
        "-" => Ok(Some(AuditOptions { path: None, reads })),
        path => Ok(Some(AuditOptions { path: Some(path.into()), reads })),
    }
}

fn logging(settings: &Settings) -> Result<Logging, ConfigError> {
    use tracing::level_filters::LevelFilter;
    let level = match text(settings, "log-level") {
        "debug" => LevelFilter::DEBUG,
        "info" | "" => LevelFilter::INFO,
        "warn" => LevelFilter::WARN,
        "error" | "dpanic" | "panic" | "fatal" => LevelFilter::ERROR,
        other => return Err(invalid("log-level", other, "debug, info, warn, error, panic or fatal")),
    };
    let json = match text(settings, "log-format") {
        "json" => true,
        "console" => false,
        other => return Err(invalid("log-format", other, "json or console")),
    };
    let to_stdout = match text(settings, "log-outputs") {
        "default" | "stderr" => false,
        "stdout" => true,
        other => return Err(invalid("log-outputs", other, "default, stderr or stdout")),
    };
    Ok(Logging { level, json, to_stdout })
}

/// What a flag is set to, or its default. The names used here are those of the table, which a test checks.
fn text<'s>(settings: &'s Settings, name: &str) -> &'s str {
    let default = || flags::find(name).map_or("", |(flag, _)| flag.default);
    settings.given(name).unwrap_or_else(default)
}

// The next three read what `arguments.rs` has checked for its form already.
fn integer(settings: &Settings, name: &str) -> i64 {
    text(settings, name).parse().unwrap_or_default()
}

fn span(settings: &Settings, name: &str) -> Duration {
    values::duration(text(settings, name)).unwrap_or_default()
}

fn is_on(settings: &Settings, name: &str) -> bool {
    values::switch(text(settings, name)).unwrap_or_default()
}

fn at_least(settings: &Settings, name: &'static str, smallest: u64) -> Result<u64, ConfigError> {
    let value = u64::try_from(integer(settings, name)).ok().filter(|value| *value >= smallest);
    value.ok_or_else(|| unexpected(name, text(settings, name), Expected::AtLeast(smallest)))
}

fn saturated(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn urls(settings: &Settings, name: &'static str) -> Result<Vec<Url>, ConfigError> {
    let given = text(settings, name);
    Url::parse_list(given).map_err(|error| unexpected(name, given, Expected::Urls(error)))
}

fn bindable(settings: &Settings, name: &'static str) -> Result<Vec<Url>, ConfigError> {
    let urls = urls(settings, name)?;
    match urls.iter().find(|url| url.bind_address().is_none()) {
        Some(url) => Err(invalid(name, &url.to_string(), "an IP address or localhost to listen on")),
        None => Ok(urls),
    }
}

/// Reads a text as what a flag may hold, for fuzzers.
///
/// # Panics
/// If something does not hold that must.
pub(crate) fn read_texts(text: &str) {
    if let Some(duration) = values::duration(text) {
        assert!(values::duration(&format!("{}ns", duration.as_nanos())).is_some() || duration.as_secs() > 1 << 40);
    }
    values::switch(text);
    if let Ok(members) = named_members(text) {
        assert!(members.iter().all(|(name, urls)| !name.is_empty() && !urls.is_empty()));
    }
}

fn sorted(urls: &[Url]) -> Vec<Url> {
    let mut urls = urls.to_vec();
    urls.sort();
    urls
}

fn invalid(flag: &'static str, value: &str, form: &'static str) -> ConfigError {
    unexpected(flag, value, Expected::Form(form))
}

fn unexpected(flag: &'static str, value: &str, expected: Expected) -> ConfigError {
    ConfigError::Invalid { flag, value: value.to_owned(), expected }
}

#[cfg(test)]
mod tests;
