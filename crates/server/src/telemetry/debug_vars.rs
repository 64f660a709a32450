//! What a process tells of itself in the form of Go's `expvar`: its arguments, its limit of files, where it stands in its
//! group.
//!
//! Owns the names and the form, which are etcd's. What only a Go program has, such as the statistics of its heap, is not there.

use serde_json::{Value, json};
use vlot::RoleName;

use crate::service::Services;

/// All of it: a JSON object, one variable a line.
pub(crate) fn debug_vars(services: &Services) -> String {
    let arguments: Vec<_> = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let variables = [
        ("cmdline", json!(arguments)),
        ("file_descriptor_limit", json!(open_files_max(&limits))),
        ("raft.status", raft_status(services)),
    ];
    let lines: Vec<_> = variables.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
    format!("{{\n{}\n}}\n", lines.join(",\n"))
}

/// The limit of open files among the limits as Linux lists them; 0 if it is not there.
fn open_files_max(limits: &str) -> u64 {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

fn raft_status(services: &Services) -> Value {
    let status = services.store_group.raft_status();
    json!({
        "id": format!("{:x}", services.membership.identity().member),
        "term": status.term,
        "commit": status.commit,
        "lead": format!("{:x}", status.leader),
        "raftState": role_name(status.role),
        "applied": status.applied,
    })
}

fn role_name(role: RoleName) -> &'static str {
    match role {
        RoleName::Follower => "StateFollower",
        RoleName::PreCandidate => "StatePreCandidate",
        RoleName::Candidate => "StateCandidate",
        RoleName::Leader => "StateLeader",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_files_is_the_soft_one() {
        let limits = "Max processes             96365                96365                processes \n\
                      Max open files            20000                1048576              files     \n";
        assert_eq!(open_files_max(limits), 20_000);
        assert_eq!(open_files_max("Max open files unlimited unlimited files"), 0);
        assert_eq!(open_files_max(""), 0);
    }
}
