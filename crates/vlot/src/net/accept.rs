//! Incoming connections: which node calls, and whether it may.
//!
//! Owns the listener and the handshake's answering side. A connection is *unauthenticated* until its hello is accepted;
//! such connections are few and have little time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use vlot_raft::id::NodeId;

use super::disks;
use super::local::Local;
use super::mismatch::Mismatch;
use super::open::{Opened, open};
use super::options::Identity;
use super::pages::{GET, hear_request};
use super::peer::Peer;
use super::peers::peer_or_unlisted;
use super::read::read_from;
use super::refusal::Refusal;
use super::tls::{WrongIdentity, refusal_of};
use super::transport::{ByteStream, Connection, Listener};
use super::unauthenticated::{Unauthenticated, host_of};
use super::wire::{Answer, HELLO_BYTES, Hello, Introduction, MAGIC, MORE_BYTES_MAX, VERSION_MAX, VERSION_MIN};
use vlot_node::Lane;
use vlot_tls::Certificate;

/// How long to leave the listener alone when the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a caller that was refused may take to read why.
const FAREWELL: Duration = Duration::from_secs(1);

/// Accepts connections for as long as the node lives.
pub(crate) async fn accept_all<L: Listener<Stream: ByteStream>>(local: Arc<Local>, mut listener: L) {
    let mut unauthenticated = Unauthenticated::new(local.limits.strangers_max);
    loop {
        let connection = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                local.note_cannot_accept(&error);
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let remote = connection.remote.clone();
        let host = host_of(&remote);
        let is_peers = local.has_peer_at(host);
        let Some(task) = local.spawn(receive(Arc::clone(&local), connection, is_peers)) else { return };
        if let Some(evicted) = unauthenticated.take_in(host, is_peers, task) {
            evicted.abort();
            local.note_refused(None, &remote, Refusal::Crowded);
        }
    }
}

/// Opens an unauthenticated connection, hears its hello, answers it, and starts to read its frames if all is well; or shows
/// it the page it asks for.
async fn receive(local: Arc<Local>, connection: Connection<impl ByteStream>, is_peers: bool) {
    let Connection { stream, remote } = connection;
    let limits = &local.limits;
    let deadline = Instant::now() + limits.handshake_timeout;
    let mut stream = match timeout_at(deadline, open(&local, stream, is_peers)).await {
        Ok(Opened::Ready(stream)) => stream,
        Ok(Opened::Refused { stream, reason, farewell }) => {
            local.note_refused(None, &remote, reason);
            return say_and_hang_up(stream, &farewell).await;
        }
        Ok(Opened::Failed(error)) => {
            return local.note_refused_because(None, &remote, refusal_of(&error), &error);
        }
        Ok(Opened::Gone) => return local.note_refused(None, &remote, Refusal::CutShort),
        Err(_) => return local.note_refused(None, &remote, Refusal::TooSlow),
    };
    let mut hello = None;
    let heard = timeout_at(deadline, hear(&local, &mut stream, &mut hello)).await;
    let admitted = match heard.unwrap_or(Err(Refusal::TooSlow)) {
        Ok(Heard::Caller(caller)) => admit(&local, &caller, stream.certificate()),
        Ok(Heard::Request { page }) => return say_and_hang_up(stream, &page).await,
        Err(reason) => Err(reason.into()),
    };
    let Admitted { peer, lane, version, disk } = match admitted {
        Ok(admitted) => admitted,
        Err(refused) => return turn_away(&local, stream, &remote, hello, refused).await,
    };
    let answer = answer(local.identity, Ok(version));
    let answered = timeout(limits.handshake_timeout, say(&mut stream, &answer.encode())).await;
    if !matches!(answered, Ok(Ok(()))) {
        return;
    }
    peer.calls_from(host_of(&remote));
    let shortcut = stream.shortcut();
    let by = shortcut.clone();
    peer.inbound_up((lane, version), disk, shortcut, |number| {
        let reader = read_from(Arc::clone(&local), Arc::clone(&peer), (lane, version), number, (stream, by), remote);
        local.spawn(reader)
    });
    // Once more: the disks may have been set before the peer's connection could be found.
    peer.hang_up_unless(|disk| local.disks.admit(peer.id, disk));
}

