//! Floods: frames that cost little to send, ask for nothing, and are work for whoever reads them.

use std::time::{Duration, Instant};

use vlot_proto::etcdserverpb::RangeRequest;

use crate::RANGE;
use crate::support::cluster::PATIENCE;
use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, PRIORITY, SETTINGS, WINDOW_UPDATE,
    authority, named,
};

/// Adds a little of a flood to what is sent next.
pub type Wave = fn(&mut Frames);
/// Floods: what they are, what they are called by the server, and how they are made.
pub const FLOODS: [(&str, &str, Wave); 11] = [
    ("pings", "too_many_pings", |frames| frames.frame(PING, 0, 0, &[7; 8])),
    ("settings", "too_many_settings", |frames| frames.frame(SETTINGS, 0, 0, &[])),
    ("priorities", "too_many_priorities", |frames| frames.frame(PRIORITY, 0, 1001, &[0, 0, 0, 0, 9])),
    ("window updates", "too_many_window_updates", |frames| frames.frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
    ("unknown frames", "too_many_unknown_frames", |frames| frames.frame(77, 0, 0, b"anything")),
    ("frames without content", "too_many_empty_frames", |frames| {
        frames.frame(DATA, 0, 1, b"");
        frames.frame(DATA, 0, 1, b"");
    }),
    ("calls that are taken back", "too_many_resets", |frames| {
        let stream = frames.call(RANGE, &RangeRequest { key: "key".into(), ..RangeRequest::default() });
        frames.reset(stream);
    }),
    ("calls that are taken back before they are begun", "too_many_resets", |frames| {
        let stream = frames.head(RANGE, &authority(0x01, "h"));
        frames.reset(stream);
    }),
    ("headers that never end", "too_many_continuations", |frames| {
        if frames.new_stream() == 1 {
            head_with(frames, &[], 0);
        }
        frames.frame(CONTINUATION, 0, 3, &named("x", "y"));
    }),
    // A field of 4,000 bytes, named four thousand times by one byte.
    ("a bomb of headers", "header_list_way_too_large", |frames| {
        let stream = frames.new_stream();
        if stream == 1 {
            let long = [&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e][..], &[b'y'; 4000]].concat();
            head_with(frames, &[long], END_HEADERS | END_STREAM);
        }
        head_with(frames, &[vec![0xbe; 16_000]], END_HEADERS | END_STREAM);
    }),
    ("long headers of many calls", "too_many_header_bytes", |frames| {
        let field = named("x", &"y".repeat(120));
        head_with(frames, &[field.repeat(100)], END_HEADERS | END_STREAM);
    }),
];

/// Sends a flood of something, a few hundred at a time, until the server has had enough. Returns what it says.
pub fn flood(port: u16, wave: Wave) -> (u32, String) {
    let (mut frames, _) = begin_flood(port, wave, Instant::now() + 2 * PATIENCE);
    frames.until(PATIENCE, |come| come.iter().any(|frame| frame.kind == GOAWAY));
    frames.goaway().expect("a client that floods is told why it must go")
}

/// The same until then. Returns the connection as it is, and how many waves were sent.
pub fn begin_flood(port: u16, wave: Wave, until: Instant) -> (Frames, usize) {
    let mut frames = Frames::connect(port, &[]);
    let mut waves = 0;
    while frames.goaway().is_none() && !frames.ended && Instant::now() < until {
        frames.come.clear();
        for _ in 0..250 {
            wave(&mut frames);
        }
        frames.flush();
        waves += 250;
        frames.until(Duration::from_micros(200), |_| false);
    }
    (frames, waves)
}

/// The head of a call whose block is not indexed and has these fields besides.
pub fn head_with(frames: &mut Frames, fields: &[Vec<u8>], flags: u8) -> u32 {
    let stream = frames.new_stream();
    let block = [
        &[0x83, 0x86][..],
        &named(":path", RANGE),
        &authority(0x01, "h"),
        &named("content-type", "application/grpc"),
        &named("te", "trailers"),
        &fields.concat(),
    ];
    frames.frame(HEADERS, flags, stream, &block.concat());
    stream
}
