//! The flags that all commands share, from the command line and from `ETCDCTL_…` variables.
//!
//! Must not know of any single command's flags.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use bytes::Bytes;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use prost::Message;

use super::notation::parse_duration;
use super::print::{Format, Printer};
use super::terminal::ask_password;
use super::{Exit, discovery, report, warn};
use crate::client::{Client, Credentials, Endpoint, Failure, Options, Repeat, Security, security};

/// gRPC's clients in Go never ping more often, and etcd's servers count on it.
const KEEPALIVE_MIN: Duration = Duration::from_secs(10);

/// A century stands for ever, and can be added to the time of day.
const DURATION_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Name, short letter, placeholder of the value (none for a switch), default, help.
type Known = (&'static str, Option<char>, Option<&'static str>, &'static str, &'static str);

const SUPPORTED: [Known; 18] = [
    ("endpoints", None, Some("HOST:PORT,..."), "127.0.0.1:2379", "gRPC endpoints"),
    ("dial-timeout", None, Some("DURATION"), "2s", "Dial timeout for client connections"),
    ("command-timeout", None, Some("DURATION"), "5s", "Timeout for short running commands, dialling included"),
    ("keepalive-time", None, Some("DURATION"), "2s", "Keepalive time for client connections; 10s at least"),
    ("keepalive-timeout", None, Some("DURATION"), "6s", "Keepalive timeout for client connections"),
    ("write-out", Some('w'), Some("FORMAT"), "simple", "Output format: fields, json, protobuf, simple or table"),
    ("hex", None, None, "false", "Print byte strings as hex encoded strings"),
    ("insecure-transport", None, None, "true", "Speak in the clear where no scheme and no file says otherwise"),
    ("insecure-skip-tls-verify", None, None, "false", "Take any server; for tests alone: whoever listens is believed"),
    ("cacert", None, Some("FILE"), "", "Verify certificates of TLS servers by the CAs in this file"),
    ("cert", None, Some("FILE"), "", "Identify the client by the certificate in this file"),
    ("key", None, Some("FILE"), "", "Key of --cert"),
    ("discovery-srv", Some('d'), Some("DOMAIN"), "", "Domain whose SRV records say where the servers are"),
    ("discovery-srv-name", None, Some("NAME"), "", "Name of the service among the domain's SRV records"),
    ("insecure-discovery", None, None, "true", "Accept SRV records of servers without TLS"),
    ("user", None, Some("NAME[:PASSWORD]"), "", "Who calls; the password is asked for if it is not given"),
    ("password", None, Some("PASSWORD"), "", "Password of --user, which then is the name alone"),
    ("debug", None, None, "false", "Say on stderr which flags are in force"),
];

/// etcdctl's flags that are refused, with the reason.
const REFUSED: [(&str, Option<char>, Option<&str>, &str); 2] = [
    ("max-request-bytes", None, Some("BYTES"), "what may be sent is the server's to say"),
    ("max-recv-bytes", None, Some("BYTES"), "the limit is fixed at 1 GiB"),
];

/// The shared flags as the command line's parser wants them.
pub fn global() -> Vec<Arg> {
    let supported = SUPPORTED.into_iter().map(|(name, short, value, default, help)| {
        let help = if default.is_empty() { help.to_owned() } else { format!("{help} [default: {default}]") };
        flag(name, short, value).help(help).help_heading("Client options")
    });
    let refused = REFUSED.into_iter().map(|(name, short, value, _)| flag(name, short, value).hide(true));
    supported.chain(refused).collect()
}

/// The first of them that was given before the command, if one was. A command that is none of etcdctl's has flags of its own,
/// and would not heed it.
pub fn flag_before_command(root: &ArgMatches) -> Option<&'static str> {
    let mut names = SUPPORTED.iter().map(|(name, ..)| *name).chain(REFUSED.iter().map(|(name, ..)| *name));
    names.find(|name| root.value_source(name) == Some(ValueSource::CommandLine))
}

/// Whether a flag that all commands have takes a value; `None` if it is none of them. By its name or its letter.
pub fn takes_value(name: &str) -> Option<bool> {
    let known = SUPPORTED.iter().map(|(name, short, value, ..)| (*name, *short, value.is_some()));
    let mut known = known.chain(REFUSED.iter().map(|(name, short, value, _)| (*name, *short, value.is_some())));
    let letter = name.chars().next().filter(|letter| letter.len_utf8() == name.len());
    known.find(|(long, short, _)| *long == name || letter.is_some() && *short == letter).map(|known| known.2)
}

