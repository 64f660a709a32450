//! Flags of a command that stand before it, as in `etcdctl --interactive=false user add root`: etcdctl takes them, and scripts
//! rely on it.
//!
//! Must not know what any flag means.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::Command;

use super::flags;

/// The arguments with such flags moved behind the last word that names a command; all others stay where they are.
pub fn flags_behind_command(arguments: Vec<OsString>, root: &Command) -> Vec<OsString> {
    let mut command = root;
    let mut moved = Vec::new();
    let mut front = Vec::new();
    let mut rest = arguments.into_iter().peekable();
    // The program's own name.
    front.extend(rest.next());
    while let Some(argument) = rest.peek() {
        if !argument.as_bytes().starts_with(b"-") {
            let Some(found) = named(command, argument) else { break };
            command = found;
            front.extend(rest.next());
            continue;
        }
        let Some((is_global, has_value_behind)) = flag(argument) else { break };
        let into = if is_global { &mut front } else { &mut moved };
        into.extend(rest.next());
        if has_value_behind {
            into.extend(rest.next());
        }
    }
    front.into_iter().chain(moved).chain(rest).collect()
}

/// Whether an argument is a flag of all commands, and whether its value is the next argument. `None` if it ends the flags.
fn flag(argument: &OsStr) -> Option<(bool, bool)> {
    let text = argument.to_string_lossy();
    if text == "--" {
        return None;
    }
    let name = text.trim_start_matches('-');
    match (name.split_once('='), flags::takes_value(name)) {
        (Some((name, _)), _) => Some((flags::takes_value(name).is_some(), false)),
        (None, Some(takes_value)) => Some((true, takes_value)),
        // Help is for what stands before it, and the value of a flag that is not known here may be the next argument or
        // not: the parser says what is wrong.
        (None, None) => None,
    }
}

/// The subcommand of this name, or of which this is the beginning and of no other.
fn named<'c>(command: &'c Command, word: &OsStr) -> Option<&'c Command> {
    let word = word.to_str().filter(|word| !word.is_empty())?;
    if let Some(exact) = command.find_subcommand(word) {
        return Some(exact);
    }
    let mut beginning = command.get_subcommands().filter(|subcommand| subcommand.get_name().starts_with(word));
    beginning.next().filter(|_| beginning.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_a_command_may_stand_before_it() {
        let root = Command::new("etcdctl").subcommands(crate::ctl::commands("etcdctl"));
        for (written, read) in [
            ("etcdctl get a --prefix", "etcdctl get a --prefix"),
            ("etcdctl --interactive=false user add root", "etcdctl user add --interactive=false root"),
            ("etcdctl user --interactive=false add root", "etcdctl user add --interactive=false root"),
            (
                "etcdctl --endpoints a:1 --prefix=true -w json get a",
                "etcdctl --endpoints a:1 -w json get --prefix=true a",
            ),
            ("etcdctl --limit=1 mem list x", "etcdctl mem list --limit=1 x"),
            ("etcdctl --hex --rev=2 get get get", "etcdctl --hex get --rev=2 get get"),
            ("etcdctl --prefix get a", "etcdctl --prefix get a"),
            ("etcdctl --help get", "etcdctl --help get"),
            ("etcdctl --keys-only=true -- get a", "etcdctl --keys-only=true -- get a"),
            ("etcdctl nonsense --x=1", "etcdctl nonsense --x=1"),
            ("etcdctl", "etcdctl"),
        ] {
            let words = written.split(' ').map(OsString::from).collect();
            let moved: Vec<_> = flags_behind_command(words, &root);
            assert_eq!(moved.join(OsStr::new(" ")), read);
        }
    }
}
