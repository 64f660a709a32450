//! `etcdserverpb.Maintenance/Snapshot`: this node's whole store, streamed to a client at its own pace.

use std::io::{self, Write};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prost::Message;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tracing::info;
use vlot_proto::etcdserverpb::{SnapshotRequest, SnapshotResponse};
use vlot_store::snapshot::Snapshot;
use vlot_store::store::Store;

use crate::conversation::{Batch, Replies, Requests};
use crate::files::backup;
use crate::service::{Caller, ETCD_VERSION, Services, decode};
use crate::status::{Code, Status};
use crate::telemetry::metrics::Offence;

/// How many bytes one message has, as in etcd.
const PIECE_BYTES: usize = 32 << 10;
/// How many pieces are made ahead of what the client has taken.
const PIECES_MAX: usize = 8;
/// Between two looks whether what was applied is durable.
const DURABLE_PAUSE: Duration = Duration::from_millis(10);

impl Services {
    /// Local: it needs no other member. Everything that this node had applied at the call is in it; writes go on.
    pub(in crate::service) async fn snapshot(
        &self,
        caller: &Caller,
        mut requests: impl Requests,
        replies: Replies,
    ) -> Result<(), Status> {
        let request = requests.next().await?.ok_or(Status::NO_REQUEST)?;
        let _: SnapshotRequest = decode(request)?;
        let _place = caller.share.begin_snapshot().await;
        let turn = self.snapshots.turn().await;
        self.durable().await?;
        let snapshot = self.store_group.look(Store::snapshot).await?.map_err(|error| failed(&error))?;
        let (pieces, mut made) = mpsc::channel(PIECES_MAX);
        let making = turn.run(move || make(&snapshot, pieces));
        let sending = async {
            // Ends the making as well when the client is gone.
            while let Some(piece) = made.recv().await {
                let sent = replies.send_in_time(Batch::of(&piece)).await;
                sent.unwrap_or_else(|| {
                    self.metrics.offences.count(Offence::SlowReader);
                    Err(Status::new(Code::DeadlineExceeded, "vlot: the snapshot was not taken in time"))
                })?;
            }
            drop(made);
            Ok::<_, Status>(())
        };
        let (bytes, sent) = tokio::join!(making, sending);
        sent?;
        let bytes = bytes?.map_err(|error| failed(&error))?;
        info!(bytes, "a snapshot was sent to a client");
        Ok(())
    }

    /// Waits until what is applied here is durable: a snapshot is of that.
    async fn durable(&self) -> Result<(), Status> {
        let applied = self.store_group.look(Store::applied).await?;
        let deadline = Instant::now() + self.store_group.request_timeout();
        while self.store_group.look(Store::durable).await?.index < applied.index {
            if Instant::now() >= deadline {
                return Err(Status::TIMEOUT);
            }
            sleep(DURABLE_PAUSE).await;
        }
        Ok(())
    }
}

fn failed(error: &dyn std::fmt::Display) -> Status {
    Status::new(Code::Unknown, format!("vlot: no snapshot can be made: {error}"))
}

/// Makes all messages of a snapshot, and says how many bytes they carry.
fn make(snapshot: &Snapshot, pieces: mpsc::Sender<Bytes>) -> io::Result<u64> {
    let snapshot_bytes = snapshot.encoded_len()?;
    let content_bytes = backup::content_bytes(snapshot_bytes);
    let mut out = Pieces { pieces, left: content_bytes, buffer: BytesMut::new(), hash: Sha256::new() };
    backup::write_content(snapshot, snapshot_bytes, &mut out)?;
    out.end()?;
    Ok(content_bytes + backup::HASH_BYTES as u64)
}

/// What is written goes out in messages, once there is room for them.
struct Pieces {
    pieces: mpsc::Sender<Bytes>,
    left: u64,
    buffer: BytesMut,
    hash: Sha256,
}

impl Pieces {
    fn send_buffer(&mut self) -> io::Result<()> {
        let blob = self.buffer.split().freeze();
        self.hash.update(&blob);
        self.left -= blob.len() as u64;
        self.send(blob)
    }

    fn send(&self, blob: Bytes) -> io::Result<()> {
        let version = ETCD_VERSION.to_owned();
        let message = SnapshotResponse { header: None, remaining_bytes: self.left, blob, version };
        let sent = self.pieces.blocking_send(Bytes::from(message.encode_to_vec()));
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the client is gone"))
    }

    /// The hash is the last message.
    fn end(mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.send_buffer()?;
        }
        let hash = std::mem::take(&mut self.hash).finalize();
        self.send(Bytes::copy_from_slice(&hash))
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == PIECE_BYTES {
            self.send_buffer()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
