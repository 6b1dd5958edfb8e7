//! `goflow shard drain`, and what it shares with `goflow scale`.

use clap::Args;

use crate::api::Client;
use crate::api::shards::Drained;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::domain::text::count;
use crate::store::{Carried, Left};

/// Let a shard run empty: it takes no new work, and what it holds is done
///
/// Ends when nothing is left there that waits or runs. With --move its jobs are carried to another shard,
/// scheduled, dead and finished ones too, with what they have printed, its runs with their histories, and its
/// schedules. A run one of whose steps runs goes once that has ended, and jobs that wait for others (--after) go
/// with these once none of them runs. Interrupted, it goes on draining; said
/// again, this command goes on looking and carrying.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Empty shard 3 and take it away:
    goflow shard drain 3 --move && goflow shard remove 3")]
pub struct DrainArgs {
    /// The number of the shard
    #[arg(value_name = "SHARD")]
    id: u16,
    /// Carry what lies there to another shard
    #[arg(long = "move")]
    carry: bool,
    /// The shard to carry it to [default: where the least waits]
    #[arg(long, value_name = "SHARD", requires = "carry")]
    to: Option<u16>,
}

#[derive(serde::Serialize)]
struct Outcome {
    shard: u16,
    moved_to: Option<u16>,
    jobs_moved: u64,
    schedules_moved: u64,
    runs_moved: u64,
    /// What is still there: dead and finished jobs, runs that have ended, held locks.
    left: u64,
    /// Runs that cannot be moved: too large for one step, or not to be read.
    runs_stuck: u64,
}

pub fn run(context: &Context, args: &DrainArgs) -> Result {
    context.block_on(async {
        let client = context.client().await?;
        let into = if args.carry { Some(target(&client, args.id, args.to).await?) } else { None };
        let drained = drain(context, &client, args.id, into).await?;
        let outcome = Outcome {
            shard: args.id,
            moved_to: into,
            jobs_moved: drained.carried.jobs,
            schedules_moved: drained.carried.schedules,
            runs_moved: drained.carried.runs,
            runs_stuck: drained.carried.stuck,
            left: drained.left.all(),
        };
        context.ui.result(&outcome, &sentence(args.id, into, &drained))
    })
}

/// Where a shard is carried to: as asked, else where that was begun, else where the least waits.
pub async fn target(client: &Client, id: u16, asked: Option<u16>) -> Result<u16> {
    match asked {
        Some(asked) => Ok(asked),
        None => Ok(client.shard_to_carry_to(id).await?),
    }
}

/// Drains with a bar.
pub async fn drain(context: &Context, client: &Client, id: u16, into: Option<u16>) -> Result<Drained> {
    let start = client.shard_verbs()?.left(id).await?;
    let matters = |left: &Left| if into.is_some() { left.all() } else { left.work() };
    let total = matters(&start);
    // What it says changes.
    let bar = context.ui.progress(total.max(1), "{msg}");
    bar.set_message("left the shard");
    let drained = client.drain_shard(id, into, |drained| {
        bar.set_position(total.saturating_sub(matters(&drained.left)));
        if into.is_some() {
            bar.set_message(waits(drained));
        }
    });
    let drained = drained.await;
    bar.finish_and_clear();
    Ok(drained?)
}

/// What the bar says: what has left, and what keeps the rest.
fn waits(drained: &Drained) -> String {
    let (left, Carried { stuck, held, .. }) = (&drained.left, drained.carried);
    let mut text = "left the shard".to_owned();
    if left.runs > 0 && left.running > 0 {
        text = format!("{text}; {} until their steps have ended", waiting("run", left.runs));
    }
    if held > 0 {
        text = format!("{text}; {} for others that run", waiting("job", held));
    }
    if stuck > 0 {
        text = format!("{text}; {} that cannot be moved", count(stuck, "run"));
    }
    text
}

fn waiting(what: &str, many: u64) -> String {
    format!("{} {}", count(many, what), if many == 1 { "waits" } else { "wait" })
}

fn sentence(id: u16, into: Option<u16>, drained: &Drained) -> String {
    let mut text = format!("nothing waits or runs on shard {id}");
    if let Some(into) = into {
        let Carried { jobs, runs, .. } = drained.carried;
        text = format!("{text}; {} and {} went to shard {into}", count(jobs, "job"), count(runs, "run"));
    }
    if drained.left.locks > 0 {
        text = format!("{text}; {} held there", count(drained.left.locks, "lock"));
    }
    match drained.left.all() - drained.left.locks {
        0 => text,
        left => format!("{text}; {left} that have ended are still kept there"),
    }
}
