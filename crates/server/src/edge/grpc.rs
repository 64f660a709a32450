//! gRPC over HTTP/2: from a request's path and messages to a service function, and back to a reply with a status.
//!
//! Owns the gRPC protocol: content type, deadline, message framing, status. Must not know what an RPC does, or what
//! its bytes mean.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tracing::warn;

use super::Edge;
use super::body::{Body, trailers};
use super::requests::GrpcRequests;
use crate::conversation::{Replies, Requests, Slices};
use crate::metrics::{Metrics, Tally};
use crate::rpc::{Kind, Rpc};
use crate::service::{Caller, LongAnswer, Reply};
use crate::status::{Code, Status};

const CONTENT_TYPE_GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
/// Batches of replies that may wait between a streaming service and the connection.
const BATCHES_MAX: usize = 2;
/// Slices of a long answer that wait for the connection: the next one is made while one is sent.
const SLICES_MAX: usize = 1;

/// Whether a request claims to be a gRPC call.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let rest = content_type.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Answers one call, streaming or not.
pub(super) async fn answer(edge: Arc<Edge>, request: Request<Incoming>) -> Response<Body> {
    if request.method() != Method::POST {
        return method_not_allowed();
    }
    let Some(rpc) = Rpc::of_path(request.uri().path()) else {
        return failure(&Status::unknown_path(request.uri().path()));
    };
    let metrics = &edge.services.metrics;
    metrics.clients.called(client_version(request.headers()), rpc.kind());
    if rpc.kind() == Kind::Stream {
        return stream(edge, rpc, request);
    }
    let handling = metrics.calls.begin(rpc);
    let outcome = unary(&edge, rpc, request).await;
    let status = outcome.as_ref().err().map_or(Code::Ok, |status| status.code);
    let took = handling.end(status);
    if status == Code::Ok {
        metrics.upkeep.answered(rpc, took);
    }
    if took > edge.slow_call && !edge.slow_call.is_zero() {
        warn!(method = rpc.path(), ?took, ?status, "slow call");
    }
    match outcome {
        Ok(Reply::Message(message)) => {
            metrics.calls.sent(rpc, message.len());
            success(Body::message(message))
        }
        Ok(Reply::Long(answer)) => {
            metrics.calls.sent(rpc, answer.length() as usize);
            sliced(*answer)
        }
        Err(status) => failure(&status),
    }
}

async fn unary(edge: &Edge, rpc: Rpc, request: Request<Incoming>) -> Result<Reply, Status> {
    let (parts, body) = request.into_parts();
    refuse_compression(&parts.headers)?;
    let caller = caller(&parts.headers);
    let call = async {
        let mut requests = GrpcRequests::new(body, edge.message_bytes_max);
        let message = requests.next().await?.ok_or_else(Status::no_message)?;
        edge.services.metrics.calls.received(rpc, message.len());
        edge.services.call(rpc, caller, message).await
    };
    // In one place for both ways: each call is a task, and to allocate a large one takes long.
    tokio::pin!(call);
    match deadline(&parts.headers)? {
        None => call.await,
        Some(within) => tokio::time::timeout(within, call).await.unwrap_or(Err(Status::DEADLINE_EXCEEDED)),
    }
}

/// Starts to send a long answer. What produces it runs in a task of its own, which ends with the call.
fn sliced(answer: LongAnswer) -> Response<Body> {
    let (slices, waiting) = Slices::new(SLICES_MAX);
    let length = answer.length();
    tokio::spawn(answer.send(slices));
    success(Body::sliced_message(length, waiting))
}

/// Starts a streaming call. Its service runs in a task of its own, which ends with the call.
fn stream(edge: Arc<Edge>, rpc: Rpc, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let within = match refuse_compression(&parts.headers).and_then(|()| deadline(&parts.headers)) {
        Ok(within) => within,
        Err(status) => {
            edge.services.metrics.calls.begin(rpc).end(status.code);
            return failure(&status);
        }
    };
    let caller = caller(&parts.headers);
    let metrics = edge.services.metrics.clone();
    let requests = Counted { requests: GrpcRequests::new(body, edge.message_bytes_max), rpc, metrics: metrics.clone() };
    let (replies, waiting) = Replies::new(BATCHES_MAX);
    tokio::spawn(async move {
        let handling = edge.services.metrics.calls.begin(rpc);
        let mut stopping = edge.stopping.clone();
        let outcome = tokio::select! {
            outcome = edge.services.converse(rpc, caller, requests, replies.clone()) => outcome,
            () = elapsed(within) => Err(Status::DEADLINE_EXCEEDED),
            _ = stopping.wait_for(|stop| *stop) => Err(Status::STOPPED),
        };
        let status = match outcome {
            // The conversation has ended because its client is gone, whatever its service makes of that.
            Ok(()) if replies.is_closed() => Status::CANCELED,
            Ok(()) => Status::OK,
            Err(status) => status,
        };
        handling.end(status.code);
        replies.end(status).await;
    });
    success(Body::stream(waiting, Tally { metrics, rpc }))
}

/// The messages of a stream, counted as they come.
struct Counted<R> {
    requests: R,
    rpc: Rpc,
    metrics: Arc<Metrics>,
}

impl<R: Requests> Requests for Counted<R> {
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let next = self.requests.next().await;
        match &next {
            Ok(Some(message)) => self.metrics.calls.received(self.rpc, message.len()),
            Ok(None) => {}
            Err(status) if status.code == Code::Canceled => {}
            Err(_) => self.metrics.calls.stream_failed(self.rpc),
        }
        next
    }
}

async fn elapsed(within: Option<Duration>) {
    match within {
        Some(within) => tokio::time::sleep(within).await,
        None => std::future::pending().await,
    }
}

fn refuse_compression(headers: &HeaderMap) -> Result<(), Status> {
    match headers.get("grpc-encoding") {
        Some(encoding) if encoding != "identity" => Err(Status::COMPRESSED),
        _ => Ok(()),
    }
}

fn client_version(headers: &HeaderMap) -> Option<&str> {
    headers.get("client-api-version").and_then(|version| version.to_str().ok())
}

fn caller(headers: &HeaderMap) -> Caller {
    Caller { requires_leader: headers.get("hasleader").is_some_and(|value| value == "true") }
}

/// How long the client waits: up to eight digits and a unit.
fn deadline(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(parse_timeout);
    parsed.map(Some).ok_or_else(|| Status::new(Code::Internal, "grpc: malformed grpc-timeout"))
}

fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

fn success(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, CONTENT_TYPE_GRPC);
    response
}

/// A reply of headers alone: the status stands where otherwise the trailers would.
fn failure(status: &Status) -> Response<Body> {
    let mut response = success(Body::empty());
    response.headers_mut().extend(trailers(status));
    if *status == Status::COMPRESSED {
        response.headers_mut().insert("grpc-accept-encoding", HeaderValue::from_static("identity"));
    }
    response
}

fn method_not_allowed() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_have_eight_digits_and_a_unit() {
        let rows = [
            ("1H", Some(3_600_000_000)),
            ("2M", Some(120_000_000)),
            ("3S", Some(3_000_000)),
            ("99999999m", Some(99_999_999_000)),
            ("5u", Some(5)),
            ("1000n", Some(1)),
            ("", None),
            ("S", None),
            ("1", None),
            ("1s", None),
            ("-1S", None),
            ("123456789S", None),
            ("1é", None),
        ];
        for (text, micros) in rows {
            assert_eq!(parse_timeout(text).map(|timeout| timeout.as_micros()), micros, "{text:?}");
        }
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
