//! Runs: starting one, and looking at it. What is done to one that is under way is in `steer`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::filter::Where;
use super::run_list::RunBrief;
use super::wire::{ErrorView, Time, Value};
use super::{ApiError, Client, Result, enqueue::Patience};
use crate::domain::{Event, EventKind, Job, JobId, JobState, Json, Name, RunId, RunState, StepState};
use crate::store::advanced::{called, effects_with, gate as gate_of, pins};
use crate::store::{DocumentChange, DocumentSet, Enqueued, NewRun, RunQuery, StoreError, Stored};
use crate::workflow::run::KeptSignal;
use crate::workflow::{self, Definition, Run, Slot};

/// What the queues of runs in the foreground are called, before their number.
const FOREGROUND: &str = "run.";

/// Whether it is a queue of runs in the foreground: see [`Client::foreground_queue`].
pub fn is_foreground(queue: &Name) -> bool {
    queue.as_str().strip_prefix(FOREGROUND).is_some_and(|number| number.parse::<u32>().is_ok())
}

/// Outputs of a longer list are not loaded to be shown: an expression of the workflow may.
const SHOWN_OUTPUTS: usize = 1_000;

/// Jobs that are looked at at once for the history of a run.
const HISTORY_JOBS: usize = 1_000;

/// A run, as every face shows it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct RunView {
    pub id: String,
    pub workflow: String,
    /// The hash of the definition it began with.
    pub version: String,
    #[schema(value_type = String)]
    pub state: RunState,
    #[schema(value_type = serde_json::Value)]
    pub input: Option<Value>,
    #[schema(value_type = serde_json::Value)]
    pub output: Option<Value>,
    pub error: Option<ErrorView>,
    pub parent_id: Option<String>,
    pub created_at: Time,
    pub started_at: Option<Time>,
    pub finished_at: Option<Time>,
    pub steps: Vec<StepView>,
    /// Signals that no step has taken; left out where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signals: Vec<SignalView>,
}

/// A signal that is kept: nobody waits for it yet, or it came late.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct SignalView {
    pub name: String,
    pub at: Time,
    #[schema(value_type = serde_json::Value)]
    pub data: Value,
    /// It came after the end of the run.
    pub late: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct StepView {
    pub id: String,
    pub path: String,
    /// Which item of a list it does, from 0; none outside of one.
    #[schema(value_type = serde_json::Value)]
    pub item: Option<Value>,
    #[schema(value_type = String)]
    pub state: StepState,
    pub attempt: u32,
    #[schema(value_type = serde_json::Value)]
    pub output: Option<Value>,
    pub error: Option<ErrorView>,
    pub job_id: Option<String>,
    pub started_at: Option<Time>,
    pub finished_at: Option<Time>,
}

/// Some runs, and whether there are more.
#[derive(Clone, Debug, PartialEq)]
pub struct RunList {
    pub runs: Vec<RunView>,
    pub cut: bool,
}

/// What may be said about a run before it begins.
#[derive(Clone, Debug, Default)]
pub struct Beginning {
    /// Where steps wait that name no queue.
    pub queue: Option<Name>,
    /// Where the same start may come again: the document that remembers which run it began, and for
    /// how long.
    pub once: Option<(String, Duration)>,
}

/// What a start led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    pub id: RunId,
    /// It had been begun before, by the same start.
    pub again: bool,
}

/// Why a run did not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The input is not what the workflow takes; one line a mistake.
    #[error("{0}")]
    Input(String),
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// As the systems that goflow stands in for call them, too.
pub fn run_state(word: &str) -> Option<RunState> {
    RunState::parse(match word {
        "done" => "completed",
        "active" | "processing" => "running",
        "queued" | "waiting" => "pending",
        word => word,
    })
}

impl Client {
    /// Begins a run of a definition that the store keeps. One with a concurrency key may have to wait
    /// for its turn, `pending`.
    ///
    /// # Errors
    /// [`StartError::Input`], [`ApiError::Conflict`] if its key is taken and it is not to wait, and the store's.
    pub async fn start(&self, definition: &Definition, input: Json) -> Result<RunId, StartError> {
        Ok(self.begin(definition, input, Beginning::default()).await?.id)
    }

