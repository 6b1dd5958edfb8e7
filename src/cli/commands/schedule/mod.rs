//! `goflow schedule`: the verbs on schedules.

mod next;

use clap::Subcommand;

use crate::cli::codes::Code;
use crate::cli::context::Context;
use crate::cli::error::{CommandError, Result, fail};
use crate::domain::schedule::{BadRule, BadZone};

/// Look at schedules and rules, trigger, pause and resume them
#[derive(Debug, Subcommand)]
pub enum ScheduleCommand {
    Next(next::NextArgs),
}

pub fn run(context: &Context, command: ScheduleCommand) -> Result {
    match command {
        ScheduleCommand::Next(args) => next::run(context, &args),
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
