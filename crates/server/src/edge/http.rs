//! The plain HTTP endpoints: health, readiness, version, metrics.
//!
//! Owns their paths and their shapes, which operators' tools rely on. Must not know how a reply gets on the wire.

use std::fmt;

use http::header::{ALLOW, CONTENT_TYPE, HOST, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tracing::warn;
use vlot_proto::etcdserverpb::AlarmType;

use super::body::Body;
use crate::service::{ETCD_VERSION, Services};
use crate::status::Status;
use crate::store_group::StoreFailure;
use crate::telemetry::debug_vars::debug_vars;
use crate::telemetry::exposition::exposition;
use crate::telemetry::metrics::{Check, Probe};

/// Answers a request that is no call.
pub(super) async fn answer<B>(services: &Services, request: &Request<B>) -> Response<Body> {
    let Some(endpoint) = Endpoint::of_path(request.uri().path()) else { return not_found() };
    if !endpoint.allows(request.method()) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return response;
    }
    let query = Query::of(request.uri().query().unwrap_or_default());
    match endpoint {
        Endpoint::Health => health(services, &query).await,
        Endpoint::Version => json(StatusCode::OK, version()),
        Endpoint::Metrics => metrics(services).await,
        Endpoint::DebugVars => variables(services),
        Endpoint::Checks(probe, checks) => report(services, probe, checks, &query).await,
    }
}

/// The reply to a path that is not served.
pub(super) fn not_found() -> Response<Body> {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// The reply to a request that names a host that it may not name.
pub(super) fn misdirected() -> Response<Body> {
    text(StatusCode::MISDIRECTED_REQUEST, "the host is not in --host-whitelist\n")
}

/// Whether a request names one of the hosts that it may name; any, if there are none.
pub(super) fn is_for_one_of<B>(hosts: Option<&[String]>, request: &Request<B>) -> bool {
    hosts.is_none_or(|hosts| names_one_of(hosts, request))
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Endpoint {
    Health,
    Version,
    Metrics,
    DebugVars,
    Checks(Probe, &'static [Check]),
}

impl Endpoint {
    fn of_path(path: &str) -> Option<Endpoint> {
        use Check::{DataCorruption, LinearizableRead, NonLearner, SerializableRead};
        use Probe::{Live, Ready};
        Some(match path {
            "/health" => Endpoint::Health,
            "/version" => Endpoint::Version,
            "/metrics" => Endpoint::Metrics,
            "/debug/vars" => Endpoint::DebugVars,
            "/livez" => Endpoint::Checks(Live, &[SerializableRead]),
            "/readyz" => Endpoint::Checks(Ready, &[DataCorruption, SerializableRead, LinearizableRead, NonLearner]),
            "/livez/serializable_read" => Endpoint::Checks(Live, &[SerializableRead]),
            "/readyz/serializable_read" => Endpoint::Checks(Ready, &[SerializableRead]),
            "/readyz/linearizable_read" => Endpoint::Checks(Ready, &[LinearizableRead]),
            "/readyz/data_corruption" => Endpoint::Checks(Ready, &[DataCorruption]),
            "/readyz/non_learner" => Endpoint::Checks(Ready, &[NonLearner]),
            _ => return None,
        })
    }

    /// Whether it answers this method: as in etcd, GET and nothing else, not HEAD either; metrics answer any.
    fn allows(self, method: &Method) -> bool {
        self == Endpoint::Metrics || method == Method::GET
    }
}

async fn run(check: Check, services: &Services) -> Result<(), CheckFailed> {
    match check {
        // A node stops when its own data is damaged. What it cannot see by itself the members find together.
        Check::DataCorruption if services.store_group.alarms().borrow().has(AlarmType::Corrupt) => {
            Err(CheckFailed::Corrupt)
        }
        Check::DataCorruption => Ok(()),
        Check::NonLearner if services.store_group.is_learner() => Err(CheckFailed::Learner),
        Check::NonLearner => Ok(()),
        Check::SerializableRead | Check::LinearizableRead if services.store_group.is_witness() => {
            Err(CheckFailed::Read(Status::WITNESS))
        }
        Check::SerializableRead => match services.store_group.failure().await {
            None => services.store_group.probe(false).await.map_err(CheckFailed::Read),
            Some(failure) => Err(CheckFailed::Store(failure)),
        },
        Check::LinearizableRead => services.store_group.probe(true).await.map_err(CheckFailed::Read),
    }
}

/// Why a check does not hold.
#[derive(Debug)]
enum CheckFailed {
    /// A member has other data than the others.
    Corrupt,
    /// The node is a learner.
    Learner,
    /// The store can write nothing more.
    Store(StoreFailure),
    /// The cluster has not confirmed a read.
    Read(Status),
}

impl fmt::Display for CheckFailed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt => out.write_str("alarm activated: CORRUPT"),
            Self::Learner => out.write_str("not supported for learner"),
            Self::Store(failure) => failure.fmt(out),
            Self::Read(status) => out.write_str(&status.message),
        }
    }
}

