//! What is said of leases, in each format.

use prost::Message;
use vlot_proto::etcdserverpb::{
    LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseRevokeResponse, LeaseTimeToLiveResponse,
    ResponseHeader,
};

use super::json::{Object, base64, list_of};
use super::{Format, Printer, fields, line, unsupported};
use crate::ctl::Exit;
use crate::ctl::notation::number::lease;
use crate::ctl::notation::quoted;

impl Printer {
    /// The result of `lease grant`.
    pub fn lease_grant(&self, reply: &LeaseGrantResponse) -> Result<Vec<u8>, Exit> {
        let told = || format!("lease {} granted with TTL({}s)\n", lease(reply.id), reply.ttl);
        self.lease(reply.header, told, &[("ID", reply.id), ("TTL", reply.ttl)], || {
            let mut object = Object::begun_with_header(reply.header);
            object.raw("ID", reply.id);
            object.raw("TTL", reply.ttl);
            object.raw("Error", super::json::string(&reply.error));
            object.end()
        })
    }

    /// The result of `lease revoke`.
    pub fn lease_revoke(&self, id: i64, reply: &LeaseRevokeResponse) -> Result<Vec<u8>, Exit> {
        match self.format {
            Format::Protobuf => Err(Exit::bad_feature(format!(
                "marshal unsupported for type clientv3.LeaseRevokeResponse ({{{} {{}} [] 0}})",
                header_in_words(reply.header)
            ))),
            _ => self.lease(
                reply.header,
                || format!("lease {} revoked\n", lease(id)),
                &[],
                || Object::with_header(reply.header).end(),
            ),
        }
    }

    /// One answer of `lease keep-alive`.
    pub fn lease_keep_alive(&self, reply: &LeaseKeepAliveResponse) -> Result<Vec<u8>, Exit> {
        let told = || format!("lease {} keepalived with TTL({})\n", lease(reply.id), reply.ttl);
        self.lease(reply.header, told, &[("ID", reply.id), ("TTL", reply.ttl)], || {
            let mut object = Object::begun_with_header(reply.header);
            object.raw("ID", reply.id);
            object.raw("TTL", reply.ttl);
            object.end()
        })
    }

    /// The result of `lease timetolive`.
    pub fn lease_time_to_live(&self, reply: &LeaseTimeToLiveResponse, keys: bool) -> Result<Vec<u8>, Exit> {
        match self.format {
            Format::Simple => return Ok(time_to_live(reply, keys)),
            Format::Fields => {}
            _ => {
                return self.lease(reply.header, String::new, &[], || {
                    let mut object = Object::begun_with_header(reply.header);
                    object.raw("id", reply.id);
                    object.raw("ttl", reply.ttl);
                    object.raw("granted-ttl", reply.granted_ttl);
                    let keys = || list_of(&reply.keys, |key| format!("\"{}\"", base64(key)));
                    object.raw("keys", if reply.keys.is_empty() { "null".to_owned() } else { keys() });
                    object.end()
                });
            }
        }
        let numbers = [("ID", reply.id), ("TTL", reply.ttl), ("GrantedTTL", reply.granted_ttl)];
        let mut out = self.lease(reply.header, String::new, &numbers, String::new)?;
        for key in &reply.keys {
            out.extend(format!("\"Key\" : {}\n", quoted(key)).bytes());
        }
        Ok(out)
    }

    /// The result of `lease list`.
    pub fn lease_list(&self, reply: &LeaseLeasesResponse) -> Result<Vec<u8>, Exit> {
        let ids: Vec<_> = reply.leases.iter().map(|lease| ("ID", lease.id)).collect();
        let told = || {
            let listed: String = ids.iter().map(|(_, id)| lease(*id) + "\n").collect();
            format!("found {} leases\n{listed}", ids.len())
        };
        self.lease(reply.header, told, &ids, || {
            let mut object = Object::begun_with_header(reply.header);
            object.raw("leases", list_of(&reply.leases, |lease| format!("{{\"id\":{}}}", lease.id)));
            object.end()
        })
    }

    /// Of most answers on leases, etcdctl's client keeps the header and some numbers, and no message to print in protobuf
    /// but the header.
    fn lease(
        &self,
        header: Option<ResponseHeader>,
        told: impl FnOnce() -> String,
        numbers: &[(&str, i64)],
        json: impl FnOnce() -> String,
    ) -> Result<Vec<u8>, Exit> {
        match self.format {
            Format::Simple => Ok(told().into()),
            Format::Fields => {
                let mut out = String::new();
                fields::header(&mut out, header);
                numbers.iter().for_each(|(name, number)| fields::field(&mut out, name, number));
                Ok(out.into())
            }
            Format::Json => Ok(line(json())),
            Format::Protobuf => Ok(header.unwrap_or_default().encode_to_vec()),
            Format::Table => Err(unsupported("table")),
        }
    }
}

fn time_to_live(reply: &LeaseTimeToLiveResponse, keys: bool) -> Vec<u8> {
    let id = lease(reply.id);
    if reply.granted_ttl == 0 && reply.ttl == -1 {
        return format!("lease {id} already expired\n").into();
    }
    let mut out =
        format!("lease {id} granted with TTL({}s), remaining({}s)", reply.granted_ttl, reply.ttl).into_bytes();
    if keys {
        out.extend(b", attached keys([");
        out.extend(reply.keys.join(&b' '));
        out.extend(b"])");
    }
    out.push(b'\n');
    out
}

/// A header as Go's library for protobuf writes it in a text.
fn header_in_words(header: Option<ResponseHeader>) -> String {
    let ResponseHeader { cluster_id, member_id, revision, raft_term } = header.unwrap_or_default();
    let mut words = String::new();
    for (name, value) in [("cluster_id", cluster_id), ("member_id", member_id)] {
        if value != 0 {
            words.push_str(&format!("{name}:{value} "));
        }
    }
    if revision != 0 {
        words.push_str(&format!("revision:{revision} "));
    }
    if raft_term != 0 {
        words.push_str(&format!("raft_term:{raft_term} "));
    }
    words
}
