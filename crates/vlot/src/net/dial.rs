//! Outgoing connections: reach a peer, greet it, write its frames, and start over when that ends.

use std::fmt;
use std::future::{pending, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::sync::futures::Notified;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::backoff::Backoff;
use super::complaints::Fault;
use super::echo::Echoes;
use super::local::Local;
use super::mismatch::Mismatch;
use super::peer::Peer;
use super::queue::{Batch, Queue};
use super::refusal::Refusal;
use super::secured::{Outbound, Secured};
use super::stats::{Counters, add};
use super::tls::{refusal_of, way_to};
use super::transport::memory::Shortcut;
use super::transport::{ByteStream, Connection, Transport};
use super::unauthenticated::host_of;
use super::wire::{ANSWER_BYTES, Answer, ECHO, Hello, Introduction, MORE_BYTES_MAX, VERSION_MAX, VERSION_MIN};
use vlot_node::Lane;
use vlot_tls::HandshakeError;

/// A connection that stood this long was a good one: after it, dialling starts over with the shortest wait. One that
/// ends sooner counts as a failed attempt, or two nodes that claim the same id would replace each other without pause.
const STEADY: Duration = Duration::from_secs(1);
/// How many pieces one system call writes at most.
const SLICES_MAX: usize = 64;

/// Dials one lane of a peer for as long as the node lives and the peer is one.
pub(crate) async fn keep_connected<T: Transport>(transport: Arc<T>, local: Arc<Local>, peer: Arc<Peer>, lane: Lane) {
    let seed =
        local.identity.node.0.wrapping_mul(31).wrapping_add(peer.id.0).wrapping_mul(31) + u64::from(lane.number());
    let mut backoff = Backoff::new(local.limits.redial_min, local.limits.redial_max, seed);
    let _unsent = Unsent { counters: &local.counters, queue: peer.queue(lane) };
    loop {
        peer.demanded(lane).await;
        match connect(&*transport, &local, &peer, lane).await {
            Ok(Connected { stream, disk, version }) => {
                let since = Instant::now();
                let shortcut = stream.shortcut();
                let end = OutboundLink::up(&local, &peer, (lane, version), disk).carry(stream, shortcut, version).await;
                if since.elapsed() >= STEADY {
                    backoff.reset();
                }
                if let End::Idle = end {
                    continue;
                }
            }
            Err(failure) => {
                note_failure(&local, &peer, &failure);
                drop(Unsent { counters: &local.counters, queue: peer.queue(lane) });
            }
        }
        tokio::select! {
            () = sleep(backoff.next_wait()) => {}
            () = peer.stirred.notified() => {}
        }
    }
}

/// Closes a queue when the connection does not come that its frames have waited for.
struct Unsent<'a> {
    counters: &'a Counters,
    queue: &'a Queue,
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        add(&self.counters.dropped_frames, self.queue.close());
    }
}

/// Why a peer was not reached.
#[derive(Debug)]
enum Failure {
    /// No connection, or it broke during the handshake.
    Unreachable(io::Error),
    /// The peer refused this node.
    Denied(Mismatch),
    /// What answered is not the peer.
    Refused(Mismatch),
    /// The two have not come to speak TLS.
    Tls(HandshakeError),
}

impl Failure {
    fn of(error: io::Error) -> Self {
        HandshakeError::within(&error).map_or(Self::Unreachable(error), Self::of_handshake)
    }

    fn refused(reason: Refusal) -> Self {
        Self::Refused(reason.into())
    }

    fn of_handshake(error: HandshakeError) -> Self {
        match error {
            HandshakeError::Io(error) => Self::Unreachable(error),
            HandshakeError::Closed => Self::Unreachable(io::ErrorKind::ConnectionReset.into()),
            error => Self::Tls(error),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => error.fmt(f),
            Self::Denied(why) | Self::Refused(why) => why.fmt(f),
            Self::Tls(error) => error.fmt(f),
        }
    }
}

