//! `goflow run`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueHint};
use tokio::time::Instant;

use super::enqueue;
use super::worker::{STOPPING, Stop};
use super::workflow::source;
use crate::api::runs::Beginning;
use crate::api::{ApiError, Client, RunView};
use crate::cli::codes::Code;
use crate::cli::context::{Context, runtime};
use crate::cli::error::{CommandError, Result, fail};
use crate::cli::manifests::Found;
use crate::cli::output::Listed;
use crate::cli::tree::Tree;
use crate::cli::{handlers, log, manifests};
use crate::domain::limits::LIST_BUDGET;
use crate::domain::text::display_safe;
use crate::domain::{Json, Name, RunId, RunState};
use crate::engine::{Worker, WorkerOptions};
use crate::store::Cursor;
use crate::workflow::{self, Manifest};

/// Between two looks at the run that is followed: while it moves, and else.
const SOON: Duration = Duration::from_millis(20);
const LATER: Duration = Duration::from_millis(100);

/// Run a workflow to its end: apply the file, start it, work, and follow it
///
/// Works on the store in use, so other workers may take part, and the run survives this command:
/// `goflow run --id ID` takes up one that was cut, and so does any worker that serves every queue.
/// Steps that name no queue wait on one of this command's own (`run.1`, `run.2` ...), so that the run
/// is not behind what waits on the others. Ends with 0 when the run completed, else with 1. With
/// -o json the run alone is on stdout.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  A saga that ends well, and one that is undone:
    goflow run workflows/order-saga.yaml
    goflow run workflows/order-saga.yaml -i '{\"amount\": 12000}'
  Its output alone:
    goflow run workflows/order-saga.yaml -o json | jq .output
  Take up a run that was cut:
    goflow run --id 7c3092b1")]
pub struct RunArgs {
    /// The manifest; - for standard input
    #[arg(value_name = "FILE", required_unless_present = "id", value_hint = ValueHint::FilePath)]
    file: Option<PathBuf>,
    /// The input: JSON, @FILE, or - for standard input
    #[arg(short, long, value_name = "JSON", conflicts_with = "id")]
    input: Option<String>,
    /// Which workflow of the file, if it holds several
    #[arg(long, value_name = "NAME", requires = "file")]
    workflow: Option<Name>,
    /// Take up this run instead of starting one
    #[arg(long, value_name = "ID", conflicts_with = "file")]
    id: Option<String>,
    /// Steps at the same time [default: `worker.concurrency` of the configuration, else 10]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: Option<u32>,
}

impl Listed for RunView {
    fn name(&self) -> &str {
        &self.id
    }
}

pub fn run(context: &Context, args: RunArgs) -> Result {
    // The steps themselves tell what fails.
    log::start(context, true)?;
    let plan = match &args.file {
        Some(file) => Some(Plan::read(context, &args, file)?),
        None => None,
    };
    let runtime = runtime(tokio::runtime::Builder::new_multi_thread())?;
    runtime.block_on(async {
        let client = context.client().await?;
        let run = match (plan, &args.id) {
            (Some(plan), _) => plan.start(&client).await?,
            (None, Some(part)) => take_up(&client, part).await?,
            (None, None) => return Err(fail(Code::Usage, "FILE is missing")),
        };
        work_and_follow(context, &client, run, args.concurrency).await
    })
}

/// A run to work on and to follow.
struct Followed {
    id: RunId,
    queues: BTreeSet<Name>,
    /// What its header says counts from beyond this `rev` on: before, there is news that it has not taken.
    after: u64,
}

/// What the file asks for.
struct Plan {
    found: Found,
    workflow: workflow::Definition,
    input: Json,
}

impl Plan {
    fn read(context: &Context, args: &RunArgs, file: &PathBuf) -> Result<Plan> {
        if file.is_dir() {
            return Err(fail(Code::Unreadable, format!("{} is a folder, not a file", file.display())));
        }
        if file.as_os_str() == "-" && args.input.as_deref() == Some("-") {
            let told = fail(Code::Usage, "FILE and the input are both to be read from standard input");
            return Err(told.hint("give one of them as a file: `-i @FILE`"));
        }
        let found = manifests::read_all(&context.ui, std::slice::from_ref(file))?;
        let workflows = found.manifests.iter().filter_map(|manifest| match manifest {
            Manifest::Workflow(definition) => Some(definition.clone()),
            _ => None,
        });
        let (workflow, _) = source::pick(workflows.collect(), args.workflow.as_ref(), &file.display().to_string())?;
        let input = enqueue::input(args.input.as_deref())?;
        Ok(Plan { found, workflow, input })
    }

