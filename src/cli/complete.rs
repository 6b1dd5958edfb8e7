//! Completion: the shell asks, goflow answers with commands, flags, and the live names of the store.
//! A store that cannot be reached in time has no names, and a shell must never be told why.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, ValueEnum};
use clap_complete::{CompleteEnv, CompletionCandidate};

use super::args::{Cli, Global};
use super::codes::{Code, exit};
use super::commands::get::KindArg;
use super::context::{Context, runtime};
use crate::api::filter::JOB_FIELDS;
use crate::api::{Client, Filter, Verb};
use crate::domain::JobState;
use crate::store::StoreUrl;
use crate::sys::env::Env;
use crate::tui::views::View;
use crate::workflow::manifest::Kind;

/// A person waits with a finger on the Tab key.
const PATIENCE: Duration = Duration::from_millis(150);
/// More are of no use on a screen.
const MOST: usize = 50;

/// Answers a request of the shell's.
pub fn answer(args: Vec<OsString>) -> ExitCode {
    let folder = std::env::current_dir().ok();
    match CompleteEnv::with_factory(Cli::command).try_complete(args, folder.as_deref()) {
        Ok(_) => ExitCode::from(exit::DONE),
        Err(_) => ExitCode::from(exit::USAGE),
    }
}

/// States, by their own names.
pub fn states(current: &OsStr) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    let names = JobState::ALL.iter().map(|state| state.as_str()).filter(|name| name.starts_with(&*current));
    names.map(CompletionCandidate::new).collect()
}

/// The views of the console.
pub fn views(current: &OsStr) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy().to_lowercase();
    let names = View::TABS.iter().map(|view| view.title().to_lowercase()).filter(|name| name.starts_with(&current));
    names.map(CompletionCandidate::new).collect()
}

/// Error codes with their titles.
pub fn codes(current: &OsStr) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy().to_uppercase();
    let codes = Code::ALL.iter().filter(|code| code.as_str().starts_with(&current));
    codes.map(|code| CompletionCandidate::new(code.as_str()).help(Some(code.title().into()))).collect()
}

/// Names of queues.
pub fn queues(current: &OsStr) -> Vec<CompletionCandidate> {
    starting_with(current, queue_names().into_iter())
}

fn queue_names() -> Vec<String> {
    let found = ask(|client| async move { client.store().queues().await.ok() });
    found.unwrap_or_default().into_iter().map(|(name, _)| name.to_string()).collect()
}

/// Job types: what applied handlers and registered workers know.
pub fn types(current: &OsStr) -> Vec<CompletionCandidate> {
    starting_with(current, type_names().into_iter())
}

fn type_names() -> BTreeSet<String> {
    let found = ask(|client| async move {
        let handlers = client.store().definitions("handler").await.ok()?.into_iter().map(|one| one.name.to_string());
        let workers = client.workers().await.ok()?.into_iter().flat_map(|worker| worker.types);
        Some(handlers.chain(workers).filter(|name| !name.starts_with("goflow:")).collect())
    });
    found.unwrap_or_default()
}

/// Ids of workers.
pub fn workers(current: &OsStr) -> Vec<CompletionCandidate> {
    let found = ask(|client| async move { client.workers().await.ok() }).unwrap_or_default();
    let named = found.into_iter().map(|worker| (worker.id, worker.host));
    by_short_id(&current.to_string_lossy(), named)
}

/// Names of definitions, of the kind among the words typed before, or of all kinds.
pub fn definitions(current: &OsStr) -> Vec<CompletionCandidate> {
    let words: Vec<String> = std::env::args().collect();
    let typed = words.iter().find_map(|word| KindArg::from_str(word, true).ok()).map(Kind::from);
    let found = ask(|client| async move {
        let mut names = Vec::new();
        for kind in Kind::ALL.iter().copied().filter(|kind| typed.is_none_or(|typed| typed == *kind)) {
            names.extend(client.definitions(kind).await.ok()?.into_iter().map(|one| one.name.to_string()));
        }
        Some(names)
    });
    starting_with(current, found.unwrap_or_default().into_iter())
}

/// Names of webhooks.
pub fn webhooks(current: &OsStr) -> Vec<CompletionCandidate> {
    let found = ask(|client| async move { client.definitions(Kind::Webhook).await.ok() });
    starting_with(current, found.unwrap_or_default().into_iter().map(|hook| hook.name.to_string()))
}

/// Names of schedules.
pub fn schedules(current: &OsStr) -> Vec<CompletionCandidate> {
    let found = ask(|client| async move { client.schedules().await.ok() });
    starting_with(current, found.unwrap_or_default().into_iter().map(|schedule| schedule.name))
}

/// Names of locks that are held.
pub fn locks(current: &OsStr) -> Vec<CompletionCandidate> {
    let found = ask(|client| async move { client.locks().await.ok() });
    starting_with(current, found.unwrap_or_default().into_iter().map(|lock| lock.name))
}

/// Names of workflows that were applied.
pub fn workflows(current: &OsStr) -> Vec<CompletionCandidate> {
    let found = ask(|client| async move { client.definitions(Kind::Workflow).await.ok() });
    starting_with(current, found.unwrap_or_default().into_iter().map(|one| one.name.to_string()))
}

