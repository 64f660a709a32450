//! The cases of h2spec (its groups `generic`, `http2` and `hpack`), each as what a client sends and what it must hear.
//!
//! The titles are the sections of RFC 7540 and RFC 7541 under which h2spec has them. Each is run in one piece and byte by byte.

mod support;

use support::*;

/// What is sent behind the preface and empty settings, and what is heard behind the server's own and their acknowledgement.
type Case = (&'static str, Vec<Vec<u8>>, &'static [&'static str]);

const ANSWER: &[&str] = &["HEADERS 1", "DATA 1 5 end"];
const PONG: &[&str] = &["PING ack"];
const PROTOCOL: &[&str] = &["GOAWAY PROTOCOL_ERROR"];
const COMPRESSION: &[&str] = &["GOAWAY COMPRESSION_ERROR"];
const FRAME_SIZE: &[&str] = &["GOAWAY FRAME_SIZE_ERROR"];
const FLOW_CONTROL: &[&str] = &["GOAWAY FLOW_CONTROL_ERROR"];
const CLOSED: &[&str] = &["GOAWAY STREAM_CLOSED"];
const RESET_PROTOCOL: &[&str] = &["RST_STREAM 1 PROTOCOL_ERROR"];
const RESET_CLOSED: &[&str] = &["RST_STREAM 1 STREAM_CLOSED"];
const WHOLE: u8 = END_HEADERS | END_STREAM;

/// A server that has been told to answer, and has not: so that what comes next finds the stream half closed.
fn heard(cases: Vec<Case>, answer: Option<&'static [u8]>) {
    for (title, sent, expected) in cases {
        let sent = [PREFACE.to_vec(), settings(&[])].into_iter().chain(sent).collect::<Vec<_>>().concat();
        let mut runs = Vec::new();
        for at_a_time in [sent.len(), 1, 7] {
            let mut server = Server::new(answer);
            sent.chunks(at_a_time).for_each(|piece| server.receive(piece));
            runs.push((server.said(), server.events));
        }
        let (said, _) = &runs[0];
        assert_eq!(said[..3], ["SETTINGS", "WINDOW_UPDATE 0 33488897", "SETTINGS ack"], "{title}");
        assert_eq!(said[3..], *expected, "{title}: {:?}", runs[0].1);
        assert!(runs[1..].iter().all(|run| *run == runs[0]), "{title}: it depends on the pieces: {runs:?}");
    }
}

fn request() -> Vec<u8> {
    headers(WHOLE, 1, &get(&[]))
}

fn with(others: &[u8]) -> Vec<Vec<u8>> {
    vec![headers(WHOLE, 1, &get(others))]
}

/// A block whose fields are spelled out.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(name, value)).collect()
}

#[test]
fn generic() {
    let open = || headers(END_HEADERS, 1, &post(&[]));
    heard(
        vec![
            ("1: a client connection preface", vec![ping(0, 0)], PONG),
            ("2: priority of an idle stream", vec![priority(1, 0), ping(0, 0)], PONG),
            ("2: window update of a half closed stream", vec![request(), window_update(1, 100)], ANSWER),
            ("2: priority of a half closed stream", vec![request(), priority(1, 0)], ANSWER),
            (
                "2: reset of a half closed stream",
                vec![open(), data(END_STREAM, 1, b"x"), reset(1, 8), ping(0, 0)],
                &["HEADERS 1", "DATA 1 5 end", "PING ack"],
            ),
            (
                "2: priority of a closed stream",
                vec![request(), priority(1, 0), ping(0, 0)],
                &["HEADERS 1", "DATA 1 5 end", "PING ack"],
            ),
            ("3.1: one data frame", vec![open(), data(END_STREAM, 1, b"test")], ANSWER),
            ("3.1: several data frames", vec![open(), data(0, 1, b"test"), data(END_STREAM, 1, b"test")], ANSWER),
            ("3.1: data with padding", vec![open(), data(END_STREAM | PADDED, 1, b"\x06test\0\0\0\0\0\0")], ANSWER),
            ("3.2: headers", vec![request()], ANSWER),
            (
                "3.2: headers with padding",
                vec![headers(WHOLE | PADDED, 1, &[&[2][..], &get(&[]), &[0, 0]].concat())],
                ANSWER,
            ),
            (
                "3.2: headers with priority",
                vec![headers(WHOLE | PRIORITY, 1, &[&[0, 0, 0, 0, 255][..], &get(&[])].concat())],
                ANSWER,
            ),
            ("3.3: priority", vec![priority(1, 0), request()], ANSWER),
            ("3.3: priority, exclusive, of a later stream", vec![priority(5, 0x8000_0003), request()], ANSWER),
            ("3.4: reset", vec![open(), reset(1, 8), ping(0, 0)], PONG),
            (
                "3.5: settings",
                vec![settings(&[(1, 4096), (3, 100), (4, 65_535), (5, 16_384), (6, 1000)])],
                &["SETTINGS ack"],
            ),
            ("3.7: ping", vec![ping(0, 0)], PONG),
            ("3.8: goaway", vec![frame(7, 0, 0, &[0; 8]), ping(0, 0)], PONG),
            ("3.9: window update of the connection", vec![window_update(0, 1), request()], ANSWER),
            ("3.9: window update of a stream", vec![open(), window_update(1, 1), data(END_STREAM, 1, b"")], ANSWER),
            (
                "3.10: continuation",
                vec![
                    headers(END_STREAM, 1, &get(&[])),
                    continuation(0, 1, &field("a", "b")),
                    continuation(END_HEADERS, 1, &field("c", "d")),
                ],
                ANSWER,
            ),
            (
                "4: GET, HEAD, POST and OPTIONS",
                vec![
                    request(),
                    headers(
                        WHOLE,
                        3,
                        &block(&[(":method", "HEAD"), (":scheme", "https"), (":path", "/"), (":authority", "h")]),
                    ),
                    headers(END_HEADERS, 5, &post(&[])),
                    data(END_STREAM, 5, b"test"),
                    headers(WHOLE, 7, &block(&[(":method", "OPTIONS"), (":scheme", "https"), (":path", "*")])),
                ],
                &[
                    "HEADERS 1",
                    "DATA 1 5 end",
                    "HEADERS 3",
                    "DATA 3 5 end",
                    "HEADERS 5",
                    "DATA 5 5 end",
                    "HEADERS 7",
                    "DATA 7 5 end",
                ],
            ),
            ("4: trailers", vec![open(), data(0, 1, b"x"), headers(WHOLE, 1, &field("x-end", "1"))], ANSWER),
        ],
        Some(b"hello"),
    );
}

#[test]
fn http2_3_to_4_the_beginning_and_frames() {
    let open = || headers(END_HEADERS, 1, &post(&[]));
    heard(
        vec![
            ("4.1: a frame of an unknown type", vec![frame(0x16, 0, 0, &[0; 8]), ping(0, 0)], PONG),
            ("4.1: an undefined flag", vec![ping(0x16, 0)], PONG),
            ("4.1: the reserved bit", vec![ping(0, 0x8000_0000)], PONG),
            ("4.2: data of 2^14 bytes", vec![open(), data(END_STREAM, 1, &[0; 1 << 14])], ANSWER),
            ("4.2: data that is too long", vec![open(), data(END_STREAM, 1, &[0; (1 << 14) + 1])], FRAME_SIZE),
            ("4.2: headers that are too long", vec![headers(WHOLE, 1, &[0x84; (1 << 14) + 1])], FRAME_SIZE),
            ("4.3: an invalid fragment", vec![headers(WHOLE, 1, &[0x40])], COMPRESSION),
            (
                "4.3: priority within a block",
                vec![headers(END_STREAM, 1, &get(&[])), priority(1, 0), continuation(END_HEADERS, 1, &[])],
                PROTOCOL,
            ),
            (
                "4.3: headers of another stream within a block",
                vec![headers(END_STREAM, 1, &get(&[])), headers(WHOLE, 3, &get(&[]))],
                PROTOCOL,
            ),
        ],
        Some(b"hello"),
    );
    for wrong in [&b"INVALID CONNECTION PREFACE\r\n\r\n"[..], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut server = Server::new(None);
        server.receive(wrong);
        assert_eq!(server.said()[2..], ["GOAWAY PROTOCOL_ERROR"]);
        assert!(server.connection.is_done());
    }
    // 3.4: settings are the first frame.
    for first in [ping(0, 0), request(), frame(4, ACK, 0, &[])] {
        let mut server = Server::new(None);
        server.receive(&[PREFACE, &first].concat());
        assert_eq!(server.said()[2..], ["GOAWAY PROTOCOL_ERROR"]);
    }
}

#[test]
fn http2_5_streams() {
    let open = || headers(END_HEADERS, 1, &post(&[]));
    for answer in [None, Some(&b"hello"[..])] {
        // Whether the stream is half closed or closed, the first frames heard are the answer.
        let case = |title, sent: Vec<Vec<u8>>, of_none: &'static [&str], of_some: &'static [&str]| {
            (title, sent, if answer.is_none() { of_none } else { of_some })
        };
        heard(
            vec![
                case(
                    "5.1: half closed: data",
                    vec![request(), data(END_STREAM, 1, b"test")],
                    RESET_CLOSED,
                    &["HEADERS 1", "DATA 1 5 end", "RST_STREAM 1 STREAM_CLOSED"],
                ),
                case(
                    "5.1: half closed: headers",
                    vec![request(), request()],
                    RESET_CLOSED,
                    &["HEADERS 1", "DATA 1 5 end", "GOAWAY STREAM_CLOSED"],
                ),
                case(
                    "5.1: half closed: continuation",
                    vec![request(), continuation(END_HEADERS, 1, &[])],
                    PROTOCOL,
                    &["HEADERS 1", "DATA 1 5 end", "GOAWAY PROTOCOL_ERROR"],
                ),
            ],
            answer,
        );
    }
    heard(
        vec![
            ("5.1: idle: data", vec![data(END_STREAM, 1, b"test")], PROTOCOL),
            ("5.1: idle: reset", vec![reset(1, 8)], PROTOCOL),
            ("5.1: idle: window update", vec![window_update(1, 100)], PROTOCOL),
            ("5.1: idle: continuation", vec![continuation(END_HEADERS, 1, &get(&[]))], PROTOCOL),
            ("5.1: closed by a reset: data", vec![open(), reset(1, 8), data(END_STREAM, 1, b"test")], RESET_CLOSED),
            ("5.1: closed by a reset: headers", vec![open(), reset(1, 8), request()], CLOSED),
            (
                "5.1: closed by a reset: continuation",
                vec![open(), reset(1, 8), continuation(END_HEADERS, 1, &[])],
                PROTOCOL,
            ),
            ("5.1.1: an even number", vec![headers(WHOLE, 2, &get(&[]))], PROTOCOL),
            (
                "5.1.1: a number before the last one",
                vec![headers(WHOLE, 5, &get(&[])), headers(WHOLE, 3, &get(&[]))],
                PROTOCOL,
            ),
            (
                "5.3.1: headers that depend on themselves",
                vec![headers(WHOLE | PRIORITY, 1, &[&[0, 0, 0, 1, 255][..], &get(&[])].concat())],
                RESET_PROTOCOL,
            ),
            ("5.3.1: a priority that depends on itself", vec![open(), priority(1, 1)], RESET_PROTOCOL),
            ("5.3.1: the same of an idle stream", vec![priority(1, 1)], PROTOCOL),
            ("5.4.1: an invalid ping", vec![ping(0, 3)], PROTOCOL),
            ("5.5: an unknown frame", vec![frame(0x16, 0, 0, &[0; 8]), ping(0, 0)], PONG),
            (
                "5.5: an unknown frame within a block",
                vec![headers(END_STREAM, 1, &get(&[])), frame(0x16, 0, 0, &[0; 8])],
                PROTOCOL,
            ),
        ],
        None,
    );
}

#[test]
fn http2_5_1_2_streams_beyond_the_limit_are_refused() {
    let limits = vlot_http2::Limits { streams_max: 2, ..Default::default() };
    let mut server = Server::with(limits, None);
    server.receive(&[PREFACE, &settings(&[])].concat());
    for stream in [1, 3, 5] {
        server.receive(&headers(END_HEADERS, stream, &post(&[])));
    }
    assert_eq!(server.said()[3..], ["RST_STREAM 5 REFUSED_STREAM"]);
    // The client did not know, and there is room again.
    server
        .receive(&[data(0, 5, b"test"), data(END_STREAM, 5, b""), reset(1, 8), headers(WHOLE, 7, &get(&[]))].concat());
    assert_eq!(server.said(), [""; 0]);
    assert_eq!(server.events, ["1 POST h/", "3 POST h/", "1 reset", "7 GET h/ end"]);
}

#[test]
fn http2_6_frames() {
    let open = || headers(END_HEADERS, 1, &post(&[]));
    heard(
        vec![
            ("6.1: data of stream 0", vec![data(END_STREAM, 0, b"test")], PROTOCOL),
            ("6.1: data of a stream that is not open", vec![request(), data(END_STREAM, 1, b"test")], RESET_CLOSED),
            ("6.1: padding that is too long", vec![open(), data(END_STREAM | PADDED, 1, b"\x06Test")], PROTOCOL),
            ("6.2: headers, and a priority within", vec![headers(0, 1, &get(&[])), priority(1, 0)], PROTOCOL),
            ("6.2: headers of stream 0", vec![headers(WHOLE, 0, &get(&[]))], PROTOCOL),
            (
                "6.2: padding that is too long",
                vec![headers(WHOLE | PADDED, 1, &[&[200][..], &get(&[])].concat())],
                PROTOCOL,
            ),
            ("6.2: a priority that is cut", vec![headers(WHOLE | PRIORITY, 1, &[0, 0])], FRAME_SIZE),
            ("6.3: priority of stream 0", vec![priority(0, 0)], PROTOCOL),
            (
                "6.3: priority of four bytes",
                vec![open(), frame(2, 0, 1, &[0x80, 0, 0, 1])],
                &["RST_STREAM 1 FRAME_SIZE_ERROR"],
            ),
            ("6.4: reset of stream 0", vec![reset(0, 8)], PROTOCOL),
            ("6.4: reset of an idle stream", vec![reset(1, 8)], PROTOCOL),
            ("6.4: reset of three bytes", vec![open(), frame(3, 0, 1, &[0; 3])], FRAME_SIZE),
            ("6.5: an acknowledgement with content", vec![frame(4, ACK, 0, &[0])], FRAME_SIZE),
            ("6.5: settings of a stream", vec![frame(4, 0, 1, &[0, 3, 0, 0, 0, 100])], PROTOCOL),
            ("6.5: settings of three bytes", vec![frame(4, 0, 0, &[0, 3, 0])], FRAME_SIZE),
            ("6.5.2: push that is neither on nor off", vec![settings(&[(2, 2)])], PROTOCOL),
            ("6.5.2: a window that is too large", vec![settings(&[(4, 1 << 31)])], FLOW_CONTROL),
            ("6.5.2: frames that are too short", vec![settings(&[(5, (1 << 14) - 1)])], PROTOCOL),
            ("6.5.2: frames that are too long", vec![settings(&[(5, 1 << 24)])], PROTOCOL),
            ("6.5.2: an unknown setting", vec![settings(&[(0xff, 1)]), ping(0, 0)], &["SETTINGS ack", "PING ack"]),
            ("6.5.3: settings are acknowledged", vec![settings(&[(2, 0)])], &["SETTINGS ack"]),
            ("6.7: a ping is answered", vec![ping(0, 0)], PONG),
            ("6.7: an answer to no ping", vec![ping(ACK, 0), ping(0, 0)], PONG),
            ("6.7: a ping of a stream", vec![ping(0, 1)], PROTOCOL),
            ("6.7: a ping of six bytes", vec![frame(6, 0, 0, &[0; 6])], FRAME_SIZE),
            ("6.8: goaway of a stream", vec![frame(7, 0, 1, &[0; 8])], PROTOCOL),
            ("6.8: goaway that is cut", vec![frame(7, 0, 0, &[0; 7])], FRAME_SIZE),
            ("6.9: a connection's window that grows by nothing", vec![window_update(0, 0)], PROTOCOL),
            ("6.9: a stream's window that grows by nothing", vec![open(), window_update(1, 0)], RESET_PROTOCOL),
            ("6.9: a window update of three bytes", vec![frame(8, 0, 0, &[0, 0, 1])], FRAME_SIZE),
            ("6.9.1: a connection's window beyond 31 bits", vec![window_update(0, 0x7fff_ffff); 2], FLOW_CONTROL),
            (
                "6.9.1: a stream's window beyond 31 bits",
                vec![open(), window_update(1, 0x7fff_ffff), window_update(1, 0x7fff_ffff)],
                &["RST_STREAM 1 FLOW_CONTROL_ERROR"],
            ),
            ("6.9.2: a window that is too large", vec![settings(&[(4, 0x8000_0000)])], FLOW_CONTROL),
            (
                "6.9.2: one that is too large for a stream that has grown",
                vec![open(), window_update(1, 0x7fff_0000), settings(&[(4, 0x7fff_ffff)])],
                FLOW_CONTROL,
            ),
            (
                "6.10: several continuations",
                vec![
                    headers(END_STREAM, 1, &get(&[])),
                    continuation(0, 1, &[]),
                    continuation(END_HEADERS, 1, &[]),
                    ping(0, 0),
                ],
                PONG,
            ),
            (
                "6.10: continuation, then data",
                vec![headers(0, 1, &get(&[])), continuation(0, 1, &[]), data(END_STREAM, 1, b"test")],
                PROTOCOL,
            ),
            (
                "6.10: continuation of stream 0",
                vec![headers(END_STREAM, 1, &get(&[])), continuation(END_HEADERS, 0, &[])],
                PROTOCOL,
            ),
            ("6.10: continuation behind whole headers", vec![open(), continuation(END_HEADERS, 1, &[])], PROTOCOL),
            (
                "6.10: continuation behind a whole continuation",
                vec![headers(0, 1, &post(&[])), continuation(END_HEADERS, 1, &[]), continuation(END_HEADERS, 1, &[])],
                PROTOCOL,
            ),
            ("6.10: continuation behind data", vec![open(), data(0, 1, b"test"), continuation(0, 1, &[])], PROTOCOL),
        ],
        None,
    );
}

#[test]
fn http2_6_5_3_and_6_9_windows_for_what_is_sent() {
    heard(
        vec![
            (
                "6.5.3: of several sizes the last counts",
                vec![settings(&[(4, 100), (4, 1)]), request()],
                &["SETTINGS ack", "HEADERS 1", "DATA 1 1"],
            ),
            (
                "6.9.1: a window of one byte",
                vec![settings(&[(4, 1)]), request()],
                &["SETTINGS ack", "HEADERS 1", "DATA 1 1"],
            ),
            (
                "6.9.2: a window that opens later",
                vec![settings(&[(4, 0)]), request(), settings(&[(4, 1)])],
                &["SETTINGS ack", "HEADERS 1", "SETTINGS ack", "DATA 1 1"],
            ),
            (
                "6.9.2: a window that is negative for a while",
                vec![settings(&[(4, 3)]), request(), settings(&[(4, 2)]), window_update(1, 2)],
                &["SETTINGS ack", "HEADERS 1", "DATA 1 3", "SETTINGS ack", "DATA 1 1"],
            ),
            (
                "6.9: the rest, once there is room",
                vec![settings(&[(4, 3)]), request(), window_update(1, 100)],
                &["SETTINGS ack", "HEADERS 1", "DATA 1 3", "DATA 1 2 end"],
            ),
        ],
        Some(b"hello"),
    );
}

#[test]
fn http2_7_unknown_codes_mean_nothing() {
    let open = headers(END_HEADERS, 1, &post(&[]));
    heard(
        vec![
            ("7: goaway", vec![frame(7, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 0xff]), ping(0, 0)], PONG),
            ("7: reset", vec![open, reset(1, 0xff), ping(0, 0)], PONG),
        ],
        None,
    );
}

