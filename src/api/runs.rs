//! Runs: starting one, looking at it, waiting for its end.

use std::collections::BTreeMap;

use serde::Serialize;

use super::wire::{ErrorView, Time, Value};
use super::{ApiError, Client, Result, enqueue::Patience};
use crate::domain::{Json, RunId, RunState, StepState};
use crate::store::advanced::effects;
use crate::workflow::{self, Definition, Run, Slot};

/// A run, as every face shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunView {
    pub id: String,
    pub workflow: String,
    /// The hash of the definition it began with.
    pub version: String,
    pub state: RunState,
    pub input: Option<Value>,
    pub output: Option<Value>,
    pub error: Option<ErrorView>,
    pub parent_id: Option<String>,
    pub created_at: Time,
    pub started_at: Option<Time>,
    pub finished_at: Option<Time>,
    pub steps: Vec<StepView>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepView {
    pub id: String,
    pub path: String,
    /// Which item of a list it does; none outside of one.
    pub item: Option<Value>,
    pub state: StepState,
    pub attempt: u32,
    pub output: Option<Value>,
    pub error: Option<ErrorView>,
    pub job_id: Option<String>,
    pub started_at: Option<Time>,
    pub finished_at: Option<Time>,
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

impl Client {
    /// Begins a run of a definition that the store keeps.
    ///
    /// # Errors
    /// [`StartError::Input`], and the store's.
    pub async fn start(&self, definition: &Definition, input: Json) -> Result<RunId, StartError> {
        let (id, now) = (self.run_id(), self.clock().now());
        let advanced =
            workflow::start(definition, id, input, now).map_err(|error| StartError::Input(error.to_string()))?;
        let effects = effects(advanced, now).map_err(ApiError::from)?;
        self.producer(Patience::default()).send_runs(vec![effects]).await?;
        Ok(id)
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

    /// A run with all its values.
    ///
    /// # Errors
    /// [`ApiError::NotFound`].
    pub async fn run(&self, id: RunId) -> Result<RunView> {
        let run = self.run_header(id).await?;
        let slots = [Some(&run.input), run.output.as_ref()].into_iter().flatten();
        let slots = slots.chain(run.steps.iter().filter_map(|step| step.output.as_ref()));
        let keys: Vec<String> = slots
            .filter_map(|slot| match slot {
                Slot::Stored { key, .. } => Some(key.clone()),
                Slot::Inline(_) => None,
            })
            .collect();
        let found = if keys.is_empty() { Vec::new() } else { self.store().values(id, &keys).await? };
        let values: BTreeMap<String, Json> =
            keys.into_iter().zip(found).filter_map(|(key, value)| Some((key, value?))).collect();
        Ok(view(&run, &values))
    }
}

fn view(run: &Run, values: &BTreeMap<String, Json>) -> RunView {
    let value = |slot: &Slot| match slot {
        Slot::Inline(json) => Some(Value(json.clone())),
        Slot::Stored { key, .. } => values.get(key).cloned().map(Value),
    };
    let error =
        |error: &crate::domain::job::JobError| ErrorView { class: error.class.clone(), message: error.message.clone() };
    RunView {
        id: run.id.to_string(),
        workflow: run.workflow.to_string(),
        version: run.version.clone(),
        state: run.state,
        input: value(&run.input),
        output: run.output.as_ref().and_then(value),
        error: run.error.as_ref().map(error),
        parent_id: None,
        created_at: Time(run.created_at),
        started_at: run.started_at.map(Time),
        finished_at: run.finished_at.map(Time),
        steps: run
            .steps
            .iter()
            .map(|step| StepView {
                id: step.id.clone(),
                path: step.id.clone(),
                item: None,
                state: step.state,
                attempt: step.attempt,
                output: step.output.as_ref().and_then(value),
                error: step.error.as_ref().or(step.undo_error.as_ref()).map(error),
                job_id: step.job.map(|job| job.to_string()),
                started_at: step.started_at.map(Time),
                finished_at: step.finished_at.map(Time),
            })
            .collect(),
    }
}
