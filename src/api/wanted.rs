//! A job as somebody asks for it in JSON: read, checked, and made one. The same bounds as those of the
//! command line; what is too much is refused before anything is stored.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::enqueue::{Patience, near};
use super::{Client, Result};
use crate::domain::job::Concurrency;
use crate::domain::json::BadJson;
use crate::domain::text::{age, size};
use crate::domain::{Job, JobId, Json, Ms, Name, RetryPolicy, limits};
use crate::store::{Enqueued, Near, NewJob, Start, Stored};

/// Longest time that may be asked for: ten years, in milliseconds.
pub const LONGEST_MS: u64 = 316_224_000_000;

/// Something that is written as an object. Serde would also take a list of its fields in their order,
/// which nobody means.
#[derive(Clone, Debug)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<T, M::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        from.deserialize_map(Fields(PhantomData)).map(Object)
    }
}

/// A job to be added.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobWanted {
    /// The job type, which picks the handler. Those that begin with `goflow:` are goflow's own.
    #[serde(rename = "type")]
    #[schema(value_type = String, max_length = 128, pattern = "^[A-Za-z0-9](\\.?[A-Za-z0-9_:-])*\\.?$")]
    pub kind: Name,
    /// The server's own if there is none.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 128, pattern = "^[A-Za-z0-9](\\.?[A-Za-z0-9_:-])*\\.?$")]
    pub queue: Option<Name>,
    /// Any JSON; null if there is none.
    #[serde(default)]
    #[schema(value_type = serde_json::Value, required = false)]
    pub payload: Option<Box<RawValue>>,
    /// Higher is sooner.
    #[serde(default)]
    #[schema(minimum = -100, maximum = 100)]
    pub priority: Option<i8>,
    /// Not before so long from now.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 316224000000i64)]
    pub delay_ms: Option<u64>,
    /// Not before this time, RFC 3339; a time that has passed is refused.
    #[serde(default)]
    #[schema(format = DateTime)]
    pub run_at: Option<String>,
    /// Retries after the first attempt.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 10000)]
    pub max_retries: Option<u32>,
    /// Limit of one attempt.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 316224000000i64)]
    pub timeout_ms: Option<u64>,
    /// Limit of all attempts and the waits between them, from now on.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 316224000000i64)]
    pub deadline_ms: Option<u64>,
    /// In a store with shards, jobs of one partition lie on one of them. At most 256 bytes of UTF-8.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 256)]
    pub partition: Option<String>,
    /// Refused while a job with this key has not ended. At most 256 bytes of UTF-8.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 256)]
    pub unique_key: Option<String>,
    /// The key stays taken for at least so long.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 316224000000i64)]
    pub unique_for_ms: Option<u64>,
    /// Jobs that must have completed first.
    #[serde(default)]
    #[schema(value_type = Option<Vec<crate::api::wire::Id>>, max_items = 100)]
    pub after: Option<Vec<JobId>>,
    #[serde(default)]
    #[schema(value_type = Option<ConcurrencyWanted>)]
    pub concurrency: Option<Object<ConcurrencyWanted>>,
    /// At most 16 KiB of keys and values.
    #[serde(default)]
    pub metadata: Option<BTreeMap<String, String>>,
}

/// A key of which only so many jobs may run at once.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConcurrencyWanted {
    /// At most 256 bytes of UTF-8.
    #[schema(min_length = 1, max_length = 256)]
    pub key: String,
    #[serde(default)]
    #[schema(minimum = 1, maximum = 10000)]
    pub limit: Option<u32>,
}

/// Why a job that was asked for is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadJob {
    #[error("the job type `{0}` is reserved: types that begin with `goflow:` belong to goflow itself")]
    Reserved(Name),
    #[error("`{field}`: {why}")]
    Field { field: &'static str, why: String },
    #[error("`run_at`: `{0}` is not a time of RFC 3339, such as 2030-01-31T09:00:00Z")]
    Time(String),
    #[error("`run_at`: {at} passed {late} ago")]
    Past { at: Ms, late: String },
    #[error("{0}")]
    TooLarge(String),
    #[error("`payload` is {0}")]
    Payload(BadJson),
}

/// What a job gets that says nothing itself.
#[derive(Clone, Debug)]
pub struct Usual {
    pub queue: Name,
    pub max_retries: u32,
}