    /// The same, with all that can be said about a run before it begins.
    ///
    /// # Errors
    /// As [`Client::start`].
    pub async fn begin(&self, definition: &Definition, input: Json, beginning: Beginning) -> Result<Begun, StartError> {
        let pins = pins(&**self.store(), definition).await.map_err(ApiError::from)?.map_err(ApiError::Conflict)?;
        let now = self.clock().now();
        let begin = |id: RunId| {
            workflow::start_pinned(definition, id, input.clone(), now, pins.clone(), beginning.queue.clone())
                .map_err(|error| StartError::Input(error.to_string()))
        };
        let mut id = self.run_id(None);
        let mut advanced = begin(id)?;
        // The key comes of the input, and the id of the key: runs of one key lie together.
        if let Some(gate) = gate_of(&advanced.run, definition, now).map_err(ApiError::from)? {
            id = self.run_id(Some(&gate.key));
            advanced = begin(id)?;
        }
        if let Some(id) = self.begun_before(id).await? {
            return Ok(Begun { id, again: true });
        }
        if let Some(once) = &beginning.once {
            let first = self.remembered(once, id).await?;
            if self.store().run(first).await.map_err(ApiError::from)?.is_some() {
                return Ok(Begun { id: first, again: true });
            }
            if first != id {
                id = first;
                advanced = begin(id)?;
            }
        }
        let start = self.traced_start(definition.name(), id, now);
        advanced.run.trace = start.as_ref().map(|(trace, _)| trace.clone());
        let gate = gate_of(&advanced.run, definition, now).map_err(ApiError::from)?;
        let key = advanced.run.key.clone().unwrap_or_default();
        let gate_key = advanced.run.gate_key().unwrap_or_default();
        let called = called(&**self.store(), &advanced).await.map_err(ApiError::from)?;
        let effects = effects_with(advanced, &called, now).map_err(ApiError::from)?;
        let gated = gate.is_some();
        let answers = self.producer(Patience::default()).send_runs(vec![NewRun { effects, gate }]).await?;
        if answers.first() == Some(&Enqueued::Busy) {
            let name = definition.name();
            let holders = self.holders_of(definition.name(), &gate_key).await.unwrap_or_default();
            let which: Vec<String> = holders.iter().map(|run| run.id.short()).collect();
            let which = if which.is_empty() { String::new() } else { format!(": {}", which.join(", ")) };
            let message = format!("as many runs of `{name}` as may be are under way with the key `{key}`{which}");
            return Err(ApiError::Conflict(message).into());
        }
        // Another server was given the same, and was quicker.
        let again = answers.first() == Some(&Enqueued::Exists);
        if gated {
            // If it was its turn at once, it has found so in its inbox.
            self.runs.take_in([id], self.now.now()).await;
        }
        if !again {
            self.tell_spans(start.and_then(|(_, span)| span));
        }
        Ok(Begun { id, again })
    }

    /// The run that a start which may come again is to begin: the first that was chosen for it.
    async fn remembered(&self, (name, keep): &(String, Duration), id: RunId) -> Result<RunId> {
        let body = Some(id.to_string().into_bytes());
        let change = DocumentChange { name: name.clone(), from_rev: 0, body, keep: Some(*keep) };
        match self.store().set_document(&change).await? {
            DocumentSet::Changed(Some(first)) => {
                let text = String::from_utf8_lossy(&first.body);
                let broken = |_| StoreError::Corrupt(format!("document {name} names no run: {text}"));
                Ok(text.parse().map_err(broken)?)
            }
            DocumentSet::Done(_) | DocumentSet::Changed(None) => Ok(id),
        }
    }

    /// The definition with this hash.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the store does not keep it, though a run has it.
    pub async fn definition_of(&self, version: &str) -> Result<Definition> {
        let missing = || StoreError::Corrupt(format!("definition {version} is not in the store"));
        let kept = self.store().definition(version).await?.ok_or_else(missing)?;
        load(version, &kept.text)
    }

    /// The run with this id, or with an id of which this is a unique part.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], [`ApiError::Ambiguous`].
    pub async fn find_run(&self, part: &str) -> Result<RunId> {
        let not_found = || ApiError::NotFound { noun: "run", id: part.to_owned() };
        if let Ok(id) = part.parse() {
            return Ok(id);
        }
        let hex = super::jobs::hex_part(part).ok_or_else(not_found)?;
        match self.store().find_runs(&hex, 6).await?.as_slice() {
            [] => Err(not_found()),
            [one] => Ok(*one),
            several => {
                let ids = several.iter().take(5).map(RunId::to_string).collect();
                Err(ApiError::Ambiguous { noun: "run", part: part.to_owned(), ids })
            }
        }
    }

    /// The header of a run: its state and its steps', without values.
    ///
    /// # Errors
    /// [`ApiError::NotFound`].
    pub async fn run_header(&self, id: RunId) -> Result<Run> {
        let record = self.store().run(id).await?;
        Ok(record.ok_or_else(|| ApiError::NotFound { noun: "run", id: id.to_string() })?.header()?)
    }

