//! What a connection does beside what h2spec looks at: windows for what comes, limits, floods, and how it ends.

mod support;

use std::time::Instant;

use support::*;
use vlot_http2::{Connection, ConnectionError, Flood, Limits};

const WHOLE: u8 = END_HEADERS | END_STREAM;

fn begun(limits: Limits, answer: Option<&'static [u8]>) -> Server {
    let mut server = Server::with(limits, answer);
    server.receive(&[PREFACE, &settings(&[])].concat());
    server.take_output();
    server
}

#[test]
fn windows_are_refilled_by_halves_as_data_is_taken() {
    let limits = Limits { stream_window: 20_000, connection_window: 100_000, ..Limits::default() };
    let mut server = begun(limits, None);
    server.receive(&headers(END_HEADERS, 1, &post(&[])));
    let mut told = Vec::new();
    for _ in 0..20 {
        server.receive(&data(0, 1, &[7; 5_000]));
        told.extend(server.said());
    }
    let of_stream = told.iter().filter(|line| **line == "WINDOW_UPDATE 1 10000").count();
    let of_connection = told.iter().filter(|line| **line == "WINDOW_UPDATE 0 50000").count();
    assert_eq!((of_stream, of_connection, told.len()), (10, 2, 12), "{told:?}");
}

#[test]
fn more_than_a_window_is_not_taken() {
    // Nothing is given back, because nobody takes it: a connection of its own instead of a server.
    for (streams, code, of) in [(1, "RST_STREAM 1 FLOW_CONTROL_ERROR", 1_u32), (4, "GOAWAY FLOW_CONTROL_ERROR", 4)] {
        let limits = Limits { stream_window: 20_000, connection_window: 70_000, ..Limits::default() };
        let mut connection = Connection::new(limits, Instant::now());
        let mut sent = [PREFACE, &settings(&[])].concat();
        for stream in 0..streams {
            sent.extend(headers(END_HEADERS, 2 * stream + 1, &post(&[])));
        }
        for round in 0..5 {
            for stream in 0..streams {
                if of == 1 || round < 4 {
                    sent.extend(data(0, 2 * stream + 1, &[7; 5_000]));
                }
            }
        }
        let mut input = &sent[..];
        while let Ok(Some(_)) = connection.next(&mut input, Instant::now()) {}
        assert_eq!(shown(connection.output()).last().map(String::as_str), Some(code));
    }
}

#[test]
fn padding_is_given_back_at_once() {
    let limits = Limits { stream_window: 1_000, ..Limits::default() };
    let mut connection = Connection::new(limits, Instant::now());
    let padded = data(PADDED, 1, &[&[200][..], b"ab", &[0; 200]].concat());
    let sent = [PREFACE, &settings(&[]), &headers(END_HEADERS, 1, &post(&[])), &padded.repeat(100)].concat();
    let mut input = &sent[..];
    while let Some(event) = connection.next(&mut input, Instant::now()).unwrap() {
        assert!(!matches!(event, vlot_http2::Event::Reset { .. }));
    }
}

#[test]
fn streams_that_wait_for_the_connection_take_turns() {
    static LONG: [u8; 40_000] = [7; 40_000];
    let mut server = begun(Limits::default(), Some(&LONG));
    server.receive(&settings(&[(4, 1 << 20)]));
    (0..3).for_each(|n| server.receive(&headers(WHOLE, 2 * n + 1, &get(&[]))));
    let said = server.said();
    let bytes = |said: &[String], stream: u32| -> usize {
        let of = format!("DATA {stream} ");
        let lengths = said.iter().filter_map(|line| line.strip_prefix(&of));
        lengths.map(|rest| rest.trim_end_matches(" end").parse::<usize>().unwrap()).sum()
    };
    // The window of the connection is 65,535 bytes until the client says more.
    assert_eq!([1, 3, 5].map(|stream| bytes(&said, stream)), [40_000, 25_535, 0]);
    server.receive(&window_update(0, 10_000));
    let said = server.said();
    assert_eq!([3, 5].map(|stream| bytes(&said, stream)), [10_000, 0], "the first that waits is first");
    server.receive(&window_update(0, 100_000));
    let said = server.said();
    assert_eq!([3, 5].map(|stream| bytes(&said, stream)), [4_465, 40_000]);
    assert_eq!(server.connection.streams(), 0);
}

