//! Why a run does not move, as far as a store can tell: it waits for its turn, somebody has paused it or a
//! queue, or no worker that lives would take its steps. Looks at jobs and workers as they are at this moment,
//! and decides nothing.

use std::fmt;

use super::{Client, Result};
use crate::domain::limits::LIST_BUDGET;
use crate::domain::text::clip;
use crate::domain::{JobId, Name, Place, RunId, RunState};
use crate::store::{RunQuery, Stored};
use crate::workflow::Run;

/// Jobs of a run that are looked at, and runs that hold a key.
const JOBS: usize = 200;
const HOLDERS: usize = 3;
/// Runs that it has called.
const CALLED: usize = 10;
/// Of a key so many bytes are shown.
const KEY: usize = 100;

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeldUp {
    /// It waits for its turn under its key, which another run has; and what holds up that one.
    Turn { key: String, holder: RunId, why: Vec<HeldUp> },
    /// A run that it has called is held up.
    Called { run: RunId, why: Box<HeldUp> },
    /// Somebody has paused the run.
    Paused(RunId),
    /// A step waits in a queue that somebody has paused, and so do this many others of the run.
    PausedQueue { step: String, more: usize, queue: Name },
    /// A step waits in a queue that no worker serves.
    Unserved { run: RunId, step: String, more: usize, queue: Name },
    /// A step was given back by a worker that does not handle its type.
    Unhandled { step: String, more: usize, kind: Name },
}

impl HeldUp {
    /// Whether one holds up as the other does, another step.
    fn is_like(&self, other: &HeldUp) -> bool {
        use HeldUp as H;
        match (self, other) {
            (H::PausedQueue { queue: one, .. }, H::PausedQueue { queue: other, .. })
            | (H::Unserved { queue: one, .. }, H::Unserved { queue: other, .. })
            | (H::Unhandled { kind: one, .. }, H::Unhandled { kind: other, .. }) => one == other,
            _ => false,
        }
    }

    fn with(mut self, others: usize) -> HeldUp {
        use HeldUp as H;
        if let H::PausedQueue { more, .. } | H::Unserved { more, .. } | H::Unhandled { more, .. } = &mut self {
            *more = others;
        }
        self
    }
}

/// `its step `a` waits`, or `its step `a` and 29 more wait`.
fn waiting(step: &str, more: usize) -> String {
    match more {
        0 => format!("its step `{step}` waits"),
        _ => format!("its step `{step}` and {more} more wait"),
    }
}

impl fmt::Display for HeldUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeldUp::Turn { key, holder, why } => {
                write!(f, "it waits for its turn: run {} is under way with the key `{key}`", holder.short())?;
                why.first().map_or(Ok(()), |why| write!(f, ", and {why}"))
            }
            HeldUp::Called { run, why } => write!(f, "of run {}, which it has called, {why}", run.short()),
            HeldUp::Paused(run) => write!(f, "it is paused: `goflow workflow resume {}` lets it go on", run.short()),
            HeldUp::PausedQueue { step, more, queue } => {
                write!(f, "{} in the queue `{queue}`, which is paused", waiting(step, *more))
            }
            HeldUp::Unserved { run, step, more, queue } => {
                write!(f, "{} in the queue `{queue}`, which no worker serves", waiting(step, *more))?;
                match super::runs::is_foreground(queue) {
                    true => write!(f, ": `goflow run --id {}` takes it up", run.short()),
                    false => Ok(()),
                }
            }
            HeldUp::Unhandled { step, more, kind } => {
                write!(f, "{} for a worker that handles the type `{kind}`", waiting(step, *more))
            }
        }
    }
}

impl Client {
    /// What holds up a run that has not ended; nothing if it goes on, or waits for what its steps wait for.
    ///
    /// # Errors
    /// [`super::ApiError::NotFound`].
    pub async fn held_up(&self, id: RunId) -> Result<Vec<HeldUp>> {
        let run = self.run_header(id).await?;
        let (mut found, mut called) = (self.reasons(&run).await?, Vec::new());
        run.calls(&mut called);
        for child in called.into_iter().take(CALLED) {
            let Ok(child) = self.run_header(child).await else { continue };
            let why = self.reasons(&child).await?.into_iter().next();
            found.extend(why.map(|why| HeldUp::Called { run: child.id, why: Box::new(why) }));
        }
        Ok(found)
    }

    async fn reasons(&self, run: &Run) -> Result<Vec<HeldUp>> {
        let mut found = self.run_held_up(run).await?;
        if run.state == RunState::Pending
            && let Some(key) = run.gate_key()
        {
            for holder in self.holders_of(&run.workflow, &key).await? {
                let why = self.run_held_up(&holder).await?;
                found.push(HeldUp::Turn { key: clip(&key, KEY).into_owned(), holder: holder.id, why });
            }
        }
        Ok(found)
    }

    /// The runs of a workflow that have begun under a key, the latest first, of those that can be read.
    pub(super) async fn holders_of(&self, workflow: &Name, key: &str) -> Result<Vec<Run>> {
        let page = self.store().runs(&RunQuery { finished: false, after: None, budget: LIST_BUDGET }).await?;
        let begun = page.items.iter().filter(|one| one.workflow == *workflow && one.state != RunState::Pending);
        let runs = begun.filter_map(|record| record.header().ok());
        Ok(runs.filter(|run| run.gate_key().as_deref() == Some(key)).take(HOLDERS).collect())
    }

    async fn run_held_up(&self, run: &Run) -> Result<Vec<HeldUp>> {
        if run.is_held() {
            return Ok(vec![HeldUp::Paused(run.id)]);
        }
        let jobs: Vec<JobId> = run.jobs().into_iter().take(JOBS).collect();
        if jobs.is_empty() || run.state.is_terminal() {
            return Ok(Vec::new());
        }
        let stored = self.store().get(&jobs).await?;
        let idle: Vec<Stored> = stored.into_iter().flatten().filter(|one| waits(one.place)).collect();
        if idle.is_empty() {
            return Ok(Vec::new());
        }
        let (workers, queues) = (self.store().workers().await?, self.store().queues().await?);
        let serves = |queue: &Name| {
            let named = |queues: &[Name]| queues.is_empty() || queues.contains(queue);
            workers.iter().any(|worker| !worker.draining && named(&worker.info.queues))
        };
        let paused = |queue: &Name| queues.iter().any(|(name, settings)| name == queue && settings.paused);
        let reason = |Stored { job, place, .. }: Stored| {
            let step = job.link?.step;
            match place {
                Place::Parked => Some(HeldUp::Unhandled { step, more: 0, kind: job.kind }),
                _ if paused(&job.queue) => Some(HeldUp::PausedQueue { step, more: 0, queue: job.queue }),
                _ if !serves(&job.queue) => Some(HeldUp::Unserved { run: run.id, step, more: 0, queue: job.queue }),
                _ => None,
            }
        };
        let mut found: Vec<(HeldUp, usize)> = Vec::new();
        for why in idle.into_iter().filter_map(reason) {
            match found.iter_mut().find(|(first, _)| first.is_like(&why)) {
                Some((_, more)) => *more += 1,
                None => found.push((why, 0)),
            }
        }
        Ok(found.into_iter().map(|(why, more)| why.with(more)).collect())
    }
}

/// Whether a job in this place goes on as soon as somebody takes it.
fn waits(place: Place) -> bool {
    matches!(place, Place::Pending | Place::Suspect | Place::Blocked | Place::Parked)
}
