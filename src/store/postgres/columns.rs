//! Records as columns: the server's functions take arrays, one a field.

use tokio_postgres::types::Type;
use uuid::Uuid;

use super::errors::Fault;
use super::names::Names;
use super::pool::Param;
use crate::domain::time::millis;
use crate::domain::{Event, Job, JobId, Name, RunId, To, WorkerId};
use crate::store::codec::encode;
use crate::store::contract::{Effects, StoreError};

pub(super) fn job_uuid(id: JobId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

pub(super) fn run_uuid(id: RunId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

pub(super) fn worker_uuid(id: WorkerId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

pub(super) fn job_id(id: Uuid) -> JobId {
    JobId::from_bytes(*id.as_bytes())
}

pub(super) fn run_id(id: Uuid) -> RunId {
    RunId::from_bytes(*id.as_bytes())
}

pub(super) fn worker_id(id: Uuid) -> WorkerId {
    WorkerId::from_bytes(*id.as_bytes())
}

/// The lane of a priority: even numbers are for what is put in front.
pub(super) fn lane(priority: i8) -> i16 {
    1 - 2 * i16::from(priority)
}

/// An epoch or another number that the server keeps in 63 bits.
pub(super) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn code(place: u8) -> i8 {
    place as i8
}

/// Where a move takes a job: what has crashed never goes back into the ordinary line.
pub(super) fn goal(to: To, job: &Job) -> To {
    if matches!(to, To::Pending | To::Front) && job.is_suspect() { To::Suspect } else { to }
}

/// Where a move goes, in the letters of `goflow.commit`, and the delay.
pub(super) fn destination(to: To, job: &Job) -> (i8, i64) {
    let to = goal(to, job);
    let delay = match to {
        To::Scheduled(delay) | To::Retrying(delay) => millis(delay),
        _ => 0,
    };
    let letter = match to {
        To::Front => b'f',
        To::Gone => b'g',
        other => other.place().map_or(b'g', |place| place.code()),
    };
    // Far beyond any life, and still far from the end of the number.
    (letter as i8, delay.min(i64::MAX / 4))
}

/// A key of any text: as it is if it fits an index entry, else by its digest.
pub(super) fn key(text: &str) -> Vec<u8> {
    use sha2::Digest;
    if text.len() <= 512 {
        return text.as_bytes().to_vec();
    }
    let mut key = b"sha256:".to_vec();
    key.extend_from_slice(&sha2::Sha256::digest(text.as_bytes()));
    key
}

pub(super) fn packed(events: &[Event]) -> Result<Vec<u8>, StoreError> {
    encode(&events)
}

/// Jobs as columns.
#[derive(Default)]
pub(super) struct Jobs {
    pub ids: Vec<Uuid>,
    pub queues: Vec<i32>,
    pub types: Vec<String>,
    pub lanes: Vec<i16>,
    pub revs: Vec<i64>,
    pub timeouts: Vec<Option<i64>>,
    pub runs: Vec<Option<Uuid>>,
    pub keys: Vec<Option<Vec<u8>>>,
    pub suspects: Vec<Option<bool>>,
    pub key_names: Vec<Option<Vec<u8>>>,
    pub key_limits: Vec<Option<i32>>,
    pub bodies: Vec<Vec<u8>>,
}

impl Jobs {
    pub fn push(&mut self, job: &Job, names: &Names) -> Result<(), Fault> {
        self.ids.push(job_uuid(job.id));
        self.queues.push(queue_number(names, &job.queue)?);
        self.types.push(job.kind.as_str().to_owned());
        self.lanes.push(lane(job.priority));
        self.revs.push(i64::from(job.rev));
        self.timeouts.push(job.timeout_ms.map(|ms| number(ms).min(i64::MAX / 4)));
        self.runs.push(job.link.as_ref().map(|link| run_uuid(link.run)));
        self.keys.push(job.unique_key.as_deref().map(key));
        self.suspects.push(suspect(job));
        let concurrency = job.concurrency.as_ref();
        self.key_names.push(concurrency.map(|own| key(&own.key)));
        self.key_limits.push(concurrency.map(|own| limit(own.limit)));
        self.bodies.push(encode(job)?);
        Ok(())
    }

    /// In the order that the functions take them.
    pub fn params(&self) -> [Param<'_>; 12] {
        [
            (&self.ids, Type::UUID_ARRAY),
            (&self.queues, Type::INT4_ARRAY),
            (&self.types, Type::TEXT_ARRAY),
            (&self.lanes, Type::INT2_ARRAY),
            (&self.revs, Type::INT8_ARRAY),
            (&self.timeouts, Type::INT8_ARRAY),
            (&self.runs, Type::UUID_ARRAY),
            (&self.keys, Type::BYTEA_ARRAY),
            (&self.suspects, Type::BOOL_ARRAY),
            (&self.key_names, Type::BYTEA_ARRAY),
            (&self.key_limits, Type::INT4_ARRAY),
            (&self.bodies, Type::BYTEA_ARRAY),
        ]
    }
}

/// Nothing where it is not: almost no job is, and nothing takes up nothing.
pub(super) fn suspect(job: &Job) -> Option<bool> {
    job.is_suspect().then_some(true)
}

/// A count of jobs that may run.
pub(super) fn limit(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

pub(super) fn queue_number(names: &Names, queue: &Name) -> Result<i32, Fault> {
    names.number(queue).ok_or_else(|| {
        StoreError::Corrupt(format!("queue {queue} was made and cannot be found: is the schema intact?")).into()
    })
}

/// The effects of advances as columns, one part a run.
#[derive(Default)]
pub(super) struct EffectColumns {
    workflows: Vec<Option<String>>,
    states: Vec<Option<String>>,
    terminal: Vec<Option<bool>>,
    revs: Vec<Option<i64>>,
    bodies: Vec<Option<Vec<u8>>>,
    events: Vec<Option<Vec<u8>>>,
    job_parts: Vec<i32>,
    jobs: Jobs,
    value_parts: Vec<i32>,
    value_keys: Vec<Vec<u8>>,
    values: Vec<Vec<u8>>,
    dropped_parts: Vec<i32>,
    dropped: Vec<Vec<u8>>,
    timer_parts: Vec<i32>,
    timer_keys: Vec<Vec<u8>>,
    timer_delays: Vec<i64>,
    timer_facts: Vec<Vec<u8>>,
    cancel_parts: Vec<i32>,
    cancel: Vec<Uuid>,
}

impl EffectColumns {
    /// Adds the part of one run; without effects it only keeps its place.
    pub fn push(&mut self, effects: Option<&Effects>, names: &Names) -> Result<(), Fault> {
        let record = effects.map(|effects| &effects.record);
        self.workflows.push(record.map(|record| record.workflow.as_str().to_owned()));
        self.states.push(record.map(|record| record.state.as_str().to_owned()));
        self.terminal.push(record.map(|record| record.state.is_terminal()));
        self.revs.push(record.map(|record| number(record.rev)));
        self.bodies.push(record.map(|record| record.body.clone()));
        let events = effects.map(|effects| &effects.events).filter(|events| !events.is_empty());
        self.events.push(events.map(|events| packed(events)).transpose()?);
        let Some(effects) = effects else { return Ok(()) };
        let part = i32::try_from(self.workflows.len()).unwrap_or(i32::MAX);
        for job in &effects.jobs {
            self.jobs.push(job, names)?;
            self.job_parts.push(part);
        }
        for (name, value) in &effects.values {
            self.value_keys.push(key(name));
            self.values.push(value.as_str().as_bytes().to_vec());
            self.value_parts.push(part);
        }
        for name in &effects.drop_timers {
            self.dropped.push(key(name));
            self.dropped_parts.push(part);
        }
        for timer in &effects.timers {
            self.timer_keys.push(key(&timer.key));
            self.timer_delays.push(millis(timer.delay).min(i64::MAX / 4));
            self.timer_facts.push(timer.fact.clone());
            self.timer_parts.push(part);
        }
        for id in &effects.cancel {
            self.cancel.push(job_uuid(*id));
            self.cancel_parts.push(part);
        }
        Ok(())
    }

    /// Whether any run gets new jobs, or asks some to end: somebody has to know.
    pub fn is_news(&self) -> bool {
        !self.job_parts.is_empty() || !self.cancel.is_empty()
    }

    /// How many new jobs there are, if that is all the news, none of them is a suspect and each is for such a queue.
    pub fn brings(&self, queue: impl Fn(i32) -> bool) -> Option<usize> {
        let plain = self.cancel.is_empty() && self.jobs.suspects.iter().all(Option::is_none);
        (plain && self.jobs.queues.iter().all(|number| queue(*number))).then_some(self.jobs.queues.len())
    }

    /// In the order that the functions take them.
    pub fn params(&self) -> Vec<Param<'_>> {
        let mut params: Vec<Param<'_>> = vec![
            (&self.workflows, Type::TEXT_ARRAY),
            (&self.states, Type::TEXT_ARRAY),
            (&self.terminal, Type::BOOL_ARRAY),
            (&self.revs, Type::INT8_ARRAY),
            (&self.bodies, Type::BYTEA_ARRAY),
            (&self.events, Type::BYTEA_ARRAY),
            (&self.job_parts, Type::INT4_ARRAY),
        ];
        params.extend(self.jobs.params());
        params.extend::<[Param<'_>; 11]>([
            (&self.value_parts, Type::INT4_ARRAY),
            (&self.value_keys, Type::BYTEA_ARRAY),
            (&self.values, Type::BYTEA_ARRAY),
            (&self.dropped_parts, Type::INT4_ARRAY),
            (&self.dropped, Type::BYTEA_ARRAY),
            (&self.timer_parts, Type::INT4_ARRAY),
            (&self.timer_keys, Type::BYTEA_ARRAY),
            (&self.timer_delays, Type::INT8_ARRAY),
            (&self.timer_facts, Type::BYTEA_ARRAY),
            (&self.cancel_parts, Type::INT4_ARRAY),
            (&self.cancel, Type::UUID_ARRAY),
        ]);
        params
    }
}

/// `$first, … $last`.
pub(super) fn placeholders(first: usize, last: usize) -> String {
    (first..=last).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ")
}
