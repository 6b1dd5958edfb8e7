//! `goflow dlq retry`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::api::dlq::Retried;
use crate::api::{Client, Filter};
use crate::cli::codes::Code;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::{Result, fail};
use crate::domain::JobId;
use crate::domain::text::count;
use crate::store::Stored;

/// Give dead jobs a new life: all their retries, at the end of their queue
///
/// Named jobs are retried at once. All of them, or all that match a filter, are counted first, and
/// you are asked. A job that does a step of a run is left alone: its run decides what is done again.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  One job:
    goflow dlq retry 7c3092b1
  See what would be retried, then do it:
    goflow dlq retry --where 'type:mail* error~timeout' --dry-run
    goflow dlq retry --where 'type:mail* error~timeout' --yes")]
pub struct RetryArgs {
    /// Ids, or any unique parts of them
    #[arg(value_name = "ID", conflicts_with_all = ["all", "filter"], add = ArgValueCompleter::new(complete::dead_jobs))]
    ids: Vec<String>,
    /// Every dead job
    #[arg(long, conflicts_with = "filter")]
    all: bool,
    /// Every dead job that matches, as in 'type:mail* error~timeout age>5m'
    #[arg(long = "where", id = "filter", value_name = "FILTER")]
    filter: Option<String>,
    #[command(flatten)]
    consent: Consent,
}

#[derive(Debug, Args)]
pub struct AllArgs {
    #[command(flatten)]
    consent: Consent,
}

#[derive(Debug, Args)]
struct Consent {
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Only tell what would be done
    #[arg(long)]
    dry_run: bool,
}

impl From<AllArgs> for RetryArgs {
    fn from(args: AllArgs) -> RetryArgs {
        RetryArgs { ids: Vec::new(), all: true, filter: None, consent: args.consent }
    }
}

#[derive(serde::Serialize)]
struct Outcome {
    dry_run: bool,
    retried: Vec<String>,
    /// With what kept it from being retried.
    skipped: Vec<Skipped>,
}

#[derive(serde::Serialize)]
struct Skipped {
    id: String,
    reason: String,
}

pub fn run(context: &Context, args: &RetryArgs) -> Result {
    // `--yes` alone means all: that is how the replaced system's scripts say it.
    let bulk = args.all || args.filter.is_some() || args.consent.yes || args.consent.dry_run;
    if args.ids.is_empty() && !bulk {
        return Err(fail(Code::Usage, "nothing was named to retry").hint("name ids, or use --all or --where FILTER"));
    }
    let filter = Filter::parse(args.filter.as_deref().unwrap_or_default())?;
    context.block_on(async {
        let client = context.client().await?;
        if args.ids.is_empty() {
            retry_matching(context, &client, &filter, &args.consent).await
        } else {
            retry_named(context, &client, &args.ids, args.consent.dry_run).await
        }
    })
}

async fn retry_named(context: &Context, client: &Client, ids: &[String], dry_run: bool) -> Result {
    let mut jobs: Vec<Stored> = Vec::new();
    for id in ids {
        let stored = client.job(id).await?;
        if let Some(link) = &stored.job.link {
            let message = format!("job {} does step `{}` of run {}", stored.job.id, link.step, link.run);
            return Err(fail(Code::StateConflict, message)
                .hint("a step is never retried alone: its run decides what is done again"));
        }
        if jobs.iter().all(|known| known.job.id != stored.job.id) {
            jobs.push(stored);
        }
    }
    let retried = if dry_run { would_retry(&jobs) } else { client.retry(&jobs).await? };
    let nothing = retried.retried.is_empty();
    tell(context, retried.clone(), dry_run)?;
    match retried.held.first() {
        Some((id, holder)) if nothing => {
            Err(fail(Code::KeyHeld, format!("the unique key of job {id} is held by job {holder}")))
        }
        _ if nothing => Err(fail(Code::StateConflict, "nothing was retried: somebody else changed it meanwhile")),
        _ => Ok(()),
    }
}

async fn retry_matching(context: &Context, client: &Client, filter: &Filter, consent: &Consent) -> Result {
    let total = client.dead_count(filter).await?;
    if total > 0 && !consent.dry_run {
        context.ui.confirm(&format!("retry {}?", count(total, "dead job")), consent.yes)?;
    }
    let bar = context.ui.progress(total, "jobs");
    let (mut all, mut after) = (Retried::default(), None);
    loop {
        let (page, next) = client.dead_page(filter, after).await?;
        for batch in page.chunks(500) {
            let retried = if consent.dry_run { would_retry(batch) } else { client.retry(batch).await? };
            bar.inc(batch.len() as u64);
            all.extend(retried);
        }
        match next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    bar.finish_and_clear();
    tell(context, all, consent.dry_run)
}

fn would_retry(jobs: &[Stored]) -> Retried {
    let (steps, others): (Vec<&Stored>, Vec<&Stored>) = jobs.iter().partition(|stored| stored.job.link.is_some());
    let ids = |jobs: Vec<&Stored>| jobs.into_iter().map(|stored| stored.job.id).collect();
    Retried { retried: ids(others), steps: ids(steps), ..Retried::default() }
}

fn tell(context: &Context, retried: Retried, dry_run: bool) -> Result {
    let verb = if dry_run { "would retry" } else { "retried" };
    let mut parts = vec![format!("{verb} {}", count(retried.retried.len() as u64, "job"))];
    let mut part = |n: usize, one: &str, many: &str| match n {
        0 => {}
        1 => parts.push(format!("1 {one}")),
        n => parts.push(format!("{n} {many}")),
    };
    part(retried.steps.len(), "does a step of a run and was left to it", "do steps of runs and were left to them");
    part(
        retried.held.len(),
        "is held back by a live job with its unique key",
        "are held back by live jobs with their unique keys",
    );
    part(retried.changed.len(), "had changed meanwhile", "had changed meanwhile");
    let skip = |id: &JobId, reason: String| Skipped { id: id.to_string(), reason };
    let steps = retried.steps.iter().map(|id| skip(id, "it does a step of a run".to_owned()));
    let held = retried.held.iter().map(|(id, holder)| skip(id, format!("job {holder} holds its unique key")));
    let changed = retried.changed.iter().map(|id| skip(id, "it had changed meanwhile".to_owned()));
    let skipped = steps.chain(held).chain(changed).collect();
    let outcome = Outcome { dry_run, retried: retried.retried.iter().map(JobId::to_string).collect(), skipped };
    context.ui.result(&outcome, &parts.join("; "))
}
