//! One question to another member: `GET` on its peer URL, and what it answers.
//!
//! Owns the bounds of time and length. Must not know what is asked, or why.

use std::fmt;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use vlot_tls::{Client, HandshakeError};

use crate::config::Url;

/// A longer answer is not read to its end.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// What a member answers.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    /// The number that a header holds in hexadecimal.
    pub(crate) fn id(&self, header: &str) -> Option<u64> {
        let value = self.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(header)).map(|(_, value)| value)?;
        u64::from_str_radix(value, 16).ok()
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Answer> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        let header = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
        let headers: Vec<_> = lines.filter_map(header).collect();
        let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let whole = length.is_none_or(|(_, length)| length.parse() == Ok(body.len()));
        whole.then(|| Answer { status, headers, body: body.to_owned() })
    }
}

/// Why there is no answer. Displays as the end of a sentence.
#[derive(Debug)]
pub enum AskError {
    TimedOut,
    Io(std::io::Error),
    Handshake(HandshakeError),
    /// The member listens with TLS, and this node has none for its peers.
    NoTls,
    /// The answer is not one that a member gives.
    NotAMember,
}

impl fmt::Display for AskError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => out.write_str("no answer in time"),
            Self::Io(error) => error.fmt(out),
            Self::Handshake(error) => error.fmt(out),
            Self::NoTls => out.write_str("it listens with TLS; give this node --peer-cert-file and the like"),
            Self::NotAMember => out.write_str("what answers is no member"),
        }
    }
}

impl std::error::Error for AskError {}

/// Who asks: a node, as its peers know it.
#[derive(Clone, Debug, Default)]
pub(crate) struct PageClient {
    /// How it speaks TLS, if it does.
    tls: Option<Client>,
}

impl PageClient {
    /// One that speaks TLS to those that listen so.
    pub(crate) fn with_tls(tls: Client) -> PageClient {
        PageClient { tls: Some(tls) }
    }

    /// Asks the member that listens at an URL for a path.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) async fn ask(&self, url: &Url, path: &str, within: Duration) -> Result<Answer, AskError> {
        let exchange = async {
            let stream = TcpStream::connect(url.authority()).await.map_err(AskError::Io)?;
            if !url.is_tls {
                return exchange(stream, url, path).await;
            }
            let tls = self.tls.as_ref().ok_or(AskError::NoTls)?;
            let stream = tls.connect(stream, &url.host).await.map_err(AskError::Handshake)?;
            exchange(stream, url, path).await
        };
        let bytes = timeout(within, exchange).await.map_err(|_| AskError::TimedOut)??;
        Answer::read(&bytes).ok_or(AskError::NotAMember)
    }
}

/// Sends the question, and reads all that comes.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, url: &Url, path: &str) -> Result<Vec<u8>, AskError> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", url.authority());
    let mut bytes = Vec::new();
    let exchanged = async {
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).await
    };
    match exchanged.await {
        Ok(_) => Ok(bytes),
        // A member that ends TLS without a word. Whether the answer is whole is told by its length.
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(bytes),
        Err(error) => Err(HandshakeError::within(&error).map_or(AskError::Io(error), AskError::Handshake)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_or_none() {
        let good = b"HTTP/1.1 200 OK\r\nX-Etcd-Cluster-Id: ff\r\ncontent-length: 2\r\n\r\n[]";
        let answer = Answer::read(good).unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, "[]"));
        assert_eq!(answer.id("X-Etcd-Cluster-ID"), Some(0xff));
        assert_eq!(answer.id("other"), None);
        for cut in 0..good.len() {
            assert_eq!(Answer::read(&good[..cut]), None, "{cut}");
        }
        assert_eq!(Answer::read(b"vlotpeer and so on"), None);
    }
}
