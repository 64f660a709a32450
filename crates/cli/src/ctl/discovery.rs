//! Endpoints by the name of a domain: its SRV records say where servers listen.
//!
//! Owns which names are asked for and whom to ask. What a question and an answer look like is in `discovery/dns.rs`.

mod dns;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::report;
use dns::{Answer, BadAnswer, Service};

const RESOLVERS: &str = "/etc/resolv.conf";
const PORT: u16 = 53;
/// How long a resolver may take, and how often each is asked.
const PATIENCE: Duration = Duration::from_secs(5);
const ATTEMPTS: usize = 2;
/// What fits a datagram here; longer answers come over TCP.
const DATAGRAM_BYTES: usize = 4096;

/// Why a domain's endpoints are not known.
#[derive(Debug)]
pub struct DiscoveryError {
    secure: LookupError,
    plain: LookupError,
}

impl fmt::Display for DiscoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dns lookup errors: {} and {}", self.secure, self.plain)
    }
}

impl std::error::Error for DiscoveryError {}

/// Why one name has no records.
#[derive(Debug)]
struct LookupError {
    name: String,
    resolver: SocketAddr,
    flaw: Flaw,
}

#[derive(Debug)]
enum Flaw {
    /// The name cannot be asked for.
    NoName,
    Unreachable(io::Error),
    TimedOut,
    Answer(BadAnswer),
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lookup {} on {}: ", self.name, self.resolver)?;
        match &self.flaw {
            Flaw::NoName => f.write_str("no such host"),
            Flaw::Unreachable(error) => error.fmt(f),
            Flaw::TimedOut => f.write_str("i/o timeout"),
            Flaw::Answer(bad) => bad.fmt(f),
        }
    }
}

/// The endpoints of a domain, those with TLS first; `service` names one of several clusters.
///
/// # Errors
/// If neither kind of record is there.
pub async fn endpoints(domain: &str, service: &str) -> Result<Vec<String>, DiscoveryError> {
    let resolvers = resolvers(&std::fs::read_to_string(RESOLVERS).unwrap_or_default());
    let suffix = if service.is_empty() { String::new() } else { format!("-{service}") };
    let secure = lookup(&resolvers, &format!("_etcd-client-ssl{suffix}._tcp.{domain}")).await;
    let plain = lookup(&resolvers, &format!("_etcd-client{suffix}._tcp.{domain}")).await;
    let (secure, plain) = match (secure, plain) {
        (Err(secure), Err(plain)) => return Err(DiscoveryError { secure, plain }),
        (secure, plain) => (secure.unwrap_or_default(), plain.unwrap_or_default()),
    };
    let secure = secure.iter().map(|found| format!("https://{}:{}", found.target, found.port));
    Ok(secure.chain(plain.iter().map(|found| format!("http://{}:{}", found.target, found.port))).collect())
}

/// Whether an endpoint of a domain is spoken to by TLS. One that is not is said to be left out.
pub fn is_secure(endpoint: &str) -> bool {
    let is_secure = !endpoint.starts_with("http://");
    if !is_secure {
        report(&format!("ignoring discovered insecure endpoint {endpoint:?}"));
    }
    is_secure
}

/// Whom the system asks.
fn resolvers(configuration: &str) -> Vec<SocketAddr> {
    let named = configuration.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        Some(SocketAddr::new(address.parse().ok()?, PORT))
    });
    let named: Vec<_> = named.collect();
    if named.is_empty() { vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT)] } else { named }
}

/// The records of a name: the most important first, and among equals in an order of chance that heeds their weights.
async fn lookup(resolvers: &[SocketAddr], name: &str) -> Result<Vec<Service>, LookupError> {
    let chance = RandomState::new();
    let mut last = None;
    for (attempt, resolver) in (0..ATTEMPTS).flat_map(|_| resolvers).enumerate() {
        let id = chance.hash_one(attempt) as u16;
        let flaw = match timeout(PATIENCE, ask(*resolver, id, name)).await {
            Ok(Ok(mut found)) => {
                found.sort_by_cached_key(|found| (found.priority, place(found, chance.hash_one(&found.target))));
                return Ok(found);
            }
            Ok(Err(flaw)) => flaw,
            Err(_) => Flaw::TimedOut,
        };
        let is_final = matches!(flaw, Flaw::NoName | Flaw::Answer(BadAnswer::NoSuchHost));
        last = Some(LookupError { name: name.to_owned(), resolver: *resolver, flaw });
        if is_final {
            break;
        }
    }
    Err(last.expect("there is a resolver, and it was asked"))
}

