//! The spans of runs that are over. Told only once the store has committed the end.

use crate::domain::RunState;
use crate::domain::trace::{Placed, Span, SpanKind, Spans};
use crate::workflow::{Run, Slot, StepRecord};

/// Tells the life of a run that is over, and of those of its steps that were no jobs, such as a wait.
pub fn tell_run(spans: &dyn Spans, run: &Run) {
    let life = Placed::of_run(run.id, run.trace.as_deref());
    if !life.trace.sampled {
        return;
    }
    for step in run.steps.iter().filter(|step| step.job.is_none()) {
        if let Some(span) = of_step(life, run, step) {
            spans.record(span);
        }
    }
    let failed = matches!(run.state, RunState::Failed | RunState::Compensated | RunState::Cancelled);
    spans.record(Span {
        place: life,
        name: format!("run {}", run.workflow),
        kind: SpanKind::Internal,
        start: run.created_at,
        end: run.finished_at.unwrap_or(run.created_at).max(run.created_at),
        attributes: vec![
            ("goflow.run.id", run.id.to_string()),
            ("goflow.workflow", run.workflow.to_string()),
            ("goflow.workflow.version", run.version.clone()),
            ("goflow.state", run.state.to_string()),
        ],
        error: failed.then(|| run.error.as_ref().map_or_else(|| run.state.to_string(), ToString::to_string)),
    });
}

fn of_step(life: Placed, run: &Run, step: &StepRecord) -> Option<Span> {
    let (start, end) = (step.started_at?, step.finished_at?);
    Some(Span {
        place: life.step(run.id, &step.id),
        name: format!("step {}", step.id),
        kind: SpanKind::Internal,
        start,
        end: end.max(start),
        attributes: vec![
            ("goflow.run.id", run.id.to_string()),
            ("goflow.step", step.id.clone()),
            ("goflow.state", step.state.to_string()),
        ],
        // A list that went on in spite of failures says which, and has not failed.
        error: step.error.as_ref().filter(|_| !matches!(step.output, Some(Slot::List { .. }))).map(ToString::to_string),
    })
}
