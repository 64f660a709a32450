//! The test for every transport, on those that ship and on one that a program might bring along.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use vlot::net::memory::Hub;
use vlot::net::tcp::Tcp;
use vlot::net::transport::{Connection, Listener, conformance};
use vlot::net::{BindError, Transport};

#[tokio::test]
async fn tcp_conforms() {
    conformance::check(|| [(); 2].map(|()| Tcp::at("127.0.0.1:0".to_owned(), Duration::from_secs(5)))).await;
}

#[tokio::test]
async fn memory_conforms() {
    conformance::check(|| {
        let hub = Hub::default();
        ["a:1", "b:1"].map(|address| hub.at(address))
    })
    .await;
}

/// Between processes of one machine.
struct UnixSockets {
    path: PathBuf,
}

struct UnixSocket {
    path: PathBuf,
    listener: UnixListener,
}

impl Transport for UnixSockets {
    type Stream = UnixStream;
    type Listener = UnixSocket;

    fn listen(&mut self) -> Result<UnixSocket, BindError> {
        let path = self.path.clone();
        match UnixListener::bind(&path) {
            Ok(listener) => Ok(UnixSocket { path, listener }),
            Err(error) => Err(BindError { address: path.display().to_string(), error }),
        }
    }

    async fn dial(&self, address: &str) -> io::Result<Connection<UnixStream>> {
        Ok(Connection { stream: UnixStream::connect(address).await?, remote: address.to_owned() })
    }
}

impl Listener for UnixSocket {
    type Stream = UnixStream;

    fn address(&self) -> String {
        self.path.display().to_string()
    }

    async fn accept(&mut self) -> io::Result<Connection<UnixStream>> {
        let (stream, _) = self.listener.accept().await?;
        Ok(Connection { stream, remote: "this machine".to_owned() })
    }
}

#[tokio::test]
async fn a_transport_of_a_programs_own_conforms() {
    let dir = std::env::temp_dir().join(format!("vlot-unix-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let names = AtomicU64::new(0);
    conformance::check(|| [(); 2].map(|()| UnixSockets { path: dir.join(names.fetch_add(1, Relaxed).to_string()) }))
        .await;
    std::fs::remove_dir_all(&dir).unwrap();
}
