//! Requests that nobody would send.

/// JSON that is right, and may mean something.
pub fn some_object(below: &mut dyn FnMut(usize) -> usize, depth: usize) -> String {
    let names = [
        "key",
        "range_end",
        "value",
        "lease",
        "ID",
        "TTL",
        "name",
        "leader",
        "success",
        "compare",
        "request_put",
        "request_range",
        "request_delete_range",
        "request_txn",
        "create_request",
        "cancel_request",
        "watch_id",
        "target",
        "version",
        "revision",
        "limit",
        "sort_target",
        "keys",
        "action",
        "role",
        "user",
        "perm",
        "peerURLs",
        "prev_kv",
        "mod_revision",
    ];
    let fields: Vec<_> = (0..below(5))
        .map(|_| {
            let name = names[below(names.len())];
            let value = match below(10) {
                0 if depth < 4 => some_object(below, depth + 1),
                1 | 2 if depth < 4 => format!("[{}]", some_object(below, depth + 1)),
                3 => "true".to_owned(),
                4 => "-1".to_owned(),
                5 => "\"9223372036854775807\"".to_owned(),
                6 => "null".to_owned(),
                7 => "[\"YQ==\"]".to_owned(),
                _ => "\"YQ==\"".to_owned(),
            };
            format!("\"{name}\":{value}")
        })
        .collect();
    format!("{{{}}}", fields.join(","))
}

/// The paths of the gateway, from the RPCs of the interface.
pub fn paths() -> Vec<String> {
    let table = include_str!("../../../server/src/edge/gateway/paths.rs");
    let paths = table.lines().filter_map(|line| Some(line.trim().strip_prefix("(\"")?.split_once("\", \"/")?.0));
    paths.map(|path| format!("/v3/{path}")).collect()
}
