//! The runs: a part of their list, and one with its graph, its history and the log of one of its steps.
//! What does not change between two looks, its definition and its history, is kept.

use std::collections::HashMap;

use crate::api::filter::Where;
use crate::api::run_list::{RUN_FIELDS, RunBrief};
use crate::api::{ApiError, Client, Result};
use crate::domain::{JobId, RunId, StepState};
use crate::tui::msg::{Body, CHUNKS, Part, RunsQuery};
use crate::tui::rows::jobs::beginning;
use crate::tui::rows::{Rows, RunRow};
use crate::tui::run_page::{Items, Moment, RunDetail, StepLog, StepNow};
use crate::workflow::{self, Definition, Run, Slot};

/// Records that one look at a filter reads at most, and how many at a time.
const LOOKS: usize = 20_000;
const AT_ONCE: usize = 1_000;
/// Definitions that are kept.
const DEFINITIONS: usize = 50;
/// More of a history is not carried along: then what happened to items of lists is left out.
const MOMENTS: usize = 5_000;
/// Jobs under way that are looked at for their workers.
const JOBS: usize = 200;
/// Steps and items that are told of as they are.
const STEPS: usize = 5_000;
/// More of a value is not carried along.
const SHOWN: usize = 2_048;
/// Of a log the end is shown.
const LOG_SHOWN: usize = 64 << 10;

/// What is kept between two looks.
#[derive(Debug, Default)]
pub struct Kept {
    definitions: HashMap<String, Definition>,
    history: Option<(RunId, u64, Vec<Moment>, bool)>,
}

impl Kept {
    /// The definition of a run.
    ///
    /// # Errors
    /// The store's.
    pub async fn definition(&mut self, client: &Client, version: &str) -> Result<&Definition> {
        if !self.definitions.contains_key(version) {
            let definition = client.definition_of(version).await?;
            if self.definitions.len() >= DEFINITIONS {
                self.definitions.clear();
            }
            self.definitions.insert(version.to_owned(), definition);
        }
        let missing = || ApiError::Conflict(format!("the definition {version} is gone"));
        self.definitions.get(version).ok_or_else(missing)
    }

    async fn history(&mut self, client: &Client, run: &Run) -> Result<(Vec<Moment>, bool)> {
        if let Some((id, rev, moments, is_cut)) = &self.history
            && (*id, *rev) == (run.id, run.rev)
        {
            return Ok((moments.clone(), *is_cut));
        }
        let events = client.run_events(run.id).await?;
        let is_cut = events.len() > MOMENTS;
        let of_items = |step: &Option<String>| step.as_ref().is_some_and(|step| step.contains('['));
        let shown = events.into_iter().filter(|event| !(is_cut && of_items(&event.step)));
        let moments: Vec<Moment> = shown
            .take(MOMENTS)
            .map(|event| Moment {
                at: event.at,
                kind: event.kind,
                step: event.step,
                attempt: event.attempt,
                job: event.job.map(|job| job.to_string()),
                data: event.data,
            })
            .collect();
        self.history = Some((run.id, run.rev, moments.clone(), is_cut));
        Ok((moments, is_cut))
    }
}

/// The part of the runs that is asked for.
///
/// # Errors
/// A filter that cannot be read, and the store's.
pub async fn list(client: &Client, query: &RunsQuery) -> Result<Body> {
    let filter = Where::<RunBrief>::parse(&query.filter, RUN_FIELDS);
    let filter = filter.map_err(|error| ApiError::Conflict(error.to_string()))?;
    let (mut rows, mut part) = (Vec::<RunRow>::new(), Part::default());
    let (mut looked, mut from) = (0, query.from.clone());
    'chunks: for nth in 0..CHUNKS {
        if nth == 1 {
            part.second = from.clone().map(|from| (rows.len(), from));
        }
        let wanted = rows.len() + query.chunk;
        while rows.len() < wanted && looked < LOOKS {
            let found = client.runs_from(&filter, &query.states, from.as_deref(), wanted - rows.len(), AT_ONCE).await?;
            looked += found.looked;
            let fits = |run: &&RunBrief| !query.problems || run.is_problem();
            rows.extend(found.runs.iter().filter(fits).map(RunRow::from));
            part.more = found.next.is_some();
            match found.next {
                Some(next) => from = Some(next),
                None => break 'chunks,
            }
        }
    }
    let is_narrowed = filter.is_selective() || !query.states.is_empty() || query.problems;
    part.looked = is_narrowed.then_some(looked as u64);
    part.rows = Rows::Runs(rows);
    Ok(Body::Part(part))
}