/// A connection that is greeted.
struct Connected<S> {
    stream: S,
    /// The disk that the peer has named.
    disk: u64,
    /// What both sides speak on it.
    version: u16,
}

async fn connect<T: Transport>(
    transport: &T,
    local: &Local,
    peer: &Peer,
    lane: Lane,
) -> Result<Connected<Outbound<T::Stream>>, Failure> {
    let greeted = async {
        let address = peer.address();
        let way = way_to(local.security.as_ref(), &address).map_err(Failure::refused)?;
        let Connection { stream, remote } = transport.dial(way.address).await.map_err(Failure::Unreachable)?;
        peer.reached_at(host_of(&remote));
        let mut stream = match way.tls {
            None => Secured::Plain(stream),
            Some((client, host)) => {
                let stream = client.connect(stream, host).await.map_err(Failure::of_handshake)?;
                Secured::Tls(Box::new(stream))
            }
        };
        let (disk, version) = greet(local, peer, lane, &mut stream).await?;
        Ok(Connected { stream, disk, version })
    };
    let too_slow = |_| Err(Failure::Unreachable(io::ErrorKind::TimedOut.into()));
    timeout(local.limits.handshake_timeout, greeted).await.unwrap_or_else(too_slow)
}

/// Greets, and returns the disk that the peer names and the version that it chooses.
async fn greet(local: &Local, peer: &Peer, lane: Lane, stream: &mut impl ByteStream) -> Result<(u64, u16), Failure> {
    let own = local.identity;
    let introduction = Introduction {
        disk: own.disk,
        disk_expected: local.disks.entitled(peer.id),
        address: local.advertise.clone().unwrap_or_default(),
    };
    let introduction = introduction.encode();
    let hello = Hello {
        version_min: VERSION_MIN,
        version_max: VERSION_MAX,
        lane: lane.number(),
        more: introduction.len() as u16,
        cluster: own.cluster,
        from: own.node,
        to: peer.id,
    };
    // In one write, so that it is one packet.
    let greeting = [&hello.encode()[..], &introduction].concat();
    stream.write_all(&greeting).await.map_err(Failure::of)?;
    stream.flush().await.map_err(Failure::of)?;
    let answer = hear_answer(stream).await?;
    if answer.verdict == Err(Refusal::OtherDisk) {
        let peer_is_other = !local.disks.admit(peer.id, answer.disk);
        let (node, disk) = if peer_is_other { (peer.id, answer.disk) } else { (own.node, own.disk) };
        local.report_other_disk(peer.id, node, disk);
    }
    let mismatch = |reason| Mismatch::of_answer(reason, own, peer.id, &answer);
    let version = answer.verdict.map_err(|reason| Failure::Denied(mismatch(reason)))?;
    if answer.cluster != own.cluster {
        return Err(Failure::Refused(mismatch(Refusal::WrongCluster)));
    }
    if answer.node != peer.id {
        return Err(Failure::Refused(mismatch(Refusal::WrongNode)));
    }
    if !(VERSION_MIN..=VERSION_MAX).contains(&version) {
        return Err(Failure::Refused(mismatch(Refusal::NoCommonVersion)));
    }
    if !local.disks.admit(peer.id, answer.disk) {
        local.report_other_disk(peer.id, peer.id, answer.disk);
        return Err(Failure::Refused(mismatch(Refusal::OtherDisk)));
    }
    Ok((answer.disk, version))
}

