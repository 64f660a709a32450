//! How commands and the system's calls fail, in Go's words.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use super::quoted;

/// How a command has ended, as Go prints it.
pub fn exit_status(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => {
            let name = SIGNAL_NAMES.iter().find(|(number, _)| *number == signal).map_or("", |(_, name)| name);
            let name = if name.is_empty() { format!("signal {signal}") } else { name.to_owned() };
            let core = if status.core_dumped() { " (core dumped)" } else { "" };
            format!("signal: {name}{core}")
        }
        (None, None) => status.to_string(),
    }
}

const SIGNAL_NAMES: [(i32, &str); 9] = [
    (1, "hangup"),
    (2, "interrupt"),
    (3, "quit"),
    (6, "aborted"),
    (9, "killed"),
    (11, "segmentation fault"),
    (13, "broken pipe"),
    (14, "alarm clock"),
    (15, "terminated"),
];

/// Why a command cannot be started, as Go prints it.
pub fn not_started(program: &OsStr, error: &io::Error) -> String {
    let shown = program.to_string_lossy();
    if !shown.contains('/') && matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) {
        return format!("exec: {}: executable file not found in $PATH", quoted(program.as_encoded_bytes()));
    }
    format!("fork/exec {shown}: {}", cause(error))
}

/// The system's word for what went wrong, as Go prints it: in small letters, and without a number.
pub fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_as_in_go() {
        for (raw, text) in [
            (0x0700, "exit status 7"),
            (9, "signal: killed"),
            (15, "signal: terminated"),
            (0x80 | 11, "signal: segmentation fault (core dumped)"),
            (40, "signal: signal 40"),
        ] {
            assert_eq!(exit_status(ExitStatus::from_raw(raw)), text);
        }
        let not_found = io::Error::from_raw_os_error(2);
        assert_eq!(cause(&not_found), "no such file or directory");
        let flaw = "exec: \"nope\": executable file not found in $PATH";
        assert_eq!(not_started(OsStr::new("nope"), &not_found), flaw);
        assert_eq!(not_started(OsStr::new("./nope"), &not_found), "fork/exec ./nope: no such file or directory");
    }
}
