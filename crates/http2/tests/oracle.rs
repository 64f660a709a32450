//! A client of another make, `h2`, has its calls answered over bytes that come in pieces of any length.

use std::collections::HashMap;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use h2::client::{self, SendRequest};
use http::{HeaderMap, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use vlot_http2::{Connection, Event, Limits, StreamKey};

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as usize % bound
    }

    /// Text that the Huffman code makes shorter, and some that it makes longer.
    fn text(&mut self, length_max: usize) -> String {
        (0..self.below(length_max)).map(|_| char::from(b" ,/:aeiotnz{|}~\"\\<"[self.below(18)])).collect()
    }

    fn bytes(&mut self, length_max: usize) -> Bytes {
        (0..self.below(length_max)).map(|n| n as u8).collect()
    }
}

/// A request that has come, as far as it has.
#[derive(Default)]
struct Asked {
    fields: Vec<(String, Vec<u8>)>,
    body: BytesMut,
}

/// Answers each request with its own fields, its body, and how long that is in a trailer.
struct Echo {
    connection: Connection,
    asked: HashMap<StreamKey, Asked>,
    answers: HashMap<StreamKey, (Bytes, String)>,
}

impl Echo {
    fn receive(&mut self, input: &mut &[u8]) -> bool {
        let (stream, taken, is_last) = match self.connection.next(input, Instant::now()).unwrap() {
            None => return false,
            Some(Event::Request { stream, head, is_last }) => {
                assert_eq!((head.method(), head.authority()), (&b"POST"[..], Some(&b"host:1"[..])));
                let path = [("x-path".to_owned(), head.path().to_vec())];
                let fields =
                    head.fields().map(|(name, value)| (String::from_utf8(name.to_vec()).unwrap(), value.to_vec()));
                self.asked
                    .insert(stream, Asked { fields: path.into_iter().chain(fields).collect(), body: BytesMut::new() });
                (stream, 0, is_last)
            }
            Some(Event::Data { stream, data, is_last }) => {
                self.asked.get_mut(&stream).unwrap().body.extend_from_slice(data);
                (stream, data.len(), is_last)
            }
            Some(Event::Reset { stream, .. }) => {
                self.asked.remove(&stream);
                self.answers.remove(&stream);
                (stream, 0, false)
            }
        };
        self.connection.release(stream, taken);
        if is_last {
            let Asked { fields, body } = self.asked.remove(&stream).unwrap();
            self.connection.respond(stream, 200 + (body.len() % 300) as u16, fields, false);
            self.answers.insert(stream, (body.clone().freeze(), body.len().to_string()));
            self.send(stream);
        }
        true
    }

    fn send(&mut self, stream: StreamKey) {
        let Some((body, length)) = self.answers.get_mut(&stream) else { return };
        self.connection.send_data(stream, body, false);
        if body.is_empty() {
            self.connection.send_trailers(stream, [("x-length", length)]);
            self.answers.remove(&stream);
        }
    }
}

async fn serve(mut socket: DuplexStream, limits: Limits, mut rng: Rng) -> std::io::Result<()> {
    let mut echo =
        Echo { connection: Connection::new(limits, Instant::now()), asked: HashMap::new(), answers: HashMap::new() };
    loop {
        while let Some(stream) = echo.connection.next_writable() {
            echo.send(stream);
        }
        let output = echo.connection.output().len();
        if output > 0 {
            let piece = 1 + rng.below(output);
            let sent = socket.write(&echo.connection.output()[..piece]).await?;
            echo.connection.sent(sent);
            if rng.below(2) == 0 {
                continue;
            }
        }
        let mut room = vec![0; 1 + rng.below(20_000)];
        // What is not sent yet is sent before anything is waited for.
        let read = if echo.connection.output().is_empty() {
            socket.read(&mut room).await?
        } else {
            tokio::select! { biased; read = socket.read(&mut room) => read?, () = std::future::ready(()) => continue }
        };
        if read == 0 {
            return Ok(());
        }
        let mut input = &room[..read];
        while echo.receive(&mut input) {}
        assert!(input.is_empty());
    }
}

async fn call(mut sender: SendRequest<Bytes>, mut rng: Rng) {
    let path = format!("/{}", rng.below(1000));
    let mut request = Request::post(format!("https://host:1{path}"));
    let mut expected = HeaderMap::new();
    expected.insert("x-path", path.parse().unwrap());
    for _ in 0..rng.below(6) {
        let (name, value) = (format!("x-{}", rng.below(20)), rng.text(60));
        request = request.header(&name, &value);
        expected.append(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
    }
    let length_max = [1, 300, 200_000][rng.below(3)];
    let body = rng.bytes(length_max);
    let (response, mut sending) = sender.send_request(request.body(()).unwrap(), body.is_empty()).unwrap();
    if !body.is_empty() {
        // It waits for its windows by itself.
        let mut rest = body.clone();
        while !rest.is_empty() {
            let piece = rest.split_to((1 + rng.below(40_000)).min(rest.len()));
            sending.send_data(piece, rest.is_empty()).unwrap();
        }
    }
    let (head, mut coming) = response.await.unwrap().into_parts();
    assert_eq!(usize::from(head.status.as_u16()), 200 + body.len() % 300);
    assert_eq!(head.headers, expected);
    let mut came = BytesMut::new();
    while let Some(data) = coming.data().await {
        let data = data.unwrap();
        coming.flow_control().release_capacity(data.len()).unwrap();
        came.extend_from_slice(&data);
    }
    assert!(came == body);
    assert_eq!(coming.trailers().await.unwrap().unwrap()["x-length"], body.len().to_string());
}

#[tokio::test]
async fn calls_are_answered_whatever_their_fields_and_bodies() {
    for seed in 0..30 {
        let mut rng = Rng(seed);
        let (near, far) = tokio::io::duplex(1 + rng.below(50_000));
        let limits =
            Limits { stream_window: 1 + rng.below(100_000) as u32, connection_window: 70_000, ..Limits::default() };
        let serving = tokio::spawn(serve(far, limits, Rng(seed + 1000)));
        let mut builder = client::Builder::new();
        // A table that is small, absent or large, and windows of all sizes.
        builder.header_table_size([0, 100, 4096, 65_536][rng.below(4)]);
        builder.initial_window_size(1 + rng.below(100_000) as u32);
        builder.initial_connection_window_size(65_535 + rng.below(100_000) as u32);
        let (sender, connection) = builder.handshake(near).await.unwrap();
        let connection = tokio::spawn(connection);
        for round in 0..3 {
            let calls: Vec<_> = (0..1 + rng.below(20))
                .map(|n| {
                    let (sender, rng) = (sender.clone(), Rng(seed * 10_000 + round * 100 + n as u64));
                    tokio::spawn(async move { call(sender.ready().await.unwrap(), rng).await })
                })
                .collect();
            for call in calls {
                call.await.unwrap();
            }
        }
        drop(sender);
        connection.await.unwrap().unwrap();
        serving.await.unwrap().unwrap();
    }
}
