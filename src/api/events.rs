//! The event log for those who read along: events as every face shows them, the latest of them, and
//! what comes next. Knows cursors, not what follows from an event.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use uuid::Uuid;

use super::filter::{Field, Found, Kind, Where};
use super::wire::Time;
use super::{Client, Result};
use crate::domain::time::millis;
use crate::domain::{Event, Ms};
use crate::store::Cursor;

/// An event, as every face shows it. Keys that do not apply are left out; `data` never is.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct EventView {
    /// Made from what happened: the same fact has the same id whoever reads it. Begins with its time.
    pub id: String,
    pub at: Time,
    #[serde(rename = "type")]
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    pub data: Option<String>,
}

impl From<&Event> for EventView {
    fn from(event: &Event) -> EventView {
        let mut view = EventView {
            id: String::new(),
            at: Time(event.at),
            kind: event.kind.as_str(),
            job_id: event.job.map(|id| id.to_string()),
            run_id: event.run.map(|id| id.to_string()),
            step: event.step.clone(),
            queue: event.queue.as_ref().map(ToString::to_string),
            worker: event.worker.map(|id| id.to_string()),
            attempt: event.attempt,
            data: event.data.clone(),
        };
        view.id = view.digest().to_string();
        view
    }
}

impl EventView {
    /// A UUID of version 8 (RFC 9562): 48 bits of time, then bits of what happened.
    fn digest(&self) -> Uuid {
        let mut hash = Sha256::new();
        let attempt = self.attempt.map(|attempt| attempt.to_string());
        let texts = [
            Some(self.kind),
            self.job_id.as_deref(),
            self.run_id.as_deref(),
            self.step.as_deref(),
            self.queue.as_deref(),
            self.worker.as_deref(),
            attempt.as_deref(),
            self.data.as_deref(),
        ];
        for text in texts {
            // A length before each, so that no two rows of texts look the same.
            hash.update(text.map_or(u64::MAX, |text| text.len() as u64).to_be_bytes());
            hash.update(text.unwrap_or_default());
        }
        let mut bytes = [0u8; 16];
        bytes.copy_from_slice(&hash.finalize()[..16]);
        bytes[..6].copy_from_slice(&self.at.0.0.max(0).to_be_bytes()[2..]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }
}

type F = Field<EventView>;

/// What can be asked of an event.
pub const EVENT_FIELDS: &[Field<EventView>] = &[
    F::new("type", Kind::Text, |event, _, _| event.kind.into()),
    F::new("job", Kind::Id, |event, _, _| event.job_id.as_deref().into()),
    F::new("queue", Kind::Text, |event, _, _| event.queue.as_deref().into()),
    F::new("run", Kind::Id, |event, _, _| event.run_id.as_deref().into()),
    F::new("step", Kind::Text, |event, _, _| event.step.as_deref().into()),
    F::new("worker", Kind::Id, |event, _, _| event.worker.as_deref().into()),
    F::new("attempt", Kind::Number, |event, _, _| event.attempt.map(i64::from).into()),
    F::new("data", Kind::Text, |event, _, _| event.data.as_deref().into()),
    F::new("age", Kind::Age, |event, _, now: Ms| Found::Age(now.since(event.at.0))),
];

/// Events read at once.
const PAGE: usize = 1_000;
/// How long one call waits for what comes next.
const WAIT: Duration = Duration::from_secs(5);

/// Some of the events that match.
#[derive(Clone, Debug)]
pub struct EventPage {
    pub events: Vec<EventView>,
    /// More match than were asked for.
    pub cut: bool,
    /// Where the log goes on.
    pub next: Cursor,
}

impl Client {
    /// The latest events that match, at most `limit` (0 means all that are kept), oldest first. Of the log
    /// no more is read than it takes to find so many.
    ///
    /// # Errors
    /// The store's.
    pub async fn latest_events(&self, filter: &Where<EventView>, limit: usize) -> Result<EventPage> {
        let mut records = (limit / 8).max(8);
        loop {
            let after = match limit {
                0 => None,
                _ => self.patiently(|| self.store().tail(records)).await?,
            };
            let is_all = after.is_none();
            let page = self.events_from(after, filter, limit).await?;
            if is_all || page.cut {
                return Ok(page);
            }
            records = records.saturating_mul(8);
        }
    }

    /// The last of the events after a cursor that match.
    async fn events_from(
        &self,
        mut after: Option<Cursor>,
        filter: &Where<EventView>,
        limit: usize,
    ) -> Result<EventPage> {
        let (mut kept, mut cut) = (VecDeque::new(), false);
        let now = self.clock().now();
        loop {
            let (events, next) = self.patiently(|| self.store().events(after.as_ref(), PAGE)).await?;
            if events.is_empty() {
                return Ok(EventPage { events: kept.into(), cut, next });
            }
            for view in events.iter().map(EventView::from).filter(|view| filter.matches(view, now)) {
                kept.push_back(view);
                if limit > 0 && kept.len() > limit {
                    kept.pop_front();
                    cut = true;
                }
            }
            after = Some(next);
        }
    }

