//! The store contract as messages: what a goflow that has no store says to one that has. One codec for
//! both sides, one table of calls, and what a call may hold that comes from outside. It knows no HTTP:
//! `remote` and the server carry the bytes.

mod answer;
mod calls;
mod check;
mod guard;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::answer::{Refusal, answer};
pub(crate) use self::calls::with_calls;
pub use self::calls::{Call, Right};
use super::contract::{Claimed, Cursor, Result, RunRecord, StoreError};
use crate::domain::{Epoch, Event, Job, JobId, Ms};

/// Rises when a message changes in a way that the other side cannot read.
pub const PROTOCOL: u32 = 2;
/// Names the protocol, in requests and answers.
pub const PROTOCOL_HEADER: &str = "goflow-protocol";
/// Names the goflow that speaks.
pub const VERSION_HEADER: &str = "goflow-version";
/// This goflow.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
pub const CONTENT_TYPE: &str = "application/vnd.goflow.msgpack";
/// Where the calls are, each under its name.
pub const PATH: &str = "/api/v1/store";
/// The call that waits for new work; not one of the contract's, which knows a channel for it.
pub const HINTS: &str = "hints";
/// The longest that a call for hints waits, in milliseconds.
pub const HINTS_WAIT_MS: u64 = 20_000;
/// The longest that a call for events waits.
pub const NEWS_WAIT: Duration = Duration::from_secs(5);
/// The largest message, in bytes, of a request and of an answer.
pub const MESSAGE_BYTES: usize = 64 << 20;
/// No message of the contract nests as deep.
const DEPTH: usize = 96;

/// The other side does not read these messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    pub protocol: String,
    pub version: String,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (other, version) = (&self.protocol, &self.version);
        write!(f, "it speaks protocol {other} (goflow {version}), this goflow {VERSION} speaks {PROTOCOL}")
    }
}

/// Whether the other side's headers name this protocol.
///
/// # Errors
/// [`Foreign`] with what they name.
pub fn same_protocol(protocol: Option<&str>, version: Option<&str>) -> Result<(), Foreign> {
    match protocol {
        Some(text) if text.trim().parse() == Ok(PROTOCOL) => Ok(()),
        other => Err(Foreign {
            protocol: other.unwrap_or("none").chars().take(16).collect(),
            version: version.unwrap_or("of an unknown version").chars().take(32).collect(),
        }),
    }
}

/// A message's bytes.
///
/// # Errors
/// [`StoreError::Corrupt`] for what MessagePack cannot express; no message of the contract is such.
pub fn encode<T: Serialize + ?Sized>(message: &T) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(256);
    let plain = rmp_serde::Serializer::new(&mut bytes);
    let mut to = plain.with_struct_map().with_bytes(rmp_serde::config::BytesMode::ForceAll);
    match message.serialize(&mut to) {
        Ok(()) => Ok(bytes),
        Err(error) => Err(StoreError::Corrupt(format!("a message cannot be written: {error}"))),
    }
}

/// Reads a message.
///
/// # Errors
/// What is wrong with the bytes.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let mut from = rmp_serde::Deserializer::from_read_ref(bytes);
    from.set_max_depth(DEPTH);
    T::deserialize(&mut from).map_err(|error| error.to_string())
}

/// A job with its id, which its record does not hold.
pub mod job {
    use super::*;

    pub fn serialize<S: Serializer>(job: &Job, to: S) -> Result<S::Ok, S::Error> {
        (job.id, job).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Job, D::Error> {
        let (id, job) = <(JobId, Job)>::deserialize(from)?;
        Ok(Job { id, ..job })
    }
}

/// Jobs with their ids.
pub mod jobs {
    use super::*;

    pub fn serialize<S: Serializer>(jobs: &[Job], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(jobs.iter().map(|job| (job.id, job)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Job>, D::Error> {
        let pairs = Vec::<(JobId, Job)>::deserialize(from)?;
        Ok(pairs.into_iter().map(|(id, job)| Job { id, ..job }).collect())
    }
}

/// What a claim was given. The runs stand before it, each once: many steps of one are claimed together, and the header of a
/// large run is large.
pub mod claimed {
    use super::*;

    pub fn serialize<S: Serializer>(claimed: &[Claimed], to: S) -> Result<S::Ok, S::Error> {
        let (mut runs, mut places) = (Vec::new(), BTreeMap::new());
        let mut place = |run: &'_ Arc<RunRecord>| {
            *places.entry((run.id, run.rev)).or_insert_with(|| {
                runs.push(run.clone());
                runs.len() - 1
            })
        };
        let of = |one: &Claimed| one.run.as_ref().map(&mut place);
        let places: Vec<Option<usize>> = claimed.iter().map(of).collect();
        let jobs = claimed.iter().zip(places).map(|(one, place)| (one.job.id, &one.job, one.epoch, place));
        let jobs: Vec<_> = jobs.collect();
        (runs, jobs).serialize(to)
    }

    type Given = (JobId, Job, Epoch, Option<usize>);

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Claimed>, D::Error> {
        let (runs, jobs) = <(Vec<Arc<RunRecord>>, Vec<Given>)>::deserialize(from)?;
        let claimed = jobs.into_iter().map(|(id, job, epoch, place)| {
            let run = place.map(|place| runs.get(place).cloned().ok_or("a step of a run that is not there"));
            Ok(Claimed { job: Job { id, ..job }, epoch, run: run.transpose()? })
        });
        claimed.collect::<Result<_, &str>>().map_err(serde::de::Error::custom)
    }
}

/// Events with their times, which their records do not hold.
#[derive(Serialize, Deserialize)]
pub(super) struct Dated(Vec<(Ms, Event)>);

impl From<Vec<Event>> for Dated {
    fn from(events: Vec<Event>) -> Dated {
        Dated(events.into_iter().map(|event| (event.at, event)).collect())
    }
}

impl From<Dated> for Vec<Event> {
    fn from(dated: Dated) -> Vec<Event> {
        dated.0.into_iter().map(|(at, event)| Event { at, ..event }).collect()
    }
}

/// A page of the event log, or of the history of a run.
#[derive(Serialize, Deserialize)]
pub(super) struct DatedPage(Dated, Cursor);

impl From<(Vec<Event>, Cursor)> for DatedPage {
    fn from((events, cursor): (Vec<Event>, Cursor)) -> DatedPage {
        DatedPage(events.into(), cursor)
    }
}

impl From<DatedPage> for (Vec<Event>, Cursor) {
    fn from(page: DatedPage) -> (Vec<Event>, Cursor) {
        (page.0.into(), page.1)
    }
}

/// A wait for new work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HintWish {
    /// The number that was answered last.
    pub seen: Option<u64>,
    pub wait_ms: u64,
}

#[cfg(test)]
mod tests;
