//! The audit: who did what, when, and how it ended, as JSON lines, without values and secrets.
//!
//! Owns which calls are told and what a line has. A line is made where the call is and written by a thread of its own
//! (`audit/file.rs`): a call never waits for it. What there is no room for is counted, and the file says so itself. Must not know
//! how a call came in.

mod file;
mod request;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::{Map, Value, json};
use vlot_proto::descriptors;

use crate::conversation::Requests;
use crate::rpc::Rpc;
use crate::status::{CODE_NAMES, Code, Status};
use file::Lines;

/// What is to be told, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct AuditOptions {
    /// The file; `None` is standard error.
    pub(crate) path: Option<PathBuf>,
    /// Whether calls that change nothing are told too.
    pub(crate) reads: bool,
}

/// The audit of one process.
pub(crate) struct Audit {
    lines: Lines,
    reads: bool,
}

/// Who calls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who<'c> {
    pub(crate) from: SocketAddr,
    /// The name of the user or of the certificate, if the caller has one.
    pub(crate) user: Option<&'c str>,
}

impl Audit {
    /// Begins to write.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(crate) fn start(options: &AuditOptions) -> io::Result<Arc<Audit>> {
        Ok(Arc::new(Audit { lines: Lines::start(options.path.clone())?, reads: options.reads }))
    }

    /// A unary call begins. It is told when what is returned is dropped; `None` if it is not to be told at all.
    pub(crate) fn begin(&self, rpc: Rpc, who: Who<'_>, request: &Bytes) -> Option<Entry<'_>> {
        self.tells(rpc).then(|| Entry {
            audit: self,
            begun: Instant::now(),
            line: line("call", rpc, who, Some(request)),
            code: Code::Canceled,
        })
    }

    /// A stream begins. Its end is told when what is returned is dropped.
    pub(crate) fn begin_stream(&self, rpc: Rpc, who: Who<'_>) -> Option<Entry<'_>> {
        self.tells(rpc).then(|| Entry {
            audit: self,
            begun: Instant::now(),
            line: line("end", rpc, who, None),
            code: Code::Canceled,
        })
    }

    /// A request on a stream.
    fn asked(&self, rpc: Rpc, who: Who<'_>, request: &Bytes) {
        if self.tells(rpc) {
            self.lines.push(Value::Object(line("request", rpc, who, Some(request))).to_string());
        }
    }

    fn tells(&self, rpc: Rpc) -> bool {
        match kind_of(rpc) {
            Kind::Change => true,
            Kind::Read => self.reads,
            Kind::Probe => false,
        }
    }

    /// Has the file opened anew before more is told: it was moved away, or is about to be.
    pub(crate) fn reopen(&self) {
        self.lines.reopen();
    }

    /// Waits until what was told is written, but not for ever.
    pub(crate) fn flush(&self) {
        self.lines.flush();
    }
}

/// What a call is to an auditor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Change,
    Read,
    /// A health check: it reads no data, and comes every second.
    Probe,
}

/// Whatever is not known to be a read is a change. A snapshot is told like a change: it takes everything with it. A login too.
fn kind_of(rpc: Rpc) -> Kind {
    match rpc.path().rsplit('/').next().unwrap_or_default() {
        "Check" | "ServerReflectionInfo" => Kind::Probe,
        "Watch" if rpc == Rpc::HealthWatch => Kind::Probe,
        "Range" | "RangeStream" | "Watch" | "LeaseKeepAlive" | "LeaseTimeToLive" | "LeaseLeases" | "Leader"
        | "Observe" | "MemberList" | "Status" | "Hash" | "HashKV" | "AuthStatus" | "UserGet" | "UserList"
        | "RoleGet" | "RoleList" => Kind::Read,
        _ => Kind::Change,
    }
}

/// A call that is under way. As canceled, unless it has ended otherwise: what serves a call is dropped when its client goes away.
pub(crate) struct Entry<'a> {
    audit: &'a Audit,
    begun: Instant,
    line: Map<String, Value>,
    code: Code,
}

impl Entry<'_> {
    /// The call has ended, and how.
    pub(crate) fn end(mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let mut line = std::mem::take(&mut self.line);
        line.insert("code".into(), CODE_NAMES[self.code as usize].into());
        line.insert("ms".into(), (self.begun.elapsed().as_micros() as f64 / 1000.0).into());
        self.audit.lines.push(Value::Object(line).to_string());
    }
}

/// The requests of a stream, told as they come.
pub(crate) struct Audited<'a, R> {
    pub(crate) requests: R,
    pub(crate) audit: &'a Audit,
    pub(crate) rpc: Rpc,
    pub(crate) who: Who<'a>,
}

impl<R: Requests> Requests for Audited<'_, R> {
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let next = self.requests.next().await;
        if let Ok(Some(request)) = &next {
            self.audit.asked(self.rpc, self.who, request);
        }
        next
    }
}

fn line(event: &str, rpc: Rpc, who: Who<'_>, request: Option<&Bytes>) -> Map<String, Value> {
    let mut line = Map::new();
    line.insert("time".into(), timestamp(SystemTime::now()).into());
    line.insert("event".into(), event.into());
    line.insert("rpc".into(), rpc.path().into());
    line.insert("from".into(), who.from.to_string().into());
    line.insert("user".into(), json!(who.user));
    if let Some(request) = request {
        let told = descriptors::method(rpc.path()).map(|method| request::told(method.request, request));
        line.insert("request".into(), told.unwrap_or(Value::Null));
    }
    line
}

/// A moment as RFC 3339 has it, in UTC.
fn timestamp(now: SystemTime) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, seconds) = ((since.as_secs() / 86_400) as i64, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}Z", since.subsec_micros())
}

/// The date that is so many days after the first of January 1970. Years are counted from March on, so that the day that is
/// there every four years is their last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// What is told of the request of any RPC, for fuzzers.
pub(crate) fn told_of_any(number: u8, request: &Bytes) -> String {
    let methods = descriptors::METHODS;
    request::told(methods[usize::from(number) % methods.len()].request, request).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_in_the_calendar() {
        let rows = [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399, "2000-02-28T23:59:59.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
            (1_790_000_000, "2026-09-21T14:13:20.000000Z"),
        ];
        for (seconds, expected) in rows {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn every_rpc_is_a_change_unless_it_is_known_to_be_none() {
        for number in 0..Rpc::COUNT {
            let rpc = Rpc::numbered(number);
            let name = rpc.path();
            let changes =
                ["Put", "Txn", "DeleteRange", "Compact", "Grant", "Revoke", "Lock", "Unlock", "Campaign", "Proclaim"];
            if changes.iter().any(|change| name.ends_with(change)) || name.contains("Member") && !name.ends_with("List")
            {
                assert_eq!(kind_of(rpc), Kind::Change, "{name}");
            }
            if name.contains("Health") {
                assert_eq!(kind_of(rpc), Kind::Probe, "{name}");
            }
        }
        assert_eq!([Rpc::Range, Rpc::Watch, Rpc::Status].map(kind_of), [Kind::Read; 3]);
        assert_eq!(kind_of(Rpc::Snapshot), Kind::Change);
    }
}
