//! `vlot watch`: print what happens to keys, as it happens, and run a command for each event if there is one.

use std::ffi::{OsStr, OsString};
use std::io::BufRead;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;

use bytes::Bytes;
use clap::error::{ContextKind, ErrorKind};
use clap::{Arg, ArgMatches, Command, value_parser};
use tokio::sync::mpsc;
use vlot_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};

use super::get::range_of;
use super::watcher::{Watcher, cancel_reason, is_progress};
use crate::client::{Client, Failure};
use crate::ctl::flags::{Settings, exit_of, is_set, number, number_of, switch, words, words_of};
use crate::ctl::notation::process::{exit_status, not_started};
use crate::ctl::notation::{self, quoted};
use crate::ctl::print::Printer;
use crate::ctl::{Exit, report, show};

/// Progress requests that may wait for one watch's stream.
const PROGRESS_REQUESTS_MAX: usize = 16;

/// The command and its flags.
pub fn command() -> Command {
    Command::new("watch")
        .about("Watches events stream on keys or prefixes")
        .arg(words("[KEY [RANGE_END]] [-- COMMAND [ARG]...]"))
        .arg(Arg::new("exec").num_args(0..).last(true).hide(true).value_parser(value_parser!(OsString)))
        .args([
            switch("interactive", "Interactive mode").short('i'),
            switch("prefix", "Watch on a prefix if prefix is set"),
            number("rev", "Revision to start watching"),
            switch("prev-kv", "Get the previous key-value pair before the event happens"),
            switch("progress-notify", "Get periodic watch progress notification from server"),
        ])
}

/// Watches until the server cancels, or, when interactive, until standard input ends.
pub async fn run(settings: &Settings, matches: &ArgMatches) -> Result<(), Exit> {
    let environment = Environment::read()?;
    if is_set(matches, "interactive") {
        return interact(settings, &environment).await;
    }
    let order = Order::read(matches, &environment, std::env::args_os().last().is_some_and(|last| last == "--"))?;
    let (_requests, progress) = mpsc::channel(1);
    watch(settings.client(), settings.printer, order, progress).await?;
    Err(Exit::new(Exit::INTERRUPTED, "watch is canceled by the server"))
}

/// Keys to watch may come from variables instead of words.
struct Environment {
    key: Option<Bytes>,
    end: Option<Bytes>,
}

impl Environment {
    fn read() -> Result<Environment, Exit> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let bytes = |value: OsString| Bytes::copy_from_slice(value.as_bytes());
        let key = variable("ETCDCTL_WATCH_KEY").map(bytes);
        let end = variable("ETCDCTL_WATCH_RANGE_END").map(bytes);
        if let (None, Some(end)) = (&key, &end) {
            let flaw = format!("ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END={}", quoted(end));
            return Err(Exit::bad_args(flaw));
        }
        Ok(Environment { key, end })
    }
}

/// What to watch, and what to run for each event.
#[derive(Clone, Debug, PartialEq)]
struct Order {
    create: WatchCreateRequest,
    exec: Vec<OsString>,
}

/// Why there is nothing to watch. As in etcdctl, the first ends an interactive session and the second does not.
#[derive(Debug, PartialEq)]
enum BadOrder {
    Words(String),
    Keys(String),
}

impl From<BadOrder> for Exit {
    fn from(bad: BadOrder) -> Exit {
        let (BadOrder::Words(flaw) | BadOrder::Keys(flaw)) = bad;
        Exit::bad_args(flaw)
    }
}