async fn hear_answer(stream: &mut impl ByteStream) -> Result<Answer, Failure> {
    let mut first = [0; ANSWER_BYTES];
    stream.read_exact(&mut first).await.map_err(Failure::of)?;
    let (answer, more) = Answer::decode(&first).map_err(Failure::refused)?;
    let mut rest = [0; MORE_BYTES_MAX];
    let disk = match rest.get_mut(..usize::from(more)) {
        Some(rest) => stream.read_exact(rest).await.map(|_| Answer::decode_disk(rest)),
        None => Ok(Err(Refusal::Garbled)),
    };
    match disk {
        Ok(Ok(disk)) => Ok(Answer { disk, ..answer }),
        // No means no, whatever comes after it.
        _ if answer.verdict.is_err() => Ok(answer),
        Ok(Err(garbled)) => Err(Failure::refused(garbled)),
        Err(error) => Err(Failure::of(error)),
    }
}

fn note_failure(local: &Local, peer: &Peer, failure: &Failure) {
    let fault = match failure {
        Failure::Unreachable(_) => Fault::Unreachable,
        Failure::Refused(why) => return local.note_refused_because(Some(peer.id), &peer.address(), why.reason, why),
        Failure::Denied(why) => Fault::Denied(why.reason),
        Failure::Tls(error) => match refusal_of(error) {
            Refusal::TlsDenied => Fault::Denied(Refusal::TlsDenied),
            reason => return local.note_refused_because(Some(peer.id), &peer.address(), reason, error),
        },
    };
    if let Fault::Denied(reason) = fault {
        local.counters.handshakes_denied.count(reason);
    }
    if let Some(untold) = local.complaints.due(Some(peer.id), fault, std::time::Instant::now()) {
        let denied = matches!(fault, Fault::Denied(_));
        tracing::warn!(peer = peer.id.0, at = peer.address(), denied, reason = %failure, untold, "cannot connect to a peer");
    }
}

/// A connection to a peer, from the end of its handshake to its own end, however that comes.
struct OutboundLink<'a> {
    local: &'a Local,
    peer: &'a Peer,
    lane: Lane,
    batch: Batch,
    end: End,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// It is gone, and with it what was to be sent.
    Broken,
    /// There was nothing to send for long; what comes is for the next one.
    Idle,
}

impl<'a> OutboundLink<'a> {
    fn up(local: &'a Local, peer: &'a Peer, (lane, version): (Lane, u16), disk: u64) -> Self {
        peer.outbound_up(lane, disk, version);
        Self { local, peer, lane, batch: Batch::default(), end: End::Broken }
    }

    /// Writes what is queued until the connection ends.
    async fn carry(mut self, mut stream: impl ByteStream, shortcut: Option<Shortcut>, version: u16) -> End {
        let (queue, counters) = (self.peer.queue(self.lane), &self.local.counters);
        let mut cut = pin!(self.peer.cut.notified());
        // The disks may have been set after they were looked at and before this connection could be found.
        self.peer.hang_up_unless(|disk| self.local.disks.admit(self.peer.id, disk));
        let echoes = Echoes::new(self.lane, version, &self.peer.counters.round_trips);
        if let Some(shortcut) = shortcut {
            queue.shorten(shortcut);
        }
        let mut line = Line { stream: &mut stream, cut: cut.as_mut(), echoes: &echoes };
        loop {
            if echoes.due().is_some_and(|due| due <= Instant::now()) {
                // What the other end has no room for waits for it, like any frame.
                echoes.ask();
                let question = ECHO.to_be_bytes();
                if line.write_all(&question).await.is_none() {
                    return End::Broken;
                }
                add(&counters.sent_bytes, question.len() as u64);
                add(&self.peer.counters.sent_bytes, question.len() as u64);
            }
            while queue.take(&mut self.batch) {
                while !self.batch.is_written() {
                    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                    let count = self.batch.slices(&mut slices, write_bytes_max(self.lane));
                    let Some(written) = line.write(&slices[..count]).await else {
                        return End::Broken;
                    };
                    self.batch.advance(written);
                    queue.written(written);
                    add(&counters.writes, 1);
                    add(&counters.sent_bytes, written as u64);
                    add(&self.peer.counters.sent_bytes, written as u64);
                    if self.lane == Lane::Snapshot {
                        yield_now().await;
                    }
                }
                add(&counters.sent_frames, self.batch.frames());
                self.batch = Batch::default();
                if line.flush().await.is_none() {
                    return End::Broken;
                }
            }
            tokio::select! {
                biased;
                () = queue.filled() => {}
                () = line.ended() => return End::Broken,
                () = due(&echoes) => {}
                () = idle(self.lane, self.local.limits.snapshot_idle_max) => {
                    self.end = End::Idle;
                    return End::Idle;
                }
            }
        }
    }
}

