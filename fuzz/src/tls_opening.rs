//! How a connection begins where TLS is spoken, or either: what is decided by the first bytes, and the handshake behind them.
//!
//! The first byte says which of three: the decision; a handshake with somebody who has no key; a handshake of two true ends,
//! with somebody between them who changes bytes.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::runtime::Runtime;
use vlot_tls::{
    Client, ClientOptions, FirstBytes, HandshakeError, KeyPairFiles, Protocols, Server, ServerOptions, Verify, Version,
    client_of, server_of,
};

/// A server has nothing to say that is longer, to somebody who has not shown who it is.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Whoever has come in the middle changes no more bytes than these.
const CHANGES_MAX: usize = 8;
/// Turns that two ends take to come to speak, and some more.
const TURNS: usize = 24;

thread_local! {
    static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
}

/// Runs one input.
///
/// # Panics
/// If something does not hold that must.
pub fn run(bytes: &[u8]) {
    let Some((&[kind, how], sent)) = bytes.split_first_chunk() else { return };
    RUNTIME.with(|runtime| match kind % 3 {
        0 => decides(runtime, sent, 1 + usize::from(how)),
        1 => takes_nobody(runtime, sent, 1 + usize::from(how)),
        _ => is_between(runtime, sent, how),
    });
}

/// What is decided does not depend on the pieces, and all bytes are read again.
fn decides(runtime: &Runtime, sent: &[u8], at_a_time: usize) {
    let decided = |at_a_time| {
        runtime.block_on(async {
            let mut begun = FirstBytes::read(Pieces::of(sent, at_a_time)).await.ok()?;
            let mut again = Vec::new();
            begun.read_to_end(&mut again).await.expect("bytes in memory");
            assert_eq!(again, sent);
            Some((begun.is_tls(), begun.looks_like_http()))
        })
    };
    let whole = decided(usize::MAX);
    assert_eq!(whole, decided(at_a_time));
    assert_eq!(whole.is_none(), sent.is_empty());
    runtime.block_on(vlot_server::fuzzing::opening(sent, at_a_time));
}

/// A handshake ends, with the same reason however the bytes come, and is done with nobody who only sends bytes.
fn takes_nobody(runtime: &Runtime, sent: &[u8], at_a_time: usize) {
    for server in &ENDS.servers {
        let outcome = |at_a_time| {
            let stream = Pieces::of(sent, at_a_time);
            let answered = stream.answered.clone();
            let accepted = ended(runtime, server.accept(stream));
            assert!(answered.get() <= ANSWER_BYTES_MAX, "{} bytes", answered.get());
            let refused = accepted.err().expect("nobody shows a key");
            assert!(!refused.to_string().is_empty());
            refused.reason()
        };
        assert_eq!(outcome(usize::MAX), outcome(at_a_time));
    }
}

/// A handshake of two true ends comes to an end whoever is between them, and neither takes anybody but the other.
fn is_between(runtime: &Runtime, changes: &[u8], which: u8) {
    let server = &ENDS.servers[usize::from(which) % ENDS.servers.len()];
    let (near, far) = tokio::io::duplex(ANSWER_BYTES_MAX);
    let near = Changing { stream: near, changes, gone: [0; 2] };
    let mut accepting = Box::pin(server.accept(far));
    let mut accepted = None;
    {
        // Neither may have anything to wait for but the other, and if so it waits for ever.
        let _within = runtime.enter();
        let mut context = Context::from_waker(Waker::noop());
        let mut connecting = pin!(ENDS.client.connect(near, "localhost"));
        let mut connected = None;
        for _ in 0..TURNS {
            if connected.is_none()
                && let Poll::Ready(ended) = connecting.as_mut().poll(&mut context)
            {
                connected = Some(ended);
            }
            if let Poll::Ready(ended) = accepting.as_mut().poll(&mut context) {
                accepted = Some(ended);
                break;
            }
        }
        if let Some(Ok(stream)) = &connected {
            let name = server_of(stream).and_then(|certificate| certificate.common_name);
            assert_eq!(name.as_deref(), Some("anna"));
        }
        // The client goes.
    }
    let accepted = accepted.unwrap_or_else(|| ended(runtime, accepting));
    match accepted {
        Ok(stream) => {
            let name = client_of(&stream).and_then(|certificate| certificate.common_name);
            assert!(name.is_none_or(|name| &*name == "anna"));
        }
        Err(refused) => assert!(!refused.to_string().is_empty()),
    }
}

