//! The event log's packed records: the events of one transaction in a few bytes each. Events that
//! differ in their job alone are kept as one event and a row of ids. It knows bytes, not tables.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::domain::{Event, JobId, Ms};
use crate::store::codec;
use crate::store::{Result, StoreError};

#[derive(Serialize, Deserialize)]
struct Item {
    #[serde(rename = "e")]
    event: Event,
    /// The jobs it happened to, 16 bytes each; none if the event itself names its job, or has none.
    #[serde(rename = "i", default, skip_serializing_if = "Ids::is_empty")]
    ids: Ids,
}

#[derive(Default)]
struct Ids(Vec<u8>);

impl Ids {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Ids {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Ids {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Ids;
            fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                to.write_str("a row of ids")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Ids, E> {
                if !bytes.len().is_multiple_of(16) {
                    return Err(E::invalid_length(bytes.len(), &self));
                }
                Ok(Ids(bytes.to_vec()))
            }
        }
        from.deserialize_bytes(Visitor)
    }
}

/// The record in the making.
#[derive(Default)]
pub(super) struct Pack {
    items: Vec<Item>,
}

impl Pack {
    pub(super) fn push(&mut self, mut event: Event) {
        let alone = event.run.is_some() || event.step.is_some() || event.data.is_some();
        let Some(job) = event.job.filter(|_| !alone) else {
            self.items.push(Item { event, ids: Ids::default() });
            return;
        };
        event.job = None;
        match self.items.last_mut() {
            Some(last) if !last.ids.is_empty() && last.event == event => last.ids.0.extend(job.as_bytes()),
            _ => self.items.push(Item { event, ids: Ids(job.as_bytes().to_vec()) }),
        }
    }

    /// The record's bytes; `None` if nothing happened.
    pub(super) fn into_record(self) -> Result<Option<Vec<u8>>> {
        if self.items.is_empty() { Ok(None) } else { codec::encode(&self.items).map(Some) }
    }
}

/// The events of a record, each with the record's time.
pub(super) fn unpack(record: &[u8], at: Ms) -> Result<Vec<Event>> {
    let items: Vec<Item> = codec::decode(record)?;
    let mut events = Vec::new();
    for Item { event, ids } in items {
        if ids.is_empty() {
            events.push(Event { at, ..event });
            continue;
        }
        for id in ids.0.chunks_exact(16) {
            let job = JobId::from_slice(id).ok_or_else(|| StoreError::Corrupt("an event names no job".into()))?;
            events.push(Event { at, job: Some(job), ..event.clone() });
        }
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{EventKind, RunId, Shard};

    #[test]
    fn a_record_gives_back_its_events_in_order_and_is_small() {
        let at = Ms(77);
        let job = |nth: u64| Some(JobId::from_parts(Ms(5), Shard(0), nth));
        let queue = Some("default".parse().expect("a name"));
        let plain = |kind, nth| Event { at, job: job(nth), queue: queue.clone(), ..Event::new(kind) };
        let mut events: Vec<Event> = (0..1_000).map(|nth| plain(EventKind::JobCreated, nth)).collect();
        events.push(Event { data: Some("exit:1".into()), ..plain(EventKind::JobDead, 7) });
        events.push(Event { run: Some(RunId::from_parts(Ms(6), Shard(0), 1)), ..plain(EventKind::JobCompleted, 8) });
        events.push(plain(EventKind::JobCompleted, 9));
        events.push(plain(EventKind::JobCreated, 10));
        events.push(Event { at, ..Event::new(EventKind::WorkerStarted) });
        let mut pack = Pack::default();
        events.iter().cloned().for_each(|event| pack.push(event));
        let record = pack.into_record().expect("packs").expect("is not empty");
        assert!(record.len() < 1_004 * 16 + 300, "{} bytes", record.len());
        assert_eq!(unpack(&record, at).expect("unpacks"), events);
        assert_eq!(Pack::default().into_record(), Ok(None));
    }
}
