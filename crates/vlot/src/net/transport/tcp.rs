//! The transport over TCP.
//!
//! Owns sockets and what is asked of the kernel for each of them.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};

use super::{BindError, Connection, Listener, Transport};

/// Connections over TCP. Addresses are `host:port`, resolved at each dial.
#[derive(Debug)]
pub struct Tcp {
    /// `None` once it listens.
    listen: Option<Bind>,
    silence_max: Duration,
}

#[derive(Debug)]
enum Bind {
    At(String),
    On(std::net::TcpListener),
}

impl Tcp {
    /// Binds this `host:port`. A connection over which no sign of life comes for `silence_max` breaks.
    #[must_use]
    pub fn at(address: String, silence_max: Duration) -> Self {
        Self { listen: Some(Bind::At(address)), silence_max }
    }

    /// Uses a listener that is bound already.
    #[must_use]
    pub fn on(listener: std::net::TcpListener, silence_max: Duration) -> Self {
        Self { listen: Some(Bind::On(listener)), silence_max }
    }
}

impl Transport for Tcp {
    type Stream = TcpStream;
    type Listener = Listening;

    fn listen(&mut self) -> Result<Listening, BindError> {
        let listen = self.listen.take();
        let address = match &listen {
            Some(Bind::At(address)) => address.clone(),
            Some(Bind::On(listener)) => format!("{listener:?}"),
            None => String::new(),
        };
        let bound = || {
            let listener = match listen {
                Some(Bind::At(address)) => std::net::TcpListener::bind(address)?,
                Some(Bind::On(listener)) => listener,
                None => return Err(io::Error::other("it listens already")),
            };
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok(Listening { listener: TcpListener::from_std(listener)?, address, silence_max: self.silence_max })
        };
        bound().map_err(|error| BindError { address, error })
    }

    async fn dial(&self, address: &str) -> io::Result<Connection<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        tune(&stream, self.silence_max)?;
        let remote = stream.peer_addr()?.to_string();
        Ok(Connection { stream, remote })
    }
}

/// A bound socket.
#[derive(Debug)]
pub struct Listening {
    listener: TcpListener,
    address: SocketAddr,
    silence_max: Duration,
}

impl Listener for Listening {
    type Stream = TcpStream;

    fn address(&self) -> String {
        self.address.to_string()
    }

    async fn accept(&mut self) -> io::Result<Connection<TcpStream>> {
        loop {
            let (stream, remote) = self.listener.accept().await?;
            // A socket that cannot be tuned is dead already.
            if tune(&stream, self.silence_max).is_ok() {
                return Ok(Connection { stream, remote: remote.to_string() });
            }
        }
    }
}

/// Sends small frames at once, and makes a silent death an error within about `silence_max`.
///
/// A killed process closes its sockets and is noticed at once. A machine that lost its power or its cable says nothing:
/// there the side that sends learns of it by bytes that stay unacknowledged (the user timeout), and the side that
/// only receives by probes (keepalive).
fn tune(stream: &TcpStream, silence_max: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let silence_max = silence_max.max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new().with_time(silence_max);
    #[cfg(target_os = "linux")]
    let keepalive = keepalive.with_interval(Duration::from_secs(1));
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(silence_max))?;
    Ok(())
}
