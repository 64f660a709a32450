//! What a service sees of a call that is more than one message each way: the client's messages one by one, and the way
//! back.
//!
//! Must not know which call it is, nor how messages come and go: gRPC and the JSON gateway do (`edge.rs`).

mod alike;

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::mpsc;

use crate::share::{Held, Share};
use crate::status::Status;
use crate::telemetry::metrics::{Metrics, Offence};
pub(crate) use alike::{Alike, Copies};

/// How long a client that holds something up may take for what it was sent.
const TAKE_TIMEOUT: Duration = Duration::from_secs(60);

/// The messages a client sends, one by one.
pub(crate) trait Requests: Send {
    /// The next message; `None` when the client has sent its last. Cancel-safe.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Status>> + Send;
}

/// What an adapter takes from a conversation: messages as they come, closed by a status.
pub(crate) type Waiting = mpsc::Receiver<Result<Messages, Status>>;

/// Some messages that leave together, each behind its prefix.
#[derive(Debug)]
pub(crate) enum Messages {
    /// One behind the other, or a slice of a long one.
    Each(Bytes),
    /// Those that differ in one number alone. They are pending until the last of them is sent.
    Alike(Alike, Held),
}

impl Messages {
    /// All of them in one buffer.
    pub(crate) fn into_bytes(self) -> Bytes {
        match self {
            Messages::Each(bytes) => bytes,
            Messages::Alike(alike, _) => alike.to_bytes(),
        }
    }
}

/// The way back to a streaming client.
#[derive(Clone)]
pub(crate) struct Replies {
    way: mpsc::Sender<Result<Messages, Status>>,
    share: Arc<Share>,
    metrics: Arc<Metrics>,
}

impl Replies {
    /// A way for so many batches; what exceeds it waits in the service, which knows how to do without a copy.
    pub(crate) fn new(batches_max: usize, share: Arc<Share>, metrics: Arc<Metrics>) -> (Replies, Waiting) {
        let (way, waiting) = mpsc::channel(batches_max);
        (Replies { way, share, metrics }, waiting)
    }

    /// Sends some messages, waiting until there is room for them.
    ///
    /// # Errors
    /// The client is gone, or its address has too much that it does not take.
    pub(crate) async fn send(&self, batch: Batch) -> Result<(), Status> {
        if self.share.is_full() {
            self.metrics.offences.count(Offence::PendingBytes);
            return Err(Status::TOO_MANY_REQUESTS);
        }
        // All of it is pending from here on, however long the first of it waits for room.
        for messages in batch.into_messages(&self.share) {
            self.way.send(Ok(messages)).await.map_err(|_| Status::CANCELED)?;
        }
        Ok(())
    }

    /// The same to a client that must not take for ever, because others wait for what is held for it. `None` if it does.
    pub(crate) async fn send_in_time(&self, batch: Batch) -> Option<Result<(), Status>> {
        tokio::time::timeout(TAKE_TIMEOUT, self.send(batch)).await.ok()
    }

    /// Ends the conversation.
    pub(crate) async fn end(&self, status: Status) {
        // If the client is gone, nobody asks how it ended.
        let _ = self.way.send(Err(status)).await;
    }

    /// Whether the client is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.way.is_closed()
    }

    /// Returns when the client is gone.
    pub(crate) async fn closed(&self) {
        self.way.closed().await;
    }
}

/// The way back for the slices of one long message.
pub(crate) struct Slices {
    way: mpsc::Sender<Result<Messages, Status>>,
    share: Arc<Share>,
}

impl Slices {
    /// A way for so many slices.
    pub(crate) fn new(slices_max: usize, share: Arc<Share>) -> (Slices, Waiting) {
        let (way, waiting) = mpsc::channel(slices_max);
        (Slices { way, share }, waiting)
    }

    /// Waits until the client has taken what it was given, but not for ever.
    pub(crate) async fn room(&self) -> Result<Room<'_>, NotTaken> {
        match tokio::time::timeout(TAKE_TIMEOUT, self.way.reserve()).await {
            Ok(Ok(permit)) => Ok(Room { permit, share: &self.share }),
            Ok(Err(_)) => Err(NotTaken::Gone),
            Err(_) => Err(NotTaken::TooSlow),
        }
    }
}

/// Why a client takes nothing more of a long message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NotTaken {
    Gone,
    TooSlow,
}

/// Room for one slice, or for the end.
pub(crate) struct Room<'s> {
    permit: mpsc::Permit<'s, Result<Messages, Status>>,
    share: &'s Arc<Share>,
}