    /// A queue for the steps of a run that this process works off itself: one that no live worker names
    /// and where nothing waits, so that the run is not behind what others have left in theirs. A worker
    /// that serves every queue serves these too, and so a run that is cut goes on. There are never more of
    /// them than runs in the foreground at a time.
    ///
    /// # Errors
    /// The store's.
    pub async fn foreground_queue(&self) -> Result<Name> {
        let mut taken: BTreeSet<Name> =
            self.store().workers().await?.into_iter().flat_map(|worker| worker.info.queues).collect();
        let stats = self.store().stats().await?;
        taken.extend(stats.into_iter().filter(|queue| queue.is_busy()).map(|queue| queue.name));
        let numbered = (1u32..).filter_map(|n| format!("{FOREGROUND}{n}").parse::<Name>().ok());
        let mut free = numbered.filter(|queue| !taken.contains(queue));
        free.next().ok_or_else(|| ApiError::Conflict("too many runs are in the foreground".to_owned()))
    }

    /// The header of a run with its steps as their jobs are at this moment: the header itself learns of
    /// a job only when it has ended for good.
    ///
    /// # Errors
    /// [`ApiError::NotFound`].
    pub async fn run_now(&self, id: RunId) -> Result<Run> {
        let mut run = self.run_header(id).await?;
        let begun = run.steps.iter_mut().filter(|step| step.state == StepState::Running);
        let begun: Vec<_> = begun.filter_map(|step| Some((step.job?, step))).collect();
        let jobs: Vec<JobId> = begun.iter().map(|(job, _)| *job).collect();
        let found = if jobs.is_empty() { Vec::new() } else { self.store().get(&jobs).await? };
        for ((_, step), stored) in begun.into_iter().zip(found) {
            let Some(Stored { job, place, lease, .. }) = stored else { continue };
            match place.state() {
                JobState::Running => {
                    step.attempt = job.attempt(JobState::Running);
                    step.started_at = lease.map(|lease| lease.since).or(step.started_at);
                }
                JobState::Retrying => {
                    step.state = StepState::Retrying;
                    (step.attempt, step.error) = (job.attempt(JobState::Retrying), job.error);
                }
                JobState::Pending | JobState::Scheduled => {
                    (step.state, step.started_at) = (StepState::Pending, None);
                }
                // It has ended, and the run will learn of it.
                JobState::Completed | JobState::Dead | JobState::Cancelled => {}
            }
        }
        Ok(run)
    }

    /// Runs, live ones first, the latest first; at most `limit`, 0 means all.
    ///
    /// # Errors
    /// The store's.
    pub async fn runs(&self, state: Option<RunState>, workflow: Option<&Name>, limit: usize) -> Result<RunList> {
        self.runs_where(state, workflow, None, limit).await
    }

