//! From what `workflow::advance` wants to what a store commits: the same thing, as bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::contract::{Effects, Gate, NewRun, Result, RunRecord, Store, StoreError, Timer};
use crate::domain::job::JobError;
use crate::domain::trace::{Placed, TRACEPARENT};
use crate::domain::{Event, EventKind, Ms, Name, RunId, RunState};
use crate::workflow::spec::OnConflict;
use crate::workflow::{self, Advanced, Definition, Fact, Run, What};

impl RunRecord {
    /// The record of a run's header.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the header cannot be encoded.
    pub fn of(run: &Run) -> Result<RunRecord> {
        let body = run.encode().map_err(|error| StoreError::Corrupt(error.to_string()))?;
        Ok(RunRecord { id: run.id, workflow: run.workflow.clone(), state: run.state, rev: run.rev, body })
    }

    /// The header that the record holds.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if it is none.
    pub fn header(&self) -> Result<Run> {
        Run::decode(&self.body).map_err(|error| StoreError::Corrupt(format!("run {}: {error}", self.id)))
    }
}

/// A gate for a run that waits for its turn under its key; none for one that has begun.
///
/// # Errors
/// [`StoreError::Corrupt`] if the fact cannot be encoded.
pub fn gate(run: &Run, definition: &Definition, now: Ms) -> Result<Option<Gate>> {
    let (Some(key), Some(limited)) = (&run.key, &definition.spec().concurrency) else { return Ok(None) };
    let go = Fact::of_run(What::Go, now).encode().map_err(|error| StoreError::Corrupt(error.to_string()))?;
    let reject = (limited.on_conflict == OnConflict::Reject).then(|| refused(run, key, now)).transpose()?;
    // Keys of two workflows have nothing to do with each other.
    Ok(run.gate_key().map(|key| Gate { key, limit: limited.limit, go, reject }))
}

/// What the run that calls another one is told when that one was not let in; nothing for whoever was
/// called by none.
fn refused(run: &Run, key: &str, now: Ms) -> Result<Vec<u8>> {
    let Some(parent) = &run.parent else { return Ok(Vec::new()) };
    let why = format!("as many runs of `{}` as may be are under way with the key `{key}`", run.workflow);
    let error = Some(JobError::new("conflict", why));
    let ended = What::Ended { run: run.id, state: RunState::Cancelled, output: None, error, undoable: false };
    let fact = Fact { step: parent.step.clone(), ..Fact::of_run(ended, now) };
    fact.encode().map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// The current versions of all workflows that a definition calls, and those call. `Err` within tells
/// which one was never applied.
///
/// # Errors
/// The store's; [`StoreError::Corrupt`] for a definition that cannot be read.
pub async fn pins(
    store: &dyn Store,
    definition: &Definition,
) -> Result<std::result::Result<BTreeMap<Name, String>, String>> {
    let mut pins = BTreeMap::new();
    let mut next: BTreeSet<Name> = definition.calls();
    if next.is_empty() {
        return Ok(Ok(pins));
    }
    let current = store.definitions("workflow").await?;
    while let Some(name) = next.pop_first() {
        if pins.contains_key(&name) {
            continue;
        }
        let Some(kept) = current.iter().find(|kept| kept.name == name) else {
            let message = format!("`{}` calls the workflow `{name}`, which was never applied", definition.name());
            return Ok(Err(message));
        };
        pins.insert(name, kept.hash.clone());
        let called = Definition::load(&kept.text)
            .map_err(|problems| StoreError::Corrupt(format!("definition {}: {}", kept.hash, problems.render())))?;
        next.extend(called.calls());
    }
    Ok(Ok(pins))
}

/// Definitions by their hash.
pub type Called = BTreeMap<String, Arc<Definition>>;

/// The definitions of the runs that an advance starts.
///
/// # Errors
/// The store's; [`StoreError::Corrupt`] for a definition that is not kept or cannot be read.
pub async fn called(store: &dyn Store, advanced: &Advanced) -> Result<Called> {
    let mut called = Called::new();
    for child in &advanced.runs {
        if called.contains_key(&child.version) {
            continue;
        }
        let hash = &child.version;
        let gone = || StoreError::Corrupt(format!("definition {hash} is not in the store"));
        let kept = store.definition(hash).await?.ok_or_else(gone)?;
        let definition = Definition::kept(&kept.text, hash)
            .map_err(|problems| StoreError::Corrupt(format!("definition {hash}: {}", problems.render())))?;
        called.insert(hash.clone(), Arc::new(definition));
    }
    Ok(called)
}

/// The effects of an advance that happened at `now`, whose runs wait for their turn where the
/// workflow that is called has a concurrency key.
///
/// # Errors
/// [`StoreError::Corrupt`] if a record cannot be encoded.
pub fn effects_with(mut advanced: Advanced, called: &Called, now: Ms) -> Result<Effects> {
    let mut gates = BTreeMap::new();
    for child in &mut advanced.runs {
        let Some(definition) = called.get(&child.version) else { continue };
        workflow::enter(definition, child);
        if let Some(gate) = gate(child, definition, now)? {
            gates.insert(child.id, gate);
        }
    }
    // Whoever waits for its turn is told by the gate.
    advanced.tell.retain(|(run, fact)| !(fact.what == What::Go && gates.contains_key(run)));
    let mut effects = effects(advanced, now)?;
    for new in &mut effects.runs {
        new.gate = gates.remove(&new.effects.record.id);
        if new.gate.is_some() {
            let key = new.effects.record.header()?.key;
            let event = Event { run: Some(new.effects.record.id), data: key, ..Event::new(EventKind::RunPending) };
            new.effects.events.push(event);
        }
    }
    Ok(effects)
}

/// The effects of an advance that happened at `now`.
///
/// # Errors
/// [`StoreError::Corrupt`] if a record cannot be encoded.
pub fn effects(advanced: Advanced, now: Ms) -> Result<Effects> {
    let timer = |(key, delay): (String, std::time::Duration)| {
        let fact = Fact::timer(key.clone(), now.after(delay)).encode();
        let fact = fact.map_err(|error| StoreError::Corrupt(error.to_string()))?;
        Ok(Timer { key, delay, fact })
    };
    // A run that was given no trace names its own: its steps find it by the id of their run.
    let place = advanced.run.trace.as_deref().map(|given| Placed::of_run(advanced.run.id, Some(given)));
    let mut jobs = advanced.jobs;
    if let Some(place) = place {
        for job in &mut jobs {
            job.metadata.insert(TRACEPARENT.to_owned(), place.trace.to_string());
        }
    }
    Ok(Effects {
        record: RunRecord::of(&advanced.run)?,
        jobs,
        values: advanced.values,
        timers: advanced.timers.into_iter().map(timer).collect::<Result<_>>()?,
        drop_timers: advanced.drop_timers,
        events: advanced.events,
        cancel: advanced.cancel_jobs,
        runs: advanced.runs.into_iter().map(|run| begun(run, place)).collect::<Result<_>>()?,
        tell: advanced.tell.iter().map(told).collect::<Result<_>>()?,
    })
}

/// A run that another one starts: it is told to go by the same commit.
fn begun(mut run: Run, parent: Option<Placed>) -> Result<NewRun> {
    run.trace = run.trace.or_else(|| parent.map(|parent| parent.trace.to_string()));
    Ok(NewRun::from(Effects::of(RunRecord::of(&run)?)))
}

fn told((run, fact): &(RunId, Fact)) -> Result<(RunId, Vec<u8>)> {
    Ok((*run, fact.encode().map_err(|error| StoreError::Corrupt(error.to_string()))?))
}
