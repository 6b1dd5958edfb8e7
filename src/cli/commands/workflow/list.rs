//! `goflow workflow list`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::api::RunView;
use crate::api::run_list::RUN_FIELDS;
use crate::api::runs::run_state;
use crate::cli::codes::Code;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::{Result, fail};
use crate::cli::output::{Column, Tone};
use crate::cli::select::{self, Limit};
use crate::cli::ui::Ui;
use crate::domain::text::{age, nearest};
use crate::domain::{Name, RunState};

/// List runs, live ones first, then finished ones, the latest of each first
///
/// `goflow get workflows` lists the definitions.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  What waits or runs, and what has failed:
    goflow workflow list -s running
    goflow workflow list --where 'state:failed error~timeout age<1d'
  What waits for somebody's approval, and what could not be undone:
    goflow workflow list --where 'approvals>0'
    goflow workflow list --where 'owed>0'
  All runs of one workflow, for a program:
    goflow workflow list -w order-saga -n 0 -o json")]
pub struct ListArgs {
    /// Only runs in this state
    #[arg(short, long, value_name = "STATE")]
    state: Option<String>,
    /// Only runs of this workflow
    #[arg(short, long, value_name = "NAME", add = ArgValueCompleter::new(complete::workflows))]
    workflow: Option<Name>,
    /// Only runs that match, as in 'state:failed workflow:order-* error~timeout age<1d'
    #[arg(long = "where", value_name = "FILTER")]
    filter: Option<String>,
    #[command(flatten)]
    limit: Limit,
}

pub fn run(context: &Context, args: &ListArgs) -> Result {
    let state = args.state.as_deref().map(state).transpose()?;
    let filter = args.filter.as_deref().map(|text| select::things(Some(text), RUN_FIELDS)).transpose()?;
    context.block_on(async {
        let client = context.client().await?;
        let found = client.runs_where(state, args.workflow.as_ref(), filter.as_ref(), args.limit.limit).await?;
        context.ui.list(&found.runs, RUNS)?;
        args.limit.tell_cut(context, "first", found.cut);
        Ok(())
    })
}

fn state(text: &str) -> Result<RunState> {
    run_state(text).ok_or_else(|| {
        let names = RunState::ALL.iter().map(|state| state.as_str());
        let hint = match nearest(text, names.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("states are {}", names.collect::<Vec<_>>().join(", ")),
        };
        fail(Code::Usage, format!("`{text}` is not a state of a run")).hint(hint)
    })
}

const RUNS: &[Column<RunView>] = &[
    Column::new("ID", |run, ui: &Ui| short(&run.id, ui)),
    Column::new("WORKFLOW", |run, _| run.workflow.clone()),
    Column::new("STATE", |run: &RunView, _| run.state.to_string()).tone(|run| tone(run.state)),
    Column::new("AGE", |run: &RunView, ui: &Ui| if ui.is_terminal() { old(run) } else { run.created_at.0.rfc3339() })
        .right(),
    Column::new("ERROR", |run: &RunView, _| run.error.as_ref().map(|error| error.message.clone()).unwrap_or_default()),
];

fn old(run: &RunView) -> String {
    use crate::domain::Clock;
    age(crate::sys::clock::SystemClock.now().since(run.created_at.0))
}

fn short(id: &str, ui: &Ui) -> String {
    if ui.is_terminal() { id[id.len().saturating_sub(8)..].to_owned() } else { id.to_owned() }
}

/// The tone of a run's state.
pub fn tone(state: RunState) -> Option<Tone> {
    match state {
        RunState::Pending => None,
        RunState::Running => Some(Tone::Busy),
        RunState::Paused | RunState::Compensating => Some(Tone::Wait),
        RunState::Completed => Some(Tone::Good),
        RunState::Failed => Some(Tone::Bad),
        RunState::Compensated | RunState::Cancelled => Some(Tone::Faint),
    }
}
