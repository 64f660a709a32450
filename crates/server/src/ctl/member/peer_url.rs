//! What etcd's client takes for a peer URL, and how it says that something is none.

/// Refuses what is no peer URL.
///
/// # Errors
/// In the words of etcd's client, or of Go's URLs.
pub fn check(url: &str) -> Result<(), String> {
    let parse_error = |what: String| Err(format!("parse {url:?}: {what}"));
    let (scheme, rest) = match split_scheme(url) {
        Ok(split) => split,
        Err(what) => return parse_error(what.to_owned()),
    };
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        None => ("", rest),
    };
    if let Some(bad) = authority.chars().find(|letter| *letter == ' ') {
        return parse_error(format!("invalid character \"{bad}\" in host name"));
    }
    // The last colon, unless it belongs to an IPv6 address.
    let colon = authority.rfind(':').filter(|colon| !authority[*colon..].contains(']'));
    if let Some(port) = colon.map(|colon| &authority[colon..])
        && !port[1..].bytes().all(|byte| byte.is_ascii_digit())
    {
        return parse_error(format!("invalid port {port:?} after host"));
    }
    match scheme.to_ascii_lowercase().as_str() {
        "unix" | "unixs" => Ok(()),
        "http" | "https" if colon.is_none() => Err(format!("URL address does not have the form \"host:port\": {url}")),
        "http" | "https" if !path.is_empty() => Err(format!("URL must not contain a path: {url}")),
        "http" | "https" => Ok(()),
        _ => Err(format!("URL scheme must be http, https, unix, or unixs: {url}")),
    }
}

/// The scheme, which may be missing, and what follows its colon.
fn split_scheme(url: &str) -> Result<(&str, &str), &'static str> {
    for (at, letter) in url.char_indices() {
        match letter {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return Err("missing protocol scheme"),
            ':' => return Ok((&url[..at], &url[at + 1..])),
            _ => break,
        }
    }
    let first = url.split('/').next().unwrap_or_default();
    if first.contains(':') { Err("first path segment in URL cannot contain colon") } else { Ok(("", url)) }
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
            assert_eq!(check(url), expected.map_err(str::to_owned), "{url}");
        }
    }
}
