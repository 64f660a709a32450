//! The JSON gateway: from a path below `/v3/` and JSON to a service function, and back to JSON.
//!
//! Owns the gateway's protocol: paths, headers, the status line, the shape of failures and of streams. Must not know what an
//! RPC does; what its messages look like is in their tables.

mod failure;
mod paths;
mod reply;
mod requests;

use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use tracing::warn;
use vlot_proto::descriptors;

use self::failure::{http_status, push_error};
use self::requests::{JsonRequests, OneRequest};
use super::body::Body;
use super::connection::{Connection, Received};
use super::request_body::RequestBody;
use super::{Edge, call};
use crate::auth::Credentials;
use crate::conversation::{Messages, Waiting};
use crate::json;
use crate::rpc::Rpc;
use crate::service::{Caller, Reply};
use crate::status::{Code, Status};
use crate::telemetry::metrics::Tally;

pub(super) use reply::{Incomplete, JsonBody};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// etcd's gateway is a client of its own gRPC server, and shows the headers that it got from there.
const GRPC_CONTENT_TYPE: HeaderName = HeaderName::from_static("grpc-metadata-content-type");
/// A longer message is turned into JSON in pieces, so that other clients need not wait.
const SHORT_BYTES_MAX: usize = 64 * 1024;

/// Whether a path is the gateway's.
pub(super) fn is_below_v3(path: &str) -> bool {
    paths::below_v3(path).is_some()
}

/// Answers one call, streaming or not.
pub(super) async fn answer(
    edge: Arc<Edge>,
    connection: Arc<Connection>,
    request: Request<RequestBody>,
) -> Response<Body> {
    let rpc_path = paths::below_v3(request.uri().path()).and_then(paths::rpc_path);
    let known = rpc_path.and_then(|path| Some((Rpc::of_path(path)?, descriptors::method(path)?)));
    let Some((rpc, method)) = known else { return failed(&Status::new(Code::NotFound, "Not Found")) };
    if request.method() != Method::POST {
        return failed(&Status::new(Code::Unimplemented, "Method Not Allowed"));
    }
    let metrics = edge.services.metrics.clone();
    metrics.clients.called(client_version(request.headers()), rpc.kind());
    let caller = caller(request.headers(), &connection);
    let call = Call { edge: edge.clone(), connection, caller, rpc, method };
    if method.is_server_streaming {
        return call.stream(request).await.unwrap_or_else(|status| {
            metrics.calls.begin(rpc).end(status.code);
            failed(&status)
        });
    }
    let handling = metrics.calls.begin(rpc);
    let outcome = call.unary(request).await;
    let status = outcome.as_ref().err().map_or(Code::Ok, |status| status.code);
    let took = handling.end(status);
    if status == Code::Ok {
        metrics.upkeep.answered(rpc, took);
    }
    if took > edge.slow_call && !edge.slow_call.is_zero() {
        warn!(method = rpc.path(), ?took, ?status, "slow call");
    }
    outcome.map_or_else(|status| failed(&status), |reply| call.replied(reply))
}

/// One call.
struct Call {
    edge: Arc<Edge>,
    connection: Arc<Connection>,
    caller: Caller,
    rpc: Rpc,
    method: &'static descriptors::Method,
}

impl Call {
    async fn unary(&self, request: Request<RequestBody>) -> Result<Reply, Status> {
        let (parts, body) = request.into_parts();
        let call = async {
            let message = self.requests(body).one().await?;
            self.edge.services.metrics.calls.received(self.rpc, message.len());
            self.edge.services.call(self.rpc, &self.caller, message).await
        };
        in_time(deadline(&parts.headers)?, call).await
    }

    fn replied(&self, reply: Reply) -> Response<Body> {
        let message = self.method.response;
        let length = match &reply {
            Reply::Message(bytes) => bytes.len(),
            Reply::Long(answer) => answer.length() as usize,
        };
        self.edge.services.metrics.calls.sent(self.rpc, length);
        let share = &self.caller.share;
        match reply {
            Reply::Message(bytes) if bytes.len() <= SHORT_BYTES_MAX => match json::encode(message, &bytes) {
                Ok(json) => succeeded(Body::text(share.keep(json.into()))),
                Err(error) => failed(&Status::new(Code::Internal, format!("vlot: the reply is {error}"))),
            },
            Reply::Message(bytes) => succeeded(Body::json(JsonBody::whole(message, share.keep(bytes)))),
            Reply::Long(answer) => {
                let slices = call::slices(*answer, share.clone());
                succeeded(Body::json(JsonBody::slices(message, length, slices)))
            }
        }
    }

