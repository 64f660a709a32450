//! What a client sends, frame by frame (RFC 9113 §5, §6).
//!
//! Owns the rules of the states of streams and of what may follow what. A frame that breaks a rule ends its stream where that is
//! enough, and the connection otherwise.

use std::ops::Range;
use std::time::Instant;

use super::{Connection, Event, Leave};
use crate::calm;
use crate::error::{ConnectionError, ErrorCode, Flood, broken, frame_size, protocol};
use crate::frame::{
    self, ACK, BITS_31, CONTINUATION, DATA, END_HEADERS, END_STREAM, FrameHeader, GOAWAY, HEADER_BYTES, HEADERS,
    PAYLOAD_BYTES_MAX, PING, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, WITH_PRIORITY,
};
use crate::settings::{self, Setting};
use crate::streams::{Stream, StreamKey, Unfound};

/// What a client must send first (RFC 9113 §3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Frames of one header block, the first one aside. One that is as long as may be has four.
const CONTINUATIONS_MAX: usize = 64;
/// Work that is done for nothing counts so many times in a turn.
const FOR_NOTHING: usize = 8;
/// The status of a request whose fields are too large (RFC 6585 §5).
const FIELDS_TOO_LARGE: u16 = 431;
/// Memory for a frame that came in parts, which is kept while there is none.
const PARTIAL_KEPT: usize = 256;

/// A header block of which a part has come.
#[derive(Debug)]
pub(super) struct Block {
    opening: Opening,
    bytes: Vec<u8>,
    continuations: usize,
}

/// What the first frame of a header block says besides.
#[derive(Clone, Copy, Debug)]
struct Opening {
    stream: u32,
    is_last: bool,
    depends_on_itself: bool,
}

/// What a frame has come to that is to be told. Content is a part of the frame's payload.
enum Found {
    Request { stream: StreamKey, is_last: bool },
    Data { stream: StreamKey, content: Range<usize>, is_last: bool },
    Reset { stream: StreamKey, by_client: bool },
}

type Handled = Result<Option<Found>, ConnectionError>;
/// And the payload of its frame, if that is all in the input.
type Told<'i> = Result<Option<(Found, Option<&'i [u8]>)>, ConnectionError>;

