//! The spans of giving work away, where this process sends traces: each becomes the parent of the life of
//! its job or run. Without anybody who takes spans nothing is made, and what a caller gave is passed on.

use std::sync::Arc;

use super::Client;
use crate::domain::trace::{Placed, Span, SpanKind, Spans, TRACEPARENT, Trace};
use crate::domain::{Ms, Name, RunId};
use crate::runs::Runs;
use crate::store::NewJob;

impl Client {
    /// A client that sends the spans of what it enqueues and starts, and of the runs that it brings to their end.
    #[must_use]
    pub fn with_spans(self, spans: Option<Arc<dyn Spans>>) -> Client {
        let runs = Arc::new(Runs::new(self.store.clone(), spans.clone()));
        Client { spans, runs, ..self }
    }

    /// Who takes them.
    pub fn spans(&self) -> Option<&Arc<dyn Spans>> {
        self.spans.as_ref()
    }

    /// A client that acts within a trace: what it enqueues and starts belongs to it, unless it says another.
    #[must_use]
    pub fn within(self, trace: Option<Trace>) -> Client {
        Client { trace, ..self }
    }

    /// Puts new jobs below a span of their own each, and gives those spans: to be told once the jobs are
    /// stored.
    pub(super) fn traced_jobs(&self, jobs: &mut [NewJob]) -> Vec<Span> {
        if self.spans.is_none() && self.trace.is_none() {
            return Vec::new();
        }
        let now = self.clock().now();
        let mut spans = Vec::new();
        for NewJob { job, .. } in jobs {
            let own: Option<Trace> = job.metadata.get(TRACEPARENT).and_then(|text| text.parse().ok());
            let given = own.or(self.trace);
            if self.spans.is_none() {
                job.metadata.extend(given.map(|given| (TRACEPARENT.to_owned(), given.to_string())));
                continue;
            }
            let place = Placed::of_enqueue(job.id.as_bytes(), given);
            job.metadata.insert(TRACEPARENT.to_owned(), place.trace.to_string());
            // Its life begins with its id, which may be a millisecond older.
            let mut span = span(place, format!("enqueue {}", job.kind), now.min(job.id.created_at()));
            span.attributes.push(("goflow.job.id", job.id.to_string()));
            span.attributes.push(("messaging.destination.name", job.queue.to_string()));
            spans.push(span);
        }
        spans
    }

    /// The trace of a run that is started, and the span of its start if somebody takes it.
    pub(super) fn traced_start(&self, workflow: &Name, id: RunId, now: Ms) -> Option<(String, Option<Span>)> {
        let given = self.trace;
        if self.spans.is_none() {
            return given.map(|given| (given.to_string(), None));
        }
        let place = Placed::of_enqueue(id.as_bytes(), given);
        let mut span = span(place, format!("start {workflow}"), now);
        span.attributes.push(("goflow.run.id", id.to_string()));
        Some((place.trace.to_string(), Some(span)))
    }

    /// Tells spans of what has been stored by now.
    pub(super) fn tell_spans(&self, told: impl IntoIterator<Item = Span>) {
        let Some(spans) = &self.spans else { return };
        let now = self.clock().now();
        for span in told.into_iter().filter(|span| span.place.trace.sampled) {
            spans.record(Span { end: now, ..span });
        }
    }
}

fn span(place: Placed, name: String, now: Ms) -> Span {
    let attributes = vec![("messaging.system", "goflow".to_owned())];
    Span { place, name, kind: SpanKind::Producer, start: now, end: now, attributes, error: None }
}
