//! One connection: its state, how it begins and ends, and how much of it is done in a turn.
//!
//! What comes in is in `receive.rs`, what goes out in `send.rs`. Must not know what a request asks.

mod receive;
mod send;

use std::collections::VecDeque;
use std::time::Instant;

use crate::calm::{self, Calm};
use crate::error::{ConnectionError, ErrorCode};
use crate::frame::{self, ACK, BITS_31, PING};
use crate::head::{Fields, Head};
use crate::hpack::{Decoder, Encoder};
use crate::settings::{INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS, MAX_HEADER_LIST_SIZE, WINDOW_AT_FIRST};
use crate::streams::{StreamKey, Streams};
use receive::{Block, PREFACE};

/// Memory of the output that is kept while nothing is to be sent.
const OUTPUT_KEPT: usize = 16 * 1024;
/// What is in a ping that asks whether the client is there, and in the one behind which it knows that the server stops.
const IS_THERE: [u8; 8] = *b"vlot:are";
const STOPS: [u8; 8] = *b"vlot:bye";

/// What a client may have of a connection at a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Open streams. Those beyond are refused.
    pub streams_max: u32,
    /// Bytes of all fields of one request, as they count (RFC 9113 §10.5.1). A request with more is answered with the status 431.
    pub field_bytes_max: u32,
    /// Bytes that a client may send ahead of what was taken, on one stream. At most 31 bits.
    pub stream_window: u32,
    /// The same over all streams of the connection; at least 65,535, with which every connection begins.
    pub connection_window: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { streams_max: 1024, field_bytes_max: 64 << 10, stream_window: 1 << 20, connection_window: 32 << 20 }
    }
}

/// What a client does.
#[derive(Debug)]
pub enum Event<'c> {
    /// It asks for something.
    Request {
        /// On which stream, which is open from now on.
        stream: StreamKey,
        /// What its head says.
        head: Head<'c>,
        /// Whether there is no body.
        is_last: bool,
    },
    /// It sends a part of a request's body. What is taken of it is to be given back to its window ([`Connection::release`]).
    Data {
        /// On which stream.
        stream: StreamKey,
        /// The bytes; none if only the end has come.
        data: &'c [u8],
        /// Whether the body ends here.
        is_last: bool,
    },
    /// A stream is closed before its reply was sent whole. Its key means nothing any more.
    Reset {
        /// Which stream it was.
        stream: StreamKey,
        /// Whether the client has taken its request back; the request was wrong otherwise.
        by_client: bool,
    },
}

/// The server's side of one connection.
#[derive(Debug)]
pub struct Connection {
    limits: Limits,
    /// How much of the preface has not come.
    preface_left: usize,
    has_settings: bool,
    /// A frame of which not all has come, or that was looked at last.
    partial: Vec<u8>,
    is_partial_done: bool,
    decoder: Decoder,
    fields: Fields,
    /// A header block of which not all has come.
    block: Option<Block>,
    streams: Streams,
    calm: Calm,
    /// What the client may send on all streams.
    receive_window: i64,
    /// What was taken and is not told to the client yet.
    untold: u32,
    encoder: Encoder,
    output: Vec<u8>,
    /// How much of the output is sent.
    sent: usize,
    /// What may be sent on all streams, and at first on each.
    send_window: i64,
    first_send_window: i64,
    /// Streams that wait for the window of the connection, and those whose own window has opened.
    blocked: VecDeque<StreamKey>,
    writable: VecDeque<StreamKey>,
    leave: Leave,
    is_pong_awaited: bool,
    has_client_left: bool,
    error: Option<ConnectionError>,
    turn_left: usize,
    for_nothing: usize,
}

/// How far the server is with its leave.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Leave {
    Stays,
    /// The client is told that it will not be long; what it sends meanwhile is served.
    Announced,
    /// No stream is begun any more.
    Taken,
}

impl Connection {
    /// The work of 64 requests: what is well done in one turn, where connections take turns.
    pub const TURN_WORK: usize = 64 * Self::REQUEST_WORK;
    /// How much work a request is; a frame that asks for nothing is one.
    pub const REQUEST_WORK: usize = calm::REQUEST_WORK;

