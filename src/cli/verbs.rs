//! The verbs on jobs as commands: find, count, ask, do with a bar, and tell what changed. What a verb
//! does to a job is decided in `api`; here is how it is said, and what a cut one leaves behind.

use std::cell::Cell;

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::codes::Code;
use super::context::Context;
use super::error::{CommandError, Result, fail};
use super::select;
use crate::api::told::{imperative, past, predicate, sentence};
use crate::api::verbs::{Acted, BATCH, Left, Plan};
use crate::api::{Client, Filter, Verb};
use crate::domain::text::{count, thousands};
use crate::domain::{JobId, Ms};

/// `--yes` and `--dry-run` of every verb that asks.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Consent {
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Only tell what would be done
    #[arg(long)]
    pub dry_run: bool,
}

/// What is to be done to which jobs.
#[derive(Debug)]
pub struct Order<'a> {
    pub verb: Verb,
    /// Parts of ids; none means that `filter` says which.
    pub ids: &'a [String],
    pub filter: Filter,
    /// What they are called: `dead job`.
    pub noun: &'a str,
    /// Ask even about those that are named.
    pub always_asks: bool,
    /// What has to be typed instead of `y`.
    pub typed: Option<&'a str>,
    pub consent: Consent,
}

/// Nothing was named, or what is left of a `--where` names everything.
///
/// # Errors
/// Usage, when it is so.
pub fn something(verb: Verb, ids: &[String], all: bool, filter: Option<&str>) -> Result {
    let verb = imperative(verb);
    if ids.is_empty() && !all && filter.is_none() {
        return Err(
            fail(Code::Usage, format!("nothing was named to {verb}")).hint("name ids, or use --all or --where FILTER")
        );
    }
    if filter.is_some_and(|filter| filter.trim().is_empty()) {
        return Err(fail(Code::Usage, "an empty --where names every job").hint("say --all if that is meant"));
    }
    Ok(())
}

/// A verb on the jobs that are named, or on all, or on those that match.
///
/// # Errors
/// As [`something`] and [`run`]; a filter that cannot be read.
pub fn on_jobs(
    context: &Context,
    verb: Verb,
    ids: &[String],
    all: bool,
    filter: Option<&str>,
    consent: Consent,
) -> Result {
    something(verb, ids, all, filter)?;
    let filter = select::jobs(filter)?.only_states(verb.states());
    let always_asks = verb == Verb::Delete;
    run(context, &Order { verb, ids, filter, noun: "job", always_asks, typed: None, consent })
}

/// Carries an order out and tells what changed.
///
/// # Errors
/// A No, an interrupt or the store's with what had been done before; a conflict, when jobs were named
/// and nothing could be done to any of them.
pub fn run(context: &Context, order: &Order<'_>) -> Result {
    let done = Cell::new((0, 0));
    let outcome = context.block_on(async {
        let client = context.client().await?;
        if order.ids.is_empty() {
            matching(context, &client, order, &done).await
        } else {
            named(context, &client, order).await
        }
    });
    outcome.map_err(|error| match done.get() {
        (0, _) => error,
        (done, total) => {
            let (past, total) = (past(order.verb), count(total, order.noun));
            // The batch that was on its way may have arrived.
            error.after(&format!("at least {} of {total} had been {past}; the same command goes on", thousands(done)))
        }
    })
}

async fn named(context: &Context, client: &Client, order: &Order<'_>) -> Result {
    let ids = select::ids(client, order.ids).await?;
    if order.always_asks && !order.consent.dry_run {
        let question = format!("{} {}?", imperative(order.verb), count(ids.len() as u64, order.noun));
        context.ui.confirm(&question, order.consent.yes)?;
    }
    // A name is no more than a name: `dlq delete` is for what is dead.
    let meant = (&order.filter, client.clock().now());
    let acted = if order.consent.dry_run {
        would(client, order.verb, &ids, meant).await?
    } else {
        client.act(order.verb, &ids, Some(meant)).await?
    };
    let first = acted.left.first().filter(|_| acted.touched() == 0).cloned();
    match first {
        // Of several that could not be moved each has its reason in the sentence.
        Some((id, left)) if acted.left.len() == 1 => Err(refused(order.verb, id, &left)),
        Some(_) => Err(fail(Code::StateConflict, sentence(order.verb, &acted, order.consent.dry_run))),
        None => tell(context, order, &acted),
    }
}

