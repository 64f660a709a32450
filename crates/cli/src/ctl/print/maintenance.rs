//! What is said of alarms and of downgrades, in each format.

use prost::Message;
use vlot_proto::etcdserverpb::{AlarmResponse, AlarmType, DowngradeResponse};

use super::json::Object;
use super::{Format, Printer, fields, line, unsupported};
use crate::ctl::Exit;

impl Printer {
    /// Alarms that are on, or that have been taken off.
    pub fn alarms(&self, reply: &AlarmResponse) -> Result<Vec<u8>, Exit> {
        let name = |alarm: i32| match AlarmType::try_from(alarm) {
            Ok(known) => known.as_str_name().to_owned(),
            Err(_) => alarm.to_string(),
        };
        match self.format {
            Format::Simple => {
                let mut out = String::new();
                for alarm in &reply.alarms {
                    if alarm.member_id != 0 {
                        out.push_str(&format!("memberID:{} ", alarm.member_id));
                    }
                    if alarm.alarm != 0 {
                        out.push_str(&format!("alarm:{} ", name(alarm.alarm)));
                    }
                    out.push('\n');
                }
                Ok(out.into())
            }
            Format::Fields => {
                let mut out = String::new();
                fields::header(&mut out, reply.header);
                for alarm in &reply.alarms {
                    fields::field(&mut out, "MemberID", alarm.member_id);
                    fields::field(&mut out, "AlarmType", name(alarm.alarm));
                    out.push('\n');
                }
                Ok(out.into())
            }
            Format::Json => {
                let mut object = Object::with_header(reply.header);
                object.list("alarms", &reply.alarms, |alarm| {
                    let mut object = Object::default();
                    object.unsigned("memberID", alarm.member_id);
                    object.number("alarm", alarm.alarm.into());
                    object.end()
                });
                Ok(line(object.end()))
            }
            Format::Protobuf => Ok(reply.encode_to_vec()),
            Format::Table => Err(unsupported("table")),
        }
    }

    /// The result of `downgrade validate`, `enable` or `cancel`.
    pub fn downgrade(&self, action: &str, reply: &DowngradeResponse) -> Result<Vec<u8>, Exit> {
        let told = || format!("Downgrade {action} success, cluster version {}", reply.version);
        self.change(reply, told, || {
            let mut object = Object::with_header(reply.header);
            object.text("version", &reply.version);
            object.end()
        })
    }
}