    async fn start(self, client: &Client) -> Result<Followed> {
        manifests::check_references(client, &self.found).await?;
        let plan = client.plan(self.found.manifests).await?;
        client.apply(&plan).await?;
        // Its own, so that the run is not behind whatever waits on the shared ones.
        let queue = client.foreground_queue().await?;
        let beginning = Beginning { queue: Some(queue.clone()), ..Beginning::default() };
        let id = client.begin(&self.workflow, self.input, beginning).await?.id;
        let pins = client.run_header(id).await?.pins;
        Ok(Followed { id, queues: queues_of(client, &self.workflow, &pins, &queue).await?, after: 0 })
    }
}

async fn take_up(client: &Client, part: &str) -> Result<Followed> {
    let id = client.find_run(part).await?;
    let run = client.run_header(id).await?;
    let missing = || fail(Code::NotFound, format!("the definition of run {id} is not in the store"));
    let kept = client.store().definition(&run.version).await?.ok_or_else(missing)?;
    let definition = workflow::Definition::load(&kept.text).map_err(|problems| manifests::wrong(&problems.0))?;
    let default: Name = "default".parse().map_err(|error| fail(Code::Bug, format!("{error}")))?;
    let queues = queues_of(client, &definition, &run.pins, run.queue.as_ref().unwrap_or(&default)).await?;
    // It may have been told to go on, and nobody has looked yet.
    let after = if run.state.is_terminal() { client.knock(id).await? } else { 0 };
    Ok(Followed { id, queues, after })
}

/// The queues on which steps of the run wait, at any depth and in the runs that it may call: others are
/// left to other workers.
async fn queues_of(
    client: &Client,
    definition: &workflow::Definition,
    pins: &BTreeMap<Name, String>,
    default: &Name,
) -> Result<BTreeSet<Name>> {
    let named = |definition: &workflow::Definition| -> Vec<Name> {
        definition.spec().all_steps().into_iter().filter_map(|step| step.queue.clone()).collect()
    };
    let mut queues: BTreeSet<Name> = named(definition).into_iter().chain([default.clone()]).collect();
    for version in pins.values() {
        if let Some(kept) = client.store().definition(version).await? {
            let called = workflow::Definition::load(&kept.text).map_err(|problems| manifests::wrong(&problems.0))?;
            queues.extend(named(&called));
        }
    }
    Ok(queues)
}

async fn work_and_follow(
    context: &Context,
    client: &Client,
    Followed { id, queues, after }: Followed,
    concurrency: Option<u32>,
) -> Result {
    let (handlers, machine) = handlers::all(context, Arc::new(log::StderrLog::new(context.global.verbose)))?;
    handlers::sweep(context, &machine).await;
    let options = WorkerOptions {
        concurrency: concurrency.unwrap_or(context.config()?.concurrency()) as usize,
        queues: queues.into_iter().map(|queue| (queue, None)).collect(),
        shutdown_timeout: context.config()?.shutdown_timeout(),
        lease: context.config()?.lease(),
        host: crate::sys::host::name(),
        pid: std::process::id(),
        spans: context.spans()?,
        ..WorkerOptions::default()
    };
    // What is said about a stop goes above the tree, not across it.
    let mut quiet = context.ui.clone();
    quiet.silence();
    let stop = Stop::watch(quiet)?;
    let mut stopping = false;
    let worker = Worker::new(client.store().clone(), options, handlers, context.clock.clone(), context.entropy.clone());
    let mut working = tokio::spawn(worker.run(stop.gently.clone(), stop.at_once.clone()));
    let mut tree = Tree::new(&context.ui, id);
    let mut hints = client.store().hints();
    let (mut seen, mut still) = (Seen::default(), Still::new());
    let ended = loop {
        let before = seen.rev;
        match look(context, client, id, &mut tree, &mut seen).await {
            Ok(true) if seen.rev > after => break true,
            Ok(_) => still.look(client, id, seen.rev, &tree).await,
            // The worker waits for the store too; whoever follows does not give up before it.
            Err(ApiError::Store(error)) if error.is_transient() => {}
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            biased;
            result = &mut working => {
                result.map_err(|error| fail(Code::Bug, format!("the worker broke: {error}")))??;
                break false;
            }
            () = stop.gently.cancelled(), if !stopping => {
                stopping = true;
                tree.say(STOPPING);
            }
            _ = hints.changed() => tokio::time::sleep(SOON).await,
            // What has moved may move again soon.
            () = tokio::time::sleep(if seen.rev == before { LATER } else { SOON }) => {}
        }
    };
    tree.finish();
    if !ended {
        let told = fail(Code::Interrupted, format!("interrupted; run {id} has not ended"));
        return Err(told.hint(format!("`goflow run --id {}` takes it up, and so does any worker", id.short())));
    }
    stop.gently.cancel();
    working.await.map_err(|error| fail(Code::Bug, format!("the worker broke: {error}")))??;
    tell(context, &client.run(id).await?)
}