/// What a verb would do to named jobs.
async fn would(client: &Client, verb: Verb, ids: &[JobId], meant: (&Filter, Ms)) -> Result<Acted> {
    let now = client.clock().now();
    let mut acted = Acted::default();
    for ids in ids.chunks(BATCH) {
        for (id, stored) in ids.iter().zip(client.store().get(ids).await?) {
            match stored.map_or(Err(Left::Gone), |stored| verb.plan_of(&stored, Some(meant), now)) {
                Ok(Plan::Move(_)) => acted.done.push(*id),
                Ok(Plan::Ask) => acted.asked.push(*id),
                Err(left) => acted.left.push((*id, left)),
            }
        }
    }
    Ok(acted)
}

async fn matching(context: &Context, client: &Client, order: &Order<'_>, done: &Cell<(u64, u64)>) -> Result {
    let now = client.clock().now();
    let looking = context.ui.progress(0, "jobs looked at");
    let plan = client.survey(order.verb, &order.filter, now, |more| looking.inc(more)).await;
    looking.finish_and_clear();
    let plan = plan?;
    let total = plan.touched() as u64;
    if order.consent.dry_run {
        return tell(context, order, &plan);
    }
    if total > 0 {
        let question = format!("{} {}?", imperative(order.verb), count(total, order.noun));
        match order.typed {
            Some(word) => context.ui.confirm_typed(&question, word, order.consent.yes)?,
            None => context.ui.confirm(&question, order.consent.yes)?,
        }
    }
    let bar = context.ui.progress(total, "jobs");
    let ids: Vec<JobId> = plan.done.into_iter().chain(plan.asked).collect();
    let mut acted = Acted { left: plan.left, ..Acted::default() };
    for ids in ids.chunks(BATCH) {
        acted.extend(client.act(order.verb, ids, Some((&order.filter, now))).await?);
        bar.inc(ids.len() as u64);
        done.set((acted.touched() as u64, total));
    }
    bar.finish_and_clear();
    tell(context, order, &acted)
}

fn tell(context: &Context, order: &Order<'_>, acted: &Acted) -> Result {
    #[derive(Serialize)]
    struct Skipped {
        id: String,
        reason: String,
    }
    let skipped: Vec<Skipped> = acted
        .left
        .iter()
        .map(|(id, left)| Skipped { id: id.to_string(), reason: format!("it {}", predicate(order.verb, left)) })
        .collect();
    let mut outcome = Map::new();
    outcome.insert("dry_run".to_owned(), order.consent.dry_run.into());
    let texts = |ids: &[JobId]| ids.iter().map(|id| id.to_string().into()).collect::<Vec<Value>>();
    outcome.insert(past(order.verb).to_owned(), texts(&acted.done).into());
    if order.verb == Verb::Cancel {
        outcome.insert("asked".to_owned(), texts(&acted.asked).into());
    }
    outcome.insert("skipped".to_owned(), json!(skipped));
    context.ui.result(&outcome, &sentence(order.verb, acted, order.consent.dry_run))
}

/// The error for a named job to which nothing could be done.
pub fn refused(verb: Verb, id: JobId, left: &Left) -> CommandError {
    let failed = fail(Code::from(left), format!("job {id} {}", predicate(verb, left)));
    match left {
        Left::Step { .. } => failed.hint("a step is never moved alone: its run decides what is done again"),
        Left::Held(_) => failed.hint("it is free again when that job has ended, and its --unique-for is over"),
        Left::Gone => failed,
        Left::State(_) | Left::Outside(_) | Left::Asked | Left::Changed => {
            failed.hint(format!("`goflow job show {}` tells how it is now", id.short()))
        }
    }
}
