//! The simple format: keys and values as they are, a line each.

use vlot_proto::etcdserverpb::response_op::Response;
use vlot_proto::etcdserverpb::{DeleteRangeResponse, PutResponse, RangeResponse, TxnResponse, WatchResponse};
use vlot_proto::mvccpb::KeyValue;
use vlot_proto::mvccpb::event::EventType;

use super::said::Health;
use crate::ctl::notation;

/// What has been printed so far.
pub struct Output {
    pub bytes: Vec<u8>,
    hex: bool,
    value_only: bool,
}

impl Output {
    /// Nothing yet.
    pub fn new(hex: bool, value_only: bool) -> Output {
        Output { bytes: Vec::new(), hex, value_only }
    }

    pub fn range(&mut self, reply: &RangeResponse) {
        reply.kvs.iter().for_each(|kv| self.key_value(kv));
    }

    pub fn put(&mut self, reply: &PutResponse) {
        self.line(b"OK");
        reply.prev_kv.iter().for_each(|kv| self.key_value(kv));
    }

    pub fn delete(&mut self, reply: &DeleteRangeResponse) {
        self.line(reply.deleted.to_string().as_bytes());
        reply.prev_kvs.iter().for_each(|kv| self.key_value(kv));
    }

    pub fn txn(&mut self, reply: &TxnResponse) {
        self.line(if reply.succeeded { b"SUCCESS" } else { b"FAILURE" });
        for op in &reply.responses {
            self.line(b"");
            match &op.response {
                Some(Response::ResponseRange(reply)) => self.range(reply),
                Some(Response::ResponsePut(reply)) => self.put(reply),
                Some(Response::ResponseDeleteRange(reply)) => self.delete(reply),
                Some(Response::ResponseTxn(reply)) => self.txn(reply),
                None => self.line(b"unexpected response"),
            }
        }
    }

    pub fn watch(&mut self, reply: &WatchResponse) {
        for event in &reply.events {
            self.line(event_name(event.r#type).as_bytes());
            event.prev_kv.iter().chain(&event.kv).for_each(|kv| self.key_value(kv));
        }
    }

    fn key_value(&mut self, kv: &KeyValue) {
        if !self.value_only {
            self.text(&kv.key);
        }
        self.text(&kv.value);
    }

    fn text(&mut self, bytes: &[u8]) {
        if self.hex {
            let digits: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
            self.line(digits.as_bytes());
        } else {
            self.line(bytes);
        }
    }

    fn line(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.bytes.push(b'\n');
    }
}

/// The healthy endpoints, a line each; the others go to `report`.
pub fn endpoint_health(healths: &[Health], report: impl Fn(&str)) -> String {
    let mut lines = String::new();
    for Health { endpoint, took, error } in healths {
        if error.is_empty() {
            let took = notation::duration(*took);
            lines.push_str(&format!("{endpoint} is healthy: successfully committed proposal: took = {took}\n"));
        } else {
            report(&format!("{endpoint} is unhealthy: failed to commit proposal: {error}"));
        }
    }
    lines
}

/// What happened to a key, in capitals.
pub fn event_name(kind: i32) -> &'static str {
    EventType::try_from(kind).map_or("UNKNOWN", |kind| kind.as_str_name())
}
