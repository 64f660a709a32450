//! What is compared of a reply: the status, the headers that clients go by, and the JSON without what is one cluster's own.

use super::support::http::Reply;

/// Headers that clients go by.
const HEADERS: [&str; 8] = [
    "content-type",
    "grpc-metadata-content-type",
    "access-control-allow-origin",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "x-content-type-options",
    "allow",
    "retry-after",
];
/// Fields whose values are one cluster's own.
const OWN: [&str; 8] = ["cluster_id", "member_id", "raft_term", "ID", "leader", "lease", "peerURLs", "clientURLs"];

/// What is compared of a reply.
pub fn judged(reply: &Reply) -> (u16, Vec<String>, String) {
    let headers = HEADERS.iter().filter_map(|name| Some(format!("{name}: {}", reply.header(name)?)));
    let body: Vec<_> = reply.text().split('\n').map(judged_line).collect();
    (reply.status, headers.collect(), body.join("\n"))
}

fn judged_line(line: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
    let failure = value.get("error").filter(|error| error.is_object()).unwrap_or(&value);
    if let (Some(code), Some(message)) = (failure.get("code"), failure.get("message")) {
        if *code == 4 {
            // Whether etcd's gateway or the server behind it has noticed first decides the words.
            return "deadline exceeded".to_owned();
        }
        // A space that does not break stands there in some builds, by chance.
        return format!("{code} {}", message.to_string().replace('\u{a0}', " "));
    }
    if !line.starts_with('{') {
        return line.to_owned();
    }
    let mut judged = without_space(line);
    for field in OWN {
        let start = format!("\"{field}\":");
        let mut parts = judged.split(&start);
        let before = parts.next().unwrap_or_default().to_owned();
        // An object of this name is compared by what is in it.
        let rest =
            parts.map(|part| if part.starts_with('{') { part } else { &part[part.find([',', '}']).unwrap_or(0)..] });
        judged = rest.fold(before, |judged, rest| judged + &start + rest);
    }
    judged
}

/// JSON without the space between its tokens.
fn without_space(json: &str) -> String {
    let (mut is_text, mut is_escaped) = (false, false);
    let keep = |char: &char| {
        let keeps = is_text || *char != ' ';
        is_text ^= *char == '"' && !is_escaped;
        is_escaped = *char == '\\' && !is_escaped;
        keeps
    };
    json.chars().filter(keep).collect()
}