impl std::error::Error for CheckFailed {}

/// `/health`: one line of JSON; `health` is a string there, not a boolean. etcd calls it plain text.
async fn health(services: &Services, query: &Query<'_>) -> Response<Body> {
    let disk = services.store_group.disk();
    let excludes = |alarm: &str| query.values("exclude").any(|excluded| excluded == alarm);
    let alarm = services.store_group.alarms().borrow().list(AlarmType::None.into()).into_iter().find_map(|alarm| {
        let name = AlarmType::try_from(alarm.alarm).map_or("UNKNOWN", |kind| kind.as_str_name());
        (!excludes(name)).then(|| format!("ALARM {name}"))
    });
    let is_witness = services.store_group.is_witness();
    let reason = match query.flag("serializable") {
        _ if alarm.is_some() => alarm,
        // It answers no read. What it is there for is its vote.
        _ if is_witness => (!services.store_group.has_leader()).then(|| "RAFT NO LEADER".to_owned()),
        // The same name while there is no alarm yet.
        _ if (disk.is_full || !services.store_group.has_room()) && !excludes("NOSPACE") => {
            Some("ALARM NOSPACE".to_owned())
        }
        _ if disk.has_stalled && !excludes("DISK_STALLED") => Some("DISK_STALLED".to_owned()),
        true => match services.store_group.failure().await {
            Some(failure) => Some(failure.to_string()),
            None => services.store_group.probe(false).await.err().map(range_error),
        },
        false if !services.store_group.has_leader() => Some("RAFT NO LEADER".to_owned()),
        false => services.store_group.probe(true).await.err().map(range_error),
    };
    services.metrics.health_checked(reason.is_none());
    match reason {
        None if is_witness => plain(StatusCode::OK, r#"{"health":"true","reason":"witness"}"#),
        None => plain(StatusCode::OK, r#"{"health":"true","reason":""}"#),
        Some(reason) => {
            warn!(reason, "/health answers that the node is unhealthy");
            let reason = serde_json::Value::from(reason);
            plain(StatusCode::SERVICE_UNAVAILABLE, format!(r#"{{"health":"false","reason":{reason}}}"#))
        }
    }
}

fn range_error(status: Status) -> String {
    format!("RANGE ERROR:{}", status.message)
}

/// `/livez` and `/readyz`: `ok`, or which checks fail; with `?verbose` all of them by name.
async fn report(services: &Services, probe: Probe, checks: &[Check], query: &Query<'_>) -> Response<Body> {
    let mut lines = String::new();
    let mut failed = false;
    for check in checks {
        let name = check.name();
        if query.values("exclude").any(|excluded| excluded == name) {
            continue;
        }
        let outcome = run(*check, services).await;
        services.metrics.checks.done(probe, *check, outcome.is_ok());
        match outcome {
            Ok(()) => lines.push_str(&format!("[+]{name} ok\n")),
            Err(why) => {
                failed = true;
                lines.push_str(&format!("[-]{name} failed: {why}\n"));
            }
        }
    }
    match failed {
        true => text(StatusCode::SERVICE_UNAVAILABLE, lines),
        false if query.flag("verbose") => text(StatusCode::OK, lines + "ok\n"),
        false => text(StatusCode::OK, "ok\n"),
    }
}

fn version() -> String {
    format!(r#"{{"etcdserver":"{ETCD_VERSION}","etcdcluster":"{ETCD_VERSION}","storage":"{ETCD_VERSION}"}}"#)
}

fn variables(services: &Services) -> Response<Body> {
    let mut response = plain(StatusCode::OK, debug_vars(services));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    response
}

async fn metrics(services: &Services) -> Response<Body> {
    let mut response = plain(StatusCode::OK, exposition(services).await);
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// Whether a request names one of these hosts, its port aside. HTTP/2 has the name in the URI.
fn names_one_of<B>(hosts: &[String], request: &Request<B>) -> bool {
    let header = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let authority = request.uri().authority().map(|authority| authority.as_str()).or(header).unwrap_or_default();
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    hosts.iter().any(|allowed| allowed == host)
}

/// The part of an URL after the question mark.
struct Query<'q>(&'q str);

impl<'q> Query<'q> {
    fn of(query: &'q str) -> Query<'q> {
        Query(query)
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &'q str> {
        let pairs = self.0.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.filter(move |(key, _)| *key == name).map(|(_, value)| value)
    }

    /// Whether `name` is there, alone or with any value but `false`.
    fn flag(&self, name: &str) -> bool {
        self.values(name).any(|value| value != "false")
    }
}

fn json(status: StatusCode, body: String) -> Response<Body> {
    let mut response = plain(status, body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Text that a browser is not to take for anything else.
fn text(status: StatusCode, body: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = plain(status, body);
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn plain(status: StatusCode, body: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::text(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_etcd() {
        for path in ["/health", "/version", "/metrics", "/livez", "/readyz", "/readyz/linearizable_read"] {
            assert!(Endpoint::of_path(path).is_some(), "{path}");
        }
        for path in ["/", "/healthz", "/v3/kv/range", "/health/", "/livez/linearizable_read"] {
            assert!(Endpoint::of_path(path).is_none(), "{path}");
        }
    }

    #[test]
    fn health_is_asked_by_get_and_metrics_by_anything() {
        for (path, method, expected) in [
            ("/health", Method::GET, true),
            ("/health", Method::HEAD, false),
            ("/livez", Method::HEAD, false),
            ("/version", Method::POST, false),
            ("/metrics", Method::HEAD, true),
            ("/metrics", Method::DELETE, true),
        ] {
            assert_eq!(Endpoint::of_path(path).unwrap().allows(&method), expected, "{method} {path}");
        }
    }

    #[test]
    fn versions_are_plain_numbers() {
        let version: serde_json::Value = serde_json::from_str(&version()).unwrap();
        for name in ["etcdserver", "etcdcluster", "storage"] {
            let numbers = version[name].as_str().unwrap().split('.').map(str::parse::<u32>);
            assert_eq!(numbers.filter(Result::is_ok).count(), 3, "{name}");
        }
    }

    #[test]
    fn a_query_has_flags_and_repeated_values() {
        let query = Query::of("verbose&exclude=a&exclude=b&serializable=false");
        assert!(query.flag("verbose") && !query.flag("serializable") && !query.flag("other"));
        assert_eq!(query.values("exclude").collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_host_is_compared_without_its_port() {
        let hosts = ["example.com".to_owned(), "[::1]".to_owned()];
        let request = |host: &str| Request::builder().uri("/health").header(HOST, host).body(()).unwrap();
        let rows = [("example.com", true), ("example.com:2379", true), ("[::1]:2379", true), ("evil.example", false)];
        for (host, expected) in rows {
            assert_eq!(names_one_of(&hosts, &request(host)), expected, "{host}");
        }
        let http2 = Request::builder().uri("http://example.com:1/health").body(()).unwrap();
        assert!(names_one_of(&hosts, &http2));
    }
}
