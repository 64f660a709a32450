//! From command line and environment to one text per flag.
//!
//! Owns the notation (Go's: one dash or two, `=` or a blank, switches with or without a value) and what is refused or
//! warned about by name alone. Must not know what a value means to the server (`config.rs`).

use std::collections::{BTreeMap, BTreeSet};

use super::error::{ConfigError, Expected};
use super::flags::{self, Flag, Kind, Treatment};
use super::values;

/// What was set, by the table's name of the flag, and what the operator should be told about it.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    values: BTreeMap<&'static str, String>,
    /// Whether the hidden flag was given by which a parent process binds the server's life to its own.
    pub(crate) stop_with_parent: bool,
    pub(crate) warnings: Vec<String>,
}

impl Settings {
    /// Reads the arguments after `vlot server` and those of the variables whose names start with `ETCD_`. A flag wins
    /// over its variable, and the last of two equal flags wins, unless its values are a list.
    pub(crate) fn read(
        arguments: impl IntoIterator<Item = String>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Settings, ConfigError> {
        let mut settings = Settings::default();
        settings.read_environment(environment)?;
        settings.read_arguments(arguments)?;
        settings.judge()?;
        Ok(settings)
    }

    /// The text of a flag that was set to something.
    pub(crate) fn given(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    fn read_environment(&mut self, environment: impl IntoIterator<Item = (String, String)>) -> Result<(), ConfigError> {
        for (variable, value) in environment {
            let Some(suffix) = variable.strip_prefix("ETCD_") else { continue };
            let name = suffix.to_ascii_lowercase().replace('_', "-");
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
        // What is added to: a flag wins over its variable as a whole.
        let mut lists = BTreeSet::new();
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
            let before = if flag.is_list && !lists.insert(flag.name) { self.values.remove(flag.name) } else { None };
            self.set(name, before.map_or(value.clone(), |before| format!("{before};{value}")))?;
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), ConfigError> {
        let Some((flag, experimental)) = flags::find(name) else {
            return Err(ConfigError::Unknown { flag: name.to_owned() });
        };
        if !has_form(flag.kind, &value) {
            let expected = match flag.kind {
                Kind::Text => "a text",
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

    /// Refuses and warns by name. Only values other than the default count, so that a start-up script which spells all
    /// defaults out still works.
    fn judge(&mut self) -> Result<(), ConfigError> {
        for (name, value) in &self.values {
            let Some((flag, _)) = flags::find(name) else { continue };
            match flag.treatment {
                _ if is_default(flag, value) => {}
                Treatment::Honoured => {}
                Treatment::Accepted(why) => self.warnings.push(format!("--{name} has no effect: {why}")),
                Treatment::Refused(why) => return Err(ConfigError::Refused { flag: flag.name, why }),
            }
        }
        Ok(())
    }
}

fn has_form(kind: Kind, value: &str) -> bool {
    match kind {
        Kind::Text => true,
        Kind::Switch => values::switch(value).is_some(),
        Kind::Integer => value.parse::<i64>().is_ok(),
        Kind::Duration => values::duration(value).is_some(),
    }
}

fn is_default(flag: &Flag, value: &str) -> bool {
    match flag.kind {
        Kind::Text => value == flag.default,
        Kind::Switch => values::switch(value) == values::switch(flag.default),
        Kind::Integer => value.parse::<i64>().ok() == flag.default.parse().ok(),
        Kind::Duration => values::duration(value) == values::duration(flag.default),
    }
}
