//! An HTTP/2 client that sends what it is told to, frame by frame: for what no client library would send.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use prost::Message;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADER_BYTES: usize = 9;

/// One connection.
pub struct Frames {
    stream: TcpStream,
    /// What is to be sent with the next flush.
    out: Vec<u8>,
    /// What has come and is no whole frame yet.
    coming: Vec<u8>,
    next_stream: u32,
    /// Whether the server's settings have come, and count.
    is_agreed: bool,
    /// Whether more may be sent on the connection than at first.
    is_open: bool,
    /// All frames that have come but those of settings, in order.
    pub come: Vec<Frame>,
    /// Whether the server has ended the connection.
    pub ended: bool,
}

/// One frame.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frames {
    /// Connects, with these settings of the client.
    pub fn connect(port: u16, settings: &[(u16, u32)]) -> Frames {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the node listens");
        stream.set_nodelay(true).unwrap();
        // A server that reads no more ends what would be sent.
        stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut frames = Frames {
            stream,
            out: PREFACE.to_vec(),
            coming: Vec::new(),
            next_stream: 1,
            is_agreed: false,
            is_open: false,
            come: Vec::new(),
            ended: false,
        };
        let settings: Vec<u8> = settings
            .iter()
            .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        frames.frame(SETTINGS, 0, 0, &settings);
        frames.flush();
        while !frames.is_agreed && !frames.ended {
            frames.read(Duration::from_secs(5));
        }
        frames
    }

    /// The same, once the server says that more than a few KiB may be sent before it has read them.
    pub fn connect_wide(port: u16, settings: &[(u16, u32)]) -> Frames {
        let mut frames = Frames::connect(port, settings);
        while !frames.is_open && !frames.ended {
            frames.read(Duration::from_secs(5));
        }
        frames
    }

    /// Adds a frame to what is sent next.
    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
        self.out.extend_from_slice(&[a, b, c, kind, flags]);
        self.out.extend_from_slice(&stream.to_be_bytes());
        self.out.extend_from_slice(payload);
    }

    /// Adds the headers of a call of gRPC, with this field as its `:authority`, and returns its stream.
    pub fn head(&mut self, path: &str, authority: &[u8]) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        let fields = [
            // `:method: POST` and `:scheme: http` are in HPACK's own table.
            &[0x83, 0x86][..],
            &literal(0x04, path),
            authority,
            &named("content-type", "application/grpc"),
            &named("te", "trailers"),
        ];
        self.frame(HEADERS, END_HEADERS, stream, &fields.concat());
        stream
    }

    /// Adds a message of gRPC.
    pub fn message(&mut self, stream: u32, message: &impl Message, flags: u8) {
        let bytes = message.encode_to_vec();
        let prefixed = [&[0], &(bytes.len() as u32).to_be_bytes()[..], &bytes].concat();
        self.frame(DATA, flags, stream, &prefixed);
    }

    /// Adds a whole unary call, and returns its stream.
    pub fn call(&mut self, path: &str, message: &impl Message) -> u32 {
        let stream = self.head(path, &authority(0x01, "localhost"));
        self.message(stream, message, END_STREAM);
        stream
    }

    /// Adds that a call is taken back.
    pub fn reset(&mut self, stream: u32) {
        self.frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    }

    /// The number of a stream that was not used before.
    pub fn new_stream(&mut self) -> u32 {
        self.next_stream += 2;
        self.next_stream - 2
    }

    /// Why the server has ended the connection: an error's number, and its text.
    pub fn goaway(&self) -> Option<(u32, String)> {
        let frame = self.come.iter().find(|frame| frame.kind == GOAWAY)?;
        let code = u32::from_be_bytes(frame.payload.get(4..8)?.try_into().ok()?);
        Some((code, String::from_utf8_lossy(&frame.payload[8..]).into_owned()))
    }

    /// Adds a message of gRPC's as it is, flag and length included.
    pub fn bytes(&mut self, stream: u32, bytes: &[u8], flags: u8) {
        for piece in bytes.chunks(16_384) {
            self.frame(DATA, flags, stream, piece);
        }
    }

    /// Sends what was added. A server that has ended the connection is noticed when reading.
    pub fn flush(&mut self) {
        let _ = self.stream.write_all(&self.out);
        self.out.clear();
    }

    /// Reads until this holds. Returns whether it does in time.
    pub fn until(&mut self, within: Duration, holds: impl Fn(&[Frame]) -> bool) -> bool {
        let begun = Instant::now();
        loop {
            if holds(&self.come) {
                return true;
            }
            let left = within.saturating_sub(begun.elapsed());
            if left.is_zero() || self.ended {
                return false;
            }
            self.read(left);
        }
    }

    /// Reads once.
    fn read(&mut self, within: Duration) {
        let mut buffer = [0; 65_536];
        self.stream.set_read_timeout(Some(within)).unwrap();
        match self.stream.read(&mut buffer) {
            Ok(read @ 1..) => {
                self.coming.extend_from_slice(&buffer[..read]);
                self.take();
            }
            Ok(0) => self.ended = true,
            Err(error) => self.ended = !matches!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }

    /// Reads for so long, and returns whether the connection still stands.
    pub fn stands_for(&mut self, time: Duration) -> bool {
        !self.until(time, |come| come.iter().any(|frame| frame.kind == GOAWAY)) && !self.ended
    }

    /// Whether a call has brought a message, and was not reset.
    pub fn is_answered(&mut self, stream: u32, within: Duration) -> bool {
        let of = |kind| move |frame: &Frame| (frame.stream, frame.kind) == (stream, kind);
        self.until(within, |come| {
            come.iter().any(|frame| frame.stream == stream && frame.flags & END_STREAM != 0 || of(RST_STREAM)(frame))
        });
        self.come.iter().any(of(DATA)) && !self.come.iter().any(of(RST_STREAM))
    }

    /// How many messages a stream has brought, if each came in frames of its own or behind others.
    pub fn messages(&self, stream: u32) -> usize {
        messages(&self.come, stream)
    }

    /// Takes the whole frames of what has come.
    fn take(&mut self) {
        let coming = std::mem::take(&mut self.coming);
        let mut rest = &coming[..];
        while let Some(header) = rest.get(..HEADER_BYTES) {
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
            let Some(payload) = rest.get(HEADER_BYTES..HEADER_BYTES + length) else { break };
            let stream = u32::from_be_bytes(header[5..].try_into().unwrap());
            self.took(Frame { kind: header[3], flags: header[4], stream, payload: payload.to_vec() });
            rest = &rest[HEADER_BYTES + length..];
        }
        self.coming = rest.to_vec();
    }

    fn took(&mut self, frame: Frame) {
        let asks = frame.flags & ACK == 0;
        match frame.kind {
            SETTINGS if asks => {
                self.frame(SETTINGS, ACK, 0, &[]);
                self.flush();
                self.is_agreed = true;
            }
            PING if asks => {
                self.frame(PING, ACK, 0, &frame.payload);
                self.flush();
            }
            WINDOW_UPDATE => self.is_open |= frame.stream == 0,
            SETTINGS | PING => {}
            _ => self.come.push(frame),
        }
    }
}

