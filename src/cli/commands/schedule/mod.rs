//! `goflow schedule`: the verbs on schedules.

mod list;
mod next;
mod pause;
mod resume;
mod trigger;

use clap::Subcommand;

use crate::cli::codes::Code;
use crate::cli::context::Context;
use crate::cli::error::{CommandError, Result, fail};
use crate::domain::schedule::{BadRule, BadZone};

/// Look at schedules and rules, trigger, pause and resume them
#[derive(Debug, Subcommand)]
pub enum ScheduleCommand {
    List(list::ListArgs),
    Next(next::NextArgs),
    Trigger(trigger::TriggerArgs),
    Pause(pause::PauseArgs),
    Resume(resume::ResumeArgs),
}

pub fn run(context: &Context, command: ScheduleCommand) -> Result {
    match command {
        ScheduleCommand::List(args) => list::run(context, &args),
        ScheduleCommand::Next(args) => next::run(context, &args),
        ScheduleCommand::Trigger(args) => trigger::run(context, &args),
        ScheduleCommand::Pause(args) => pause::run(context, &args),
        ScheduleCommand::Resume(args) => resume::run(context, &args),
    }
}

impl From<BadRule> for CommandError {
    fn from(error: BadRule) -> Self {
        fail(Code::Rule, error.to_string())
    }
}

impl From<BadZone> for CommandError {
    fn from(error: BadZone) -> Self {
        fail(Code::Rule, error.to_string())
    }
}
