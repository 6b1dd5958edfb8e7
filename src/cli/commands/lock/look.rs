//! `goflow lock list` and `break`; those of `semaphore` are the same.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::api::locks::{HolderView, LOCK_FIELDS, LockView};
use crate::cli::commands::rows::LOCKS;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::cli::select::{self, Limit};
use crate::domain::Name;
use crate::domain::text::count;

/// List locks and semaphores that are held, and by whom
///
/// A lock is a semaphore of one slot, so both are in the list. What nobody holds is not in it. The list is
/// cut at 20, and says so; `-n 0` lists all.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Held for suspiciously long:
    goflow lock list --where 'age>1h'
  Who is in the semaphores:
    goflow semaphore list --where 'slots>1'")]
pub struct ListArgs {
    #[command(flatten)]
    limit: Limit,
    /// Only locks that match, as in 'name:backup* slots:1 age>10m'
    #[arg(long = "where", value_name = "FILTER")]
    filter: Option<String>,
}

pub fn list(context: &Context, args: &ListArgs) -> Result {
    let filter = select::things(args.filter.as_deref(), LOCK_FIELDS)?;
    context.block_on(async {
        let locks = context.client().await?.locks().await?;
        let now = context.clock.now();
        let mut views: Vec<LockView> = locks.into_iter().filter(|lock| filter.matches(lock, now)).collect();
        let cut = args.limit.cut(&mut views);
        context.ui.list(&views, LOCKS)?;
        args.limit.tell_cut(context, "first", cut);
        Ok(())
    })
}

/// Take a lock from those who hold it
///
/// A holder learns of it when it extends: `run` then ends its command. Until then the command goes on
/// beside whoever gets the lock next, so break what has lost its holder, or fence what it writes to.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  The holder's machine is gone, and its hour has not passed:
    goflow lock break nightly-backup
  One holder of a semaphore:
    goflow semaphore break api --holder 4f2a91c3")]
pub struct BreakArgs {
    /// Which lock or semaphore
    #[arg(value_name = "NAME", add = ArgValueCompleter::new(complete::locks))]
    name: Name,
    /// From this holder alone: its id, or any unique part of it
    #[arg(long, value_name = "ID")]
    holder: Option<String>,
}

#[derive(serde::Serialize)]
struct Outcome {
    name: String,
    broken: Vec<HolderView>,
}

pub fn break_lock(context: &Context, args: &BreakArgs) -> Result {
    context.block_on(async {
        let broken = context.client().await?.break_lock(&args.name, args.holder.as_deref()).await?;
        let sentence = format!("took {} from {}", args.name, count(broken.len() as u64, "holder"));
        context.ui.result(&Outcome { name: args.name.to_string(), broken }, &sentence)
    })
}
