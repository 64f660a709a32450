//! A server that answers requests over a connection, and the frames of both sides as text.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::time::Instant;

use vlot_http2::{Connection, Event, Limits, StreamKey};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const END_STREAM: u8 = 0x1;
pub const ACK: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const PADDED: u8 = 0x8;
pub const PRIORITY: u8 = 0x20;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    [&[a, b, c, kind, flags], &stream.to_be_bytes()[..], payload].concat()
}

/// A field that is spelled out and not remembered.
pub fn field(name: &str, value: &str) -> Vec<u8> {
    let string = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    [vec![0x00], string(name), string(value)].concat()
}

/// `GET https://h/` and what else is said.
pub fn get(others: &[u8]) -> Vec<u8> {
    [&[0x82, 0x87, 0x84][..], &field(":authority", "h"), others].concat()
}

/// `POST https://h/` and what else is said.
pub fn post(others: &[u8]) -> Vec<u8> {
    [&[0x83, 0x87, 0x84][..], &field(":authority", "h"), others].concat()
}

pub fn data(flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    frame(0, flags, stream, payload)
}

pub fn headers(flags: u8, stream: u32, block: &[u8]) -> Vec<u8> {
    frame(1, flags, stream, block)
}

pub fn priority(stream: u32, depends_on: u32) -> Vec<u8> {
    frame(2, 0, stream, &[&depends_on.to_be_bytes()[..], &[15]].concat())
}

pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(3, 0, stream, &code.to_be_bytes())
}

pub fn settings(all: &[(u16, u32)]) -> Vec<u8> {
    let each = all.iter().flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat());
    frame(4, 0, 0, &each.collect::<Vec<u8>>())
}

pub fn ping(flags: u8, stream: u32) -> Vec<u8> {
    frame(6, flags, stream, b"pingpong")
}

pub fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(8, 0, stream, &increment.to_be_bytes())
}

pub fn continuation(flags: u8, stream: u32, block: &[u8]) -> Vec<u8> {
    frame(9, flags, stream, block)
}

/// Which request is whole by an event, and how much of one is taken.
type Noted = (Option<StreamKey>, Option<(StreamKey, usize)>);

/// A server that answers each request, once it is whole, with the same text; or none.
pub struct Server {
    pub connection: Connection,
    pub events: Vec<String>,
    answer: Option<&'static [u8]>,
    /// Answers of which a part is not sent.
    rest: Vec<(StreamKey, &'static [u8])>,
    unread: Vec<u8>,
}

impl Server {
    pub fn new(answer: Option<&'static [u8]>) -> Server {
        Server::with(Limits::default(), answer)
    }

    pub fn with(limits: Limits, answer: Option<&'static [u8]>) -> Server {
        let connection = Connection::new(limits, Instant::now());
        Server { connection, events: Vec::new(), answer, rest: Vec::new(), unread: Vec::new() }
    }

    /// These bytes come.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        loop {
            self.connection.begin_turn(Connection::TURN_WORK);
            self.turn();
            if !self.connection.is_turn_over() {
                break;
            }
        }
    }

    fn turn(&mut self) {
        let unread = std::mem::take(&mut self.unread);
        let mut input = &unread[..];
        while let Some((whole, taken)) = self.event(&mut input) {
            if let Some((stream, bytes)) = taken {
                self.connection.release(stream, bytes);
            }
            if let (Some(stream), Some(answer)) = (whole, self.answer) {
                self.connection.respond(stream, 200, [("content-type", "text/plain")], false);
                self.send(stream, answer);
            }
            self.send_rest();
        }
        self.send_rest();
        self.unread = input.to_vec();
    }

    /// Notes one event.
    fn event(&mut self, input: &mut &[u8]) -> Option<Noted> {
        match self.connection.next(input, Instant::now()) {
            Ok(Some(Event::Request { stream, head, is_last })) => {
                let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                let authority = head.authority().map(text).unwrap_or_default();
                let mut line = format!("{} {} {authority}{}", stream.id(), text(head.method()), text(head.path()));
                head.fields().for_each(|(name, value)| line += &format!(" {}={}", text(name), text(value)));
                if is_last {
                    line += " end";
                }
                self.events.push(line);
                Some((is_last.then_some(stream), None))
            }
            Ok(Some(Event::Data { stream, data, is_last })) => {
                self.events.push(format!("{} data {}{}", stream.id(), data.len(), if is_last { " end" } else { "" }));
                Some((is_last.then_some(stream), Some((stream, data.len()))))
            }
            Ok(Some(Event::Reset { stream, by_client })) => {
                self.events.push(format!("{} reset{}", stream.id(), if by_client { "" } else { " by server" }));
                self.rest.retain(|(key, _)| *key != stream);
                Some((None, None))
            }
            Ok(None) => None,
            Err(error) => {
                if self.events.last() != Some(&error.to_string()) {
                    self.events.push(error.to_string());
                }
                *input = &[];
                None
            }
        }
    }

    fn send_rest(&mut self) {
        while let Some(stream) = self.connection.next_writable() {
            if let Some(place) = self.rest.iter().position(|(key, _)| *key == stream) {
                let (_, rest) = self.rest.swap_remove(place);
                self.send(stream, rest);
            }
        }
    }

    fn send(&mut self, stream: StreamKey, mut answer: &'static [u8]) {
        self.connection.send_data(stream, &mut answer, true);
        if !answer.is_empty() {
            self.rest.push((stream, answer));
        }
    }

    /// Takes what is to be sent.
    pub fn take_output(&mut self) -> Vec<u8> {
        let output = self.connection.output().to_vec();
        self.connection.sent(output.len());
        output
    }

    /// The same as text.
    pub fn said(&mut self) -> Vec<String> {
        shown(&self.take_output())
    }
}

/// Frames of the server as text.
pub fn shown(mut bytes: &[u8]) -> Vec<String> {
    const CODES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    let mut lines = Vec::new();
    while let Some((&[a, b, c, kind, flags, d, e, f, g], rest)) = bytes.split_first_chunk::<9>() {
        let stream = u32::from_be_bytes([d, e, f, g]);
        let (payload, rest) = rest.split_at(u32::from_be_bytes([0, a, b, c]) as usize);
        let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        let end = if flags & END_STREAM != 0 { " end" } else { "" };
        lines.push(match kind {
            0 => format!("DATA {stream} {}{end}", payload.len()),
            1 => format!("HEADERS {stream}{end}"),
            3 => format!("RST_STREAM {stream} {}", CODES[number(0) as usize]),
            4 if flags & ACK != 0 => "SETTINGS ack".to_owned(),
            4 => "SETTINGS".to_owned(),
            6 if flags & ACK != 0 => "PING ack".to_owned(),
            6 => "PING".to_owned(),
            7 => format!("GOAWAY {}", CODES[number(4) as usize]),
            8 => format!("WINDOW_UPDATE {stream} {}", number(0)),
            9 => format!("CONTINUATION {stream}"),
            _ => panic!("a frame of kind {kind}"),
        });
        bytes = rest;
    }
    assert!(bytes.is_empty(), "half a frame");
    lines
}
