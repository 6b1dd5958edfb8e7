//! New work: one call of `goflow.enqueue` a batch, with its runs in the same statement; those that touch others follow one
//! by one in the same transaction.

use std::collections::BTreeSet;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::columns::{EffectColumns, Jobs, job_id, job_uuid, number, packed, placeholders, run_uuid};
use super::errors::Fault;
use super::names::Names;
use super::pool::{Connection, DEADLINE, Param, again};
use super::{PostgresStore, WAKE, starts};
use crate::domain::time::millis;
use crate::domain::{EventKind, JobId, Name};
use crate::store::contract::{Enqueue, EnqueueAnswer, Enqueued, NewJob, NewRun, Result, Start, StoreError};

/// A batch of jobs as columns.
#[derive(Default)]
pub(super) struct Batch {
    /// Nobody: nothing is remembered of it.
    producer: Option<Uuid>,
    sequence: i64,
    /// The jobs to be added one by one.
    odd: Option<Vec<bool>>,
    last: bool,
    lane_queues: Vec<i32>,
    lanes: Vec<i16>,
    jobs: Jobs,
    starts: Vec<i64>,
    key_for: Vec<Option<i64>>,
    after_jobs: Vec<i32>,
    after: Vec<Uuid>,
    created: Vec<Vec<u8>>,
    scheduled: Vec<Vec<u8>>,
}

/// What the server says of a batch of jobs.
pub(super) struct Told {
    again: bool,
    newest: Option<i64>,
    states: Vec<i16>,
    holders: Vec<Option<Uuid>>,
}

impl Told {
    fn of(row: &Row) -> Told {
        Told {
            again: row.get("again"),
            newest: row.get("newest"),
            states: row.get("states"),
            holders: row.get("holders"),
        }
    }

    pub fn answers(&self) -> Vec<Enqueued> {
        let answer = |(state, holder): (&i16, &Option<Uuid>)| match (state, holder) {
            (0, _) => Enqueued::Created,
            (2, Some(holder)) => Enqueued::Conflict(job_id(*holder)),
            (3, Some(parent)) => Enqueued::NoParent(job_id(*parent)),
            (4, _) => Enqueued::Busy,
            _ => Enqueued::Exists,
        };
        self.states.iter().zip(&self.holders).map(answer).collect()
    }
}

/// The start as `goflow.enqueue` takes it: a moment is negative.
fn start(new: &NewJob) -> i64 {
    match new.start {
        Start::Now => 0,
        Start::After(delay) => millis(delay).min(i64::MAX / 4),
        Start::At(at) => -at.0.clamp(0, i64::MAX / 4),
    }
}

impl Batch {
    /// Jobs that nobody sends again by their number.
    pub fn of(jobs: &[NewJob], names: &Names) -> Result<Batch, Fault> {
        let mut batch = Batch { last: true, ..Batch::default() };
        // A parent counts for those that come after it.
        let (mut seen, mut parents) = (BTreeSet::new(), BTreeSet::<JobId>::new());
        let mut odd = Vec::with_capacity(jobs.len());
        for (nth, new) in (1..).zip(jobs) {
            let job = &new.job;
            batch.jobs.push(job, names)?;
            let start = start(new);
            batch.starts.push(start);
            batch.key_for.push(new.unique_for.map(|time| millis(time).min(i64::MAX / 4)));
            batch.after.extend(job.after.iter().copied().map(job_uuid));
            batch.after_jobs.resize(batch.after.len(), nth);
            batch.created.push(packed(&[new.log_entry(EventKind::JobCreated)])?);
            let waits = start != 0 || !job.after.is_empty();
            batch.scheduled.push(if waits { packed(&[new.log_entry(EventKind::JobScheduled)])? } else { Vec::new() });
            let is_first = seen.insert(job.id);
            odd.push(!is_first || job.unique_key.is_some() || !job.after.is_empty() || parents.contains(&job.id));
            parents.extend(&job.after);
        }
        batch.odd = Some(odd).filter(|odd| odd.contains(&true));
        let lanes: BTreeSet<_> = batch.jobs.queues.iter().copied().zip(batch.jobs.lanes.iter().copied()).collect();
        (batch.lane_queues, batch.lanes) = lanes.into_iter().unzip();
        Ok(batch)
    }

    /// In the order that `goflow.enqueue` takes them.
    fn params(&self) -> Vec<Param<'_>> {
        let [ids, queues, types, lanes, rest @ ..] = self.jobs.params();
        let mut params: Vec<Param<'_>> = vec![
            (&self.producer, Type::UUID),
            (&self.sequence, Type::INT8),
            (&self.odd, Type::BOOL_ARRAY),
            (&self.last, Type::BOOL),
            (&self.lane_queues, Type::INT4_ARRAY),
            (&self.lanes, Type::INT2_ARRAY),
            ids,
            queues,
            types,
            lanes,
            (&self.starts, Type::INT8_ARRAY),
        ];
        params.extend(rest);
        params.extend::<[Param<'_>; 5]>([
            (&self.key_for, Type::INT8_ARRAY),
            (&self.after_jobs, Type::INT4_ARRAY),
            (&self.after, Type::UUID_ARRAY),
            (&self.created, Type::BYTEA_ARRAY),
            (&self.scheduled, Type::BYTEA_ARRAY),
        ]);
        params
    }

    pub async fn send(&self, client: &Client) -> Result<Told, Fault> {
        let params = self.params();
        let sql = format!("SELECT * FROM goflow.enqueue({})", placeholders(1, params.len()));
        Ok(Told::of(&client.query_typed_one(&sql, &params).await?))
    }

    /// With runs that touch nothing else behind the jobs, as one statement: a producer pays one way.
    async fn send_with(&self, client: &Client, runs: &[NewRun], names: &Names) -> Result<Told, Fault> {
        let mut effects = EffectColumns::default();
        for new in runs {
            effects.push(Some(&new.effects), names)?;
        }
        let ids: Vec<Uuid> = runs.iter().map(|new| run_uuid(new.effects.record.id)).collect();
        let mut params = self.params();
        let given = params.len();
        params.push((&ids, Type::UUID_ARRAY));
        params.extend(effects.params());
        let sql = format!(
            "SELECT e.again, e.newest, e.states, e.holders,
                 CASE WHEN NOT e.again THEN goflow.start_runs($1, $2, e.states, e.holders, {}) END AS all_states
             FROM goflow.enqueue({}) e",
            placeholders(given + 1, params.len()),
            placeholders(1, given),
        );
        let row = client.query_typed_one(&sql, &params).await?;
        let mut told = Told::of(&row);
        if let Some(states) = row.get("all_states") {
            told.states = states;
            told.holders.resize(told.states.len(), None);
        }
        Ok(told)
    }
}