#[test]
fn a_reply_before_the_end_of_the_request_tells_the_client_to_stop() {
    let mut server = begun(Limits::default(), None);
    server.receive(&headers(END_HEADERS, 1, &post(&[])));
    let Server { connection, .. } = &mut server;
    let mut input = &headers(END_HEADERS, 3, &post(&[]))[..];
    let Ok(Some(vlot_http2::Event::Request { stream, .. })) = connection.next(&mut input, Instant::now()) else {
        panic!("no request");
    };
    connection.respond(stream, 404, [("", ""); 0], true);
    assert_eq!(shown(connection.output()), ["HEADERS 3 end", "RST_STREAM 3 NO_ERROR"]);
    // What it has sent meanwhile is no offence, and is given back.
    server.receive(&[data(0, 3, b"test"), headers(WHOLE, 3, &field("a", "b")), ping(0, 0)].concat());
    assert_eq!(server.said()[2..], ["PING ack"]);
}

#[test]
fn fields_that_are_too_large_are_refused_and_the_tables_stay_alike() {
    let limits = Limits { field_bytes_max: 1_000, ..Limits::default() };
    let mut server = begun(limits, Some(b"hello"));
    // Remembered by the client, though the request is refused.
    let remembered = [&[0x40, 1, b'x', 3][..], b"abc"].concat();
    let large = [get(&[]), remembered, field("y", &"z".repeat(100)).repeat(10)].concat();
    server.receive(&headers(WHOLE, 1, &large));
    server.receive(&headers(WHOLE, 3, &get(&[0xbe])));
    assert_eq!(server.said(), ["HEADERS 1 end", "HEADERS 3", "DATA 3 5 end"]);
    assert_eq!(server.events, ["3 GET h/ x=abc end"]);
}

#[test]
fn floods_have_names() {
    let bomb = [&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e][..], &[b'y'; 4000]].concat();
    let rows: [(Flood, Vec<u8>, Vec<u8>); 10] = [
        (Flood::Pings, vec![], ping(0, 0)),
        (Flood::Settings, vec![], settings(&[])),
        (Flood::Priorities, vec![], priority(1001, 0)),
        (Flood::WindowUpdates, vec![], window_update(0, 1)),
        (Flood::UnknownFrames, vec![], frame(77, 0, 0, b"anything")),
        (Flood::EmptyFrames, headers(END_HEADERS, 1, &post(&[])), data(0, 1, b"")),
        (Flood::StreamErrors, [headers(WHOLE, 1, &get(&[])), reset(1, 8)].concat(), data(0, 1, b"x")),
        (Flood::Continuations, headers(0, 1, &get(&[])), continuation(0, 1, &field("x", "y"))),
        (Flood::HeaderList, headers(0, 1, &get(&[])), continuation(0, 1, &field("x", &"y".repeat(100)).repeat(100))),
        (Flood::HeaderList, headers(WHOLE, 1, &[get(&[]), bomb].concat()), headers(WHOLE, 3, &[0xbe; 16_000])),
    ];
    for (flood, first, each) in rows {
        let mut server = begun(Limits::default(), None);
        server.receive(&first);
        for _ in 0..300 {
            server.receive(&each.repeat(400));
            server.take_output();
        }
        assert_eq!(server.events.last().map(String::as_str), Some(flood.name()), "{flood:?}");
        assert!(server.connection.is_done());
    }
    // Calls that are taken back, and the one that asks for nothing at all.
    for (flood, flags, block) in
        [(Flood::Resets, WHOLE, get(&[])), (Flood::HeaderBytes, WHOLE, get(&field("x", &"y".repeat(100)).repeat(120)))]
    {
        let mut server = begun(Limits::default(), None);
        for stream in (1..40_001).step_by(2) {
            server.receive(&[headers(flags, stream, &block), reset(stream, 8)].concat());
        }
        assert_eq!(server.events.last().map(String::as_str), Some(flood.name()));
        assert!(server.connection.take_work_for_nothing() > 0);
    }
}