    /// Starts a stream, and waits for what it begins with: before that nobody knows how it goes. `Err` is a failure before
    /// it has started.
    async fn stream(&self, request: Request<RequestBody>) -> Result<Response<Body>, Status> {
        let (parts, body) = request.into_parts();
        let within = deadline(&parts.headers)?;
        let caller = self.caller.clone();
        let mut requests = self.requests(body);
        let mut replies = if self.method.is_client_streaming {
            call::converse(&self.edge, self.rpc, caller, within, expired(), requests)
        } else {
            let request = in_time(within, requests.one()).await?;
            call::converse(&self.edge, self.rpc, caller, within, expired(), OneRequest(Some(request)))
        };
        let first = replies.recv().await.unwrap_or(Err(Status::CANCELED));
        Ok(self.begun(first, replies))
    }

    fn begun(&self, first: Result<Messages, Status>, following: Waiting) -> Response<Body> {
        let message = self.method.response;
        let tally = Tally { metrics: self.edge.services.metrics.clone(), rpc: self.rpc };
        match first.map(|batch| reply::lines(message, &tally, &batch.into_bytes())) {
            Ok(Ok(lines)) => succeeded(Body::json(JsonBody::lines(lines, following, message, tally))),
            Ok(Err(error)) => failed(&Status::new(Code::Internal, format!("vlot: the reply is {error}"))),
            Err(status) => {
                let body = reply::last_line(&status).map_or_else(Body::empty, Body::text);
                response(http_status(status.code), body)
            }
        }
    }

    fn requests(&self, body: RequestBody) -> JsonRequests {
        let has_one = !self.method.is_client_streaming;
        let received = Received::new(body, self.connection.clone(), self.edge.services.metrics.clone(), has_one);
        JsonRequests::new(received, self.method.request, self.edge.message_bytes_max)
    }
}

async fn in_time<T>(within: Option<Duration>, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    match within {
        None => call.await,
        Some(within) => tokio::time::timeout(within, call).await.unwrap_or(Err(expired())),
    }
}

/// etcd's gateway itself stops to wait, in words of its own.
fn expired() -> Status {
    Status::new(Code::DeadlineExceeded, "context deadline exceeded")
}

fn client_version(headers: &HeaderMap) -> Option<&str> {
    headers.get("grpc-metadata-client-api-version").and_then(|version| version.to_str().ok())
}

/// What gRPC has as metadata stands in headers of the gateway's prefix. Certificates say nothing here: who holds the
/// connection may be a proxy, which speaks for others.
pub(super) fn caller(headers: &HeaderMap, connection: &Connection) -> Caller {
    let requires_leader = headers.get("grpc-metadata-hasleader").is_some_and(|value| value == "true");
    let names = ["grpc-metadata-token", "authorization", "grpc-metadata-authorization"];
    let token = names.iter().find_map(|name| headers.get(*name)).map(HeaderValue::as_bytes);
    let credentials = Credentials::default().with_token(token);
    Caller { from: connection.from, share: connection.share().clone(), requires_leader, identity: None, credentials }
}

/// How long the client waits; for ever if it says that it does not wait at all, as in etcd.
fn deadline(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get("grpc-timeout").filter(|value| !value.is_empty()) else { return Ok(None) };
    let within = value.to_str().ok().and_then(|text| call::parse_timeout(text).ok()).ok_or_else(|| {
        let shown = String::from_utf8_lossy(value.as_bytes());
        Status::new(Code::InvalidArgument, format!("invalid grpc-timeout: {shown}"))
    })?;
    Ok(Some(within).filter(|within| !within.is_zero()))
}

fn succeeded(body: Body) -> Response<Body> {
    let mut response = response(StatusCode::OK, body);
    response.headers_mut().insert(GRPC_CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

pub(super) fn failed(status: &Status) -> Response<Body> {
    let mut body = Vec::new();
    push_error(&mut body, status);
    response(http_status(status.code), Body::text(body))
}

fn response(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}
