//! Runs: starting one, and looking at it. What is done to one that is under way is in `steer`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::wire::{ErrorView, Time, Value};
use super::{ApiError, Client, Result, enqueue::Patience};
use crate::domain::{Json, RunId, RunState, StepState};
use crate::store::advanced::{effects, gate, pins};
use crate::store::{Enqueued, NewRun, StoreError};
use crate::workflow::{self, Definition, Run, Slot};

/// Outputs of a longer list are not loaded to be shown: an expression of the workflow may.
const SHOWN_OUTPUTS: usize = 1_000;

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
    /// Which item of a list it does, from 0; none outside of one.
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
    /// Begins a run of a definition that the store keeps. One with a concurrency key may have to wait
    /// for its turn, `pending`.
    ///
    /// # Errors
    /// [`StartError::Input`], [`ApiError::Conflict`] if its key is taken and it is not to wait, and the store's.
    pub async fn start(&self, definition: &Definition, input: Json) -> Result<RunId, StartError> {
        let pins = pins(&**self.store(), definition).await.map_err(ApiError::from)?.map_err(ApiError::Conflict)?;
        let (id, now) = (self.run_id(), self.clock().now());
        let advanced = workflow::start_pinned(definition, id, input, now, pins)
            .map_err(|error| StartError::Input(error.to_string()))?;
        let gate = gate(&advanced.run, definition, now).map_err(ApiError::from)?;
        let key = advanced.run.key.clone().unwrap_or_default();
        let effects = effects(advanced, now).map_err(ApiError::from)?;
        let answers = self.producer(Patience::default()).send_runs(vec![NewRun { effects, gate }]).await?;
        if answers.first() == Some(&Enqueued::Busy) {
            let name = definition.name();
            let message = format!("as many runs of `{name}` as may be are under way with the key `{key}`");
            return Err(ApiError::Conflict(message).into());
        }
        Ok(id)
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

    /// A run with all its values.
    ///
    /// # Errors
    /// [`ApiError::NotFound`].
    pub async fn run(&self, id: RunId) -> Result<RunView> {
        let run = self.run_header(id).await?;
        let definition = self.definition_of(&run.version).await?;
        let rows = workflow::rows(&definition, &run);
        let mut keys = Vec::new();
        let slots = [Some(&run.input), run.output.as_ref()].into_iter().flatten();
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

fn load(version: &str, text: &str) -> Result<Definition> {
    let wrong = |problems: workflow::Problems| {
        ApiError::from(StoreError::Corrupt(format!("definition {version}: {}", problems.render())))
    };
    Definition::load(text).map_err(wrong)
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
    }
}
