//! The peers' port: a running transport, in memory, to which somebody connects and says whatever there is to say.
//!
//! The first byte says how to begin: with as much of a good hello as it counts, and in how large portions to go on.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use vlot::net::memory::Hub;
use vlot::net::{Event, Identity, Inbox, Listen, Net, Options, Page, Pages, Transport};
use vlot_raft::id::NodeId;

/// A hello of node 2 of cluster 9 to node 1, on the control lane, with its introduction.
const HELLO: &[u8; 63] = b"vlotpeer\0\x03\0\x04\0\0\0\x17\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x01\
                           \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05two:1";

/// Connects and says the bytes.
///
/// # Panics
/// If something does not hold that must: the node goes on, and what it delivers are frames of what was said.
pub fn run(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let hub = Hub::default();
        let (net, mut inbox) = start(&hub, 1);
        let (first, rest) = bytes.split_first().unwrap_or((&0, b""));
        let begun = usize::from(*first).min(HELLO.len());
        let portion = 1 + usize::from(*first % 7) * 40;
        let said = converse(&hub, &[&HELLO[..begun], rest].concat(), portion).await;
        assert!(said.is_empty() || said.starts_with(b"vlotpeer") || said.starts_with(b"HTTP/1.1 200 OK"), "{said:?}");
        let mut frame_bytes = 0;
        while let Some(event) = inbox.try_next() {
            let Event::Frames { frames, .. } = event else { panic!("{event:?}") };
            frame_bytes += frames.iter().map(|frame| frame.len()).sum::<usize>();
        }
        assert!(frame_bytes <= rest.len(), "{frame_bytes} of {}", rest.len());
        // Whoever comes next is served.
        let page = converse(&hub, b"GET /here HTTP/1.1\r\n\r\n", 100).await;
        assert!(page.starts_with(b"HTTP/1.1 200 OK"), "{page:?}");
        net.shutdown().await;
    });
}

fn start(hub: &Hub, node: u64) -> (Net, Inbox) {
    let identity = Identity { cluster: 9, node: NodeId(node), disk: 0 };
    let answer =
        |path: &str| Page { status: "200 OK", headers: Vec::new(), content_type: "text/plain", body: path.to_owned() };
    let options = Options::new(identity, Listen::through(hub.at("one:1")), BTreeMap::new());
    Net::start(Options { pages: Some(Pages::new(answer)), ..options }).expect("a free address")
}

/// Says these bytes in portions, and returns what is answered until the connection ends.
async fn converse(hub: &Hub, bytes: &[u8], portion: usize) -> Vec<u8> {
    let mut stream = hub.at("somebody:1").dial("one:1").await.expect("a listener").stream;
    for bytes in bytes.chunks(portion) {
        // It may have heard enough.
        if stream.write_all(bytes).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "a connection that has ended is let go");
    answer
}