impl Connection {
    /// Looks at what has come until there is something to tell; `None` if there is nothing more, or the turn is over. What is left of
    /// `input` is to be shown again.
    ///
    /// # Errors
    /// The connection cannot go on. The client will be told why by what is still to be sent.
    pub fn next<'c, 'i: 'c>(
        &'c mut self,
        input: &mut &'i [u8],
        now: Instant,
    ) -> Result<Option<Event<'c>>, ConnectionError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        match self.advance(input, now) {
            Ok(None) => Ok(None),
            Ok(Some((found, payload))) => Ok(Some(match found {
                Found::Request { stream, is_last } => Event::Request { stream, head: self.fields.head(), is_last },
                Found::Data { stream, content, is_last } => {
                    let payload = payload.unwrap_or_else(|| &self.partial[HEADER_BYTES..]);
                    Event::Data { stream, data: &payload[content], is_last }
                }
                Found::Reset { stream, by_client } => Event::Reset { stream, by_client },
            })),
            Err(error) => {
                self.fail(error);
                Err(error)
            }
        }
    }

    /// The next thing to tell.
    fn advance<'i>(&mut self, input: &mut &'i [u8], now: Instant) -> Told<'i> {
        if self.is_partial_done {
            self.is_partial_done = false;
            self.partial.clear();
            self.partial.shrink_to(PARTIAL_KEPT);
        }
        self.take_preface(input)?;
        while !self.is_turn_over() {
            if self.partial.is_empty() {
                if let Some((header, payload)) = take_frame(input)? {
                    if let Some(found) = self.frame(header, payload, now)? {
                        return Ok(Some((found, Some(payload))));
                    }
                    continue;
                }
                self.partial.extend_from_slice(input);
                *input = &[];
                return Ok(None);
            }
            let Some(header) = self.complete_partial(input)? else { return Ok(None) };
            let partial = std::mem::take(&mut self.partial);
            let found = self.frame(header, &partial[HEADER_BYTES..], now)?;
            self.partial = partial;
            if let Some(found) = found {
                self.is_partial_done = true;
                return Ok(Some((found, None)));
            }
            self.partial.clear();
            self.partial.shrink_to(PARTIAL_KEPT);
        }
        Ok(None)
    }

    fn take_preface(&mut self, input: &mut &[u8]) -> Result<(), ConnectionError> {
        let expected = &PREFACE[PREFACE.len() - self.preface_left..];
        let (came, rest) = input.split_at(self.preface_left.min(input.len()));
        if !expected.starts_with(came) {
            return Err(protocol("a connection does not begin as one of HTTP/2"));
        }
        self.preface_left -= came.len();
        *input = rest;
        Ok(())
    }

    /// Adds to the frame of which a part has come. Returns its header once it is whole.
    fn complete_partial(&mut self, input: &mut &[u8]) -> Result<Option<FrameHeader>, ConnectionError> {
        self.fill_partial(input, HEADER_BYTES);
        let Some(header) = self.partial.first_chunk() else { return Ok(None) };
        let header = checked(FrameHeader::read(header))?;
        self.fill_partial(input, HEADER_BYTES + header.length);
        Ok((self.partial.len() == HEADER_BYTES + header.length).then_some(header))
    }

    fn fill_partial(&mut self, input: &mut &[u8], bytes: usize) {
        let missing = bytes.saturating_sub(self.partial.len()).min(input.len());
        let (more, rest) = input.split_at(missing);
        self.partial.extend_from_slice(more);
        *input = rest;
    }

    fn frame(&mut self, header: FrameHeader, payload: &[u8], now: Instant) -> Handled {
        self.works(calm::work(header));
        let for_nothing = self.calm.spend(header, now).map_err(ConnectionError::Flood)?;
        if for_nothing > 0 {
            self.works_for_nothing(for_nothing);
        }
        if let Some(block) = &self.block
            && (header.kind, header.stream) != (CONTINUATION, block.opening.stream)
        {
            return Err(protocol("a header block is interrupted"));
        }
        if header.is_empty_data() && header.stream != 0 {
            // It says nothing, of whichever stream.
            return Ok(None);
        }
        if !self.has_settings && (header.kind != SETTINGS || header.has(ACK)) {
            return Err(protocol("a connection begins without settings"));
        }
        match header.kind {
            DATA => self.on_data(header, payload, now),
            HEADERS => self.on_headers(header, payload, now),
            CONTINUATION => self.on_continuation(header, payload, now),
            RST_STREAM => self.on_reset(header, payload),
            PRIORITY => self.on_priority(header, payload, now),
            WINDOW_UPDATE => self.on_window_update(header, payload, now),
            SETTINGS => self.on_settings(header, payload),
            PING => self.on_ping(header, payload),
            GOAWAY => self.on_goaway(header, payload),
            PUSH_PROMISE => Err(protocol("a client promises a push")),
            // RFC 9113 §5.5: what is not known is ignored.
            _ => Ok(None),
        }
    }

    fn works_for_nothing(&mut self, work: usize) {
        self.works(work.saturating_mul(FOR_NOTHING));
        self.for_nothing = self.for_nothing.saturating_add(work);
    }

    fn on_data(&mut self, header: FrameHeader, payload: &[u8], now: Instant) -> Handled {
        // All of it counts, its padding too (RFC 9113 §6.9.1). No frame is longer than 31 bits.
        let length = payload.len() as u32;
        if header.stream == 0 {
            return Err(protocol("data of no stream"));
        }
        let content = header.content(payload)?;
        self.receive_window -= i64::from(length);
        if self.receive_window < 0 {
            return Err(broken(ErrorCode::FlowControlError, "more data than the connection's window has room for"));
        }
        let key = match self.streams.find(header.stream) {
            Ok(key) => key,
            Err(Unfound::Idle) => return Err(protocol("data of a stream that was not begun")),
            Err(unfound) => {
                self.release_connection(length);
                if header.has(END_STREAM) {
                    self.streams.ended_by_client(header.stream);
                }
                return match unfound {
                    Unfound::EndedEarly => Ok(None),
                    _ => self.refuse(header.stream, ErrorCode::StreamClosed, now),
                };
            }
        };
        // It was found a line ago.
        let Some(stream) = self.streams.get_mut(key) else { return Ok(None) };
        stream.receive_window -= i64::from(length);
        let is_last = header.has(END_STREAM);
        let fault = if stream.is_whole {
            Some(ErrorCode::StreamClosed)
        } else if stream.receive_window < 0 {
            Some(ErrorCode::FlowControlError)
        } else if stream.takes_wrong_length(content.len() as u64, is_last) {
            Some(ErrorCode::ProtocolError)
        } else {
            None
        };
        if let Some(code) = fault {
            self.release_connection(length);
            return self.end_with(key, code, now);
        }
        stream.is_whole = is_last;
        self.release(key, length as usize - content.len());
        // What is left of padding alone says nothing either.
        Ok((is_last || !content.is_empty()).then_some(Found::Data { stream: key, content, is_last }))
    }

    fn on_headers(&mut self, header: FrameHeader, payload: &[u8], now: Instant) -> Handled {
        if header.stream.is_multiple_of(2) {
            return Err(protocol("a request on a stream that is not the client's"));
        }
        let mut fragment = &payload[header.content(payload)?];
        let mut opening = Opening { stream: header.stream, is_last: header.has(END_STREAM), depends_on_itself: false };
        if header.has(WITH_PRIORITY) {
            let (priority, rest) =
                fragment.split_at_checked(5).ok_or(frame_size("headers without a whole priority"))?;
            opening.depends_on_itself = frame::number(&priority[..4]) == Some(header.stream);
            fragment = rest;
        }
        if header.has(END_HEADERS) {
            return self.on_block(opening, fragment, now);
        }
        self.block = Some(Block { opening, bytes: fragment.to_vec(), continuations: 0 });
        Ok(None)
    }

    fn on_continuation(&mut self, header: FrameHeader, payload: &[u8], now: Instant) -> Handled {
        // That it is of the same stream is known.
        let Some(mut block) = self.block.take() else {
            return Err(protocol("a header block goes on that has not begun"));
        };
        block.continuations += 1;
        if block.continuations > CONTINUATIONS_MAX {
            return Err(ConnectionError::Flood(Flood::Continuations));
        }
        if block.bytes.len() + payload.len() > self.limits.field_bytes_max as usize + PAYLOAD_BYTES_MAX {
            return Err(ConnectionError::Flood(Flood::HeaderList));
        }
        block.bytes.extend_from_slice(payload);
        if header.has(END_HEADERS) {
            return self.on_block(block.opening, &block.bytes, now);
        }
        self.block = Some(block);
        Ok(None)
    }

    /// A header block is there as a whole. It is decoded whatever comes of it, so that the tables of both sides stay alike.
    fn on_block(&mut self, opening: Opening, block: &[u8], now: Instant) -> Handled {
        self.fields.clear();
        let decoded = self.decoder.decode(block, &mut self.fields);
        decoded.map_err(|malformed| broken(ErrorCode::CompressionError, malformed.rule()))?;
        if self.fields.are_far_too_many() {
            return Err(ConnectionError::Flood(Flood::HeaderList));
        }
        let found = match self.streams.find(opening.stream) {
            Ok(key) => self.on_trailers(key, opening, now),
            Err(Unfound::Idle) if self.leave == Leave::Taken => {
                self.streams.begin(opening.stream);
                self.streams.ended_early(opening.stream);
                Ok(None)
            }
            Err(Unfound::Idle) => self.on_request(opening, now),
            Err(Unfound::EndedEarly) => {
                if opening.is_last {
                    self.streams.ended_by_client(opening.stream);
                }
                Ok(None)
            }
            Err(Unfound::Skipped) => Err(protocol("a request on a stream before the last one")),
            Err(Unfound::Closed) => Err(broken(ErrorCode::StreamClosed, "fields on a stream that is closed")),
        };
        if !matches!(found, Ok(Some(Found::Request { .. }))) {
            self.fields.shrink();
        }
        found
    }

    fn on_request(&mut self, opening: Opening, now: Instant) -> Handled {
        self.streams.begin(opening.stream);
        let fault = self.fields.fault_of_request();
        let is_short = opening.is_last && self.fields.content_length().is_some_and(|length| length > 0);
        let refused = if self.fields.are_too_many() {
            None
        } else if fault.is_some() || opening.depends_on_itself || is_short {
            Some(ErrorCode::ProtocolError)
        } else if self.streams.len() >= self.limits.streams_max as usize {
            Some(ErrorCode::RefusedStream)
        } else {
            None
        };
        if let Some(code) = refused {
            if !opening.is_last {
                self.streams.ended_early(opening.stream);
            }
            return self.refuse(opening.stream, code, now);
        }
        let stream = self.streams.open(Stream {
            send_beside_first: 0,
            receive_window: i64::from(self.limits.stream_window),
            untold: 0,
            is_whole: opening.is_last,
            missing: self.fields.content_length(),
            is_blocked: false,
        });
        if self.fields.are_too_many() {
            self.respond(stream, FIELDS_TOO_LARGE, [("", ""); 0], true);
            return Ok(None);
        }
        Ok(Some(Found::Request { stream, is_last: opening.is_last }))
    }

    fn on_trailers(&mut self, key: StreamKey, opening: Opening, now: Instant) -> Handled {
        let is_wrong = !opening.is_last || opening.depends_on_itself || self.fields.fault_of_trailers().is_some();
        let is_too_much = self.fields.are_too_many();
        // It was found a moment ago.
        let Some(stream) = self.streams.get_mut(key) else { return Ok(None) };
        if stream.is_whole {
            return self.end_with(key, ErrorCode::StreamClosed, now);
        }
        if is_wrong || is_too_much || stream.takes_wrong_length(0, true) {
            return self.end_with(key, ErrorCode::ProtocolError, now);
        }
        stream.is_whole = true;
        Ok(Some(Found::Data { stream: key, content: 0..0, is_last: true }))
    }

    fn on_reset(&mut self, header: FrameHeader, payload: &[u8]) -> Handled {
        if payload.len() != 4 {
            return Err(frame_size("a reset has four bytes"));
        }
        match self.streams.find(header.stream) {
            Ok(key) => {
                if let Some(stream) = self.streams.get_mut(key) {
                    // It sends nothing more on it.
                    stream.is_whole = true;
                }
                self.streams.close(key);
                Ok(Some(Found::Reset { stream: key, by_client: true }))
            }
            Err(Unfound::Idle) => Err(protocol("a reset of a stream that was not begun")),
            Err(_) if header.stream == 0 => Err(protocol("a reset of no stream")),
            Err(_) => {
                self.streams.ended_by_client(header.stream);
                Ok(None)
            }
        }
    }

    /// RFC 9113 §5.3.2: priorities mean nothing, but what is none is refused.
    fn on_priority(&mut self, header: FrameHeader, payload: &[u8], now: Instant) -> Handled {
        let code = match payload.first_chunk::<4>() {
            _ if header.stream == 0 => return Err(protocol("a priority of no stream")),
            Some(depends_on) if payload.len() == 5 => {
                if frame::number(depends_on) != Some(header.stream) {
                    return Ok(None);
                }
                ErrorCode::ProtocolError
            }
            _ => ErrorCode::FrameSizeError,
        };
        match self.streams.find(header.stream) {
            Ok(key) => self.end_with(key, code, now),
            // A stream that was not begun cannot be reset.
            Err(Unfound::Idle) => Err(broken(code, "a priority that is none")),
            Err(_) => Ok(None),
        }
    }

    fn on_window_update(&mut self, header: FrameHeader, payload: &[u8], now: Instant) -> Handled {
        let increment = frame::number(payload).ok_or(frame_size("an update of a window has four bytes"))?;
        if header.stream == 0 {
            self.send_window += i64::from(increment);
            return match (increment, self.send_window) {
                (0, _) => Err(protocol("a window grows by nothing")),
                (_, ..=MAX_WINDOW) => Ok(None),
                _ => Err(broken(ErrorCode::FlowControlError, "a window of more than 31 bits")),
            };
        }
        let key = match self.streams.find(header.stream) {
            Ok(key) => key,
            Err(Unfound::Idle) => return Err(protocol("a window of a stream that was not begun")),
            Err(_) => return Ok(None),
        };
        // It was found a line ago.
        let Some(stream) = self.streams.get_mut(key) else { return Ok(None) };
        stream.send_beside_first += i64::from(increment);
        if increment == 0 {
            return self.end_with(key, ErrorCode::ProtocolError, now);
        }
        let window = self.first_send_window + stream.send_beside_first;
        if window > MAX_WINDOW {
            return self.end_with(key, ErrorCode::FlowControlError, now);
        }
        if stream.is_blocked && window > 0 {
            stream.is_blocked = false;
            self.writable.push_back(key);
        }
        Ok(None)
    }

    fn on_settings(&mut self, header: FrameHeader, payload: &[u8]) -> Handled {
        if header.stream != 0 {
            return Err(protocol("settings of a stream"));
        }
        if header.has(ACK) {
            return if payload.is_empty() { Ok(None) } else { Err(frame_size("settings are acknowledged by nothing")) };
        }
        let (mut table, mut window) = (None, None);
        settings::read(payload, |setting| match setting {
            Setting::HeaderTableSize(bytes) => {
                // The smallest one has to be kept to as well (RFC 7541 §4.2). All are, because the table is emptied.
                table = Some(bytes);
            }
            Setting::InitialWindowSize(bytes) => window = Some(i64::from(bytes)),
        })?;
        if let Some(bytes) = table {
            self.encoder.allow(bytes as usize);
        }
        if let Some(window) = window {
            self.first_send_window = window;
            for (key, stream) in self.streams.iter_mut() {
                let window = window + stream.send_beside_first;
                if window > MAX_WINDOW {
                    return Err(broken(ErrorCode::FlowControlError, "a window of more than 31 bits"));
                }
                if stream.is_blocked && window > 0 {
                    stream.is_blocked = false;
                    self.writable.push_back(key);
                }
            }
        }
        self.has_settings = true;
        frame::put(&mut self.output, SETTINGS, ACK, 0, &[]);
        Ok(None)
    }

    fn on_ping(&mut self, header: FrameHeader, payload: &[u8]) -> Handled {
        if header.stream != 0 {
            return Err(protocol("a ping of a stream"));
        }
        if payload.len() != 8 {
            return Err(frame_size("a ping has eight bytes"));
        }
        if header.has(ACK) {
            self.pong(payload);
        } else {
            self.answer_ping(payload);
        }
        Ok(None)
    }

    fn on_goaway(&mut self, header: FrameHeader, payload: &[u8]) -> Handled {
        if header.stream != 0 {
            return Err(protocol("a leave of a stream"));
        }
        if payload.len() < 8 {
            return Err(frame_size("a leave has eight bytes at least"));
        }
        self.has_client_left = true;
        Ok(None)
    }

    /// Ends an open stream because of what has come on it.
    fn end_with(&mut self, key: StreamKey, code: ErrorCode, now: Instant) -> Handled {
        self.streams.close(key);
        self.refuse(key.id(), code, now)?;
        Ok(Some(Found::Reset { stream: key, by_client: false }))
    }

    /// Answers a frame of a stream that is not open.
    fn refuse(&mut self, stream: u32, code: ErrorCode, now: Instant) -> Handled {
        self.calm.stream_error(now).map_err(ConnectionError::Flood)?;
        frame::put_reset(&mut self.output, stream, code);
        Ok(None)
    }
}

/// The largest window that there may be (RFC 9113 §6.9.1).
const MAX_WINDOW: i64 = BITS_31 as i64;

/// Takes the frame with which these bytes begin, if all of it is there.
fn take_frame<'i>(input: &mut &'i [u8]) -> Result<Option<(FrameHeader, &'i [u8])>, ConnectionError> {
    let Some((header, rest)) = input.split_first_chunk() else { return Ok(None) };
    let header = checked(FrameHeader::read(header))?;
    let Some((payload, rest)) = rest.split_at_checked(header.length) else { return Ok(None) };
    *input = rest;
    Ok(Some((header, payload)))
}

fn checked(header: FrameHeader) -> Result<FrameHeader, ConnectionError> {
    if header.length > PAYLOAD_BYTES_MAX { Err(frame_size("a frame is longer than was allowed")) } else { Ok(header) }
}