fn flag(name: &'static str, short: Option<char>, value: Option<&'static str>) -> Arg {
    let arg = match value {
        Some(value) => Arg::new(name).value_name(value).allow_hyphen_values(true),
        None => Arg::new(name).value_name("BOOL").num_args(0..=1).require_equals(true).default_missing_value("true"),
    };
    let action = if name == "endpoints" { ArgAction::Append } else { ArgAction::Set };
    match short {
        Some(letter) => arg.long(name).short(letter).action(action),
        None => arg.long(name).action(action),
    }
}

/// A switch of one command: `--name`, `--name=true` or `--name=false`.
pub fn switch(name: &'static str, help: &'static str) -> Arg {
    flag(name, None, None).default_value("false").value_parser(parse_bool).hide_default_value(true).help(help)
}

/// A whole number of one command.
pub fn number(name: &'static str, help: &'static str) -> Arg {
    flag(name, None, Some("N")).default_value("0").value_parser(value_parser!(i64)).help(help)
}

/// A text of one command.
pub fn text(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    flag(name, None, Some("TEXT")).default_value(default).help(help)
}

/// The arguments that are not flags; keys and values are any bytes. `shape` is how they are shown, in the line on usage alone.
pub fn words(shape: &'static str) -> Arg {
    Arg::new("words").value_name(shape).num_args(0..).value_parser(value_parser!(OsString)).hide(true)
}

/// The same command with a line on usage for each of its subcommands, as part of the program that `path` begins with.
pub fn with_usage(path: &str, command: Command) -> Command {
    let path = format!("{path} {}", command.get_name());
    if command.has_subcommands() {
        return command.mut_subcommands(|subcommand| with_usage(&path, subcommand));
    }
    let words = command.get_arguments().find(|argument| argument.get_id() == "words");
    let shape = words.and_then(|words| words.get_value_names()?.first()).map_or("", |shape| shape.as_str());
    let usage = format!("{path} [OPTIONS] {shape}");
    command.override_usage(usage.trim_end().to_owned())
}

/// The switch `name` of a command's matches.
pub fn is_set(matches: &ArgMatches, name: &str) -> bool {
    matches.get_flag(name)
}

/// The number `name` of a command's matches.
pub fn number_of(matches: &ArgMatches, name: &str) -> i64 {
    *matches.get_one(name).expect("a number has a default")
}

/// The text `name` of a command's matches.
pub fn text_of<'a>(matches: &'a ArgMatches, name: &str) -> &'a str {
    matches.get_one::<String>(name).expect("a text has a default")
}

/// What [`words`] took.
pub fn words_of(matches: &ArgMatches) -> Vec<Bytes> {
    let words = matches.get_many::<OsString>("words").unwrap_or_default();
    words.map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
}

/// The shared flags' values.
pub struct Settings {
    pub endpoints: Vec<Endpoint>,
    pub options: Options,
    /// How long one call may take.
    pub command_timeout: Duration,
    /// Whether somebody has said so; a few commands take their time otherwise.
    pub command_timeout_is_given: bool,
    pub printer: Printer,
}

impl Settings {
    /// Reads them from the command's matches, those of the root command and the environment, in this order.
    ///
    /// # Errors
    /// For flags that are not supported and values that make no sense.
    pub async fn read(root: &ArgMatches, matches: &ArgMatches, is_watch: bool) -> Result<Settings, Exit> {
        let given = Given { root, matches };
        given.refuse_unsupported()?;
        given.check_environment(is_watch)?;
        if parse_bool(&given.value("debug")?).map_err(Exit::error)? {
            given.show_all();
        }

        let security = given.security()?;
        let endpoints = given.endpoints().await?;
        let keepalive = (given.duration("keepalive-time")?.max(KEEPALIVE_MIN), given.duration("keepalive-timeout")?);
        let hex = parse_bool(&given.value("hex")?).map_err(Exit::error)?;
        let format = Format::from_name(&given.value("write-out")?)?;
        Ok(Settings {
            endpoints,
            options: Options {
                dial_timeout: given.duration("dial-timeout")?,
                keepalive: Some(keepalive),
                credentials: credentials(given.value("user")?, given.value("password")?, "Password: ").await?,
                security,
            },
            command_timeout: given.duration("command-timeout")?,
            command_timeout_is_given: given.on_command_line("command-timeout").is_some()
                || in_environment("command-timeout").is_some(),
            printer: Printer { format, hex, value_only: false },
        })
    }