/// What an unauthenticated connection wants.
#[derive(Debug)]
enum Heard {
    /// To be a peer.
    Caller(Caller),
    /// To read a page, whose bytes these are.
    Request { page: Vec<u8> },
}

/// The caller, and the version of the protocol that both sides speak.
#[derive(Debug)]
struct Caller {
    hello: Hello,
    version: u16,
    introduction: Introduction,
}

/// Hears a hello that is meant for this node, and the introduction after it. What the caller claims to be becomes known as
/// soon as it has said so, whatever comes after.
async fn hear(local: &Local, stream: &mut impl ByteStream, said: &mut Option<Hello>) -> Result<Heard, Refusal> {
    // The magic first: what speaks another protocol is told so, and not waited for.
    let mut magic = [0; MAGIC.len()];
    stream.read_exact(&mut magic).await.map_err(|_| Refusal::CutShort)?;
    if let Some(pages) = local.pages.as_ref().filter(|_| magic.starts_with(GET)) {
        let path = hear_request(stream, &magic).await?;
        return Ok(Heard::Request { page: pages.page(&path).encode() });
    }
    let hello = hear_hello(magic, stream).await?;
    *said = Some(hello);
    // Before the rest is looked at, which may mean something else in another version.
    let version = common_version(&hello)?;
    check_address(local.identity, &hello)?;
    let mut more = [0; MORE_BYTES_MAX];
    let more = more.get_mut(..usize::from(hello.more)).ok_or(Refusal::Garbled)?;
    stream.read_exact(more).await.map_err(|_| Refusal::CutShort)?;
    Ok(Heard::Caller(Caller { hello, version, introduction: Introduction::decode(more)? }))
}

async fn hear_hello(magic: [u8; MAGIC.len()], stream: &mut impl ByteStream) -> Result<Hello, Refusal> {
    if magic != MAGIC {
        return Err(Refusal::NotVlot);
    }
    let mut hello = [0; HELLO_BYTES];
    let (begun, rest) = hello.split_at_mut(MAGIC.len());
    begun.copy_from_slice(&magic);
    stream.read_exact(rest).await.map_err(|_| Refusal::CutShort)?;
    Hello::decode(&hello)
}

/// A caller that is let in.
struct Admitted {
    peer: Arc<Peer>,
    lane: Lane,
    version: u16,
    disk: u64,
}

/// Why a caller is not let in: the reason, and more to say of it where there is more.
struct Refused {
    reason: Refusal,
    why: Option<WrongIdentity>,
}

impl From<Refusal> for Refused {
    fn from(reason: Refusal) -> Self {
        Self { reason, why: None }
    }
}

fn admit(local: &Arc<Local>, caller: &Caller, certificate: Option<Certificate>) -> Result<Admitted, Refused> {
    let Caller { hello, version, introduction: Introduction { disk, disk_expected, address } } = caller;
    let lane = Lane::from_number(hello.lane).ok_or(Refusal::UnknownLane)?;
    if let (Some(security), Some(certificate)) = (&local.security, certificate) {
        let listed = local.peer(hello.from).filter(|peer| !peer.is_unlisted()).map(|peer| peer.address());
        let listed = listed.filter(|listed| !listed.is_empty());
        let checked = security.check_caller(&certificate, hello.from, listed.as_ref().unwrap_or(address));
        checked.map_err(|why| Refused { reason: Refusal::WrongName, why: Some(why) })?;
    }
    check_disks(local, hello.from, *disk, *disk_expected)?;
    let peer = peer_or_unlisted(local, hello.from, address)?;
    tracing::debug!(peer = peer.id.0, ?lane, disk, listens = address, "a peer calls");
    Ok(Admitted { peer, lane, version: *version, disk: *disk })
}

/// Whether the caller has the disk that is entitled to its seat, and this node the one that the caller knows it by.
fn check_disks(local: &Local, from: NodeId, disk: u64, expected: u64) -> Result<(), Refusal> {
    let own = local.identity;
    let (node, disk) = if !local.disks.admit(from, disk) {
        (from, disk)
    } else if !disks::same(expected, own.disk) {
        (own.node, own.disk)
    } else {
        return Ok(());
    };
    local.report_other_disk(from, node, disk);
    Err(Refusal::OtherDisk)
}

