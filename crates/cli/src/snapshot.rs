//! `vlot snapshot status|restore`: look at a snapshot that a client has saved, and make a new cluster of it.
//!
//! Owns flags, output and exit codes, as etcdutl has them. Needs no server, and must not know what is in the file.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use vlot_server::config::Config;
use vlot_server::{BackupStatus, ETCD_VERSION, RestoreOptions, Restored, backup_status, restore};

use crate::ctl::draw_table;

const RESTORE: &str = "\
Make the data directory of one member of a new cluster, with all keys, their history and their leases as they are in FILENAME. \
The members and the alarms of the old cluster do not come along.

Run it for each member, with the same file and the same --initial-cluster; then start each with 'vlot server' and these flags. \
Clients that knew the old cluster in a later state than the snapshot's should be told: --bump-revision with --mark-compacted \
makes their watches and caches begin anew.";

/// The flags that mean the same to a server that is started with the data directory.
const SERVER_FLAGS: [(&str, &str); 5] = [
    ("name", "Human-readable name for this member"),
    ("data-dir", "Path to the output data directory"),
    ("initial-cluster", "Initial cluster configuration for restore bootstrap"),
    ("initial-cluster-token", "Initial cluster token for the cluster during restore bootstrap"),
    ("initial-advertise-peer-urls", "List of this member's peer URLs to advertise to the rest of the cluster"),
];

/// Whether the program's arguments ask for one of these commands. The other one of `vlot snapshot` asks a server.
pub(crate) fn is_asked_for(mut arguments: impl Iterator<Item = String>) -> bool {
    let words = (arguments.nth(1), arguments.next());
    matches!((words.0.as_deref(), words.1.as_deref()), (Some("snapshot"), Some("status" | "restore")))
}

/// Runs the command.
pub(crate) fn run() -> ExitCode {
    let matches = match command().try_get_matches_from(std::env::args().skip(1)) {
        Ok(matches) => matches,
        Err(error) => return crate::ctl::refuse(&error),
    };
    let done = match matches.subcommand() {
        Some(("status", matches)) => status(matches),
        Some(("restore", matches)) => restore_from(matches),
        _ => Err((128, "snapshot requires a subcommand".to_owned())),
    };
    match done {
        // A closed pipe is no mistake of ours, but its reader needs no more.
        Ok(text) => match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err((code, message)) => {
            eprintln!("Error: {message}");
            ExitCode::from(code)
        }
    }
}

fn command() -> Command {
    Command::new("snapshot")
        .about("Looks at snapshots, and restores them")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(subcommands())
}

fn subcommands() -> [Command; 2] {
    let file = || Arg::new("file").value_name("FILENAME").required(true).value_parser(value_parser!(PathBuf));
    let status = Command::new("status").about("Gets the status of a given snapshot file").arg(file()).arg(
        Arg::new("write-out")
            .short('w')
            .long("write-out")
            .default_value("simple")
            .value_parser(["simple", "table", "json", "fields"])
            .help("The output format"),
    );
    let flags = SERVER_FLAGS.map(|(name, help)| Arg::new(name).long(name).help(help));
    let restore = Command::new("restore")
        .about("Restores a snapshot to a data directory")
        .long_about(RESTORE)
        .arg(file())
        .args(flags)
        .arg(switch("skip-hash-check", "Ignore the checksum at the end of the file"))
        .arg(
            Arg::new("bump-revision")
                .long("bump-revision")
                .value_name("N")
                .value_parser(value_parser!(u64))
                .help("How much to increase the latest revision after restore"),
        )
        .arg(switch(
            "mark-compacted",
            "Mark the latest revision after restore as compacted; goes with --bump-revision",
        ));
    [status, restore]
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    // As with Go's flags a value may follow an equals sign.
    Arg::new(name)
        .long(name)
        .num_args(0..=1)
        .require_equals(true)
        .default_value("false")
        .default_missing_value("true")
        .value_parser(value_parser!(bool))
        .action(ArgAction::Set)
        .help(help)
}

/// What is printed, or the exit code and why.
type Done = Result<String, (u8, String)>;

fn file_of(matches: &ArgMatches) -> &Path {
    matches.get_one::<PathBuf>("file").expect("the file is required")
}

fn status(matches: &ArgMatches) -> Done {
    let BackupStatus { hash, revision, total_keys, total_bytes } =
        backup_status(file_of(matches)).map_err(|error| (1, error.to_string()))?;
    let format = matches.get_one::<String>("write-out").map_or("simple", String::as_str);
    Ok(match format {
        "json" => format!(
            "{{\"hash\":{hash},\"revision\":{revision},\"totalKey\":{total_keys},\"totalSize\":{total_bytes},\
             \"version\":\"{ETCD_VERSION}\"}}\n"
        ),
        "fields" => format!(
            "\"Hash\" : {hash}\n\"Revision\" : {revision}\n\"Keys\" : {total_keys}\n\"Size\" : {total_bytes}\n\
             \"Version\" : \"{ETCD_VERSION}\"\n"
        ),
        other => {
            let row = [
                format!("{hash:x}"),
                revision.to_string(),
                total_keys.to_string(),
                size(total_bytes),
                ETCD_VERSION.to_owned(),
            ];
            if other == "table" {
                let header = ["hash", "revision", "total keys", "total size", "version"];
                draw_table(&header, &[row.to_vec()])
            } else {
                format!("{}\n", row.join(", "))
            }
        }
    })
}

/// Bytes as etcd's tools write them: two digits, or what stands before the point.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let value = (value * 10.0 + 0.5).floor() / 10.0;
    if value < 10.0 { format!("{value:.1} {}", UNITS[unit]) } else { format!("{value:.0} {}", UNITS[unit]) }
}

fn restore_from(matches: &ArgMatches) -> Done {
    let is_on = |name: &str| matches.get_one::<bool>(name).copied().unwrap_or_default();
    let bump_revision = matches.get_one::<u64>("bump-revision").copied().filter(|by| *by > 0);
    if bump_revision.is_some() != is_on("mark-compacted") {
        return Err((128, "--mark-compacted required if --revision-bump > 0".to_owned()));
    }
    let given = SERVER_FLAGS.iter().filter_map(|(name, _)| {
        let value = matches.get_one::<String>(name)?;
        Some(format!("--{name}={value}"))
    });
    let config = Config::read(given, []).map_err(|error| (1, error.to_string()))?;
    let options = RestoreOptions { skip_hash_check: is_on("skip-hash-check"), bump_revision };
    let restored = restore(&config, file_of(matches), options).map_err(|error| (1, error.to_string()))?;
    let Restored { data_dir, member, cluster, revision } = restored;
    Ok(format!(
        "restored revision {revision} to {} as member {member:x} of the new cluster {cluster:x}\n",
        data_dir.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_by_etcds_tools() {
        let rows =
            [(7, "7 B"), (20, "20 B"), (999, "999 B"), (1536, "1.5 kB"), (20_480, "20 kB"), (12_345_678, "12 MB")];
        for (bytes, expected) in rows {
            assert_eq!(size(bytes), expected);
        }
    }

    #[test]
    fn only_what_needs_no_server_is_run_here() {
        let asked = |line: &str| is_asked_for(line.split(' ').map(str::to_owned));
        assert!(asked("vlot snapshot status f") && asked("vlot snapshot restore f"));
        assert!(!asked("vlot snapshot save f") && !asked("vlot get status") && !asked("vlot"));
        command().debug_assert();
    }
}