impl Order {
    fn read(matches: &ArgMatches, environment: &Environment, ends_in_separator: bool) -> Result<Order, BadOrder> {
        let bad = |flaw: &str| Err(BadOrder::Words(flaw.to_owned()));
        let exec: Vec<OsString> = matches.get_many("exec").unwrap_or_default().cloned().collect();
        if exec.is_empty() && ends_in_separator {
            return bad("bad number of arguments (found separator --, but no commands)");
        }
        let mut words = words_of(matches);
        if let Some(key) = &environment.key {
            if !words.is_empty() {
                return bad("bad number of arguments (found conflicting environment key)");
            }
            words = [Some(key), environment.end.as_ref()].into_iter().flatten().cloned().collect();
        }
        let (key, end) = match words.as_slice() {
            [] if exec.is_empty() => return bad("bad number of arguments"),
            [] => return Err(BadOrder::Keys("bad number of arguments".to_owned())),
            [key, end] => (key, Some(end)),
            // As in etcdctl, the end counts only if nothing follows it.
            [key, ..] => (key, None),
        };
        let prefix = is_set(matches, "prefix");
        if end.is_some() && prefix {
            return Err(BadOrder::Keys("`range_end` and `--prefix` are mutually exclusive".to_owned()));
        }
        let range = range_of(key, end, prefix, false).map_err(|exit| BadOrder::Keys(exit.message))?;
        let create = WatchCreateRequest {
            key: range.key,
            range_end: range.end,
            start_revision: number_of(matches, "rev"),
            progress_notify: is_set(matches, "progress-notify"),
            prev_kv: is_set(matches, "prev-kv"),
            ..WatchCreateRequest::default()
        };
        Ok(Order { create, exec })
    }
}

/// Reads `watch …` and `progress` from standard input until it ends.
async fn interact(settings: &Settings, environment: &Environment) -> Result<(), Exit> {
    let mut lines = lines_of_stdin();
    let mut watches: Vec<mpsc::Sender<()>> = Vec::new();
    while let Some(line) = lines.recv().await {
        let words = notation::words(&line).unwrap_or_default();
        match words.split_first() {
            None => report(&format!("Invalid command: {line} (watch and progress supported)")),
            Some((name, [])) if name == b"watch" && environment.key.is_none() => {
                report(&format!("Invalid command {line} (command type or key is not provided)"));
            }
            Some((name, arguments)) if name == b"watch" => {
                let order = match order_of_line(arguments, environment) {
                    Ok(order) => order,
                    Err(BadOrder::Keys(flaw)) => {
                        report(&format!("Invalid command {line} ({flaw})"));
                        continue;
                    }
                    Err(bad) => return Err(bad.into()),
                };
                let (requests, progress) = mpsc::channel(PROGRESS_REQUESTS_MAX);
                watches.push(requests);
                let watching = watch(settings.client(), settings.printer, order, progress);
                tokio::task::spawn_local(async {
                    if let Err(exit) = watching.await {
                        report(&format!("Error: {}", exit.message));
                        std::process::exit(exit.code.into());
                    }
                });
            }
            Some((name, _)) if name == b"progress" => {
                // A watch that cannot keep up with such requests loses some; one that has ended is forgotten.
                watches.retain(|requests| !matches!(requests.try_send(()), Err(mpsc::error::TrySendError::Closed(()))));
            }
            Some(_) => report(&format!("Invalid command {line} (only support watch)")),
        }
    }
    Err(Exit::invalid_input("error reading watch request line: EOF"))
}

fn order_of_line(arguments: &[Vec<u8>], environment: &Environment) -> Result<Order, BadOrder> {
    let ends_in_separator = arguments.last().is_some_and(|last| last == b"--");
    let arguments = arguments.iter().map(|word| OsStr::from_bytes(word));
    let matches = command().no_binary_name(true).try_get_matches_from(arguments);
    let matches = matches.map_err(|error| BadOrder::Words(flaw_of(&error)))?;
    Order::read(&matches, environment, ends_in_separator)
}

fn flaw_of(error: &clap::Error) -> String {
    match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(flag)) => format!("unknown flag: {flag}"),
        _ => error.to_string(),
    }
}

/// Standard input can only be read by blocking, so a thread of its own does it.
fn lines_of_stdin() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut line = String::new();
        let mut stdin = std::io::stdin().lock();
        while stdin.read_line(&mut line).is_ok() && line.ends_with('\n') {
            if sender.blocking_send(line.trim_end_matches('\n').to_owned()).is_err() {
                return;
            }
            line.clear();
        }
    });
    lines
}

