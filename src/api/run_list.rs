//! Runs as a list, a part at a time: what their headers tell, without values and without definitions.
//! Also what of a run waits for a person. Steers nothing.

use super::filter::{Field, Found, Kind, Where};
use super::runs::run_state;
use super::{ApiError, Client, Result};
use crate::domain::event::Event;
use crate::domain::{Ms, RunId, RunState, limits};
use crate::store::{Cursor, RunQuery};
use crate::workflow::{self, Body, Definition, Run, StepRecord};

/// A run as one row.
#[derive(Clone, Debug, PartialEq)]
pub struct RunBrief {
    pub id: String,
    pub workflow: String,
    /// The hash of the definition it began with.
    pub version: String,
    pub state: RunState,
    pub error: Option<String>,
    pub parent: Option<String>,
    /// Its concurrency key.
    pub key: Option<String>,
    /// Where its steps wait that name no queue, if that was said.
    pub queue: Option<String>,
    pub created_at: Ms,
    pub started_at: Option<Ms>,
    pub finished_at: Option<Ms>,
    /// Steps of the workflow itself, and how many of them have ended and failed.
    pub steps: usize,
    pub ended: usize,
    pub failed: usize,
    /// Ids of those that are under way.
    pub active: Vec<String>,
    /// How many approvals wait for somebody.
    pub approvals: usize,
    /// Steps whose undo could not be done.
    pub owed: Vec<String>,
}

impl From<&Run> for RunBrief {
    fn from(run: &Run) -> RunBrief {
        let failed = |step: &&StepRecord| step.state == crate::domain::StepState::Failed;
        RunBrief {
            id: run.id.to_string(),
            workflow: run.workflow.to_string(),
            version: run.version.clone(),
            state: run.state,
            error: run.error.as_ref().map(ToString::to_string),
            parent: run.parent.as_ref().map(|parent| parent.run.to_string()),
            key: run.key.clone(),
            queue: run.queue.as_ref().map(ToString::to_string),
            created_at: run.created_at,
            started_at: run.started_at,
            finished_at: run.finished_at,
            steps: run.steps.len(),
            ended: run.steps.iter().filter(|step| step.state.has_ended()).count(),
            failed: run.steps.iter().filter(failed).count(),
            active: run.steps.iter().filter(|step| step.is_alive()).map(|step| step.id.clone()).collect(),
            approvals: run.steps.iter().map(waiting_in).sum(),
            owed: run.owed.clone(),
        }
    }
}

/// Approvals that wait in a step and inside of it.
fn waiting_in(step: &StepRecord) -> usize {
    let own = usize::from(step.is_active() && matches!(step.body.as_deref(), Some(Body::Approval(_))));
    own + step.frames().flat_map(|(_, steps)| steps).map(waiting_in).sum::<usize>()
}

impl RunBrief {
    /// Something is to be looked at: it failed, undoes, owes an undo, or waits for somebody.
    pub fn is_problem(&self) -> bool {
        matches!(self.state, RunState::Failed | RunState::Compensating) || !self.owed.is_empty() || self.approvals > 0
    }
}

const STATES: &str = "pending, running, paused, compensating, completed, failed, compensated, cancelled";

fn state_word(word: &str) -> Option<&'static str> {
    run_state(word).map(RunState::as_str)
}

type F = Field<RunBrief>;

/// What can be asked of a run.
pub const RUN_FIELDS: &[Field<RunBrief>] = &[
    F::new("state", Kind::Choice(state_word, "state of a run", STATES), |run, _, _| run.state.as_str().into()),
    F::new("workflow", Kind::Text, |run, _, _| run.workflow.as_str().into()),
    F::new("error", Kind::Text, |run, _, _| run.error.as_deref().into()),
    F::new("age", Kind::Age, |run, _, now: Ms| Found::Age(now.since(run.created_at))),
    F::new("id", Kind::Id, |run, _, _| run.id.as_str().into()),
    F::new("parent", Kind::Id, |run, _, _| run.parent.as_deref().into()),
    F::new("key", Kind::Text, |run, _, _| run.key.as_deref().into()),
    F::new("queue", Kind::Text, |run, _, _| run.queue.as_deref().into()),
    F::new("step", Kind::Text, |run, _, _| Found::Any(&run.active)),
    F::new("failed", Kind::Number, |run, _, _| Found::Number(run.failed as i64)),
    F::new("approvals", Kind::Number, |run, _, _| Found::Number(run.approvals as i64)),
    F::new("owed", Kind::Number, |run, _, _| Found::Number(run.owed.len() as i64)),
];