    /// As [`Client::runs`], those that a filter means.
    ///
    /// # Errors
    /// The store's.
    pub async fn runs_where(
        &self,
        state: Option<RunState>,
        workflow: Option<&Name>,
        filter: Option<&Where<RunBrief>>,
        limit: usize,
    ) -> Result<RunList> {
        let now = self.clock().now();
        let mut list = RunList { runs: Vec::new(), cut: false };
        // Finished runs are not looked through for a state that they cannot be in.
        let wanted = |finished: bool| state.is_none_or(|state| state.is_terminal() == finished);
        for finished in [false, true].into_iter().filter(|finished| wanted(*finished)) {
            let mut after = None;
            loop {
                let query = RunQuery { finished, after: after.take(), budget: crate::domain::limits::LIST_BUDGET };
                let page = self.store().runs(&query).await?;
                for record in &page.items {
                    let fits = state.is_none_or(|state| record.state == state)
                        && workflow.is_none_or(|workflow| record.workflow == *workflow);
                    // The header is looked into only where a filter asks for it.
                    if !fits
                        || filter.map_or(Ok(false), |filter| {
                            record.header().map(|run| !filter.matches(&RunBrief::from(&run), now))
                        })?
                    {
                        continue;
                    }
                    if limit > 0 && list.runs.len() == limit {
                        list.cut = true;
                        return Ok(list);
                    }
                    list.runs.push(self.run(record.id).await?);
                }
                match page.next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
        }
        Ok(list)
    }

    /// Everything that happened to a run, in its order. That jobs of its steps failed and are tried
    /// again is the jobs' own history: it is put in from there, as long as they are kept.
    ///
    /// # Errors
    /// [`ApiError::NotFound`].
    pub async fn run_history(&self, id: RunId) -> Result<Vec<Event>> {
        // A run without events is none.
        self.run_header(id).await?;
        let mut events = self.run_events(id).await?;
        let mut jobs: Vec<JobId> = events.iter().filter_map(|event| event.job).collect();
        jobs.sort_unstable();
        jobs.dedup();
        let mut tries = Vec::new();
        for some in jobs.chunks(HISTORY_JOBS) {
            let kept = self.store().get(some).await?;
            tries.extend(kept.iter().flatten().flat_map(|stored| tried(&stored.job, stored.place.state())));
        }
        if !tries.is_empty() {
            events.extend(tries);
            // Stable: what the run itself tells stays in its order.
            events.sort_by_key(|event| event.at);
        }
        Ok(events)
    }

    /// A run with all its values.
    ///
    /// # Errors
    /// [`ApiError::NotFound`].
    pub async fn run(&self, id: RunId) -> Result<RunView> {
        let run = self.run_now(id).await?;
        let definition = self.definition_of(&run.version).await?;
        let rows = workflow::rows(&definition, &run);
        let mut keys = Vec::new();
        let signals = run.signals.iter().map(|signal| &signal.data);
        let slots = [Some(&run.input), run.output.as_ref()].into_iter().flatten().chain(signals);
        for slot in slots.chain(rows.iter().filter_map(|row| row.record.output.as_ref())) {
            if !is_long(slot) {
                slot.keys(&mut keys);
            }
        }
        let found = if keys.is_empty() { Vec::new() } else { self.store().values(id, &keys).await? };
        let values: BTreeMap<String, Json> =
            keys.into_iter().zip(found).filter_map(|(key, value)| Some((key, value?))).collect();
        Ok(view(&run, &rows, &values))
    }
}

/// The executions of a step's job after which there was another, as events.
fn tried(job: &Job, state: JobState) -> Vec<Event> {
    // The run tells the last failure of a job that died itself.
    let over = job.history.len() - usize::from(state == JobState::Dead && !job.history.is_empty());
    let mut nth = 0;
    let told = job.history[..over].iter().map(|attempt| {
        let crashed = attempt.error.class == "crash";
        nth += u32::from(!crashed);
        Event {
            at: attempt.ended_at,
            job: Some(job.id),
            run: job.link.as_ref().map(|link| link.run),
            step: job.link.as_ref().map(|link| link.step.clone()),
            queue: Some(job.queue.clone()),
            worker: attempt.worker,
            attempt: Some(nth.max(1)),
            data: Some(attempt.error.to_string()),
            ..Event::new(if crashed { EventKind::JobReleased } else { EventKind::JobRetried })
        }
    });
    told.collect()
}

fn load(version: &str, text: &str) -> Result<Definition> {
    let wrong = |problems: workflow::Problems| {
        ApiError::from(StoreError::Corrupt(format!("definition {version}: {}", problems.render())))
    };
    Definition::kept(text, version).map_err(wrong)
}

fn is_long(slot: &Slot) -> bool {
    match slot {
        Slot::List { with_output, .. } => with_output.len() > SHOWN_OUTPUTS,
        Slot::Map(fields) => fields.iter().any(|(_, field)| is_long(field)),
        _ => false,
    }
}

fn view(run: &Run, rows: &[workflow::Row<'_>], values: &BTreeMap<String, Json>) -> RunView {
    let value = |slot: &Slot| {
        if is_long(slot) {
            return Value(Json::string("more outputs than are shown"));
        }
        Value(Json::from_value(&slot.resolve(&mut |key| values.get(key).map(Json::to_value))))
    };
    let error =
        |error: &crate::domain::job::JobError| ErrorView { class: error.class.clone(), message: error.message.clone() };
    let signal = |signal: &KeptSignal| SignalView {
        name: signal.name.to_string(),
        at: Time(signal.at),
        data: value(&signal.data),
        late: signal.late,
    };
    let step = |row: &workflow::Row<'_>| StepView {
        id: row.id.to_owned(),
        path: row.path.clone(),
        item: row.item.map(|item| Value(Json::from_value(&item.into()))),
        state: row.record.state,
        attempt: row.record.attempt,
        output: row.record.output.as_ref().map(value),
        error: row.record.error.as_ref().or(row.record.undo_error.as_ref()).map(error),
        job_id: row.record.job.map(|job| job.to_string()),
        started_at: row.record.started_at.map(Time),
        finished_at: row.record.finished_at.map(Time),
    };
    RunView {
        id: run.id.to_string(),
        workflow: run.workflow.to_string(),
        version: run.version.clone(),
        state: run.state,
        input: Some(value(&run.input)),
        output: run.output.as_ref().map(value),
        error: run.error.as_ref().map(error),
        parent_id: run.parent.as_ref().map(|parent| parent.run.to_string()),
        created_at: Time(run.created_at),
        started_at: run.started_at.map(Time),
        finished_at: run.finished_at.map(Time),
        steps: rows.iter().map(step).collect(),
        signals: run.signals.iter().map(signal).collect(),
    }
}
