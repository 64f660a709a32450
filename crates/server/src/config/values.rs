//! Values as flags write them: durations in Go's notation, switches, `http://host:port` and `https://host:port`.
//!
//! Owns their syntax. Must not know which flag a value belongs to.

use std::fmt;
use std::time::Duration;

/// Reads a duration in Go's notation: numbers with units, such as `1h30m`, `1.5s` or `500ms`; a bare `0` is zero.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let number_ends = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(number_ends);
        let unit_ends = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_ends);
        seconds += number.parse::<f64>().ok()? * seconds_in(unit)?;
        rest = after;
    }
    if text.is_empty() { None } else { Duration::try_from_secs_f64(seconds).ok() }
}

fn seconds_in(unit: &str) -> Option<f64> {
    match unit {
        "h" => Some(3600.0),
        "m" => Some(60.0),
        "s" => Some(1.0),
        "ms" => Some(1e-3),
        "us" | "µs" => Some(1e-6),
        "ns" => Some(1e-9),
        _ => None,
    }
}

/// Reads a switch in any of the spellings that Go's `flag` package takes.
pub(crate) fn switch(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// An address that a node listens on or can be reached at, in flags an URL `http://host:port` or `https://host:port`.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Url {
    /// Whether TLS is spoken there.
    pub(crate) is_tls: bool,
    /// A name or an IP address; of IPv6, without the brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Url {
    /// Reads one.
    pub(crate) fn parse(text: &str) -> Result<Url, UrlError> {
        let refuse = |flaw| UrlError { url: text.to_owned(), flaw };
        let (is_tls, address) = match text.split_once("://") {
            Some(("http", address)) => (false, address),
            Some(("https", address)) => (true, address),
            Some(("unix" | "unixs", _)) => return Err(refuse(UrlFlaw::UnixSocket)),
            _ => return Err(refuse(UrlFlaw::Form)),
        };
        let address = address.strip_suffix('/').unwrap_or(address);
        if address.contains(['/', '?', '#', '@']) {
            return Err(refuse(UrlFlaw::MoreThanAddress));
        }
        let (host, port) = address.rsplit_once(':').ok_or_else(|| refuse(UrlFlaw::NoPort))?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().map_err(|_| refuse(UrlFlaw::BadPort))?;
        if host.is_empty() {
            return Err(refuse(UrlFlaw::NoHost));
        }
        Ok(Url { is_tls, host: host.to_owned(), port })
    }

    /// Reads a comma-separated list; empty text is an empty list.
    pub(crate) fn parse_list(text: &str) -> Result<Vec<Url>, UrlError> {
        let urls = text.split(',').map(str::trim).filter(|url| !url.is_empty());
        urls.map(Url::parse).collect()
    }

    /// Each of them as it is written.
    pub(crate) fn texts(urls: &[Url]) -> Vec<String> {
        urls.iter().map(Url::to_string).collect()
    }

    /// The IP address to bind, if the host is one or is `localhost`, which stands for IPv4's.
    pub(crate) fn bind_address(&self) -> Option<std::net::SocketAddr> {
        let host = if self.host == "localhost" { "127.0.0.1" } else { &self.host };
        host.parse().ok().map(|ip: std::net::IpAddr| (ip, self.port).into())
    }

    /// As the peers' transport dials it: an address without a scheme is one of connections in the clear, as those are
    /// that logs hold which are older than TLS.
    pub(crate) fn peer_address(&self) -> String {
        if self.is_tls { self.to_string() } else { self.authority() }
    }

    /// `host:port`, as it is dialled.
    pub(crate) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(out, "{scheme}://{}", self.authority())
    }
}

/// Why a text is no [`Url`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UrlError {
    pub(crate) url: String,
    pub(crate) flaw: UrlFlaw,
}

/// What is wrong with an URL. Displays as the second half of a sentence about it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum UrlFlaw {
    UnixSocket,
    Form,
    MoreThanAddress,
    NoPort,
    BadPort,
    NoHost,
}

impl fmt::Display for UrlError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.url, self.flaw)
    }
}

impl fmt::Display for UrlFlaw {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::UnixSocket => "is a unix socket, which is not supported",
            Self::Form => "is not of the form http://host:port or https://host:port",
            Self::MoreThanAddress => "has more than a host and a port",
            Self::NoPort => "has no port",
            Self::BadPort => "has no valid port",
            Self::NoHost => "has no host",
        })
    }
}

impl std::error::Error for UrlError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let millis = |text| duration(text).map(|read| read.as_millis());
        let rows = [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("500ms", Some(500)),
            ("1.5s", Some(1_500)),
            ("1h30m", Some(5_400_000)),
            ("2h", Some(7_200_000)),
            ("", None),
            ("5", None),
            ("s", None),
            ("-1s", None),
            ("5 s", None),
            ("1e300h", None),
        ];
        for (text, expected) in rows {
            assert_eq!(millis(text), expected, "{text:?}");
        }
    }

    #[test]
    fn urls_have_a_host_and_a_port_and_nothing_else() {
        let shown = |text| Url::parse(text).map(|url| url.to_string()).map_err(|error| error.flaw.to_string());
        assert_eq!(shown("http://10.0.0.1:2379"), Ok("http://10.0.0.1:2379".into()));
        assert_eq!(shown("http://[::1]:2379/"), Ok("http://[::1]:2379".into()));
        assert_eq!(shown("https://[::1]:2379/"), Ok("https://[::1]:2379".into()));
        assert_eq!(shown("unixs://a:1"), Err("is a unix socket, which is not supported".into()));
        assert_eq!(shown("http://a"), Err("has no port".into()));
        assert_eq!(shown("http://:1"), Err("has no host".into()));
        assert_eq!(shown("http://a:1/b"), Err("has more than a host and a port".into()));
        assert_eq!(shown("a:1"), Err("is not of the form http://host:port or https://host:port".into()));
        assert_eq!(Url::parse("http://localhost:9").unwrap().bind_address(), Some(([127, 0, 0, 1], 9).into()));
        assert_eq!(Url::parse("http://example.com:9").unwrap().bind_address(), None);
    }
}
