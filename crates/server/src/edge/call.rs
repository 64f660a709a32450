//! What the adapters of both notations do alike: a call's deadline, a stream's service in a task of its own, a long answer
//! in slices.
//!
//! Must not know how a call comes in, nor how its reply gets on the wire.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Edge;
use crate::conversation::{Replies, Requests, Slices, Waiting};
use crate::rpc::Rpc;
use crate::service::{Caller, LongAnswer};
use crate::share::Share;
use crate::status::{Code, Status};
use crate::telemetry::metrics::Metrics;

/// Batches of replies that may wait between a streaming service and the connection.
const BATCHES_MAX: usize = 2;
/// Slices of a long answer that wait for the connection: the next one is made while one is sent.
const SLICES_MAX: usize = 1;

/// Starts a streaming call. Its service runs in a task of its own, which ends with the call; if the client waits no longer
/// than it said, as `expired`.
pub(super) fn converse(
    edge: &Arc<Edge>,
    rpc: Rpc,
    caller: Caller,
    within: Option<Duration>,
    expired: Status,
    requests: impl Requests + 'static,
) -> Waiting {
    let metrics = edge.services.metrics.clone();
    let (replies, waiting) = Replies::new(BATCHES_MAX, caller.share.clone(), metrics.clone());
    let requests = Counted { requests, rpc, metrics };
    let edge = edge.clone();
    tokio::spawn(async move {
        let handling = edge.services.metrics.calls.begin(rpc);
        let mut stopping = edge.stopping.clone();
        let outcome = tokio::select! {
            outcome = edge.services.converse(rpc, caller, requests, replies.clone()) => outcome,
            () = elapsed(within) => Err(expired),
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
    waiting
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

/// Starts to make a long answer. What makes it runs in a task of its own, which ends with the call.
pub(super) fn slices(answer: LongAnswer, share: Arc<Share>) -> Waiting {
    let (slices, waiting) = Slices::new(SLICES_MAX, share);
    tokio::spawn(answer.send(slices));
    waiting
}

/// Why a deadline cannot be read. The words are those of gRPC's Go server.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum BadTimeout {
    TooShort(String),
    TooLong(String),
    Unit(String),
    Number(String),
}

impl fmt::Display for BadTimeout {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort(text) => write!(out, "transport: timeout string is too short: {text:?}"),
            Self::TooLong(text) => write!(out, "transport: timeout string is too long: {text:?}"),
            Self::Unit(text) => write!(out, "transport: timeout unit is not recognized: {text:?}"),
            Self::Number(digits) => write!(out, "strconv.ParseUint: parsing {digits:?}: invalid syntax"),
        }
    }
}

impl std::error::Error for BadTimeout {}

/// How long a client waits: up to eight digits and a unit.
pub(super) fn parse_timeout(text: &str) -> Result<Duration, BadTimeout> {
    match text.len() {
        0..2 => return Err(BadTimeout::TooShort(text.to_owned())),
        2..=9 => {}
        _ => return Err(BadTimeout::TooLong(text.to_owned())),
    }
    let mut digits = text.chars();
    let unit: fn(u64) -> Duration = match digits.next_back() {
        Some('H') => |hours| Duration::from_secs(hours * 3600),
        Some('M') => |minutes| Duration::from_secs(minutes * 60),
        Some('S') => Duration::from_secs,
        Some('m') => Duration::from_millis,
        Some('u') => Duration::from_micros,
        Some('n') => Duration::from_nanos,
        _ => return Err(BadTimeout::Unit(text.to_owned())),
    };
    let digits = digits.as_str();
    match digits.parse() {
        // Eight digits are no more than a hundred million, of hours too.
        Ok(number) if digits.bytes().all(|digit| digit.is_ascii_digit()) => Ok(unit(number)),
        _ => Err(BadTimeout::Number(digits.to_owned())),
    }
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
            let parsed = parse_timeout(text).map(|timeout| timeout.as_micros()).map_err(|bad| bad.to_string());
            assert_eq!(parsed, expected.map_err(str::to_owned), "{text:?}");
        }
    }
}