fn ended<T>(
    runtime: &Runtime,
    handshake: impl Future<Output = Result<T, HandshakeError>>,
) -> Result<T, HandshakeError> {
    let ended = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(5), handshake).await });
    ended.expect("a handshake ends when the other end has gone")
}

/// Servers that take all clients, and those of a CA, and a client of that CA.
struct Ends {
    servers: Vec<Server>,
    client: Client,
}

static ENDS: LazyLock<Ends> = LazyLock::new(|| {
    let dir = std::env::temp_dir().join(format!("vlot-fuzz-tls-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory of this process");
    let file = |name: &str, content: &[u8]| {
        let path = dir.join(name);
        std::fs::write(&path, content).expect("the disk takes it");
        path
    };
    let ca = file("ca.pem", include_bytes!("../testdata/ca.pem"));
    let cert = file("node.pem", include_bytes!("../testdata/node.pem"));
    let key = file("node_key.pem", include_bytes!("../testdata/node_key.pem"));
    let own = KeyPairFiles { cert, key };
    let clients = Some(Verify::by_ca(ca.clone()));
    let tls12 = Protocols::new::<&str>(None, Some(Version::Tls12), &[]).expect("a version that is spoken");
    let options = [
        ServerOptions::new(own.clone()),
        ServerOptions { clients: clients.clone(), ..ServerOptions::new(own.clone()) },
        ServerOptions { clients, protocols: tls12, ..ServerOptions::new(own.clone()) },
    ];
    let servers = options.map(|options| Server::load(options).expect("files of this process")).into();
    let client = ClientOptions { own: Some(own), ..ClientOptions::new(Verify::by_ca(ca)) };
    let client = Client::load(client).expect("files of this process");
    // What was read stays in use without them.
    std::fs::remove_dir_all(&dir).expect("a directory of this process");
    Ends { servers, client }
});

/// Somebody who says these bytes, some at a time, and hears what is answered.
struct Pieces<'b> {
    sent: &'b [u8],
    at_a_time: usize,
    answered: Rc<Cell<usize>>,
}

impl Pieces<'_> {
    fn of(sent: &[u8], at_a_time: usize) -> Pieces<'_> {
        Pieces { sent, at_a_time, answered: Rc::default() }
    }
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (piece, rest) = self.sent.split_at(self.at_a_time.min(into.remaining()).min(self.sent.len()));
        into.put_slice(piece);
        self.sent = rest;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.answered.set(self.answered.get() + bytes.len());
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A client's connection with somebody in the middle. Each change has four bytes: in which direction, which byte, and how it is
/// changed.
struct Changing<'b, S> {
    stream: S,
    changes: &'b [u8],
    /// How many bytes have gone in each direction.
    gone: [usize; 2],
}

impl<S> Changing<'_, S> {
    fn change(&mut self, direction: usize, bytes: &mut [u8]) {
        let from = self.gone[direction];
        for &[which, high, low, by] in self.changes.as_chunks().0.iter().take(CHANGES_MAX) {
            let place = usize::from(u16::from_be_bytes([high, low]));
            if usize::from(which % 2) == direction
                && let Some(byte) = place.checked_sub(from).and_then(|place| bytes.get_mut(place))
            {
                *byte ^= by;
            }
        }
        self.gone[direction] += bytes.len();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Changing<'_, S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, into);
        self.change(1, &mut into.filled_mut()[before..]);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Changing<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut changed = bytes.to_vec();
        let gone = self.gone[0];
        self.change(0, &mut changed);
        let polled = Pin::new(&mut self.stream).poll_write(context, &changed);
        let taken = if let Poll::Ready(Ok(taken)) = polled { taken } else { 0 };
        self.gone[0] = gone + taken;
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