/// Where a record comes among its equals: a draw that is the smaller on average, the greater the weight is.
fn place(found: &Service, chance: u64) -> u64 {
    // The weight only matters as a proportion. A record without one comes last but for great luck.
    (chance >> 16) / u64::from(found.weight).max(1)
}

async fn ask(resolver: SocketAddr, id: u16, name: &str) -> Result<Vec<Service>, Flaw> {
    let question = dns::question(id, name).ok_or(Flaw::NoName)?;
    let received = ask_by_datagram(resolver, &question).await.map_err(Flaw::Unreachable)?;
    let answer = match dns::answer(&received, id).map_err(Flaw::Answer)? {
        Answer::Truncated => {
            let received = ask_by_stream(resolver, &question).await.map_err(Flaw::Unreachable)?;
            dns::answer(&received, id).map_err(Flaw::Answer)?
        }
        whole => whole,
    };
    match answer {
        Answer::Services(found) => Ok(found),
        Answer::Truncated => Err(Flaw::Answer(BadAnswer::Malformed)),
    }
}

async fn ask_by_datagram(resolver: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let own = if resolver.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(own).await?;
    socket.connect(resolver).await?;
    socket.send(question).await?;
    let mut received = vec![0; DATAGRAM_BYTES];
    let bytes = socket.recv(&mut received).await?;
    received.truncate(bytes);
    Ok(received)
}

async fn ask_by_stream(resolver: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut socket = TcpStream::connect(resolver).await?;
    // A name of a domain is short, and the question not much longer.
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    socket.write_all(&[&length.to_be_bytes()[..], question].concat()).await?;
    let mut received = vec![0; socket.read_u16().await?.into()];
    socket.read_exact(&mut received).await?;
    Ok(received)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dns::tests::{Record, reply};

    #[test]
    fn resolvers_are_read_from_the_systems_file() {
        let read = resolvers("# comment\nsearch a b\nnameserver 10.0.0.1\nnameserver ::1 trailing\nnameserver\n");
        assert_eq!(read, ["10.0.0.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()]);
        assert_eq!(resolvers(""), ["127.0.0.1:53".parse().unwrap()]);
    }

    #[tokio::test]
    async fn records_come_by_datagram_and_by_stream_if_they_are_many() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let resolver = listener.local_addr().unwrap();
        let socket = UdpSocket::bind(resolver).await.unwrap();
        let records = [Record::srv(10, 0, 2379, "n2.x."), Record::srv(1, 5, 2379, "n1.x.")];
        let first = records.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            // The first question is answered in place, the second is sent to the other door.
            for truncated in [false, true] {
                let (bytes, from) = socket.recv_from(&mut buffer).await.unwrap();
                let records = if truncated { &[][..] } else { &first };
                socket.send_to(&reply(&buffer[..bytes], 0, truncated, records), from).await.unwrap();
            }
        });
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut question = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut question).await.unwrap();
            let reply = reply(&question, 0, false, &records);
            stream.write_u16(reply.len() as u16).await.unwrap();
            stream.write_all(&reply).await.unwrap();
        });
        for _ in 0..2 {
            let found = lookup(&[resolver], "_etcd-client._tcp.x").await.unwrap();
            let targets: Vec<_> = found.iter().map(|found| (&found.target[..], found.port)).collect();
            assert_eq!(targets, [("n1.x.", 2379), ("n2.x.", 2379)]);
        }
    }

    #[tokio::test]
    async fn a_name_that_is_not_there_is_told_with_who_said_so() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let resolver = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (bytes, from) = socket.recv_from(&mut buffer).await.unwrap();
            socket.send_to(&reply(&buffer[..bytes], 3, false, &[]), from).await.unwrap();
        });
        let error = lookup(&[resolver], "_etcd-client._tcp.x").await.unwrap_err();
        assert_eq!(error.to_string(), format!("lookup _etcd-client._tcp.x on {resolver}: no such host"));
    }
}