/// How many messages a stream has brought.
pub fn messages(come: &[Frame], stream: u32) -> usize {
    let data = come.iter().filter(|frame| (frame.stream, frame.kind) == (stream, DATA));
    let bytes: Vec<u8> = data.flat_map(|frame| frame.payload.iter().copied()).collect();
    let (mut at, mut count) = (0, 0);
    while let Some(&[_, a, b, c, d]) = bytes.get(at..at + 5) {
        at += 5 + u32::from_be_bytes([a, b, c, d]) as usize;
        count += usize::from(at <= bytes.len());
    }
    count
}

/// A field `:authority` as HPACK spells it: `0x41` has it remembered by both sides, `0x01` does not.
pub fn authority(first: u8, value: &str) -> Vec<u8> {
    literal(first, value)
}

/// A field with a name of HPACK's table, by its place there, spelled out.
fn literal(first: u8, value: &str) -> Vec<u8> {
    [&[first], &string(value)[..]].concat()
}

/// A field with a name of its own.
pub fn named(name: &str, value: &str) -> Vec<u8> {
    [&[0], &string(name)[..], &string(value)].concat()
}

/// A string as it is, shorter than 127 bytes.
fn string(text: &str) -> Vec<u8> {
    assert!(text.len() < 0x7f);
    [&[text.len() as u8], text.as_bytes()].concat()
}
