//! The fields format: a line for each field, nested messages flattened.

use std::fmt::Display;

use vlot_proto::etcdserverpb::response_op::Response;
use vlot_proto::etcdserverpb::{
    DeleteRangeResponse, HashKvResponse, MemberListResponse, PutResponse, RangeResponse, ResponseHeader,
    StatusResponse, TxnResponse, WatchResponse,
};
use vlot_proto::mvccpb::KeyValue;

use super::said::{Health, Said};
use super::simple::event_name;
use crate::ctl::notation::{self, quoted};

pub fn range(out: &mut String, reply: &RangeResponse) {
    header(out, reply.header);
    reply.kvs.iter().for_each(|kv| key_value(out, "", kv));
    field(out, "More", reply.more);
    field(out, "Count", reply.count);
}

pub fn put(out: &mut String, reply: &PutResponse) {
    header(out, reply.header);
    reply.prev_kv.iter().for_each(|kv| key_value(out, "Prev", kv));
}

pub fn delete(out: &mut String, reply: &DeleteRangeResponse) {
    header(out, reply.header);
    field(out, "Deleted", reply.deleted);
    reply.prev_kvs.iter().for_each(|kv| key_value(out, "Prev", kv));
}

pub fn txn(out: &mut String, reply: &TxnResponse) {
    header(out, reply.header);
    field(out, "Succeeded", reply.succeeded);
    for op in &reply.responses {
        match &op.response {
            Some(Response::ResponseRange(reply)) => range(out, reply),
            Some(Response::ResponsePut(reply)) => put(out, reply),
            Some(Response::ResponseDeleteRange(reply)) => delete(out, reply),
            Some(Response::ResponseTxn(reply)) => txn(out, reply),
            None => field(out, "Unknown", "\"\""),
        }
    }
}

pub fn watch(out: &mut String, reply: &WatchResponse) {
    header(out, reply.header);
    for event in &reply.events {
        field(out, "Type", event_name(event.r#type));
        event.prev_kv.iter().for_each(|kv| key_value(out, "Prev", kv));
        event.kv.iter().for_each(|kv| key_value(out, "", kv));
    }
}

pub fn member_list(reply: &MemberListResponse) -> String {
    let mut out = String::new();
    header(&mut out, reply.header);
    for member in &reply.members {
        field(&mut out, "ID", member.id);
        field(&mut out, "Name", quoted(member.name.as_bytes()));
        member.peer_ur_ls.iter().for_each(|url| field(&mut out, "PeerURL", quoted(url.as_bytes())));
        member.client_ur_ls.iter().for_each(|url| field(&mut out, "ClientURL", quoted(url.as_bytes())));
        field(&mut out, "IsLearner", member.is_learner);
        if member.is_witness {
            field(&mut out, "IsWitness", true);
        }
        out.push('\n');
    }
    out
}

pub fn endpoint_health(healths: &[Health]) -> String {
    let mut out = String::new();
    for health in healths {
        field(&mut out, "Endpoint", quoted(health.endpoint.as_bytes()));
        field(&mut out, "Health", health.error.is_empty());
        field(&mut out, "Took", notation::duration(health.took));
        field(&mut out, "Error", &health.error);
        out.push('\n');
    }
    out
}

pub fn endpoint_status(statuses: &[Said<StatusResponse>]) -> String {
    let mut out = String::new();
    for Said { endpoint, reply } in statuses {
        header(&mut out, reply.header);
        field(&mut out, "Version", quoted(reply.version.as_bytes()));
        field(&mut out, "DBSize", reply.db_size);
        field(&mut out, "Leader", reply.leader);
        field(&mut out, "IsLearner", reply.is_learner);
        field(&mut out, "RaftIndex", reply.raft_index);
        field(&mut out, "RaftTerm", reply.raft_term);
        field(&mut out, "RaftAppliedIndex", reply.raft_applied_index);
        field(&mut out, "Errors", format!("[{}]", reply.errors.join(" ")));
        field(&mut out, "Endpoint", quoted(endpoint.as_bytes()));
        out.push('\n');
    }
    out
}

pub fn endpoint_hash_kv(hashes: &[Said<HashKvResponse>]) -> String {
    let mut out = String::new();
    for Said { endpoint, reply } in hashes {
        header(&mut out, reply.header);
        field(&mut out, "Endpoint", quoted(endpoint.as_bytes()));
        field(&mut out, "Hash", reply.hash);
        out.push('\n');
    }
    out
}

pub fn header(out: &mut String, header: Option<ResponseHeader>) {
    let header = header.unwrap_or_default();
    field(out, "ClusterID", header.cluster_id);
    field(out, "MemberID", header.member_id);
    field(out, "Revision", header.revision);
    field(out, "RaftTerm", header.raft_term);
}

fn key_value(out: &mut String, prefix: &str, kv: &KeyValue) {
    let mut field = |name: &str, value: String| out.push_str(&format!("\"{prefix}{name}\" : {value}\n"));
    field("Key", quoted(&kv.key));
    field("CreateRevision", kv.create_revision.to_string());
    field("ModRevision", kv.mod_revision.to_string());
    field("Version", kv.version.to_string());
    field("Value", quoted(&kv.value));
    field("Lease", kv.lease.to_string());
}

pub fn field(out: &mut String, name: &str, value: impl Display) {
    out.push_str(&format!("\"{name}\" : {value}\n"));
}
