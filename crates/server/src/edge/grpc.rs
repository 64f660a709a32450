//! gRPC over HTTP/2: from a request's path and messages to a service function, and back to a reply with a status.
//!
//! Owns the gRPC protocol: content type, deadline, message framing, status. Must not know what an RPC does, or what
//! its bytes mean.

use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tracing::warn;

use super::Edge;
use super::body::{Body, trailers};
use super::call;
use super::compression::{Encoding, GRPC_ENCODING};
use super::connection::{Connection, Received};
use super::requests::GrpcRequests;
use crate::auth::Credentials;
use crate::conversation::Requests;
use crate::rpc::{Kind, Rpc};
use crate::service::{Caller, LongAnswer, Reply};
use crate::status::{Code, Status};
use crate::telemetry::metrics::Tally;

// To look a header up by a name that is parsed already costs half as much, and each call has five looked up.
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const HAS_LEADER: HeaderName = HeaderName::from_static("hasleader");
const TOKEN: HeaderName = HeaderName::from_static("token");
const CLIENT_API_VERSION: HeaderName = HeaderName::from_static("client-api-version");
const CONTENT_TYPE_GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
/// Whether a request claims to be a gRPC call.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let rest = content_type.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Answers one call, streaming or not.
pub(super) async fn answer(edge: Arc<Edge>, connection: Arc<Connection>, request: Request<Incoming>) -> Response<Body> {
    if request.method() != Method::POST {
        return not_a_post(request.method());
    }
    // A query is a part of the name, and no name has one.
    let path = request.uri().path_and_query().map_or("", |path| path.as_str());
    let Some(rpc) = Rpc::of_path(path) else { return failure(&Status::unknown_path(path, Rpc::has_service)) };
    let metrics = &edge.services.metrics;
    metrics.clients.called(client_version(request.headers()), rpc.kind());
    let (call, body) = match Call::of(request, &connection) {
        Ok(call) => call,
        Err(reply) => return *reply,
    };
    let is_unary = rpc.kind() == Kind::Unary;
    let received = Received::new(body, connection, metrics.clone(), is_unary);
    if !is_unary {
        let body = stream(&edge, rpc, &call, received);
        return call.success(body);
    }
    let handling = metrics.calls.begin(rpc);
    let outcome = unary(&edge, rpc, &call, received).await;
    let status = outcome.as_ref().err().map_or(Code::Ok, |status| status.code);
    let took = handling.end(status);
    if status == Code::Ok {
        metrics.upkeep.answered(rpc, took);
    }
    if took > edge.slow_call && !edge.slow_call.is_zero() {
        let client = call.caller.credentials.common_name.as_deref();
        warn!(method = rpc.path(), ?took, ?status, client, "slow call");
    }
    match outcome {
        Ok(Reply::Message(message)) => {
            metrics.calls.sent(rpc, message.len());
            call.success(Body::message(call.caller.share.keep(message), call.encoding))
        }
        Ok(Reply::Long(answer)) => {
            metrics.calls.sent(rpc, answer.length() as usize);
            call.success(sliced(*answer, &call.caller))
        }
        Err(status) => failure(&status),
    }
}

/// What the headers of a call say.
struct Call {
    caller: Caller,
    encoding: Encoding,
    /// How long the client waits.
    within: Option<Duration>,
    /// What replies say that they are, if it is not the usual.
    content_type: Option<HeaderValue>,
}

impl Call {
    /// Reads them. The order of checks is that of gRPC's Go server.
    fn of(request: Request<Incoming>, connection: &Connection) -> Result<(Call, Incoming), Box<Response<Body>>> {
        let (parts, body) = request.into_parts();
        let headers = parts.headers;
        let within = deadline(&headers).map_err(|malformed| {
            let mut reply = failure(&Status::new(Code::Internal, format!("malformed grpc-timeout: {malformed}")));
            *reply.status_mut() = StatusCode::BAD_REQUEST;
            reply
        })?;
        let encoding = Encoding::of(&headers).map_err(|status| failure(&status))?;
        let requires_leader = headers.get(HAS_LEADER).is_some_and(|value| value == "true");
        let credentials = credentials(&headers, connection);
        let (from, share) = (connection.from, connection.share().clone());
        let caller = Caller { from, share, requires_leader, identity: None, credentials };
        let content_type = headers.get(CONTENT_TYPE).filter(|value| value.as_bytes().contains(&b'+'));
        Ok((Call { caller, encoding, within, content_type: content_type.cloned() }, body))
    }