impl Drop for OutboundLink<'_> {
    fn drop(&mut self) {
        if let End::Broken = self.end {
            let dropped = self.peer.outbound_down(self.lane) + self.batch.frames();
            add(&self.peer.counters.unsent_frames, self.batch.frames());
            add(&self.local.counters.dropped_frames, dropped);
        }
    }
}

/// How much one system call writes at most: copying a whole send buffer takes a while, in which no other lane moves.
fn write_bytes_max(lane: Lane) -> usize {
    match lane {
        Lane::Control | Lane::Entries => usize::MAX,
        Lane::Snapshot => 256 << 10,
    }
}

/// Waits until a lane that has nothing to send is to be closed.
async fn idle(lane: Lane, snapshot_idle_max: Duration) {
    match lane {
        Lane::Control | Lane::Entries => pending().await,
        Lane::Snapshot => sleep(snapshot_idle_max).await,
    }
}

/// Waits until an echo is to be asked for.
async fn due(echoes: &Echoes<'_>) {
    match echoes.due() {
        Some(due) => sleep_until(due).await,
        // It is looked at again once something has been sent; the interval is far longer than a heartbeat's.
        None => pending().await,
    }
}

/// A connection to a peer that is written to and listened on by one task.
///
/// The peer says nothing on it after its answer but echoes; a killed process closes its sockets, and that is noticed by
/// reading while there is nothing to write.
struct Line<'a, 'p, S> {
    stream: &'a mut S,
    cut: Pin<&'a mut Notified<'p>>,
    echoes: &'a Echoes<'p>,
}

impl<S: ByteStream> Line<'_, '_, S> {
    /// Writes as much as is taken at once. `None` when the connection has ended.
    async fn write(&mut self, slices: &[IoSlice<'_>]) -> Option<usize> {
        poll_fn(|cx| match Pin::new(&mut *self.stream).poll_write_vectored(cx, slices) {
            Poll::Ready(written) => Poll::Ready(written.ok().filter(|written| *written > 0)),
            Poll::Pending => self.poll_ended(cx).map(|()| None),
        })
        .await
    }

    async fn write_all(&mut self, mut bytes: &[u8]) -> Option<()> {
        while !bytes.is_empty() {
            let written = self.write(&[IoSlice::new(bytes)]).await?;
            bytes = &bytes[written..];
        }
        self.flush().await
    }

    /// Sends off what a layer below may have kept.
    async fn flush(&mut self) -> Option<()> {
        poll_fn(|cx| match Pin::new(&mut *self.stream).poll_flush(cx) {
            Poll::Ready(flushed) => Poll::Ready(flushed.ok()),
            Poll::Pending => self.poll_ended(cx).map(|()| None),
        })
        .await
    }

    async fn ended(&mut self) {
        poll_fn(|cx| self.poll_ended(cx)).await;
    }

    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let mut byte = [0];
            let mut echo = ReadBuf::new(&mut byte);
            match Pin::new(&mut *self.stream).poll_read(cx, &mut echo) {
                Poll::Pending => return self.cut.as_mut().poll(cx),
                // Whatever else it brings, the connection is over: an end, an error, or bytes that no peer would send.
                Poll::Ready(read) if read.is_err() || echo.filled().is_empty() || !self.echoes.answered() => {
                    return Poll::Ready(());
                }
                Poll::Ready(_) => {}
            }
        }
    }
}
