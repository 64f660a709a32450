//! The body of a reply together with its call's place, which is given back when all of the reply is taken.

use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::{Frame, SizeHint};

use super::body::Body;
use super::connection::Stream;

/// What is sent for a call.
pub(super) struct Served {
    body: Body,
    _place: Option<Stream>,
}

impl Served {
    pub(super) fn of(body: Body, place: Option<Stream>) -> Served {
        Served { body, _place: place }
    }
}

impl http_body::Body for Served {
    type Data = <Body as http_body::Body>::Data;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
