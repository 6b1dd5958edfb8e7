//! The advance of runs over a store: definitions and the latest headers are kept at hand, values are loaded
//! when an expression looks at them, and outcomes become facts. A worker does it with what it commits, and
//! whoever sends a run a fact does it too ([`Runs::take_in`]): what it is told then holds before the sender
//! has its answer, whether a worker lives or not. Knows nothing of leases and loops.

mod spans;
mod take_in;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::trace::{Placed, Spans};
use crate::domain::{EventKind, Job, JobState, Json, Ms, RunId, RunState, To};
use crate::store::advanced::{Called, effects_with};
use crate::store::{
    Advance, Claimed, Commit, Committed, Move, Result, RunAnswer, RunCommit, RunRecord, RunWork, Store, StoreError,
};
use crate::workflow::{self, Definition, Fact, Run, Wanted, What};

/// Headers kept at hand; a run that is not among them is decoded from its record.
const HEADERS: usize = 1_024;
/// Definitions kept at hand.
const DEFINITIONS: usize = 256;

pub struct Runs {
    store: Arc<dyn Store>,
    known: Mutex<Known>,
    spans: Option<Arc<dyn Spans>>,
}

#[derive(Default)]
struct Known {
    definitions: BTreeMap<String, Arc<Definition>>,
    /// The latest headers that this worker committed.
    headers: BTreeMap<RunId, Arc<Run>>,
    /// The last record that was looked into closely.
    looked: Option<(Arc<RunRecord>, Run)>,
}

/// A run's part of a commit, with the header it would give the run: whoever sends the commit hands
/// both to [`Runs::learn`]. Several may be computed for one run at a time; only one is committed.
pub struct Planned {
    pub part: RunCommit,
    pub header: Option<Arc<Run>>,
}

impl Planned {
    /// Whether a paused run goes on by it: then its steps that were withheld are to be let go.
    pub fn resumes(&self) -> bool {
        let events = self.part.advance.iter().flat_map(|advance| &advance.effects.events);
        events.into_iter().any(|event| event.kind == EventKind::RunResumed)
    }
}

impl Runs {
    pub fn new(store: Arc<dyn Store>, spans: Option<Arc<dyn Spans>>) -> Self {
        Runs { store, known: Mutex::default(), spans }
    }