impl Room<'_> {
    /// Gives the next slice.
    pub(crate) fn fill(self, slice: Bytes) {
        self.permit.send(Ok(Messages::Each(self.share.keep(slice))));
    }

    /// Ends the call: well if all of the message was given.
    pub(crate) fn end(self, status: Status) {
        self.permit.send(Err(status));
    }
}

/// Length of what precedes each message of a batch: a byte that is zero, and the length as 32 bits. It is how gRPC frames
/// messages, so that its adapter sends a batch as it is; another one steps over it.
pub(crate) const PREFIX_BYTES: usize = 5;

/// Some messages of a stream that leave together, one behind the other.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Batch {
    /// Messages that are alike, and what comes before them.
    alike: Vec<(BytesMut, Alike)>,
    /// What comes behind all of these.
    rest: BytesMut,
}

impl Batch {
    /// An empty one with room for so many bytes.
    pub(crate) fn with_capacity(bytes: usize) -> Batch {
        Batch { alike: Vec::new(), rest: BytesMut::with_capacity(bytes) }
    }

    /// A batch of one.
    pub(crate) fn of(message: &[u8]) -> Batch {
        let mut batch = Batch::default();
        batch.push(message.len(), |buffer| buffer.put_slice(message));
        batch
    }

    /// Adds one message of exactly `length` bytes, which `write` appends to the buffer.
    pub(crate) fn push(&mut self, length: usize, write: impl FnOnce(&mut BytesMut)) {
        self.rest.reserve(PREFIX_BYTES + length);
        self.rest.put_slice(&prefix(length));
        let start = self.rest.len();
        write(&mut self.rest);
        // Both are of the same message of this server: no client has a say in it.
        assert_eq!(self.rest.len() - start, length, "a message is as long as its prefix says");
    }

    /// Adds messages that are alike.
    pub(crate) fn push_alike(&mut self, alike: Alike) {
        self.alike.push((self.rest.split(), alike));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.alike.is_empty() && self.rest.is_empty()
    }

    /// What is in it, in order and as it leaves, pending for an address.
    fn into_messages(self, share: &Arc<Share>) -> Vec<Messages> {
        let mut all = Vec::with_capacity(2 * self.alike.len() + 1);
        let each = |bytes: BytesMut| (!bytes.is_empty()).then(|| Messages::Each(share.keep(bytes.freeze())));
        for (before, alike) in self.alike {
            all.extend(each(before));
            let held = share.hold(alike.held_bytes());
            all.push(Messages::Alike(alike, held));
        }
        all.extend(each(self.rest));
        all
    }

    /// All messages in one buffer.
    #[cfg(test)]
    pub(crate) fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        for (before, alike) in &self.alike {
            bytes.put_slice(before);
            bytes.put_slice(&alike.to_bytes());
        }
        bytes.put_slice(&self.rest);
        bytes.freeze()
    }
}

/// What precedes an uncompressed message of this length.
pub(crate) fn prefix(length: usize) -> [u8; PREFIX_BYTES] {
    // No message is longer: clients stop reading at 2 GiB, and what is longer is refused.
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [0, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::{AddressLimits, Shares};

    #[tokio::test]
    async fn all_of_a_batch_is_pending_while_its_first_part_waits() {
        let limits = AddressLimits { connections: 1, streams: 1, watches: 1, pending_bytes: 8 << 10 };
        let place = Shares::new(limits).connect("10.0.0.1".parse().unwrap()).unwrap();
        let (replies, mut waiting) = Replies::new(1, place.share().clone(), Arc::new(Metrics::new(false)));
        replies.send(Batch::of(b"it takes all the room")).await.unwrap();
        let mut batch = Batch::default();
        batch.push_alike(Alike::new(b"head", 1, &[], vec![1, 2, 3]));
        batch.push(9 << 10, |buffer| buffer.put_bytes(7, 9 << 10));
        let (first, expected) = (Batch::of(b"it takes all the room").to_bytes(), batch.to_bytes());
        let sending = tokio::spawn(async move { replies.send(batch).await });
        tokio::task::yield_now().await;
        assert!(place.share().is_full());
        let mut come = Vec::new();
        while let Some(messages) = waiting.recv().await {
            come.extend_from_slice(&messages.unwrap().into_bytes());
        }
        assert_eq!(come, [first, expected].concat());
        assert!(!place.share().is_full() && sending.await.unwrap().is_ok());
    }

    #[test]
    fn messages_of_a_batch_follow_each_other() {
        let mut batch = Batch::of(b"abc");
        batch.push(0, |_| {});
        batch.push(1, |buffer| buffer.put_slice(b"z"));
        assert_eq!(batch.to_bytes(), &b"\0\0\0\0\x03abc\0\0\0\0\0\0\0\0\0\x01z"[..]);
    }
}