#[test]
fn http2_8_messages() {
    let open = || headers(END_HEADERS, 1, &post(&[]));
    let all = [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "h")];
    let without = |name: &str| {
        let fields: Vec<_> = all.into_iter().filter(|(other, _)| *other != name).collect();
        vec![headers(WHOLE, 1, &block(&fields))]
    };
    let of_length = |length: &str| headers(END_HEADERS, 1, &post(&field("content-length", length)));
    heard(
        vec![
            ("8.1: headers again that do not end", vec![open(), data(0, 1, b"test"), open()], RESET_PROTOCOL),
            ("8.1.2: a name in capitals", with(&field("X-TEST", "test")), RESET_PROTOCOL),
            ("8.1.2: a name that is no name", with(&field("a b", "test")), RESET_PROTOCOL),
            ("8.1.2: a value of two lines", with(&field("a", "b\r\nc: d")), RESET_PROTOCOL),
            ("8.1.2.1: an unknown pseudo-header field", with(&field(":test", "test")), RESET_PROTOCOL),
            ("8.1.2.1: one of replies", with(&field(":status", "200")), RESET_PROTOCOL),
            ("8.1.2.1: one of replies, by its number", with(&[0x88]), RESET_PROTOCOL),
            (
                "8.1.2.1: one in trailers",
                vec![open(), data(0, 1, b"test"), headers(WHOLE, 1, &field(":method", "GET"))],
                RESET_PROTOCOL,
            ),
            (
                "8.1.2.1: one behind a regular field",
                vec![headers(WHOLE, 1, &block(&[("x", "y"), all[0], all[1], all[2], all[3]]))],
                RESET_PROTOCOL,
            ),
            ("8.1.2.2: of the connection", with(&field("connection", "keep-alive")), RESET_PROTOCOL),
            ("8.1.2.2: te", with(&field("te", "trailers, deflate;q=0.5")), RESET_PROTOCOL),
            ("8.1.2.2: te of trailers is allowed", with(&field("te", "trailers")), &[]),
            (
                "8.1.2.3: an empty path",
                vec![headers(WHOLE, 1, &block(&[all[0], all[1], (":path", "")]))],
                RESET_PROTOCOL,
            ),
            ("8.1.2.3: no method", without(":method"), RESET_PROTOCOL),
            ("8.1.2.3: no scheme", without(":scheme"), RESET_PROTOCOL),
            ("8.1.2.3: no path", without(":path"), RESET_PROTOCOL),
            ("8.1.2.3: no authority is no fault", without(":authority"), &[]),
            (
                "8.1.2.3: two methods",
                with(&[]).into_iter().map(|_| headers(WHOLE, 1, &[&[0x82][..], &get(&[])].concat())).collect(),
                RESET_PROTOCOL,
            ),
            ("8.1.2.3: two schemes", vec![headers(WHOLE, 1, &[&[0x87][..], &get(&[])].concat())], RESET_PROTOCOL),
            ("8.1.2.3: two paths", vec![headers(WHOLE, 1, &[&[0x84][..], &get(&[])].concat())], RESET_PROTOCOL),
            ("8.1.2.6: another length", vec![of_length("1"), data(END_STREAM, 1, b"test")], RESET_PROTOCOL),
            (
                "8.1.2.6: another length in several frames",
                vec![of_length("1"), data(0, 1, b"test"), data(END_STREAM, 1, b"test")],
                &["RST_STREAM 1 PROTOCOL_ERROR"],
            ),
            (
                "8.1.2.6: another length, and trailers",
                vec![of_length("5"), data(0, 1, b"test"), headers(WHOLE, 1, &[])],
                RESET_PROTOCOL,
            ),
            ("8.1.2.6: no body of a length", with(&field("content-length", "1")), RESET_PROTOCOL),
            ("8.1.2.6: no number", vec![of_length("+1")], RESET_PROTOCOL),
            (
                "8.1.2.6: the length that it has",
                vec![of_length("8"), data(0, 1, b"test"), data(END_STREAM, 1, b"test")],
                &[],
            ),
            ("8.2: a push", vec![frame(5, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &get(&[])].concat())], PROTOCOL),
        ],
        None,
    );
}

