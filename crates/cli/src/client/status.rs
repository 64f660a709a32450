//! How a gRPC call ends: a code and a text, as the server's trailers carry them.
//!
//! Must not know of connections, retries or etcd.

use std::fmt;

use http::HeaderMap;

use vlot_server::CODE_NAMES;

/// The outcome of a call that the server refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Status {
    /// gRPC status code; never 0.
    pub code: u32,
    /// The server's text, percent-decoded.
    pub message: String,
}

impl Status {
    /// The code of a call whose time ran out.
    pub const DEADLINE_EXCEEDED: u32 = 4;
    /// The code of a server that cannot serve at the moment; another may.
    pub const UNAVAILABLE: u32 = 14;

    /// Reads the status from trailers, or from the headers of an answer that has nothing else. `None` if it has none.
    pub fn read(headers: &HeaderMap) -> Option<Result<(), Status>> {
        let code = headers.get("grpc-status")?.as_bytes();
        if code == b"0" {
            return Some(Ok(()));
        }
        let code = std::str::from_utf8(code).ok().and_then(|text| text.parse().ok()).unwrap_or(2);
        let message = headers.get("grpc-message").map(|text| percent_decoded(text.as_bytes())).unwrap_or_default();
        Some(Err(Status { code, message }))
    }

    /// The code's name as gRPC writes it.
    pub fn code_name(&self) -> &'static str {
        CODE_NAMES.get(self.code as usize).unwrap_or(&"Unknown")
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rpc error: code = {} desc = {}", self.code_name(), self.message)
    }
}

/// Undoes the percent-encoding of `grpc-message`. What is not valid encoding stays as it is, as gRPC demands.
fn percent_decoded(encoded: &[u8]) -> String {
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some((&first, tail)) = rest.split_first() {
        let byte = match tail {
            [high, low, ..] if first == b'%' => {
                hex_digit(*high).zip(hex_digit(*low)).map(|(high, low)| high << 4 | low)
            }
            _ => None,
        };
        decoded.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_is_undone_and_broken_encoding_is_kept() {
        for (encoded, decoded) in [
            ("etcdserver: key is not provided", "etcdserver: key is not provided"),
            ("a%20b%25c", "a b%c"),
            ("%e2%82%AC", "€"),
            ("50%", "50%"),
            ("%zz%4", "%zz%4"),
            ("", ""),
        ] {
            assert_eq!(percent_decoded(encoded.as_bytes()), decoded);
        }
    }

    #[test]
    fn a_status_is_read_from_trailers() {
        let mut headers = HeaderMap::new();
        assert_eq!(Status::read(&headers), None);
        headers.insert("grpc-status", "0".parse().unwrap());
        assert_eq!(Status::read(&headers), Some(Ok(())));
        headers.insert("grpc-status", "11".parse().unwrap());
        headers.insert("grpc-message", "too%20late".parse().unwrap());
        let status = Status { code: 11, message: "too late".to_owned() };
        assert_eq!(status.to_string(), "rpc error: code = OutOfRange desc = too late");
        assert_eq!(Status::read(&headers), Some(Err(status)));
    }
}
