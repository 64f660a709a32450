//! Renews one lease again and again, on whichever endpoint answers, until it is over.
//!
//! Must not know what the lease holds.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};
use vlot_proto::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse};

use crate::client::{Client, Failure, Status, Stream, path};
use crate::ctl::flags::explain;

/// How long the first renewal may take: until it is there, nothing is known of the lease's time.
const FIRST: Duration = Duration::from_secs(10);
/// Pause before a stream that broke is opened again.
const PAUSE: Duration = Duration::from_millis(500);
/// etcd grants no lease for longer. A server that says more is not to make the clock overflow.
const TTL_MAX: Duration = Duration::from_secs(9_000_000_000);
/// How often a lease is renewed in its time.
const PER_TTL: u32 = 3;

/// Why renewing comes to an end.
#[derive(Debug)]
pub enum End {
    /// The lease has expired or was revoked, or nobody could be asked for so long that it must have expired.
    Over,
    /// The server refuses, and will go on refusing.
    Failed(Failure),
}

/// A lease that is being renewed.
pub struct Renewal {
    client: Client,
    lease: i64,
    stream: Option<Stream<LeaseKeepAliveRequest, LeaseKeepAliveResponse>>,
    /// When to renew next.
    due: Instant,
    /// When the lease has expired, for all that is known.
    deadline: Instant,
}

impl Renewal {
    /// Renews from now on.
    pub fn new(client: Client, lease: i64) -> Renewal {
        let now = Instant::now();
        Renewal { client, lease, stream: None, due: now, deadline: now + FIRST }
    }

    /// Waits until it is time, renews, and returns what the server said.
    ///
    /// # Errors
    /// [`End`]; calling it again makes no sense then.
    pub async fn next(&mut self) -> Result<LeaseKeepAliveResponse, End> {
        loop {
            sleep_until(self.due.min(self.deadline)).await;
            let failure = match timeout_at(self.deadline, self.renew()).await {
                Err(_) => return Err(End::Over),
                Ok(Ok(reply)) if reply.ttl <= 0 => return Err(End::Over),
                Ok(Ok(reply)) => {
                    let ttl = Duration::from_secs(reply.ttl.unsigned_abs()).min(TTL_MAX);
                    self.due = Instant::now() + ttl / PER_TTL;
                    self.deadline = Instant::now() + ttl;
                    return Ok(reply);
                }
                Ok(Err(failure)) => failure,
            };
            match &failure {
                Failure::Refused(status) if status.code != Status::UNAVAILABLE => return Err(End::Failed(failure)),
                Failure::LoginRefused(_) | Failure::Malformed(_) => return Err(End::Failed(failure)),
                _ => explain(&failure),
            }
            self.stream = None;
            self.client.move_on();
            self.due = Instant::now() + PAUSE;
        }
    }

    async fn renew(&mut self) -> Result<LeaseKeepAliveResponse, Failure> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => self.stream.insert(self.client.stream(path::LEASE_KEEP_ALIVE, &[], FIRST).await?),
        };
        stream.send(&LeaseKeepAliveRequest { id: self.lease }).await?;
        let reply = stream.next().await?;
        reply.ok_or_else(|| Failure::Broken { endpoint: String::new(), cause: "the stream has ended".to_owned() })
    }
}