#[test]
fn hpack() {
    heard(
        vec![
            ("2.3.3: an index that no table has", with(&[0xff, 0x00]), COMPRESSION),
            ("2.3.3: the same of a name", with(&[0x7f, 0x00, 1, b'a']), COMPRESSION),
            ("4.2: a table's size at the end", with(&[0x3f, 0x00]), COMPRESSION),
            ("5.2: padding of more than seven bits", with(&[0x00, 0x01, b'a', 0x82, 0x1f, 0xff]), COMPRESSION),
            ("5.2: padding of zeros", with(&[0x00, 0x01, b'a', 0x81, 0x18]), COMPRESSION),
            (
                "5.2: the end of a string within it",
                with(&[0x00, 0x01, b'a', 0x85, 0x1f, 0xff, 0xff, 0xff, 0xff]),
                COMPRESSION,
            ),
            ("6.1: an index of zero", with(&[0x80]), COMPRESSION),
            (
                "6.3: a table's size beyond the setting",
                vec![headers(WHOLE, 1, &[&[0x3f, 0xe2, 0x1f][..], &get(&[])].concat())],
                COMPRESSION,
            ),
            (
                "4.2: a table's size at the beginning",
                vec![headers(WHOLE, 1, &[&[0x20, 0x3f, 0xe1, 0x1f][..], &get(&[])].concat())],
                &[],
            ),
        ],
        None,
    );
}
