//! Pausing and resuming of queues and schedules: which are meant, how many those are, and what changed.
//! Knows nothing of what a pause does.

use clap::Args;
use serde::Serialize;

use super::codes::Code;
use super::context::Context;
use super::error::{CommandError, Result, fail};
use super::select;
use super::verbs::Consent;
use crate::api::queues::QUEUE_FIELDS;
use crate::api::schedules::SCHEDULE_FIELDS;
use crate::api::{ApiError, Client};
use crate::domain::Name;
use crate::domain::text::{count, nearest};

/// `--all`, `--where`, `--yes` and `--dry-run`.
#[derive(Debug, Args)]
pub struct Several {
    /// Every one that there is
    #[arg(long, conflicts_with = "filter")]
    all: bool,
    /// Every one that matches, in the words of the list's own --where
    #[arg(long = "where", id = "filter", value_name = "FILTER")]
    filter: Option<String>,
    #[command(flatten)]
    consent: Consent,
}

/// What can be paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noun {
    Queue,
    Schedule,
}

impl Noun {
    fn word(self) -> &'static str {
        match self {
            Noun::Queue => "queue",
            Noun::Schedule => "schedule",
        }
    }

    fn unknown(self, name: Name) -> ApiError {
        match self {
            Noun::Queue => ApiError::NoQueue(name),
            Noun::Schedule => ApiError::NoSchedule(name),
        }
    }

    /// All that there are, and those of them that the filter means, each with whether it is paused.
    async fn find(self, context: &Context, client: &Client, filter: Option<&str>) -> Result<(Vec<String>, Vec<One>)> {
        let now = context.clock.now();
        Ok(match self {
            Noun::Queue => {
                let filter = select::things(filter, QUEUE_FIELDS)?;
                let all = client.queue_views().await?;
                let meant = all.iter().filter(|view| filter.matches(view, now));
                let meant = meant.map(|view| One { name: view.name.clone(), paused: view.paused }).collect();
                (all.into_iter().map(|view| view.name).collect(), meant)
            }
            Noun::Schedule => {
                let filter = select::things(filter, SCHEDULE_FIELDS)?;
                let all = client.schedules().await?;
                let meant = all.iter().filter(|view| filter.matches(view, now));
                let meant = meant.map(|view| One { name: view.name.clone(), paused: view.paused }).collect();
                (all.into_iter().map(|view| view.name).collect(), meant)
            }
        })
    }
}

struct One {
    name: String,
    paused: bool,
}

#[derive(Serialize)]
struct Outcome {
    dry_run: bool,
    changed: Vec<String>,
    unchanged: Vec<String>,
}

/// Pauses or resumes those that are named, or all that match, and says which that changed.
///
/// # Errors
/// Nothing was named, a name that nothing has, a No, and the store's.
pub fn run(context: &Context, noun: Noun, names: &[Name], several: &Several, paused: bool) -> Result {
    let verb = if paused { "pause" } else { "resume" };
    if names.is_empty() && !several.all && several.filter.is_none() {
        return Err(fail(Code::Usage, format!("nothing was named to {verb}"))
            .hint("give names, or use --all or --where FILTER"));
    }
    if several.filter.as_deref().is_some_and(|filter| filter.trim().is_empty()) {
        let everything = format!("an empty --where names every {}", noun.word());
        return Err(fail(Code::Usage, everything).hint("say --all if that is meant"));
    }
    context.block_on(async {
        let client = context.client().await?;
        let (all, mut meant) = noun.find(context, &client, several.filter.as_deref()).await?;
        if !names.is_empty() {
            known(noun, names, &all)?;
            meant.retain(|one| names.iter().any(|name| name.as_str() == one.name));
            meant.sort_by_key(|one| names.iter().position(|name| name.as_str() == one.name));
        }
        let change = meant.iter().filter(|one| one.paused != paused).count() as u64;
        if names.is_empty() && change > 0 && !several.consent.dry_run {
            context.ui.confirm(&format!("{verb} {}?", count(change, noun.word())), several.consent.yes)?;
        }
        let mut outcome = Outcome { dry_run: several.consent.dry_run, changed: Vec::new(), unchanged: Vec::new() };
        for one in meant {
            let changed = match several.consent.dry_run {
                true => one.paused != paused,
                false => set(&client, noun, &one.name, paused).await?,
            };
            if changed { &mut outcome.changed } else { &mut outcome.unchanged }.push(one.name);
        }
        context.ui.result(&outcome, &sentence(&outcome, paused, noun))
    })
}

/// Nothing is done to any if one of them is not there: its name may be misspelt.
fn known(noun: Noun, names: &[Name], all: &[String]) -> Result {
    let Some(unknown) = names.iter().find(|name| !all.iter().any(|known| known == name.as_str())) else {
        return Ok(());
    };
    let error = CommandError::from(noun.unknown(unknown.clone()));
    Err(match nearest(unknown.as_str(), all.iter().map(String::as_str)) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None if noun == Noun::Queue => error.hint("`goflow queue set` makes a queue before its first job"),
        None => error,
    })
}

async fn set(client: &Client, noun: Noun, name: &str, paused: bool) -> Result<bool> {
    let name: Name = name.parse().map_err(|error| fail(Code::Bug, format!("{error}")))?;
    Ok(match noun {
        Noun::Queue => client.set_paused(&name, paused).await?,
        Noun::Schedule => client.pause_schedule(&name, paused).await?,
    })
}

fn sentence(outcome: &Outcome, paused: bool, noun: Noun) -> String {
    let (verb, already) = match (outcome.dry_run, paused) {
        (false, true) => ("paused", "paused already"),
        (false, false) => ("resumed", "not paused"),
        (true, true) => ("would pause", "paused already"),
        (true, false) => ("would resume", "not paused"),
    };
    let mut parts = Vec::new();
    if !outcome.changed.is_empty() {
        parts.push(format!("{verb} {}", outcome.changed.join(", ")));
    }
    if !outcome.unchanged.is_empty() {
        let were = if outcome.unchanged.len() == 1 { "was" } else { "were" };
        parts.push(format!("{} {were} {already}", outcome.unchanged.join(", ")));
    }
    if parts.is_empty() {
        parts.push(format!("no {} matches", noun.word()));
    }
    parts.join("; ")
}