    /// A client for all endpoints.
    pub fn client(&self) -> Client {
        Client::new(self.endpoints.clone(), self.options.clone())
    }

    /// A client for one endpoint.
    pub fn client_of(&self, endpoint: &Endpoint) -> Client {
        Client::new(vec![endpoint.clone()], self.options.clone())
    }

    /// One call within the command's time, to any endpoint.
    ///
    /// # Errors
    /// The failure, with etcdctl's exit code.
    pub async fn call<Reply: Message + Default>(
        &self,
        path: &'static str,
        request: &impl Message,
        repeat: Repeat,
    ) -> Result<Reply, Exit> {
        self.call_with(&mut self.client(), path, request, repeat).await
    }

    /// One call within the command's time, by this client.
    ///
    /// # Errors
    /// The failure, with etcdctl's exit code.
    pub async fn call_with<Reply: Message + Default>(
        &self,
        client: &mut Client,
        path: &'static str,
        request: &impl Message,
        repeat: Repeat,
    ) -> Result<Reply, Exit> {
        client.call(path, request, repeat, self.command_timeout).await.map_err(|failure| exit_of(&failure))
    }
}

/// Reads a user as `name` and a password, or as `name:password`; asks for a password that is in neither.
///
/// # Errors
/// If there is no answer.
pub async fn credentials(user: String, password: String, question: &str) -> Result<Option<Credentials>, Exit> {
    if user.is_empty() {
        return Ok(None);
    }
    if !password.is_empty() {
        return Ok(Some(Credentials { name: user, password }));
    }
    Ok(Some(match user.split_once(':') {
        Some((name, password)) => Credentials { name: name.to_owned(), password: password.to_owned() },
        None => Credentials { name: user, password: ask_password(question).await.map_err(Exit::error)? },
    }))
}

/// How a command ends whose call has failed.
pub fn exit_of(failure: &Failure) -> Exit {
    explain(failure);
    match failure {
        Failure::LoginRefused(_) => Exit::bad_connection(failure),
        _ => Exit::error(failure),
    }
}

/// Tells why time ran out, which the error itself, worded as etcdctl does, does not.
pub fn explain(failure: &Failure) {
    if let Failure::TimedOut { cause: Some(cause) } = failure {
        warn("no endpoint answered", "error", cause);
    }
}

/// Where values come from.
struct Given<'a> {
    root: &'a ArgMatches,
    matches: &'a ArgMatches,
}