/// The newest version both speak.
fn common_version(hello: &Hello) -> Result<u16, Refusal> {
    let newest = hello.version_max.min(VERSION_MAX);
    let oldest = hello.version_min.max(VERSION_MIN);
    if oldest <= newest { Ok(newest) } else { Err(Refusal::NoCommonVersion) }
}

/// Whether the hello is another node's, and meant for this node of this cluster.
fn check_address(own: Identity, hello: &Hello) -> Result<(), Refusal> {
    if hello.cluster != own.cluster {
        return Err(Refusal::WrongCluster);
    }
    if hello.to != own.node {
        return Err(Refusal::WrongNode);
    }
    if hello.from == own.node {
        return Err(Refusal::UnknownNode);
    }
    Ok(())
}

/// Tells a caller why it is not let in, and hangs up.
async fn turn_away(
    local: &Local,
    stream: impl ByteStream,
    remote: &str,
    hello: Option<Hello>,
    Refused { reason, why }: Refused,
) {
    let claims_to_be = hello.map(|hello| hello.from);
    match why {
        Some(why) => local.note_refused_because(claims_to_be, remote, reason, &why),
        None => {
            let why = Mismatch::of_caller(reason, local.identity, hello.as_ref());
            local.note_refused_because(claims_to_be, remote, reason, &why);
        }
    }
    say_and_hang_up(stream, &answer(local.identity, Err(reason)).encode()).await;
}

async fn say_and_hang_up(mut stream: impl ByteStream, answer: &[u8]) {
    // Whether it listens is its own affair.
    let _ = timeout(FAREWELL, bid_farewell(&mut stream, answer)).await;
}

async fn bid_farewell(stream: &mut impl ByteStream, answer: &[u8]) -> io::Result<()> {
    const DISCARD_BYTES_MAX: usize = 64 << 10;
    stream.write_all(answer).await?;
    stream.shutdown().await?;
    // Closing a socket that holds unread bytes resets the connection, and the answer might be lost with it.
    let mut discarded = 0;
    let mut scrap = [0; 1024];
    while discarded < DISCARD_BYTES_MAX {
        match stream.read(&mut scrap).await? {
            0 => break,
            read => discarded += read,
        }
    }
    Ok(())
}

async fn say(stream: &mut impl ByteStream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

fn answer(own: Identity, verdict: Result<u16, Refusal>) -> Answer {
    Answer { verdict, cluster: own.cluster, node: own.node, disk: own.disk }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Identity = Identity { cluster: 9, node: NodeId(1), disk: 0 };
    const HELLO: Hello =
        Hello { version_min: 3, version_max: 3, lane: 0, more: 0, cluster: 9, from: NodeId(2), to: NodeId(1) };

    #[test]
    fn a_hello_is_checked_for_cluster_and_node() {
        let rows = [
            (HELLO, Ok(())),
            (Hello { cluster: 8, ..HELLO }, Err(Refusal::WrongCluster)),
            (Hello { to: NodeId(3), ..HELLO }, Err(Refusal::WrongNode)),
            (Hello { from: NodeId(1), ..HELLO }, Err(Refusal::UnknownNode)),
            (Hello { cluster: 8, to: NodeId(3), ..HELLO }, Err(Refusal::WrongCluster)),
        ];
        for (hello, expected) in rows {
            assert_eq!(check_address(OWN, &hello), expected, "{hello:?}");
        }
    }

    #[test]
    fn the_newest_common_version_is_spoken() {
        let rows = [
            ((3, 3), Ok(3)),
            ((3, 9), Ok(5)),
            ((3, 4), Ok(4)),
            ((0, 3), Ok(3)),
            ((5, 9), Ok(5)),
            ((6, 9), Err(Refusal::NoCommonVersion)),
            ((2, 2), Err(Refusal::NoCommonVersion)),
            ((9, 1), Err(Refusal::NoCommonVersion)),
        ];
        for ((version_min, version_max), expected) in rows {
            assert_eq!(common_version(&Hello { version_min, version_max, ..HELLO }), expected);
        }
    }
}
