//! `goflow dlq`: the verbs on the dead-letter queue.

mod list;
mod retry;

use clap::Subcommand;

use crate::cli::context::Context;
use crate::cli::error::Result;

/// Look at dead jobs and give them a new life
#[derive(Debug, Subcommand)]
pub enum DlqCommand {
    List(list::ListArgs),
    Retry(retry::RetryArgs),
    /// Retry every dead job (the same as `dlq retry --all`)
    #[command(hide = true)]
    RetryAll(retry::AllArgs),
}

pub fn run(context: &Context, command: DlqCommand) -> Result {
    match command {
        DlqCommand::List(args) => list::run(context, &args),
        DlqCommand::Retry(args) => retry::run(context, &args),
        DlqCommand::RetryAll(args) => retry::run(context, &args.into()),
    }
}
