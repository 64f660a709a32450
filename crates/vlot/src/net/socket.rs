//! What the transport asks of the kernel for each connection.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Sends small frames at once, and makes a silent death an error within about `silence_max`.
///
/// A killed process closes its sockets and is noticed at once. A machine that lost its power or its cable says nothing:
/// there the side that sends learns of it by bytes that stay unacknowledged (the user timeout), and the side that
/// only receives by probes (keepalive).
pub(crate) fn tune(stream: &TcpStream, silence_max: Duration) -> io::Result<()> {
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
