//! The arguments of `vlot-sim`.
//!
//! Owns their names and what they mean. Must not know how a run is made.

use std::fmt;

use vlot_sim::conditions::Options;
use vlot_sim::fault_kind::{FaultKind, Kinds, UnknownFault};
use vlot_sim::machines::{Kind, UnknownMachine};

/// What is shown on request, and after wrong arguments.
pub const USAGE: &str = "\
Runs simulated clusters, each from a seed, and checks that nothing is broken.

usage: vlot-sim run [options]
       vlot-sim graphs [--nodes N] [--seed N]
       vlot-sim faults

  --seed N         the first seed (default 1)
  --count K        how many seeds, one after the other (default 1)
  --cpu-seconds S  begin no other seed after so many seconds of a processor
  --nodes N        how many first members, 1 to 9 (default: drawn from the seed)
  --spare N        how many machines beside them, 0 to 5 (default: drawn from the seed)
  --groups N       how many groups on the same machines, 1 to 4 (default: drawn from the seed)
  --policies       leaders change members by themselves, and are balanced over nodes; how is drawn from the seed
  --machine M      which state machine: registers (default), store, leases, users, sessions
  --seconds S      how long faults rage in each run, simulated (default 30)
  --faults A,B,…   only these kinds of fault; which of them happen is drawn from the seed
  --replay         print the whole transcript of the first seed
  --shrink         if a seed fails, look for a smaller run that fails in the same way, and print its command
  --keep-going     do not stop at the first seed that fails
  --quiet          print no line for a seed that is well

With `graphs`, every way in which so many nodes (default 3) may hear each other is tried: there must be a leader
wherever some node hears a quorum that hears it. `faults` lists the kinds of fault.

The exit code is 1 if anything is broken, and 2 if the arguments are wrong.";

/// What is to be done.
pub enum Command {
    /// Show how this program is used.
    Help,
    /// List the kinds of fault.
    Faults,
    /// Try every graph of so many nodes.
    Graphs {
        /// How many.
        nodes: usize,
        /// The seed of each cluster.
        seed: u64,
    },
    /// Run seeds.
    Run(Arguments),
}

/// What is asked of runs.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// The first seed.
    pub seed: u64,
    /// How many.
    pub count: u64,
    /// No other seed is begun after so many seconds of a processor.
    pub cpu_seconds: Option<u64>,
    /// Which state machine.
    pub machine: Kind,
    /// What is the same for all.
    pub options: Options,
    /// Look for a smaller run that fails.
    pub shrink: bool,
    /// Do not stop at the first seed that fails.
    pub keep_going: bool,
    /// Say nothing of seeds that are well.
    pub quiet: bool,
}

impl Default for Arguments {
    fn default() -> Self {
        Self {
            seed: 1,
            count: 1,
            cpu_seconds: None,
            machine: Kind::default(),
            options: Options::default(),
            shrink: false,
            keep_going: false,
            quiet: false,
        }
    }
}

impl Arguments {
    /// As the words of a command.
    pub fn words(&self) -> Vec<String> {
        let mut words = vec!["run".to_owned()];
        let mut add = |name: &str, value: String| words.extend([format!("--{name}"), value]);
        let Options { nodes, spare, groups, seconds, faults, policies, .. } = self.options;
        add("seed", self.seed.to_string());
        if self.count > 1 {
            add("count", self.count.to_string());
        }
        if let Some(nodes) = nodes {
            add("nodes", nodes.to_string());
        }
        if let Some(spare) = spare {
            add("spare", spare.to_string());
        }
        if let Some(groups) = groups {
            add("groups", groups.to_string());
        }
        if self.machine != Kind::default() {
            add("machine", self.machine.name().to_owned());
        }
        add("seconds", seconds.to_string());
        if faults.iter().count() < FaultKind::ALL.len() {
            add("faults", faults.to_string());
        }
        if policies {
            words.push("--policies".to_owned());
        }
        words
    }
}

/// What is wrong with the words of a command.
#[derive(Debug)]
pub enum ArgumentError {
    /// There is no such command.
    UnknownCommand {
        /// Its name.
        command: String,
    },
    /// There is no such option.
    UnknownOption {
        /// Its name, with the dashes.
        option: String,
    },
    /// The words end where the option's value should be.
    NoValue {
        /// The option's name.
        option: String,
    },
    /// The option's value should be a number.
    NotANumber {
        /// The option's name.
        option: String,
        /// What is there in the number's place.
        value: String,
    },
    /// There may not be so many.
    OutOfRange {
        /// How many.
        number: u64,
        /// Of what.
        what: &'static str,
        /// How many there must be.
        least: u64,
        /// How many there may be.
        most: u64,
    },
    /// There is no such state machine.
    Machine(UnknownMachine),
    /// There is no such fault.
    Fault(UnknownFault),
}