impl JobWanted {
    /// Makes it a job, with the id that `id` makes for one that lies beside this. `now` is what `run_at` is
    /// held against.
    ///
    /// # Errors
    /// [`BadJob`].
    pub fn job(self, id: impl FnOnce(Near<'_>) -> JobId, usual: &Usual, now: Ms) -> Result<NewJob, BadJob> {
        if self.kind.as_str().starts_with("goflow:") {
            return Err(BadJob::Reserved(self.kind));
        }
        let start = start(self.delay_ms, self.run_at.as_deref(), now)?;
        let priority = self.priority.unwrap_or_default();
        within("priority", i64::from(priority), -i64::from(limits::PRIORITY), limits::PRIORITY.into())?;
        let retries = self.max_retries.unwrap_or(usual.max_retries);
        within("max_retries", retries.into(), 0, 10_000)?;
        let ms = |field, ms: Option<u64>| ms.map(|ms| span(field, ms, 1)).transpose();
        let unique_for = ms("unique_for_ms", self.unique_for_ms)?;
        if unique_for.is_some() && self.unique_key.is_none() {
            return Err(field("unique_for_ms", "it goes with `unique_key`"));
        }
        let after = self.after.unwrap_or_default();
        if after.len() > limits::PARENTS {
            return Err(field("after", &format!("it names more than {} jobs", limits::PARENTS)));
        }
        if !after.is_empty() && start != Start::Now {
            return Err(field("after", "a job that waits for others takes no time of its own"));
        }
        let metadata = self.metadata.unwrap_or_default();
        let bytes: usize = metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
        if bytes > limits::METADATA_BYTES {
            let (is, most) = (size(bytes as u64), size(limits::METADATA_BYTES as u64));
            return Err(BadJob::TooLarge(format!("the metadata is {is}, more than the {most} allowed")));
        }
        let partition = self.partition.map(|text| key("partition", text)).transpose()?;
        let unique_key = self.unique_key.map(|text| key("unique_key", text)).transpose()?;
        let concurrency = self.concurrency.map(|Object(wanted)| wanted.checked()).transpose()?;
        let id = id(near(partition.as_deref(), unique_key.as_deref(), concurrency.as_ref(), &after));
        let job = Job {
            priority,
            retry: RetryPolicy { max: retries, ..RetryPolicy::default() },
            retry_is_own: self.max_retries.is_some(),
            timeout_ms: ms("timeout_ms", self.timeout_ms)?,
            deadline_ms: ms("deadline_ms", self.deadline_ms)?,
            unique_key,
            after,
            concurrency,
            metadata,
            ..Job::new(id, self.kind, self.queue.unwrap_or_else(|| usual.queue.clone()), payload(self.payload)?)
        };
        Ok(NewJob { start, unique_for: unique_for.map(Duration::from_millis), ..NewJob::now(job) })
    }
}

impl ConcurrencyWanted {
    fn checked(self) -> Result<Concurrency, BadJob> {
        let limit = self.limit.unwrap_or(1);
        within("concurrency.limit", limit.into(), 1, 10_000)?;
        Ok(Concurrency { key: key("concurrency.key", self.key)?, limit })
    }
}

fn field(field: &'static str, why: &str) -> BadJob {
    BadJob::Field { field, why: why.to_owned() }
}

fn within(name: &'static str, number: i64, least: i64, most: i64) -> Result<(), BadJob> {
    if (least..=most).contains(&number) {
        return Ok(());
    }
    Err(field(name, &format!("{number} is out of range: {least} to {most}")))
}

fn span(name: &'static str, ms: u64, least: u64) -> Result<u64, BadJob> {
    if (least..=LONGEST_MS).contains(&ms) {
        return Ok(ms);
    }
    Err(field(name, &format!("{ms} is out of range: {least} to {LONGEST_MS}")))
}

fn key(name: &'static str, text: String) -> Result<String, BadJob> {
    match text.len() {
        1..=limits::KEY_BYTES => Ok(text),
        bytes => Err(field(name, &format!("a key has 1 to {} bytes, this one has {bytes}", limits::KEY_BYTES))),
    }
}

fn payload(raw: Option<Box<RawValue>>) -> Result<Json, BadJob> {
    match raw {
        None => Ok(Json::null()),
        Some(raw) => Json::parse(raw.get(), limits::PAYLOAD_BYTES).map_err(BadJob::Payload),
    }
}

fn start(delay_ms: Option<u64>, run_at: Option<&str>, now: Ms) -> Result<Start, BadJob> {
    match (delay_ms, run_at) {
        (None, None) => Ok(Start::Now),
        (Some(_), Some(_)) => Err(field("delay_ms", "it does not go with `run_at`")),
        (Some(ms), None) => Ok(Start::After(Duration::from_millis(span("delay_ms", ms, 0)?))),
        (None, Some(text)) => {
            let at: jiff::Timestamp = text.parse().map_err(|_| BadJob::Time(text.to_owned()))?;
            let at = Ms(at.as_millisecond());
            if at < now {
                return Err(BadJob::Past { at, late: age(now.since(at)) });
            }
            Ok(Start::At(at))
        }
    }
}

/// What became of one of many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AddedView {
    /// None if it was not added.
    pub id: Option<String>,
    /// The live job that holds its unique key.
    pub held_by: Option<String>,
    /// The job that it is to follow and that is not kept.
    pub missing: Option<String>,
}