    /// A reply that begins well.
    fn success(&self, body: Body) -> Response<Body> {
        let mut response = success(body);
        if self.encoding == Encoding::Gzip {
            response.headers_mut().insert(GRPC_ENCODING, HeaderValue::from_static("gzip"));
        }
        if let Some(content_type) = &self.content_type {
            response.headers_mut().insert(CONTENT_TYPE, content_type.clone());
        }
        response
    }
}

async fn unary(edge: &Edge, rpc: Rpc, call: &Call, received: Received) -> Result<Reply, Status> {
    let answer = async {
        let mut requests = GrpcRequests::new(received, call.encoding, edge.message_bytes_max);
        let message = requests.next().await.map_err(|status| {
            // As gRPC's Go server, which tells unary calls from others here.
            if status == Status::CUT_SHORT { Status { code: Code::Unknown, ..status } } else { status }
        });
        let message = message?.ok_or(Status::NO_MESSAGE)?;
        edge.services.metrics.calls.received(rpc, message.len());
        edge.services.call(rpc, &call.caller, message).await
    };
    // In one place for both ways: each call is a task, and to allocate a large one takes long.
    tokio::pin!(answer);
    match call.within {
        None => answer.await,
        Some(Duration::ZERO) => Err(Status::TOO_LATE),
        Some(within) => tokio::time::timeout(within, answer).await.unwrap_or(Err(Status::DEADLINE_EXCEEDED)),
    }
}

/// Starts to send a long answer.
fn sliced(answer: LongAnswer, caller: &Caller) -> Body {
    let length = answer.length();
    Body::sliced_message(length, call::slices(answer, caller.share.clone()))
}

/// Starts a streaming call.
fn stream(edge: &Arc<Edge>, rpc: Rpc, call: &Call, received: Received) -> Body {
    let Call { ref caller, within, encoding, .. } = *call;
    let metrics = edge.services.metrics.clone();
    let requests = GrpcRequests::new(received, encoding, edge.message_bytes_max);
    let replies = call::converse(edge, rpc, caller.clone(), within, Status::DEADLINE_EXCEEDED, requests);
    Body::stream(replies, encoding, Tally { metrics, rpc })
}

/// What a call brings along to show who makes it. Of several tokens the first counts, as in etcd.
pub(super) fn credentials(headers: &HeaderMap, connection: &Connection) -> Credentials {
    let token = headers.get(TOKEN).or_else(|| headers.get(AUTHORIZATION)).map(HeaderValue::as_bytes);
    let of_connection = Credentials { token: None, common_name: connection.client().common_name.clone() };
    of_connection.with_token(token)
}

fn client_version(headers: &HeaderMap) -> Option<&str> {
    headers.get(CLIENT_API_VERSION).and_then(|version| version.to_str().ok())
}

/// How long the client waits: up to eight digits and a unit. Of several values the last counts, and none may be wrong.
fn deadline(headers: &HeaderMap) -> Result<Option<Duration>, call::BadTimeout> {
    let mut values = headers.get_all(GRPC_TIMEOUT).iter();
    values.try_fold(None, |_, value| call::parse_timeout(&String::from_utf8_lossy(value.as_bytes())).map(Some))
}

fn success(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, CONTENT_TYPE_GRPC);
    response
}

/// A reply of headers alone: the status stands where otherwise the trailers would.
pub(super) fn failure(status: &Status) -> Response<Body> {
    let mut response = success(Body::empty());
    response.headers_mut().extend(trailers(status));
    response
}

/// The reply to a request over HTTP/2 that is no call, for nothing else is there.
pub(super) fn not_a_call(headers: &HeaderMap) -> Response<Body> {
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let text = format!("invalid gRPC request content-type {:?}", String::from_utf8_lossy(content_type));
    let mut response = failure(&Status::new(Code::InvalidArgument, text));
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response
}

fn not_a_post(method: &Method) -> Response<Body> {
    let text = format!("Received a HEADERS frame with :method \"{method}\" which should be POST");
    let mut response = failure(&Status::new(Code::Internal, text));
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_deadlines_the_last_counts_and_none_may_be_wrong() {
        let several = |values: &[&str]| {
            let mut all = HeaderMap::new();
            for value in values {
                all.append(GRPC_TIMEOUT, value.parse().unwrap());
            }
            deadline(&all)
        };
        assert_eq!(several(&[]), Ok(None));
        assert_eq!(several(&["1S", "2S"]), Ok(Some(Duration::from_secs(2))));
        assert!(several(&["1S", "x"]).is_err() && several(&["x", "1S"]).is_err());
    }

    #[test]
    fn the_content_type_tells_grpc_from_the_rest() {
        let rows = [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc; charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ];
        for (content_type, expected) in rows {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().unwrap())]);
            assert_eq!(is_grpc(&headers), expected, "{content_type}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }
}
