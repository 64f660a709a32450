//! How many frames a client may send that ask for nothing, and what they cost.
//!
//! Owns the allowances. They are far above what a client needs that means no harm, and are refilled with time; what belongs to
//! answers is free. Must not know how a connection is slowed, nor how it is ended.

use std::time::{Duration, Instant};

use crate::error::Flood;
use crate::frame::{CONTINUATION, DATA, FrameHeader, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE};

/// A request is so much work. What other frames are is measured by frames that do not ask for anything: one.
pub(crate) const REQUEST_WORK: usize = 8;
/// So many bytes of a message are as much work as a frame: they are copied twice.
const DATA_BYTES_WORK: usize = 256;
/// So many bytes of headers are as much work as a frame: each may stand for a whole field.
const HEADER_BYTES_WORK: usize = 64;
/// How many pings, and updates of windows, may come at once.
const PINGS_MAX: usize = 4_096;
const WINDOW_UPDATES_MAX: usize = 65_536;
/// Headers of one request that cost nothing beyond the request: a token takes a few KiB where a client spells it out in each.
const HEADER_BYTES_FREE: usize = 4096;
/// What one frame of a header block costs besides its bytes.
const CONTINUATION_COST: usize = 64;

/// How much work a frame is.
pub(crate) fn work(header: FrameHeader) -> usize {
    match header.kind {
        DATA => 1 + header.length / DATA_BYTES_WORK,
        HEADERS => REQUEST_WORK + header.length / HEADER_BYTES_WORK,
        CONTINUATION => 1 + header.length / HEADER_BYTES_WORK,
        _ => 1,
    }
}

/// The allowances of one connection.
#[derive(Debug)]
pub(crate) struct Calm {
    resets: Allowance,
    pings: Allowance,
    settings: Allowance,
    priorities: Allowance,
    window_updates: Allowance,
    empty_frames: Allowance,
    unknown_frames: Allowance,
    header_bytes: Allowance,
    stream_errors: Allowance,
    /// Work that slows nobody down: what an honest client does now and then.
    unpaced: Allowance,
    /// Frames that answer replies.
    free_pings: usize,
    free_window_updates: usize,
}

impl Calm {
    pub(crate) fn new(now: Instant) -> Calm {
        let allowance = |max, a_second| Allowance { left: max, max, a_second, refilled: now };
        Calm {
            // A client may have tens of thousands of calls that time out together.
            resets: allowance(16_384, 1_000),
            // A client that measures its bandwidth sends one for each frame of data that it gets.
            pings: allowance(PINGS_MAX, 200),
            settings: allowance(256, 10),
            priorities: allowance(8_192, 1_000),
            window_updates: allowance(WINDOW_UPDATES_MAX, 10_000),
            empty_frames: allowance(65_536, 10_000),
            unknown_frames: allowance(4_096, 100),
            header_bytes: allowance(4 << 20, 64 << 10),
            // What a client still sends on a stream that was reset a moment ago is one, so that it may mean no harm.
            stream_errors: allowance(65_536, 10_000),
            // Little at first, because a client that is slowed may come again on another connection.
            unpaced: Allowance { left: 32, ..allowance(256, 256) },
            free_pings: 0,
            free_window_updates: 0,
        }
    }

    /// A frame has come. Returns how much work it is that is to be waited for; `Err` if it is one too many of its kind.
    pub(crate) fn spend(&mut self, header: FrameHeader, now: Instant) -> Result<usize, Flood> {
        let (allowance, cost, flood) = match header.kind {
            DATA if header.is_empty_data() => (&mut self.empty_frames, 1, Flood::EmptyFrames),
            DATA => return Ok(0),
            HEADERS if header.length <= HEADER_BYTES_FREE => return Ok(0),
            PING if take_one(&mut self.free_pings) => return Ok(0),
            WINDOW_UPDATE if take_one(&mut self.free_window_updates) => return Ok(0),
            HEADERS => {
                let beyond = header.length.saturating_sub(HEADER_BYTES_FREE);
                (&mut self.header_bytes, beyond, Flood::HeaderBytes)
            }
            CONTINUATION => (&mut self.header_bytes, header.length + CONTINUATION_COST, Flood::HeaderBytes),
            PRIORITY => (&mut self.priorities, 1, Flood::Priorities),
            RST_STREAM => (&mut self.resets, 1, Flood::Resets),
            SETTINGS => (&mut self.settings, 1, Flood::Settings),
            PING => (&mut self.pings, 1, Flood::Pings),
            WINDOW_UPDATE => (&mut self.window_updates, 1, Flood::WindowUpdates),
            _ => (&mut self.unknown_frames, 1, Flood::UnknownFrames),
        };
        if !allowance.spend(cost, now) {
            return Err(flood);
        }
        let work = match header.kind {
            // And the call that was for nothing.
            RST_STREAM => 1 + REQUEST_WORK,
            HEADERS | CONTINUATION => 1 + cost / HEADER_BYTES_WORK,
            _ => 1,
        };
        Ok(if self.unpaced.spend(work, now) { 0 } else { work })
    }

