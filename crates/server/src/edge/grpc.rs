//! gRPC over HTTP/2: from a request's path and messages to a service function, and back to a reply with a status.
//!
//! Owns the gRPC protocol: content type, deadline, message framing, status. Must not know what an RPC does, or what
//! its bytes mean.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tracing::warn;

use super::Edge;
use super::body::{Body, trailers};
use super::compression::Encoding;
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
        return not_a_post(request.method());
    }
    // A query is a part of the name, and no name has one.
    let path = request.uri().path_and_query().map_or("", |path| path.as_str());
    let Some(rpc) = Rpc::of_path(path) else { return failure(&Status::unknown_path(path, Rpc::has_service)) };
    let metrics = &edge.services.metrics;
    metrics.clients.called(client_version(request.headers()), rpc.kind());
    let (call, body) = match Call::of(request) {
        Ok(call) => call,
        Err(reply) => return *reply,
    };
    if rpc.kind() == Kind::Stream {
        let body = stream(edge, rpc, &call, body);
        return call.success(body);
    }
    let handling = metrics.calls.begin(rpc);
    let outcome = unary(&edge, rpc, &call, body).await;
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
            call.success(Body::message(message, call.encoding))
        }
        Ok(Reply::Long(answer)) => {
            metrics.calls.sent(rpc, answer.length() as usize);
            call.success(sliced(*answer))
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
    fn of(request: Request<Incoming>) -> Result<(Call, Incoming), Box<Response<Body>>> {
        let (parts, body) = request.into_parts();
        let headers = parts.headers;
        let within = deadline(&headers).map_err(|malformed| {
            let mut reply = failure(&Status::new(Code::Internal, format!("malformed grpc-timeout: {malformed}")));
            *reply.status_mut() = StatusCode::BAD_REQUEST;
            reply
        })?;
        let encoding = Encoding::of(&headers).map_err(|status| failure(&status))?;
        let caller = Caller { requires_leader: headers.get("hasleader").is_some_and(|value| value == "true") };
        let content_type = headers.get(CONTENT_TYPE).filter(|value| value.as_bytes().contains(&b'+'));
        Ok((Call { caller, encoding, within, content_type: content_type.cloned() }, body))
    }

    /// A reply that begins well.
    fn success(&self, body: Body) -> Response<Body> {
        let mut response = success(body);
        if self.encoding == Encoding::Gzip {
            response.headers_mut().insert("grpc-encoding", HeaderValue::from_static("gzip"));
        }
        if let Some(content_type) = &self.content_type {
            response.headers_mut().insert(CONTENT_TYPE, content_type.clone());
        }
        response
    }
}

async fn unary(edge: &Edge, rpc: Rpc, call: &Call, body: Incoming) -> Result<Reply, Status> {
    let answer = async {
        let mut requests = GrpcRequests::new(body, call.encoding, edge.message_bytes_max);
        let message = requests.next().await.map_err(|status| {
            // As gRPC's Go server, which tells unary calls from others here.
            if status == Status::CUT_SHORT { Status { code: Code::Unknown, ..status } } else { status }
        });
        let message = message?.ok_or(Status::NO_MESSAGE)?;
        edge.services.metrics.calls.received(rpc, message.len());
        edge.services.call(rpc, call.caller, message).await
    };
    // In one place for both ways: each call is a task, and to allocate a large one takes long.
    tokio::pin!(answer);
    match call.within {
        None => answer.await,
        Some(Duration::ZERO) => Err(Status::TOO_LATE),
        Some(within) => tokio::time::timeout(within, answer).await.unwrap_or(Err(Status::DEADLINE_EXCEEDED)),
    }
}

/// Starts to send a long answer. What produces it runs in a task of its own, which ends with the call.
fn sliced(answer: LongAnswer) -> Body {
    let (slices, waiting) = Slices::new(SLICES_MAX);
    let length = answer.length();
    tokio::spawn(answer.send(slices));
    Body::sliced_message(length, waiting)
}

/// Starts a streaming call. Its service runs in a task of its own, which ends with the call.
fn stream(edge: Arc<Edge>, rpc: Rpc, call: &Call, body: Incoming) -> Body {
    let Call { caller, within, encoding, .. } = *call;
    let metrics = edge.services.metrics.clone();
    let requests = GrpcRequests::new(body, encoding, edge.message_bytes_max);
    let requests = Counted { requests, rpc, metrics: metrics.clone() };
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
    Body::stream(waiting, encoding, Tally { metrics, rpc })
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

fn client_version(headers: &HeaderMap) -> Option<&str> {
    headers.get("client-api-version").and_then(|version| version.to_str().ok())
}

/// How long the client waits: up to eight digits and a unit. Of several values the last counts, and none may be wrong.
fn deadline(headers: &HeaderMap) -> Result<Option<Duration>, String> {
    let mut values = headers.get_all("grpc-timeout").iter();
    values.try_fold(None, |_, value| parse_timeout(&String::from_utf8_lossy(value.as_bytes())).map(Some))
}

/// The words are those of gRPC's Go server.
fn parse_timeout(text: &str) -> Result<Duration, String> {
    match text.len() {
        0..2 => return Err(format!("transport: timeout string is too short: {text:?}")),
        2..=9 => {}
        _ => return Err(format!("transport: timeout string is too long: {text:?}")),
    }
    let mut digits = text.chars();
    let unit: fn(u64) -> Duration = match digits.next_back() {
        Some('H') => |hours| Duration::from_secs(hours * 3600),
        Some('M') => |minutes| Duration::from_secs(minutes * 60),
        Some('S') => Duration::from_secs,
        Some('m') => Duration::from_millis,
        Some('u') => Duration::from_micros,
        Some('n') => Duration::from_nanos,
        _ => return Err(format!("transport: timeout unit is not recognized: {text:?}")),
    };
    let digits = digits.as_str();
    match digits.parse() {
        // Eight digits are no more than a hundred million, of hours too.
        Ok(number) if digits.bytes().all(|digit| digit.is_ascii_digit()) => Ok(unit(number)),
        _ => Err(format!("strconv.ParseUint: parsing {digits:?}: invalid syntax")),
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
    fn deadlines_have_eight_digits_and_a_unit() {
        let rows = [
            ("1H", Ok(3_600_000_000)),
            ("2M", Ok(120_000_000)),
            ("3S", Ok(3_000_000)),
            ("99999999m", Ok(99_999_999_000)),
            ("99999999H", Ok(359_999_996_400_000_000)),
            ("5u", Ok(5)),
            ("1000n", Ok(1)),
            ("", Err("transport: timeout string is too short: \"\"")),
            ("S", Err("transport: timeout string is too short: \"S\"")),
            ("1", Err("transport: timeout string is too short: \"1\"")),
            ("1s", Err("transport: timeout unit is not recognized: \"1s\"")),
            ("1é", Err("transport: timeout unit is not recognized: \"1é\"")),
            ("-1S", Err("strconv.ParseUint: parsing \"-1\": invalid syntax")),
            ("+1S", Err("strconv.ParseUint: parsing \"+1\": invalid syntax")),
            ("1.5S", Err("strconv.ParseUint: parsing \"1.5\": invalid syntax")),
            ("123456789S", Err("transport: timeout string is too long: \"123456789S\"")),
        ];
        for (text, expected) in rows {
            let parsed = parse_timeout(text).map(|timeout| timeout.as_micros());
            assert_eq!(parsed, expected.map_err(str::to_owned), "{text:?}");
        }
        let several = |values: &[&str]| {
            let mut all = HeaderMap::new();
            for value in values {
                all.append("grpc-timeout", value.parse().unwrap());
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