/// Says once what holds up a run that stands still.
struct Still {
    rev: u64,
    next: Instant,
    told: BTreeSet<String>,
}

impl Still {
    /// A run that does not move for so long is looked at, and then every so often.
    const LOOK: Duration = Duration::from_secs(2);
    const AGAIN: Duration = Duration::from_secs(10);

    fn new() -> Still {
        Still { rev: 0, next: Instant::now() + Still::LOOK, told: BTreeSet::new() }
    }

    async fn look(&mut self, client: &Client, id: RunId, rev: u64, tree: &Tree<'_>) {
        let (now, moved) = (Instant::now(), std::mem::replace(&mut self.rev, rev) != rev);
        if !moved && now < self.next {
            return;
        }
        self.next = now + if moved { Still::LOOK } else { Still::AGAIN };
        if moved {
            return;
        }
        // It is only told: whatever fails here fails elsewhere too.
        for why in client.held_up(id).await.unwrap_or_default() {
            let why = why.to_string();
            if !self.told.contains(&why) {
                tree.say(&format!("run {}: {}", id.short(), display_safe(&why)));
                self.told.insert(why);
            }
        }
    }
}

/// How far a run was followed.
#[derive(Default)]
struct Seen {
    rev: u64,
    /// How much of its history was told.
    told: Option<Cursor>,
}

/// Looks at the run and shows what is new; answers whether it has ended.
async fn look(
    context: &Context,
    client: &Client,
    id: RunId,
    tree: &mut Tree<'_>,
    seen: &mut Seen,
) -> std::result::Result<bool, ApiError> {
    let mut run = client.run_header(id).await?;
    if tree.draws(run.steps.len()) {
        // Times go on, and jobs begin and fail, even when the run learns nothing.
        run = client.run_now(id).await?;
        tree.draw(&run, context.clock.now());
    } else if run.rev != seen.rev {
        // A page after the other: a run of many steps is not held in memory to be told.
        let mut is_last = false;
        while !is_last {
            let (events, next) = client.store().history(id, seen.told.as_ref(), LIST_BUDGET).await?;
            is_last = events.len() < LIST_BUDGET;
            tree.tell(&events);
            seen.told = Some(next);
        }
    }
    seen.rev = run.rev;
    Ok(run.state.is_terminal())
}

fn tell(context: &Context, view: &RunView) -> Result {
    let mut fields =
        vec![("run", view.id.clone()), ("workflow", view.workflow.clone()), ("state", view.state.to_string())];
    fields.extend(view.output.as_ref().map(|output| ("output", output.0.to_string())));
    fields.extend(view.error.as_ref().map(|error| ("error", error.message.clone())));
    context.ui.one(view, &fields)?;
    match (view.state, &view.error) {
        (RunState::Completed, _) => Ok(()),
        (_, Some(error)) => Err(failed(view, &format!(": {}", error.message))),
        (_, None) => Err(failed(view, "")),
    }
}

fn failed(view: &RunView, why: &str) -> CommandError {
    fail(Code::RunFailed, format!("run {} ended {}{why}", view.id, view.state))
}
