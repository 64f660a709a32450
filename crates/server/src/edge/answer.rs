//! What a call is answered with, before either protocol writes it.

use http::Response;
use http::header::CONTENT_TYPE;
use http::response::Parts;
use http::{HeaderValue, StatusCode};

use super::body::Body;
use super::compression::{Encoding, GRPC_ENCODING};
use super::connection::Stream;
use super::served::Served;

/// What a gRPC reply says that it is, if nothing else was asked for.
pub(super) const CONTENT_TYPE_GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// The head and the body of a reply, and the place of its call.
pub(super) struct Answer {
    pub(super) head: Head,
    pub(super) body: Body,
    pub(super) place: Option<Stream>,
}

/// The head of a reply. That of a call that goes well is nearly always the same, and is not made each time.
pub(super) enum Head {
    Grpc { content_type: HeaderValue, encoding: Encoding },
    Http(Box<Parts>),
}

impl Answer {
    /// A gRPC reply that begins well.
    pub(super) fn grpc(content_type: HeaderValue, encoding: Encoding, body: Body) -> Answer {
        Answer { head: Head::Grpc { content_type, encoding }, body, place: None }
    }

    pub(super) fn with_place(self, place: Stream) -> Answer {
        Answer { place: Some(place), ..self }
    }

    /// The same as HTTP/1 writes it.
    pub(super) fn into_response(self) -> Response<Served> {
        let body = Served::of(self.body, self.place);
        match self.head {
            Head::Http(parts) => Response::from_parts(*parts, body),
            Head::Grpc { content_type, encoding } => {
                let mut response = Response::new(body);
                response.headers_mut().insert(CONTENT_TYPE, content_type);
                if encoding == Encoding::Gzip {
                    response.headers_mut().insert(GRPC_ENCODING, HeaderValue::from_static("gzip"));
                }
                response
            }
        }
    }
}

impl Head {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Head::Grpc { .. } => StatusCode::OK,
            Head::Http(parts) => parts.status,
        }
    }
}

impl From<Response<Body>> for Answer {
    fn from(response: Response<Body>) -> Answer {
        let (parts, body) = response.into_parts();
        Answer { head: Head::Http(Box::new(parts)), body, place: None }
    }
}
