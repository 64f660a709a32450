//! How a caller's connection begins: by TLS or in the clear, as this node takes it, before anything is said on it.
//!
//! Owns that decision. Nothing of what a caller sends is looked at before its certificate is verified, but for the first
//! byte, which tells TLS from the rest.

use vlot_tls::{FirstBytes, HandshakeError, PLAIN_HTTP_ANSWER};

use super::local::Local;
use super::refusal::Refusal;
use super::secured::{Inbound, Secured};
use super::transport::ByteStream;
use super::wire::Answer;
use vlot_raft::id::NodeId;

/// What has become of a caller's connection.
pub(crate) enum Opened<S> {
    /// It is as it should be.
    Ready(Inbound<S>),
    /// It is TLS and should not be, or the other way round.
    Refused { stream: Inbound<S>, reason: Refusal, farewell: Vec<u8> },
    /// The two have not come to speak TLS. What there was to say was said.
    Failed(HandshakeError),
    /// It has ended before a byte came.
    Gone,
}

/// Opens a connection. Those from hosts where no peer is known to be take turns.
pub(crate) async fn open<S: ByteStream>(local: &Local, stream: S, is_peers: bool) -> Opened<S> {
    let Ok(begun) = FirstBytes::read(stream).await else { return Opened::Gone };
    let is_tls = begun.is_tls();
    match &local.security {
        Some(security) if !security.takes(is_tls) => refuse(begun),
        None if is_tls => refuse(begun),
        Some(security) if is_tls => {
            if !is_peers {
                local.pace.turn().await;
            }
            match security.server.accept_begun(begun).await {
                Ok(stream) => Opened::Ready(Secured::Tls(Box::new(stream))),
                Err(error) => Opened::Failed(error),
            }
        }
        _ => Opened::Ready(Secured::Plain(begun)),
    }
}

fn refuse<S: ByteStream>(begun: FirstBytes<S>) -> Opened<S> {
    let reason = if begun.is_tls() { Refusal::TlsUnexpected } else { Refusal::NoTls };
    let farewell = if begun.looks_like_http() {
        PLAIN_HTTP_ANSWER.as_bytes().to_vec()
    } else {
        // Which node this is is not told in the clear.
        Answer { verdict: Err(reason), cluster: 0, node: NodeId(0), disk: 0 }.encode()
    };
    Opened::Refused { stream: Secured::Plain(begun), reason, farewell }
}
