//! What commands print, in etcdctl's output formats.
//!
//! Chooses the format; each format is a file below this one. Must not write anywhere: the output is returned.

mod fields;
mod json;
mod leases;
mod maintenance;
mod quotas;
pub mod said;
mod simple;
mod table;
mod users;

use std::fmt::Write;

use prost::Message;
use vlot_proto::etcdserverpb::{
    DeleteRangeResponse, HashKvResponse, Member, MemberAddResponse, MemberListResponse, MemberPromoteResponse,
    MemberRemoveResponse, MemberUpdateResponse, MoveLeaderResponse, PutResponse, RangeResponse, ResponseHeader,
    StatusResponse, TxnResponse, WatchResponse,
};

use super::{Exit, notation};
use said::{Health, Said};
pub use table::draw as draw_table;

/// How results are shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    Simple,
    Fields,
    Json,
    Protobuf,
    Table,
}

impl Format {
    /// Reads the value of `--write-out`.
    pub fn from_name(name: &str) -> Result<Format, Exit> {
        match name {
            "simple" => Ok(Format::Simple),
            "fields" => Ok(Format::Fields),
            "json" => Ok(Format::Json),
            "protobuf" => Ok(Format::Protobuf),
            "table" => Ok(Format::Table),
            _ => Err(Exit::bad_feature("unsupported output format")),
        }
    }
}

/// The format and what modifies it.
#[derive(Clone, Copy, Debug)]
pub struct Printer {
    pub format: Format,
    /// Bytes as `\xNN`, in the simple format; ids in hexadecimal, in the JSON of members.
    pub hex: bool,
    /// Values without their keys, in the simple format.
    pub value_only: bool,
}

impl Printer {
    /// The result of `get`.
    pub fn range(&self, reply: &RangeResponse) -> Result<Vec<u8>, Exit> {
        self.message(reply, |simple| simple.range(reply), fields::range, json::range)
    }

    /// The result of `put`.
    pub fn put(&self, reply: &PutResponse) -> Result<Vec<u8>, Exit> {
        self.message(reply, |simple| simple.put(reply), fields::put, json::put)
    }

    /// The result of `del`.
    pub fn delete(&self, reply: &DeleteRangeResponse) -> Result<Vec<u8>, Exit> {
        self.message(reply, |simple| simple.delete(reply), fields::delete, json::delete)
    }

    /// The result of `txn`.
    pub fn txn(&self, reply: &TxnResponse) -> Result<Vec<u8>, Exit> {
        self.message(reply, |simple| simple.txn(reply), fields::txn, json::txn)
    }

    /// Events of a watch.
    pub fn watch(&self, reply: &WatchResponse) -> Result<Vec<u8>, Exit> {
        self.message(reply, |simple| simple.watch(reply), fields::watch, json::watch)
    }

    /// The members of a cluster.
    pub fn member_list(&self, reply: &MemberListResponse) -> Result<Vec<u8>, Exit> {
        match self.format {
            Format::Simple => Ok(joined(&member_rows(&reply.members))),
            Format::Fields => Ok(fields::member_list(reply).into()),
            Format::Json => Ok(line(json::member_list(reply, self.hex))),
            Format::Protobuf => Ok(reply.encode_to_vec()),
            Format::Table => {
                let header = ["ID", "Status", "Name", "Peer Addrs", "Client Addrs", "Is Learner"];
                Ok(table::draw(&header, &member_rows(&reply.members)).into())
            }
        }
    }

    /// The result of `member add`.
    pub fn member_add(&self, reply: &MemberAddResponse) -> Result<Vec<u8>, Exit> {
        let id = reply.member.as_ref().map_or(0, |member| member.id);
        let told = || format!("Member {id:16x} added to cluster {:16x}", cluster(reply.header));
        self.change(reply, told, || json::member_change(reply.header, reply.member.as_ref(), &reply.members))
    }

    /// The result of `member remove`.
    pub fn member_remove(&self, id: u64, reply: &MemberRemoveResponse) -> Result<Vec<u8>, Exit> {
        let told = || format!("Member {id:16x} removed from cluster {:16x}", cluster(reply.header));
        self.change(reply, told, || json::member_change(reply.header, None, &reply.members))
    }

    /// The result of `member update`.
    pub fn member_update(&self, id: u64, reply: &MemberUpdateResponse) -> Result<Vec<u8>, Exit> {
        let told = || format!("Member {id:16x} updated in cluster {:16x}", cluster(reply.header));
        self.change(reply, told, || json::member_change(reply.header, None, &reply.members))
    }

    /// The result of `member promote`.
    pub fn member_promote(&self, id: u64, reply: &MemberPromoteResponse) -> Result<Vec<u8>, Exit> {
        let told = || format!("Member {id:16x} promoted in cluster {:16x}", cluster(reply.header));
        self.change(reply, told, || json::member_change(reply.header, None, &reply.members))
    }

    /// The result of `move-leader`.
    pub fn move_leader(&self, from: u64, to: u64, reply: &MoveLeaderResponse) -> Result<Vec<u8>, Exit> {
        let told = || format!("Leadership transferred from {from:x} to {to:x}");
        self.change(reply, told, || json::member_change(reply.header, None, &[]))
    }

