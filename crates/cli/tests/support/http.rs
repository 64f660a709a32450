//! One plain HTTP/1.1 request to a node, without a client library.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// The whole reply, head and body; `None` if the node does not answer.
pub fn fetch(port: u16, path: &str) -> Option<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    let reply = exchange(port, request.as_bytes(), Duration::from_secs(2))?;
    Some(String::from_utf8_lossy(&reply).into_owned())
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