    /// Who takes the spans of what is committed, if anybody does.
    pub fn spans(&self) -> Option<&dyn Spans> {
        self.spans.as_deref()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The run's part of a commit whose moves end steps of it. Without a header, a definition or a
    /// value that can be read the facts go to the inbox: they are never lost, and one damaged run
    /// stops nobody else.
    ///
    /// # Errors
    /// Of the store, when a definition or a value had to be read: those that only somebody can mend.
    pub async fn advance_with(
        &self,
        run: RunId,
        record: Option<Arc<RunRecord>>,
        moves: &[Move],
        now: Ms,
    ) -> Result<Planned> {
        let facts: Vec<Fact> = moves.iter().map(|step| fact_of(&step.job, step.to, now)).collect();
        let advance = match self.header(run, record) {
            Some(header) => match self.advance(&header, &facts, None, now).await {
                Ok(advance) => advance,
                // What one run lacks must not keep the outcomes of others waiting.
                Err(error) if error.is_transient() => {
                    tracing::debug!(%run, %error, "the run advances later: its facts wait in its inbox");
                    None
                }
                Err(error) => return Err(error),
            },
            None => None,
        };
        let encode = |fact: &Fact| fact.encode().map_err(|error| StoreError::Corrupt(error.to_string()));
        let facts = facts.iter().map(encode).collect::<Result<_>>()?;
        let (advance, header) = advance.unzip();
        Ok(Planned { part: RunCommit { run, facts, advance }, header })
    }

    /// The advance of a dirty run by what waits in its inbox.
    ///
    /// # Errors
    /// As [`Runs::advance_with`]; [`StoreError::Corrupt`] for a header or a fact that cannot be read.
    pub async fn drain(&self, work: RunWork, now: Ms) -> Result<Planned> {
        let run = work.record.id;
        let header = work.record.header()?;
        let drained = work.inbox.last().map(|(seq, _)| *seq);
        let decode = |(_, bytes): &(u64, Vec<u8>)| {
            Fact::decode(bytes).map_err(|error| StoreError::Corrupt(format!("run {run}: {error}")))
        };
        let facts = work.inbox.iter().map(decode).collect::<Result<Vec<Fact>>>()?;
        let advance = self.advance(&Arc::new(header), &facts, drained, now).await?;
        let (advance, header) = advance.unzip();
        Ok(Planned { part: RunCommit { run, facts: Vec::new(), advance }, header })
    }

    /// The newer of what the store sent and what this worker last committed. At the same `rev` the
    /// store's word counts.
    fn header(&self, run: RunId, record: Option<Arc<RunRecord>>) -> Option<Arc<Run>> {
        let kept = self.known().headers.get(&run).cloned();
        let Some(record) = record else { return kept };
        if let Some(kept) = kept.filter(|kept| kept.rev > record.rev) {
            return Some(kept);
        }
        match record.header() {
            Ok(header) => Some(Arc::new(header)),
            Err(error) => {
                tracing::error!(%run, %error, "the run's header cannot be read: its facts wait in its inbox");
                None
            }
        }
    }

    /// Whether a step that was just leased is to be started, as far as its run says. With `look` the run is
    /// looked at closely: somebody has asked for the end of some job. Whoever is not a step is started.
    pub fn wants(&self, claimed: &Claimed, look: bool) -> Wanted {
        let Some((record, link)) = claimed.run.as_ref().zip(claimed.job.link.as_ref()) else { return Wanted::Now };
        let mut known = self.known();
        if let Some(kept) = known.headers.get(&record.id).filter(|kept| kept.rev > record.rev) {
            return kept.wants(claimed.job.id, link.undo);
        }
        if !look && record.state != RunState::Paused {
            return Wanted::Now;
        }
        // The steps of a list come one after the other.
        if known.looked.as_ref().is_none_or(|(last, _)| last != record) {
            // One that cannot be read is told by whoever settles the step.
            let Ok(header) = record.header() else { return Wanted::Now };
            known.looked = Some((record.clone(), header));
        }
        known.looked.as_ref().map_or(Wanted::Now, |(_, header)| header.wants(claimed.job.id, link.undo))
    }

    /// The store has failed and may have lost its latest writes: nothing that was committed before is
    /// sure any more.
    pub fn forget(&self) {
        self.known().headers.clear();
    }

    async fn advance(
        &self,
        header: &Arc<Run>,
        facts: &[Fact],
        drained: Option<u64>,
        now: Ms,
    ) -> Result<Option<(Advance, Arc<Run>)>> {
        let advanced = async {
            let gone = || StoreError::Corrupt(format!("its definition {} is not in the store", header.version));
            let definition = self.definition(&header.version).await?.ok_or_else(gone)?;
            let mut advanced = self.compute(&definition, header, facts, now).await?;
            if self.spans.is_some() {
                // Below this run, though nobody gave it a trace: its calls belong to one with it.
                let own = Placed::of_run(header.id, header.trace.as_deref()).trace.to_string();
                advanced.runs.iter_mut().for_each(|run| run.trace = Some(own.clone()));
            }
            let next = Arc::new(advanced.run.clone());
            let mut called = Called::new();
            for child in &advanced.runs {
                let definition = self.definition(&child.version).await?;
                called.extend(definition.map(|definition| (child.version.clone(), definition)));
            }
            let effects = effects_with(advanced, &called, now)?;
            Ok((Advance { from_rev: header.rev, drained, effects }, next))
        };
        match advanced.await {
            Ok(advanced) => Ok(Some(advanced)),
            Err(error) if StoreError::is_transient(&error) => Err(error),
            Err(error) => {
                tracing::error!(run = %header.id, %error, "the run cannot go on: its facts wait in its inbox");
                Ok(None)
            }
        }
    }

    /// Advances, loading what expressions look at.
    async fn compute(
        &self,
        definition: &Definition,
        header: &Run,
        facts: &[Fact],
        now: Ms,
    ) -> Result<workflow::Advanced> {
        let mut loaded: BTreeMap<String, Json> = BTreeMap::new();
        loop {
            let values = |key: &str| loaded.get(key).cloned();
            let missing = match workflow::advance(definition, header, facts, now, &values) {
                Ok(advanced) => return Ok(advanced),
                Err(missing) => missing.0,
            };
            let found = self.store.values(header.id, &missing).await?;
            for (key, value) in missing.into_iter().zip(found) {
                let lost = || StoreError::Corrupt(format!("run {}: its value `{key}` is missing", header.id));
                let value = value.ok_or_else(lost)?;
                loaded.insert(key, value);
            }
        }
    }

    /// Notes what became of commits: a committed header is the latest, any other answer means that
    /// somebody else knows better. `headers` are those that came with the commits, in order.
    pub fn learn(&self, commits: &[Commit], headers: Vec<Option<Arc<Run>>>, answers: &[Committed]) {
        let mut known = self.known();
        for ((commit, header), answer) in commits.iter().zip(headers).zip(answers) {
            let Some(part) = &commit.run else { continue };
            if let (Some(spans), RunAnswer::Advanced { .. }, Some(header)) = (self.spans(), answer.run, &header)
                && header.state.is_terminal()
            {
                spans::tell_run(spans, header);
            }
            match (answer.run, header) {
                (RunAnswer::Advanced { .. }, Some(header)) if !header.state.is_terminal() => {
                    // Answers may overtake each other.
                    if known.headers.get(&part.run).is_none_or(|kept| kept.rev < header.rev) {
                        known.headers.insert(part.run, header);
                    }
                }
                _ => {
                    known.headers.remove(&part.run);
                }
            }
        }
        while known.headers.len() > HEADERS {
            known.headers.pop_first();
        }
    }

    async fn definition(&self, hash: &str) -> Result<Option<Arc<Definition>>> {
        if let Some(known) = self.known().definitions.get(hash) {
            return Ok(Some(known.clone()));
        }
        let Some(stored) = self.store.definition(hash).await? else { return Ok(None) };
        let definition = Definition::kept(&stored.text, hash)
            .map_err(|problems| StoreError::Corrupt(format!("definition {hash}: {}", problems.render())))?;
        let definition = Arc::new(definition);
        let mut known = self.known();
        if known.definitions.len() >= DEFINITIONS {
            known.definitions.clear();
        }
        known.definitions.insert(hash.to_owned(), definition.clone());
        Ok(Some(definition))
    }
}

/// What a run learns from the end of a step's job.
fn fact_of(job: &Job, to: To, now: Ms) -> Fact {
    let (step, undo) = job.link.as_ref().map(|link| (link.step.clone(), link.undo)).unwrap_or_default();
    let what = match (to, &job.error) {
        (To::Completed, _) => What::Completed { output: job.result.clone() },
        (To::Dead, Some(error)) => What::Failed { error: error.clone() },
        _ => What::Cancelled,
    };
    let state = to.place().map_or(JobState::Cancelled, |place| place.state());
    Fact::of_step(step, undo, job.epoch, job.attempt(state), now, what)
}
