//! From what a schedule owes (`domain::schedule`) to what a store commits: its record as bytes, the
//! job or run it starts, and the events that tell of it. Decides nothing about ticks.

use super::advanced::{called, effects_with, gate, pins};
use super::codec::{decode, encode};
use super::contract::{
    EnqueueAnswer, Enqueued, Near, NewJob, NewRun, Result, ScheduleCommit, ScheduleRecord, Store, StoreError,
};
use crate::domain::event::EventKind;
use crate::domain::schedule::{Note, Schedule, Target, Work};
use crate::domain::{Entropy, Event, Job, JobId, Ms, Name, RunId};
use crate::workflow::{self, Definition, Fact};

/// What a tick or a trigger starts, ready to be committed.
#[derive(Clone, Debug)]
pub struct Started {
    pub work: Work,
    pub job: Option<NewJob>,
    pub run: Option<NewRun>,
}

impl ScheduleRecord {
    /// The schedule that the record holds.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if it is none.
    pub fn schedule(&self) -> Result<Schedule> {
        decode(&self.body).map_err(|error| StoreError::Corrupt(format!("schedule {}: {error}", self.name)))
    }
}

impl ScheduleCommit {
    /// The next record of a schedule that now has `from_rev` (0: that is new), and nothing else.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the record cannot be encoded.
    pub fn of(name: &Name, from_rev: u64, schedule: &Schedule, due: Option<Ms>) -> Result<ScheduleCommit> {
        Ok(ScheduleCommit { next: Some((due, encode(schedule)?)), ..ScheduleCommit::deleting(name, from_rev) })
    }

    /// The end of a schedule.
    pub fn deleting(name: &Name, from_rev: u64) -> ScheduleCommit {
        ScheduleCommit {
            name: name.clone(),
            from_rev,
            next: None,
            jobs: Vec::new(),
            runs: Vec::new(),
            cancel: Vec::new(),
            tell: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Lets it start this as well, and tell of it.
    pub fn start(&mut self, kind: EventKind, tick: Option<Ms>, started: Started) {
        let text = tick.map(|tick| format!(" {tick}")).unwrap_or_default();
        let mut event = event(kind, &self.name, text.trim_start());
        match started.work {
            Work::Job(job) => event.job = Some(job),
            Work::Run(run) => event.run = Some(run),
        }
        self.events.push(event);
        self.jobs.extend(started.job);
        self.runs.extend(started.run);
    }

    /// Lets it ask this to end as well.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the request cannot be encoded.
    pub fn stop(&mut self, work: Work, now: Ms) -> Result<()> {
        match work {
            Work::Job(job) => self.cancel.push(job),
            Work::Run(run) => {
                let fact = Fact::cancel(true, now).encode().map_err(|error| StoreError::Corrupt(error.to_string()))?;
                self.tell.push((run, fact));
            }
        }
        Ok(())
    }

    /// Lets it tell this as well.
    pub fn note(&mut self, note: &Note) {
        let (kind, text) = match note {
            Note::Skipped { tick, why } => (EventKind::ScheduleSkipped, format!("{tick} {why}")),
            Note::Missed(late) => {
                let many = if late.more { " or more" } else { "" };
                (EventKind::ScheduleMissed, format!("{}{many} from {} to {}", late.count, late.first, late.last))
            }
        };
        self.events.push(event(kind, &self.name, &text));
    }
}

/// An event of a schedule: its data begins with the name, then a blank.
pub fn event(kind: EventKind, name: &Name, text: &str) -> Event {
    let data = if text.is_empty() { name.to_string() } else { format!("{name} {text}") };
    Event { data: Some(data), ..Event::new(kind) }
}

/// Makes ready what the schedule starts. `Err` within tells why that cannot be: the workflow is not
/// there any more, or does not take this input.
///
/// # Errors
/// The store's, when the workflow is looked up.
pub async fn ready(
    store: &dyn Store,
    name: &Name,
    schedule: &Schedule,
    tick: Option<Ms>,
    now: Ms,
    entropy: &dyn Entropy,
) -> Result<std::result::Result<Started, String>> {
    match &schedule.target {
        Target::Job { kind, queue } => {
            let id = JobId::from_parts(now, store.birthplace(Near::Schedule(name)), entropy.next());
            let mut job = Job::new(id, kind.clone(), queue.clone(), schedule.input.clone());
            job.metadata.insert("schedule".to_owned(), name.to_string());
            if let Some(tick) = tick {
                job.metadata.insert("tick".to_owned(), tick.rfc3339());
            }
            Ok(Ok(Started { work: Work::Job(id), job: Some(NewJob::now(job)), run: None }))
        }
        Target::Workflow(workflow) => {
            let current = store.definitions("workflow").await?.into_iter().find(|kept| kept.name == *workflow);
            let Some(current) = current else { return Ok(Err(format!("there is no workflow {workflow}"))) };
            let definition = match Definition::kept(&current.text, &current.hash) {
                Ok(definition) => definition,
                Err(problems) => return Ok(Err(format!("the workflow {workflow} cannot be read: {problems}"))),
            };
            let id = RunId::from_parts(now, store.birthplace(Near::Schedule(name)), entropy.next());
            let pins = match pins(store, &definition).await? {
                Ok(pins) => pins,
                Err(why) => return Ok(Err(why)),
            };
            let advanced = match workflow::start_pinned(&definition, id, schedule.input.clone(), now, pins, None) {
                Ok(advanced) => advanced,
                Err(error) => return Ok(Err(format!("the workflow {workflow} does not take the input: {error}"))),
            };
            let gate = gate(&advanced.run, &definition, now)?;
            let called = called(store, &advanced).await?;
            let run = NewRun { effects: effects_with(advanced, &called, now)?, gate };
            Ok(Ok(Started { work: Work::Run(id), job: None, run: Some(run) }))
        }
    }
}

/// Why a commit that was made has started nothing: as many runs as may be are under way with the key
/// of this one, and it is not to wait.
pub const KEY_IS_TAKEN: &str = "as many runs as may be are under way with its key";

/// Whether a commit that was made has started what it was to start.
pub fn has_started(answer: &EnqueueAnswer) -> bool {
    !answer.runs.contains(&Enqueued::Busy)
}

/// Whether something that was started has not ended. What is not kept any more has.
///
/// # Errors
/// The store's.
pub async fn is_live(store: &dyn Store, work: Work) -> Result<bool> {
    Ok(match work {
        Work::Job(id) => {
            let kept = store.get(&[id]).await?.into_iter().next().flatten();
            kept.is_some_and(|stored| !stored.place.state().is_terminal())
        }
        Work::Run(id) => store.run(id).await?.is_some_and(|record| !record.state.is_terminal()),
    })
}
