//! One connection of HTTP/2 on which a client sends anything: what comes of it is the same in whatever pieces it comes, what is
//! answered is frames, and no more of a body than there are windows for.

use std::time::Instant;

use vlot_http2::{Connection, ConnectionError, ErrorCode, Event, Limits, StreamKey};

/// What all replies are a part of.
static BODY: [u8; 70_000] = [7; 70_000];
const SETTINGS_AND_MORE: usize = 9 + 18;

/// Runs one input: how long the pieces are, how the server answers, and what comes.
///
/// # Panics
/// If something does not hold that must.
pub fn run(bytes: &[u8]) {
    let Some((&[at_a_time, manner], sent)) = bytes.split_first_chunk() else { return };
    let whole = served(sent, usize::MAX, manner);
    assert_eq!(whole, served(sent, 1 + usize::from(at_a_time), manner), "it depends on the pieces");
}

/// What a server has heard and said.
#[derive(Debug, Eq, PartialEq)]
struct Served {
    events: Vec<String>,
    output: Vec<u8>,
    error: Option<ConnectionError>,
}

fn served(sent: &[u8], at_a_time: usize, manner: u8) -> Served {
    let limits = Limits { streams_max: 8, field_bytes_max: 512, stream_window: 4096, connection_window: 70_000 };
    let now = Instant::now();
    let mut server = Server {
        connection: Connection::new(limits, now),
        manner,
        waiting: Vec::new(),
        served: Served { events: Vec::new(), output: Vec::new(), error: None },
    };
    let mut unread = Vec::new();
    for piece in sent.chunks(at_a_time.min(sent.len()).max(1)) {
        unread.extend_from_slice(piece);
        loop {
            server.connection.begin_turn(Connection::TURN_WORK);
            let mut input = &unread[..];
            while server.takes(&mut input, now) {}
            let rest = input.len();
            unread.drain(..unread.len() - rest);
            if !server.connection.is_turn_over() {
                break;
            }
        }
    }
    check(&server.served.output);
    assert!(server.connection.streams() <= 8);
    server.served
}

struct Server {
    connection: Connection,
    manner: u8,
    /// Replies of which this much is not sent.
    waiting: Vec<(StreamKey, usize)>,
    served: Served,
}

impl Server {
    /// Takes one event and answers it. Returns whether there was one.
    fn takes(&mut self, input: &mut &[u8], now: Instant) -> bool {
        let (stream, taken, is_whole) = match self.connection.next(input, now) {
            Ok(None) => return false,
            Err(error) => {
                self.served.error = Some(error);
                *input = &[];
                self.take_output();
                return false;
            }
            Ok(Some(Event::Reset { stream, by_client })) => {
                self.waiting.retain(|(other, _)| *other != stream);
                self.served.events.push(format!("{} reset {by_client}", stream.id()));
                (stream, 0, false)
            }
            Ok(Some(Event::Request { stream, head, is_last })) => {
                let fields: Vec<_> = head.fields().collect();
                assert!(!head.method().is_empty() && fields.iter().all(|(name, _)| !name.is_empty()));
                let (method, path, authority) = (head.method(), head.path(), head.authority());
                self.served
                    .events
                    .push(format!("{} {method:?} {path:?} {authority:?} {fields:?} {is_last}", stream.id()));
                (stream, 0, is_last)
            }
            Ok(Some(Event::Data { stream, data, is_last })) => {
                self.served.events.push(format!("{} {data:?} {is_last}", stream.id()));
                (stream, data.len(), is_last)
            }
        };
        self.connection.release(stream, taken);
        match (self.manner % 4, is_whole) {
            // Early, late, by nothing at all, and by trailers.
            (0, _) | (1, true) => self.answer(stream),
            (2, true) => self.connection.reset(stream, ErrorCode::Cancel),
            (3, true) => {
                self.connection.respond(stream, 200, [("content-type", "application/grpc")], false);
                self.connection.send_trailers(stream, [("grpc-status", "0"), ("grpc-message", "some text")]);
            }
            _ => {}
        }
        while let Some(stream) = self.connection.next_writable() {
            if let Some(at) = self.waiting.iter().position(|(other, _)| *other == stream) {
                let (_, rest) = self.waiting.swap_remove(at);
                self.send(stream, rest);
            }
        }
        self.take_output();
        true
    }

    fn answer(&mut self, stream: StreamKey) {
        self.connection.respond(stream, 200, [("content-type", "application/grpc")], false);
        self.send(stream, usize::from(self.manner) * 270);
    }

    fn send(&mut self, stream: StreamKey, bytes: usize) {
        let mut rest = &BODY[..bytes];
        self.connection.send_data(stream, &mut rest, true);
        if !rest.is_empty() {
            self.waiting.push((stream, rest.len()));
        }
    }

    fn take_output(&mut self) {
        self.served.output.extend_from_slice(self.connection.output());
        self.connection.sent(self.connection.output().len());
    }
}

/// What is said is frames, each of a kind that a server sends, and begins with settings.
fn check(mut output: &[u8]) {
    assert!(output.is_empty() || output.len() >= SETTINGS_AND_MORE && output[3] == 4);
    while let Some((&[a, b, c, kind, ..], rest)) = output.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        assert!(length <= 16_384 && [0, 1, 3, 4, 6, 7, 8].contains(&kind), "a frame of kind {kind}");
        output = &rest[length..];
    }
    assert!(output.is_empty(), "half a frame");
}
