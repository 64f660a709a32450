//! From command line and environment, or the configuration file that they name, to one text per flag.
//!
//! Owns the notation of the first two (Go's: one dash or two, `=` or a blank, switches with or without a value), which of the
//! three counts, and what is refused or warned about by name alone. Must not know how a file is written (`file.rs`), or what a
//! value means to the server (`config.rs`).

use std::collections::BTreeMap;
use std::path::Path;

use super::error::{ConfigError, Expected};
use super::file::{self, Source};
use super::flags::{self, Flag, Kind, Treatment};
use super::values;

/// What was set, by the table's name of the flag, and what the operator should be told about it.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    values: BTreeMap<&'static str, String>,
    /// The configuration file that all values are from, if they are from one.
    pub(crate) source: Option<Source>,
    /// Whether the hidden flag was given by which a parent process binds the server's life to its own.
    pub(crate) stop_with_parent: bool,
    pub(crate) warnings: Vec<String>,
}

impl Settings {
    /// Reads the arguments after `vlot server` and those of the variables whose names start with `ETCD_`. A flag wins
    /// over its variable, and the last of two equal flags wins, unless its values add up. As in etcd, a configuration
    /// file that is named by either takes the place of all others.
    pub(crate) fn read(
        arguments: impl IntoIterator<Item = String>,
        environment: impl IntoIterator<Item = (String, String)>,
        read_file: impl FnOnce(&Path) -> std::io::Result<Vec<u8>>,
    ) -> Result<Settings, ConfigError> {
        let is_etcds = |(variable, _): &(String, String)| variable.starts_with("ETCD_");
        let environment: Vec<_> = environment.into_iter().filter(is_etcds).collect();
        let mut given = Settings::default();
        given.read_arguments(arguments)?;
        let mut settings = match config_file(&given, &environment) {
            Some(path) => {
                let mut settings = file::read(&path, read_file)?;
                settings.warn_of_the_ignored(&path, &given, &environment);
                settings
            }
            None => {
                let mut settings = Settings::default();
                settings.read_environment(environment)?;
                settings.values.append(&mut given.values);
                settings.warnings.append(&mut given.warnings);
                settings
            }
        };
        settings.stop_with_parent = given.stop_with_parent;
        settings.judge()?;
        Ok(settings)
    }

    /// Says which flags and variables count for nothing because there is a file.
    fn warn_of_the_ignored(&mut self, path: &str, given: &Settings, environment: &[(String, String)]) {
        const ITSELF: &str = "config-file";
        let flags = given.values.keys().filter(|name| **name != ITSELF).map(|name| format!("--{name}"));
        let would_count = |variable: &str, value: &str| {
            let flag = flag_of_variable(variable).and_then(|name| flags::find(&name));
            !value.is_empty() && flag.is_some_and(|(flag, _)| flag.name != ITSELF)
        };
        let variables = environment.iter().filter(|(variable, value)| would_count(variable, value));
        let ignored: Vec<_> = flags.chain(variables.map(|(variable, _)| variable.clone())).collect();
        if !ignored.is_empty() {
            self.warnings.push(format!(
                "without effect beside --config-file, as in etcd: {}; put what is meant into {path}",
                ignored.join(", ")
            ));
        }
    }

    /// An error about a flag, with the place in the file that the flag is from.
    pub(crate) fn located(&self, error: ConfigError) -> ConfigError {
        match &self.source {
            Some(source) => source.locate(error),
            None => error,
        }
    }

