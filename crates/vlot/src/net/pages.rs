//! Plain HTTP on the peers' port: a few pages for nodes that look for the cluster before they belong to it, and for
//! callers that ask which node this is.
//!
//! Owns as much of HTTP/1.1 as one `GET` needs: no body comes in, and the connection ends with the answer. Must not know
//! what the pages say.

use std::fmt;
use std::fmt::Write;
use std::sync::Arc;

use tokio::io::AsyncReadExt;

use super::refusal::Refusal;
use super::transport::ByteStream;

/// How a request begins.
pub(crate) const GET: &[u8] = b"GET ";
/// A longer request's head is not heard to its end.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// What is answered to `GET` on the peers' port, by the path and the query that are asked for. Asked on the transport's
/// tasks: it must not wait.
#[derive(Clone)]
pub struct Pages(Arc<dyn Fn(&str) -> Page + Send + Sync>);

/// One answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Page {
    /// The number and the words of its status, as in `404 Not Found`.
    pub status: &'static str,
    /// Headers beside those that every answer has: its type, its length and the end of the connection.
    pub headers: Vec<(&'static str, String)>,
    /// The media type of the body.
    pub content_type: &'static str,
    /// What it says.
    pub body: String,
}

impl Pages {
    /// Answers by this function.
    pub fn new(answer: impl Fn(&str) -> Page + Send + Sync + 'static) -> Self {
        Self(Arc::new(answer))
    }

    pub(crate) fn page(&self, path: &str) -> Page {
        (self.0)(path)
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pages")
    }
}

impl Page {
    /// The bytes of the whole answer.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Self { status, headers, content_type, body } = self;
        let mut answer = format!("HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n");
        for (name, value) in headers {
            // Writing into a string cannot fail.
            let _ = write!(answer, "{name}: {value}\r\n");
        }
        let _ = write!(answer, "Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        answer.into_bytes()
    }
}

/// Hears the rest of a request that began with these bytes, and returns the path that it asks for.
pub(crate) async fn hear_request(stream: &mut impl ByteStream, begun: &[u8]) -> Result<String, Refusal> {
    let mut head = begun.to_vec();
    while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        if head.len() >= HEAD_BYTES_MAX {
            return Err(Refusal::NotVlot);
        }
        match stream.read_buf(&mut head).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return Err(Refusal::CutShort),
        }
    }
    path_of(&head).map(str::to_owned).ok_or(Refusal::NotVlot)
}

fn path_of(head: &[u8]) -> Option<&str> {
    let line = head.split(|&byte| byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ').skip(1);
    let (path, version) = (words.next()?, words.next()?);
    (path.starts_with('/') && version.starts_with("HTTP/1.") && words.next().is_none()).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_a_path() {
        let rows: [(&[u8], Option<&str>); 7] = [
            (b"GET /members HTTP/1.1\r\nHost: a\r\n\r\n", Some("/members")),
            (b"GET /a?b=c HTTP/1.0\r\n\r\n", Some("/a?b=c")),
            (b"GET members HTTP/1.1\r\n\r\n", None),
            (b"GET /members\r\n\r\n", None),
            (b"GET /a b HTTP/1.1\r\n\r\n", None),
            (b"GET /\xff HTTP/1.1\r\n\r\n", None),
            (b"", None),
        ];
        for (head, expected) in rows {
            assert_eq!(path_of(head), expected, "{:?}", String::from_utf8_lossy(head));
        }
    }

    #[test]
    fn an_answer_says_how_long_it_is_and_that_nothing_follows() {
        let page = Page {
            status: "200 OK",
            headers: vec![("X-Cluster", "9".to_owned())],
            content_type: "text/plain",
            body: "hello".to_owned(),
        };
        let expected = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Cluster: 9\r\nContent-Length: 5\r\n\
                        Connection: close\r\n\r\nhello";
        assert_eq!(page.encode(), expected.as_bytes());
    }
}
