//! `goflow workflow pause`, `resume`, `cancel`, `signal`, `approve`, `reject` and `retry`: what is done
//! to a run that is under way.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::api::{ApiError, Client};
use crate::cli::commands::enqueue;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::domain::{Name, RunId, RunState};
use crate::workflow::Run;

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

/// Tells a run something, and says what holds of it from then on.
fn steer(
    context: &Context,
    id: &str,
    done: &'static str,
    verb: impl AsyncFnOnce(&Client, RunId) -> std::result::Result<(), ApiError>,
    holds: impl FnOnce(&Run) -> &'static str,
) -> Result {
    context.block_on(async {
        let client = context.client().await?;
        let id = client.find_run(id).await?;
        let before = client.run_header(id).await?.rev;
        verb(&client, id).await?;
        // It is told by now, whatever becomes of this look. Whoever takes a fact in raises the `rev`.
        let sentence = match client.run_header(id).await {
            Ok(run) if run.rev == before => None,
            Ok(run) if run.state.is_terminal() => Some(format!("is {}", run.state)),
            Ok(run) => Some(holds(&run).to_owned()),
            Err(_) => None,
        };
        let sentence = sentence.unwrap_or_else(|| "was told; a worker will carry it out".to_owned());
        told(context, id, done, None, &format!("run {id} {sentence}"))
    })
}

pub fn pause(context: &Context, args: &PauseArgs) -> Result {
    let holds = |run: &Run| if run.state == RunState::Paused { "is paused" } else { "is about to end" };
    steer(context, &args.id, "paused", async |client, id| client.pause_run(id).await, holds)
}

pub fn resume(context: &Context, args: &ResumeArgs) -> Result {
    let holds = |run: &Run| if run.is_stopping() { "is about to end" } else { "goes on" };
    steer(context, &args.id, "resumed", async |client, id| client.resume_run(id).await, holds)
}

pub fn cancel(context: &Context, args: &CancelArgs) -> Result {
    let compensate = !args.no_compensate;
    let holds = |_: &Run| match compensate {
        true => "ends: what runs is stopped, what completed is undone",
        false => "ends: what runs is stopped",
    };
    steer(context, &args.id, "cancelled", async |client, id| client.cancel_run(id, compensate).await, holds)
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
    steer(context, &args.id, "retried", async |client, id| client.retry_run(id).await, |_| "is tried again")
}