impl Client {
    /// Adds many jobs at once; for each what became of it.
    ///
    /// # Errors
    /// The store's.
    pub async fn enqueue_many(&self, jobs: Vec<NewJob>) -> Result<Vec<AddedView>> {
        let mut ids: Vec<JobId> = jobs.iter().map(|job| job.job.id).collect();
        let before = self.made_before(&ids).await?;
        let mut producer = self.producer(Patience::default());
        // A part of a batch is another batch: under the number of the whole it would be taken for that.
        if before.iter().any(Option::is_some) {
            producer = self.producer(Patience::default());
        }
        let new = jobs.into_iter().zip(&before).filter(|(_, before)| before.is_none()).map(|(job, _)| job);
        let new: Vec<NewJob> = new.collect();
        let mut answers = if new.is_empty() { Vec::new() } else { producer.send(new).await? }.into_iter();
        let mut answer = |(id, before): (&mut JobId, Option<Stored>)| match before {
            Some(stored) => {
                *id = stored.job.id;
                Enqueued::Exists
            }
            // For each that was sent there is one.
            None => answers.next().unwrap_or(Enqueued::Exists),
        };
        let answers: Vec<Enqueued> = ids.iter_mut().zip(before).map(&mut answer).collect();
        let view = |(id, answer): (JobId, Enqueued)| match answer {
            Enqueued::Created | Enqueued::Exists => {
                AddedView { id: Some(id.to_string()), held_by: None, missing: None }
            }
            Enqueued::Conflict(holder) => AddedView { id: None, held_by: Some(holder.to_string()), missing: None },
            Enqueued::NoParent(parent) => AddedView { id: None, held_by: None, missing: Some(parent.to_string()) },
            // Only a run has a gate.
            Enqueued::Busy => AddedView { id: None, held_by: None, missing: None },
        };
        Ok(ids.into_iter().zip(answers).map(view).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<NewJob, BadJob> {
        let wanted: JobWanted = serde_json::from_str(text).expect(text);
        let usual = Usual { queue: Name::literal("default"), max_retries: 3 };
        wanted.job(|_| JobId::from_parts(Ms(1), Default::default(), 7), &usual, Ms(1_770_000_000_000))
    }

    #[test]
    fn what_was_asked_for_is_made_and_the_payload_is_kept_byte_for_byte() {
        let job = read(r#"{"type": "mail", "payload": {"a": 1.50}, "delay_ms": 5, "metadata": {"k": "v"}}"#);
        let job = job.expect("a job");
        assert_eq!(job.job.payload.as_str(), r#"{"a": 1.50}"#);
        assert_eq!((job.start, job.job.retry.max), (Start::After(Duration::from_millis(5)), 3));
        assert!(!job.job.retry_is_own && job.job.queue.as_str() == "default");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_field() {
        for (text, part) in [
            (r#"{"type": "goflow:x"}"#, "reserved"),
            (r#"{"type": "a", "priority": 101}"#, "`priority`: 101 is out of range"),
            (r#"{"type": "a", "max_retries": 10001}"#, "`max_retries`"),
            (r#"{"type": "a", "timeout_ms": 0}"#, "`timeout_ms`"),
            (r#"{"type": "a", "unique_key": ""}"#, "`unique_key`"),
            (r#"{"type": "a", "unique_for_ms": 5}"#, "goes with `unique_key`"),
            (r#"{"type": "a", "run_at": "tomorrow"}"#, "not a time"),
            (r#"{"type": "a", "run_at": "2001-01-01T00:00:00Z"}"#, "passed"),
            (r#"{"type": "a", "run_at": "2099-01-01T00:00:00Z", "delay_ms": 1}"#, "does not go with"),
            (r#"{"type": "a", "concurrency": {"key": "k", "limit": 0}}"#, "`concurrency.limit`"),
        ] {
            let error = read(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        for text in [
            r#"{"type": "a", "pirority": 1}"#,
            r#"{"type": "-rf"}"#,
            "{}",
            "[]",
            r#"{"type": "a", "concurrency": ["k", 1]}"#,
        ] {
            assert!(serde_json::from_str::<Object<JobWanted>>(text).is_err(), "{text}");
        }
    }
}
