//! gRPC over HTTP/2: from a request's path and messages to a service function, and back to a reply with a status.
//!
//! Owns the gRPC protocol: content type, deadline, message framing, status. Must not know what an RPC does, or what
//! its bytes mean.

use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use tracing::warn;

use super::Edge;
use super::answer::{Answer, CONTENT_TYPE_GRPC};
use super::body::{Body, trailers};
use super::call;
use super::compression::Encoding;
use super::connection::{Connection, Received};
use super::request_body::RequestBody;
use super::requests::GrpcRequests;
use crate::auth::Credentials;
use crate::conversation::Requests;
use crate::rpc::{Kind, Rpc};
use crate::service::{Caller, LongAnswer, Reply};
use crate::status::{Code, Status};
use crate::telemetry::metrics::Tally;

/// Whether a request claims to be a gRPC call, by its content type.
pub(super) fn is_grpc(content_type: Option<&[u8]>) -> bool {
    let rest = content_type.unwrap_or_default().strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Answers one call, streaming or not.
pub(super) async fn answer(edge: Arc<Edge>, connection: Arc<Connection>, call: Call, body: RequestBody) -> Answer {
    let rpc = call.rpc;
    let metrics = &edge.services.metrics;
    let is_unary = rpc.kind() == Kind::Unary;
    let received = Received::new(body, connection, metrics.clone(), is_unary);
    if !is_unary {
        let body = stream(&edge, &call, received);
        return call.success(body);
    }
    let handling = metrics.calls.begin(rpc);
    let outcome = unary(&edge, &call, received).await;
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
            let body = Body::message(call.caller.share.keep(message), call.encoding);
            call.success(body)
        }
        Ok(Reply::Long(answer)) => {
            metrics.calls.sent(rpc, answer.length() as usize);
            let body = sliced(*answer, &call.caller);
            call.success(body)
        }
        Err(status) => failure(&status).into(),
    }
}

/// What the head of a call says.
pub(super) struct Call {
    rpc: Rpc,
    caller: Caller,
    encoding: Encoding,
    /// How long the client waits.
    within: Option<Duration>,
    /// What replies say that they are.
    content_type: HeaderValue,
}

impl Call {
    /// Reads it. The order of checks is that of gRPC's Go server. A query is a part of the name, and no name has one.
    pub(super) fn read<'f>(
        edge: &Edge,
        connection: &Connection,
        method: &[u8],
        path: &[u8],
        fields: impl Iterator<Item = (&'f [u8], &'f [u8])>,
    ) -> Result<Call, Box<Response<Body>>> {
        if method != b"POST" {
            return Err(Box::new(not_a_post(method)));
        }
        let path = std::str::from_utf8(path).unwrap_or_default();
        let Some(rpc) = Rpc::of_path(path) else {
            return Err(Box::new(failure(&Status::unknown_path(path, Rpc::has_service))));
        };
        let said = Said::in_fields(fields);
        let client_version = said.client_version.and_then(|version| std::str::from_utf8(version).ok());
        edge.services.metrics.clients.called(client_version, rpc.kind());
        let within = said.within.map_err(|malformed| {
            let mut reply = failure(&Status::new(Code::Internal, format!("malformed grpc-timeout: {malformed}")));
            *reply.status_mut() = StatusCode::BAD_REQUEST;
            reply
        })?;
        let encoding = Encoding::of(said.encoding).map_err(|status| failure(&status))?;
        let (from, share) = (connection.from, connection.share().clone());
        let credentials = credentials(said.token.or(said.authorization), connection);
        let requires_leader = said.has_leader == Some(b"true");
        let caller = Caller { from, share, requires_leader, identity: None, credentials };
        let content_type = said.content_type.filter(|value| value.contains(&b'+'));
        let content_type = content_type.and_then(|value| HeaderValue::from_bytes(value).ok());
        Ok(Call { rpc, caller, encoding, within, content_type: content_type.unwrap_or(CONTENT_TYPE_GRPC) })
    }

    /// A reply that begins well.
    fn success(self, body: Body) -> Answer {
        Answer::grpc(self.content_type, self.encoding, body)
    }
}

/// What stands in the fields of a call. Of several values the first counts, but for deadlines.
struct Said<'f> {
    content_type: Option<&'f [u8]>,
    encoding: Option<&'f [u8]>,
    /// Of several deadlines the last counts, and none may be wrong.
    within: Result<Option<Duration>, call::BadTimeout>,
    has_leader: Option<&'f [u8]>,
    token: Option<&'f [u8]>,
    authorization: Option<&'f [u8]>,
    client_version: Option<&'f [u8]>,
}

impl<'f> Said<'f> {
    fn in_fields(fields: impl Iterator<Item = (&'f [u8], &'f [u8])>) -> Said<'f> {
        let mut said = Said {
            content_type: None,
            encoding: None,
            within: Ok(None),
            has_leader: None,
            token: None,
            authorization: None,
            client_version: None,
        };
        for (name, value) in fields {
            let place = match name {
                b"content-type" => &mut said.content_type,
                b"grpc-encoding" => &mut said.encoding,
                b"hasleader" => &mut said.has_leader,
                b"token" => &mut said.token,
                b"authorization" => &mut said.authorization,
                b"client-api-version" => &mut said.client_version,
                b"grpc-timeout" => {
                    if said.within.is_ok() {
                        said.within = call::parse_timeout(&String::from_utf8_lossy(value)).map(Some);
                    }
                    continue;
                }
                _ => continue,
            };
            place.get_or_insert(value);
        }
        said
    }
}

async fn unary(edge: &Edge, call: &Call, received: Received) -> Result<Reply, Status> {
    let answer = async {
        let mut requests = GrpcRequests::new(received, call.encoding, edge.message_bytes_max);
        let message = requests.next().await.map_err(|status| {
            // As gRPC's Go server, which tells unary calls from others here.
            if status == Status::CUT_SHORT { Status { code: Code::Unknown, ..status } } else { status }
        });
        let message = message?.ok_or(Status::NO_MESSAGE)?;
        edge.services.metrics.calls.received(call.rpc, message.len());
        edge.services.call(call.rpc, &call.caller, message).await
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
fn stream(edge: &Arc<Edge>, call: &Call, received: Received) -> Body {
    let Call { rpc, ref caller, within, encoding, .. } = *call;
    let metrics = edge.services.metrics.clone();
    let requests = GrpcRequests::new(received, encoding, edge.message_bytes_max);
    let replies = call::converse(edge, rpc, caller.clone(), within, Status::DEADLINE_EXCEEDED, requests);
    Body::stream(replies, encoding, Tally { metrics, rpc })
}

/// What a call brings along to show who makes it. Of several tokens the first counts, as in etcd.
pub(super) fn credentials(token: Option<&[u8]>, connection: &Connection) -> Credentials {
    let of_connection = Credentials { token: None, common_name: connection.client().common_name.clone() };
    of_connection.with_token(token)
}

/// A reply of headers alone: the status stands where otherwise the trailers would.
pub(super) fn failure(status: &Status) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    response.headers_mut().insert(CONTENT_TYPE, CONTENT_TYPE_GRPC);
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

fn not_a_post(method: &[u8]) -> Response<Body> {
    let method = String::from_utf8_lossy(method);
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
        let several = |values: &[&'static str]| {
            Said::in_fields(values.iter().map(|value| (&b"grpc-timeout"[..], value.as_bytes()))).within
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
            assert_eq!(is_grpc(Some(content_type.as_bytes())), expected, "{content_type}");
        }
        assert!(!is_grpc(None));
    }
}