impl Given<'_> {
    fn on_command_line(&self, name: &str) -> Option<String> {
        // A flag after the command counts more than one before it. Lists given twice are one list.
        [self.leaf(), self.root].iter().find_map(|matches| {
            let values = matches.try_get_many::<String>(name).ok().flatten()?;
            Some(values.map(String::as_str).collect::<Vec<_>>().join(","))
        })
    }

    fn leaf(&self) -> &ArgMatches {
        self.matches.subcommand().map_or(self.matches, |(_, matches)| matches)
    }

    fn value(&self, name: &str) -> Result<String, Exit> {
        if let Some(value) = self.on_command_line(name) {
            return Ok(value);
        }
        let default = SUPPORTED.iter().find(|known| known.0 == name).map_or("", |known| known.3);
        Ok(in_environment(name).unwrap_or_else(|| default.to_owned()))
    }

    fn is_on(&self, name: &str) -> Result<bool, Exit> {
        parse_bool(&self.value(name)?).map_err(Exit::error)
    }

    /// What is asked of TLS.
    fn security(&self) -> Result<Security, Exit> {
        let file = |name: &str| {
            let value = self.value(name)?;
            if value.is_empty() && self.on_command_line(name).is_some() {
                return Err(Exit::bad_args(format!("empty string is passed to --{name} option")));
            }
            Ok(value)
        };
        let server_name = if self.is_on("insecure-discovery")? { String::new() } else { self.value("discovery-srv")? };
        let security = Security::new(security::Flags {
            cacert: file("cacert")?,
            cert: file("cert")?,
            key: file("key")?,
            skip_verify: self.is_on("insecure-skip-tls-verify")?,
            server_name,
            insecure_transport: self.is_on("insecure-transport")?,
        });
        let security = security.map_err(Exit::bad_connection)?;
        if let Some(warning) = security.warning() {
            warn("the client certificate is not valid now", "error", &warning.to_string());
        }
        Ok(security)
    }

    /// Those that the domain has, or if there are none or no domain, those that are named.
    async fn endpoints(&self) -> Result<Vec<Endpoint>, Exit> {
        let domain = self.value("discovery-srv")?;
        let mut written = Vec::new();
        if !domain.is_empty() {
            let found = discovery::endpoints(&domain, &self.value("discovery-srv-name")?).await;
            written = found.map_err(Exit::error)?;
            if !self.is_on("insecure-discovery")? {
                written.retain(|endpoint| discovery::is_secure(endpoint));
            }
        }
        if written.is_empty() {
            written = self.value("endpoints")?.split(',').map(|endpoint| endpoint.trim().to_owned()).collect();
        }
        written.iter().map(|endpoint| endpoint.parse().map_err(Exit::bad_args)).collect()
    }

    fn duration(&self, name: &str) -> Result<Duration, Exit> {
        let value = self.value(name)?;
        let duration = parse_duration(&value);
        let duration =
            duration.ok_or_else(|| Exit::error(format!("invalid argument {value:?} for \"--{name}\" flag")))?;
        Ok(duration.min(DURATION_MAX))
    }

    /// Says what each flag is, as its variable.
    fn show_all(&self) {
        let defaults = SUPPORTED.iter().map(|known| (known.0, known.3));
        let mut flags: Vec<_> = defaults.chain(REFUSED.iter().map(|known| (known.0, ""))).collect();
        flags.sort_unstable();
        for (name, default) in flags {
            let value = self.on_command_line(name).or_else(|| in_environment(name));
            let value = match (name, value.unwrap_or_else(|| default.to_owned())) {
                // The password is no part of what is shown: output is read by more people than may know it.
                ("password", value) if !value.is_empty() => "***".to_owned(),
                ("user", value) => value.split(':').next().unwrap_or_default().to_owned(),
                ("endpoints", value) => format!("[{value}]"),
                (_, value) => value,
            };
            report(&format!("{}={value}", variable_of(name)));
        }
    }

    fn refuse_unsupported(&self) -> Result<(), Exit> {
        for (name, _, _, reason) in REFUSED {
            let value = self.on_command_line(name).or_else(|| in_environment(name));
            if value.is_some_and(|value| !matches!(value.as_str(), "" | "0" | "false")) {
                return Err(Exit::bad_feature(format!("--{name} is not supported: {reason}")));
            }
        }
        Ok(())
    }

    /// As etcdctl does: a variable beside its flag is a mistake, one without a flag deserves a warning.
    fn check_environment(&self, is_watch: bool) -> Result<(), Exit> {
        for (variable, value) in std::env::vars_os() {
            let Some(variable) = variable.to_str().filter(|variable| variable.starts_with("ETCDCTL_")) else {
                continue;
            };
            let name = variable["ETCDCTL_".len()..].to_ascii_lowercase().replace('_', "-");
            let known = SUPPORTED.iter().any(|known| known.0 == name) || REFUSED.iter().any(|known| known.0 == name);
            let watched = is_watch && matches!(name.as_str(), "watch-key" | "watch-range-end");
            if name == "api" {
                if value != "3" && !value.is_empty() {
                    return Err(Exit::error("only ETCDCTL_API=3 is supported"));
                }
            } else if known && !value.is_empty() && self.on_command_line(&name).is_some() {
                let flaw = "conflicting environment variable is shadowed by corresponding command-line flag \
                            (either unset environment variable or disable flag)";
                return Err(Exit::error(format!("{flaw}: {variable}")));
            } else if !known && !watched {
                warn("unrecognized environment variable", "environment-variable", variable);
            }
        }
        Ok(())
    }
}

fn in_environment(name: &str) -> Option<String> {
    std::env::var(variable_of(name)).ok().filter(|value| !value.is_empty())
}

fn variable_of(name: &str) -> String {
    format!("ETCDCTL_{}", name.to_ascii_uppercase().replace('-', "_"))
}

/// A text that is none of Go's spellings of true and false.
#[derive(Debug)]
struct NotABool {
    text: String,
}

impl fmt::Display for NotABool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is neither true nor false", self.text)
    }
}

impl std::error::Error for NotABool {}

fn parse_bool(text: &str) -> Result<bool, NotABool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(NotABool { text: text.to_owned() }),
    }
}