impl fmt::Display for ArgumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownCommand { command } => write!(f, "there is no command {command:?}"),
            Self::UnknownOption { option } => write!(f, "there is no option {option:?}"),
            Self::NoValue { option } => write!(f, "{option} needs a value"),
            Self::NotANumber { option, value } => write!(f, "{option} needs a number, not {value:?}"),
            Self::OutOfRange { number, what, least, most } => {
                write!(f, "{number} {what}: there may be {least} to {most}")
            }
            Self::Machine(unknown) => unknown.fmt(f),
            Self::Fault(unknown) => unknown.fmt(f),
        }
    }
}

impl std::error::Error for ArgumentError {}

/// Reads the words of a command, without the program's name.
///
/// # Errors
/// What is wrong with them.
pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Command, ArgumentError> {
    let graphs = match words.next().as_deref() {
        Some("run") => false,
        Some("graphs") => true,
        Some("faults") => return Ok(Command::Faults),
        None | Some("help" | "--help" | "-h") => return Ok(Command::Help),
        Some(other) => return Err(ArgumentError::UnknownCommand { command: other.to_owned() }),
    };
    let mut arguments = Arguments::default();
    while let Some(word) = words.next() {
        let option = || word.clone();
        let mut value = || words.next().ok_or_else(|| ArgumentError::NoValue { option: option() });
        let number = |value: String| value.parse().map_err(|_| ArgumentError::NotANumber { option: option(), value });
        let options = &mut arguments.options;
        match word.as_str() {
            "--seed" => arguments.seed = number(value()?)?,
            "--count" => arguments.count = number(value()?)?,
            "--cpu-seconds" => arguments.cpu_seconds = Some(number(value()?)?),
            "--seconds" => options.seconds = number(value()?)?,
            "--nodes" => options.nodes = Some(within(number(value()?)?, 1, 9, "nodes")?),
            "--spare" => options.spare = Some(within(number(value()?)?, 0, 5, "machines beside them")?),
            "--groups" => options.groups = Some(within(number(value()?)?, 1, 4, "groups")?),
            "--machine" => arguments.machine = Kind::of_name(&value()?).map_err(ArgumentError::Machine)?,
            "--faults" => options.faults = Kinds::of_names(&value()?).map_err(ArgumentError::Fault)?,
            "--policies" => options.policies = true,
            "--replay" => (options.whole_transcript, arguments.count) = (true, 1),
            "--shrink" => arguments.shrink = true,
            "--keep-going" => arguments.keep_going = true,
            "--quiet" => arguments.quiet = true,
            "--help" | "-h" => return Ok(Command::Help),
            _ => return Err(ArgumentError::UnknownOption { option: word }),
        }
    }
    let Arguments { seed, options: Options { nodes, .. }, .. } = arguments;
    Ok(if graphs { Command::Graphs { nodes: nodes.unwrap_or(3).min(5), seed } } else { Command::Run(arguments) })
}

fn within(number: u64, least: u64, most: u64, what: &'static str) -> Result<usize, ArgumentError> {
    if (least..=most).contains(&number) {
        Ok(number as usize)
    } else {
        Err(ArgumentError::OutOfRange { number, what, least, most })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str) -> Result<Command, ArgumentError> {
        parse(words.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_command_is_read_as_it_is_written() {
        let words = "run --seed 7 --count 3 --nodes 3 --spare 1 --groups 2 --seconds 4 --faults kill,compact";
        let Ok(Command::Run(arguments)) = parsed(words) else { panic!("a run") };
        assert_eq!(arguments.words().join(" "), words);
        let Ok(Command::Run(arguments)) = parsed("run --seconds 4 --policies --seed 7") else { panic!("a run") };
        assert_eq!(arguments.words().join(" "), "run --seed 7 --seconds 4 --policies");
        let Ok(Command::Run(arguments)) = parsed("run") else { panic!("a run") };
        assert_eq!(arguments.words().join(" "), "run --seed 1 --seconds 30");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (words, wrong) in [
            ("walk", "there is no command"),
            ("run --nodes 10", "there may be 1 to 9"),
            ("run --seed x", "needs a number"),
            ("run --seed", "needs a value"),
            ("run --faults kill,kil", "there is no fault"),
            ("run --machine loom", "there is no state machine"),
            ("run --fast", "there is no option"),
        ] {
            let said = parsed(words).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(said.contains(wrong), "{words}: {said}");
        }
    }
}
