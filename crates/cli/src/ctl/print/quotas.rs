//! What is said of quotas, in each format.

use prost::Message;
use vlot_proto::vlotpb::{ListQuotasResponse, Quota, SetQuotaResponse};

use super::json::Object;
use super::{Format, Printer, fields, joined, line, table};
use crate::ctl::Exit;
use crate::ctl::notation::quoted;

impl Printer {
    /// The result of `quota set`.
    pub fn quota_set(&self, reply: &SetQuotaResponse) -> Result<Vec<u8>, Exit> {
        let quotas = reply.quota.as_slice();
        match self.format {
            Format::Simple => {
                let told = quotas.iter().map(|quota| format!("Quota of prefix {} set", quoted(&quota.prefix)));
                Ok(line(told.collect()))
            }
            Format::Json => {
                let mut object = Object::with_header(reply.header);
                quotas.iter().for_each(|quota| object.raw("quota", shown(quota)));
                Ok(line(object.end()))
            }
            _ => self.quotas(reply.header, quotas, reply),
        }
    }

    /// The result of `quota list`.
    pub fn quota_list(&self, reply: &ListQuotasResponse) -> Result<Vec<u8>, Exit> {
        match self.format {
            Format::Simple => Ok(joined(&rows(&reply.quotas))),
            Format::Json => {
                let mut object = Object::with_header(reply.header);
                object.list("quotas", &reply.quotas, shown);
                Ok(line(object.end()))
            }
            _ => self.quotas(reply.header, &reply.quotas, reply),
        }
    }

    fn quotas(
        &self,
        header: Option<vlot_proto::etcdserverpb::ResponseHeader>,
        quotas: &[Quota],
        reply: &impl Message,
    ) -> Result<Vec<u8>, Exit> {
        match self.format {
            Format::Fields => {
                let mut out = String::new();
                fields::header(&mut out, header);
                for quota in quotas {
                    fields::field(&mut out, "Prefix", quoted(&quota.prefix));
                    fields::field(&mut out, "BytesUsed", quota.bytes_used);
                    fields::field(&mut out, "BytesMax", quota.bytes_max);
                    fields::field(&mut out, "KeysUsed", quota.keys_used);
                    fields::field(&mut out, "KeysMax", quota.keys_max);
                }
                Ok(out.into())
            }
            Format::Table => {
                let header = ["Prefix", "Bytes used", "Bytes max", "Keys used", "Keys max"];
                Ok(table::draw(&header, &rows(quotas)).into())
            }
            _ => Ok(reply.encode_to_vec()),
        }
    }
}

fn rows(quotas: &[Quota]) -> Vec<Vec<String>> {
    let limit = |limit: i64| if limit == 0 { "-".to_owned() } else { limit.to_string() };
    let row = |quota: &Quota| {
        vec![
            quoted(&quota.prefix),
            quota.bytes_used.to_string(),
            limit(quota.bytes_max),
            quota.keys_used.to_string(),
            limit(quota.keys_max),
        ]
    };
    quotas.iter().map(row).collect()
}

fn shown(quota: &Quota) -> String {
    let mut object = Object::default();
    object.bytes("prefix", &quota.prefix);
    object.number("bytes_max", quota.bytes_max);
    object.number("keys_max", quota.keys_max);
    object.number("bytes_used", quota.bytes_used);
    object.number("keys_used", quota.keys_used);
    object.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(format: Format) -> String {
        let quota = |prefix: &'static str, bytes_max, keys_max| Quota {
            prefix: prefix.into(),
            bytes_max,
            keys_max,
            bytes_used: 7,
            keys_used: 2,
        };
        let reply = ListQuotasResponse { header: None, quotas: vec![quota("", 10, 0), quota("a\n/", 0, 9)] };
        let printer = Printer { format, hex: false, value_only: false };
        String::from_utf8(printer.quota_list(&reply).unwrap()).unwrap()
    }

    #[test]
    fn quotas_are_shown_in_each_format() {
        assert_eq!(printed(Format::Simple), "\"\", 7, 10, 2, -\n\"a\\n/\", 7, -, 2, 9\n");
        assert!(
            printed(Format::Json).contains("{\"prefix\":\"YQov\",\"keys_max\":9,\"bytes_used\":7,\"keys_used\":2}")
        );
        assert!(printed(Format::Table).contains("KEYS MAX"));
        assert!(printed(Format::Fields).contains("\"BytesMax\" : 10\n"));
    }
}
