//! `goflow workflow`: the verbs on workflows and their runs.

mod graph;
mod history;
mod list;
mod show;
mod simulate;
pub mod source;
mod start;
mod steer;

use clap::Subcommand;

use crate::cli::context::Context;
use crate::cli::error::Result;

/// Start workflows, look at their runs, steer them; draw and simulate definitions
#[derive(Debug, Subcommand)]
pub enum WorkflowCommand {
    Start(start::StartArgs),
    List(list::ListArgs),
    #[command(visible_alias = "status")]
    Show(show::ShowArgs),
    Graph(graph::GraphArgs),
    History(history::HistoryArgs),
    Simulate(simulate::SimulateArgs),
    Pause(steer::PauseArgs),
    Resume(steer::ResumeArgs),
    Cancel(steer::CancelArgs),
    Signal(steer::SignalArgs),
    Approve(steer::ApproveArgs),
    Reject(steer::RejectArgs),
    Retry(steer::RetryArgs),
}

pub fn run(context: &Context, command: WorkflowCommand) -> Result {
    match command {
        WorkflowCommand::Start(args) => start::run(context, &args),
        WorkflowCommand::List(args) => list::run(context, &args),
        WorkflowCommand::Show(args) => show::run(context, &args),
        WorkflowCommand::Graph(args) => graph::run(context, &args),
        WorkflowCommand::History(args) => history::run(context, &args),
        WorkflowCommand::Simulate(args) => simulate::run(context, &args),
        WorkflowCommand::Pause(args) => steer::pause(context, &args),
        WorkflowCommand::Resume(args) => steer::resume(context, &args),
        WorkflowCommand::Cancel(args) => steer::cancel(context, &args),
        WorkflowCommand::Signal(args) => steer::signal(context, &args),
        WorkflowCommand::Approve(args) => steer::approve(context, &args),
        WorkflowCommand::Reject(args) => steer::reject(context, &args),
        WorkflowCommand::Retry(args) => steer::retry(context, &args),
    }
}
