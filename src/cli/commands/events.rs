//! `goflow events`.

use clap::Args;

use super::rows::EVENTS;
use crate::api::events::EVENT_FIELDS;
use crate::api::{Client, EventView};
use crate::cli::args::Format;
use crate::cli::codes::{Code, exit};
use crate::cli::context::Context;
use crate::cli::error::{CommandError, Result};
use crate::cli::select::{self, Limit};
use crate::cli::ui::Ui;
use crate::store::Cursor;

/// Show what happened: jobs, runs, workers and queues, oldest first
///
/// The latest 20 events, unless -n says how many; 0 means all that are kept. With -f new ones are
/// printed as they come, until Ctrl-C.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Read along, from now on:
    goflow events -f
  Every death of the last hour, for a program:
    goflow events -n 0 -j --where 'type:job.dead age<1h'
  The history of one job:
    goflow events -n 0 --where 'job:7c3092b1'")]
pub struct EventsArgs {
    /// Go on with new events as they come
    #[arg(short, long)]
    follow: bool,
    /// One JSON object a line (the same as -o jsonl)
    #[arg(short, long)]
    json: bool,
    #[command(flatten)]
    limit: Limit,
    /// Only events that match, as in 'type:job.* queue:mail job:7c3092b1 age<1h'
    #[arg(long = "where", value_name = "FILTER")]
    filter: Option<String>,
}

pub fn run(context: &Context, args: &EventsArgs) -> Result {
    let filter = select::things(args.filter.as_deref(), EVENT_FIELDS)?;
    let mut ui = context.ui.clone();
    if args.json || (args.follow && ui.format == Format::Json) {
        // An array that never ends is no JSON.
        ui.format = Format::Jsonl;
    }
    let outcome = context.block_on(async {
        let client = context.client().await?;
        let page = client.latest_events(&filter, args.limit.limit).await?;
        if !args.follow {
            ui.list(&page.events, EVENTS)?;
            args.limit.tell_cut(context, "latest", page.cut);
            return Ok(());
        }
        ui.rows(&page.events, EVENTS)?;
        follow(&ui, &client, &filter, page.next).await
    });
    match outcome {
        // Ctrl-C is how reading along ends.
        Err(CommandError::Told(told)) if args.follow && told.code == Code::Interrupted => {
            Err(CommandError::Silent(exit::INTERRUPTED))
        }
        outcome => outcome,
    }
}

async fn follow(ui: &Ui, client: &Client, filter: &crate::api::filter::Where<EventView>, from: Cursor) -> Result {
    let mut after = from;
    loop {
        let (events, next) = client.next_events(filter, &after).await?;
        ui.rows(&events, EVENTS)?;
        after = next;
    }
}
