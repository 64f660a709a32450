//! The server's side of an HTTP/2 connection (RFC 9113) as a value.
//!
//! Bytes of a client go in and [`Event`]s come out; replies go in and bytes come out. Nothing here reads a socket, asks a clock
//! or starts a task, so that two runs with the same input give the same output. The loop that a server writes:
//!
//! ```
//! use std::time::Instant;
//! use vlot_http2::{Connection, Event, Limits};
//!
//! let mut connection = Connection::new(Limits::default(), Instant::now());
//! // What a client sends: the preface, its settings, and a request for "/" without a body.
//! let mut came: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x03\x01\x05\0\0\0\x01\x82\x84\x86";
//! let mut asked = Vec::new();
//! connection.begin_turn(Connection::TURN_WORK);
//! while let Some(event) = connection.next(&mut came, Instant::now())? {
//!     if let Event::Request { stream, head, .. } = event {
//!         assert_eq!(head.path(), b"/");
//!         asked.push(stream);
//!     }
//! }
//! for stream in asked {
//!     connection.respond(stream, 200, [("content-type", "text/plain")], false);
//!     connection.send_data(stream, &mut &b"hello"[..], true);
//! }
//! // A server writes these to its socket, and says how many it has written.
//! let sent = connection.output().len();
//! connection.sent(sent);
//! # Ok::<(), vlot_http2::ConnectionError>(())
//! ```
//!
//! What bounds a client: the windows of flow control, how many streams there may be, how large the fields of a request may be, how much
//! is read in one turn, and allowances for frames that ask for nothing ([`Flood`]). What bounds the server: it must not read while
//! [`Connection::output`] is long, because some frames are answered at once.
//!
//! It is as lenient as etcd's server where clients are known to need it: any text is an `:authority`, and a frame of data without
//! content is one.

mod calm;
mod connection;
mod error;
mod frame;
mod head;
mod hpack;
mod settings;
mod streams;

pub use connection::{Connection, Event, Limits};
pub use error::{ConnectionError, ErrorCode, Flood};
pub use head::Head;
pub use streams::StreamKey;
