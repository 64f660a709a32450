//! `vlot alarm`: look at the alarms that are on, and take them off.

use clap::{ArgMatches, Command};
use vlot_proto::etcdserverpb::alarm_request::AlarmAction;
use vlot_proto::etcdserverpb::{AlarmRequest, AlarmResponse};

use crate::client::{Repeat, path};
use crate::ctl::flags::{Settings, words, words_of};
use crate::ctl::{Exit, show};

/// The command and its subcommands.
pub fn command() -> Command {
    Command::new("alarm").about("Alarm related commands").subcommands([
        Command::new("disarm").about("Disarms all alarms").arg(words("")),
        Command::new("list").about("Lists all alarms").arg(words("")),
    ])
}

/// Makes the calls and prints the alarms that they tell of.
pub async fn run(settings: &Settings, matches: &ArgMatches) -> Result<(), Exit> {
    let (name, matches) = matches.subcommand().expect("alarm requires a subcommand");
    if !words_of(matches).is_empty() {
        return Err(Exit::bad_args(format!("alarm {name} command accepts no arguments")));
    }
    let on: AlarmResponse = settings.call(path::ALARM, &AlarmRequest::default(), Repeat::Freely).await?;
    if name == "list" {
        return show(&settings.printer.alarms(&on)?);
    }
    let mut taken_off = AlarmResponse::default();
    for alarm in on.alarms {
        let request =
            AlarmRequest { action: AlarmAction::Deactivate.into(), member_id: alarm.member_id, alarm: alarm.alarm };
        let reply: AlarmResponse = settings.call(path::ALARM, &request, Repeat::Freely).await?;
        taken_off.alarms.extend(reply.alarms);
    }
    show(&settings.printer.alarms(&taken_off)?)
}