    /// The text of a flag that was set to something.
    pub(crate) fn given(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    fn read_environment(&mut self, environment: impl IntoIterator<Item = (String, String)>) -> Result<(), ConfigError> {
        for (variable, value) in environment {
            let Some(name) = flag_of_variable(&variable) else { continue };
            match flags::find(&name) {
                // An empty variable counts as unset, so that a template may leave one blank.
                Some(_) if value.is_empty() => {}
                Some(_) => self.set(&name, value)?,
                None => self.warnings.push(format!("unrecognized environment variable {variable}")),
            }
        }
        Ok(())
    }

    fn read_arguments(&mut self, arguments: impl IntoIterator<Item = String>) -> Result<(), ConfigError> {
        let mut arguments = arguments.into_iter().peekable();
        while let Some(argument) = arguments.next() {
            let Some(dashed) = argument.strip_prefix('-') else {
                return Err(ConfigError::NotAFlag { argument });
            };
            let written = dashed.strip_prefix('-').unwrap_or(dashed);
            let (name, value) = match written.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (written, None),
            };
            if name == "stop-with-parent" {
                self.stop_with_parent = true;
                continue;
            }
            let (flag, _) = flags::find(name).ok_or_else(|| ConfigError::Unknown { flag: name.to_owned() })?;
            let value = match value {
                Some(value) => value,
                None if flag.kind == Kind::Switch => {
                    arguments.next_if(|next| next == "true" || next == "false").unwrap_or_else(|| "true".to_owned())
                }
                None => arguments.next().ok_or_else(|| ConfigError::Incomplete { flag: name.to_owned() })?,
            };
            let before = if flag.adds_up { self.values.remove(flag.name) } else { None };
            self.set(name, before.map_or(value.clone(), |before| format!("{before};{value}")))?;
        }
        Ok(())
    }

    /// Sets a flag by its name, old or new, if the value has its form.
    pub(crate) fn set(&mut self, name: &str, value: String) -> Result<(), ConfigError> {
        let Some((flag, experimental)) = flags::find(name) else {
            return Err(ConfigError::Unknown { flag: name.to_owned() });
        };
        if !has_form(flag.kind, &value) {
            let expected = match flag.kind {
                Kind::Text | Kind::List => "a text",
                Kind::Switch => "true or false",
                Kind::Integer => "a whole number",
                Kind::Duration => "a duration such as 500ms or 2h",
            };
            return Err(ConfigError::Invalid { flag: flag.name, value, expected: Expected::Form(expected) });
        }
        if experimental {
            self.warnings.push(format!("--{name} is an old spelling of --{}", flag.name));
        }
        self.values.insert(flag.name, value);
        Ok(())
    }

    /// Sets a flag, by its name in the table, to its default.
    pub(crate) fn unset(&mut self, name: &str) {
        self.values.remove(name);
    }

    /// Refuses and warns by name. Only values other than the default count, so that a start-up script which spells all
    /// defaults out still works.
    fn judge(&mut self) -> Result<(), ConfigError> {
        for (name, value) in &self.values {
            let Some((flag, _)) = flags::find(name) else { continue };
            match flag.treatment {
                _ if is_default(flag, value) => {}
                Treatment::Honoured => {}
                Treatment::Accepted(why) => {
                    let place = self.source.as_ref().map(|source| source.place_of(name)).unwrap_or_default();
                    self.warnings.push(format!("{place}--{name} has no effect: {why}"));
                }
                Treatment::Refused(why) => return Err(self.located(ConfigError::Refused { flag: flag.name, why })),
            }
        }
        Ok(())
    }
}

/// The configuration file that is named, by the flag or else by its variable.
fn config_file(given: &Settings, environment: &[(String, String)]) -> Option<String> {
    let variables = environment.iter().filter(|(variable, _)| variable == "ETCD_CONFIG_FILE");
    let mut named = given.values.get("config-file").into_iter().chain(variables.map(|(_, path)| path));
    named.find(|path| !path.is_empty()).cloned()
}

/// The name of the flag that an environment variable would be for.
fn flag_of_variable(variable: &str) -> Option<String> {
    Some(variable.strip_prefix("ETCD_")?.to_ascii_lowercase().replace('_', "-"))
}

fn has_form(kind: Kind, value: &str) -> bool {
    match kind {
        Kind::Text | Kind::List => true,
        Kind::Switch => values::switch(value).is_some(),
        Kind::Integer => value.parse::<i64>().is_ok(),
        Kind::Duration => values::duration(value).is_some(),
    }
}

fn is_default(flag: &Flag, value: &str) -> bool {
    match flag.kind {
        Kind::Text | Kind::List => value == flag.default,
        Kind::Switch => values::switch(value) == values::switch(flag.default),
        Kind::Integer => value.parse::<i64>().ok() == flag.default.parse().ok(),
        Kind::Duration => values::duration(value) == values::duration(flag.default),
    }
}
