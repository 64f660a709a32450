//! What etcd's client takes for a peer URL, and how it says that something is none.

use std::fmt;

/// Why a text is no peer URL.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PeerUrlError {
    /// Go cannot read it as an URL.
    Parse {
        url: String,
        flaw: ParseFlaw,
    },
    NoPort {
        url: String,
    },
    HasPath {
        url: String,
    },
    Scheme {
        url: String,
    },
}

/// What Go finds wrong with an URL.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ParseFlaw {
    NoScheme,
    ColonInPath,
    BadInHost(char),
    /// The port, with its colon.
    BadPort(String),
}

impl fmt::Display for PeerUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parse { url, flaw } => write!(f, "parse {url:?}: {flaw}"),
            Self::NoPort { url } => write!(f, "URL address does not have the form \"host:port\": {url}"),
            Self::HasPath { url } => write!(f, "URL must not contain a path: {url}"),
            Self::Scheme { url } => write!(f, "URL scheme must be http, https, unix, or unixs: {url}"),
        }
    }
}

impl fmt::Display for ParseFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoScheme => f.write_str("missing protocol scheme"),
            Self::ColonInPath => f.write_str("first path segment in URL cannot contain colon"),
            Self::BadInHost(bad) => write!(f, "invalid character \"{bad}\" in host name"),
            Self::BadPort(port) => write!(f, "invalid port {port:?} after host"),
        }
    }
}

impl std::error::Error for PeerUrlError {}

/// Refuses what is no peer URL.
///
/// # Errors
/// In the words of etcd's client, or of Go's URLs.
pub fn check(url: &str) -> Result<(), PeerUrlError> {
    let owned = || url.to_owned();
    let parse_error = |flaw| PeerUrlError::Parse { url: owned(), flaw };
    let (scheme, rest) = split_scheme(url).map_err(parse_error)?;
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        None => ("", rest),
    };
    if let Some(bad) = authority.chars().find(|letter| *letter == ' ') {
        return Err(parse_error(ParseFlaw::BadInHost(bad)));
    }
    // The last colon, unless it belongs to an IPv6 address.
    let colon = authority.rfind(':').filter(|colon| !authority[*colon..].contains(']'));
    if let Some(port) = colon.map(|colon| &authority[colon..])
        && !port[1..].bytes().all(|byte| byte.is_ascii_digit())
    {
        return Err(parse_error(ParseFlaw::BadPort(port.to_owned())));
    }
    match scheme.to_ascii_lowercase().as_str() {
        "unix" | "unixs" => Ok(()),
        "http" | "https" if colon.is_none() => Err(PeerUrlError::NoPort { url: owned() }),
        "http" | "https" if !path.is_empty() => Err(PeerUrlError::HasPath { url: owned() }),
        "http" | "https" => Ok(()),
        _ => Err(PeerUrlError::Scheme { url: owned() }),
    }
}

/// The scheme, which may be missing, and what follows its colon.
fn split_scheme(url: &str) -> Result<(&str, &str), ParseFlaw> {
    for (at, letter) in url.char_indices() {
        match letter {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return Err(ParseFlaw::NoScheme),
            ':' => return Ok((&url[..at], &url[at + 1..])),
            _ => break,
        }
    }
    let first = url.split('/').next().unwrap_or_default();
    if first.contains(':') { Err(ParseFlaw::ColonInPath) } else { Ok(("", url)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_and_refused_as_by_etcds_client() {
        let rows = [
            ("http://127.0.0.1:2380", Ok(())),
            ("https://[::1]:2380", Ok(())),
            ("unix://anything", Ok(())),
            ("foo", Err("URL scheme must be http, https, unix, or unixs: foo")),
            ("", Err("URL scheme must be http, https, unix, or unixs: ")),
            ("a:1", Err("URL scheme must be http, https, unix, or unixs: a:1")),
            (":1", Err("parse \":1\": missing protocol scheme")),
            ("1.2.3.4:1", Err("parse \"1.2.3.4:1\": first path segment in URL cannot contain colon")),
            ("http://127.0.0.1", Err("URL address does not have the form \"host:port\": http://127.0.0.1")),
            ("http://[::1]", Err("URL address does not have the form \"host:port\": http://[::1]")),
            ("http://a:1/path", Err("URL must not contain a path: http://a:1/path")),
            ("http://a:b", Err("parse \"http://a:b\": invalid port \":b\" after host")),
            ("http://a b:1", Err("parse \"http://a b:1\": invalid character \" \" in host name")),
        ];
        for (url, expected) in rows {
            assert_eq!(check(url).map_err(|error| error.to_string()), expected.map_err(str::to_owned), "{url}");
        }
    }
}
