//! The messages of a gateway's call: JSON values in a body, one behind the other.
//!
//! Owns how values are cut from what has come, and how much of one is read. Must not know which call it is.

use bytes::{Bytes, BytesMut};
use vlot_proto::descriptors::Message;

use super::super::connection::Received;
use crate::conversation::Requests;
use crate::json::{self, Found, Scanner};
use crate::status::{Code, Status};

/// How many times as long as the message that it is a JSON value may be. Bytes grow by a third, small numbers much more.
const GROWTH_MAX: usize = 4;

/// The messages of one call.
pub(super) struct JsonRequests {
    received: Received,
    values: Values,
    message: &'static Message,
    message_bytes_max: usize,
    /// Whether a message has come, or the last one.
    has_begun: bool,
    has_ended: bool,
}

impl JsonRequests {
    pub(super) fn new(received: Received, message: &'static Message, message_bytes_max: usize) -> JsonRequests {
        let values = Values::new(message_bytes_max.saturating_mul(GROWTH_MAX), message_bytes_max);
        JsonRequests { received, values, message, message_bytes_max, has_begun: false, has_ended: false }
    }

    /// The message of a call that has one: what stands first in the body. Without anything it is an empty one.
    pub(super) async fn one(&mut self) -> Result<Bytes, Status> {
        Ok(self.message().await?.unwrap_or_default())
    }

    async fn message(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(value) = self.value().await? else { return Ok(None) };
        let message = json::decode(self.message, &value).map_err(|error| malformed(&error))?;
        if message.len() > self.message_bytes_max {
            return Err(Status::message_too_large(message.len(), self.message_bytes_max));
        }
        Ok(Some(message.into()))
    }

    async fn value(&mut self) -> Result<Option<Bytes>, Status> {
        // Who asks for the next one is done with those before.
        self.received.done_but_for(self.values.pending.len());
        loop {
            if let Some(value) = self.values.cut()? {
                self.received.is_within_message(false);
                return Ok(Some(value));
            }
            if !self.values.pending.is_empty() {
                self.received.is_within_message(true);
            }
            match self.received.more().await? {
                Some(data) => self.values.push(&data),
                None => return self.values.end(),
            }
        }
    }
}

impl Requests for JsonRequests {
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        if self.has_ended {
            return Ok(None);
        }
        match self.message().await {
            Ok(Some(message)) => {
                self.has_begun = true;
                Ok(Some(message))
            }
            // As in etcd: what cannot be read ends the requests, and the replies go on. Where nothing has come before, there
            // would never be a reply that says so.
            Err(status) if !self.has_begun => Err(status),
            Ok(None) | Err(_) => {
                self.has_ended = true;
                Ok(None)
            }
        }
    }
}

/// The request of a call that is answered with a stream, and has come already.
pub(super) struct OneRequest(pub(super) Option<Bytes>);

impl Requests for OneRequest {
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        Ok(self.0.take())
    }
}

/// JSON values in what has come.
struct Values {
    pending: BytesMut,
    scanner: Scanner,
    /// How much of `pending` the scanner has seen.
    scanned: usize,
    value_bytes_max: usize,
    message_bytes_max: usize,
}

impl Values {
    fn new(value_bytes_max: usize, message_bytes_max: usize) -> Values {
        Values { pending: BytesMut::new(), scanner: Scanner::new(), scanned: 0, value_bytes_max, message_bytes_max }
    }

    // Copied, because the connection's read buffer must not be held.
    fn push(&mut self, data: &[u8]) {
        self.pending.extend_from_slice(data);
    }

    /// Takes one value, if it is all there.
    fn cut(&mut self) -> Result<Option<Bytes>, Status> {
        match self.scanner.scan(&self.pending[self.scanned..]).map_err(|error| malformed(&error))? {
            Found::Nothing => self.pending.clear(),
            Found::Part if self.pending.len() > self.value_bytes_max => {
                return Err(Status::message_too_large(self.pending.len(), self.message_bytes_max));
            }
            Found::Part => self.scanned = self.pending.len(),
            Found::End(length) => return Ok(Some(self.take(self.scanned + length))),
        }
        Ok(None)
    }

    /// What is left when nothing more comes: nothing, or a number, which nothing but the end has ended.
    fn end(&mut self) -> Result<Option<Bytes>, Status> {
        if self.pending.is_empty() {
            return Ok(None);
        }
        match self.scanner.scan(b" ") {
            Ok(Found::End(0)) => Ok(Some(self.take(self.pending.len()))),
            _ => Err(Status::new(Code::InvalidArgument, "unexpected EOF")),
        }
    }

    /// Takes so many bytes, but for the space before the value in them.
    fn take(&mut self, length: usize) -> Bytes {
        (self.scanner, self.scanned) = (Scanner::new(), 0);
        let value = self.pending.split_to(length).freeze();
        value.slice_ref(value.trim_ascii_start())
    }
}

fn malformed(error: &dyn std::error::Error) -> Status {
    Status::new(Code::InvalidArgument, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(parts: &[&[u8]]) -> Result<Vec<Bytes>, Status> {
        let mut values = Values::new(40, 10);
        let mut found = Vec::new();
        for part in parts {
            values.push(part);
            while let Some(value) = values.cut()? {
                found.push(value);
            }
        }
        found.extend(values.end()?);
        Ok(found)
    }

    #[test]
    fn values_are_cut_wherever_the_parts_end() {
        let body = b" {\"a\":[1]}{} \n 12 \"x\"null\n7";
        for split in 0..=body.len() {
            let found = values(&[&body[..split], &body[split..]]).unwrap();
            assert_eq!(found, ["{\"a\":[1]}", "{}", "12", "\"x\"", "null", "7"], "split at {split}");
        }
    }

    #[test]
    fn a_body_that_ends_early_or_never_is_refused() {
        assert_eq!(values(&[b" ", b"\n"]), Ok(vec![]));
        assert_eq!(values(&[b"{\"a\""]).unwrap_err().message, "unexpected EOF");
        assert_eq!(values(&[b"tru"]).unwrap_err().message, "unexpected EOF");
        assert_eq!(values(&[b"-"]).unwrap_err().message, "unexpected EOF");
        let endless = [&b"[1,1,1,1,1,"[..]; 100];
        let status = values(&endless).unwrap_err();
        assert_eq!(status.code, Code::ResourceExhausted);
        assert_eq!(status.message, "grpc: received message larger than max (44 vs. 10)");
    }
}