    /// A connection on which nothing has come yet. What the server says first is to be sent.
    pub fn new(limits: Limits, now: Instant) -> Connection {
        let mut output = Vec::new();
        let settings = [
            (MAX_CONCURRENT_STREAMS, limits.streams_max),
            (INITIAL_WINDOW_SIZE, limits.stream_window),
            (MAX_HEADER_LIST_SIZE, limits.field_bytes_max),
        ];
        frame::put_header(&mut output, 6 * settings.len(), frame::SETTINGS, 0, 0);
        for (name, value) in settings {
            output.extend_from_slice(&name.to_be_bytes());
            output.extend_from_slice(&value.to_be_bytes());
        }
        if let Some(more @ 1..) = limits.connection_window.checked_sub(WINDOW_AT_FIRST) {
            frame::put_window_update(&mut output, 0, more);
        }
        Connection {
            limits,
            preface_left: PREFACE.len(),
            has_settings: false,
            partial: Vec::new(),
            is_partial_done: false,
            decoder: Decoder::default(),
            fields: Fields::new(limits.field_bytes_max as usize),
            block: None,
            streams: Streams::default(),
            calm: Calm::new(now),
            receive_window: i64::from(limits.connection_window.max(WINDOW_AT_FIRST)),
            untold: 0,
            encoder: Encoder::default(),
            output,
            sent: 0,
            send_window: i64::from(WINDOW_AT_FIRST),
            first_send_window: i64::from(WINDOW_AT_FIRST),
            blocked: VecDeque::new(),
            writable: VecDeque::new(),
            leave: Leave::Stays,
            is_pong_awaited: false,
            has_client_left: false,
            error: None,
            turn_left: usize::MAX,
            for_nothing: 0,
        }
    }

    /// Begins a turn in which so much work may be done by what has come ([`Connection::TURN_WORK`]).
    pub fn begin_turn(&mut self, work_max: usize) {
        self.turn_left = work_max;
    }

    /// Whether no more is looked at before the next turn.
    pub fn is_turn_over(&self) -> bool {
        self.turn_left == 0
    }

    /// So much of the turn is used up by something else.
    pub fn works(&mut self, work: usize) {
        self.turn_left = self.turn_left.saturating_sub(work);
    }

    /// How much work was done since the last time that serves nobody, and is more than a client does now and then.
    pub fn take_work_for_nothing(&mut self) -> usize {
        std::mem::take(&mut self.for_nothing)
    }

    /// Whether the client's settings have come: it speaks HTTP/2 in earnest.
    pub fn has_settings(&self) -> bool {
        self.has_settings
    }

    /// How many streams are open.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Asks the client whether it is there.
    pub fn ping(&mut self) {
        self.is_pong_awaited = true;
        frame::put(&mut self.output, PING, 0, 0, &IS_THERE);
    }

    /// Whether it was asked and has not answered.
    pub fn is_pong_awaited(&self) -> bool {
        self.is_pong_awaited
    }

    /// Begins to end the connection in good order: streams that are open are served to their end, and so are those that the client
    /// begins before it knows.
    pub fn shut_down(&mut self) {
        if self.leave == Leave::Stays {
            self.leave = Leave::Announced;
            frame::put_goaway(&mut self.output, BITS_31, ErrorCode::NoError, "");
            frame::put(&mut self.output, PING, 0, 0, &STOPS);
        }
    }

    /// Ends the connection at once, for this reason.
    pub fn fail(&mut self, error: ConnectionError) {
        if self.error.is_none() {
            self.error = Some(error);
            frame::put_goaway(&mut self.output, self.streams.last(), error.code(), error.text());
        }
    }

    /// Whether both sides have said all that they had to say.
    pub fn is_done(&self) -> bool {
        let is_left = self.leave == Leave::Taken || self.has_client_left;
        self.error.is_some() || is_left && self.streams.len() == 0
    }

    /// What is to be sent.
    pub fn output(&self) -> &[u8] {
        &self.output[self.sent..]
    }

    /// So much of it was sent.
    ///
    /// # Panics
    /// If there was not so much.
    pub fn sent(&mut self, bytes: usize) {
        self.sent += bytes;
        assert!(self.sent <= self.output.len(), "{bytes} bytes are more than there were");
        if self.sent == self.output.len() {
            self.sent = 0;
            self.output.clear();
            if self.output.capacity() > OUTPUT_KEPT {
                // To shrink it, or to let it grow, would copy what means nothing any more.
                self.output = Vec::new();
            }
        }
    }

    fn pong(&mut self, data: &[u8]) {
        if data == IS_THERE {
            self.is_pong_awaited = false;
        }
        if data == STOPS && self.leave == Leave::Announced {
            self.leave = Leave::Taken;
            frame::put_goaway(&mut self.output, self.streams.last(), ErrorCode::NoError, "");
        }
    }

    fn answer_ping(&mut self, data: &[u8]) {
        frame::put(&mut self.output, PING, ACK, 0, data);
    }
}
