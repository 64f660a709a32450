//! What comes on one stream, on its way from the task of the connection to the call that reads it.
//!
//! Owns the bytes that have come and are not taken, and how many were taken that the client's windows do not know of. How many may
//! wait is bounded by these windows. Must not know what the bytes mean.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;

use super::super::request_body::Gone;
use super::super::{CONNECTION_WINDOW, STREAM_WINDOW};

/// So much is taken of one stream, or of all, before the connection is told by itself.
const TOLD_STREAM: usize = STREAM_WINDOW as usize / 4;
const TOLD_CONNECTION: usize = CONNECTION_WINDOW as usize / 4;

/// The end that reads.
pub(in crate::edge) struct Upload(Arc<Shared>);

/// The end of the connection.
pub(super) struct Feed(Arc<Shared>);

/// How much of all streams was taken and not told.
#[derive(Default)]
pub(super) struct Taken(AtomicUsize);

struct Shared {
    coming: Mutex<Coming>,
    taken: Arc<Taken>,
    /// Of the connection.
    teller: Waker,
}

#[derive(Default)]
struct Coming {
    bytes: BytesMut,
    end: Option<Result<(), Gone>>,
    /// Taken, and not told to the connection.
    untold: usize,
    reader: Option<Waker>,
    is_unread: bool,
}

/// Both ends of a stream. `teller` is woken when the connection is to tell the client that there is room.
pub(super) fn upload(taken: Arc<Taken>, teller: Waker) -> (Feed, Upload) {
    let shared = Arc::new(Shared { coming: Mutex::default(), taken, teller });
    (Feed(shared.clone()), Upload(shared))
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Coming> {
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Feed {
    /// These bytes have come. Returns whether there is anyone to read them.
    pub(super) fn push(&self, data: &[u8], is_last: bool) -> bool {
        let mut coming = self.0.lock();
        if coming.is_unread {
            return false;
        }
        coming.bytes.extend_from_slice(data);
        if is_last {
            coming.end = Some(Ok(()));
        }
        let reader = coming.reader.take();
        drop(coming);
        reader.into_iter().for_each(Waker::wake);
        true
    }

    /// How much was taken since the last time, so that the client may send as much more.
    pub(super) fn take_untold(&self) -> usize {
        let untold = std::mem::take(&mut self.0.lock().untold);
        self.0.taken.0.fetch_sub(untold, Relaxed);
        untold
    }

    /// The stream is closed.
    pub(super) fn close(self) -> Left {
        let untold = self.take_untold();
        let mut coming = self.0.lock();
        coming.end = Some(Err(Gone));
        let unread = std::mem::take(&mut coming.bytes).len();
        let reader = coming.reader.take();
        drop(coming);
        reader.into_iter().for_each(Waker::wake);
        Left { untold, unread }
    }
}

/// What is left of a stream that is closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Left {
    /// Bytes that were taken, which the client does not know.
    pub(super) untold: usize,
    /// Bytes that never will be.
    pub(super) unread: usize,
}

impl Upload {
    /// The next bytes; `None` at the end.
    pub(in crate::edge) fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<BytesMut, Gone>>> {
        let mut coming = self.0.lock();
        if coming.bytes.is_empty() {
            return match coming.end {
                Some(Ok(())) => Poll::Ready(None),
                Some(Err(gone)) => Poll::Ready(Some(Err(gone))),
                None => {
                    coming.reader = Some(context.waker().clone());
                    Poll::Pending
                }
            };
        }
        let data = std::mem::take(&mut coming.bytes);
        coming.untold += data.len();
        let is_much = coming.untold >= TOLD_STREAM;
        drop(coming);
        let of_all = self.0.taken.0.fetch_add(data.len(), Relaxed) + data.len();
        if is_much || of_all >= TOLD_CONNECTION {
            self.0.teller.wake_by_ref();
        }
        Poll::Ready(Some(Ok(data)))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.0.lock().is_unread = true;
    }
}

impl Taken {
    /// Whether it is so much that the client should know, even if it is little of each stream.
    pub(super) fn is_much(&self) -> bool {
        self.0.load(Relaxed) >= TOLD_CONNECTION
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn read(upload: &mut Upload, waker: &Waker) -> Poll<Option<Result<BytesMut, Gone>>> {
        upload.poll_data(&mut Context::from_waker(waker))
    }

    #[test]
    fn bytes_come_in_order_and_then_the_end() {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let taken = Arc::new(Taken::default());
        let (feed, mut upload) = upload(taken, Waker::noop().clone());
        assert_eq!(read(&mut upload, &waker), Poll::Pending);
        assert!(feed.push(b"ab", false) && feed.push(b"c", true));
        assert_eq!(woken.0.load(Relaxed), 1);
        assert_eq!(read(&mut upload, &waker), Poll::Ready(Some(Ok(b"abc"[..].into()))));
        assert_eq!(read(&mut upload, &waker), Poll::Ready(None));
        assert_eq!((feed.take_untold(), feed.take_untold()), (3, 0));
        drop(upload);
        assert!(!feed.push(b"d", false), "nobody is there to read it");
    }

    #[test]
    fn what_is_cut_off_says_so_and_what_is_left_is_told() {
        let (feed, mut upload) = upload(Arc::default(), Waker::noop().clone());
        feed.push(b"abc", false);
        assert_eq!(read(&mut upload, Waker::noop()), Poll::Ready(Some(Ok(b"abc"[..].into()))));
        feed.push(b"de", false);
        assert_eq!(feed.close(), Left { untold: 3, unread: 2 });
        assert_eq!(read(&mut upload, Waker::noop()), Poll::Ready(Some(Err(Gone))));
    }

    #[test]
    fn the_connection_hears_of_much_of_one_stream_and_of_a_little_of_many() {
        let woken = Arc::new(Woken::default());
        let taken = Arc::new(Taken::default());
        let streams: Vec<_> = (0..100).map(|_| upload(taken.clone(), Waker::from(woken.clone()))).collect();
        let mut told_at = Vec::new();
        for (n, (feed, mut upload)) in streams.into_iter().enumerate() {
            feed.push(&vec![7; if n == 0 { TOLD_STREAM } else { TOLD_STREAM - 1 }], false);
            assert!(read(&mut upload, Waker::noop()).is_ready());
            if woken.0.swap(0, Relaxed) > 0 {
                told_at.push(n);
            }
            std::mem::forget((feed, upload));
        }
        assert_eq!(told_at[..2], [0, 32]);
        assert!(taken.is_much());
    }
}
