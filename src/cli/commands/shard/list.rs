//! `goflow shard list`.

use clap::Args;

use crate::api::shards::{SHARD_FIELDS, ShardView};
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::cli::output::{Column, Listed, Tone};
use crate::cli::select;
use crate::domain::text::thousands;

/// List the shards: their state, what waits on each, who works there
///
/// Shards that were removed stay in the list, because ids of jobs name them. Numbers of a shard that does
/// not answer are the last that were known.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Is one away, or left without a worker?
    goflow shard list
  What still lies on shard 2:
    goflow shard list -o json | jq '.[2]'
  Shards with work and without a worker:
    goflow shard list --where 'workers:0 pending>0'")]
pub struct ListArgs {
    /// Only shards that match, as in 'state:draining pending>0 workers:0'
    #[arg(long = "where", value_name = "FILTER")]
    filter: Option<String>,
}

type S = Column<ShardView>;

const SHARDS: &[Column<ShardView>] = &[
    S::new("SHARD", |shard, _| shard.id.clone()),
    S::new("STATE", |shard, _| match (&shard.trouble, shard.moved_to) {
        (Some(_), _) => "away".to_owned(),
        (None, Some(to)) => format!("{} to {to}", shard.state),
        (None, None) => shard.state.clone(),
    })
    .tone(|shard| match (&shard.trouble, shard.state.as_str()) {
        (Some(_), _) => Some(Tone::Bad),
        (None, "active") => Some(Tone::Good),
        (None, "removed") => Some(Tone::Faint),
        _ => Some(Tone::Wait),
    }),
    S::new("PENDING", |shard, _| thousands(shard.pending)).right(),
    S::new("RUNNING", |shard, _| thousands(shard.running)).right(),
    S::new("RETRYING", |shard, _| thousands(shard.retrying)).right(),
    S::new("SCHEDULED", |shard, _| thousands(shard.scheduled)).right(),
    S::new("DEAD", |shard, _| thousands(shard.dead)).right().tone(|shard| (shard.dead > 0).then_some(Tone::Bad)),
    S::new("FINISHED", |shard, _| thousands(shard.finished)).right(),
    S::new("RUNS", |shard, _| thousands(shard.runs)).right(),
    S::new("SCHEDULES", |shard, _| thousands(shard.schedules)).right().wide(),
    S::new("LOCKS", |shard, _| thousands(shard.locks)).right().wide(),
    S::new("WORKERS", |shard, _| thousands(shard.workers)).right(),
    S::new("URL", |shard, _| shard.url.clone()),
    S::new("TROUBLE", |shard, _| shard.trouble.clone().unwrap_or_default()).wide(),
];

impl Listed for ShardView {
    fn name(&self) -> &str {
        &self.id
    }
}

pub fn run(context: &Context, args: &ListArgs) -> Result {
    let filter = select::things(args.filter.as_deref(), SHARD_FIELDS)?;
    context.block_on(async {
        let client = context.client().await?;
        if client.store().shards().is_none() {
            context.ui.whisper(&format!("{} is one store, without shards", client.store().describe()));
            return context.ui.list(&Vec::<ShardView>::new(), SHARDS);
        }
        let list = client.shards().await?;
        context.ui.whisper(&format!("map {}, {}", list.epoch, list.strategy));
        let now = context.clock.now();
        let views = list.shards.into_iter().map(ShardView::from).filter(|view| filter.matches(view, now));
        let views: Vec<ShardView> = views.collect();
        context.ui.list(&views, SHARDS)
    })
}
