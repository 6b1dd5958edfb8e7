//! A run as it was: its history up to a moment, folded. The tables are those of `domain`, by way of
//! `workflow::history`; times and attempts are told by the events themselves.

use std::collections::BTreeMap;

use super::{RunDetail, StepNow};
use crate::domain::event::EventKind;
use crate::domain::{Ms, RunState, StepState};
use crate::workflow::history::{moved, run_moved};

/// What is known of a run at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    pub state: RunState,
    pub steps: BTreeMap<String, StepNow>,
    /// When it is; none is now.
    pub at: Option<Ms>,
}

/// The run after its first `moment` events; without a moment, as it is.
pub fn at(detail: &RunDetail, moment: Option<usize>) -> Known {
    let upto = moment.unwrap_or(detail.moments.len()).min(detail.moments.len());
    let mut known = Known { state: RunState::Pending, steps: BTreeMap::new(), at: None };
    for one in &detail.moments[..upto] {
        known.at = Some(one.at);
        if let Some(next) = run_moved(known.state, one.kind) {
            known.state = next;
        }
        let Some(path) = &one.step else { continue };
        let before = known.steps.get(path).map(|step| step.state);
        let Some(next) = moved(before, one.kind) else { continue };
        let step = known.steps.entry(path.clone()).or_insert_with(|| StepNow::new(path, StepState::Pending));
        step.state = next;
        step.attempt = one.attempt.unwrap_or(step.attempt);
        step.job = one.job.clone().or(step.job.take());
        match one.kind {
            EventKind::StepStarted | EventKind::StepWaiting => {
                step.started_at.get_or_insert(one.at);
                step.attempt = step.attempt.max(1);
            }
            // A list that completed may say which of its items failed.
            EventKind::StepCompleted | EventKind::StepSkipped | EventKind::StepCancelled | EventKind::StepFailed => {
                (step.finished_at, step.error) = (Some(one.at), one.data.clone());
            }
            EventKind::StepRetrying | EventKind::StepUndoFailed => step.error = one.data.clone(),
            EventKind::StepReset => *step = StepNow::new(path, StepState::Pending),
            _ => {}
        }
    }
    if moment.is_none() {
        (known.state, known.at) = (detail.head.state, None);
        // The header knows more of a step than its events do, but forgets items that are over.
        for step in &detail.steps {
            known.steps.insert(step.path.clone(), step.clone());
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use super::super::tree::tests::{detail, moment};
    use super::*;

    #[test]
    fn the_past_is_the_fold_of_what_had_happened_by_then() {
        let detail = detail();
        let state = |moment, path: &str| at(&detail, moment).steps.get(path).map(|step| step.state);
        assert_eq!((at(&detail, Some(0)).state, state(Some(0), "a")), (RunState::Pending, None));
        assert_eq!((at(&detail, Some(2)).state, state(Some(2), "a")), (RunState::Running, Some(StepState::Running)));
        assert_eq!(state(Some(3), "a"), Some(StepState::Completed));
        let known = at(&detail, Some(3));
        assert_eq!((known.at, known.steps["a"].finished_at), (Some(Ms(1_003)), Some(Ms(1_003))));
        assert_eq!(at(&detail, Some(999)).steps.len(), at(&detail, Some(detail.moments.len())).steps.len());
        // Now, the header has the last word.
        assert_eq!(state(None, "b[1]"), Some(StepState::Retrying));
        assert_eq!(at(&detail, None).at, None);
    }

    #[test]
    fn what_cannot_follow_changes_nothing() {
        let mut detail = detail();
        detail.moments.insert(0, moment(1, EventKind::StepCompleted, Some("a")));
        detail.moments.push(moment(9_999, EventKind::RunSignalled, None));
        assert_eq!(at(&detail, Some(1)).steps.len(), 0);
        let last = detail.moments.len();
        assert_eq!(at(&detail, Some(last)).state, RunState::Running);
    }
}