impl PostgresStore {
    pub(super) async fn enqueue_batch(&self, batch: &Enqueue) -> Result<EnqueueAnswer> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let answer = again!(self.try_enqueue(&mut connection, batch))?;
        self.hint();
        Ok(answer)
    }

    async fn try_enqueue(&self, connection: &mut Connection, batch: &Enqueue) -> Result<EnqueueAnswer, Fault> {
        let mut queues: Vec<&Name> = batch.jobs.iter().map(|new| &new.job.queue).collect();
        batch.runs.iter().for_each(|new| starts::queues(&new.effects, &mut queues));
        self.names.make(connection, queues.into_iter()).await?;
        let columns = Batch {
            producer: Some(Uuid::from_bytes(*batch.producer.as_bytes())),
            sequence: number(batch.sequence),
            last: batch.runs.is_empty(),
            ..Batch::of(&batch.jobs, &self.names)?
        };
        if batch.runs.iter().all(starts::is_plain) {
            // The notification is a transaction of its own behind the first, in the same flight: those
            // that notify hold a lock of the whole server while they commit.
            let told = connection
                .run(async |client| {
                    let sent = async {
                        if batch.runs.is_empty() {
                            columns.send(client).await
                        } else {
                            columns.send_with(client, &batch.runs, &self.names).await
                        }
                    };
                    tokio::join!(biased; sent, client.simple_query(WAKE)).0
                })
                .await?;
            return answer(&told, batch);
        }
        connection
            .run(async |client| {
                client.simple_query("BEGIN").await?;
                let done = one_by_one(client, &columns, batch, &self.names).await;
                client.simple_query(if done.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
                let _ = client.simple_query(WAKE).await;
                done
            })
            .await
    }
}

/// Jobs, then runs, of which some touch others, and the answer for the one who asks again; in an open transaction.
async fn one_by_one(client: &Client, columns: &Batch, batch: &Enqueue, names: &Names) -> Result<EnqueueAnswer, Fault> {
    let mut told = columns.send(client).await?;
    if !told.again {
        start_each(client, columns, batch, names, &mut told).await?;
    }
    answer(&told, batch)
}

async fn start_each(
    client: &Client,
    columns: &Batch,
    batch: &Enqueue,
    names: &Names,
    told: &mut Told,
) -> Result<(), Fault> {
    for new in &batch.runs {
        told.states.push(match starts::start(client, new, names).await? {
            Enqueued::Created => 0,
            Enqueued::Busy => 4,
            _ => 1,
        });
        told.holders.push(None);
    }
    let params: [Param<'_>; 4] = [
        (&columns.producer, Type::UUID),
        (&columns.sequence, Type::INT8),
        (&told.states, Type::INT2_ARRAY),
        (&told.holders, Type::UUID_ARRAY),
    ];
    client.query_typed("SELECT goflow.remember($1, $2, $3, $4)", &params).await?;
    Ok(())
}

fn answer(told: &Told, batch: &Enqueue) -> Result<EnqueueAnswer, Fault> {
    if let Some(newest) = told.newest.filter(|newest| *newest > number(batch.sequence)) {
        let text = format!("batch {} of producer {} came after batch {newest}", batch.sequence, batch.producer);
        return Err(StoreError::Refused(text).into());
    }
    let mut jobs = told.answers();
    if jobs.len() != batch.jobs.len() + batch.runs.len() {
        let text = format!("batch {} of producer {} was sent again with other work", batch.sequence, batch.producer);
        return Err(StoreError::Refused(text).into());
    }
    let runs = jobs.split_off(batch.jobs.len());
    Ok(EnqueueAnswer { jobs, runs })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::{Job, JobId, Json, Ms};

    #[test]
    fn moments_and_delays_cannot_be_mixed_up() {
        let name = |text: &str| text.parse().expect("a name");
        let job = Job::new(JobId::default(), name("a"), name("b"), Json::null());
        let start_of = |at| start(&NewJob { start: at, ..NewJob::now(job.clone()) });
        assert_eq!(start_of(Start::Now), 0);
        assert_eq!(start_of(Start::After(Duration::from_secs(2))), 2_000);
        assert_eq!(start_of(Start::At(Ms(5_000))), -5_000);
        assert_eq!(start_of(Start::At(Ms(-7))), 0, "long ago is now");
    }
}
