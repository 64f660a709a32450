//! What the server sends: replies, windows, resets.
//!
//! Owns the windows in both directions. What does not fit into one stays with the caller, which is told when there is room.

use bytes::{Buf, BufMut};

use super::Connection;
use crate::error::ErrorCode;
use crate::frame::{self, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADER_BYTES, HEADERS, PAYLOAD_BYTES_MAX};
use crate::streams::StreamKey;

impl Connection {
    /// Begins a reply with its status and fields, or is all of it. Nothing happens where the stream is closed.
    pub fn respond<N, V>(
        &mut self,
        stream: StreamKey,
        status: u16,
        fields: impl IntoIterator<Item = (N, V)>,
        is_last: bool,
    ) where
        N: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        if self.streams.get(stream).is_none() {
            return;
        }
        let start = self.begin_block();
        self.encoder.status(status, &mut self.output);
        self.end_block(stream, start, fields, is_last);
    }

    /// Ends a reply with these fields.
    pub fn send_trailers<N, V>(&mut self, stream: StreamKey, fields: impl IntoIterator<Item = (N, V)>)
    where
        N: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        if self.streams.get(stream).is_none() {
            return;
        }
        let start = self.begin_block();
        self.encoder.begin(&mut self.output);
        self.end_block(stream, start, fields, true);
    }

    /// Sends as much of this as there is room for in both windows, and takes it from `data`. If something is left, the stream will be
    /// among [`Connection::next_writable`], and nothing more of it can be sent before. Where the stream is closed, all is as good as sent.
    pub fn send_data(&mut self, stream: StreamKey, data: &mut impl Buf, is_last: bool) {
        let Some(open) = self.streams.get_mut(stream) else { return data.advance(data.remaining()) };
        let stream_room = self.first_send_window + open.send_beside_first;
        let room = usize::try_from(stream_room.min(self.send_window)).unwrap_or(0);
        let mut fitting = data.remaining().min(room);
        if fitting < data.remaining() {
            if stream_room <= self.send_window {
                open.is_blocked = true;
            } else {
                self.blocked.push_back(stream);
            }
        }
        // Never more than a window, which has 31 bits.
        open.send_beside_first -= fitting as i64;
        self.send_window -= fitting as i64;
        let ends = is_last && fitting == data.remaining();
        // Once for all frames: memory that grows with each of them is copied each time.
        self.output.reserve(fitting + HEADER_BYTES * fitting.div_ceil(PAYLOAD_BYTES_MAX));
        while fitting > 0 || ends {
            let length = fitting.min(PAYLOAD_BYTES_MAX);
            fitting -= length;
            let is_end = ends && fitting == 0;
            let flags = if is_end { END_STREAM } else { 0 };
            frame::put_header(&mut self.output, length, DATA, flags, stream.id());
            self.output.put(data.take(length));
            self.calm.replied(1);
            if is_end {
                return self.end_reply(stream);
            }
        }
    }

    /// A stream that has waited for room and has it now. It is to be asked for again until there is none.
    pub fn next_writable(&mut self) -> Option<StreamKey> {
        loop {
            let next = match self.writable.pop_front() {
                Some(next) => next,
                // One at a time, because it may take all the room that there is.
                None if self.send_window > 0 => self.blocked.pop_front()?,
                None => return None,
            };
            if self.streams.get(next).is_some() {
                return Some(next);
            }
        }
    }

    /// Ends a stream without a reply, or in the middle of one.
    pub fn reset(&mut self, stream: StreamKey, code: ErrorCode) {
        if self.streams.close(stream).is_some() {
            frame::put_reset(&mut self.output, stream.id(), code);
        }
    }

    /// So many bytes of a request's body are taken, and the client may send as many more.
    pub fn release(&mut self, stream: StreamKey, bytes: usize) {
        // No more than a window has come, which has 31 bits.
        let bytes = u32::try_from(bytes).unwrap_or(0);
        self.release_connection(bytes);
        let half = (self.limits.stream_window / 2).max(1);
        if let Some(open) = self.streams.get_mut(stream)
            && !open.is_whole
        {
            open.untold = open.untold.saturating_add(bytes);
            if open.untold >= half {
                frame::put_window_update(&mut self.output, stream.id(), open.untold);
                open.receive_window += i64::from(std::mem::take(&mut open.untold));
            }
        }
    }

    /// So many bytes are taken of a stream that may be closed.
    pub(super) fn release_connection(&mut self, bytes: u32) {
        self.untold = self.untold.saturating_add(bytes);
        if self.untold >= self.limits.connection_window / 2 {
            frame::put_window_update(&mut self.output, 0, self.untold);
            self.receive_window += i64::from(std::mem::take(&mut self.untold));
        }
    }

    /// Makes room for the header of a frame whose length is not known yet.
    fn begin_block(&mut self) -> usize {
        let start = self.output.len();
        frame::put_header(&mut self.output, 0, HEADERS, 0, 0);
        start
    }

    fn end_block<N, V>(
        &mut self,
        stream: StreamKey,
        start: usize,
        fields: impl IntoIterator<Item = (N, V)>,
        is_last: bool,
    ) where
        N: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        for (name, value) in fields {
            self.encoder.field(name.as_ref(), value.as_ref(), &mut self.output);
        }
        let end_stream = if is_last { END_STREAM } else { 0 };
        let length = self.output.len() - start - HEADER_BYTES;
        let first = length.min(PAYLOAD_BYTES_MAX);
        let end_headers = if first == length { END_HEADERS } else { 0 };
        let header = frame::header(first, HEADERS, end_headers | end_stream, stream.id());
        self.output[start..start + HEADER_BYTES].copy_from_slice(&header);
        if first < length {
            // What does not fit into one frame goes on in others (RFC 9113 §6.10).
            let rest = self.output.split_off(start + HEADER_BYTES + first);
            let mut parts = rest.chunks(PAYLOAD_BYTES_MAX).peekable();
            while let Some(part) = parts.next() {
                let flags = if parts.peek().is_none() { END_HEADERS } else { 0 };
                frame::put(&mut self.output, CONTINUATION, flags, stream.id(), part);
            }
        }
        self.calm.replied(1);
        if is_last {
            self.end_reply(stream);
        }
    }

    /// A reply is sent whole. A client that still sends is told that it need not (RFC 9113 §8.1).
    fn end_reply(&mut self, stream: StreamKey) {
        if let Some(open) = self.streams.close(stream)
            && !open.is_whole
        {
            frame::put_reset(&mut self.output, stream.id(), ErrorCode::NoError);
        }
    }
}
