//! `goflow shard add`.

use clap::Args;

use crate::api::shards::ShardView;
use crate::cli::codes::Code;
use crate::cli::context::Context;
use crate::cli::error::{CommandError, Result, fail};
use crate::store::StoreUrl;

/// Add an empty store as a shard
///
/// Takes some seconds: every process knows of the shard before anything is born on it. A store that had no
/// shards becomes shard 0; that needs its workers to be stopped once, because those that began before do not
/// look for shards.
///
/// The URL is kept on all shards as you give it, with its password, so that every process can reach it.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  A second Redis:
    goflow shard add redis://redis-2:6379
  A second key space on the same one, which a Redis Cluster may keep on another node:
    goflow shard add 'redis://redis-1:6379#1'")]
pub struct AddArgs {
    /// The URL of an empty store
    #[arg(value_name = "URL")]
    url: String,
}

pub fn run(context: &Context, args: &AddArgs) -> Result {
    let url: StoreUrl = args.url.parse().map_err(CommandError::from)?;
    if matches!(url, StoreUrl::Memory | StoreUrl::Shards(_)) {
        return Err(fail(
            Code::StoreUrl,
            format!("`{url}` cannot be a shard: it is one store that outlives this command"),
        ));
    }
    context.block_on(async {
        let client = context.sharded_client().await?;
        let id = client.shard_verbs()?.add(&args.url).await?;
        let added = client.shards().await?.shards.into_iter().find(|shard| shard.id == id).map(ShardView::from);
        context.ui.result(&added, &format!("added shard {id}, {url}"))
    })
}