    /// A change that is told in a sentence.
    fn change<Reply: Message>(
        &self,
        reply: &Reply,
        told: impl FnOnce() -> String,
        json: impl FnOnce() -> String,
    ) -> Result<Vec<u8>, Exit> {
        match self.format {
            Format::Simple => Ok(line(told())),
            Format::Json => Ok(line(json())),
            Format::Protobuf => Ok(reply.encode_to_vec()),
            Format::Fields => Err(unsupported("fields")),
            Format::Table => Err(unsupported("table")),
        }
    }

    /// How endpoints are. In the simple format the unhealthy ones are handed to `report`.
    pub fn endpoint_health(&self, healths: &[Health], report: impl Fn(&str)) -> Result<Vec<u8>, Exit> {
        match self.format {
            Format::Simple => Ok(simple::endpoint_health(healths, report).into()),
            Format::Fields => Ok(fields::endpoint_health(healths).into()),
            Format::Json => Ok(line(json::endpoint_health(healths))),
            Format::Protobuf => Err(unsupported("protobuf")),
            Format::Table => {
                let rows: Vec<Vec<String>> = healths.iter().map(health_row).collect();
                Ok(table::draw(&["endpoint", "health", "took", "error"], &rows).into())
            }
        }
    }

    /// The status of endpoints.
    pub fn endpoint_status(&self, statuses: &[Said<StatusResponse>]) -> Result<Vec<u8>, Exit> {
        let rows = || statuses.iter().map(status_row).collect::<Vec<_>>();
        match self.format {
            Format::Simple => Ok(joined(&rows())),
            Format::Fields => Ok(fields::endpoint_status(statuses).into()),
            Format::Json => Ok(line(json::endpoint_status(statuses))),
            Format::Protobuf => Err(unsupported("protobuf")),
            Format::Table => {
                let header = [
                    "endpoint",
                    "ID",
                    "version",
                    "db size",
                    "is leader",
                    "is learner",
                    "raft term",
                    "raft index",
                    "raft applied index",
                    "errors",
                ];
                Ok(table::draw(&header, &rows()).into())
            }
        }
    }

    /// The hash of endpoints' history.
    pub fn endpoint_hash_kv(&self, hashes: &[Said<HashKvResponse>]) -> Result<Vec<u8>, Exit> {
        let rows = || hashes.iter().map(|said| vec![said.endpoint.clone(), said.reply.hash.to_string()]);
        match self.format {
            Format::Simple => Ok(joined(&rows().collect::<Vec<_>>())),
            Format::Fields => Ok(fields::endpoint_hash_kv(hashes).into()),
            Format::Json => Ok(line(json::endpoint_hash_kv(hashes))),
            Format::Protobuf => Err(unsupported("protobuf")),
            Format::Table => Ok(table::draw(&["endpoint", "hash"], &rows().collect::<Vec<_>>()).into()),
        }
    }

    fn message<Reply: Message>(
        &self,
        reply: &Reply,
        simple: impl FnOnce(&mut simple::Output),
        fields: impl FnOnce(&mut String, &Reply),
        json: impl FnOnce(&Reply) -> String,
    ) -> Result<Vec<u8>, Exit> {
        match self.format {
            Format::Simple => {
                let mut output = simple::Output::new(self.hex, self.value_only);
                simple(&mut output);
                Ok(output.bytes)
            }
            Format::Fields => {
                let mut output = String::new();
                fields(&mut output, reply);
                Ok(output.into())
            }
            Format::Json => Ok(line(json(reply))),
            Format::Protobuf => Ok(reply.encode_to_vec()),
            Format::Table => Err(unsupported("table")),
        }
    }
}

fn cluster(header: Option<ResponseHeader>) -> u64 {
    header.map_or(0, |header| header.cluster_id)
}

fn unsupported(format: &str) -> Exit {
    Exit::bad_feature(format!("{format} not supported as output format"))
}

fn line(mut text: String) -> Vec<u8> {
    text.push('\n');
    text.into()
}

/// Rows as lines of cells with commas between.
fn joined(rows: &[Vec<String>]) -> Vec<u8> {
    let mut lines = String::new();
    for row in rows {
        // Writing into a string cannot fail.
        let _ = writeln!(lines, "{}", row.join(", "));
    }
    lines.into()
}

fn member_rows(members: &[Member]) -> Vec<Vec<String>> {
    let row = |member: &Member| {
        vec![
            format!("{:x}", member.id),
            match member {
                Member { name, .. } if name.is_empty() => "unstarted",
                Member { is_witness: true, .. } => "witness",
                _ => "started",
            }
            .to_owned(),
            member.name.clone(),
            member.peer_ur_ls.join(","),
            member.client_ur_ls.join(","),
            member.is_learner.to_string(),
        ]
    };
    members.iter().map(row).collect()
}

fn status_row(said: &Said<StatusResponse>) -> Vec<String> {
    let status = &said.reply;
    let member = status.header.map_or(0, |header| header.member_id);
    vec![
        said.endpoint.clone(),
        format!("{member:x}"),
        status.version.clone(),
        notation::size(status.db_size.max(0) as u64),
        (status.leader == member).to_string(),
        status.is_learner.to_string(),
        status.raft_term.to_string(),
        status.raft_index.to_string(),
        status.raft_applied_index.to_string(),
        status.errors.join(", "),
    ]
}

fn health_row(health: &Health) -> Vec<String> {
    vec![
        health.endpoint.clone(),
        health.error.is_empty().to_string(),
        notation::duration(health.took),
        health.error.clone(),
    ]
}
