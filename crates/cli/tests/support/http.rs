//! Plain HTTP/1.1 requests to a node, without a client library.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The whole reply, head and body; `None` if the node does not answer.
pub fn fetch(port: u16, path: &str) -> Option<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    let reply = exchange(port, request.as_bytes(), Duration::from_secs(2))?;
    Some(String::from_utf8_lossy(&reply).into_owned())
}

/// The same from another address of this machine. Returns what came, if anything.
pub fn fetch_from(address: Ipv4Addr, port: u16, path: &str) -> Option<String> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).ok()?;
    socket.bind(&SocketAddr::from((address, 0)).into()).ok()?;
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).ok()?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    Some(reply)
}

/// Sends bytes on a connection of their own, and returns what comes back until it ends or nothing has come for a
/// while. `None` if there is no connection.
pub fn exchange(port: u16, request: &[u8], patience: Duration) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), patience).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    stream.set_write_timeout(Some(patience)).ok()?;
    // A peer that hangs up early is no failure: what it said before is the answer.
    let _ = stream.write_all(request);
    let (mut reply, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        reply.extend_from_slice(&buffer[..read]);
    }
    Some(reply)
}

/// A request in full, with the length of its body.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n", body.len());
    headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
    [request.as_bytes(), b"\r\n", body].concat()
}

/// One reply, or as much of it as has come.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Reply {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Without the marks of its chunks.
    pub body: Vec<u8>,
    /// Whether all of it is there.
    pub is_complete: bool,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection that stays open between requests.
pub struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    pub fn open(port: u16) -> Connection {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the node listens");
        stream.set_nodelay(true).unwrap();
        Connection { stream, received: Vec::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        // A server that has answered already may hang up; what it said is what counts.
        let _ = self.stream.write_all(bytes);
    }

    /// The next reply; if it does not end, what has come of it within this time.
    pub fn reply(&mut self, head_only: bool, within: Duration) -> Reply {
        self.reply_until(head_only, within, |_| false)
    }

    /// The same, but no longer than until it is enough.
    pub fn reply_until(&mut self, head_only: bool, within: Duration, enough: impl Fn(&Reply) -> bool) -> Reply {
        let deadline = Instant::now() + within;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let (reply, used) = parse(&self.received, head_only);
            if reply.is_complete {
                self.received.drain(..used);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if reply.is_complete || enough(&reply) || left.is_zero() {
                return reply;
            }
            self.stream.set_read_timeout(Some(left)).unwrap();
            match self.stream.read(&mut buffer) {
                Ok(read @ 1..) => self.received.extend_from_slice(&buffer[..read]),
                _ => return reply,
            }
        }
    }
}

/// What the bytes have of a reply, and how many of them are it.
fn parse(bytes: &[u8], head_only: bool) -> (Reply, usize) {
    let Some(head_ends) = bytes.windows(4).position(|end| end == b"\r\n\r\n") else { return (Reply::default(), 0) };
    let head = String::from_utf8_lossy(&bytes[..head_ends]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or_default();
    let pair = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    let mut reply = Reply { status, headers: lines.filter_map(pair).collect(), ..Reply::default() };
    let mut used = head_ends + 4;
    if head_only {
        reply.is_complete = true;
    } else if let Some(length) = reply.header("content-length").and_then(|length| length.parse::<usize>().ok()) {
        let there = length.min(bytes.len() - used);
        reply.body = bytes[used..used + there].to_vec();
        reply.is_complete = there == length;
        used += there;
    } else {
        while let Some(line) = bytes[used..].windows(2).position(|end| end == b"\r\n") {
            let length = std::str::from_utf8(&bytes[used..used + line]).unwrap_or_default();
            let length = usize::from_str_radix(length, 16).expect("a chunk has a length");
            let start = used + line + 2;
            if bytes.len() < start + length + 2 {
                break;
            }
            reply.body.extend_from_slice(&bytes[start..start + length]);
            used = start + length + 2;
            if length == 0 {
                reply.is_complete = true;
                break;
            }
        }
    }
    (reply, used)
}