#[test]
fn a_turn_is_a_bounded_amount_of_work() {
    let mut connection = Connection::new(Limits { streams_max: 10_000, ..Limits::default() }, Instant::now());
    let requests: Vec<u8> = (0..1000).flat_map(|n| headers(WHOLE, 2 * n + 1, &get(&[]))).collect();
    let sent = [PREFACE, &settings(&[]), &requests].concat();
    let (mut input, mut turns, mut events) = (&sent[..], 0, 0);
    while !input.is_empty() {
        connection.begin_turn(Connection::TURN_WORK);
        turns += 1;
        let before = events;
        while connection.next(&mut input, Instant::now()).unwrap().is_some() {
            events += 1;
        }
        assert!(events - before <= 64);
    }
    assert_eq!((turns, events), (16, 1000));
}

#[test]
fn a_connection_is_left_in_good_order() {
    let mut server = begun(Limits::default(), None);
    server.receive(&headers(END_HEADERS, 1, &post(&[])));
    server.connection.shut_down();
    let output = server.take_output();
    assert_eq!(shown(&output), ["GOAWAY NO_ERROR", "PING"]);
    assert_eq!(output[9..13], [0x7f, 0xff, 0xff, 0xff], "no stream is refused yet");
    let pong = frame(6, ACK, 0, &output[output.len() - 8..]);
    // Begun before the client knew; and behind it.
    server.receive(
        &[headers(WHOLE, 3, &get(&[])), pong, headers(END_HEADERS, 5, &post(&[])), data(END_STREAM, 5, b"x")].concat(),
    );
    let output = server.take_output();
    assert_eq!(shown(&output), ["GOAWAY NO_ERROR"]);
    assert_eq!(output[9..13], [0, 0, 0, 3]);
    assert_eq!(server.events, ["1 POST h/", "3 GET h/ end"]);
    assert!(!server.connection.is_done());
    server.receive(&[reset(1, 8), reset(3, 8)].concat());
    assert!(server.connection.is_done());
}

#[test]
fn a_client_is_asked_whether_it_is_there() {
    let mut server = begun(Limits::default(), None);
    server.connection.ping();
    let asked = server.take_output();
    assert_eq!(shown(&asked), ["PING"]);
    server.receive(&ping(ACK, 0));
    assert!(server.connection.is_pong_awaited(), "that was an answer to another one");
    server.receive(&frame(6, ACK, 0, &asked[9..]));
    assert!(!server.connection.is_pong_awaited());
}

#[test]
fn who_ends_a_connection_says_why_between_two_frames() {
    let mut server = begun(Limits::default(), Some(b"hello"));
    server.receive(&headers(WHOLE, 1, &get(&[])));
    server.connection.fail(ConnectionError::Flood(Flood::Pings));
    let output = server.take_output();
    assert_eq!(shown(&output), ["HEADERS 1", "DATA 1 5 end", "GOAWAY ENHANCE_YOUR_CALM"]);
    assert!(output.ends_with(b"\0\0\0\x0btoo_many_pings"));
    server.receive(&headers(WHOLE, 3, &get(&[])));
    assert_eq!(server.said(), [""; 0], "behind the last frame there is nothing");
}

#[test]
fn what_clients_of_etcd_call_a_server_is_no_fault() {
    for name in ["", "http://h", "#initially=[127.0.0.1:2379]", "/var/run/etcd.sock", "%2Fvar", "a b", "\u{e9}"] {
        let mut server = begun(Limits::default(), Some(b"hello"));
        let block = [&[0x83, 0x87, 0x84][..], &field(":authority", name)].concat();
        server.receive(&headers(WHOLE, 1, &block));
        assert_eq!(server.said(), ["HEADERS 1", "DATA 1 5 end"], "{name:?}");
    }
}
