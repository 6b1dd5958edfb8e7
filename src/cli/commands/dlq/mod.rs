//! `goflow dlq`: the verbs on the dead-letter queue.

mod delete;
mod export;
mod list;
mod purge;
mod retry;
mod show;

use clap::Subcommand;

use crate::api::Filter;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::cli::select;
use crate::domain::JobState;

/// Look at dead jobs, give them a new life, or remove them
#[derive(Debug, Subcommand)]
pub enum DlqCommand {
    List(list::ListArgs),
    Show(show::ShowArgs),
    Retry(retry::RetryArgs),
    /// Retry every dead job (the same as `dlq retry --all`)
    #[command(hide = true)]
    RetryAll(retry::AllArgs),
    Delete(delete::DeleteArgs),
    Purge(purge::PurgeArgs),
    Export(export::ExportArgs),
}

pub fn run(context: &Context, command: DlqCommand) -> Result {
    match command {
        DlqCommand::List(args) => list::run(context, &args),
        DlqCommand::Show(args) => show::run(context, &args),
        DlqCommand::Retry(args) => retry::run(context, &args),
        DlqCommand::RetryAll(args) => retry::run(context, &args.into()),
        DlqCommand::Delete(args) => delete::run(context, &args),
        DlqCommand::Purge(args) => purge::run(context, &args),
        DlqCommand::Export(args) => export::run(context, &args),
    }
}

/// The dead jobs that match.
fn dead(filter: Option<&str>) -> Result<Filter> {
    Ok(select::jobs(filter)?.only_states(&[JobState::Dead]))
}
