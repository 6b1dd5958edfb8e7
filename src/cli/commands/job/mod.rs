//! `goflow job`: the verbs on jobs.

mod cancel;
mod delete;
mod edit;
mod list;
mod logs;
mod retry;
pub mod show;
mod wait;

use clap::Subcommand;

use crate::cli::context::Context;
use crate::cli::error::Result;

/// Look at jobs, wait for them, act on them, put new ones on a queue
#[derive(Debug, Subcommand)]
pub enum JobCommand {
    List(list::ListArgs),
    #[command(visible_alias = "status")]
    Show(show::ShowArgs),
    Logs(logs::LogsArgs),
    Wait(wait::WaitArgs),
    Retry(retry::RetryArgs),
    Cancel(cancel::CancelArgs),
    Delete(delete::DeleteArgs),
    Edit(edit::EditArgs),
    Enqueue(Box<super::enqueue::EnqueueArgs>),
}

pub fn run(context: &Context, command: JobCommand) -> Result {
    match command {
        JobCommand::List(args) => list::run(context, &args),
        JobCommand::Show(args) => show::run(context, &args),
        JobCommand::Logs(args) => logs::run(context, &args),
        JobCommand::Wait(args) => wait::run(context, &args),
        JobCommand::Retry(args) => retry::run(context, &args),
        JobCommand::Cancel(args) => cancel::run(context, &args),
        JobCommand::Delete(args) => delete::run(context, &args),
        JobCommand::Edit(args) => edit::run(context, &args),
        JobCommand::Enqueue(args) => super::enqueue::run(context, *args),
    }
}