    /// A frame has made it necessary to reset a stream. `Err` if that was one too many.
    pub(crate) fn stream_error(&mut self, now: Instant) -> Result<(), Flood> {
        if self.stream_errors.spend(1, now) { Ok(()) } else { Err(Flood::StreamErrors) }
    }

    /// So many frames of replies were sent: each may be answered with a ping, and with updates of two windows.
    pub(crate) fn replied(&mut self, frames: usize) {
        self.free_pings = self.free_pings.saturating_add(frames).min(PINGS_MAX);
        self.free_window_updates =
            self.free_window_updates.saturating_add(frames.saturating_mul(4)).min(WINDOW_UPDATES_MAX);
    }
}

/// Takes one of these, if there are any.
fn take_one(count: &mut usize) -> bool {
    let has_one = *count > 0;
    *count = count.saturating_sub(1);
    has_one
}

/// So much at once, and so much a second.
#[derive(Debug)]
struct Allowance {
    left: usize,
    max: usize,
    a_second: usize,
    refilled: Instant,
}

impl Allowance {
    fn spend(&mut self, cost: usize, now: Instant) -> bool {
        if self.left < cost {
            self.refill(now);
        }
        let is_enough = self.left >= cost;
        self.left = self.left.saturating_sub(cost);
        is_enough
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.refilled).min(Duration::from_secs(3600));
        let more = passed.as_millis() as usize * self.a_second / 1000;
        // What is less than one is not lost.
        if more > 0 {
            self.refilled = now;
            self.left = self.left.saturating_add(more).min(self.max);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: u8, length: usize) -> FrameHeader {
        FrameHeader { length, kind, flags: 0, stream: 1 }
    }

    #[test]
    fn every_kind_that_asks_for_nothing_is_bounded_and_calls_are_not() {
        let rows = [
            (RST_STREAM, 4, Some(Flood::Resets)),
            (PING, 8, Some(Flood::Pings)),
            (SETTINGS, 0, Some(Flood::Settings)),
            (PRIORITY, 5, Some(Flood::Priorities)),
            (WINDOW_UPDATE, 4, Some(Flood::WindowUpdates)),
            (DATA, 0, Some(Flood::EmptyFrames)),
            (99, 0, Some(Flood::UnknownFrames)),
            (CONTINUATION, 16_384, Some(Flood::HeaderBytes)),
            (HEADERS, 16_384, Some(Flood::HeaderBytes)),
            (HEADERS, 300, None),
            (HEADERS, HEADER_BYTES_FREE, None),
            (DATA, 1, None),
        ];
        let now = Instant::now();
        for (kind, length, expected) in rows {
            let mut calm = Calm::new(now);
            let flood = (0..200_000).find_map(|_| calm.spend(header(kind, length), now).err());
            assert_eq!(flood, expected, "{kind} of {length} bytes");
        }
        let mut calm = Calm::new(now);
        assert_eq!((0..200_000).find_map(|_| calm.stream_error(now).err()), Some(Flood::StreamErrors));
    }

    #[test]
    fn work_for_nothing_is_waited_for_once_it_is_more_than_a_little() {
        let rows = [(PING, 8, 32, 1), (RST_STREAM, 4, 3, 9), (CONTINUATION, 6_336, 0, 101), (HEADERS, 10_496, 0, 101)];
        for (kind, length, free, work) in rows {
            let now = Instant::now();
            let mut calm = Calm::new(now);
            let waited: Vec<_> = (0..free + 1).map(|_| calm.spend(header(kind, length), now)).collect();
            assert_eq!(waited[..free], vec![Ok(0); free], "{kind}");
            assert_eq!(waited[free], Ok(work), "{kind}");
        }
    }

    #[test]
    fn what_answers_replies_is_free() {
        let now = Instant::now();
        let mut calm = Calm::new(now);
        for _ in 0..200_000 {
            calm.replied(1);
            for kind in [PING, WINDOW_UPDATE, WINDOW_UPDATE] {
                assert_eq!(calm.spend(header(kind, 4), now), Ok(0));
            }
        }
    }

    #[test]
    fn allowances_come_back_with_time() {
        let start = Instant::now();
        let mut allowance = Allowance { left: 0, max: 10, a_second: 2, refilled: start };
        for (millis, expected) in [(499, 0), (500, 1), (900, 1), (1_000, 2), (100_000, 10)] {
            allowance.refill(start + Duration::from_millis(millis));
            assert_eq!(allowance.left, expected, "{millis}");
        }
    }
}
