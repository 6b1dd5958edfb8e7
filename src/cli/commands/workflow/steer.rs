//! `goflow workflow pause`, `resume`, `cancel`, `signal`, `approve`, `reject` and `retry`: what is done
//! to a run that is under way.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::cli::commands::enqueue;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::domain::{Name, RunId, RunState};

/// What was done, for programs.
#[derive(serde::Serialize)]
struct Done {
    run_id: String,
    done: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<String>,
}

/// Pause runs: nothing starts until they are resumed, what waits in line neither; what runs goes on
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  Until the partner's system is back:\n    goflow workflow pause 7c3092b1")]
pub struct PauseArgs {
    /// The run's id, or a part of it
    #[arg(value_name = "ID", add = ArgValueCompleter::new(complete::runs))]
    id: String,
}

/// Resume a run that is paused
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  Go on where it stopped:\n    goflow workflow resume 7c3092b1")]
pub struct ResumeArgs {
    /// The run's id, or a part of it
    #[arg(value_name = "ID", add = ArgValueCompleter::new(complete::runs))]
    id: String,
}

/// Cancel a run; what was done is undone first
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Undo what was done, and end:
    goflow workflow cancel 7c3092b1
  Leave everything as it is:
    goflow workflow cancel 7c3092b1 --no-compensate")]
pub struct CancelArgs {
    /// The run's id, or a part of it
    #[arg(value_name = "ID", add = ArgValueCompleter::new(complete::runs))]
    id: String,
    /// Undo nothing
    #[arg(long)]
    no_compensate: bool,
}

/// Send a signal to a run, whether or not a step waits for it already
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  What a `wait: {signal: payment_settled}` waits for:
    goflow workflow signal 7c3092b1 payment_settled -d '{\"order_id\": \"o-1\"}'")]
pub struct SignalArgs {
    /// The run's id, or a part of it
    #[arg(value_name = "ID", add = ArgValueCompleter::new(complete::runs))]
    id: String,
    /// The signal's name
    #[arg(value_name = "NAME")]
    name: Name,
    /// What it carries: JSON, @FILE, or - for standard input
    #[arg(short, long, value_name = "JSON")]
    data: Option<String>,
}

/// Who answers, and to which step.
#[derive(Debug, Args)]
pub struct AnswerArgs {
    /// The run's id, or a part of it
    #[arg(value_name = "ID", add = ArgValueCompleter::new(complete::runs))]
    id: String,
    /// The step that waits, by id or path; not needed where one waits alone
    #[arg(value_name = "STEP")]
    step: Option<String>,
    /// Who answers: a name, or a group as in group:finance; several times for several
    #[arg(long, value_name = "WHO")]
    by: Vec<String>,
    /// Why, for those who look later
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
}

/// Approve what a run waits for
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  As somebody of a group that may:
    goflow workflow approve 7c3092b1 --by ann --by group:finance --comment 'within the budget'")]
pub struct ApproveArgs {
    #[command(flatten)]
    answer: AnswerArgs,
}

/// Reject what a run waits for approval of: the step fails
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  One of several steps that wait:
    goflow workflow reject 7c3092b1 approve-travel --by ann --comment 'too expensive'")]
pub struct RejectArgs {
    #[command(flatten)]
    answer: AnswerArgs,
}

/// Try a failed run again: the undos that it owes, else from where it failed
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  After the cause was mended:\n    goflow workflow retry 7c3092b1")]
pub struct RetryArgs {
    /// The run's id, or a part of it
    #[arg(value_name = "ID", add = ArgValueCompleter::new(complete::runs))]
    id: String,
}

fn told(context: &Context, id: RunId, done: &'static str, step: Option<String>, sentence: &str) -> Result {
    context.ui.result(&Done { run_id: id.to_string(), done, step }, sentence)
}

/// What holds of a run from now on; nothing if it was told, and nobody could take it in yet.
fn steered(context: &Context, id: RunId, done: &'static str, holds: Option<String>) -> Result {
    let holds = holds.unwrap_or_else(|| "was told; a worker will carry it out".to_owned());
    told(context, id, done, None, &format!("run {id} {holds}"))
}

pub fn pause(context: &Context, args: &PauseArgs) -> Result {
    context.block_on(async {
        let client = context.client().await?;
        let id = client.find_run(&args.id).await?;
        client.pause_run(id).await?;
        let run = client.run_header(id).await?;
        let holds = (run.state == RunState::Paused).then(|| "is paused".to_owned());
        steered(context, id, "paused", holds)
    })
}

pub fn resume(context: &Context, args: &ResumeArgs) -> Result {
    context.block_on(async {
        let client = context.client().await?;
        let id = client.find_run(&args.id).await?;
        client.resume_run(id).await?;
        let run = client.run_header(id).await?;
        steered(context, id, "resumed", (run.state != RunState::Paused).then(|| "goes on".to_owned()))
    })
}

pub fn cancel(context: &Context, args: &CancelArgs) -> Result {
    context.block_on(async {
        let client = context.client().await?;
        let id = client.find_run(&args.id).await?;
        client.cancel_run(id, !args.no_compensate).await?;
        let run = client.run_header(id).await?;
        let holds = match run.state {
            state if state.is_terminal() => Some(format!("is {state}")),
            _ if run.is_stopping() => {
                Some("ends: what runs is stopped, then what is to be undone is undone".to_owned())
            }
            _ => None,
        };
        steered(context, id, "cancelled", holds)
    })
}

pub fn signal(context: &Context, args: &SignalArgs) -> Result {
    let data = enqueue::payload(args.data.as_deref())?;
    context.block_on(async {
        let client = context.client().await?;
        let id = client.find_run(&args.id).await?;
        client.signal(id, args.name.clone(), data).await?;
        told(context, id, "signalled", None, &format!("sent `{}` to run {id}", args.name))
    })
}

pub fn approve(context: &Context, args: &ApproveArgs) -> Result {
    answer(context, &args.answer, true)
}

pub fn reject(context: &Context, args: &RejectArgs) -> Result {
    answer(context, &args.answer, false)
}

fn answer(context: &Context, args: &AnswerArgs, approved: bool) -> Result {
    context.block_on(async {
        let client = context.client().await?;
        let id = client.find_run(&args.id).await?;
        let (step, by) = (args.step.as_deref(), args.by.clone());
        let path = client.answer(id, step, approved, by, args.comment.clone()).await?;
        let done = if approved { "approved" } else { "rejected" };
        let sentence = match &path {
            Some(path) => format!("{done} `{path}` of run {id}"),
            None => format!("run {id} has taken this answer before"),
        };
        told(context, id, done, path, &sentence)
    })
}

pub fn retry(context: &Context, args: &RetryArgs) -> Result {
    context.block_on(async {
        let client = context.client().await?;
        let id = client.find_run(&args.id).await?;
        client.retry_run(id).await?;
        let run = client.run_header(id).await?;
        steered(context, id, "retried", (run.state != RunState::Failed).then(|| "is tried again".to_owned()))
    })
}
