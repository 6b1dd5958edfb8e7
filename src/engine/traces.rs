//! The spans of what a worker commits: the wait, the attempt and the life of a job. Made only where somebody
//! takes them, and told only once the store has committed what they are of. Which trace they belong to is
//! `domain::trace`; where they are sent is `sys`; those of runs are made where runs advance.

use crate::domain::trace::{Placed, Span, SpanKind};
use crate::domain::{Job, Ms, To};
use crate::store::{Expect, Move};

/// The spans that a move ends, if it is applied. `waited_from` is when the job came to wait for the
/// attempt.
pub fn of_move(step: &Move, waited_from: Option<Ms>) -> Vec<Span> {
    let job = &step.job;
    let life = Placed::of_job(job);
    if !life.trace.sampled {
        return Vec::new();
    }
    let mut spans = Vec::new();
    let end = job.updated_at.unwrap_or_default();
    if let (Expect::Lease(epoch), Some(started), true) = (step.expect, job.started_at, was_started(step)) {
        let from = waited_from.unwrap_or(started).min(started);
        spans.push(span(life.wait(job.id, epoch), "wait".to_owned(), SpanKind::Internal, (from, started), job));
        let mut attempt =
            span(life.attempt(job.id, epoch), format!("attempt {}", job.kind), SpanKind::Consumer, (started, end), job);
        attempt.attributes.push(("goflow.epoch", epoch.to_string()));
        attempt.attributes.push(("goflow.outcome", step.event.as_str().to_owned()));
        attempt.error = (step.to != To::Completed).then(|| job.error.as_ref().map(ToString::to_string)).flatten();
        spans.push(attempt);
    }
    if let Some(place) = step.to.place().filter(|place| place.state().is_terminal()) {
        let mut whole = span(life, life_name(job), SpanKind::Internal, (job.id.created_at(), end), job);
        whole.attributes.push(("goflow.state", place.state().to_string()));
        whole.error = (step.to == To::Dead).then(|| job.error.as_ref().map(ToString::to_string)).flatten();
        spans.push(whole);
    }
    spans
}

/// Whether the handler was called at all: not where there is none, or the job waits for a permit or for its run.
fn was_started(step: &Move) -> bool {
    // One that goes back before it begins names the attempt before, if there was one.
    let begun = matches!(step.expect, Expect::Lease(epoch) if epoch == step.job.epoch);
    begun && step.to != To::Parked && !step.job.permitted && !step.job.withheld
}

/// An item of a list has its step's name: the names of spans are few.
fn life_name(job: &Job) -> String {
    let Some(link) = &job.link else { return format!("job {}", job.kind) };
    let verb = if link.undo { "undo" } else { "step" };
    format!("{verb} {}", without_items(&link.step))
}

fn without_items(path: &str) -> String {
    let mut depth = 0_u32;
    let outside = |&c: &char| match c {
        '[' => {
            depth += 1;
            false
        }
        ']' => {
            depth = depth.saturating_sub(1);
            false
        }
        _ => depth == 0,
    };
    path.chars().filter(outside).collect()
}

fn span(place: Placed, name: String, kind: SpanKind, (start, end): (Ms, Ms), job: &Job) -> Span {
    let mut attributes = vec![
        ("goflow.job.id", job.id.to_string()),
        ("goflow.job.type", job.kind.to_string()),
        ("messaging.destination.name", job.queue.to_string()),
    ];
    if let Some(link) = &job.link {
        attributes.push(("goflow.run.id", link.run.to_string()));
        attributes.push(("goflow.step", link.step.clone()));
    }
    // Clocks of two machines may disagree by a little; a span never ends before it starts.
    Span { place, name, kind, start, end: end.max(start), attributes, error: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::{JobError, Outcome, RetryHint};
    use crate::domain::{Epoch, JobId, Json, Link, RunId, Shard, WorkerId};

    fn leased() -> Job {
        let name = |text: &str| text.parse().expect("a name");
        let mut job = Job::new(JobId::from_parts(Ms(1_000), Shard(0), 5), name("mail"), name("default"), Json::null());
        job.claimed(WorkerId::from_parts(Ms(0), Shard(0), 1), Epoch(7), Ms(1_200));
        job
    }

    fn settled(job: Job, outcome: Outcome) -> Vec<Span> {
        let step = Move::new(Expect::Lease(job.epoch), job.settle(outcome, Ms(1_500), 0.5));
        of_move(&step, Some(Ms(1_000)))
    }

    fn named(spans: &[Span]) -> Vec<(&str, i64, i64, bool)> {
        spans.iter().map(|s| (s.name.as_str(), s.start.0, s.end.0, s.error.is_some())).collect()
    }

    #[test]
    fn an_attempt_and_its_wait_lie_below_the_life_that_they_end() {
        let spans = settled(leased(), Outcome::Completed { result: None });
        assert_eq!(
            named(&spans),
            [("wait", 1_000, 1_200, false), ("attempt mail", 1_200, 1_500, false), ("job mail", 1_000, 1_500, false)]
        );
        let life = spans[2].place.trace.span;
        assert!(spans[..2].iter().all(|span| span.place.parent == Some(life)));
    }

    #[test]
    fn a_retry_ends_an_attempt_and_no_life() {
        let error = JobError::new("exit:1", "no");
        let spans = settled(leased(), Outcome::Failed { error, retry: RetryHint::Policy });
        assert_eq!(named(&spans), [("wait", 1_000, 1_200, false), ("attempt mail", 1_200, 1_500, true)]);
        let parked = settled(leased(), Outcome::Unhandled);
        assert_eq!(parked, [], "no handler was called");
    }

    #[test]
    fn what_is_not_sampled_is_not_told() {
        let mut job = leased();
        job.metadata.insert("traceparent".into(), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00".into());
        assert_eq!(settled(job, Outcome::Completed { result: None }), []);
    }

    #[test]
    fn the_items_of_a_list_have_one_name() {
        let mut job = leased();
        job.link = Some(Link { run: RunId::default(), step: "reserve[3]/pick[a[0]]".into(), undo: false });
        assert_eq!(life_name(&job), "step reserve/pick");
    }
}