/// A part of the list of runs: those that match, and where it goes on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunsFrom {
    pub runs: Vec<RunBrief>,
    /// Records looked at.
    pub looked: usize,
    /// Where the next part begins, for the same question; `None` at the end.
    pub next: Option<String>,
}

impl Client {
    /// The next runs that match from a place in their list on (`None`: its beginning), at least `want`
    /// unless `budget` records were looked at before or the list has ended. Live runs come first, then
    /// finished ones, the latest of each first. `states` are those that are wanted; none means all.
    ///
    /// # Errors
    /// The store's; [`ApiError::Conflict`] for a place that no list has given.
    pub async fn runs_from(
        &self,
        filter: &Where<RunBrief>,
        states: &[RunState],
        from: Option<&str>,
        want: usize,
        budget: usize,
    ) -> Result<RunsFrom> {
        let now = self.clock().now();
        let mut at = match from {
            Some(text) => {
                let no_place = || ApiError::Conflict(format!("`{text}` is no place in a list of runs"));
                place(text).ok_or_else(no_place)?
            }
            None => (0, None),
        };
        // Finished runs are not looked through for a state that they cannot be in.
        let wanted = |finished: bool| states.is_empty() || states.iter().any(|state| state.is_terminal() == finished);
        let is_selective = filter.is_selective() || !states.is_empty();
        let mut found = RunsFrom::default();
        while at.0 < 2 && found.runs.len() < want && found.looked < budget {
            let finished = at.0 == 1;
            if !wanted(finished) {
                at = (at.0 + 1, None);
                continue;
            }
            let left = if is_selective { budget - found.looked } else { want - found.runs.len() };
            let query = RunQuery { finished, after: at.1.take(), budget: left.min(limits::LIST_BUDGET) };
            let page = self.store().runs(&query).await?;
            found.looked += page.items.len();
            for record in &page.items {
                if !states.is_empty() && !states.contains(&record.state) {
                    continue;
                }
                let brief = RunBrief::from(&record.header()?);
                if filter.matches(&brief, now) {
                    found.runs.push(brief);
                }
            }
            at = match page.next {
                Some(next) => (at.0, Some(next)),
                None => (at.0 + 1, None),
            };
        }
        while at.0 < 2 && at.1.is_none() && !wanted(at.0 == 1) {
            at.0 += 1;
        }
        found.next = (at.0 < 2).then(|| format!("{}/{}", at.0, at.1.map(|after| after.0).unwrap_or_default()));
        Ok(found)
    }

    /// What the run itself has written down, in its order: looks at the store by its length, not by its jobs.
    /// [`Client::run_history`] adds what its jobs know.
    ///
    /// # Errors
    /// The store's.
    pub async fn run_events(&self, id: RunId) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        let mut after = None;
        loop {
            let (page, next) = self.store().history(id, after.as_ref(), limits::LIST_BUDGET).await?;
            let is_last = page.len() < limits::LIST_BUDGET;
            events.extend(page);
            if is_last {
                return Ok(events);
            }
            after = Some(next);
        }
    }
}

fn place(text: &str) -> Option<(u8, Option<Cursor>)> {
    let (nth, after) = text.split_once('/')?;
    let nth = nth.parse().ok().filter(|nth| *nth < 2)?;
    Some((nth, Some(after).filter(|after| !after.is_empty()).map(|after| Cursor(after.to_owned()))))
}

/// The approvals of a run that wait, by path, with those who may answer; nobody named lets anybody.
pub fn approvals(def: &Definition, run: &Run) -> Vec<(String, Vec<String>)> {
    let waits = |row: workflow::Row<'_>| match row.record.body.as_deref() {
        Some(Body::Approval(approvers)) if row.record.is_active() => Some((row.path, approvers.clone())),
        _ => None,
    };
    workflow::rows(def, run).into_iter().filter_map(waits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_the_list_reads_back() {
        assert_eq!(place("0/"), Some((0, None)));
        assert_eq!(place("1/7:a/b"), Some((1, Some(Cursor("7:a/b".to_owned())))));
        for wrong in ["", "2/", "x/1", "0"] {
            assert_eq!(place(wrong), None, "{wrong}");
        }
    }
}