/// One run, with the log of a job of its.
///
/// # Errors
/// [`ApiError::NotFound`], and the store's.
pub async fn one(client: &Client, kept: &mut Kept, id: &str, log_of: Option<&str>) -> Result<Body> {
    let id: RunId = id.parse().map_err(|_| ApiError::NotFound { noun: "run", id: id.to_owned() })?;
    let run = client.run_now(id).await?;
    let (moments, is_cut) = kept.history(client, &run).await?;
    let definition = kept.definition(client, &run.version).await?;
    let outline = workflow::outline(definition).into_iter().map(Into::into).collect();
    let mut steps: Vec<StepNow> = workflow::rows(definition, &run).iter().take(STEPS).map(step).collect();
    add_jobs(client, &mut steps).await?;
    let log = match log_of.and_then(|job| job.parse().ok()) {
        Some(job) => Some(log(client, job).await?),
        None => None,
    };
    Ok(Body::Run(Box::new(RunDetail {
        head: RunRow::from(&RunBrief::from(&run)),
        version: run.version.clone(),
        input: slot(&run.input),
        output: run.output.as_ref().map(slot),
        outline,
        steps,
        moments,
        is_cut,
        log,
    })))
}

fn slot(slot: &Slot) -> String {
    match slot {
        Slot::Inline(json) => beginning(json.as_str(), SHOWN),
        Slot::Stored { size, .. } => format!("{} of JSON", crate::domain::text::size(*size)),
        Slot::Map(fields) => {
            let fields: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
            format!("{{{}}}", fields.join(", "))
        }
        Slot::List { items, .. } => crate::domain::text::count(u64::from(items.count), "output"),
    }
}

fn step(row: &workflow::Row<'_>) -> StepNow {
    let record = row.record;
    let is_undone = matches!(record.state, StepState::Compensating | StepState::Compensated);
    let job = if is_undone { record.undo_job.or(record.job) } else { record.job };
    let error = record.error.as_ref().or(record.undo_error.as_ref());
    let items = record.each().map(|each| Items {
        count: Some(each.items.count),
        completed: each.completed,
        failed: u32::try_from(each.failed.len()).unwrap_or(u32::MAX),
        active: u32::try_from(each.live.iter().filter(|(_, step)| step.is_active()).count()).unwrap_or(u32::MAX),
    });
    StepNow {
        attempt: record.attempt,
        job: job.map(|job| job.to_string()),
        child: match record.body.as_deref() {
            Some(workflow::Body::Call(run)) => Some(run.to_string()),
            _ => None,
        },
        error: error.map(|error| beginning(&error.to_string(), SHOWN)),
        started_at: record.started_at,
        finished_at: record.finished_at,
        approvers: match record.body.as_deref() {
            Some(workflow::Body::Approval(approvers)) if record.is_active() => Some(approvers.clone()),
            _ => None,
        },
        items,
        ..StepNow::new(&row.path, record.state)
    }
}

/// Who does what is under way, and how far it is.
async fn add_jobs(client: &Client, steps: &mut [StepNow]) -> Result<()> {
    let is_active = |step: &StepNow| {
        matches!(step.state, StepState::Running | StepState::Retrying | StepState::Compensating | StepState::Pending)
    };
    let wanted = steps.iter_mut().filter(|step| is_active(step));
    let wanted: Vec<(JobId, &mut StepNow)> =
        wanted.filter_map(|step| Some((step.job.as_deref()?.parse().ok()?, step))).take(JOBS).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let ids: Vec<JobId> = wanted.iter().map(|(id, _)| *id).collect();
    for ((_, step), stored) in wanted.into_iter().zip(client.jobs_of(&ids).await?) {
        let Some(view) = stored.as_ref().map(crate::api::JobView::from) else { continue };
        step.worker = view.worker;
        step.attempt = step.attempt.max(view.attempt);
        step.progress = view.progress.map(|progress| match progress.percent {
            Some(percent) => format!("{percent:.0}% {}", progress.message),
            None => progress.message,
        });
    }
    Ok(())
}

async fn log(client: &Client, job: JobId) -> Result<StepLog> {
    let log = client.log(job, 0).await?;
    let text: String = log.chunks.iter().map(|chunk| chunk.text.as_str()).collect();
    let mut start = text.len().saturating_sub(LOG_SHOWN);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    Ok(StepLog { job: job.to_string(), text: text[start..].to_owned(), cut: log.truncated || start > 0 })
}
