//! The body of a request, over either protocol, as it comes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use hyper::body::{Body, Incoming};

use super::http2::Upload;

/// What a client sends behind the head of a request.
pub(super) enum RequestBody {
    Http1(Incoming),
    Http2(Upload),
}

/// A request whose client is gone, or has taken it back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Gone;

impl RequestBody {
    /// The next bytes, in memory of their own: what a call keeps of them must not hold a connection's buffer. `None` at the end.
    pub(super) fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<BytesMut, Gone>>> {
        match self {
            RequestBody::Http2(upload) => upload.poll_data(context),
            RequestBody::Http1(body) => loop {
                match ready!(Pin::new(&mut *body).poll_frame(context)) {
                    Some(Ok(frame)) => {
                        // What is no data are trailers, which mean nothing here.
                        if let Ok(data) = frame.into_data() {
                            return Poll::Ready(Some(Ok((&*data).into())));
                        }
                    }
                    Some(Err(_)) => return Poll::Ready(Some(Err(Gone))),
                    None => return Poll::Ready(None),
                }
            },
        }
    }
}