    /// The place in the log behind what is older than this; `None` is its beginning.
    ///
    /// # Errors
    /// The store's.
    pub async fn events_since(&self, back: Option<Duration>) -> Result<Cursor> {
        let at = back.map_or(0, |back| self.clock().now().0.saturating_sub(millis(back)));
        Ok(self.store().since(Ms(at)).await?)
    }

    /// A place in the log that at least so many events follow; `None` is its beginning.
    ///
    /// # Errors
    /// The store's.
    pub async fn events_tail(&self, events: usize) -> Result<Option<Cursor>> {
        // A record tells of one event at least.
        Ok(self.store().tail(events).await?)
    }

    /// Events after a cursor as the store keeps them (`None`: from the oldest kept), at most `limit`, and
    /// where the log goes on. Waits for nothing, neither for events nor for a store that is away.
    ///
    /// # Errors
    /// The store's.
    pub async fn events_after(&self, after: Option<&Cursor>, limit: usize) -> Result<(Vec<Event>, Cursor)> {
        Ok(self.store().events(after, limit).await?)
    }

    /// Waits for events after a cursor: those that match, at once when there are any, and where the
    /// log goes on. The answer may be empty.
    ///
    /// # Errors
    /// The store's.
    pub async fn next_events(&self, filter: &Where<EventView>, after: &Cursor) -> Result<(Vec<EventView>, Cursor)> {
        let mut after = after.clone();
        loop {
            let (events, next) = self.patiently(|| self.store().news(&after, PAGE, WAIT)).await?;
            if !events.is_empty() {
                let now = self.clock().now();
                let views = events.iter().map(EventView::from).filter(|view| filter.matches(view, now));
                return Ok((views.collect(), next));
            }
            after = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::testing::{Noon, Seed};
    use super::*;
    use crate::domain::{EventKind, Job, JobId, Json, Name};
    use crate::store::fault::{FaultStore, Saboteur};
    use crate::store::{MemoryStore, NewJob};

    #[test]
    fn an_events_keys_are_the_contract_and_its_id_is_its_own() {
        let job = Some(JobId::from_parts(Ms(1), Default::default(), 7));
        let at = Ms(1_770_633_000_000);
        let event = Event { at, job, attempt: Some(2), data: Some("exit:1".into()), ..Event::new(EventKind::JobDead) };
        let view = EventView::from(&event);
        let value = serde_json::to_value(&view).expect("serialises");
        let keys: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(keys, ["id", "at", "type", "job_id", "attempt", "data"]);
        assert_eq!((&value["type"], &value["at"]), (&"job.dead".into(), &"2026-02-09T10:30:00.000Z".into()));
        assert_eq!(view, EventView::from(&event.clone()));
        let others = [
            Event { at: Ms(at.0 + 1), ..event.clone() },
            Event { data: None, attempt: Some(2), ..event.clone() },
            Event { data: Some("exit:".into()), ..event.clone() },
            Event { job: None, ..event.clone() },
        ];
        let mut ids: Vec<String> = others.iter().chain([&event]).map(|event| EventView::from(event).id).collect();
        assert!(ids.iter().all(|id| Uuid::try_parse(id).is_ok_and(|id| id.get_version_num() == 8)));
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 5);
        assert_eq!(ids.iter().filter(|id| id[..13] == view.id[..13]).count(), 4, "they begin with the time");
    }

    #[derive(Default)]
    struct Calls(AtomicU64);

    impl Saboteur for Calls {
        fn before(&self, _: bool) -> crate::store::Result<()> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }

    #[tokio::test]
    async fn the_latest_are_found_without_reading_the_whole_log() {
        let calls = Arc::new(Calls::default());
        let store = Arc::new(FaultStore::new(Arc::new(MemoryStore::new(Arc::new(Noon))), calls.clone()));
        let client = Client::new(store, Arc::new(Noon), Arc::new(Seed::new(1)));
        let name = |text: &str| -> Name { text.parse().expect("a name") };
        let mut producer = client.producer(crate::api::enqueue::Patience::default());
        for nth in 0..12_000 {
            let queue = if nth == 6_000 { "rare" } else { "common" };
            let job = Job::new(client.job_id(), name("noop"), name(queue), Json::null());
            producer.send(vec![NewJob::now(job)]).await.expect("it is added");
        }
        let asked = async |filter: &str, limit| {
            let before = calls.0.load(Ordering::SeqCst);
            let filter = Where::parse(filter, EVENT_FIELDS).expect("a filter");
            let page = client.latest_events(&filter, limit).await.expect("they are read");
            (page.events.len(), page.cut, calls.0.load(Ordering::SeqCst) - before)
        };
        let (found, cut, reads) = asked("", 20).await;
        assert_eq!((found, cut), (20, true));
        assert!(reads <= 6, "{reads} calls");
        assert_eq!(asked("queue:rare", 5).await.0, 1, "what is rare is looked for in all of it");
        let (found, cut, _) = asked("", 0).await;
        assert_eq!((found, cut), (12_000, false));
    }
}
