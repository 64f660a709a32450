//! One direction of a connection in memory: a bounded buffer between a writer and a reader, and a shortcut past it.
//!
//! Owns the bytes under way and how their way ends. Must not know who is at its ends.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::poll_proceed;

/// How many bytes may be written and not read: about what the kernel keeps for a connection on loopback.
const BYTES_MAX: usize = 256 << 10;

/// One end of a connection in memory.
#[derive(Debug)]
pub struct Stream {
    incoming: Arc<Pipe>,
    outgoing: Arc<Pipe>,
}

/// Both ends of a new connection.
pub(super) fn pair() -> (Stream, Stream) {
    let (there, back) = (Arc::<Pipe>::default(), Arc::<Pipe>::default());
    let near = Stream { incoming: Arc::clone(&back), outgoing: Arc::clone(&there) };
    (near, Stream { incoming: there, outgoing: back })
}

/// One direction.
#[derive(Default)]
pub(super) struct Pipe(Mutex<State>);

/// Takes a whole frame; false if that must go the way of all bytes.
type Receiver = Box<dyn Fn(&Bytes) -> bool + Send>;

/// The way of frames past the buffer of one direction: to the reader without its task, or that of the writer, being woken.
///
/// A frame goes this way only where it overtakes nothing: the reader waits for bytes and there are none. Faults of the hub
/// count for it as they do for bytes.
#[derive(Clone)]
pub(crate) struct Shortcut(Arc<Pipe>);

#[derive(Default)]
struct State {
    bytes: BytesMut,
    /// What takes frames in the reader's place, if it can at this moment.
    receiver: Option<Receiver>,
    /// Nothing more will be written.
    is_ended: bool,
    /// Nothing more will be read.
    is_abandoned: bool,
    is_broken: bool,
    loses: bool,
    /// Something was lost, so that what would follow is out of place.
    has_lost: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    /// Ends it as a broken connection does: what is under way is gone.
    pub fn break_off(&self) {
        let mut state = self.state();
        state.is_broken = true;
        state.wake();
    }

    /// Loses what is written from here on.
    pub fn lose(&self) {
        self.state().loses = true;
    }

    /// Loses nothing more; breaks if it has.
    pub fn heal(&self) {
        let mut state = self.state();
        state.loses = false;
        state.is_broken |= state.has_lost;
        state.wake();
    }

    fn end(&self) {
        let mut state = self.state();
        if state.loses {
            state.has_lost = true;
        } else {
            state.is_ended = true;
        }
        state.wake();
    }

    fn abandon(&self) {
        let mut state = self.state();
        state.is_abandoned = true;
        state.bytes = BytesMut::new();
        let receiver = state.receiver.take();
        state.wake();
        drop(state);
        // It may hold a good deal.
        drop(receiver);
    }

    fn poll_read(&self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        if state.is_broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if state.bytes.is_empty() && !state.is_ended {
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = state.bytes.len().min(into.remaining());
        into.put_slice(&state.bytes[..count]);
        state.bytes.advance(count);
        wake(&mut state.writer);
        Poll::Ready(Ok(()))
    }

    fn poll_write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut state = self.state();
        if state.is_broken || state.is_abandoned || state.is_ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        if state.loses {
            state.has_lost |= offered > 0;
            return Poll::Ready(Ok(offered));
        }
        let room = BYTES_MAX - state.bytes.len();
        if room == 0 && offered > 0 {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut left = room;
        for slice in slices {
            let taken = slice.len().min(left);
            state.bytes.extend_from_slice(&slice[..taken]);
            left -= taken;
        }
        wake(&mut state.reader);
        Poll::Ready(Ok(room - left))
    }

    /// Whether the frame has gone past the buffer.
    fn hand_over(&self, frame: &Bytes) -> bool {
        let mut state = self.state();
        let Some(receiver) = &state.receiver else { return false };
        if state.is_broken || state.is_ended || state.reader.is_none() || !state.bytes.is_empty() {
            return false;
        }
        if state.loses {
            state.has_lost = true;
            return true;
        }
        receiver(frame)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake(&mut self) {
        wake(&mut self.reader);
        wake(&mut self.writer);
    }
}

fn wake(waiting: &mut Option<Waker>) {
    if let Some(waker) = waiting.take() {
        waker.wake();
    }
}

impl Shortcut {
    /// Hands a frame to the reader. False if that cannot be: it must go the way of all bytes then.
    pub fn hand_over(&self, frame: &Bytes) -> bool {
        self.0.hand_over(frame)
    }

    /// Frames are taken so from here on. The reader must have passed on all that it has read whenever it waits for more.
    pub fn open(&self, receiver: impl Fn(&Bytes) -> bool + Send + 'static) {
        let mut state = self.0.state();
        // A reader that is gone takes nothing.
        if !state.is_abandoned {
            state.receiver = Some(Box::new(receiver));
        }
    }

    /// No frame is taken so any more.
    pub fn close(&self) {
        let receiver = self.0.state().receiver.take();
        drop(receiver);
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pipe")
    }
}

impl fmt::Debug for Shortcut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shortcut")
    }
}

impl Stream {
    pub(super) fn outgoing(&self) -> Weak<Pipe> {
        Arc::downgrade(&self.outgoing)
    }

    /// The shortcut of what is written here.
    pub(crate) fn shortcut_out(&self) -> Shortcut {
        Shortcut(Arc::clone(&self.outgoing))
    }

    /// The shortcut of what is read here.
    pub(crate) fn shortcut_in(&self) -> Shortcut {
        Shortcut(Arc::clone(&self.incoming))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let progress = ready!(poll_proceed(cx));
        let read = self.incoming.poll_read(cx, into);
        if read.is_ready() {
            progress.made_progress();
        }
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let progress = ready!(poll_proceed(cx));
        let written = self.outgoing.poll_write(cx, slices);
        if written.is_ready() {
            progress.made_progress();
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.end();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.outgoing.end();
        self.incoming.abandon();
    }
}