/// Ids of runs, what is live first.
pub fn runs(current: &OsStr) -> Vec<CompletionCandidate> {
    let part = current.to_string_lossy().into_owned();
    let found = ask(|client| async move {
        let runs = client.runs(None, None, MOST).await.ok()?.runs;
        Some(runs.into_iter().map(|run| (run.id, format!("{} {}", run.state, run.workflow))).collect::<Vec<_>>())
    });
    by_short_id(&part, found.unwrap_or_default().into_iter())
}

/// Ids of jobs, what is live first.
pub fn jobs(current: &OsStr) -> Vec<CompletionCandidate> {
    jobs_that_match(current, Filter::default())
}

/// Ids of jobs that have not ended.
pub fn live_jobs(current: &OsStr) -> Vec<CompletionCandidate> {
    jobs_that_match(current, Filter::default().only_states(Verb::Cancel.states()))
}

/// Ids of dead jobs.
pub fn dead_jobs(current: &OsStr) -> Vec<CompletionCandidate> {
    jobs_that_match(current, Filter::default().only_states(&[JobState::Dead]))
}

fn jobs_that_match(current: &OsStr, filter: Filter) -> Vec<CompletionCandidate> {
    let part = current.to_string_lossy().into_owned();
    let typed = part.clone();
    let found = ask(|client| async move {
        let jobs = if typed.is_empty() {
            client.jobs(&filter, MOST).await.ok()?.jobs
        } else {
            let digits: String = typed.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
            let ids = client.store().find(&digits, MOST).await.ok()?;
            let now = client.clock().now();
            let found = client.store().get(&ids).await.ok()?.into_iter().flatten();
            found.filter(|stored| filter.matches(stored, now)).collect()
        };
        let described = |stored: &crate::store::Stored| {
            let help = format!("{} {}", stored.place.state(), stored.job.kind);
            (stored.job.id.to_string(), help)
        };
        Some(jobs.iter().map(described).collect::<Vec<_>>())
    });
    by_short_id(&part, found.unwrap_or_default().into_iter())
}

/// The short form is what lists show, so it is what people begin to type.
fn by_short_id(part: &str, named: impl Iterator<Item = (String, String)>) -> Vec<CompletionCandidate> {
    let candidates = named.filter_map(|(id, help)| {
        let short = id[id.len() - 8..].to_owned();
        let text = if short.starts_with(part) { short } else { id };
        text.starts_with(part).then(|| CompletionCandidate::new(text).help(Some(help.into())))
    });
    candidates.take(MOST).collect()
}

/// The last word of a filter over jobs: its field, or a value that the store knows.
pub fn filter(current: &OsStr) -> Vec<CompletionCandidate> {
    let typed = current.to_string_lossy().into_owned();
    let (before, word) = typed.rsplit_once(' ').map_or(("", typed.as_str()), |(before, word)| (before, word));
    let glue = if before.is_empty() { String::new() } else { format!("{before} ") };
    let (mark, bare) = word.strip_prefix('!').map_or(("", word), |bare| ("!", bare));
    let words: Vec<String> = match bare.split_once(':') {
        None => JOB_FIELDS.iter().map(|field| field.shown()).collect(),
        Some(("state", _)) => JobState::ALL.iter().map(|state| format!("state:{state}")).collect(),
        Some(("queue", _)) => queue_names().into_iter().map(|name| format!("queue:{name}")).collect(),
        Some(("type", _)) => type_names().into_iter().map(|name| format!("type:{name}")).collect(),
        Some(_) => Vec::new(),
    };
    let words = words.into_iter().filter(|word| word.starts_with(bare)).take(MOST);
    words.map(|word| CompletionCandidate::new(format!("{glue}{mark}{word}"))).collect()
}

fn starting_with(current: &OsStr, names: impl Iterator<Item = String>) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    names.filter(|name| name.starts_with(&*current)).take(MOST).map(CompletionCandidate::new).collect()
}

/// Asks the store that the command line being typed would use.
fn ask<T, F>(question: impl FnOnce(Client) -> F) -> Option<T>
where
    F: Future<Output = Option<T>>,
{
    let mut global = typed_flags();
    global.output = super::args::Format::Json;
    let context = Context::silent(Env::of_process(), global);
    if matches!(context.store_choice().ok()?.0, StoreUrl::Sqlite(path) if !path.exists()) {
        // To open it would make it.
        return None;
    }
    let runtime = runtime(tokio::runtime::Builder::new_current_thread()).ok()?;
    let answer = runtime.block_on(async {
        let asked = async { question(context.client().await.ok()?).await };
        tokio::time::timeout(PATIENCE, asked).await.ok().flatten()
    });
    runtime.shutdown_background();
    answer
}

/// The global flags among the words typed so far.
fn typed_flags() -> Global {
    let words: Vec<String> = std::env::args().skip_while(|word| word != "--").skip(1).collect();
    let value = |name: &str| {
        let joined = words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        joined.or_else(|| words.windows(2).find(|pair| pair[0] == name).map(|pair| pair[1].as_str())).map(str::to_owned)
    };
    Global {
        store: value("--store"),
        redis: value("--redis"),
        server: value("--server"),
        token_file: value("--token-file").map(Into::into),
        config: value("--config").map(Into::into),
        allow_eviction: words.iter().any(|word| word == "--allow-eviction"),
        ..Global::default()
    }
}