/// Follows one watch until the server cancels it.
async fn watch(client: Client, printer: Printer, order: Order, mut progress: mpsc::Receiver<()>) -> Result<(), Exit> {
    let mut watcher = Watcher::new(client, order.create);
    loop {
        let outcome = tokio::select! {
            outcome = watcher.next() => outcome,
            Some(()) = progress.recv() => {
                watcher.request_progress().await;
                continue;
            }
        };
        let reply = match outcome {
            Ok(reply) => reply,
            Err(Failure::LoginRefused(status)) => return Err(exit_of(&Failure::LoginRefused(status))),
            Err(failure) => {
                report(&format!("watch was canceled ({failure})"));
                return Ok(());
            }
        };
        let revision = reply.header.map_or(0, |header| header.revision);
        if reply.canceled {
            report(&format!("watch was canceled ({})", cancel_reason(&reply)));
        } else if is_progress(&reply) {
            show(format!("progress notify: {revision}\n").as_bytes())?;
        }
        show(&printer.watch(&reply)?)?;
        run_for_each_event(&reply, revision, &order.exec)?;
        if reply.canceled {
            return Ok(());
        }
    }
}

/// Runs the command to its end for one event after the other.
fn run_for_each_event(reply: &WatchResponse, revision: i64, exec: &[OsString]) -> Result<(), Exit> {
    let Some((program, arguments)) = exec.split_first() else { return Ok(()) };
    for event in &reply.events {
        let kv = event.kv.clone().unwrap_or_default();
        let status = std::process::Command::new(program)
            .args(arguments)
            .env("ETCD_WATCH_REVISION", revision.to_string())
            .env("ETCD_WATCH_EVENT_TYPE", format!("{:?}", event.r#type().as_str_name()))
            .env("ETCD_WATCH_KEY", quoted(&kv.key))
            .env("ETCD_WATCH_VALUE", quoted(&kv.value))
            // Standard input may carry further watches.
            .stdin(Stdio::null())
            .status();
        let flaw = match status {
            Ok(status) if status.success() => continue,
            Ok(status) => exit_status(status),
            Err(error) => not_started(program, &error),
        };
        report(&format!("command {exec:?} error ({flaw})"));
        return Err(Exit::new(Exit::ERROR, ""));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(line: &str, key: Option<&'static str>) -> Result<Order, BadOrder> {
        let environment = Environment { key: key.map(Bytes::from), end: None };
        order_of_line(&notation::words(line).unwrap(), &environment)
    }

    #[test]
    fn words_name_keys_and_what_follows_a_separator_is_run() {
        let read = order("a b --rev 7 --prev-kv -- sh -c 'echo x'", None).unwrap();
        assert_eq!((&read.create.key[..], &read.create.range_end[..]), (&b"a"[..], &b"b"[..]));
        assert_eq!((read.create.start_revision, read.create.prev_kv), (7, true));
        assert_eq!(read.exec, ["sh", "-c", "echo x"]);
        assert_eq!(&order("a --prefix", None).unwrap().create.range_end[..], b"b");
        assert_eq!(&order("-- true", Some("k")).unwrap().create.key[..], b"k");
    }

    #[test]
    fn flaws_are_named_as_in_etcdctl() {
        for (line, key, flaw) in [
            ("--rev 1", None, "bad number of arguments"),
            ("a --", None, "bad number of arguments (found separator --, but no commands)"),
            ("a", Some("k"), "bad number of arguments (found conflicting environment key)"),
            ("a --bogus", None, "unknown flag: --bogus"),
        ] {
            assert_eq!(order(line, key), Err(BadOrder::Words(flaw.to_owned())));
        }
        for (line, flaw) in [
            ("-- echo", "bad number of arguments"),
            ("a b --prefix", "`range_end` and `--prefix` are mutually exclusive"),
        ] {
            assert_eq!(order(line, None), Err(BadOrder::Keys(flaw.to_owned())));
        }
    }
}
